"""LoRAs on a card: computed there, rounded once, taken off from the copy on it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from catalog.models import ModelEntry, describe
from contract.recipe import LoraUse
from engine.device.devices import Device, choose_device
from engine.lora.deltas import deltas_of
from engine.lora.patch import LoadedLora, patch_loras
from engine.models.bundle import Bundle
from engine.models.manager import ModelManager
from tests.support.tiny_loras import LINEAR, Made, chosen, dotted, make

CARD = Device(torch.device("cpu"), "a card", copies_weights=True, keeps_copies=True, memory_bytes=2**30)


@pytest.fixture
def ink(entries: dict[str, ModelEntry]) -> Made:
    unet = UNet2DConditionModel.from_pretrained(str(entries["sd1"].path / "unet"))
    return make(chosen({"unet": unet}, LINEAR), dotted)


def loaded(made: Made, file: Path, device: torch.device) -> LoadedLora:
    entry = describe(made.save(file), file.stem)

    class Held(nn.Module):
        def state_dict(self, *_: Any, **__: Any) -> dict[str, Any]:  # type: ignore[override]
            return {name: tensor.to(device) for name, tensor in made.tensors.items()}

    return LoadedLora(LoraUse(model=entry.ref, weight=0.7), Held(), entry.path)


def weights(bundle: Bundle) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in bundle.onload("unet").state_dict().items()}


def check(device: Device, entry: ModelEntry, ink: Made, file: Path, tolerance: float) -> None:
    """A LoRA is on the layers it names, another strength too, and off to the bit, wherever originals are."""
    with ModelManager(device).lease(entry.ref, str(entry.path)) as bundle:
        lora = loaded(ink, file, device.torch_device)
        before = weights(bundle)
        for strength in (0.7, -0.4):
            use = lora.use.model_copy(update={"weight": strength})
            patch_loras(bundle, [LoadedLora(use, lora.module, lora.path)])
            after = weights(bundle)
            for (_, module), delta in ink.deltas.items():
                name = f"{module}.weight"
                expected = before[name].float() + strength * delta.to(before[name].device)
                assert torch.allclose(after[name].float(), expected, rtol=tolerance, atol=tolerance)
        patch_loras(bundle, [])
        assert all(torch.equal(tensor, before[name]) for name, tensor in weights(bundle).items())


@pytest.mark.parametrize("keeps_copies", [True, False])
def test_layers_come_from_the_copy_or_from_memory(
    keeps_copies: bool, entries: dict[str, ModelEntry], ink: Made, tmp_path: Path
) -> None:
    check(replace(CARD, keeps_copies=keeps_copies), entries["sd1"], ink, tmp_path / "ink.safetensors", 1e-5)


def test_numbers_of_a_layer_stay_where_they_can_be_read() -> None:
    """Reading a number off a card waits for it: once a file, not once a layer."""
    tensors = {"down": torch.ones(2, 3, device="meta"), "up": torch.ones(4, 2, device="meta"), "alpha": torch.tensor(4)}
    delta = deltas_of(tensors, (4, 3), torch.device("meta"))["weight"]
    assert delta.scale == 2.0  # type: ignore[union-attr]


@pytest.mark.gpu
@pytest.mark.parametrize("keeps_copies", [True, False])
def test_on_a_card_it_is_the_same(
    keeps_copies: bool, entries: dict[str, ModelEntry], ink: Made, tmp_path: Path
) -> None:
    device = replace(choose_device("cuda"), keeps_copies=keeps_copies)
    check(device, entries["sd1"], ink, tmp_path / "ink.safetensors", 2e-3)
