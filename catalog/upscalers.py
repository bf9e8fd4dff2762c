"""Upscalers that need no model, by the names people use. Models of kind "upscaler" are in `catalog/models.py`.

Source of the names: the field's lists (A1111, Forge). What each does is in `engine/upscalers.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


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


def find_upscaler(name: str) -> Upscaler | None:
    """An upscaler by id, label or alias, in any case."""
    wanted = name.strip().casefold()
    return next((u for u in UPSCALERS.values()
                 if wanted in {text.casefold() for text in (u.id, u.label, *u.aliases)}), None)
