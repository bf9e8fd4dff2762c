"""What a safetensors file is, told by its header alone: kind, family, variant, prediction. Never by its name.

Names and shapes of tensors decide; metadata only where they leave it open. Widths are believed where they are a
family's, and structure speaks where they are not, so that small models of the same build are told too.
LoRAs are in `lora_headers.py`, ControlNets and adapters in `control_models.py`, upscalers in `upscalers.py`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from catalog.detect.control_models import sniff_control
from catalog.detect.embedding_names import tables_of
from catalog.detect.lora_headers import sniff_lora, told_family
from catalog.detect.other_models import other_model
from catalog.detect.quantized import other_quantization, without_companions
from catalog.detect.sniffed import REFUSED_FAMILIES, WIDTHS, Sniffed, refused_family
from catalog.families import usual_prediction
from catalog.files.headers import TensorInfo
from catalog.upscalers import is_upscaler

Tensors = Mapping[str, TensorInfo]
UNET = "model.diffusion_model."  # where the first programs' files have the U-Net
VARIANTS: Mapping[int, str] = MappingProxyType({4: "text", 9: "inpaint", 8: "edit", 5: "depth"})
# A layer of SD's autoencoder, as the first programs and as diffusers name it; others have more.
_VAE_LAYER = re.compile(
    r"(?:en|de)coder\.(?:conv_in|conv_out|norm_out|conv_norm_out"
    r"|(?:mid\.block_[12]|(?:down|up)\.\d\.block\.\d|(?:mid_block|(?:down|up)_blocks\.\d)\.resnets\.\d)"
    r"\.(?:norm1|norm2|conv1|conv2|nin_shortcut|conv_shortcut)"
    r"|(?:mid\.attn_1|mid_block\.attentions\.0|(?:down|up)\.\d\.attn\.\d)\.[a-z_]+(?:\.0)?"
    r"|(?:down|up)\.\d\.(?:down|up)sample\.conv|(?:down|up)_blocks\.\d\.(?:down|up)samplers\.0\.conv)\.(?:weight|bias)"
)
_OLD_LORA = re.compile(r"(?:unet|text_encoder):\d+:(?:up|down)")  # of cloneofsimo/lora
_VAE_PLACES = ("", "first_stage_model.", "vae.")
_TEXT_ENCODERS = (
    "text_model.embeddings.token_embedding.weight",
    "transformer.resblocks.0.attn.in_proj_weight",
    "encoder.block.0.layer.0.SelfAttention.q.weight",
    "model.embed_tokens.weight",
)
_IMAGE_ENCODERS = ("vision_model.embeddings.class_embedding", "visual.class_embedding")
_HYPERNETWORK = re.compile(r"(\d{1,6})\.[01kv]\.linear\.\d+\.(?:weight|bias)")
_SECOND_KEYS = frozenset({"clip_g", "text_encoders_1"})
_EMBEDDING_KEYS = frozenset({"clip_l", "t5xxl", "text_encoders_0", "emb_params", "string_to_param.*"}) | _SECOND_KEYS
_MOST_TABLES = 8  # vectors for each text encoder, and what trainers keep beside them
_MOST_VECTORS = 256
_WHOLE = "Use a checkpoint that is whole."


def sniff(tensors: Tensors, metadata: Mapping[str, str] = MappingProxyType({})) -> Sniffed:
    """What a file with this header is; kind None for what is no model by itself, `detail` says what it may be."""
    quantization = other_quantization(tensors)
    tensors = without_companions(tensors)
    if not tensors:
        return Sniffed(None)
    found = _kind_of(tensors, metadata)
    if quantization and found.kind not in (None, "embedding", "hypernetwork") and not found.problem:
        return replace(
            found,
            problem=f"Its weights are {quantization}, which Darkroom can't read.",
            hint="Use an fp16, bf16 or fp8 version of it.",
        )
    return found


def _kind_of(tensors: Tensors, metadata: Mapping[str, str]) -> Sniffed:
    found = (
        sniff_control(tensors)
        or sniff_lora(tensors, metadata)
        or _checkpoint(tensors, metadata)
        or _bare_model(tensors)
        or _vae(tensors)
        or _embedding(tensors, metadata)
        or _hypernetwork(tensors)
    )
    if found is not None:
        return found
    if is_upscaler(tensors):
        return Sniffed("upscaler", "upscaler")
    return Sniffed(None, detail=_other(tensors))


def _has(tensors: Iterable[str], *prefixes: str) -> bool:
    return any(name.startswith(prefixes) for name in tensors)


# Checkpoints


def _checkpoint(tensors: Tensors, metadata: Mapping[str, str]) -> Sniffed | None:
    """A file with the names of the first programs, which all single-file checkpoints have."""
    if not _has(tensors, UNET):
        return None
    unet = {name.removeprefix(UNET): info for name, info in tensors.items() if name.startswith(UNET)}
    if transformer := _transformer(unet):
        return transformer
    first = unet.get("input_blocks.0.0.weight")
    if first is None or len(first.shape) != 4:
        return _refused("unknown", other_model(tensors) or "a diffusion model of a kind that is not known")
    other = _other_unet(tensors, unet)
    if other:
        return _refused("unknown", other)
    channels = first.shape[1]
    if channels not in VARIANTS:
        return Sniffed(
            "checkpoint",
            problem=f"Its U-Net takes {channels} channels; known are 4 (text), "
            "9 (inpainting), 8 (editing) and 5 (depth).",
            hint="Use another checkpoint.",
        )
    family = _unet_family(tensors, unet)
    if family in REFUSED_FAMILIES or family == "unknown":
        return refused_family("checkpoint", family)
    prediction, zero_snr = prediction_of(tensors, metadata)
    # Only what predicts velocity has something to predict where there is no signal.
    zero_snr = zero_snr and (prediction or usual_prediction(family, VARIANTS[channels])) == "v_prediction"
    has_vae = "first_stage_model.decoder.conv_in.weight" in tensors
    problem = _missing(tensors, family, has_vae) or (
        "It predicts in EDM's way, which is not run here." if prediction == "edm" else ""
    )
    return Sniffed(
        "checkpoint",
        family,
        VARIANTS[channels],
        prediction,
        zero_snr,
        has_vae,
        problem=problem,
        hint=_WHOLE if problem else "",
    )


def _refused(family: str, what: str) -> Sniffed:
    return Sniffed(
        "checkpoint",
        family,
        detail=what,
        problem=f"It is {what}, which Darkroom can't run.",
        hint="Use an SD 1.x, SD 2.x or SDXL checkpoint.",
    )


def _other_unet(tensors: Tensors, unet: Tensors) -> str:
    """What a U-Net is that looks like one of ours and is not."""
    if any(".time_stack." in name or ".time_mixer." in name for name in unet):
        return "a video model"
    if "cc_projection.weight" in tensors:
        return "a model of turned views (Zero123)"
    if "label_emb.0.0.weight" in unet and (_has(tensors, "cond_stage_model.") or _width(unet) == 1024):
        return "SD 2.x unCLIP"
    if "label_emb.weight" in unet:
        return "an upscaling model (SD x4)"
    return ""


def _unet_family(tensors: Tensors, unet: Tensors) -> str:
    width = WIDTHS.get(_width(unet))
    if "label_emb.0.0.weight" in unet:
        has_first = _has(tensors, "conditioner.embedders.0.transformer.", "conditioner.embedders.1.")
        is_refiner = width == "sdxl_refiner" or (not has_first and _has(tensors, "conditioner.embedders.0.model."))
        return "sdxl_refiner" if is_refiner else "sdxl" if width in (None, "sdxl") else "unknown"
    if _width(unet) == 0:
        return "unknown"
    if _has(tensors, "cond_stage_model.transformer."):
        told = "sd1"
    elif _has(tensors, "cond_stage_model.model.transformer.resblocks."):
        told = "sd2"
    else:
        told = width or _family_by_projection(unet)
    return told if width in (None, told) else "unknown"


def _width(unet: Tensors) -> int:
    """Of the prompt's embeddings, which every cross-attention takes."""
    return next(
        (info.shape[1] for name, info in unet.items() if name.endswith("attn2.to_k.weight") and len(info.shape) == 2), 0
    )


