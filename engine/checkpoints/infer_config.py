"""Infers the configurations of models that come without one from the shapes of their tensors (by diffusers' names).

Shapes of another kind of model give a configuration that does not fit them, which is an error when it is loaded.
What shapes can't tell is in the family's declaration: heads, the scale of the latents, which CLIP.
"""

from collections.abc import Mapping
from typing import Any

from catalog.families.family import LatentFormat, T2IAdapterShape, UNet

Shapes = Mapping[str, tuple[int, ...]]
_HEAD_CHANNELS = 64  # of each attention, where a family has no fixed number of heads
_XL_SIZE_CHANNELS = 256  # of each of SDXL's six numbers for the image size
_NORM_GROUPS = 32
_OPEN_CLIP_READ = 23  # of ViT-H's 24 layers: SD 2 was trained on the last but one


def controlnet_config(shapes: Shapes, unet: UNet) -> dict[str, Any]:
    """Of a ControlNet of a U-Net."""
    config = _down_and_mid_config(shapes, unet)
    # The layers that a control image passes first: every second one keeps the number of channels.
    embedding = "controlnet_cond_embedding"
    embedding_channels = [shapes[f"{embedding}.conv_in.weight"][0]]
    for number in range(1, count_children(shapes, f"{embedding}.blocks."), 2):
        embedding_channels.append(shapes[f"{embedding}.blocks.{number}.weight"][0])
    config["conditioning_embedding_out_channels"] = tuple(embedding_channels)
    if "task_embedding" in shapes:
        types, width = shapes["task_embedding"]
        config |= {
            "_class_name": "ControlNetUnionModel",
            "num_control_type": types,
            "num_trans_channel": width,
            "num_proj_channel": config["block_out_channels"][0],
        }
    return config


def adapter_config(shapes: Shapes, adapter: T2IAdapterShape) -> dict[str, Any]:
    """Of a T2I-Adapter."""
    if "adapter.conv_in.weight" not in shapes:
        adapter_type, first_layer, last_layer = "light_adapter", "body.0.in_conv", "out_conv"
    else:
        adapter_type, first_layer, last_layer = adapter.full_type, "conv_in", "resnets.0.block1"
    in_channels = shapes[f"adapter.{first_layer}.weight"][1] // adapter.downscale**2
    blocks = range(count_children(shapes, "adapter.body."))
    channels = [shapes[f"adapter.body.{block}.{last_layer}.weight"][0] for block in blocks]
    if adapter_type == "light_adapter":
        channels.pop()
    return {
        "in_channels": in_channels,
        "channels": channels,
        "adapter_type": adapter_type,
        "num_res_blocks": count_children(shapes, "adapter.body.0.resnets."),
        "downscale_factor": adapter.downscale,
    }


def unet_config(shapes: Shapes, unet: UNet) -> dict[str, Any]:
    """Of a U-Net."""
    config = _down_and_mid_config(shapes, unet)
    up_block_types = [name.replace("Down", "Up") for name in reversed(config["down_block_types"])]
    count = len(config["down_block_types"])
    down = [_attention_depths(shapes, f"down_blocks.{number}") for number in range(count)]
    up = [_attention_depths(shapes, f"up_blocks.{number}") for number in range(count)]
    mirrored = [depths and [depths[0]] * (len(depths) + 1) for depths in reversed(down)]
    if up != mirrored:  # distilled models of fewer layers, as SSD-1B and Segmind-Vega
        config |= {
            "transformer_layers_per_block": [depths or 1 for depths in down],
            "reverse_transformer_layers_per_block": [depths or 1 for depths in up],
        }
    if not _attention_depths(shapes, "mid_block"):
        config["mid_block_type"] = "UNetMidBlock2D"
    return {
        **config,
        "in_channels": shapes["conv_in.weight"][1],
        "out_channels": shapes["conv_out.weight"][0],
        "up_block_types": tuple(up_block_types),
        "upcast_attention": unet.upcasts_attention,
    }


