"""Tiny decoders are found where other programs keep them, and by what is in them."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from catalog.detect.preview_decoders import preview_decoders


def test_a_models_own_comes_first_and_shared_ones_lie_in_vae_approx(tmp_path: Path) -> None:
    models = tmp_path / "models"
    own, folder = models / "starter" / "preview_decoder", models / "VAE-approx" / "taesd"
    for place in (own, folder):
        place.mkdir(parents=True)
        (place / "config.json").write_text(json.dumps({"_class_name": "AutoencoderTiny"}))
        save_file({"decoder.layers.0.weight": torch.zeros(64, 4, 3, 3)}, place / "diffusion_pytorch_model.safetensors")
    named = models / "vae_approx" / "any name.safetensors"
    named.parent.mkdir()
    save_file({"1.weight": torch.zeros(64, 4, 3, 3), "1.bias": torch.zeros(64)}, named)
    save_file({"conv1.weight": torch.zeros(8, 4, 7, 7)}, named.with_name("approx.safetensors"))
    named.with_name("taesd_decoder.safetensors").write_bytes(b"not a file of tensors")
    named.with_name("taesd_decoder.pth").write_bytes(b"a pickle")
    assert preview_decoders(models / "starter", (models,)) == (own, folder, named)
    assert preview_decoders(models / "one.safetensors", (models / "Stable-diffusion",)) == (folder, named)
    assert preview_decoders(tmp_path / "other", (tmp_path / "gone",)) == ()


def test_a_folder_that_can_not_be_read_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "vae_approx").mkdir(parents=True)
    listed = os.listdir

    def refuse(folder: Path) -> list[str]:
        if Path(folder).name == "vae_approx":
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr("catalog.detect.preview_decoders.os.listdir", refuse)
    assert preview_decoders(tmp_path / "models" / "a", (tmp_path / "models",)) == ()
