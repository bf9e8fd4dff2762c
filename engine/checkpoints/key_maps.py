"""Names that the first programs gave to tensors -> diffusers' and transformers', for each part of a single file.

For U-Net, VAE and ControlNet diffusers' own converters are asked, with names in place of tensors. What they pass
over keeps its name, so that matching it with a layout tells of it. Shapes are `infer_config.py`'s.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from diffusers.loaders.single_file_utils import (
    convert_controlnet_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)

from engine.weights.reading import TensorSlice

Names = Collection[str]
Pieces = dict[str, TensorSlice]
UNET = "model.diffusion_model."
VAE = "first_stage_model."
_VAE_PREFIXES = (VAE, "vae.", "")  # of files that hold nothing else
_VAE_PLACES = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
_CLIP_PLACES = ("embeddings.", "encoder.", "final_layer_norm.")
_CONTROLNET_LAYERS = 2  # a block, wherever the first programs' names were used
_ADAPTER_LAYERS = 2  # the same of T2I-Adapters that are not light
_OPEN_CLIP = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_OPEN_CLIP_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_RESBLOCKS = "transformer.resblocks."


@dataclass(frozen=True, slots=True)
class _Tensor:
    """What diffusers' converters take for a tensor: only its name is real."""

    name: str
    shape: tuple[int, ...] = ()


def controlnet_slices(names: Names) -> Pieces:
    """Of a file that is a ControlNet, whichever names it has."""
    own = {name: name for name in names}
    return _all_of(own.values(), convert_controlnet_checkpoint(dict(own), {"layers_per_block": _CONTROLNET_LAYERS}))


def adapter_slices(names: Names) -> Pieces:
    """Of a file that is a T2I-Adapter, whichever names it has.

    The first program numbers the layers of all blocks in one row, a light adapter's blocks and their layers apart.
    """
    is_light = "conv_in.weight" not in names
    return {name if name.startswith("adapter.") else _of_adapter(name, is_light): TensorSlice(name) for name in names}


def _of_adapter(name: str, is_light: bool) -> str:
    steps = name.split(".")
    if steps[0] != "body" or len(steps) < 4 or not steps[1].isdigit():
        return f"adapter.{name}"
    if is_light:
        return ".".join(["adapter", *steps[:2], *("resnets" if step == "body" else step for step in steps[2:])])
    block, layer = divmod(int(steps[1]), _ADAPTER_LAYERS)
    inner = steps[2:] if steps[2] == "in_conv" else ["resnets", str(layer), *steps[2:]]
    return ".".join(["adapter", "body", str(block), *inner])


def unet_slices(names: Names) -> Pieces:
    """The U-Net of a checkpoint; nothing where it has none."""
    own = {name: name for name in names if name.startswith(UNET)}
    config: dict[str, Any] = {"layers_per_block": _layers(own)}
    if all(f"{UNET}label_emb.0.{layer}.{leaf}" in own for layer in (0, 2) for leaf in ("weight", "bias")):
        config["addition_embed_type"] = "text_time"
    return _all_of(own.values(), convert_ldm_unet_checkpoint(own, config))


def vae_slices(names: Names, *, is_alone: bool = False) -> Pieces:
    """A VAE with the first programs' or diffusers' names; nothing where there is none.

    Args:
        is_alone: The file may have no prefix, because it holds nothing else.
    """
    for prefix in _VAE_PREFIXES if is_alone else (VAE,):
        places = tuple(prefix + place for place in _VAE_PLACES)
        own = {name[len(prefix) :]: _Tensor(name) for name in names if name.startswith(places)}
        if any(name.startswith(("encoder.down_blocks.", "decoder.up_blocks.")) for name in own):
            return {ours: TensorSlice(tensor.name) for ours, tensor in own.items()}
        if own:
            levels = range(len({name.split(".")[2] for name in own if name.startswith("decoder.up.")}))
            found = convert_ldm_vae_checkpoint(own, {"down_block_types": levels, "up_block_types": levels})
            named = {ours: tensor.name for ours, tensor in found.items()}
            return _all_of([tensor.name for tensor in own.values()], named)
    return {}


def clip_slices(names: Names, prefix: str) -> Pieces:
    """A text encoder with transformers' names. Logit scale, picture tower and the like are none of it."""
    rest = {name[len(prefix) :].removeprefix("text_model."): name for name in names if name.startswith(prefix)}
    wanted = (*_CLIP_PLACES, "text_projection.")
    return {ours: TensorSlice(name) for ours, name in rest.items() if ours.startswith(wanted)}


def open_clip_slices(names: Names, prefix: str) -> Pieces:
    """A text encoder with OpenCLIP's names, where q, k and v are one tensor and the projection is turned."""
    found: Pieces = {}
    for name in names:
        if not name.startswith(prefix):
            continue
        rest = name[len(prefix) :]
        if rest in _OPEN_CLIP:
            found[_OPEN_CLIP[rest]] = TensorSlice(name)
        elif rest in ("text_projection", "text_projection.weight"):
            found["text_projection.weight"] = TensorSlice(name, is_transposed=rest == "text_projection")
        elif rest.startswith(_RESBLOCKS):
            found |= _of_resblock(rest[len(_RESBLOCKS) :], name)
    return found


def _of_resblock(rest: str, name: str) -> Pieces:
    number, _, inner = rest.partition(".")
    layer = f"encoder.layers.{number}"
    if inner in ("attn.in_proj_weight", "attn.in_proj_bias"):
        leaf = inner.rpartition("_")[2]
        return {
            f"{layer}.self_attn.{letter}_proj.{leaf}": TensorSlice(name, share=(index, 3))
            for index, letter in enumerate("qkv")
        }
    module, _, leaf = inner.rpartition(".")
    return {f"{layer}.{_OPEN_CLIP_LAYER.get(module, module)}.{leaf}": TensorSlice(name)}


def _layers(own: Mapping[str, str]) -> int:
    """Residual blocks before the first halving; all of them where there is none."""
    places = {name[len(UNET) :].split(".")[1] for name in own if name.startswith(f"{UNET}input_blocks.")}
    halvings = [int(place) for place in places if place.isdigit() and f"{UNET}input_blocks.{place}.0.op.weight" in own]
    return max(1, min([*halvings, len(places)]) - 1)


def _all_of(names: Iterable[str], found: Mapping[str, str | None]) -> Pieces:
    """What a converter found, and under its own name what it passed over."""
    slices = {ours: TensorSlice(name) for ours, name in found.items() if name is not None}
    seen = {piece.name for piece in slices.values()}
    return slices | {name: TensorSlice(name) for name in names if name not in seen}
