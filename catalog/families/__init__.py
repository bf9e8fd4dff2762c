"""Families of models: which there are, and what is asked across all of them.

Adding one: its declaration in the table below, and for one that runs a module of its id in `engine/families/`.
"""

from collections.abc import Mapping, Set
from types import MappingProxyType

from catalog.families import flux, sd1, sd2, sd3, sdxl, sdxl_refiner
from catalog.families.family import Defaults, Family, LatentFormat, Size, TextEncoder, three_sizes
from catalog.families.sniffed import Sniffed
from contract.values import ModelKind

__all__ = ["Defaults", "Family", "LatentFormat", "Size", "TextEncoder", "three_sizes"]

# In the order in which they are asked; the oldest is what counts where nothing tells.
_DECLARED: tuple[Family, ...] = (
    sd1.FAMILY,
    sd2.FAMILY,
    sdxl.FAMILY,
    sdxl_refiner.FAMILY,
    sd3.FAMILY,
    flux.FAMILY,
)
KNOWN: Mapping[str, Family] = MappingProxyType({family.id: family for family in _DECLARED})
FAMILIES: Mapping[str, Family] = MappingProxyType({name: family for name, family in KNOWN.items() if family.runs})
OLDEST = next(iter(FAMILIES))
# Those that files without a name of their own are for: what refines another family's images is never meant.
_USUAL = tuple(family for family in FAMILIES.values() if not family.refines)
SHARED_VAE = "sd"  # the family of a VAE whose latents are those of several families
_OTHER_LABELS: Mapping[str, str] = MappingProxyType(
    {SHARED_VAE: "SD and SDXL", "unknown": "unknown", "upscaler": "any"},
)


def label_of(family: str) -> str:
    """A family's name for people, also of those that are recognized and not run."""
    return KNOWN[family].label if family in KNOWN else _OTHER_LABELS.get(family, family)


def families_that_run() -> str:
    """The labels of those that run, as a sentence has them."""
    *first, last = (family.label for family in _USUAL)
    return f"{', '.join(first)} or {last}"


def refused_family(kind: ModelKind, family: str, detail: str = "") -> Sniffed:
    """A model of a family that doesn't run, or is not known, with its sentence."""
    facts = KNOWN.get(family)
    if facts is None:
        problem = "It is for a model that is not known here."
    elif facts.runs:
        problem = f"It is for {facts.label}, of which only checkpoints, VAEs, LoRAs and embeddings are run here."
    elif kind == "checkpoint":
        problem = f"It is {detail or facts.label}, which Darkroom can't run yet."
    else:
        problem = f"It is for {detail or facts.label}, which Darkroom can't run yet."
    return Sniffed(kind, family, detail=detail, problem=problem, hint=f"Use one for {families_that_run()}.")


def family_of_width(width: object) -> str | None:
    """The family with a U-Net that reads prompt embeds of this width."""
    for family in KNOWN.values():
        if family.unet is not None and family.unet.prompt_width == width:
            return family.id
    return None


def family_with_size_inputs() -> str:
    """The family that runs and takes the image's size as an input."""
    return next(family.id for family in _USUAL if family.unet is not None and family.unet.takes_size)


def families_with_encoders(components: Set[str]) -> list[Family]:
    """The families whose text encoders are these components of a folder; none where there are none."""
    fitting = []
    for family in KNOWN.values():
        own = {encoder.component for encoder in family.text_encoders}
        if own and own == components:
            fitting.append(family)
    return fitting


def family_named(text: str) -> str | None:
    """The family that trainers or other programs call so; the longest beginning that fits counts."""
    fitting: dict[str, str] = {}
    for family in KNOWN.values():
        for name in family.metadata_names:
            if text.lower().startswith(name):
                fitting[name] = family.id
    return fitting[max(fitting, key=len)] if fitting else None


def latent_channels() -> tuple[int, ...]:
    """Channels of the latents of all families that run."""
    return tuple(sorted({family.latents.channels for family in FAMILIES.values()}))


def vae_family(scale: object, channels: int) -> str | None:
    """The family of a VAE by its latents; None: of no family that runs.

    SHARED_VAE where several families have its channels and its scale does not tell, as in a file.
    """
    own = [family for family in _USUAL if family.latents.channels == channels]
    fitting = [family.id for family in own if family.latents.scale == scale]
    if len(fitting) == 1:
        return fitting[0]
    if len(own) > 1:
        return SHARED_VAE
    return own[0].id if own and scale is None else None


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