def _family_by_projection(unet: Tensors) -> str:
    """SD 1.x leads into its attentions by convolutions, SD 2.x by linear layers."""
    shape = next((info.shape for name, info in unet.items() if name.endswith(".proj_in.weight")), ())
    return {4: "sd1", 2: "sd2"}.get(len(shape), "unknown")


def _missing(tensors: Tensors, family: str, has_vae: bool) -> str:
    """What a checkpoint can't do without; a VAE can come from elsewhere."""
    prefixes = {
        "sd1": ("cond_stage_model.transformer.",),
        "sd2": ("cond_stage_model.model.transformer.",),
        "sdxl": ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."),
    }[family]
    if all(_has(tensors, prefix) for prefix in prefixes):
        return ""
    return "It has no text encoder inside." if has_vae else "It is a U-Net alone: it has no VAE and no text encoder."


def prediction_of(tensors: Tensors, metadata: Mapping[str, str]) -> tuple[str, bool]:
    """What the model says it predicts ("" where it doesn't), and whether it was trained to zero terminal SNR.

    Source: marks that makers of v-prediction SDXL models add as empty tensors, EDM's statistics (CosXL,
    Playground), modelspec and sd-scripts' metadata.
    """
    is_zero_snr = "ztsnr" in tensors or metadata.get("ss_zero_terminal_snr") == "True"
    if "edm_mean" in tensors or "edm_vpred.sigma_max" in tensors:
        return "edm", False
    said = metadata.get("modelspec.prediction_type", "").lower()
    architecture = metadata.get("modelspec.architecture", "")
    if "v_pred" in tensors or said in ("v", "v_prediction") or metadata.get("ss_v_parameterization") == "True":
        return "v_prediction", is_zero_snr
    if said == "epsilon" or "v2-512" in architecture:
        return "epsilon", is_zero_snr
    return ("v_prediction" if "768-v" in architecture else ""), is_zero_snr


