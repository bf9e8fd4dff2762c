"""Families of models and their facts, as data: sizes, defaults, what their latents look like.

How a family is loaded, prompted and stepped is in `engine/families/`; how a file is recognized,
in `catalog/detect/`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

Size = tuple[int, int]  # width, height in pixels


@dataclass(frozen=True, slots=True)
class Defaults:
    """The values of a draft that names none. A model's darkroom.json may override each."""

    sampler: str = "euler_a"
    schedule: str = "automatic"
    steps: int = 20
    guidance: float = 7.0
    width: int = 512
    height: int = 512


@dataclass(frozen=True, slots=True)
class Family:
    """Facts of one family.

    Attributes:
        latent_channels: C of the latents (B, C, H/8, W/8).
        token_limit: tokens a chunk of the prompt holds, begin and end included.
        layer_read: the layer of its text encoders, counted from the last, that its checkpoints are trained on.
    """

    id: str
    label: str
    sizes: Mapping[str, Size]
    defaults: Defaults
    latent_channels: int = 4
    vae_factor: int = 8
    token_limit: int = 77
    layer_read: int = 1


def _three_sizes(square: Size, wide: Size, tall: Size) -> Mapping[str, Size]:
    return MappingProxyType({"square": square, "wide": wide, "tall": tall})


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "sd1": Family("sd1", "SD 1.x", _three_sizes((512, 512), (768, 512), (512, 768)), Defaults()),
        "sd2": Family(
            "sd2",
            "SD 2.x",
            _three_sizes((768, 768), (1024, 640), (640, 1024)),
            Defaults(width=768, height=768),
            layer_read=2,
        ),
        "sdxl": Family(
            "sdxl",
            "SDXL",
            _three_sizes((1024, 1024), (1216, 832), (832, 1216)),
            Defaults(sampler="dpmpp_2m", schedule="karras", steps=25, width=1024, height=1024),
            layer_read=2,
        ),
    }
)


OTHER_LABELS: Mapping[str, str] = MappingProxyType(
    {
        "sd": "SD and SDXL",
        "sdxl_refiner": "SDXL refiner",
        "sd3": "SD 3",
        "flux": "Flux",
        "unknown": "unknown",
        "upscaler": "any",
    }
)
_SD2_BASE = 512  # SD 2.x that predicts noise was trained at this size, as were its inpainting and depth variants


def label_of(family: str) -> str:
    """A family's name for people, also of those that are recognized and not run."""
    if family in FAMILIES:
        return FAMILIES[family].label
    return OTHER_LABELS.get(family, family)


def clip_skip_read(written: int, family: str) -> int:
    """The recipe's clip skip for the number that other programs write.

    They count layers from the last whatever the family, and read none behind the one it was trained on.
    Source: specs/compatibility.md 4a; Forge's `minimal_clip_skip`.
    """
    return max(1, written - _layers_behind(family))


def clip_skip_written(clip_skip: int, family: str) -> int:
    """The number that other programs write for a recipe's clip skip; all leave 1 out."""
    return 1 if clip_skip <= 1 else clip_skip + _layers_behind(family)


def _layers_behind(family: str) -> int:
    return FAMILIES[family].layer_read - 1 if family in FAMILIES else 0


def usual_prediction(family: str, variant: str = "text") -> str:
    """The prediction type of a checkpoint that names none: v-prediction for SD 2.x text models, else epsilon."""
    return "v_prediction" if family == "sd2" and variant == "text" else "epsilon"


def usual_for(family: str, variant: str, prediction: str) -> tuple[Mapping[str, Size], Defaults]:
    """Sizes and defaults of a checkpoint that gives none itself."""
    facts = FAMILIES[family]
    if family == "sd2" and (prediction or usual_prediction(family, variant)) == "epsilon":
        return FAMILIES["sd1"].sizes, replace(facts.defaults, width=_SD2_BASE, height=_SD2_BASE)
    return facts.sizes, facts.defaults
