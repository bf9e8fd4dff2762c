"""The latents -> RGB map, tiny decoders, and what is done with them."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file
from torch import nn

from catalog.models import ModelEntry
from engine.images import previews
from engine.images.previews import SIDE, PreviewMaker, draw_pictures, finished_preview, fit_preview_map
from engine.images.taesd import TinyDecoder, load_tiny_decoder
from engine.models.bundle import Bundle
from engine.models.manager import ModelManager

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
    rows = torch.from_numpy(fit_preview_map(LinearVae(), CPU, torch.float32))
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


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(16, 16, (128, 128)), (8, 24, (64, 192)), (64, 64, (256, 256)), (96, 128, (192, 256)), (256, 200, (256, 200))],
)
def test_preview_is_small_and_keeps_the_shape(
    height: int, width: int, expected: tuple[int, int], models: ModelManager, entries: dict[str, ModelEntry]
) -> None:
    bundle = bundle_of(models, entries["sd1"])
    image = finished_preview(PreviewMaker().begin(torch.randn(1, 4, height, width), bundle))
    assert (image.height, image.width) == expected
    assert max(expected) <= SIDE
    assert len(image.rgb) == image.width * image.height * 3


def test_numbers_gone_bad_make_a_preview_all_the_same(models: ModelManager, entries: dict[str, ModelEntry]) -> None:
    image = finished_preview(
        PreviewMaker().begin(torch.full((1, 4, 8, 8), float("nan")), bundle_of(models, entries["sd1"]))
    )
    assert len(image.rgb) == image.width * image.height * 3


def test_map_is_kept_by_the_vaes_digest(
    models: ModelManager, entries: dict[str, ModelEntry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previews, "_FIT_S", float("inf"))  # a busy machine would fit on fewer images
    first, other = bundle_of(models, entries["sd1"]), bundle_of(models, entries["sd1_other"])
    rows = PreviewMaker(tmp_path).prepare(first)
    PreviewMaker(tmp_path).prepare(other)
    assert len(list(tmp_path.iterdir())) == 2
    (tmp_path / f"preview-{first.digests['vae']}.json").write_text("[[0, 0, 0]]")
    assert PreviewMaker(tmp_path).prepare(first).shape == (1, 3)
    (tmp_path / f"preview-{first.digests['vae']}.json").write_text("[[0, 0")
    assert torch.equal(PreviewMaker(tmp_path).prepare(first), rows)


def test_folder_that_can_not_be_written_costs_only_time(
    models: ModelManager, entries: dict[str, ModelEntry], tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file")
    bundle = bundle_of(models, entries["sd1"])
    assert PreviewMaker(tmp_path / "taken").prepare(bundle).shape == (5, 3)


class Inverse(nn.Module):
    """Reads the latents of `LinearVae`: as they were made, or with the colors turned over."""

    def __init__(self, is_right: bool = True) -> None:
        super().__init__()
        self.is_right = is_right

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        colors = torch.einsum("bchw,rc->brhw", latents / 0.5 + 0.25, torch.linalg.pinv(MIX))
        return nn.functional.interpolate(colors if self.is_right else -colors, scale_factor=8, mode="bicubic")


@pytest.fixture
def linear() -> Bundle:
    device = SimpleNamespace(torch_device=CPU, vae_dtype=torch.float32, dtype=torch.float32)
    return cast(
        Bundle,
        SimpleNamespace(device=device, onload={"vae": LinearVae()}.__getitem__, digests={"vae": "linear"}, tiling=None),
    )


def lay_out(monkeypatch: pytest.MonkeyPatch, **decoders: TinyDecoder) -> tuple[str, ...]:
    """Let these be what is loaded from paths of their names."""

    def load(path: Path, device: torch.device, dtype: torch.dtype) -> TinyDecoder:
        if path.name not in decoders:
            raise ValueError("no decoder")
        return decoders[path.name]

    monkeypatch.setattr(previews, "load_tiny_decoder", load)
    return tuple(decoders)


def test_the_decoder_that_reads_the_latents_is_found_by_trying(monkeypatch: pytest.MonkeyPatch, linear: Bundle) -> None:
    right, wrong = TinyDecoder(Inverse(), 4, torch.float32), TinyDecoder(Inverse(is_right=False), 4, torch.float32)
    other = TinyDecoder(Inverse(), 16, torch.float32)
    paths = lay_out(monkeypatch, wrong=wrong, other=other, right=right)
    maker, latents = PreviewMaker(), torch.randn(1, 4, 8, 12)
    assert maker.choose(linear, ("damaged", *paths), latents) is right
    assert maker.choose(linear, ("wrong", "other"), latents) is None
    assert maker.choose(linear, (), latents) is None
    image = finished_preview(maker.begin(latents, linear, right))
    assert (image.height, image.width) == (64, 96)
    wanted = right.decode(latents)[0].mul(255).round().to(torch.uint8).permute(1, 2, 0)
    assert image.rgb == wanted.contiguous().numpy().tobytes()
    large = finished_preview(maker.begin(torch.randn(1, 4, 40, 60), linear, right))
    assert (large.height, large.width) == (171, 256)


def test_a_decoder_that_would_hold_up_the_steps_is_left_out(monkeypatch: pytest.MonkeyPatch, linear: Bundle) -> None:
    paths = lay_out(monkeypatch, right=TinyDecoder(Inverse(), 4, torch.float32))
    maker = PreviewMaker()
    monkeypatch.setattr(previews, "_LIMIT_S", {"cpu": -1.0})
    assert maker.choose(linear, paths, torch.randn(1, 4, 8, 8)) is None
    monkeypatch.setattr(previews, "_LIMIT_S", {"cpu": 60.0})
    assert maker.choose(linear, paths, torch.randn(1, 4, 8, 8)) is not None


def test_a_draft_has_the_full_size_and_another_limit(monkeypatch: pytest.MonkeyPatch, linear: Bundle) -> None:
    decoder = TinyDecoder(Inverse(), 4, torch.float32)
    paths, latents = lay_out(monkeypatch, right=decoder), torch.randn(1, 4, 40, 60)
    decoder.seconds[tuple(latents.shape)] = 0.2
    maker = PreviewMaker()
    draft = maker.draft(latents, linear, paths, 0.25)
    assert draft is not None and (draft.height, draft.width) == (320, 480)
    assert maker.draft(latents, linear, paths, 0.1) is None
    assert maker.choose(linear, paths, latents) is None


def test_memory_that_does_not_suffice_costs_the_decoder_only(monkeypatch: pytest.MonkeyPatch, linear: Bundle) -> None:
    class Greedy(nn.Module):
        def forward(self, latents: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("no room")

    paths = lay_out(monkeypatch, greedy=TinyDecoder(Greedy(), 4, torch.float32))
    assert PreviewMaker().choose(linear, paths, torch.randn(1, 4, 8, 8)) is None


def test_a_file_with_the_first_names_decodes_as_the_folder_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tiny = AutoencoderTiny(latent_channels=4).eval()
    tiny.save_pretrained(tmp_path / "taesd")
    own = {
        f"{int(name.split('.')[1]) + 1}.{name.split('.', 2)[2]}": tensor
        for name, tensor in tiny.decoder.state_dict().items()
    }
    save_file(own, tmp_path / "plain.safetensors")
    save_file({f"taesd_decoder.{name}": tensor for name, tensor in own.items()}, tmp_path / "prefixed.safetensors")
    latents = torch.randn(1, 4, 4, 6)
    with torch.inference_mode():
        wanted = tiny.decode(latents).sample.add(1).div(2).clamp(0, 1)
    for name in ("taesd", "plain.safetensors", "prefixed.safetensors"):
        found = load_tiny_decoder(tmp_path / name, CPU, torch.float32)
        assert found.channels == 4
        assert torch.allclose(found.decode(latents), wanted, atol=1e-6), name
