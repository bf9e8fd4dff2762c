"""Folders are known by the names that each program gives them, in whatever spelling."""

from pathlib import Path

import pytest

from catalog.files.layout import is_other_folder, kind_of_folder
from catalog.models import scan
from contract.values import ModelKind
from studio.downloads.destinations import FOLDERS
from tests.support import layouts

KNOWN: dict[ModelKind, str] = {
    # A1111, Forge, SD.Next · ComfyUI · InvokeAI · Fooocus, Easy Diffusion, StabilityMatrix · ours, in singular and plural
    "checkpoint": "Stable-diffusion stable_diffusion StableDiffusion UNET Diffusers checkpoints diffusion_models unet main onnx "
    "stable-diffusion DiffusionModels checkpoint Checkpoints",
    "lora": "Lora LyCORIS loras lycoris lora LORAS LoRA",
    "vae": "VAE vae vaes VAEs",
    "controlnet": "ControlNet controlnet controlnets ControlNets control_net control control_lora",
    "t2i_adapter": "t2i_adapter t2i_adapters T2IAdapter t2iadapters t2i-adapter",
    "ip_adapter": "ip_adapter ipadapter ip_adapters IpAdapter IpAdapters InvokeIpAdapters15 InvokeIpAdaptersXl ip-adapters",
    "embedding": "embeddings embedding textual_inversion TextualInversion textual_inversions textual-inversions",
    "hypernetwork": "hypernetworks hypernetwork Hypernetworks Hypernetwork",
    "upscaler": "ESRGAN RealESRGAN SwinIR ScuNET DAT BSRGAN HAT chaiNNer upscale_models latent_upscale_models "
    "spandrel_image_to_image upscaling realesrgan latent-upscaler upscalers upscaler Upscalers upscale_model",
}


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for kind, names in KNOWN.items() for name in names.split()])
def test_a_folder_says_a_kind(name: str, kind: ModelKind) -> None:
    assert kind_of_folder(name) == kind
    assert not is_other_folder(name)


def test_our_own_folders_are_among_them() -> None:
    for kind, folder in FOLDERS.items():
        if kind == "annotator":
            continue
        assert kind_of_folder(folder) == kind
        assert kind_of_folder(f"{folder.rstrip('s')}s") == kind


@pytest.mark.parametrize(
    "name",
    [
        "annotators",
        "VAE-approx",
        "vae_approx",
        "ApproxVAE",
        "text_encoders",
        "TextEncoders",
        "CLIP",
        "clip_vision",
        "GFPGAN",
        "Codeformer",
        "custom_nodes",
        "insightface",
        "ultralytics",
        "SAMs",
        "Prompt_Expansion",
    ],
)
def test_a_folder_of_other_things_is_left_out(name: str) -> None:
    assert is_other_folder(name) and kind_of_folder(name) is None


@pytest.mark.parametrize("name", ["models", "style", "SDXL", "Pony", "sd-1", "any", "my stuff", "s", "", "inpaint"])
def test_other_names_say_nothing(name: str) -> None:
    assert kind_of_folder(name) is None and not is_other_folder(name)


def test_a_theme_within_a_kind_is_no_folder_of_other_things(tmp_path: Path) -> None:
    for name in ("sam", "llm", "yolo"):
        layouts.write(tmp_path / "Lora" / name / "x.safetensors", {"lora_unet_mid_block_a.lora_down.weight": (4, 768)})
    assert {entry.ref.name for entry in scan([tmp_path])} == {"sam/x", "llm/x", "yolo/x"}
