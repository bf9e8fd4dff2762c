"""Maps the keys of LDM (original) checkpoints to diffusers' and transformers', for each component of a single file.

For U-Net, VAE and ControlNet diffusers' own converters do it, with names in place of tensors. A key that they skip
keeps its name, so that matching it with a layout reports it. Shapes are in `infer_config.py`.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from diffusers.loaders.single_file_utils import (
    convert_controlnet_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)

from engine.weights.reading import TensorSlice

Names = Collection[str]
Slices = dict[str, TensorSlice]  # by diffusers' name
UNET = "model.diffusion_model."
VAE = "first_stage_model."
_VAE_FILE_PREFIXES = (VAE, "vae.", "")  # of files that hold only a VAE
_VAE_MODULES = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
_LDM_UNET_MODULES = ("input_blocks.", "middle_block.", "output_blocks.", "out.", "time_embed.", "label_emb.")
_UNET_MODULES = (
    "conv_in.",
    "conv_norm_out.",
    "conv_out.",
    "time_embedding.",
    "add_embedding.",
    "down_blocks.",
    "mid_block.",
    "up_blocks.",
)
_XL_ENCODERS = "conditioner.embedders."
_CLIP_MODULES = ("embeddings.", "encoder.", "final_layer_norm.", "text_projection.")
_CONTROLNET_LAYERS = 2  # a block, in all files with original keys
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
    """What passes for a tensor in diffusers' converters: only its name is real."""

    name: str
    shape: tuple[int, ...] = ()


def controlnet_slices(names: Names) -> Slices:
    """Of a file that is a ControlNet, with either naming."""
    converted = convert_controlnet_checkpoint({name: name for name in names}, {"layers_per_block": _CONTROLNET_LAYERS})
    return _with_skipped(names, converted)


def adapter_slices(names: Names) -> Slices:
    """Of a file that is a T2I-Adapter, with either naming."""
    is_light = "conv_in.weight" not in names
    found: Slices = {}
    for name in names:
        new_name = name if name.startswith("adapter.") else _diffusers_adapter_name(name, is_light)
        found[new_name] = TensorSlice(name)
    return found


def _diffusers_adapter_name(name: str, is_light: bool) -> str:
    """Original keys number the layers of all blocks in one row; those of a light adapter have a number per block."""
    module, *rest = name.split(".")
    if module != "body" or len(rest) < 3 or not rest[0].isdigit():
        return f"adapter.{name}"
    number, *inner = rest
    if is_light:
        inner = ["resnets" if step == "body" else step for step in inner]
        return ".".join(["adapter.body", number, *inner])
    block, layer = divmod(int(number), _ADAPTER_LAYERS)
    if inner[0] != "in_conv":
        inner = ["resnets", str(layer), *inner]
    return ".".join(["adapter.body", str(block), *inner])


def unet_slices(names: Names) -> Slices:
    """The U-Net of a checkpoint, or of a file that is one alone, by either naming; nothing where it has none."""
    own = {name: name for name in names if name.startswith(UNET)}
    if not own and "conv_in.weight" in names:
        return {name: TensorSlice(name) for name in names if name.startswith(_UNET_MODULES)}
    if not own and "input_blocks.0.0.weight" in names:
        bare = unet_slices([UNET + name for name in names if name.startswith(_LDM_UNET_MODULES)])
        return {name: replace(one, name=one.name.removeprefix(UNET)) for name, one in bare.items()}
    # Residual blocks before the first downsampling; all of them where there is none.
    blocks = {name[len(UNET) :].split(".")[1] for name in own if name.startswith(f"{UNET}input_blocks.")}
    ends = [len(blocks)]
    for block in blocks:
        if block.isdigit() and f"{UNET}input_blocks.{block}.0.op.weight" in own:
            ends.append(int(block))
    config: dict[str, Any] = {"layers_per_block": max(1, min(ends) - 1)}
    if all(f"{UNET}label_emb.0.{tensor}" in own for tensor in ("0.weight", "0.bias", "2.weight", "2.bias")):
        config["addition_embed_type"] = "text_time"
    return _with_skipped(own, convert_ldm_unet_checkpoint(own, config))


