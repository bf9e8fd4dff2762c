"""SD 3.5 in whole jobs, from its files; what it takes beside it, and what it refuses by name."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from catalog.detect.lora_names import cut
from catalog.detect.text_encoders import find_encoders
from catalog.families import FAMILIES
from catalog.files.headers import TensorInfo
from catalog.models import ModelEntry, describe
from contract.errors import ModelProblem
from contract.recipe import LoraUse, ModelRef, Recipe
from contract.tasks import Generate
from contract.work import WorkFailed, WorkImage, WorkItem, WorkNotice, WorkStep, path_key
from engine.adapters.t5 import t5_ref
from engine.checkpoints.joint_blocks import original_modules, transformer_config, transformer_slices
from engine.checkpoints.single_file import shapes_of
from engine.engine import Engine, EngineOptions
from engine.families.sd3 import TransformerCall, build_transformer
from engine.lora.deltas import deltas_of
from engine.lora.deltas import merged as add_deltas
from engine.lora.keys import ModuleNames, match_layers
from engine.models.components import components_of
from engine.models.manager import ModelManager
from engine.models.module_slot import on_meta
from tests.engine.conftest import CPU
from tests.support import layouts, tiny_sd3

WIDTH = 128


@pytest.fixture(scope="module")
def run(engine: Engine) -> Callable[..., list[Any]]:
    """All events of a job, by a checkpoint's entry and what is asked."""

    def made(entry: ModelEntry, others: dict[ModelRef, Path] | None = None, by: Engine = engine, **asked: Any) -> Any:
        plain = {"prompt": "a red cat", "sampler": "euler", "schedule": "simple", "steps": 2, "guidance": 3.0}
        recipe = Recipe.model_validate({**plain, "width": 64, "height": 64, "seed": 3, "model": entry.ref, **asked})
        paths = {path_key(entry.ref): str(entry.path)}
        paths |= {path_key(ref): str(path) for ref, path in (others or {}).items()}
        return list(by.generate(WorkItem("job", 1, Generate(recipe=recipe), model_paths=paths), lambda: False))

    return made


def pixels(events: list[Any]) -> bytes:
    failed = [event for event in events if isinstance(event, WorkFailed)]
    assert not failed, failed
    (image,) = [event.pixels for event in events if isinstance(event, WorkImage)]
    return bytes(image.rgb)


def refusal(events: list[Any]) -> WorkFailed:
    (failed,) = [event for event in events if isinstance(event, WorkFailed)]
    assert isinstance(failed, WorkFailed)
    return failed


# Full size, by headers alone


@pytest.mark.parametrize("name", layouts.SD3)
def test_the_published_shapes_fit_the_modules(name: str) -> None:
    """Configuration and names that are inferred of a full-size header build just such a transformer."""
    shapes = layouts.below("model.diffusion_model.", layouts.sd3_transformer(**layouts.SD3[name]))  # type: ignore[arg-type]
    header = {key: TensorInfo("F16", shape, 0, 0) for key, shape in shapes.items()}
    slices = transformer_slices(header)
    found = shapes_of(slices, header)
    built = on_meta("transformer", build_transformer, transformer_config(found)).state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in built.items()} == found
    assert built["pos_embed.pos_embed"].is_meta  # it comes from the file


# Files


def test_encoders_beside_a_file_count_for_its_identity(sd3_entries: dict[str, ModelEntry], tmp_path: Path) -> None:
    home = tmp_path / "files"
    shutil.copytree(sd3_entries["alone"].path.parent, home)
    file = home / "alone.safetensors"
    before = describe(file, "alone")
    assert before.problem is None and before.warnings == ()
    encoder = home / "text_encoders" / "clip_l.safetensors"
    tensors = load_file(encoder)
    save_file({name: tensor * 2 for name, tensor in tensors.items()}, encoder)
    assert describe(file, "alone").ref.fingerprint != before.ref.fingerprint
    with pytest.raises(ModelProblem, match="changed on the disk"), ModelManager(CPU).lease(before.ref, str(file)):
        pass
    (home / "tokenizer_3" / "tokenizer.json").unlink()
    assert "put its tokenizer" in describe(file, "alone").warnings[0]
    encoder.unlink()
    assert "It uses the text encoders of “whole”." in describe(file, "alone").warnings
    (home / "whole.safetensors").unlink()
    entry = describe(file, "alone")
    assert entry.problem and "no text encoders inside" in entry.problem and "clip_l" in entry.hint


