"""Files of the published shapes give the published configurations; no numbers are needed for that."""

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, DPTForDepthEstimation

from catalog.families import FAMILIES
from catalog.files.headers import TensorInfo
from engine.checkpoints.infer_config import layers_read, text_config, text_layers, unet_config, vae_config
from engine.checkpoints.key_maps import clip_slices, open_clip_slices, unet_slices, vae_slices
from engine.checkpoints.midas import midas_config, midas_slices
from engine.families.depth import build_estimator
from tests.support import tiny_files

PUBLISHED: dict[str, dict[str, Any]] = {
    "sd1": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "sd2": {
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
        "upcast_attention": True,
    },
    "sdxl": {
        "block_out_channels": (320, 640, 1280),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}
# Distilled from SDXL, with fewer layers.
PUBLISHED["sdxl, SSD-1B"] = PUBLISHED["sdxl"] | {
    "transformer_layers_per_block": (1, [2, 2], [4, 4]),
    "reverse_transformer_layers_per_block": ([4, 4, 10], [2, 1, 1], 1),
    "mid_block_type": "UNetMidBlock2D",
}
PUBLISHED["sdxl, Vega"] = PUBLISHED["sdxl"] | {
    "transformer_layers_per_block": (1, 1, 2),
    "mid_block_type": "UNetMidBlock2D",
}
PUBLISHED["sdxl_refiner"] = PUBLISHED["sdxl"] | {
    "block_out_channels": (384, 768, 1536, 1536),
    "attention_head_dim": (6, 12, 24, 24),
    "cross_attention_dim": 1280,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 4, 4, 4),
    "projection_class_embeddings_input_dim": 2560,
}
Shapes = dict[str, tuple[int, ...]]


def shapes_of(tensors: dict[str, Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def on_meta(make: Any, *arguments: object, **config: object) -> nn.Module:
    with torch.device("meta"):
        return make(*arguments, **config)


@pytest.mark.parametrize(
    ("family", "channels"),
    [  # other channels change only the first layer
        *((family, 4) for family in PUBLISHED),
        ("sd1", 9),
        ("sd1", 8),
        ("sd1", 5),
    ],
)
def test_a_unet(family: str, channels: int) -> None:
    net = on_meta(UNet2DConditionModel, in_channels=channels, **PUBLISHED[family])
    theirs = tiny_files.original_unet(net.state_dict())
    slices = unet_slices(theirs)
    found = {ours: tuple(theirs[piece.name].shape) for ours, piece in slices.items()}
    assert found == shapes_of(net.state_dict())
    again = on_meta(UNet2DConditionModel, **unet_config(found, FAMILIES[family.partition(",")[0]].unet))
    assert shapes_of(again.state_dict()) == found
    for name in ("in_channels", "out_channels", "block_out_channels", *PUBLISHED[family]):
        ours, expected = again.config[name], net.config[name]
        assert ours == expected or tuple(ours) == tuple(expected), name


@pytest.mark.parametrize(("family", "scale"), [("sd1", 0.18215), ("sdxl", 0.13025)])
def test_a_vae(family: str, scale: float) -> None:
    net = on_meta(
        AutoencoderKL,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    theirs = tiny_files.original_vae(net.state_dict(), "first_stage_model.")
    slices = vae_slices(theirs)
    assert slices.keys() == net.state_dict().keys()
    found = {ours: tuple(theirs[piece.name].shape) for ours, piece in slices.items()}
    again = on_meta(AutoencoderKL, **vae_config(found, FAMILIES[family].latents))
    assert shapes_of(again.state_dict()) == shapes_of(net.state_dict())
    assert again.config["scaling_factor"] == scale


@pytest.mark.parametrize(
    ("width", "layers", "heads", "is_open"), [(768, 12, 12, False), (1024, 24, 16, True), (1280, 32, 20, True)]
)
def test_a_text_encoder(width: int, layers: int, heads: int, is_open: bool) -> None:
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        projection_dim=width,
        hidden_act="gelu",
    )
    tensors = on_meta(CLIPTextModelWithProjection, config).state_dict()
    bare = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
    if is_open:
        theirs = tiny_files.open_clip(tensors, "place.model.")
        slices = open_clip_slices(theirs, "place.model.")
        assert slices["text_projection.weight"].is_transposed
        assert slices["encoder.layers.3.self_attn.v_proj.bias"].share == (2, 3)
    else:
        theirs = {f"place.transformer.{name}": tensor for name, tensor in tensors.items()}
        slices = clip_slices({**theirs, "place.transformer.vision_model.x": 0}, "place.transformer.")
    assert slices.keys() == bare.keys()
    shapes = shapes_of(bare)
    assert text_layers(shapes) == layers
    made = text_config(shapes, is_open=is_open, layers=layers)
    expected = {
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "max_position_embeddings": 77,
        "projection_dim": width,
        "hidden_act": "gelu" if is_open else "quick_gelu",
        "eos_token_id": 49407,
    }
    assert {name: made[name] for name in expected} == expected


def test_a_depth_estimator() -> None:
    config = tiny_files.estimator_config(768, 12, [256, 512, 1024], [3, 4, 9], [256, 512, 768, 768], 256)
    net = on_meta(DPTForDepthEstimation, config)
    theirs = tiny_files.original_estimator(net.state_dict(), "depth_model.model.")
    assert {
        "depth_model.model.pretrained.model.blocks.3.attn.qkv.bias",
        "depth_model.model.pretrained.model.patch_embed.backbone.stages.2.blocks.8.conv3.weight",
        "depth_model.model.pretrained.act_postprocess4.4.weight",
        "depth_model.model.scratch.layer4_rn.weight",
        "depth_model.model.scratch.refinenet1.resConfUnit2.conv1.bias",
        "depth_model.model.scratch.output_conv.4.weight",
    } <= theirs.keys()  # as the authors' files have them
    slices = midas_slices(theirs)
    assert slices.keys() == net.state_dict().keys()
    found = {
        ours: piece.cut(TensorInfo("F32", tuple(theirs[piece.name].shape), 0, 4 * theirs[piece.name].numel())).shape
        for ours, piece in slices.items()
    }
    made = midas_config(found)
    again = on_meta(build_estimator, made)
    assert shapes_of(again.state_dict()) == shapes_of(net.state_dict())
    for name in (
        "image_size",
        "backbone_out_indices",
        "neck_hidden_sizes",
        "reassemble_factors",
        "num_attention_heads",
    ):
        assert made[name] == getattr(config, name), name


@pytest.mark.parametrize(("layers", "read"), [(24, 23), (23, 23), (3, 2)])
def test_sd2_reads_the_last_layer_but_one(layers: int, read: int) -> None:
    assert layers_read(layers) == read
