"""Upscalers: those that need no model, by the names people use, and how a header shows a model that upscales.

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


_UPSCALERS = (
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
UPSCALERS: Mapping[str, Upscaler] = MappingProxyType({upscaler.id: upscaler for upscaler in _UPSCALERS})

# The layer that takes the picture, in the architectures that spandrel knows: enough to recognize a file that may
# upscale in any folder. spandrel names its architecture at its first use (`engine/images/upscalers.py`).
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
# The same for names that other models have too: they count together with the second one.
_COMMON_FIRST_LAYERS: Mapping[str, str] = MappingProxyType(
    {
        "patch_embed.proj.weight": "encoder_level3.0.ffn.project_out.weight",
        "patch_embed.proj.bias": "layer1.blocks.0.conv3_19.weight",
    }
)
# Prefixes that programs put before all names of such a network; removed one after another.
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
    for upscaler in _UPSCALERS:
        for text in (upscaler.id, upscaler.label, *upscaler.aliases):
            if text.casefold() == wanted:
                return upscaler
    return None


def unwrapped(names: Collection[str]) -> Iterator[str]:
    """Prefixes that can be removed from all names, the shortest ("") first."""
    prefix = ""
    yield prefix
    for wrapping in WRAPPINGS:
        if names and all(name.startswith(prefix + wrapping) for name in names):
            prefix += wrapping
            yield prefix


def is_upscaler(header: Mapping[str, TensorInfo]) -> bool:
    """Whether a header has the first layer of a network from pictures to pictures."""
    for prefix in unwrapped(header):
        for first in _FIRST_LAYERS:
            if prefix + first in header:
                shape = header[prefix + first].shape
                if len(shape) == 4 and shape[1] in _PICTURE_CHANNELS:
                    return True
        for first, second in _COMMON_FIRST_LAYERS.items():
            if prefix + first in header and prefix + second in header:
                return True
    return False


def may_be_upscaler(header: Mapping[str, TensorInfo]) -> bool:
    """Whether an unknown file in a folder of upscalers may be one: it has layers for pictures."""
    return any(len(info.shape) >= 4 for info in header.values())
