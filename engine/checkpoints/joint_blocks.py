"""SD 3's transformer and its ControlNets by original keys: a table of diffusers' modules; and their configurations.

In original files q, k and v are one tensor, and the last norms have scale and shift the other way round.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from catalog.detect.control_models import TRANSFORMER_CLASS
from engine.checkpoints.infer_config import Shapes, count_children
from engine.checkpoints.key_maps import UNET, Slices
from engine.weights.reading import TensorSlice

_HEAD_CHANNELS = 64
_SAMPLE_SIDE = 128  # latents: of the pictures it was trained on, which only an unused table depends on
# diffusers' module -> the original one, and which third of it.
_WHOLE = -1
_ENDS: Mapping[str, str] = MappingProxyType(
    {
        "pos_embed.proj": "x_embedder.proj",
        "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
        "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
        "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
        "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
        "context_embedder": "context_embedder",
        "norm_out.linear": "final_layer.adaLN_modulation.1",
        "proj_out": "final_layer.linear",
    }
)
_IN_BLOCK: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "attn.to_q": ("x_block.attn.qkv", 0),
        "attn.to_k": ("x_block.attn.qkv", 1),
        "attn.to_v": ("x_block.attn.qkv", 2),
        "attn.add_q_proj": ("context_block.attn.qkv", 0),
        "attn.add_k_proj": ("context_block.attn.qkv", 1),
        "attn.add_v_proj": ("context_block.attn.qkv", 2),
        "attn2.to_q": ("x_block.attn2.qkv", 0),
        "attn2.to_k": ("x_block.attn2.qkv", 1),
        "attn2.to_v": ("x_block.attn2.qkv", 2),
        "attn.norm_q": ("x_block.attn.ln_q", _WHOLE),
        "attn.norm_k": ("x_block.attn.ln_k", _WHOLE),
        "attn.norm_added_q": ("context_block.attn.ln_q", _WHOLE),
        "attn.norm_added_k": ("context_block.attn.ln_k", _WHOLE),
        "attn2.norm_q": ("x_block.attn2.ln_q", _WHOLE),
        "attn2.norm_k": ("x_block.attn2.ln_k", _WHOLE),
        "attn.to_out.0": ("x_block.attn.proj", _WHOLE),
        "attn.to_add_out": ("context_block.attn.proj", _WHOLE),
        "attn2.to_out.0": ("x_block.attn2.proj", _WHOLE),
        "norm1.linear": ("x_block.adaLN_modulation.1", _WHOLE),
        "norm1_context.linear": ("context_block.adaLN_modulation.1", _WHOLE),
        "ff.net.0.proj": ("x_block.mlp.fc1", _WHOLE),
        "ff.net.2": ("x_block.mlp.fc2", _WHOLE),
        "ff_context.net.0.proj": ("context_block.mlp.fc1", _WHOLE),
        "ff_context.net.2": ("context_block.mlp.fc2", _WHOLE),
    }
)


def original_modules(modules: Collection[str]) -> dict[str, tuple[str, TensorSlice]]:
    """The original name of each of the transformer's modules, and which of its rows it has; none are left out."""
    numbers = [int(name.split(".")[1]) for name in modules if name.startswith("transformer_blocks.")]
    found = {}
    for module in modules:
        if module in _ENDS:
            found[module] = _ENDS[module], TensorSlice(_ENDS[module], is_swapped=module == "norm_out.linear")
            continue
        _, number, inner = [*module.split(".", 2), "", ""][:3]
        if inner in _IN_BLOCK:
            original, third = _IN_BLOCK[inner]
            is_swapped = inner == "norm1_context.linear" and int(number) == max(numbers)
            name = f"joint_blocks.{number}.{original}"
            found[module] = (
                name,
                TensorSlice(name, share=(0, 1) if third == _WHOLE else (third, 3), is_swapped=is_swapped),
            )
    return found


def transformer_slices(names: Collection[str]) -> Slices:
    """The transformer of a checkpoint with original or diffusers' keys, with a prefix or without; nothing without one.

    A key that is not known keeps its name, so that matching it with a layout reports it.
    """
    prefix = UNET if any(name.startswith(UNET) for name in names) else ""
    own = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    if "x_embedder.proj.weight" not in own:
        is_diffusers = "pos_embed.proj.weight" in own
        return {name: TensorSlice(prefix + name) for name in own} if is_diffusers else {}
    ends = {original: module for module, original in _ENDS.items()}
    blocks: dict[str, list[tuple[str, int]]] = {}
    for module, (original, third) in _IN_BLOCK.items():
        blocks.setdefault(original, []).append((module, third))
    numbers = [
        int(name.split(".")[1]) for name in own if name.startswith("joint_blocks.") and name.split(".")[1].isdigit()
    ]
    found: Slices = {}
    for name in own:
        if not prefix and not name.startswith(("joint_blocks.", *ends, "pos_embed")):
            continue  # of another component
        module, _, leaf = name.rpartition(".")
        _, number, inner = [*module.split(".", 2), "", ""][:3]
        if name == "pos_embed":
            found["pos_embed.pos_embed"] = TensorSlice(prefix + name)
        elif module in ends:
            is_swapped = ends[module] == "norm_out.linear"
            found[f"{ends[module]}.{leaf}"] = TensorSlice(prefix + name, is_swapped=is_swapped)
        elif module.startswith("joint_blocks.") and inner in blocks:
            is_swapped = inner.startswith("context_block.adaLN") and int(number) == max(numbers)
            for new_module, third in blocks[inner]:
                share = (0, 1) if third == _WHOLE else (third, 3)
                piece = TensorSlice(prefix + name, share=share, is_swapped=is_swapped)
                found[f"transformer_blocks.{number}.{new_module}.{leaf}"] = piece
        else:
            found[name] = TensorSlice(prefix + name)
    return found


