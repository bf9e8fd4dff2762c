"""Enlarging: built-in filters, models through spandrel, tiles that leave no seam."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from spandrel.architectures.ESRGAN import ESRGAN

from catalog.models import describe
from contract.errors import InvalidRecipe, ModelProblem, NoValidPicture
from contract.recipe import ImageRef, ModelRef
from contract.tasks import Upscale
from contract.work import WorkCancelled, WorkDone, WorkFailed, WorkImage, WorkItem, WorkLoading, WorkStep
from engine.engine import Engine
from engine.images.upscalers import Upscalers, tiles
from tests.engine.conftest import CPU
from tests.engine.test_image_io import png

PHOTO = Image.effect_noise((70, 50), 60).convert("RGB").resize((140, 100), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def esrgan(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelRef, str]:
    """A real ESRGAN of random weights, twice as large."""
    torch.manual_seed(0)
    model = ESRGAN(in_nc=3, out_nc=3, num_filters=8, num_blocks=1, scale=2)
    path = tmp_path_factory.mktemp("upscalers") / "esrgan.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    return describe(path, "esrgan").ref, str(path)


def upscaled(
    upscaler: str | ModelRef, size: tuple[int, int], path: str | None = None, tile: int = 64, overlap: int = 16
) -> np.ndarray:
    *_, (_, _, made) = Upscalers(CPU).upscale(PHOTO, upscaler, size, path, tile=tile, overlap=overlap)
    assert made is not None
    return np.asarray(made)


@pytest.mark.parametrize("upscaler", ["lanczos", "bicubic", "nearest"])
def test_a_filter_makes_the_size_that_was_asked(upscaler: str) -> None:
    assert upscaled(upscaler, (333, 201)).shape == (201, 333, 3)


def test_a_model_is_found_by_its_header_and_makes_any_size(esrgan: tuple[ModelRef, str]) -> None:
    ref, path = esrgan
    assert (ref.kind, ref.family) == ("upscaler", "upscaler") and len(ref.fingerprint) == 16
    assert upscaled(ref, (280, 200), path).shape == (200, 280, 3)
    assert upscaled(ref, (300, 150), path).shape == (150, 300, 3)


def test_tiles_leave_no_seam(esrgan: tuple[ModelRef, str]) -> None:
    """Away from a tile's edge a network sees what it sees in the whole picture; over the overlap it fades."""
    whole = upscaled(*esrgan[:1], (280, 200), esrgan[1], tile=512).astype(int)
    tiled = upscaled(*esrgan[:1], (280, 200), esrgan[1], tile=64, overlap=32).astype(int)
    assert np.abs(whole - tiled).max() <= 3 and np.abs(whole - tiled).mean() < 0.1