def test_a_clip_without_a_projection_gives_its_pooled_output(
    sd3_entries: dict[str, ModelEntry], tmp_path: Path
) -> None:
    """As the file clip_l.safetensors of its makers has none; theirs is an identity."""
    home = tmp_path / "files"
    shutil.copytree(sd3_entries["alone"].path.parent, home)
    encoder = home / "text_encoders" / "clip_l.safetensors"
    tensors = load_file(encoder)
    tensors["text_projection.weight"] = torch.eye(len(tensors["text_projection.weight"]))
    save_file(tensors, encoder)
    made = []
    for change in (lambda: None, lambda: tensors.pop("text_projection.weight")):
        change()
        save_file(tensors, encoder)
        entry = describe(home / "alone.safetensors", "alone")
        with ModelManager(CPU).lease(entry.ref, str(entry.path)) as bundle:
            ids = torch.tensor([[49406, 320, 49407]])
            made.append(bundle.family.encode(bundle.onload, (ids, ids), 1, bundle.evaluate).pooled)
    assert made[0] is not None and made[1] is not None
    assert torch.allclose(made[0], made[1], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop("model.diffusion_model.context_embedder.weight"), "lacks the tensor"),
        (lambda tensors: tensors.pop("model.diffusion_model.joint_blocks.1.x_block.mlp.fc1.bias"), "lacks the tensor"),
        (lambda tensors: tensors.update({"model.diffusion_model.joint_blocks.0.odd.weight": torch.ones(2)}), "odd"),
        (
            lambda tensors: tensors["model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight"].fill_(float("nan")),
            "NaN or infinity",
        ),
        (
            lambda tensors: tensors.update({"model.diffusion_model.x_embedder.proj.weight": torch.ones(128, 16, 0, 0)}),
            "shape",
        ),
        (lambda tensors: tensors.update({"text_encoders.clip_l.transformer.a": torch.ones(1)}), None),
    ],
)
def test_a_damaged_file_is_refused_by_name(
    change: Callable[[dict[str, torch.Tensor]], object],
    words: str | None,
    sd3_entries: dict[str, ModelEntry],
    tmp_path: Path,
) -> None:
    tensors = load_file(sd3_entries["clips"].path)
    change(tensors)
    file = tmp_path / "damaged.safetensors"
    save_file(tensors, file)
    ref = ModelRef(name="damaged", family="sd3")
    if words is None:  # what no component knows is left aside
        with ModelManager(CPU).lease(ref, str(file)):
            return
    with pytest.raises(ModelProblem) as caught, ModelManager(CPU).lease(ref, str(file)):
        pass
    assert words in caught.value.message and str(tmp_path) not in caught.value.message


def test_t5_is_let_go_of_for_a_model_that_needs_the_memory(sd3_entries: dict[str, ModelEntry]) -> None:
    entry = sd3_entries["folder"]
    models = ModelManager(CPU)
    found = find_encoders(entry.path, FAMILIES["sd3"])
    ref = t5_ref(entry.ref, found)
    with models.lease(ref, str(found.t5)):
        size = models.size_of(ref, str(found.t5))
    small = ModelManager(CPU, budget_bytes=size + 1)
    with small.lease(ref, str(found.t5)):
        pass
    with small.lease(entry.ref, str(entry.path)):
        assert small.size_of(ref, str(found.t5)) == 0
    assert "text_encoder_3" not in components_of(entry.ref, entry.path)


# Jobs