# What lies in files of its own


def _bare_model(tensors: Tensors) -> Sniffed | None:
    """A U-Net or transformer without the names of a whole checkpoint."""
    if transformer := _transformer(tensors):
        return transformer
    if any(".motion_modules." in name for name in tensors):
        return None
    if label := other_model(tensors):
        return _refused("unknown", label)
    is_original = "input_blocks.0.0.weight" in tensors and _has(tensors, "output_blocks.")
    if not is_original and not (
        "conv_in.weight" in tensors
        and "time_embedding.linear_1.weight" in tensors
        and _has(tensors, "down_blocks.")
        and _has(tensors, "up_blocks.")
    ):
        return None
    return Sniffed(
        "checkpoint",
        _bare_family(tensors),
        detail="U-Net",
        problem="It is a U-Net alone: it has no VAE and no text encoder.",
        hint=_WHOLE,
    )


def _bare_family(unet: Tensors) -> str:
    """Of a U-Net alone, which many models have: only widths and first layers that are a family's count."""
    first = unet.get("conv_in.weight") or unet.get("input_blocks.0.0.weight")
    labels = unet.get("add_embedding.linear_1.weight") or unet.get("label_emb.0.0.weight")
    family = WIDTHS.get(_width(unet), "unknown")
    base = first.shape[0] if first is not None and first.shape else 0
    is_other = any("temporal" in name or name.endswith("norm_q.weight") for name in unet)
    fits = base == (384 if family == "sdxl_refiner" else 320) and (labels is not None) == family.startswith("sdxl")
    return family if fits and not is_other else "unknown"


def _transformer(names: Tensors) -> Sniffed | None:
    """SD 3 and Flux, by their own names and by diffusers'."""
    if "joint_blocks.0.x_block.attn.qkv.weight" in names:
        blocks = len({name.split(".")[1] for name in names if name.startswith("joint_blocks.")})
        is_3 = "joint_blocks.0.x_block.attn.ln_q.weight" not in names
        size = "large" if blocks > 30 else "medium"
        return refused_family("checkpoint", "sd3", "SD 3" if is_3 else f"SD 3.5 {size}")
    takes_words_as_one = "time_text_embed.text_embedder.linear_1.weight" in names  # as few others do
    if takes_words_as_one and "pos_embed.proj.weight" in names:
        return refused_family("checkpoint", "sd3", "SD 3")
    is_flux = "double_blocks.0.img_attn.qkv.weight" in names and "vector_in.in_layer.weight" in names
    if is_flux or (takes_words_as_one and "x_embedder.weight" in names and _has(names, "single_transformer_blocks.0.")):
        has_guidance = "guidance_in.in_layer.weight" in names or _has(names, "time_text_embed.guidance_embedder.")
        return refused_family("checkpoint", "flux", "Flux dev" if has_guidance else "Flux schnell")
    return None


