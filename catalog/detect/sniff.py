"""What a safetensors file is, by its header alone: kind, family, variant, prediction. Its name never counts.

Checkpoints are claimed by their families (`catalog/families/`).
LoRAs are in `lora_headers.py`, ControlNets and adapters in `control_models.py`, upscalers in `upscalers.py`.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from catalog.detect.control_models import sniff_control
from catalog.detect.embedding_names import vector_tensors
from catalog.detect.lora_headers import family_by_metadata, sniff_lora
from catalog.detect.other_models import other_model
from catalog.detect.quantized import other_quantization, without_companions
from catalog.families import (
    FAMILIES,
    KNOWN,
    SHARED_VAE,
    families_that_run,
    latent_channels,
    refused_family,
    vae_family,
)
from catalog.families.family import CheckpointHeader
from catalog.families.ldm_checkpoints import UNET, VARIANTS, is_bare_unet, look_alike, unknown_unet
from catalog.families.sniffed import NotAMatch, Sniffed
from catalog.files.tensor_names import Tensors, has_fragment, has_prefix, has_suffix
from catalog.upscalers import is_upscaler

# A layer of SD's autoencoder, by its original (LDM) or its diffusers name; other autoencoders have more.
_VAE_LAYER = re.compile(
    r"(?:en|de)coder\.(?:conv_in|conv_out|norm_out|conv_norm_out"
    r"|(?:mid\.block_[12]|(?:down|up)\.\d\.block\.\d|(?:mid_block|(?:down|up)_blocks\.\d)\.resnets\.\d)"
    r"\.(?:norm1|norm2|conv1|conv2|nin_shortcut|conv_shortcut)"
    r"|(?:mid\.attn_1|mid_block\.attentions\.0|(?:down|up)\.\d\.attn\.\d)\.[a-z_]+(?:\.0)?"
    r"|(?:down|up)\.\d\.(?:down|up)sample\.conv|(?:down|up)_blocks\.\d\.(?:down|up)samplers\.0\.conv)\.(?:weight|bias)"
)
_EMA = "model_ema.diffusion_model"  # averaged weights, beside the trained ones
_OLD_LORA = re.compile(r"(?:unet|text_encoder):\d+:(?:up|down)")  # of cloneofsimo/lora
_VAE_PREFIXES = ("", "first_stage_model.", "vae.")
_TEXT_ENCODERS = (
    "text_model.embeddings.token_embedding.weight",
    "transformer.resblocks.0.attn.in_proj_weight",
    "encoder.block.0.layer.0.SelfAttention.q.weight",
    "model.embed_tokens.weight",
)
_IMAGE_ENCODERS = ("vision_model.embeddings.class_embedding", "visual.class_embedding")
_HYPERNETWORK = re.compile(r"(\d{1,6})\.[01kv]\.linear\.\d+\.(?:weight|bias)")
_EMBEDDING_KEYS = frozenset({"clip_l", "text_encoders_0", "emb_params", "string_to_param.*"})
_MOST_TABLES = 8  # vectors for each text encoder, and what trainers keep beside them
_MOST_VECTORS = 256


def sniff(tensors: Tensors, metadata: Mapping[str, str] = MappingProxyType({})) -> Sniffed:
    """What a file with this header is; kind None for what is no model by itself, `detail` says what it may be."""
    quantization = other_quantization(tensors)
    tensors = without_companions(tensors)
    if not tensors:
        return Sniffed(None)
    found = (
        sniff_control(tensors)
        or sniff_lora(tensors, metadata)
        or _sniff_checkpoint(tensors, metadata)
        or _sniff_vae(tensors)
        or _sniff_embedding(tensors, metadata)
        or _sniff_hypernetwork(tensors)
    )
    if found is None and is_upscaler(tensors):
        found = Sniffed("upscaler", "upscaler")
    if found is None:
        # No model by itself; what it is, where that is known.
        detail = f"weights kept as {quantization}" if quantization else ""
        if any(_OLD_LORA.fullmatch(name) for name in tensors):
            detail = "a LoRA in the form of 2022 (cloneofsimo/lora), whose layers have no names"
        if has_fragment(tensors, ".motion_modules."):
            detail = "a motion module"
        if has_suffix(tensors, *_TEXT_ENCODERS):
            detail = "a text encoder"
        if has_suffix(tensors, *_IMAGE_ENCODERS):
            detail = "an image encoder"
        return Sniffed(None, detail=detail)
    if quantization and found.kind not in (None, "embedding", "hypernetwork") and not found.problem:
        return replace(
            found,
            problem=f"Its weights are {quantization}, which Darkroom can't read.",
            hint="Use an fp16, bf16, fp8, GGUF (Q2_K to Q8_0) or NF4 version of it.",
        )
    return found


def _sniff_checkpoint(tensors: Tensors, metadata: Mapping[str, str]) -> Sniffed | None:
    """A checkpoint, whole or its U-Net or transformer alone: each family is asked whether it is its own."""
    is_bare = not has_prefix(tensors, UNET)
    denoiser = tensors
    if not is_bare:
        denoiser = {name.removeprefix(UNET): info for name, info in tensors.items() if name.startswith(UNET)}
    elif has_fragment(tensors, ".motion_modules."):
        return None
    encoders = [encoder.key_prefix for family in KNOWN.values() for encoder in family.text_encoders]
    header = CheckpointHeader(
        tensors,
        metadata,
        denoiser,
        is_bare,
        known_widths=frozenset(family.unet.prompt_width for family in KNOWN.values() if family.unet is not None),
        encoder_prefixes=frozenset(prefix for prefix in encoders if has_prefix(tensors, prefix)),
    )
    other = other_model(tensors)
    for family in KNOWN.values():
        if other and family.unet is not None:
            continue  # a look-alike that has a name of its own
        try:
            found = family.claim(family, header)
        except NotAMatch:
            continue
        return found if family.runs or found.problem else refused_family("checkpoint", family.id, found.detail)
    if is_bare:
        if other:
            return _refused(other)
        if has_prefix(tensors, _EMA):
            return Sniffed(
                "checkpoint",
                "unknown",
                detail="EMA weights",
                problem="It holds a training's averaged (EMA) weights alone, whose names don't show their layers.",
                hint="Use the version of it that is pruned to these weights.",
            )
        return unknown_unet() if is_bare_unet(tensors) else None
    first = denoiser.get("input_blocks.0.0.weight")
    if first is None or len(first.shape) != 4:
        return _refused(other or "a diffusion model of a kind that is not known")
    other = look_alike(tensors, denoiser)
    if other:
        return _refused(other)
    if first.shape[1] not in VARIANTS:
        return Sniffed(
            "checkpoint",
            problem=f"Its U-Net takes {first.shape[1]} channels; known are 4 (text), "
            "9 (inpainting), 8 (editing) and 5 (depth).",
            hint="Use another checkpoint.",
        )
    return refused_family("checkpoint", "unknown")


def _refused(what: str) -> Sniffed:
    return Sniffed(
        "checkpoint",
        "unknown",
        detail=what,
        problem=f"It is {what}, which Darkroom can't run.",
        hint=f"Use an {families_that_run()} checkpoint.",
    )


def _sniff_vae(tensors: Tensors) -> Sniffed | None:
    if "quantize.embedding.weight" in tensors:
        return None
    for prefix in _VAE_PREFIXES:
        decoder_in = tensors.get(f"{prefix}decoder.conv_in.weight")
        encoder_in = tensors.get(f"{prefix}encoder.conv_in.weight")
        if decoder_in is not None and encoder_in is not None:
            break
    else:
        return None
    for name in tensors:
        layer = name.removeprefix(prefix)
        is_autoencoder = name.startswith(prefix) and layer.startswith(("encoder.", "decoder."))
        if is_autoencoder and not _VAE_LAYER.fullmatch(layer):
            return None
    if len(decoder_in.shape) != 4 or len(encoder_in.shape) != 4 or encoder_in.shape[1] != 3:
        return None
    channels = decoder_in.shape[1]
    family = vae_family(None, channels)
    if family is not None:
        # Those of families that are not run may have as many: the file doesn't tell.
        alike = [other.label for other in KNOWN.values() if other.latents.channels == channels]
        is_open = family != SHARED_VAE and len(alike) > 1
        return Sniffed("vae", family, detail=f"for {' or '.join(alike)}" if is_open else "")
    problem = f"It has {channels} latent channels; {' or '.join(map(str, latent_channels()))} are supported."
    return Sniffed("vae", problem=problem, hint="Use another VAE.")


def _sniff_embedding(tensors: Tensors, metadata: Mapping[str, str]) -> Sniffed | None:
    """Textual inversion: a few vectors of a text encoder's width."""
    names = vector_tensors(tensors)
    if not names or len(tensors) > _MOST_TABLES:
        return None
    by_key = [family for family in KNOWN.values() if family.embedding_keys & tensors.keys()]
    if by_key and not by_key[-1].runs:
        return refused_family("embedding", by_key[-1].id)
    for name in names:
        info = tensors[name]
        is_float = info.dtype.startswith(("F", "BF"))
        if len(info.shape) not in (1, 2) or not is_float:
            return None
        count = info.shape[0] if len(info.shape) == 2 else 1
        if not 1 <= count <= _MOST_VECTORS:
            return None
    width = tensors[names[0]].shape[-1]
    by_width = [family for family in FAMILIES.values() if family.embedding_width == width]
    if len(tensors) == 1 and names[0] not in _EMBEDDING_KEYS and not by_key:
        is_module = "." in names[0].rstrip(".") and not names[0].startswith("<")
        if is_module or not by_width:
            return None
    if len(names) > 1:
        found = by_key[-1:] or [family for family in FAMILIES.values() if len(family.text_encoders) > 1]
    else:
        found = by_key or by_width
    return Sniffed("embedding", found[0].id if found else family_by_metadata(metadata) or "unknown")


def _sniff_hypernetwork(tensors: Tensors) -> Sniffed | None:
    """A1111's, converted: width of the layers it sits before, keys or values, layer."""
    widths = set()
    for name in tensors:
        match = _HYPERNETWORK.fullmatch(name)
        if match is None:
            return None
        widths.add(int(match[1]))
    # Widths of families that don't run are widths of the others' layers too.
    for family in FAMILIES.values():
        if family.unet is not None and not family.refines and family.unet.prompt_width in widths:
            return Sniffed("hypernetwork", family.id)
    return Sniffed("hypernetwork", "unknown")
