"""A ControlNet that is one file without a configuration: names as diffusers has them, configuration from the shapes.

Files come with the names of the first programs (`control_model.input_blocks…`) or with diffusers' own.
"""

from collections.abc import Mapping
from typing import Any

from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint

Shapes = Mapping[str, tuple[int, ...]]
_HEADS = {"sd1": 8}  # heads of every attention; later families have heads of 64 channels
_HEAD_CHANNELS = 64
_LAYERS = 2  # a block, wherever the first programs' names were used
_XL_SIZE_CHANNELS = 256  # of each of the six numbers that SDXL is told of a picture's size


def diffusers_names(shapes: Shapes) -> dict[str, str]:
    """diffusers' name of each tensor -> its name in the file."""
    own = {name: name for name in shapes}
    found = convert_controlnet_checkpoint(own, {"layers_per_block": _LAYERS})
    return {name: theirs for name, theirs in found.items() if theirs is not None}


def controlnet_config(shapes: Shapes, family: str) -> dict[str, Any]:
    """The configuration of a ControlNet whose tensors have these (diffusers') names and shapes.

    Shapes that are no ControlNet's give a configuration that does not fit them, which is told when it is loaded.
    """
    channels = [shapes[name][0] for number in range(len(shapes))
                if (name := f"down_blocks.{number}.resnets.0.conv2.weight") in shapes]
    depths = [_count(shapes, f"down_blocks.{number}.attentions.0.transformer_blocks.")
              for number in range(len(channels))]
    middle = _count(shapes, "mid_block.attentions.0.transformer_blocks.")
    heads = _HEADS.get(family) or tuple(max(1, size // _HEAD_CHANNELS) for size in channels)
    config: dict[str, Any] = {
        "block_out_channels": tuple(channels), "layers_per_block": _count(shapes, "down_blocks.0.resnets."),
        "down_block_types": tuple("CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths),
        "transformer_layers_per_block": tuple(max(1, depth) for depth in [*depths[:-1], depths[-1] or middle]),
        "attention_head_dim": heads, "cross_attention_dim": _width(shapes),
        "use_linear_projection": len(shapes.get("mid_block.attentions.0.proj_in.weight", ())) == 2,
        "conditioning_embedding_out_channels": _picture_channels(shapes)}
    if "add_embedding.linear_1.weight" in shapes:
        config |= {"addition_embed_type": "text_time", "addition_time_embed_dim": _XL_SIZE_CHANNELS,
                   "projection_class_embeddings_input_dim": shapes["add_embedding.linear_1.weight"][1]}
    if "task_embedding" in shapes:
        types, width = shapes["task_embedding"]
        config |= {"_class_name": "ControlNetUnionModel", "num_control_type": types, "num_trans_channel": width,
                   "num_proj_channel": channels[0]}
    return config


def _count(shapes: Shapes, prefix: str) -> int:
    """How many numbered children a module has."""
    return len({name[len(prefix):].split(".")[0] for name in shapes if name.startswith(prefix)})


def _width(shapes: Shapes) -> int:
    return next((shape[1] for name, shape in shapes.items() if name.endswith("attn2.to_k.weight")), 0)


def _picture_channels(shapes: Shapes) -> tuple[int, ...]:
    """Those of the layers that a control picture goes through first; every second one keeps the number."""
    place = "controlnet_cond_embedding"
    pairs = _count(shapes, f"{place}.blocks.") // 2
    first = shapes[f"{place}.conv_in.weight"][0]
    return (first, *(shapes[f"{place}.blocks.{2 * number + 1}.weight"][0] for number in range(pairs)))
