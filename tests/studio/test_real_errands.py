"""Conversion and merge as a person has them: queue, process, the engine's own code, and the new file in the list."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from contract import events
from contract.model_tasks import Convert, MergeDraft
from studio.studio import Studio
from tests.studio.conftest import ME, finish
from tests.support import tiny_files

pytestmark = pytest.mark.slow
LIMIT_S = 90.0


def test_a_pickle_in_quarantine_becomes_a_model_of_its_kind(make_studio: Callable[..., Studio], tmp_path: Path) -> None:
    names = (
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight",
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_up.weight",
    )
    weights = {names[0]: torch.randn(4, 768), names[1]: torch.randn(320, 4)}
    source = tmp_path / "models" / "quarantine" / "loras" / "ink.pt"
    source.parent.mkdir(parents=True)
    torch.save(weights, source)
    studio = make_studio()
    (pickled,) = [entry for entry in studio.models(fresh=True) if entry.format == "pickle"]
    said = finish(
        studio,
        studio.model_tasks.convert(Convert(model=pickled.ref.name, kind=pickled.ref.kind), ME).id,
        timeout_s=LIMIT_S,
    )
    assert isinstance(said[-1], events.Done), said[-1]
    made = tmp_path / "models" / "loras" / "ink.safetensors"
    assert all(torch.equal(tensor, weights[name]) for name, tensor in load_file(made).items())
    assert any(entry.path == made and entry.ref.kind == "lora" for entry in studio.models())


def test_two_checkpoints_become_a_third(make_studio: Callable[..., Studio], tmp_path: Path) -> None:
    files = {}
    for seed, name in enumerate("ab"):
        folder = tiny_files.build_folder("sd1", tmp_path / name, seed)
        files[name] = tmp_path / "models" / "checkpoints" / f"{name}.safetensors"
        files[name].parent.mkdir(parents=True, exist_ok=True)
        tiny_files.write_file(folder, files[name])
    studio = make_studio()
    studio.models(fresh=True)
    job = studio.model_tasks.merge(MergeDraft(name="both", a="a", b="b", ratio=0.25, dtype="float32"), ME)
    said = finish(studio, job.id, timeout_s=LIMIT_S)
    assert isinstance(said[-1], events.Done), said[-1]
    one, two, made = (
        load_file(tmp_path / "models" / "checkpoints" / f"{name}.safetensors") for name in ("a", "b", "both")
    )
    name = next(name for name in made if name.startswith("model.diffusion_model") and made[name].is_floating_point())
    assert torch.allclose(made[name], 0.75 * one[name] + 0.25 * two[name], atol=1e-6)
    assert studio.model("both").problem is None
