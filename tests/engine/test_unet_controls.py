"""Controls made of the U-Net: Control-LoRAs and ControlNet-LLLites, each against a construction of its own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import nn

from catalog.detect.sniff import sniff
from catalog.files.headers import TensorInfo
from catalog.models import ModelEntry, describe
from contract.errors import InvalidRecipe
from contract.recipe import Recipe
from contract.values import ModelRef
from engine.adapters.control_lora import control_lora
from engine.adapters.lllite import attached_lllite
from engine.models.manager import ModelManager
from tests.parity.test_controls import HINT, HINT_REF, OTHER_REF, our_latents
from tests.parity.test_start_pictures import set_scheduler
from tests.parity.test_stock_pipelines import TOLERANCE
from tests.support import tiny_controls

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
Latents = Callable[..., torch.Tensor]


def unet_of(entry: ModelEntry) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(str(entry.path / "unet"))


def whole_net(unet: nn.Module, file: Path, folder: Path) -> Path:
    """A ControlNet of the weights that a Control-LoRA means: the U-Net's with up @ down added, the file's own as such."""
    tensors = load_file(file)
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8, 8, 8))
    whole = {}
    for name, weight in net.state_dict().items():
        module = tiny_controls.first_name(name)
        layer = module.rpartition(".")[0]
        if module in tensors:
            weight = tensors[module]
        elif name.endswith(".weight") and f"{layer}.up" in tensors:
            weight = weight + (tensors[f"{layer}.up"] @ tensors[f"{layer}.down"].flatten(1)).reshape(weight.shape)
        whole[name] = weight
    net.load_state_dict(whole)
    net.save_pretrained(folder, safe_serialization=True)
    return folder


def file_entry(path: Path) -> ModelEntry:
    """Models as small as these can't all be told by their shapes."""
    found = describe(path, path.stem)
    return replace(found, ref=found.ref.model_copy(update={"family": "sd1"}), problem=None)


@pytest.fixture
def latents(entries: dict[str, ModelEntry], make_recipe: Callable[..., Recipe], models: ModelManager) -> Latents:
    def made(kind: str, *units: tuple[ModelEntry, dict[str, object]], **more: object) -> torch.Tensor:
        controls = tuple({"image": HINT_REF, **unit, "model": entry.ref} for entry, unit in units)
        recipe = make_recipe(kind, **{"controls": controls, "guidance": 2.0, "steps": 2, **more})
        found = {entry.ref.name: entry for entry, _ in units}
        return our_latents(recipe, entries[kind], found, models)[0]

    return made


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_a_control_lora_is_the_controlnet_of_the_changed_weights(
    kind: str, entries: dict[str, ModelEntry], latents: Latents, tmp_path: Path
) -> None:
    unet = unet_of(entries[kind])
    lora = describe(tiny_controls.build_control_lora(unet, tmp_path / "lora.safetensors"), "lora")
    assert (lora.problem, lora.ref.family, lora.detail) == (None, kind, "Control-LoRA")
    whole = describe(whole_net(unet, lora.path, tmp_path / "whole"), "whole")
    for unit in ({"weight": 0.8}, *([{"mode": "control", "start": 0.3}] if kind == "sd1" else [])):
        ours = latents(kind, (lora, unit))
        near = 1e-5 * float(ours.std())
        assert torch.allclose(ours, latents(kind, (whole, unit)), atol=near)
        assert (ours - latents(kind)).abs().max() > 10 * near


def test_a_control_lora_leaves_the_u_net_as_it_is(
    entries: dict[str, ModelEntry], latents: Latents, tmp_path: Path
) -> None:
    lora = file_entry(tiny_controls.build_control_lora(unet_of(entries["sd1"]), tmp_path / "lora.safetensors"))
    plain = latents("sd1")
    two = latents("sd1", (lora, {}), (lora, {"image": OTHER_REF}))
    assert not torch.equal(two, latents("sd1", (lora, {})))
    assert torch.equal(latents("sd1"), plain)


