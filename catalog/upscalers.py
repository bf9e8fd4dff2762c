"""Upscalers: those that need no model, by the names people use, and how a model that upscales is told from others.

Source of the names: the field's lists (A1111, Forge). What each does is in `engine/images/upscalers.py`.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from catalog.files.headers import TensorInfo


@dataclass(frozen=True, slots=True)
class Upscaler:
    """A way to upscale.

    Attributes:
        is_latent: It upscales latents, so that it serves a hires pass only.
    """

    id: str
    label: str
    aliases: tuple[str, ...] = ()
    is_latent: bool = False


UPSCALERS: Mapping[str, Upscaler] = MappingProxyType(
    {
        u.id: u
        for u in (
            Upscaler("latent", "Latent", ("Latent (bilinear)",), True),
            Upscaler("latent_antialiased", "Latent (antialiased)", (), True),
            Upscaler("latent_bicubic", "Latent (bicubic)", (), True),
            Upscaler("latent_bicubic_antialiased", "Latent (bicubic antialiased)", (), True),
            Upscaler("latent_nearest", "Latent (nearest)", (), True),
            Upscaler("latent_nearest_exact", "Latent (nearest-exact)", (), True),
            Upscaler("lanczos", "Lanczos"),
            Upscaler("bicubic", "Bicubic"),
            Upscaler("nearest", "Nearest", ("None",)),
        )
    }
)

# The layer that sees the picture, in the architectures that spandrel knows: enough to tell a file that may upscale from
# others wherever it lies. Which it is, spandrel says when it is first used (`engine/images/upscalers.py`).
_FIRST_LAYERS = (
    "model.0.weight",
    "conv_first.weight",
    "conv_first.1.weight",
    "model.conv_first.weight",
    "body.0.weight",
    "head.0.weight",
    "head.1.weight",
    "head.0.0.weight",
    "m_head.0.weight",
    "m_head.weight",
    "conv_1.eval_conv.weight",
    "feats.0.weight",
    "input.weight",
    "gblocks.0.weight",
    "unet1.conv1.conv.0.weight",
    "in_to_dim.weight",
    "to_feat.weight",
    "to_feat.1.weight",
    "fea_conv.weight",
    "sft.weight",
    "intro.weight",
    "conv_1.weight",
    "initial.cnn.depthwise.weight",
    "input_proj.proj.0.weight",
    "body.0.estimator.conv1.weight",
    "HVE_block0.1.weight",
)
# The same where the name is common: it counts with another one beside it.
_COMMON_FIRST_LAYERS: Mapping[str, str] = MappingProxyType(
    {
        "patch_embed.proj.weight": "encoder_level3.0.ffn.project_out.weight",
        "patch_embed.proj.bias": "layer1.blocks.0.conv3_19.weight",
    }
)
# What programs put before all names of such a network; taken off one after another.
WRAPPINGS = (
    "params_ema.",
    "params.",
    "model_state_dict.",
    "state_dict.",
    "module.",
    "net_g.",
    "netG.",
    "generator.",
    "model.",
)
_PICTURE_CHANNELS = (1, 3, 4, 12, 16, 27, 48)  # gray, RGB, with alpha; folded by 2, 3 and 4


def find_upscaler(name: str) -> Upscaler | None:
    """An upscaler by id, label or alias, in any case."""
    wanted = name.strip().casefold()
    return next(
        (u for u in UPSCALERS.values() if wanted in {text.casefold() for text in (u.id, u.label, *u.aliases)}), None
    )


def unwrapped(names: Collection[str]) -> Iterator[str]:
    """Prefixes that may be taken off all names, the shortest ("") first."""
    prefix = ""
    yield prefix
    for wrapping in WRAPPINGS:
        if names and all(name.startswith(prefix + wrapping) for name in names):
            prefix += wrapping
            yield prefix


def is_upscaler(header: Mapping[str, TensorInfo]) -> bool:
    """Whether a header has the first layer of a network from pictures to pictures."""
    return any(_sees_picture(header, prefix) for prefix in unwrapped(header))


def _sees_picture(header: Mapping[str, TensorInfo], prefix: str) -> bool:
    for first in _FIRST_LAYERS:
        shape = header[prefix + first].shape if prefix + first in header else ()
        if len(shape) == 4 and shape[1] in _PICTURE_CHANNELS:
            return True
    return any(prefix + first in header and prefix + other in header for first, other in _COMMON_FIRST_LAYERS.items())


def may_be_upscaler(header: Mapping[str, TensorInfo]) -> bool:
    """Whether a file that nothing else is known of may be one, where a folder says so: it has layers for pictures."""
    return any(len(info.shape) >= 4 for info in header.values())