@pytest.mark.parametrize(
    ("size", "tile", "overlap"),
    [((140, 100), 64, 16), ((64, 64), 64, 16), ((65, 1), 64, 0), ((1000, 70), 256, 300), ((200, 200), 64, 64)],
)
def test_tiles_cover_every_pixel_and_share_their_overlap(size: tuple[int, int], tile: int, overlap: int) -> None:
    count = np.zeros(size[::-1], dtype=int)
    for left, top, right, bottom in tiles(size, tile, overlap):
        assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
        assert right - left <= tile and bottom - top <= tile
        count[top:bottom, left:right] += 1
    assert count.min() >= 1
    spans = sorted({(left, right) for left, _, right, _ in tiles(size, tile, overlap)})
    assert all(end - begin >= min(overlap, tile // 2) for (_, end), (begin, _) in itertools.pairwise(spans))


def test_what_is_no_upscaler_is_refused_in_a_sentence(tmp_path: Path, esrgan: tuple[ModelRef, str]) -> None:
    ref = esrgan[0].model_copy(update={"fingerprint": "other"})
    save_file({"conv_first.weight": torch.zeros(8, 3, 3, 3)}, tmp_path / "x.safetensors")
    with pytest.raises(ModelProblem, match="no upscaler that is known"):
        upscaled(ref, (280, 200), str(tmp_path / "x.safetensors"))
    with pytest.raises(InvalidRecipe, match="no upscaler “latent”"):
        upscaled("latent", (280, 200))


def test_numbers_gone_bad_are_no_picture(tmp_path: Path, esrgan: tuple[ModelRef, str]) -> None:
    model = ESRGAN(in_nc=3, out_nc=3, num_filters=8, num_blocks=1, scale=2)
    weights = {name: tensor.contiguous().fill_(float("nan")) for name, tensor in model.state_dict().items()}
    save_file(weights, tmp_path / "bad.safetensors")
    with pytest.raises(NoValidPicture, match="esrgan gave numbers"):
        upscaled(esrgan[0].model_copy(update={"fingerprint": "bad"}), (280, 200), str(tmp_path / "bad.safetensors"))


def work_item(esrgan: tuple[ModelRef, str], **fields: Any) -> WorkItem:
    ref, images = png(PHOTO)
    task = Upscale(**{"image": ref, "upscaler": esrgan[0], "tile": 64, **fields})
    return WorkItem("job", 1, task, images=images, model_paths={"upscaler/esrgan": esrgan[1]})


def test_an_upscale_job_counts_its_tiles_and_paints(engine: Engine, esrgan: tuple[ModelRef, str]) -> None:
    events = list(engine.generate(work_item(esrgan, scale=3.0), lambda: False))
    steps = [(event.index, event.total) for event in events if isinstance(event, WorkStep)]
    assert steps == [(n + 1, len(steps)) for n in range(len(steps))] and len(steps) > 4
    (made,) = [event.pixels for event in events if isinstance(event, WorkImage)]
    assert (made.width, made.height) == (420, 300) and isinstance(events[-1], WorkDone)


def test_an_upscale_job_is_cancelled_between_tiles(engine: Engine, esrgan: tuple[ModelRef, str]) -> None:
    answers = iter([False, False])
    events = list(engine.generate(work_item(esrgan), lambda: next(answers, True)))
    assert isinstance(events[-1], WorkCancelled) and len(events) <= 3


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"image": ImageRef(sha256="0" * 64)}, "upload_gone"),
        ({"upscaler": "nonesuch"}, "invalid_upscaler"),
        ({"upscaler": ModelRef(kind="upscaler", name="gone", family="upscaler")}, "invalid_upscaler"),
    ],
)
def test_an_upscale_that_can_not_be_done_fails_with_a_sentence(
    fields: dict[str, Any],
    code: str,
    engine: Engine,
    esrgan: tuple[ModelRef, str],
    make_recipe: Callable[..., Any],
    make_work_item: Callable[..., Any],
) -> None:
    ending = list(engine.generate(work_item(esrgan, **fields), lambda: False))[-1]
    assert isinstance(ending, WorkFailed) and ending.code == code and ending.hint
    assert isinstance(list(engine.generate(make_work_item(make_recipe()), lambda: False))[-1], WorkDone)


def test_a_hires_pass_through_a_model_says_how_far_it_is(
    engine: Engine, esrgan: tuple[ModelRef, str], make_recipe: Callable[..., Any], make_work_item: Callable[..., Any]
) -> None:
    recipe = make_recipe(width=400, height=64, hires={"upscaler": esrgan[0].model_dump(), "scale": 1.5, "steps": 2})
    whole = make_work_item(recipe)
    work_item = WorkItem("job", 1, whole.task, model_paths={**whole.model_paths, "upscaler/esrgan": esrgan[1]})
    events = list(engine.generate(work_item, lambda: False))
    said = [event.fraction for event in events if isinstance(event, WorkLoading) and event.what == "esrgan"]
    assert said == [0.5, 1.0]
    (made,) = [event.pixels for event in events if isinstance(event, WorkImage)]
    assert (made.width, made.height) == (600, 96)
    stopped = list(engine.generate(work_item, lambda: True))
    assert isinstance(stopped[-1], WorkCancelled)
    lost = list(engine.generate(whole, lambda: False))[-1]
    assert isinstance(lost, WorkFailed) and lost.code == "invalid_upscaler"