class Direct(nn.Module):
    """A layer behind a small net, as kohya's program writes it down: with modules of its own."""

    def __init__(self, layer: nn.Linear, tensors: dict[str, torch.Tensor], weight: float) -> None:
        super().__init__()
        width, rank, embed = layer.in_features, 5, 8
        self.layer, self.weight = layer, weight
        self.conditioning1 = nn.Sequential(
            nn.Conv2d(3, embed // 2, kernel_size=4, stride=4), nn.ReLU(), nn.Conv2d(embed // 2, embed, 4, stride=4)
        )
        self.down = nn.Sequential(nn.Linear(width, rank), nn.ReLU())
        self.mid = nn.Sequential(nn.Linear(rank + embed, rank), nn.ReLU())
        self.up = nn.Sequential(nn.Linear(rank, width))
        kept = {f"layer.{name}": tensor for name, tensor in layer.state_dict().items()}
        self.load_state_dict({**tensors, **kept})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pixels = torch.frombuffer(bytearray(HINT.tobytes()), dtype=torch.uint8).reshape(1, 64, 64, 3)
        cx = self.conditioning1(pixels.permute(0, 3, 1, 2) / 255 * 2 - 1)
        cx = cx.view(1, cx.shape[1], -1).permute(0, 2, 1).repeat(x.shape[0], 1, 1)
        cx = self.up(self.mid(torch.cat([cx, self.down(x)], dim=2)))
        return self.layer(x + cx * self.weight)


def test_an_lllite_is_its_published_formula(
    entries: dict[str, ModelEntry], make_recipe: Callable[..., Recipe], models: ModelManager, tmp_path: Path
) -> None:
    unet = unet_of(entries["sd1"])
    entry = file_entry(tiny_controls.build_lllite(unet, tmp_path / "lllite.safetensors"))
    unit = {"model": entry.ref, "image": HINT_REF, "weight": 0.7}
    recipe = make_recipe("sd1", controls=(unit,), guidance=2.0)
    ours, sampling = our_latents(recipe, entries["sd1"], {"lllite": entry}, models)

    tensors: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in load_file(entry.path).items():
        layer, _, rest = name.partition(".")
        tensors.setdefault(layer, {})[rest] = tensor
    for name, module in list(unet.named_modules()):
        own = (
            f"lllite_unet_{tiny_controls.first_name(f'{name}.weight').removesuffix('.weight').replace('.', '_')}"
            if name.startswith(("down_blocks.", "mid_block.")) and isinstance(module, nn.Linear)
            else ""
        )
        if own in tensors:
            parent, _, leaf = name.rpartition(".")
            setattr(unet.get_submodule(parent), leaf, Direct(module, tensors.pop(own), 0.7))
    assert not tensors
    pipe: Any = StableDiffusionPipeline.from_pretrained(str(entries["sd1"].path), unet=unet, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    pipe.first_config = dict(pipe.scheduler.config)
    set_scheduler(pipe, recipe, sampling)
    theirs = pipe(
        recipe.prompt,
        negative_prompt=recipe.negative_prompt,
        guidance_scale=2.0,
        num_inference_steps=recipe.steps,
        generator=torch.Generator().manual_seed(recipe.seed),
        width=64,
        height=64,
        output_type="latent",
    ).images
    assert (ours - theirs).abs().max() <= TOLERANCE * max(1.0, float(theirs.std()))


def test_lllites_act_in_their_span_and_on_the_prompt_alone_and_leave_nothing(
    entries: dict[str, ModelEntry], latents: Latents, tmp_path: Path
) -> None:
    lllite = file_entry(tiny_controls.build_lllite(unet_of(entries["sd1"]), tmp_path / "lllite.safetensors"))
    plain = latents("sd1")
    made = [latents("sd1", (lllite, unit)) for unit in ({}, {"mode": "control"}, {"end": 0.5}, {"image": OTHER_REF})]
    made.append(latents("sd1", (lllite, {}), (lllite, {"image": OTHER_REF})))
    assert not any(torch.equal(one, other) for number, one in enumerate(made) for other in (plain, *made[:number]))
    assert torch.equal(latents("sd1", (lllite, {"weight": 0.0})), plain)
    assert torch.equal(latents("sd1", (lllite, {"start": 0.6, "end": 0.9})), plain)
    # Latents of 9 × 11, halved to 5 × 6, of which the control picture says 4 × 5 by its own strides.
    odd = {"width": 72, "height": 88}
    assert not torch.equal(latents("sd1", (lllite, {}), **odd), latents("sd1", **odd))
    assert torch.equal(latents("sd1"), plain)


def test_one_that_was_made_for_another_u_net_is_refused(
    entries: dict[str, ModelEntry], latents: Latents, tmp_path: Path
) -> None:
    unet = unet_of(entries["sd1"])
    for build, others in (
        (tiny_controls.build_control_lora, ("input_hint_block.14.weight", "middle_block_out.0.weight")),
        (tiny_controls.build_lllite, ("attn1_to_q.mid.0.bias", "attn1_to_q.conditioning1.2.weight")),
    ):
        whole = load_file(build(unet, tmp_path / "whole.safetensors"))
        for number, ending in enumerate((".up", "attn1_to_q.down.0.weight", *others)):
            name = next((name for name in sorted(whole) if name.endswith(ending)), "")
            if not name:
                continue
            for tensor in (
                None,
                whole[name].new_zeros([side + 1 for side in whole[name].shape]),
                whole[name].flatten()[:3],
            ):
                left = {key: value for key, value in whole.items() if key != name}
                file = tmp_path / f"{build.__name__}{number}.safetensors"
                save_file(left if tensor is None else {**left, name: tensor}, file)
                with pytest.raises(InvalidRecipe, match="U-Net of|does not fit") as caught:
                    latents("sd1", (file_entry(file), {}), steps=1)
                assert caught.value.field == "controls.model"


def large_unet() -> UNet2DConditionModel:
    """SDXL's U-Net without its weights."""
    return UNet2DConditionModel(
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )


def test_full_size_files_find_their_layers_in_sdxl() -> None:
    """By names and shapes alone, as the programs that made such files call the layers."""
    with torch.device("meta"):
        unet = large_unet()
        net = ControlNetModel.from_unet(unet, load_weights_from_unet=False)
        lora = {"lora_controlnet": torch.zeros(0)}
        lllite: dict[str, torch.Tensor] = {}
        for name, weight in net.state_dict().items():
            key = tiny_controls.first_name(name, layers=2)
            layer = key.rpartition(".")[0]
            if name.startswith("controlnet_") or weight.dim() == 1:
                lora[key] = weight
            else:
                lora[f"{layer}.up"] = torch.empty(weight.shape[0], 128)
                lora[f"{layer}.down"] = torch.empty(128, *weight.shape[1:])
            if name.endswith(("attn1.to_q.weight", "attn1.to_k.weight", "attn1.to_v.weight", "attn2.to_q.weight")):
                width, own = weight.shape[1], f"lllite_unet_{layer.replace('.', '_')}"
                shapes = {"conditioning1.0": (16, 3, 4, 4), "conditioning1.2": (32, 16, 4, 4)}
                shapes |= {"down.0": (64, width), "mid.0": (64, 96), "up.0": (width, 64)}
                for part, shape in shapes.items():
                    lllite |= {f"{own}.{part}.weight": torch.empty(shape), f"{own}.{part}.bias": torch.empty(shape[0])}
    for tensors, detail in ((lora, "Control-LoRA"), (lllite, "ControlNet-LLLite")):
        found = sniff({name: TensorInfo("F16", tuple(tensor.shape), 0, 0) for name, tensor in tensors.items()})
        assert (found.kind, found.family, found.detail, found.problem) == ("controlnet", "sdxl", detail, "")
    control: Any = SimpleNamespace(model=ModelRef(kind="controlnet", name="lora", family="sdxl"))
    bundle: Any = SimpleNamespace(modules={"unet": unet}, ref=ModelRef(name="large", family="sdxl"))
    made: Any = control_lora(control, lora, bundle)
    assert made.config.conditioning_embedding_out_channels == (16, 32, 96, 256)
    with attached_lllite(control, lllite, bundle) as attached:
        assert len(attached.layers) == 4 * (2 * 2 + 2 * 10 + 10)
    with torch.device("meta"):
        lora["input_blocks.9.0.in_layers.2.up"] = torch.empty(1280, 128)
    with pytest.raises(InvalidRecipe, match="lacks a layer input_blocks.9.0.in_layers.2"):
        control_lora(control, lora, bundle)