def test_a_job_shows_previews_and_paints(sd3_entries: dict[str, ModelEntry], run: Callable[..., list[Any]]) -> None:
    events = run(sd3_entries["folder"])
    steps = [event for event in events if isinstance(event, WorkStep)]
    assert [step.index for step in steps] == [1, 2]
    assert any(step.preview is not None for step in steps)  # 16 channels fit a map, too
    assert pixels(events) == pixels(run(sd3_entries["folder"]))
    assert pixels(run(sd3_entries["without_t5"])) != pixels(events)


def test_half_patches_and_a_hires_pass(sd3_entries: dict[str, ModelEntry], run: Callable[..., list[Any]]) -> None:
    """Sides that are no multiple of 16 are continued at their edge, and cut again."""
    events = run(sd3_entries["folder"], width=72, height=64, hires={"scale": 1.5, "upscaler": "latent", "steps": 2})
    (image,) = [event.pixels for event in events if isinstance(event, WorkImage)]
    assert (image.width, image.height) == (112, 96)


def test_a_picture_that_is_too_large_is_refused(
    sd3_entries: dict[str, ModelEntry], run: Callable[..., list[Any]]
) -> None:
    failed = refusal(run(sd3_entries["folder"], width=200, height=64))
    assert failed.message == "This model paints at most 192 pixels a side." and failed.field == "width"


def test_weights_reach_t5(sd3_entries: dict[str, ModelEntry], run: Callable[..., list[Any]]) -> None:
    """CLIP's embeds of both are equal in number; T5's of the weighted word differ."""
    made = {text: pixels(run(sd3_entries["whole"], prompt=text)) for text in ("a (cat:1.4)", "a cat", "a [cat|dog]")}
    assert len(set(made.values())) == 3


def test_a_long_prompt_says_what_t5_does_not_read(
    sd3_entries: dict[str, ModelEntry], run: Callable[..., list[Any]]
) -> None:
    events = run(sd3_entries["folder"], prompt="a cat of the sea " * 60, steps=1)
    notices = [event.message for event in events if isinstance(event, WorkNotice)]
    assert any(notice.startswith("T5 reads 255 tokens") for notice in notices)


def test_half_precision_storage_paints_the_same(
    sd3_entries: dict[str, ModelEntry], run: Callable[..., list[Any]], tmp_path: Path
) -> None:
    folder = sd3_entries["folder"].path
    file = tiny_sd3.write_file(folder, tmp_path / "half.safetensors", dtype=torch.float16)
    shutil.copytree(folder / "tokenizer_3", tmp_path / "tokenizer_3")
    entry = describe(file, "half")
    full = pixels(run(entry))
    stored = Engine(EngineOptions(device="cpu", threads=1, storage="half"))
    assert pixels(run(entry, by=stored)) == full


# LoRAs


@pytest.fixture(scope="module")
def transformer() -> nn.Module:
    return tiny_sd3.transformer()


def test_every_spelling_of_a_layer_is_found(transformer: nn.Module) -> None:
    names = ModuleNames.of({"transformer": transformer})
    rank = {"lora_A.weight": torch.ones(2, WIDTH), "lora_B.weight": torch.ones(WIDTH, 2)}
    kohya = {"lora_down.weight": torch.ones(2, WIDTH), "lora_up.weight": torch.ones(WIDTH, 2)}
    for stem, roles in (
        ("transformer.transformer_blocks.0.attn.add_k_proj", rank),
        ("lora_transformer_transformer_blocks_0_attn_add_k_proj", kohya),
        ("transformer_blocks.0.attn.add_k_proj", rank),
    ):
        matched = match_layers({f"{stem}.{role}": tensor for role, tensor in roles.items()}, names)
        assert [(layer.part, layer.module) for layer in matched.layers] == [
            ("transformer", "transformer_blocks.0.attn.add_k_proj")
        ]


