"""Whole jobs with LoRAs, embeddings and hypernetworks: they act, and no later job sees them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextModel

from catalog.files.folders import fingerprint
from catalog.models import ModelEntry
from contract.parts import GuidanceMethod
from contract.recipe import ModelKind, ModelRef, Recipe
from contract.work import WorkCancelled, WorkDone, WorkFailed, WorkImage, WorkItem, WorkLoading, WorkNotice, path_key
from engine.device import tracing
from engine.engine import Engine
from tests.support.tiny_loras import LINEAR, Made, chosen, kohya, make

Generate = Callable[..., Any]
STYLE = torch.randn(2, 32, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def files(entries: dict[str, ModelEntry], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files by name: "ink" for all parts, "words" for the text encoder alone, "half" with a stranger, and others."""
    folder, path = tmp_path_factory.mktemp("nets"), entries["sd1"].path
    parts = {
        "unet": UNet2DConditionModel.from_pretrained(str(path / "unet")),
        "text_encoder": CLIPTextModel.from_pretrained(str(path / "text_encoder")),
    }
    everything = chosen(parts, LINEAR)
    words = {place: module for place, module in everything.items() if place[0] == "text_encoder"}
    ink, text = make(everything, kohya), make(words, kohya, alpha=40.0)
    half = Made({**ink.tensors, "lora_unet_nowhere.lora_down.weight": torch.ones(4, 4)}, {})
    generator = torch.Generator().manual_seed(7)
    apply = {
        f"32.{side}.linear.{layer}.weight": torch.randn(32, 32, generator=generator) * 0.3
        for side in range(2)
        for layer in (0, 2)
    }
    plain = {
        "style": {"emb_params": STYLE},
        "bend": apply,
        "nan": {name: torch.full_like(tensor, float("nan")) for name, tensor in ink.tensors.items()},
    }
    for name, tensors in plain.items():
        metadata = {"activation_func": "relu"} if name == "bend" else None
        save_file(tensors, folder / f"{name}.safetensors", metadata=metadata)
    idle = Made(
        {name: torch.zeros_like(tensor) if name.endswith(".alpha") else tensor for name, tensor in ink.tensors.items()},
        {},
    )
    fresh = Made(
        {name: torch.zeros_like(tensor) if "lora_up" in name else tensor for name, tensor in ink.tensors.items()}, {}
    )
    for name, made in (("ink", ink), ("words", text), ("half", half), ("idle", idle), ("fresh", fresh)):
        made.save(folder / f"{name}.safetensors")
    return {file.stem: file for file in folder.iterdir()}


@pytest.fixture
def paint(
    engine: Engine, files: dict[str, Path], make_recipe: Callable[..., Recipe], make_work_item: Callable[..., WorkItem]
) -> Generate:
    """Paint the sd1 recipe with some of the files; `nets`: name -> weight."""

    def ref(kind: ModelKind, name: str) -> ModelRef:
        return ModelRef(
            kind=kind, name=name, family="unknown", fingerprint=fingerprint(files[name].parent, (files[name],))
        )

    def run(
        is_cancelled: Callable[[], bool] = lambda: False,
        *,
        apply: float = 0.0,
        style: bool = False,
        nets: dict[str, float] | None = None,
        **deltas: object,
    ) -> list[Any]:
        loras = tuple({"model": ref("lora", name), "weight": weight} for name, weight in (nets or {}).items())
        networks = ({"model": ref("hypernetwork", "bend"), "weight": apply},) if apply else ()
        recipe = make_recipe(
            loras=loras, hypernetworks=networks, embeddings=(ref("embedding", "style"),) if style else (), **deltas
        )
        work_item = make_work_item(recipe)
        paths = {path_key(found): str(files[found.name]) for found in recipe.models if found.name in files}
        return list(engine.generate(replace(work_item, model_paths={**work_item.model_paths, **paths}), is_cancelled))

    return run


def picture(events: list[Any]) -> bytes:
    assert isinstance(events[-1], WorkDone), events[-1]
    (painted,) = [event for event in events if isinstance(event, WorkImage)]
    return bytes(painted.pixels.rgb)


def test_a_lora_acts_on_its_own_job_alone(paint: Generate) -> None:
    plain = picture(paint())
    events = paint(nets={"ink": 1.0})
    assert any(isinstance(event, WorkLoading) and event.what == "ink" for event in events)
    dressed = picture(events)
    assert dressed != plain and picture(paint()) == plain
    assert picture(paint(nets={"ink": 1.0})) == dressed
    assert picture(paint(nets={"ink": 0.3})) not in (plain, dressed)
    assert picture(paint(nets={"ink": 1.0})) == dressed and picture(paint()) == plain


