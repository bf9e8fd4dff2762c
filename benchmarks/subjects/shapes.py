"""Shapes of models that benchmarks measure on: the configurations of their components, without weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from catalog.families import sd1, sd3, sdxl

Config = Mapping[str, Any]
SCHEDULER = MappingProxyType(
    {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
)


@dataclass(frozen=True, slots=True)
class Shape:
    """What the configurations of a model of random weights say.

    Attributes:
        parts: The configuration of each component.
        side: Pixels, of its figures on a card.
        sides: Of its batch curve there.
    """

    name: str
    family: str
    parts: Mapping[str, Config]
    side: int = 512
    sides: tuple[int, ...] = ()

    @property
    def is_xl(self) -> bool:
        """Whether it has two text encoders; those of full size are kept in half precision on a CPU here."""
        return "text_encoder_2" in self.parts


def _text(width: int, layers: int, heads: int) -> Config:
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers}
    return {**sizes, "num_attention_heads": heads, "projection_dim": width}


def _vae(widths: tuple[int, ...], layers: int, channels: int = 4) -> Config:
    count, groups = len(widths), min(32, widths[0])
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * count, "up_block_types": ("UpDecoderBlock2D",) * count}
    sizes = {"block_out_channels": widths, "layers_per_block": layers, "norm_num_groups": groups}
    return {**kinds, **sizes, "latent_channels": channels, "force_upcast": False}


_XL_UNET = MappingProxyType(
    {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "addition_embed_type": "text_time",
        "use_linear_projection": True,
    }
)
SD15 = Shape(
    "SD 1.5",
    sd1.FAMILY.id,
    {
        "unet": {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
        "vae": _vae((128, 256, 512, 512), 2),
        "text_encoder": _text(768, 12, 12),
    },
    512,
    (512, 768, 1024),
)
SDXL = Shape(
    "SDXL",
    sdxl.FAMILY.id,
    {
        "unet": {
            **_XL_UNET,
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 1280 + 6 * 256,
        },
        "vae": _vae((128, 256, 512, 512), 2),
        "text_encoder": _text(768, 12, 12),
        "text_encoder_2": _text(1280, 32, 20),
    },
    1024,
    (512, 768, 1024),
)
SD35_MEDIUM = Shape(
    "SD 3.5 medium",
    sd3.FAMILY.id,
    {
        "transformer": {
            "sample_size": 128,
            "in_channels": 16,
            "out_channels": 16,
            "num_layers": 24,
            "attention_head_dim": 64,
            "num_attention_heads": 24,
            "joint_attention_dim": 4096,
            "caption_projection_dim": 1536,
            "pooled_projection_dim": 2048,
            "pos_embed_max_size": 384,
            "dual_attention_layers": tuple(range(13)),
            "qk_norm": "rms_norm",
        },
        "vae": {
            **_vae((128, 256, 512, 512), 2, 16),
            "scaling_factor": 1.5305,
            "shift_factor": 0.0609,
            "use_quant_conv": False,
            "use_post_quant_conv": False,
        },
        "text_encoder": _text(768, 12, 12),
        "text_encoder_2": _text(1280, 32, 20),
    },
    1024,
)
MEDIUM = Shape(
    "medium",
    sd1.FAMILY.id,
    {
        "unet": {
            "sample_size": 32,
            "cross_attention_dim": 256,
            "attention_head_dim": 4,
            "layers_per_block": 1,
            "block_out_channels": (128, 256, 384, 384),
        },
        "vae": _vae((32, 64, 64, 64), 1),
        "text_encoder": _text(256, 4, 4),
    },
)
# Of the same make, for `--dry-run`: one step takes milliseconds on a CPU.
TINY = Shape(
    "tiny",
    sd1.FAMILY.id,
    {
        "unet": {
            "sample_size": 8,
            "block_out_channels": (16, 32),
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "attention_head_dim": 2,
            "cross_attention_dim": 32,
        },
        "vae": _vae((8, 8, 8, 8), 1),
        "text_encoder": _text(32, 2, 2),
    },
    64,
    (64, 128),
)
TINY_XL = Shape(
    "tiny XL",
    sdxl.FAMILY.id,
    {
        "unet": {
            **_XL_UNET,
            "sample_size": 8,
            "block_out_channels": (16, 16, 32),
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "transformer_layers_per_block": (1, 1, 1),
            "attention_head_dim": 2,
            "cross_attention_dim": 64,
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 32 + 6 * 8,
        },
        "vae": _vae((8, 8, 8, 8), 1),
        "text_encoder": _text(32, 2, 2),
        "text_encoder_2": _text(32, 2, 2),
    },
    64,
    (64,),
)
BY_NAME = {shape.name: shape for shape in (MEDIUM, SD15, SDXL, SD35_MEDIUM)}