def test_a_fused_layer_is_cut_into_its_modules(transformer: nn.Module) -> None:
    """kohya's LoRAs change q, k and v as one, and the last norms with scale and shift exchanged."""
    names = ModuleNames.of({"transformer": transformer})
    tensors = {
        "lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight": torch.randn(2, WIDTH),
        "lora_unet_joint_blocks_0_x_block_attn_qkv.lora_up.weight": torch.randn(3 * WIDTH, 2),
        "lora_unet_joint_blocks_0_x_block_attn_qkv.alpha": torch.tensor(1.0),
        "lora_unet_joint_blocks_2_context_block_adaLN_modulation_1.lora_down.weight": torch.randn(2, WIDTH),
        "lora_unet_joint_blocks_2_context_block_adaLN_modulation_1.lora_up.weight": torch.randn(2 * WIDTH, 2),
        "diffusion_model.joint_blocks.1.x_block.mlp.fc2.lora_A.weight": torch.randn(2, 4 * WIDTH),
        "diffusion_model.joint_blocks.1.x_block.mlp.fc2.lora_B.weight": torch.randn(WIDTH, 2),
        "lora_te3_encoder_block_0_layer_0_SelfAttention_q.lora_down.weight": torch.randn(2, WIDTH),
    }
    matched = match_layers(tensors, names)
    assert matched.unmatched == ("lora_te3_encoder_block_0_layer_0_SelfAttention_q",)
    found = {layer.module: layer.tensors for layer in matched.layers}
    blocks = "transformer_blocks"
    thirds = [found[f"{blocks}.0.attn.{name}"]["up"] for name in ("to_q", "to_k", "to_v")]
    assert torch.equal(torch.cat(thirds), tensors["lora_unet_joint_blocks_0_x_block_attn_qkv.lora_up.weight"])
    up = tensors["lora_unet_joint_blocks_2_context_block_adaLN_modulation_1.lora_up.weight"]
    assert torch.equal(found[f"{blocks}.2.norm1_context.linear"]["up"], torch.cat(up.chunk(2)[::-1]))
    assert set(found[f"{blocks}.1.ff.net.2"]) == {"down", "up"}