def transformer_config(shapes: Shapes) -> dict[str, Any]:
    """The configuration of a transformer whose tensors have these (diffusers') names and shapes.

    Raises:
        KeyError, IndexError, ValueError: it lacks a tensor, or one has a shape that can't be.
    """
    width, channels, patch = shapes["pos_embed.proj.weight"][:3]
    if not patch:
        raise ValueError("a patch of no latents")
    layers = count_children(shapes, "transformer_blocks.")
    dual = [number for number in range(layers) if f"transformer_blocks.{number}.attn2.to_q.weight" in shapes]
    return {
        "sample_size": _SAMPLE_SIDE,
        "patch_size": patch,
        "in_channels": channels,
        "out_channels": shapes["proj_out.weight"][0] // patch**2,
        "num_layers": layers,
        "attention_head_dim": _HEAD_CHANNELS,
        "num_attention_heads": width // _HEAD_CHANNELS,
        "joint_attention_dim": shapes["context_embedder.weight"][1],
        "caption_projection_dim": shapes["context_embedder.weight"][0],
        "pooled_projection_dim": shapes["time_text_embed.text_embedder.linear_1.weight"][1],
        "pos_embed_max_size": round(shapes["pos_embed.pos_embed"][1] ** 0.5),
        "dual_attention_layers": tuple(dual),
        "qk_norm": "rms_norm" if "transformer_blocks.0.attn.norm_q.weight" in shapes else None,
    }


# The same of the blocks of SD 3.5 large's ControlNets, which see no prompt.
_IN_SINGLE_BLOCK: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "attn.to_q": ("attn.qkv", 0),
        "attn.to_k": ("attn.qkv", 1),
        "attn.to_v": ("attn.qkv", 2),
        "attn.to_out.0": ("attn.proj", _WHOLE),
        "ff.net.0.proj": ("mlp.fc1", _WHOLE),
        "ff.net.2": ("mlp.fc2", _WHOLE),
        "norm1.linear": ("adaLN_modulation.1", _WHOLE),
    }
)
_NOT_RUN = ("control_type", "pos_embed.")  # what some files of these have beside the net


def controlnet_slices(names: Collection[str]) -> Slices:
    """A ControlNet with diffusers' keys, or Stability's of SD 3.5 large. A key that is not known keeps its name."""
    if "transformer_blocks.0.attn.qkv.weight" not in names:
        return {name: TensorSlice(name) for name in names}
    found: Slices = {}
    for name in names:
        module, _, leaf = name.rpartition(".")
        _, number, inner = [*module.split(".", 2), "", ""][:3]
        pieces = [(new, third) for new, (original, third) in _IN_SINGLE_BLOCK.items() if original == inner]
        if module.startswith("transformer_blocks.") and pieces:
            for new, third in pieces:
                share = (0, 1) if third == _WHOLE else (third, 3)
                found[f"transformer_blocks.{number}.{new}.{leaf}"] = TensorSlice(name, share=share)
        elif not name.startswith(_NOT_RUN):
            found[name] = TensorSlice(name)
    return found


def controlnet_config(shapes: Shapes) -> dict[str, Any]:
    """The configuration of a ControlNet whose tensors have these (diffusers') names and shapes.

    Raises:
        KeyError, IndexError: it lacks a tensor, or one has too few dimensions.
    """
    width, layers = shapes["controlnet_blocks.0.weight"][0], count_children(shapes, "controlnet_blocks.")
    has_prompt, has_positions = "context_embedder.weight" in shapes, "pos_embed.proj.weight" in shapes
    _, taken, patch = shapes["pos_embed_input.proj.weight"][:3]
    channels = shapes["pos_embed.proj.weight"][1] if has_positions else taken
    dual = [number for number in range(layers) if f"transformer_blocks.{number}.attn2.to_q.weight" in shapes]
    return {
        "_class_name": TRANSFORMER_CLASS,
        "sample_size": _SAMPLE_SIDE,
        "patch_size": patch,
        "in_channels": channels,
        "out_channels": channels,
        "extra_conditioning_channels": taken - channels,
        "num_layers": layers,
        "attention_head_dim": _HEAD_CHANNELS,
        "num_attention_heads": width // _HEAD_CHANNELS,
        "joint_attention_dim": shapes["context_embedder.weight"][1] if has_prompt else None,
        "caption_projection_dim": width,
        "pooled_projection_dim": shapes["time_text_embed.text_embedder.linear_1.weight"][1],
        "pos_embed_max_size": round(shapes["pos_embed.pos_embed"][1] ** 0.5) if has_positions else None,
        "pos_embed_type": "sincos" if has_positions else None,
        "use_pos_embed": has_positions,
        "dual_attention_layers": tuple(dual),
        "qk_norm": "rms_norm" if "transformer_blocks.0.attn.norm_q.weight" in shapes else None,
        # Those that see the prompt, InstantX's and what is made like them, were trained without its pooled embeds.
        "force_zeros_for_pooled_projection": has_prompt,
    }