def vae_slices(names: Names, *, is_alone: bool = False) -> Slices:
    """A VAE with original or diffusers' keys; nothing where there is none.

    Args:
        is_alone: The file may have no prefix, because it holds nothing else.
    """
    for prefix in _VAE_FILE_PREFIXES if is_alone else (VAE,):
        modules = tuple(prefix + module for module in _VAE_MODULES)
        own = {name[len(prefix) :]: _Tensor(name) for name in names if name.startswith(modules)}
        if not own:
            continue
        if any(name.startswith(("encoder.down_blocks.", "decoder.up_blocks.")) for name in own):
            return {new_name: TensorSlice(tensor.name) for new_name, tensor in own.items()}
        blocks = range(len({name.split(".")[2] for name in own if name.startswith("decoder.up.")}))
        converted = convert_ldm_vae_checkpoint(own, {"down_block_types": blocks, "up_block_types": blocks})
        return _with_skipped(
            [tensor.name for tensor in own.values()], {new_name: tensor.name for new_name, tensor in converted.items()}
        )
    return {}


def clip_slices(names: Names, prefix: str) -> Slices:
    """A text encoder with transformers' keys. Leaves out logit scale, image tower and the like."""
    found: Slices = {}
    for name in names:
        if name.startswith(prefix):
            new_name = name[len(prefix) :].removeprefix("text_model.")
            if new_name.startswith(_CLIP_MODULES):
                found[new_name] = TensorSlice(name)
            elif new_name == "text_projection" and prefix.startswith(_XL_ENCODERS):
                # stable-diffusion.cpp's, who renames OpenCLIP's; where it came from transformers is not known
                found["text_projection.weight"] = TensorSlice(name, is_transposed=True)
            elif new_name == "text_projection":
                found[new_name] = TensorSlice(name)
    return found


def open_clip_slices(names: Names, prefix: str) -> Slices:
    """A text encoder with OpenCLIP's keys, where q, k and v are one tensor and the projection is transposed."""
    found: Slices = {}
    for name in names:
        if not name.startswith(prefix):
            continue
        rest = name[len(prefix) :]
        if rest in _OPEN_CLIP:
            found[_OPEN_CLIP[rest]] = TensorSlice(name)
        elif rest in ("text_projection", "text_projection.weight"):
            found["text_projection.weight"] = TensorSlice(name, is_transposed=rest == "text_projection")
        elif rest.startswith(_RESBLOCKS):
            found |= _open_clip_layer_slices(rest[len(_RESBLOCKS) :], name)
    return found


def _open_clip_layer_slices(rest: str, name: str) -> Slices:
    number, _, inner = rest.partition(".")
    layer = f"encoder.layers.{number}"
    if inner in ("attn.in_proj_weight", "attn.in_proj_bias"):
        leaf = inner.rpartition("_")[2]
        found: Slices = {}
        for index, letter in enumerate("qkv"):
            found[f"{layer}.self_attn.{letter}_proj.{leaf}"] = TensorSlice(name, share=(index, 3))
        return found
    module, _, leaf = inner.rpartition(".")
    return {f"{layer}.{_OPEN_CLIP_LAYER.get(module, module)}.{leaf}": TensorSlice(name)}


def _with_skipped(names: Iterable[str], converted: Mapping[str, str | None]) -> Slices:
    """What a converter gave, and under its own name what it skipped."""
    slices: Slices = {}
    seen = set()
    for new_name, converted_from in converted.items():
        if converted_from is not None:
            slices[new_name] = TensorSlice(converted_from)
            seen.add(converted_from)
    for name in names:
        if name not in seen:
            slices[name] = TensorSlice(name)
    return slices
