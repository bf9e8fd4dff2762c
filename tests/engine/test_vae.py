"""From latents to a picture."""

import pytest
import torch

from catalog.models import ModelEntry
from contract.errors import NoValidPicture
from engine.device.devices import Device
from engine.images.vae import decode
from engine.models.manager import ModelManager

CPU = torch.device("cpu")
HALF = Device(CPU, "half", torch.float32, torch.float16, copies_weights=True)
LATENTS = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def test_pixels_are_rounded_as_in_the_stock_pipelines(models: ModelManager, entries: dict[str, ModelEntry]) -> None:
    entry = entries["sd1"]
    with models.lease(entry.ref, str(entry.path)) as bundle:
        image, is_retry = decode(LATENTS, bundle)
        with torch.no_grad():
            pixels = bundle.onload("vae").decode(LATENTS / 0.18215).sample
    stock = ((pixels / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy() * 255).round().astype("uint8")
    assert image.rgb == stock.tobytes()
    assert not is_retry


def test_overflow_in_half_precision_is_decoded_again(entries: dict[str, ModelEntry]) -> None:
    entry = entries["sd1"]
    manager = ModelManager(HALF)
    with manager.lease(entry.ref, str(entry.path)) as bundle:
        bundle.onload("vae").decoder.conv_out.bias.data.fill_(65000)
        bundle.onload("vae").post_quant_conv.weight.data.fill_(60000)  # overflows in float16 only
        before = bundle.onload("vae").decoder.conv_out.bias.clone()
        image, is_retry = decode(LATENTS * 50, bundle)
        assert is_retry
        assert len(image.rgb) == 64 * 64 * 3
        assert bundle.onload("vae").dtype == torch.float16
        assert torch.equal(bundle.onload("vae").decoder.conv_out.bias, before)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_no_picture(
    value: float, models: ModelManager, entries: dict[str, ModelEntry]
) -> None:
    entry = entries["sd1"]
    with models.lease(entry.ref, str(entry.path)) as bundle, pytest.raises(NoValidPicture, match="VAE of sd1"):
        decode(torch.full((1, 4, 8, 8), value), bundle)