def fused(kind: str, height: int) -> dict[str, torch.Tensor]:
    """What a file has for a layer of so many rows, by the endings of its names."""
    torch.manual_seed(3)
    alpha = {"alpha": torch.tensor(0.5)}
    halves = {f"hada_w{half}_a": torch.rand(height, 2) for half in "12"}
    halves |= {f"hada_w{half}_b": torch.rand(2, WIDTH) for half in "12"}
    whole = {"lokr_w2": torch.rand(height // 4, WIDTH // 2)}
    return {
        "LoHa": {**halves, **alpha},
        "LoKr": {"lokr_w1": torch.rand(4, 2), **whole},
        "LoKr of factors": {"lokr_w1_a": torch.rand(4, 2), "lokr_w1_b": torch.rand(2, 2), **whole, **alpha},
        "DoRA": {
            "lora_down.weight": torch.rand(2, WIDTH),
            "lora_up.weight": torch.rand(height, 2),
            "dora_scale": torch.rand(height, 1),
        },
        "OFT": {"oft_blocks": torch.rand(height // 8, 8, 8), "rescale": torch.rand(height, 1), **alpha},
        "OFT of peft": {"oft_R.weight": torch.rand(WIDTH // 8, 28) * 0.1},
        "BOFT of peft": {"boft_R": torch.rand(1, WIDTH // 8, 8, 8), "boft_s": torch.rand(height, 1)},
        "full difference": {"diff": torch.rand(height, WIDTH)},
    }[kind]


KINDS = ("LoHa", "LoKr", "LoKr of factors", "DoRA", "OFT", "OFT of peft", "BOFT of peft", "full difference")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("stem", "height"),
    [
        ("joint_blocks_0_x_block_attn_qkv", 3 * WIDTH),
        ("joint_blocks_2_context_block_adaLN_modulation_1", 2 * WIDTH),
    ],
)
def test_every_kind_is_cut_as_it_acts_on_the_whole(kind: str, stem: str, height: int, transformer: nn.Module) -> None:
    names = ModuleNames.of({"transformer": transformer})
    tensors = fused(kind, height)
    matched = match_layers({f"lora_unet_{stem}.{ending}": tensor for ending, tensor in tensors.items()}, names)
    assert not matched.unmatched and len(matched.layers) == len(names.pieces[stem])
    weight, cpu = torch.randn(height, WIDTH), torch.device("cpu")
    roles = {cut(f"x.{ending}")[1]: tensor for ending, tensor in tensors.items()}
    wanted = add_deltas(weight, [(deltas_of(roles, (height, WIDTH), cpu)["weight"], 0.7)])
    for layer in matched.layers:
        rows = dict(names.pieces[stem])[layer.module]
        base = rows.of(weight).contiguous()
        ours = add_deltas(base, [(deltas_of(layer.tensors, tuple(base.shape), cpu, layer.cut)["weight"], 0.7)])
        torch.testing.assert_close(ours, rows.of(wanted), rtol=0, atol=2e-5)
        assert not torch.allclose(ours, base, atol=1e-3)


def test_what_says_nothing_of_some_rows_alone_fits_nothing(transformer: nn.Module) -> None:
    """DoRA's lengths of columns are of all rows together."""
    names = ModuleNames.of({"transformer": transformer})
    tensors = {**fused("DoRA", 3 * WIDTH), "dora_scale": torch.rand(1, WIDTH)}
    stem = "lora_unet_joint_blocks_0_x_block_attn_qkv"
    assert match_layers({f"{stem}.{ending}": t for ending, t in tensors.items()}, names).unmatched == (stem,)


def test_the_table_of_names_is_read_both_ways(transformer: nn.Module) -> None:
    modules = [name for name, child in transformer.named_modules() if child._parameters.get("weight") is not None]
    assert original_modules(modules).keys() == set(modules)
    tensors = tiny_sd3.original_transformer(transformer.state_dict())
    assert transformer_slices(tensors).keys() == transformer.state_dict().keys()


@pytest.mark.parametrize("form", ["diffusers", "kohya"])
def test_a_lora_paints_as_one_that_is_merged(
    form: str, sd3_entries: dict[str, ModelEntry], run: Callable[..., list[Any]], tmp_path: Path
) -> None:
    entry = sd3_entries["clips"]
    place = "model.diffusion_model.joint_blocks.1.x_block.attn.qkv.weight"
    down, up = torch.randn(4, WIDTH) * 0.1, torch.randn(3 * WIDTH, 4) * 0.1
    if form == "kohya":
        stem = "lora_unet_joint_blocks_1_x_block_attn_qkv"
        tensors = {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.alpha": torch.tensor(4.0)}
    else:
        tensors = {}
        for name, part in zip(("to_q", "to_k", "to_v"), up.chunk(3), strict=True):
            stem = f"transformer.transformer_blocks.1.attn.{name}"
            tensors |= {f"{stem}.lora_A.weight": down.clone(), f"{stem}.lora_B.weight": part.clone()}
    save_file(tensors, tmp_path / "lora.safetensors")
    merged = load_file(entry.path)
    merged[place] = merged[place] + 0.5 * (up @ down)
    save_file(merged, tmp_path / "merged.safetensors")
    lora = ModelRef(kind="lora", name="lora", family="sd3")
    use = LoraUse(model=lora, weight=0.5)
    ours = pixels(run(entry, {lora: tmp_path / "lora.safetensors"}, loras=(use,)))
    theirs = pixels(run(describe(tmp_path / "merged.safetensors", "merged")))
    plain = pixels(run(entry))
    assert ours != plain
    assert np.abs(np.frombuffer(ours, np.uint8).astype(int) - np.frombuffer(theirs, np.uint8).astype(int)).max() <= 1


def test_the_call_is_one_that_compares() -> None:
    """Evaluations are kept by it (`device/evaluations.py`)."""
    assert TransformerCall() == TransformerCall() and hash(TransformerCall()) == hash(TransformerCall())