def _vae(tensors: Tensors) -> Sniffed | None:
    place = next(
        (
            place
            for place in _VAE_PLACES
            if f"{place}decoder.conv_in.weight" in tensors and f"{place}encoder.conv_in.weight" in tensors
        ),
        None,
    )
    if place is None or "quantize.embedding.weight" in tensors:
        return None
    inside = (name.removeprefix(place) for name in tensors if name.startswith(place))
    if not all(_VAE_LAYER.fullmatch(name) for name in inside if name.startswith(("encoder.", "decoder."))):
        return None
    shape = tensors[f"{place}decoder.conv_in.weight"].shape
    pictures = tensors[f"{place}encoder.conv_in.weight"].shape
    if len(shape) != 4 or len(pictures) != 4 or pictures[1] != 3:
        return None
    if shape[1] == 4:
        return Sniffed("vae", "sd")
    if shape[1] == 16:
        return Sniffed("vae", problem="It is for SD 3 or Flux, which Darkroom can't run yet.", hint="Use another VAE.")
    return Sniffed("vae", problem=f"It has {shape[1]} latent channels; 4 are supported.", hint="Use another VAE.")


def _embedding(tensors: Tensors, metadata: Mapping[str, str]) -> Sniffed | None:
    """Textual inversion: a few vectors of a text encoder's width."""
    names = tables_of(tensors)
    if not names or len(tensors) > _MOST_TABLES:
        return None
    if "t5xxl" in tensors:
        return refused_family("embedding", "sd3")
    vectors = [_vectors(tensors[name]) for name in names]
    if len(tensors) == 1 and names[0] not in _EMBEDDING_KEYS:
        is_module = "." in names[0].rstrip(".") and not names[0].startswith("<")
        if is_module or vectors[0][1] not in (768, 1024, 1280):
            return None
    if not all(1 <= count <= _MOST_VECTORS for count, _ in vectors):
        return None
    family = (
        "sdxl"
        if len(names) > 1 or names[0] in _SECOND_KEYS
        else {768: "sd1", 1024: "sd2", 1280: "sdxl"}.get(vectors[0][1])
    )
    return Sniffed("embedding", family or told_family(metadata) or "unknown")


def _vectors(info: TensorInfo) -> tuple[int, int]:
    """How many vectors a tensor holds, and their width; none when it is no list of vectors."""
    if len(info.shape) not in (1, 2) or not info.dtype.startswith(("F", "BF")):
        return 0, 0
    return (info.shape[0] if len(info.shape) == 2 else 1), info.shape[-1]


def _hypernetwork(tensors: Tensors) -> Sniffed | None:
    """A1111's, converted: width of the layers it sits before, keys or values, layer."""
    found = [_HYPERNETWORK.fullmatch(name) for name in tensors]
    widths = {int(match[1]) for match in found if match}
    if not all(found):
        return None
    family = next((family for width, family in WIDTHS.items() if width in widths and width != 1280), "unknown")
    return Sniffed("hypernetwork", family)


def _other(tensors: Tensors) -> str:
    """What else it may be, in words."""
    if any(name.endswith(_IMAGE_ENCODERS) for name in tensors):
        return "an image encoder"
    if any(name.endswith(_TEXT_ENCODERS) for name in tensors):
        return "a text encoder"
    if any(".motion_modules." in name for name in tensors):
        return "a motion module"
    if any(_OLD_LORA.fullmatch(name) for name in tensors):
        return "a LoRA in the form of 2022 (cloneofsimo/lora), whose layers have no names"
    quantization = other_quantization(tensors)
    return f"weights kept as {quantization}" if quantization else ""
