"""Upscalers: those that need no model, by the names people use, and how a model that enlarges is told from others.

Source of the names: the field's lists (A1111, Forge). What each does is in `engine/upscalers.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from catalog.headers import TensorInfo, read_header
from contract.errors import ModelProblem


@dataclass(frozen=True, slots=True)
class Upscaler:
    """A way to enlarge.

    Attributes:
        is_latent: It enlarges latents, so that it serves a hires pass only.
    """

    id: str
    label: str
    aliases: tuple[str, ...] = ()
    is_latent: bool = False


UPSCALERS: Mapping[str, Upscaler] = MappingProxyType({u.id: u for u in (
    Upscaler("latent", "Latent", ("Latent (bilinear)",), True),
    Upscaler("latent_antialiased", "Latent (antialiased)", (), True),
    Upscaler("latent_bicubic", "Latent (bicubic)", (), True),
    Upscaler("latent_bicubic_antialiased", "Latent (bicubic antialiased)", (), True),
    Upscaler("latent_nearest", "Latent (nearest)", (), True),
    Upscaler("latent_nearest_exact", "Latent (nearest-exact)", (), True),
    Upscaler("lanczos", "Lanczos"),
    Upscaler("bicubic", "Bicubic"),
    Upscaler("nearest", "Nearest", ("None",)),
)})

# ESRGAN old and new (also SwinIR, DAT, HAT, …), Compact, EDSR, SCUNet, SPAN, PLKSR, OmniSR.
_FIRST_LAYERS = ("model.0.weight", "conv_first.weight", "body.0.weight", "head.0.weight", "m_head.0.weight",
                 "conv_1.eval_conv.weight", "feats.0.weight", "input.weight")
_PICTURE_CHANNELS = (1, 3, 4, 12, 48)  # gray, RGB, with alpha; RGB folded by 2 and 4


def find_upscaler(name: str) -> Upscaler | None:
    """An upscaler by id, label or alias, in any case."""
    wanted = name.strip().casefold()
    return next((u for u in UPSCALERS.values()
                 if wanted in {text.casefold() for text in (u.id, u.label, *u.aliases)}), None)


def is_upscaler_file(path: Path) -> bool:
    """Whether a file's header has the first layer of a network from pictures to pictures.

    Which of the forty architectures it is, spandrel says when it is loaded.
    """
    try:
        return is_upscaler(read_header(path))
    except ModelProblem:
        return False


def is_upscaler(header: Mapping[str, TensorInfo]) -> bool:
    """The same of a header that was read."""
    first = next((header[name] for name in _FIRST_LAYERS if name in header), None)
    return first is not None and len(first.shape) == 4 and first.shape[1] in _PICTURE_CHANNELS
