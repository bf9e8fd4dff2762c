"""Configurations of models that come without one, from the shapes of their tensors (by diffusers' names).

Shapes that are no such model's give a configuration that does not fit them, which is told when it is loaded.
What shapes can't say follows from the family: heads, scale of the latents, which CLIP.
"""

from collections.abc import Mapping
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]
_HEADS = {"sd1": 8}  # heads of every attention; later families have heads of 64 channels
_HEAD_CHANNELS = 64
_XL_SIZE_CHANNELS = 256  # of each of the six numbers that SDXL is told of a picture's size
_LATENT_SCALES = {"sdxl": 0.13025}
_LATENT_SCALE = 0.18215
_NORM_GROUPS = 32
_ADAPTER_FOLDS: Mapping[str, int] = {"sd1": 8, "sdxl": 16}  # pixels of a side that the first layer sees at a place
_OPEN_CLIP_READ = 23  # of ViT-H's 24 layers: SD 2 was trained on the last but one


def controlnet_config(shapes: Shapes, family: str) -> dict[str, Any]:
    """Of a ControlNet."""
    config = {**_net_config(shapes, family), "conditioning_embedding_out_channels": _picture_channels(shapes)}
    if "task_embedding" in shapes:
        types, width = shapes["task_embedding"]
        config |= {
            "_class_name": "ControlNetUnionModel",
            "num_control_type": types,
            "num_trans_channel": width,
            "num_proj_channel": config["block_out_channels"][0],
        }
    return config


def adapter_config(shapes: Shapes, family: str) -> dict[str, Any]:
    """Of a T2I-Adapter."""
    fold = _ADAPTER_FOLDS[family]
    is_light = "adapter.conv_in.weight" not in shapes
    first = shapes["adapter.body.0.in_conv.weight" if is_light else "adapter.conv_in.weight"]
    last = "out_conv" if is_light else "resnets.0.block1"
    blocks = [shapes[f"adapter.body.{number}.{last}.weight"][0] for number in range(_count(shapes, "adapter.body."))]
    kind = "light_adapter" if is_light else "full_adapter_xl" if family == "sdxl" else "full_adapter"
    return {
        "in_channels": first[1] // fold**2,
        "channels": blocks[:-1] if is_light else blocks,
        "adapter_type": kind,
        "num_res_blocks": _count(shapes, "adapter.body.0.resnets."),
        "downscale_factor": fold,
    }


def unet_config(shapes: Shapes, family: str) -> dict[str, Any]:
    """Of a U-Net."""
    config = _net_config(shapes, family)
    rising = ["CrossAttnUpBlock2D" if "CrossAttn" in block else "UpBlock2D" for block in config["down_block_types"]]
    return {
        **config,
        "in_channels": shapes["conv_in.weight"][1],
        "out_channels": shapes["conv_out.weight"][0],
        "up_block_types": tuple(reversed(rising)),
        "upcast_attention": family == "sd2",
    }


def _net_config(shapes: Shapes, family: str) -> dict[str, Any]:
    """What U-Nets and ControlNets share: the way down and the middle."""
    channels = _channels(shapes, "down_blocks")
    depths = [
        _count(shapes, f"down_blocks.{number}.attentions.0.transformer_blocks.") for number in range(len(channels))
    ]
    middle = _count(shapes, "mid_block.attentions.0.transformer_blocks.")
    config: dict[str, Any] = {
        "block_out_channels": channels,
        "layers_per_block": _count(shapes, "down_blocks.0.resnets."),
        "down_block_types": tuple("CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths),
        "transformer_layers_per_block": tuple(max(1, depth) for depth in [*depths[:-1], depths[-1] or middle]),
        "attention_head_dim": _HEADS.get(family) or tuple(max(1, size // _HEAD_CHANNELS) for size in channels),
        "cross_attention_dim": _width(shapes),
        "use_linear_projection": len(shapes.get("mid_block.attentions.0.proj_in.weight", ())) == 2,
    }
    if "add_embedding.linear_1.weight" in shapes:
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": _XL_SIZE_CHANNELS,
            "projection_class_embeddings_input_dim": shapes["add_embedding.linear_1.weight"][1],
        }
    return config


def vae_config(shapes: Shapes, family: str) -> dict[str, Any]:
    """Of a VAE; `family` is the checkpoint's, whose latents it is to read."""
    channels = _channels(shapes, "encoder.down_blocks")
    return {
        "block_out_channels": channels,
        "layers_per_block": _count(shapes, "encoder.down_blocks.0.resnets."),
        "down_block_types": ("DownEncoderBlock2D",) * len(channels),
        "up_block_types": ("UpDecoderBlock2D",) * len(channels),
        "norm_num_groups": _NORM_GROUPS,
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
        "scaling_factor": _LATENT_SCALES.get(family, _LATENT_SCALE),
        "force_upcast": family == "sdxl",
    }


def text_config(shapes: Shapes, *, is_open: bool, layers: int) -> dict[str, Any]:
    """Of a text encoder whose names have no `text_model.`.

    Args:
        is_open: OpenCLIP's, which was trained with another activation than OpenAI's.
        layers: How many of its layers are read.
    """
    words, width = shapes["embeddings.token_embedding.weight"]
    return {
        "vocab_size": words,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "intermediate_size": shapes["encoder.layers.0.mlp.fc1.weight"][0],
        "num_attention_heads": max(1, width // _HEAD_CHANNELS),
        "max_position_embeddings": shapes["embeddings.position_embedding.weight"][0],
        "projection_dim": shapes.get("text_projection.weight", (width,))[0],
        "hidden_act": "gelu" if is_open else "quick_gelu",
        "bos_token_id": words - 2,
        "eos_token_id": words - 1,
        "pad_token_id": 0 if is_open else words - 1,
    }


def text_layers(shapes: Shapes) -> int:
    """How many layers a text encoder has."""
    return _count(shapes, "encoder.layers.")


def layers_read(layers: int) -> int:
    """How many SD 2 reads of an OpenCLIP encoder; files made of diffusers' folders have no more than those."""
    return layers if layers == _OPEN_CLIP_READ else layers - 1


def _channels(shapes: Shapes, place: str) -> tuple[int, ...]:
    """Those that each block gives."""
    names = (f"{place}.{number}.resnets.0.conv2.weight" for number in range(_count(shapes, f"{place}.")))
    return tuple(shapes[name][0] for name in names)


def _count(shapes: Shapes, prefix: str) -> int:
    """How many numbered children a module has."""
    return len({name[len(prefix) :].split(".")[0] for name in shapes if name.startswith(prefix)})


def _width(shapes: Shapes) -> int:
    return next((shape[1] for name, shape in shapes.items() if name.endswith("attn2.to_k.weight")), 0)


def _picture_channels(shapes: Shapes) -> tuple[int, ...]:
    """Those of the layers that a control picture goes through first; every second one keeps the number."""
    place = "controlnet_cond_embedding"
    pairs = _count(shapes, f"{place}.blocks.") // 2
    first = shapes[f"{place}.conv_in.weight"][0]
    return (first, *(shapes[f"{place}.blocks.{2 * number + 1}.weight"][0] for number in range(pairs)))