def _down_and_mid_config(shapes: Shapes, unet: UNet) -> dict[str, Any]:
    """What U-Nets and ControlNets share: the down blocks and the mid block."""
    channels = _block_channels(shapes, "down_blocks")
    depths = []
    for number in range(len(channels)):
        depths.append(count_children(shapes, f"down_blocks.{number}.attentions.0.transformer_blocks."))
    down_block_types = ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths]
    # diffusers builds the mid block with the last number.
    depths[-1] = depths[-1] or count_children(shapes, "mid_block.attentions.0.transformer_blocks.")
    cross_attention = (shape[1] for name, shape in shapes.items() if name.endswith("attn2.to_k.weight"))
    projections = (shape for name, shape in shapes.items() if name.endswith("attentions.0.proj_in.weight"))
    config: dict[str, Any] = {
        "block_out_channels": channels,
        "layers_per_block": count_children(shapes, "down_blocks.0.resnets."),
        "down_block_types": tuple(down_block_types),
        "transformer_layers_per_block": tuple(max(1, depth) for depth in depths),
        "attention_head_dim": unet.heads or tuple(max(1, size // _HEAD_CHANNELS) for size in channels),
        "cross_attention_dim": next(cross_attention, 0),
        "use_linear_projection": len(next(projections, ())) == 2,
    }
    if "add_embedding.linear_1.weight" in shapes:
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": _XL_SIZE_CHANNELS,
            "projection_class_embeddings_input_dim": shapes["add_embedding.linear_1.weight"][1],
        }
    return config


def _attention_depths(shapes: Shapes, block: str) -> list[int]:
    """How many transformer blocks each attention of a block has."""
    attentions = range(count_children(shapes, f"{block}.attentions."))
    return [count_children(shapes, f"{block}.attentions.{number}.transformer_blocks.") for number in attentions]


def vae_config(shapes: Shapes, latents: LatentFormat) -> dict[str, Any]:
    """Of a VAE; `latents` are those of the checkpoint, which it decodes."""
    channels = _block_channels(shapes, "encoder.down_blocks")
    shift = {"shift_factor": latents.shift} if latents.shift else {}
    return {
        **shift,
        "block_out_channels": channels,
        "layers_per_block": count_children(shapes, "encoder.down_blocks.0.resnets."),
        "down_block_types": ("DownEncoderBlock2D",) * len(channels),
        "up_block_types": ("UpDecoderBlock2D",) * len(channels),
        "norm_num_groups": _NORM_GROUPS,
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
        "scaling_factor": latents.scale,
        "force_upcast": latents.overflows_half,
    }


def text_config(shapes: Shapes, *, is_open: bool, layers: int) -> dict[str, Any]:
    """Of a text encoder whose names have no `text_model.`.

    Args:
        is_open: OpenCLIP's, which was trained with another activation than OpenAI's.
        layers: How many of its layers are read.
    """
    vocab_size, width = shapes["embeddings.token_embedding.weight"]
    return {
        "vocab_size": vocab_size,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "intermediate_size": shapes["encoder.layers.0.mlp.fc1.weight"][0],
        "num_attention_heads": max(1, width // _HEAD_CHANNELS),
        "max_position_embeddings": shapes["embeddings.position_embedding.weight"][0],
        "projection_dim": shapes.get("text_projection.weight", (width,))[0],
        "hidden_act": "gelu" if is_open else "quick_gelu",
        "bos_token_id": vocab_size - 2,
        "eos_token_id": vocab_size - 1,
        "pad_token_id": 0 if is_open else vocab_size - 1,
    }


def text_layers(shapes: Shapes) -> int:
    """How many layers a text encoder has."""
    return count_children(shapes, "encoder.layers.")


def layers_read(layers: int) -> int:
    """How many layers SD 2 reads of an OpenCLIP encoder; files made from diffusers' folders have only those."""
    return layers if layers == _OPEN_CLIP_READ else layers - 1


def count_children(shapes: Shapes, prefix: str) -> int:
    """How many numbered children a module has."""
    return len({name[len(prefix) :].split(".")[0] for name in shapes if name.startswith(prefix)})


def _block_channels(shapes: Shapes, blocks: str) -> tuple[int, ...]:
    """The output channels of each block."""
    channels = []
    for number in range(count_children(shapes, f"{blocks}.")):
        channels.append(shapes[f"{blocks}.{number}.resnets.0.conv2.weight"][0])
    return tuple(channels)
