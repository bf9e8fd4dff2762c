"""LoRAs on real modules: equal to a merge worked out by hand, taken off to the bit, and cheap to keep."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from catalog.files.folders import fingerprint
from catalog.models import ModelEntry
from contract.errors import InvalidRecipe, ModelProblem
from contract.recipe import LoraUse, ModelRef
from engine.device.devices import Device
from engine.lora import deltas
from engine.lora.ldm_names import block_of, ldm_names
from engine.lora.patch import ORDERS, LoadedLora, patch_loras
from engine.models.bundle import Bundle
from engine.models.manager import ModelManager
from tests.engine.conftest import CPU
from tests.support.tiny_loras import ATTENTION, CONV, LINEAR, Made, chosen, dotted, kohya, kohya_xl, make, turn

CARD = Device(torch.device("cpu"), "a card", copies_weights=True)
HALF = Device(torch.device("cpu"), "a processor with bfloat16", dtype=torch.bfloat16)


def ref(file: Path, family: str = "sd1") -> ModelRef:
    return ModelRef(kind="lora", name=file.stem, family=family, fingerprint=fingerprint(file.parent, (file,)))


class House:
    """A manager with a leased checkpoint, and LoRA files that it lends."""

    def __init__(self, device: Device, entry: ModelEntry, folder: Path) -> None:
        self.models = ModelManager(device)
        self.entry, self.folder = entry, folder

    def file(self, made: Made, name: str = "ink") -> Path:
        return made.save(self.folder / f"{name}.safetensors")

    def patch_loras(self, bundle: Bundle, *uses: tuple[Path, dict[str, Any]]) -> Any:
        loras = []
        for file, how in uses:
            with self.models.lease(ref(file), str(file)) as loaded:
                loras.append(LoadedLora(LoraUse(model=ref(file), **how), loaded.onload("lora"), file))
        return patch_loras(bundle, loras)

    def lease(self) -> Any:
        return self.models.lease(self.entry.ref, str(self.entry.path))


@pytest.fixture
def house(entries: dict[str, ModelEntry], tmp_path: Path) -> Callable[..., House]:
    return lambda kind="sd1", device=CPU: House(device, entries[kind], tmp_path)


def weights(bundle: Bundle) -> dict[tuple[str, str], Tensor]:
    return {
        (part, name): tensor.clone()
        for part, module in bundle.modules.items()
        for name, tensor in module.state_dict().items()
    }


def digest(bundle: Bundle) -> str:
    hasher = hashlib.sha256()
    for tensor in weights(bundle).values():
        hasher.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()


def assert_merged(
    bundle: Bundle, before: Mapping[tuple[str, str], Tensor], wanted: Mapping[tuple[str, str], Tensor]
) -> None:
    """Every weight is what it was plus what is wanted, and the rest untouched."""
    for (part, name), tensor in weights(bundle).items():
        delta = wanted.get((part, name.removesuffix(".weight"))) if name.endswith(".weight") else None
        if delta is None:
            assert torch.equal(tensor, before[part, name]), name
        else:
            assert not torch.equal(tensor, before[part, name]), name
            torch.testing.assert_close(tensor, before[part, name] + delta.reshape(tensor.shape), rtol=0, atol=1e-5)


FORMS = {
    "kohya": (kohya, ("lora_down.weight", "lora_up.weight"), 2.0),
    "peft": (dotted, ("lora_A.weight", "lora_B.weight"), None),
    "diffusers": (dotted, ("lora.down.weight", "lora.up.weight"), None),
    "older diffusers": (dotted, ("lora_linear_layer.down.weight", "lora_linear_layer.up.weight"), None),
}


@pytest.mark.parametrize("device", [CPU, CARD], ids=["cpu", "card"])
@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
@pytest.mark.parametrize("form", FORMS)
def test_the_result_equals_a_merge_by_hand(house: Callable[..., House], form: str, kind: str, device: Device) -> None:
    name_of, roles, alpha = FORMS[form]
    if form == "kohya" and kind == "sdxl":
        name_of = kohya_xl
    here = house(kind, device)
    with here.lease() as bundle:
        before, own = weights(bundle), digest(bundle)
        made = make(chosen(bundle.modules, CONV), name_of, roles, alpha=alpha)
        file = here.file(made)
        patched = here.patch_loras(bundle, (file, {"weight": 0.7}))
        assert patched.notices == ()
        assert_merged(bundle, before, {place: 0.7 * delta for place, delta in made.deltas.items()})
        here.patch_loras(bundle)
        assert digest(bundle) == own


def test_sdxl_files_with_the_first_programs_names_are_the_same(house: Callable[..., House]) -> None:
    here = house("sdxl")
    with here.lease() as bundle:
        before = weights(bundle)
        modules = {place: child for place, child in chosen(bundle.modules, LINEAR).items() if place[0] == "unet"}
        first = ldm_names(name for name, _ in bundle.onload("unet").named_modules())
        made = make(modules, lambda part, name: kohya_xl(part, first[name]))
        here.patch_loras(bundle, (here.file(made), {}))
        assert any("input_blocks" in name for name in made.tensors)
        assert_merged(bundle, before, made.deltas)


def test_several_act_together_with_weights_of_their_own(house: Callable[..., House]) -> None:
    here = house()
    with here.lease() as bundle:
        before, own = weights(bundle), digest(bundle)
        one = make(chosen(bundle.modules, ATTENTION), kohya, seed=1)
        two = make(chosen(bundle.modules, LINEAR), dotted, ("lora_A.weight", "lora_B.weight"), alpha=None, seed=2)
        files = here.file(one, "one"), here.file(two, "two")
        here.patch_loras(bundle, (files[0], {"weight": -0.5}), (files[1], {"weight": 0.25, "text_weight": 1.5}))
        wanted = {place: delta * (0.25 if place[0] == "unet" else 1.5) for place, delta in two.deltas.items()}
        for place, delta in one.deltas.items():
            wanted[place] = wanted[place] - 0.5 * delta
        assert_merged(bundle, before, wanted)
        here.patch_loras(bundle, (files[0], {"weight": 1.0}))
        assert_merged(bundle, before, one.deltas)
        here.patch_loras(bundle)
        assert digest(bundle) == own


def test_a_part_with_weight_nothing_is_not_touched(house: Callable[..., House]) -> None:
    here = house()
    with here.lease() as bundle:
        made = make(chosen(bundle.modules, LINEAR), kohya)
        file = here.file(made)
        patched = here.patch_loras(bundle, (file, {"weight": 0.5, "text_weight": 0.0}))
        assert patched.bundle.digests["text_encoder"] == bundle.digests["text_encoder"]
        assert patched.bundle.digests["unet"] != bundle.digests["unet"]
        other = here.patch_loras(bundle, (file, {"weight": 0.5, "text_weight": 0.1}))
        again = here.patch_loras(bundle, (file, {"weight": 0.9, "text_weight": 0.1}))
        assert (
            other.bundle.digests["text_encoder"]
            == again.bundle.digests["text_encoder"]
            != bundle.digests["text_encoder"]
        )


def test_the_same_set_again_computes_nothing_and_another_strength_only_itself(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, count = house(), [0]
    merged = deltas.merged

    def counted(*arguments: Any) -> Tensor:
        count[0] += 1
        return merged(*arguments)

    monkeypatch.setattr("engine.lora.patch.merged", counted)
    with here.lease() as bundle:
        one, two = (
            make(chosen(bundle.modules, endings), kohya, seed=seed)
            for endings, seed in ((("to_q", "to_k"), 1), (("to_v",), 2))
        )
        files = here.file(one, "one"), here.file(two, "two")
        here.patch_loras(bundle, (files[0], {}), (files[1], {}))
        assert count[0] == len(one.deltas) + len(two.deltas)
    with here.lease() as bundle:
        here.patch_loras(bundle, (files[0], {}), (files[1], {}))
        assert count[0] == len(one.deltas) + len(two.deltas)
        here.patch_loras(bundle, (files[0], {}), (files[1], {"weight": 0.5}))
        assert count[0] == len(one.deltas) + 2 * len(two.deltas)


def test_a_change_of_strength_leaves_no_trace_of_the_one_before(house: Callable[..., House]) -> None:
    for device in (CPU, CARD, HALF):
        here = house(device=device)
        with here.lease() as bundle:
            file = here.file(make(chosen(bundle.modules, CONV), kohya))
            here.patch_loras(bundle, (file, {"weight": 0.3}))
            fresh = digest(bundle)
            here.patch_loras(bundle, (file, {"weight": -7.0}))
            here.patch_loras(bundle, (file, {"weight": 0.3}))
            assert digest(bundle) == fresh


def test_another_checkpoint_on_the_same_modules_is_its_own(
    house: Callable[..., House], entries: dict[str, ModelEntry]
) -> None:
    here = house()
    with here.lease() as bundle:
        file = here.file(make(chosen(bundle.modules, LINEAR), kohya))
        own = digest(bundle)
        here.patch_loras(bundle, (file, {}))
    with here.models.lease(entries["sd1_other"].ref, str(entries["sd1_other"].path)) as other:
        plain = digest(other)
        here.patch_loras(other, (file, {}))
        assert digest(other) != plain
    with here.lease() as bundle:
        assert digest(bundle) == own
        here.patch_loras(bundle)
        assert digest(bundle) == own


def test_a_failure_takes_everything_off(house: Callable[..., House], monkeypatch: pytest.MonkeyPatch) -> None:
    for device in (CPU, CARD):
        here = house(device=device)
        with here.lease() as bundle:
            own = digest(bundle)
            file = here.file(make(chosen(bundle.modules, LINEAR), kohya))
            here.patch_loras(bundle, (file, {"weight": 0.2}))
            calls = iter(range(100))

            def failing(*arguments: Any, calls: Iterator[int] = calls) -> Tensor:
                if next(calls) == 4:
                    raise torch.OutOfMemoryError("no room")
                return deltas.merged(*arguments)

            with monkeypatch.context() as patch, pytest.raises(torch.OutOfMemoryError):
                patch.setattr("engine.lora.patch.merged", failing)
                here.patch_loras(bundle, (file, {"weight": 0.9}))
            assert digest(bundle) == own
            here.patch_loras(bundle, (file, {"weight": 0.2}))
            assert digest(bundle) != own


@pytest.mark.parametrize("device", [CPU, CARD], ids=["cpu", "card"])
@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_rotations_turn_real_layers_and_back(house: Callable[..., House], kind: str, device: Device) -> None:
    """Of U-Net and text encoders, with a LoRA beside them: the changes are added, whatever the order."""
    here = house(kind, device)
    with here.lease() as bundle:
        before, own = weights(bundle), digest(bundle)
        name_of = kohya_xl if kind == "sdxl" else kohya
        beside, turned = make(chosen(bundle.modules, ATTENTION), name_of), turn(chosen(bundle.modules, CONV), name_of)
        wanted = dict(beside.deltas)
        for place, delta in turned.deltas.items():
            wanted[place] = wanted.get(place, torch.zeros(delta.shape)) + 0.6 * delta
        files = [(here.file(beside), {"weight": 1.0}), (here.file(turned, "turn"), {"weight": 0.6})]
        assert here.patch_loras(bundle, *files).notices == ()
        assert_merged(bundle, before, wanted)
        both = digest(bundle)
        here.patch_loras(bundle)
        assert digest(bundle) == own
        here.patch_loras(bundle, *files)
        assert digest(bundle) == both


@pytest.mark.parametrize("count", ORDERS)
def test_block_weights_act_on_their_blocks(house: Callable[..., House], count: int) -> None:
    here = house("sdxl" if count in (12, 20) else "sd1")
    with here.lease() as bundle:
        before = weights(bundle)
        made = make(chosen(bundle.modules, CONV), kohya_xl if count in (12, 20) else kohya)
        blocks = tuple(0.1 * (number + 1) for number in range(count))
        here.patch_loras(bundle, (here.file(made), {"weight": 2.0, "text_weight": 1.0, "blocks": blocks}))
        first = ldm_names(name for name, _ in bundle.onload("unet").named_modules())
        factors = dict(zip(ORDERS[count], blocks, strict=True))
        wanted = {}
        for (part, name), delta in made.deltas.items():
            block = block_of(first[name]) if part == "unet" else "BASE"
            if factor := factors.get(block, 0.0) * (2.0 if part == "unet" else 1.0):
                wanted[part, name] = factor * delta
        assert {block_of(first[name]) for part, name in wanted if part == "unet"} > {"MID"}
        assert_merged(bundle, before, wanted)


def test_orders_are_as_long_as_they_say() -> None:
    assert all(len(order) == count and order[0] == "BASE" and "MID" in order for count, order in ORDERS.items())


def one_layer(bundle: Bundle, tensors: dict[str, Tensor]) -> Made:
    stem = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
    return Made({f"{stem}.{name}": tensor for name, tensor in tensors.items()}, {})


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"lora_down.weight": (4, 32)}, "“up” is missing"),
        ({"lora_up.weight": (32, 4)}, "“down” is missing"),
        ({"lora_down.weight": (4, 320), "lora_up.weight": (32, 4)}, "it is made for 32×320 and the model’s is 32×32"),
        ({"lora_down.weight": (3, 32), "lora_up.weight": (32, 4)}, "it is made for 32×32 and the model’s is 32×32"),
        ({"lora_down.weight": (32,), "lora_up.weight": (32, 4)}, "its matrices are 32×4 and 32"),
        ({"hada_w1_a": (32, 2), "hada_w1_b": (2, 32)}, "“hada_w2_a” is missing"),
        ({"lokr_w1": (2, 2)}, "“lokr_w2_a” is missing"),
        ({"diff": (32, 31)}, "it is made for 32×31"),
        ({"lokr_w1": (2, 2), "lokr_w2": (16, 8)}, "it is made for 32×16"),
        ({"alpha": (1,)}, "it holds no change"),
        ({"oft_blocks": (4, 7, 7)}, "it turns 28 rows and the model’s layer is 32×32"),
        ({"boft_R": (1, 5, 4, 4), "boft_s": (32, 1)}, "it turns 20 columns"),
        ({"rescale": (32, 1)}, "it holds no change"),
        ({"a1.weight": (4, 32)}, "is GLoRA"),
        ({"lora_down.weight": (0, 32), "lora_up.weight": (32, 0)}, "its rank is 0"),
        ({"lora_down.weight": (4, 32), "lora_up.weight": (32, 4), "dora_scale": (7, 1)}, "it has 7 lengths"),
        ({"diff_b": (3,)}, "its bias has 3 numbers and the model’s 32"),
    ],
)
def test_lr03_lr18_what_can_not_be_run_is_refused_by_name(
    house: Callable[..., House], made: dict[str, tuple[int, ...]], words: str
) -> None:
    here = house()
    with here.lease() as bundle:
        own = digest(bundle)
        file = here.file(one_layer(bundle, {name: torch.ones(shape) for name, shape in made.items()}), "odd")
        with pytest.raises(InvalidRecipe) as refused:
            here.patch_loras(bundle, (file, {}))
        assert words in refused.value.message and "LoRA “odd”" in refused.value.message, refused.value.message
        assert refused.value.code == "invalid_loras_model" and refused.value.hint and digest(bundle) == own


def test_lr08_no_layer_matched_is_an_error_that_names_the_family(house: Callable[..., House]) -> None:
    here = house()
    tensors = {
        f"lora_unet_double_blocks_{n}_img_attn_qkv.{role}": torch.ones(4, 4)
        for n in range(3)
        for role in ("lora_down.weight", "lora_up.weight")
    }
    file = here.file(Made(tensors, {}), "flux")
    with (
        here.lease() as bundle,
        here.models.lease(ref(file), str(file)) as loaded,
        pytest.raises(InvalidRecipe, match="0 of 3 layers match") as refused,
    ):
        patch_loras(bundle, [LoadedLora(LoraUse(model=ref(file, "sdxl")), loaded.onload("lora"), file)])
    assert "It was made for SDXL" in refused.value.hint


def test_a_part_that_matched_is_said(house: Callable[..., House]) -> None:
    here = house()
    with here.lease() as bundle:
        made = make(chosen(bundle.modules, ATTENTION), kohya)
        extra = {
            "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(4, 4),
            "bundle_emb.x.string_to_param.*": torch.ones(1, 4),
        }
        file = here.file(Made({**made.tensors, **extra}, made.deltas))
        count = len(made.deltas)
        assert here.patch_loras(bundle, (file, {})).notices == (f"LoRA “ink”: {count} of {count + 2} layers matched.",)
        assert here.patch_loras(bundle, (file, {})).notices == (f"LoRA “ink”: {count} of {count + 2} layers matched.",)


def test_lr05_nan_in_a_file_is_refused_by_name(house: Callable[..., House]) -> None:
    here = house()
    with here.lease() as bundle:
        made = make(chosen(bundle.modules, ATTENTION), kohya)
        name = next(name for name in made.tensors if name.endswith("up.weight"))
        made.tensors[name][0, 0] = float("nan")
        file, own = here.file(made), digest(bundle)
        with pytest.raises(ModelProblem, match="ink.safetensors: “lora_.*up.weight” holds NaN or infinity"):
            here.patch_loras(bundle, (file, {}))
        assert digest(bundle) == own


@pytest.mark.parametrize("where", ["header", "beside", "rslora", "pattern", "nonsense"])
def test_an_alpha_that_is_kept_apart_counts(house: Callable[..., House], where: str) -> None:
    here = house()
    with here.lease() as bundle:
        before = weights(bundle)
        made = make(
            chosen({"unet": bundle.onload("unet")}, ("to_q",)), dotted, ("lora_A.weight", "lora_B.weight"), alpha=None
        )
        first = next(iter(made.deltas))
        settings: dict[str, Any] = {"lora_alpha": 8, "r": 4}
        factors = dict.fromkeys(made.deltas, 2.0)
        if where == "rslora":
            settings, factors = {"lora_alpha": 4, "use_rslora": True}, dict.fromkeys(made.deltas, 2.0)
        if where == "pattern":
            settings["alpha_pattern"], factors[first] = {first[1]: 2}, 0.5
        metadata = {"lora_adapter_metadata": json.dumps({f"unet.{name}": value for name, value in settings.items()})}
        if where == "nonsense":
            metadata, factors = {"lora_adapter_metadata": "{"}, dict.fromkeys(made.deltas, 1.0)
        if where == "beside":
            metadata = {}
            (here.folder / "adapter_config.json").write_text(json.dumps(settings))
        file = here.folder / "apart.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in made.tensors.items()}, file, metadata=metadata)
        here.patch_loras(bundle, (file, {}))
        assert_merged(bundle, before, {place: factors[place] * delta for place, delta in made.deltas.items()})


def test_half_precision_files_are_computed_in_full(house: Callable[..., House]) -> None:
    here = house()
    with here.lease() as bundle:
        before = weights(bundle)
        made = make(chosen(bundle.modules, LINEAR), kohya, dtype=torch.float16)
        file = here.folder / "half.safetensors"
        save_file({name: tensor.half() for name, tensor in made.tensors.items()}, file)
        here.patch_loras(bundle, (file, {}))
        assert_merged(bundle, before, made.deltas)


def test_the_picture_of_unmerged_layers_is_the_same(house: Callable[..., House]) -> None:
    """Another proof: the small layers run beside the big ones, as they were trained."""
    here = house()
    with here.lease() as bundle, torch.no_grad():
        unet = bundle.onload("unet")
        modules = {place: child for place, child in chosen(bundle.modules, CONV).items() if place[0] == "unet"}
        made = make(modules, kohya)
        latents, context = torch.randn(2, 4, 8, 8), torch.randn(2, 77, unet.config.cross_attention_dim)
        hooks = [child.register_forward_hook(beside(made, name)) for (_, name), child in modules.items()]
        unmerged = unet(latents, 500, context).sample
        for hook in hooks:
            hook.remove()
        plain = unet(latents, 500, context).sample
        here.patch_loras(bundle, (here.file(made), {}))
        merged = unet(latents, 500, context).sample
    assert (unmerged - merged).abs().max() < 1e-5 < (plain - merged).abs().max()


def beside(made: Made, name: str) -> Callable[..., Tensor]:
    stem = kohya("unet", name)
    down, up = (made.tensors[f"{stem}.{role}.weight"] for role in ("lora_down", "lora_up"))

    def hook(module: nn.Module, arguments: tuple[Tensor], result: Tensor) -> Tensor:
        if isinstance(module, nn.Linear):
            return result + 0.5 * nn.functional.linear(nn.functional.linear(arguments[0], down), up)
        small = nn.functional.conv2d(arguments[0], down, stride=module.stride, padding=module.padding)
        return result + 0.5 * nn.functional.conv2d(small, up)

    return hook
