"""Openly available models that are worth having first: what each is, its license, its size, where it comes from.

A short list on purpose. Sizes are about right; a download goes by what the hub says, and by the checksums here
where they are known. Which families can be run, `families/` says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from catalog.families import sd1, sd3, sdxl
from catalog.preprocessors import PREPROCESSORS
from contract.model_tasks import Download


@dataclass(frozen=True, slots=True)
class CatalogModel:
    """A model to get.

    Attributes:
        family: The id of a family; empty where it serves all.
        license: Its name; `terms` says in a few words what it asks.
        is_gated: The hub gives it only to those who accepted the license there.
    """

    id: str
    title: str
    about: str
    family: str
    license: str
    terms: str
    size_bytes: int
    download: Download
    is_gated: bool = False


_RAIL = "Free to use, also in business; not for the harmful uses it lists."
_XL = "stabilityai/stable-diffusion-xl-base-1.0"
_CANNY = ("config.json", "diffusion_pytorch_model.fp16.safetensors")

CATALOG_MODELS: tuple[CatalogModel, ...] = (
    CatalogModel(
        "sd15",
        "Stable Diffusion 1.5",
        "The classic of 512 × 512; most LoRAs and ControlNets are for it.",
        sd1.FAMILY.id,
        "CreativeML Open RAIL-M",
        _RAIL,
        4_265_146_304,
        Download(source="stable-diffusion-v1-5/stable-diffusion-v1-5", files=("v1-5-pruned-emaonly.safetensors",)),
    ),
    CatalogModel(
        "sdxl-base",
        "SDXL base 1.0",
        "Large pictures, 1024 × 1024; wants a graphics card of 8 GB.",
        sdxl.FAMILY.id,
        "CreativeML Open RAIL++-M",
        _RAIL,
        6_938_078_334,
        Download(source=_XL, files=("sd_xl_base_1.0.safetensors",)),
    ),
    CatalogModel(
        "sdxl-turbo",
        "SDXL Turbo",
        "SDXL in 1 to 4 steps at guidance 1.",
        sdxl.FAMILY.id,
        "Stability AI Community License",
        "Free for research and small business; register for commercial use.",
        6_938_081_905,
        Download(source="stabilityai/sdxl-turbo", files=("sd_xl_turbo_1.0_fp16.safetensors",)),
    ),
    CatalogModel(
        "sd35-medium",
        "SD 3.5 medium",
        "A newer kind of model, without its text encoders.",
        sd3.FAMILY.id,
        "Stability AI Community License",
        "Free below a million dollars of revenue a year; accept it on its page.",
        5_107_000_000,
        Download(source="stabilityai/stable-diffusion-3.5-medium", files=("sd3.5_medium.safetensors",)),
        is_gated=True,
    ),
    CatalogModel(
        "lcm-lora-sd15",
        "LCM LoRA for SD 1.5",
        "Pictures in 4 to 8 steps with the sampler LCM.",
        sd1.FAMILY.id,
        "CreativeML Open RAIL++-M",
        _RAIL,
        134_621_556,
        Download(source="latent-consistency/lcm-lora-sdv1-5", files=("pytorch_lora_weights.safetensors",), kind="lora"),
    ),
    CatalogModel(
        "lcm-lora-sdxl",
        "LCM LoRA for SDXL",
        "Pictures in 4 to 8 steps with the sampler LCM.",
        sdxl.FAMILY.id,
        "CreativeML Open RAIL++-M",
        _RAIL,
        393_855_224,
        Download(source="latent-consistency/lcm-lora-sdxl", files=("pytorch_lora_weights.safetensors",), kind="lora"),
    ),
    CatalogModel(
        "vae-ft-mse",
        "VAE ft-MSE for SD 1.x",
        "Smoother faces and fine detail; chosen beside the checkpoint.",
        sd1.FAMILY.id,
        "MIT",
        "Free for everything.",
        334_641_190,
        Download(
            source="stabilityai/sd-vae-ft-mse-original", files=("vae-ft-mse-840000-ema-pruned.safetensors",), kind="vae"
        ),
    ),
    CatalogModel(
        "canny-sd15",
        "ControlNet Canny for SD 1.5",
        "Follows the edges of a picture.",
        sd1.FAMILY.id,
        "CreativeML Open RAIL-M",
        _RAIL,
        722_600_000,
        Download(source="lllyasviel/control_v11p_sd15_canny", files=_CANNY, kind="controlnet"),
    ),
    CatalogModel(
        "depth-sd15",
        "ControlNet Depth for SD 1.5",
        "Follows what is near and far.",
        sd1.FAMILY.id,
        "CreativeML Open RAIL-M",
        _RAIL,
        722_600_000,
        Download(source="lllyasviel/control_v11f1p_sd15_depth", files=_CANNY, kind="controlnet"),
    ),
    CatalogModel(
        "canny-sdxl",
        "ControlNet Canny for SDXL",
        "Follows the edges of a picture.",
        sdxl.FAMILY.id,
        "CreativeML Open RAIL++-M",
        _RAIL,
        2_502_139_136,
        Download(source="diffusers/controlnet-canny-sdxl-1.0", files=_CANNY, kind="controlnet"),
    ),
    CatalogModel(
        "depth-sdxl",
        "ControlNet Depth for SDXL",
        "Follows what is near and far.",
        sdxl.FAMILY.id,
        "CreativeML Open RAIL++-M",
        _RAIL,
        2_502_139_134,
        Download(source="diffusers/controlnet-depth-sdxl-1.0", files=_CANNY, kind="controlnet"),
    ),
    CatalogModel(
        "ip-adapter-sd15",
        "IP-Adapter for SD 1.5",
        "A picture as part of the prompt; with the encoder it needs.",
        sd1.FAMILY.id,
        "Apache 2.0",
        "Free for everything.",
        2_570_000_000,
        Download(
            source="h94/IP-Adapter",
            files=(
                "models/ip-adapter_sd15.safetensors",
                "models/image_encoder/config.json",
                "models/image_encoder/model.safetensors",
            ),
            kind="ip_adapter",
            name="ip-adapter-sd15",
        ),
    ),
)
_PINNED: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        (
            "stable-diffusion-v1-5/stable-diffusion-v1-5",
            "v1-5-pruned-emaonly.safetensors",
        ): "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa",
        (_XL, "sd_xl_base_1.0.safetensors"): "31e35c80fc4829d14f90153f4c74cd59c90b779f6afe05a74cd6120b893f7e5b",
        (
            "stabilityai/sdxl-turbo",
            "sd_xl_turbo_1.0_fp16.safetensors",
        ): "e869ac7d6942cb327d68d5ed83a40447aadf20e0c3358d98b2cc9e270db0da26",
        (
            "stabilityai/sd-vae-ft-mse-original",
            "vae-ft-mse-840000-ema-pruned.safetensors",
        ): "735e4c3a447a3255760d7f86845f09f937809baa529c17370d83e4c3758f3c75",
        (
            "latent-consistency/lcm-lora-sdv1-5",
            "pytorch_lora_weights.safetensors",
        ): "8f90d840e075ff588a58e22c6586e2ae9a6f7922996ee6649a7f01072333afe4",
        (
            "latent-consistency/lcm-lora-sdxl",
            "pytorch_lora_weights.safetensors",
        ): "a764e6859b6e04047cd761c08ff0cee96413a8e004c9f07707530cd776b19141",
        **{
            (file.repository, file.name): file.sha256
            for one in PREPROCESSORS.values()
            for file in one.files
            if file.sha256
        },
    }
)


def pinned_sha256(repository: str, path: str) -> str:
    """The sha256 that a file must have; empty where none is known."""
    return _PINNED.get((repository, path), "")
