"""The upscaler and the tiny preview decoder: one short training each, written and loaded as anyone would."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from spandrel import ModelLoader

from training import parts
from training.loops.checkpoints import Budget


@pytest.fixture
def pool() -> np.ndarray:
    ramp = np.linspace(0, 255, 128)[None, :, None] * np.ones((128, 1, 3))
    return np.stack([ramp, ramp[:, ::-1]]).astype(np.uint8)


def test_spandrel_loads_the_upscaler(pool: np.ndarray, tmp_path: Path) -> None:
    parts.train_upscaler(tmp_path / "upscaler.pt", pool, Budget(steps=1))
    parts.write_upscaler(tmp_path / "upscaler.pt", tmp_path / "x2.safetensors")
    loaded = ModelLoader().load_from_file(tmp_path / "x2.safetensors")
    assert loaded.scale == 2
    assert loaded.model.float()(torch.zeros(1, 3, 10, 12)).shape == (1, 3, 20, 24)


def test_diffusers_loads_the_preview_decoder(pool: np.ndarray, tmp_path: Path) -> None:
    parts.train_preview(tmp_path / "preview.pt", pool, torch.zeros(2, 4, 16, 16), Budget(steps=1))
    parts.write_preview(tmp_path / "preview.pt", tmp_path / "tiny")
    tiny = AutoencoderTiny.from_pretrained(tmp_path / "tiny", torch_dtype=torch.float32)
    assert tiny.decode(torch.zeros(1, 4, 12, 20)).sample.shape == (1, 3, 96, 160)


def test_the_linear_map_finds_a_linear_truth() -> None:
    latents = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    mix = torch.randn(3, 4, generator=torch.Generator().manual_seed(2))
    small = torch.einsum("rc,bchw->brhw", mix, latents) + 0.5
    pictures = small.repeat_interleave(8, 2).repeat_interleave(8, 3)
    torch.testing.assert_close(parts.linear_map(latents, pictures)(latents), small, atol=1e-4, rtol=1e-4)
