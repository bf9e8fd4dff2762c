"""Every model that diffusers can build by its defaults, by the names it gives its tensors: none is taken for another."""

import inspect
from collections.abc import Iterator

import diffusers
import pytest
import torch

from catalog.detect.sniff import sniff
from catalog.families.sniffed import Sniffed
from catalog.files.headers import TensorInfo

# What they are, where that is anything: kind, family, whether one can be used.
TOLD = {
    "AutoencoderKL": ("vae", "sd", True),
    "FluxTransformer2DModel": ("checkpoint", "flux", False),
    "SD3Transformer2DModel": ("checkpoint", "sd3", True),
    "FluxControlNetModel": ("controlnet", "flux", False),
    "SD3ControlNetModel": ("controlnet", "sd3", True),
    "T2IAdapter": ("t2i_adapter", "sd1", True),
}
# By its defaults as wide as no family's; so it is no one's.
ALIKE = {"ControlNetModel": "controlnet", "UNet2DConditionModel": "checkpoint"}


# By whose words those that are not run are told.
CALLED = {
    "AuraFlowTransformer2DModel": "AuraFlow",
    "ChromaTransformer2DModel": "Chroma",
    "CogVideoXTransformer3DModel": "CogVideoX, a video model",
    "CogView3PlusTransformer2DModel": "CogView",
    "CogView4Transformer2DModel": "CogView",
    "Flux2Transformer2DModel": "Flux 2",
    "FluxTransformer2DModel": "Flux schnell",
    "HunyuanImageTransformer2DModel": "Hunyuan Image",
    "HunyuanVideoTransformer3DModel": "Hunyuan Video",
    "Kandinsky3UNet": "Kandinsky 3",
    "Lumina2Transformer2DModel": "Lumina",
    "MochiTransformer3DModel": "Mochi",
    "PriorTransformer": "a prior",
    "QwenImageTransformer2DModel": "Qwen-Image",
    "SanaTransformer2DModel": "Sana",
    "UNet3DConditionModel": "a video model",
    "UNetSpatioTemporalConditionModel": "Stable Video Diffusion",
    "WanTransformer3DModel": "Wan",
    "ZImageTransformer2DModel": "Z-Image",
}


def built() -> Iterator[tuple[str, torch.nn.Module]]:
    for name, kind in inspect.getmembers(diffusers, inspect.isclass):
        if issubclass(kind, torch.nn.Module):
            try:
                with torch.device("meta"):
                    yield name, kind()
            except (
                TypeError,
                ValueError,
                AssertionError,
                RuntimeError,
            ):  # it has no defaults, or needs memory to be built
                continue


def told(module: torch.nn.Module) -> Sniffed:
    return sniff({name: TensorInfo("F16", tuple(tensor.shape), 0, 0) for name, tensor in module.state_dict().items()})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_no_model_of_diffusers_is_taken_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in dir(torch.nn.init):
        if name.endswith("_") and not name.startswith("_"):  # names and shapes count, not values
            monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)
    found = {name: told(module) for name, module in built()}
    assert len(found) > 60 and set(TOLD) <= set(found)
    assert {name: sniffed for name, sniffed in found.items() if not is_right(name, sniffed)} == {}
    wrongly = {
        name: found[name].problem for name, words in CALLED.items() if f"It is {words}" not in found[name].problem
    }
    assert wrongly == {}


def is_right(name: str, sniffed: Sniffed) -> bool:
    """Told for what it is, or for nothing that can be used."""
    if name in TOLD:
        return (sniffed.kind, sniffed.family, not sniffed.problem) == TOLD[name]
    if name in ALIKE:
        return sniffed.kind == ALIKE[name] and sniffed.family not in ("sd1", "sd2", "sdxl")
    return sniffed.kind is None or (sniffed.family == "unknown" and bool(sniffed.problem))
