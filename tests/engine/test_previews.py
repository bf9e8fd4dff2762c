"""The latents -> RGB map and what is done with it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from catalog.models import ModelEntry
from engine.models import Bundle, ModelManager
from engine.previews import SIDE, PreviewMaker, draw_pictures, fit

CPU = torch.device("cpu")
MIX = torch.tensor([[1.0, -0.5, 0.3], [0.2, 0.9, -0.7], [-0.4, 0.1, 1.1], [0.6, 0.6, 0.6]])  # latents from RGB


class LinearVae(nn.Module):
    """A VAE whose latents are 8x8 means of the colors, mixed: the map is known."""

    class config:
        scaling_factor = 0.5
        shift_factor = 0.25
        latents_mean = None
        latents_std = None

    def encode(self, pixels: torch.Tensor, return_dict: bool) -> tuple[object]:
        small = nn.functional.avg_pool2d(pixels, 8)
        latents = torch.einsum("brhw,cr->bchw", small, MIX)
        return (type("Moments", (), {"mode": lambda self: latents})(),)


def test_map_of_a_linear_vae_is_found() -> None:
    rows = torch.from_numpy(fit(LinearVae(), CPU, torch.float32))
    colors = torch.rand(3, 50)
    latents = (MIX @ (colors * 2 - 1) - 0.25) * 0.5
    assert torch.allclose(rows[:-1].T @ latents + rows[-1][:, None], colors, atol=0.02)


def test_pictures_are_smooth_colored_and_always_the_same() -> None:
    pictures = draw_pictures(4, 64)
    assert pictures.shape == (4, 64, 64, 3)
    assert np.array_equal(pictures, draw_pictures(4, 64))
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    assert pictures.std(axis=(1, 2)).min() > 0.05


def bundle_of(models: ModelManager, entry: ModelEntry) -> Bundle:
    with models.lease(entry.ref, str(entry.path)) as bundle:
        return bundle


@pytest.mark.parametrize(("height", "width", "expected"), [
    (16, 16, (128, 128)), (8, 24, (64, 192)), (64, 64, (256, 256)), (96, 128, (192, 256)), (256, 200, (256, 200))])
def test_preview_is_small_and_keeps_the_shape(height: int, width: int, expected: tuple[int, int],
                                              models: ModelManager, entries: dict[str, ModelEntry]) -> None:
    bundle = bundle_of(models, entries["sd1"])
    image = PreviewMaker().make(torch.randn(1, 4, height, width), bundle)
    assert (image.height, image.width) == expected
    assert max(expected) <= SIDE
    assert len(image.rgb) == image.width * image.height * 3


def test_numbers_gone_bad_make_a_preview_all_the_same(models: ModelManager, entries: dict[str, ModelEntry]) -> None:
    image = PreviewMaker().make(torch.full((1, 4, 8, 8), float("nan")), bundle_of(models, entries["sd1"]))
    assert len(image.rgb) == image.width * image.height * 3


def test_map_is_kept_by_the_vaes_digest(models: ModelManager, entries: dict[str, ModelEntry], tmp_path: Path) -> None:
    first, other = bundle_of(models, entries["sd1"]), bundle_of(models, entries["sd1_other"])
    rows = PreviewMaker(tmp_path).prepare(first)
    PreviewMaker(tmp_path).prepare(other)
    assert len(list(tmp_path.iterdir())) == 2
    (tmp_path / f"preview-{first.digests['vae']}.json").write_text("[[0, 0, 0]]")
    assert PreviewMaker(tmp_path).prepare(first).shape == (1, 3)
    (tmp_path / f"preview-{first.digests['vae']}.json").write_text("[[0, 0")
    assert torch.equal(PreviewMaker(tmp_path).prepare(first), rows)


def test_folder_that_can_not_be_written_costs_only_time(models: ModelManager, entries: dict[str, ModelEntry],
                                                        tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    bundle = bundle_of(models, entries["sd1"])
    assert PreviewMaker(tmp_path / "taken").prepare(bundle).shape == (5, 3)