def test_a_lora_of_the_text_encoder_alone_is_not_hidden_by_kept_embeddings(paint: Generate) -> None:
    plain = picture(paint())
    assert picture(paint(nets={"words": 1.0})) != plain
    assert picture(paint()) == plain


def test_the_own_weights_are_back_after_a_cancel_and_after_a_failure(paint: Generate) -> None:
    plain = picture(paint())
    answers = iter([False] * 8)
    assert isinstance(paint(lambda: next(answers, True), nets={"ink": 1.0}, steps=30)[-1], WorkCancelled)
    assert picture(paint()) == plain
    assert isinstance(paint(nets={"ink": 1.0}, prompt=f"(cat:{'9' * 400})")[-1], WorkFailed)
    assert picture(paint()) == plain


def test_f16_lr05_a_lora_of_nan_fails_by_name_and_the_next_job_works(paint: Generate) -> None:
    plain = picture(paint())
    ending = paint(nets={"ink": 1.0, "nan": 1.0})[-1]
    assert isinstance(ending, WorkFailed) and ending.code == "model_problem"
    assert "nan.safetensors" in ending.message and "NaN" in ending.message
    assert picture(paint()) == plain


def test_a_lora_that_fits_in_part_is_noticed(paint: Generate) -> None:
    (notice,) = [event for event in paint(nets={"half": 1.0}) if isinstance(event, WorkNotice)]
    assert notice.code == "lora_in_part" and "layers matched" in notice.message


def test_a_lora_that_changes_nothing_is_said(paint: Generate) -> None:
    plain = picture(paint())
    for name in ("idle", "fresh"):
        events = paint(nets={name: 1.0})
        (notice,) = [event for event in events if isinstance(event, WorkNotice)]
        assert notice.code == "no_effect" and f"LoRA “{name}” changes nothing" in notice.message
        assert picture(events) == plain
    assert not [event for event in paint(nets={"ink": 1.0}) if isinstance(event, WorkNotice)]


def test_a_lora_acts_on_the_second_pass_too(paint: Generate) -> None:
    hires = {"scale": 1.5, "strength": 0.6}
    assert picture(paint(hires=hires)) != picture(paint(hires=hires, nets={"ink": 1.0}))
    assert picture(paint(hires=hires)) == picture(paint(hires=hires))


def test_an_embedding_acts_where_it_is_named(paint: Generate) -> None:
    plain = picture(paint(prompt="cat style"))
    assert picture(paint(prompt="cat style", style=True)) != plain
    assert picture(paint(prompt="cat dog", style=True)) == picture(paint(prompt="cat dog"))
    assert picture(paint(prompt="cat style")) == plain


def test_a_hypernetwork_acts_by_its_weight_and_is_gone_afterwards(paint: Generate) -> None:
    plain = picture(paint())
    apply_hypernetworks, less = picture(paint(apply=1.0)), picture(paint(apply=0.4))
    assert len({plain, apply_hypernetworks, less}) == 3 and picture(paint()) == plain


def test_all_of_them_act_together_and_leave_nothing(paint: Generate) -> None:
    plain = picture(paint(prompt="cat style"))
    everything = picture(paint(prompt="cat style", style=True, apply=0.5, nets={"ink": 0.5, "words": 0.5}))
    assert everything != plain and picture(paint(prompt="cat style")) == plain
    assert picture(paint(prompt="cat style", style=True, apply=0.5, nets={"ink": 0.5, "words": 0.5})) == everything


def test_a_traced_unet_sees_every_lora_and_hypernetwork(
    engine: Engine, paint: Generate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "_LONGEST_S", 1000.0)
    monkeypatch.setattr(tracing, "_LEAST_GAIN", 1000.0)
    wanted = ({}, {"nets": {"ink": 0.8}}, {"nets": {"ink": 0.3}}, {"apply": 0.7}, {})
    before = [picture(paint(**more)) for more in wanted]
    while engine.tidy():
        pass
    assert [picture(paint(**more)) for more in wanted] == before


@pytest.mark.parametrize("method", ["pag", "sag", "nag"])
def test_guidance_that_changes_the_unet_goes_with_all_of_them(paint: Generate, method: str) -> None:
    guided: dict[str, Any] = {"guidance_methods": (GuidanceMethod(id=method),)}
    for dress in ({"nets": {"ink": 1.0}}, {"apply": 1.0}):
        images = {picture(paint(**fields)) for fields in ({}, dress, guided, {**dress, **guided})}
        assert len(images) == 4, dress
