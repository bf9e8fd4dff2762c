"""What a safetensors file is, by its header alone: kind, family, variant, prediction. Its name never counts.

Names and shapes of tensors decide; metadata counts only where they leave it open. A width that is a family's decides;
for other widths the structure does, so that small models of the same build are recognized too.
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
from catalog.detect.sniffed import REFUSED_FAMILIES, WIDTHS, Sniffed, refused_family
from catalog.detect.tensor_names import Tensors, first_width, has_fragment, has_prefix, has_suffix
from catalog.families import usual_prediction
from catalog.upscalers import is_upscaler

UNET = "model.diffusion_model."  # prefix of the U-Net in files with original (LDM) keys
VARIANTS: Mapping[int, str] = MappingProxyType({4: "text", 9: "inpaint", 8: "edit", 5: "depth"})
# A layer of SD's autoencoder, by its original (LDM) or its diffusers name; other autoencoders have more.
_VAE_LAYER = re.compile(
    r"(?:en|de)coder\.(?:conv_in|conv_out|norm_out|conv_norm_out"
    r"|(?:mid\.block_[12]|(?:down|up)\.\d\.block\.\d|(?:mid_block|(?:down|up)_blocks\.\d)\.resnets\.\d)"
    r"\.(?:norm1|norm2|conv1|conv2|nin_shortcut|conv_shortcut)"
    r"|(?:mid\.attn_1|mid_block\.attentions\.0|(?:down|up)\.\d\.attn\.\d)\.[a-z_]+(?:\.0)?"
    r"|(?:down|up)\.\d\.(?:down|up)sample\.conv|(?:down|up)_blocks\.\d\.(?:down|up)samplers\.0\.conv)\.(?:weight|bias)"
)
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
_SECOND_KEYS = frozenset({"clip_g", "text_encoders_1"})
_EMBEDDING_KEYS = frozenset({"clip_l", "t5xxl", "text_encoders_0", "emb_params", "string_to_param.*"}) | _SECOND_KEYS
_EMBEDDING_WIDTHS: Mapping[int, str] = MappingProxyType({768: "sd1", 1024: "sd2", 1280: "sdxl"})
_MOST_TABLES = 8  # vectors for each text encoder, and what trainers keep beside them
_MOST_VECTORS = 256
_WHOLE_HINT = "Use a checkpoint that is whole."
_CROSS_ATTENTION = "attn2.to_k.weight"
# Without these a checkpoint can't run; a VAE can come from elsewhere.
_TEXT_ENCODER_PREFIXES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "sd1": ("cond_stage_model.transformer.",),
        "sd2": ("cond_stage_model.model.transformer.",),
        "sdxl": ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."),
    }
)


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
        or _sniff_bare_unet(tensors)
        or _sniff_vae(tensors)
        or _sniff_embedding(tensors, metadata)
        or _sniff_hypernetwork(tensors)
    )
    if found is None and is_upscaler(tensors):
        found = Sniffed("upscaler", "upscaler")
    if found is None:
        return Sniffed(None, detail=_detail_of_other(tensors))
    if quantization and found.kind not in (None, "embedding", "hypernetwork") and not found.problem:
        return replace(
            found,
            problem=f"Its weights are {quantization}, which Darkroom can't read.",
            hint="Use an fp16, bf16 or fp8 version of it.",
        )
    return found


# Checkpoints


def _sniff_checkpoint(tensors: Tensors, metadata: Mapping[str, str]) -> Sniffed | None:
    """A file with original (LDM) keys, which all single-file checkpoints have."""
    if not has_prefix(tensors, UNET):
        return None
    unet = {name.removeprefix(UNET): info for name, info in tensors.items() if name.startswith(UNET)}
    transformer = _sniff_transformer(unet)
    if transformer is not None:
        return transformer
    first = unet.get("input_blocks.0.0.weight")
    if first is None or len(first.shape) != 4:
        return _refused(other_model(tensors) or "a diffusion model of a kind that is not known")
    other = _near_unet(tensors, unet)
    if other:
        return _refused(other)
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
    # Only v-prediction has something to predict where there is no signal.
    zero_snr = zero_snr and (prediction or usual_prediction(family, VARIANTS[channels])) == "v_prediction"
    has_vae = "first_stage_model.decoder.conv_in.weight" in tensors
    problem = ""
    if not all(has_prefix(tensors, prefix) for prefix in _TEXT_ENCODER_PREFIXES[family]):
        problem = "It has no text encoder inside."
        if not has_vae:
            problem = "It is a U-Net alone: it has no VAE and no text encoder."
    elif prediction == "edm":
        problem = "It predicts in EDM's way, which is not run here."
    return Sniffed(
        "checkpoint",
        family,
        VARIANTS[channels],
        prediction,
        zero_snr,
        has_vae,
        problem=problem,
        hint=_WHOLE_HINT if problem else "",
    )


def _refused(what: str) -> Sniffed:
    return Sniffed(
        "checkpoint",
        "unknown",
        detail=what,
        problem=f"It is {what}, which Darkroom can't run.",
        hint="Use an SD 1.x, SD 2.x or SDXL checkpoint.",
    )


def _near_unet(tensors: Tensors, unet: Tensors) -> str:
    """Names a U-Net that looks like one of ours and is not; "" for all others."""
    if has_fragment(unet, ".time_stack.", ".time_mixer."):
        return "a video model"
    if "cc_projection.weight" in tensors:
        return "a model of turned views (Zero123)"
    if "label_emb.0.0.weight" in unet:
        if has_prefix(tensors, "cond_stage_model.") or first_width(unet, _CROSS_ATTENTION) == 1024:
            return "SD 2.x unCLIP"
    if "label_emb.weight" in unet:
        return "an upscaling model (SD x4)"
    return ""


def _unet_family(tensors: Tensors, unet: Tensors) -> str:
    width = first_width(unet, _CROSS_ATTENTION)
    by_width = WIDTHS.get(width)
    if "label_emb.0.0.weight" in unet:
        has_first = has_prefix(tensors, "conditioner.embedders.0.transformer.", "conditioner.embedders.1.")
        if by_width == "sdxl_refiner" or (not has_first and has_prefix(tensors, "conditioner.embedders.0.model.")):
            return "sdxl_refiner"
        return "sdxl" if by_width in (None, "sdxl") else "unknown"
    if width == 0:
        return "unknown"
    if has_prefix(tensors, "cond_stage_model.transformer."):
        family = "sd1"
    elif has_prefix(tensors, "cond_stage_model.model.transformer.resblocks."):
        family = "sd2"
    else:
        family = by_width or "unknown"
        for name, info in unet.items():
            if by_width is None and name.endswith(".proj_in.weight"):
                # SD 1.x leads into its attentions by convolutions, SD 2.x by linear layers.
                family = {4: "sd1", 2: "sd2"}.get(len(info.shape), "unknown")
                break
    return family if by_width in (None, family) else "unknown"


def prediction_of(tensors: Tensors, metadata: Mapping[str, str]) -> tuple[str, bool]:
    """The prediction that the file names ("" where it names none), and whether it was trained to zero terminal SNR.

    Source: marks that makers of v-prediction SDXL models add as empty tensors, EDM's statistics (CosXL,
    Playground), modelspec and sd-scripts' metadata.
    """
    is_zero_snr = "ztsnr" in tensors or metadata.get("ss_zero_terminal_snr") == "True"
    if "edm_mean" in tensors or "edm_vpred.sigma_max" in tensors:
        return "edm", False
    prediction_type = metadata.get("modelspec.prediction_type", "").lower()
    architecture = metadata.get("modelspec.architecture", "")
    is_v_by_metadata = prediction_type in ("v", "v_prediction") or metadata.get("ss_v_parameterization") == "True"
    if "v_pred" in tensors or is_v_by_metadata:
        return "v_prediction", is_zero_snr
    if prediction_type == "epsilon" or "v2-512" in architecture:
        return "epsilon", is_zero_snr
    return ("v_prediction" if "768-v" in architecture else ""), is_zero_snr


# Models in files of their own


def _sniff_bare_unet(tensors: Tensors) -> Sniffed | None:
    """A U-Net or transformer whose keys have no prefix: the other components are missing."""
    transformer = _sniff_transformer(tensors)
    if transformer is not None:
        return transformer
    if has_fragment(tensors, ".motion_modules."):
        return None
    label = other_model(tensors)
    if label:
        return _refused(label)
    is_ldm = "input_blocks.0.0.weight" in tensors and has_prefix(tensors, "output_blocks.")
    is_diffusers = (
        "conv_in.weight" in tensors
        and "time_embedding.linear_1.weight" in tensors
        and has_prefix(tensors, "down_blocks.")
        and has_prefix(tensors, "up_blocks.")
    )
    if not is_ldm and not is_diffusers:
        return None
    return Sniffed(
        "checkpoint",
        _bare_unet_family(tensors),
        detail="U-Net",
        problem="It is a U-Net alone: it has no VAE and no text encoder.",
        hint=_WHOLE_HINT,
    )


def _bare_unet_family(unet: Tensors) -> str:
    """Many other models are U-Nets too, so only a family's own widths and first layers count."""
    family = WIDTHS.get(first_width(unet, _CROSS_ATTENTION), "unknown")
    if has_fragment(unet, "temporal") or has_suffix(unet, "norm_q.weight"):
        return "unknown"
    first = unet.get("conv_in.weight") or unet.get("input_blocks.0.0.weight")
    channels = first.shape[0] if first is not None and first.shape else 0
    if channels != (384 if family == "sdxl_refiner" else 320):
        return "unknown"
    has_labels = "add_embedding.linear_1.weight" in unet or "label_emb.0.0.weight" in unet
    return family if has_labels == family.startswith("sdxl") else "unknown"


def _sniff_transformer(names: Tensors) -> Sniffed | None:
    """SD 3 and Flux, by their original and by diffusers' names."""
    if "joint_blocks.0.x_block.attn.qkv.weight" in names:
        if "joint_blocks.0.x_block.attn.ln_q.weight" not in names:
            return refused_family("checkpoint", "sd3", "SD 3")
        blocks = len({name.split(".")[1] for name in names if name.startswith("joint_blocks.")})
        return refused_family("checkpoint", "sd3", "SD 3.5 large" if blocks > 30 else "SD 3.5 medium")
    has_pooled_projection = "time_text_embed.text_embedder.linear_1.weight" in names  # few other models do
    if has_pooled_projection and "pos_embed.proj.weight" in names:
        return refused_family("checkpoint", "sd3", "SD 3")
    is_flux = "double_blocks.0.img_attn.qkv.weight" in names and "vector_in.in_layer.weight" in names
    if not is_flux and has_pooled_projection and "x_embedder.weight" in names:
        is_flux = has_prefix(names, "single_transformer_blocks.0.")
    if is_flux:
        has_guidance = "guidance_in.in_layer.weight" in names
        has_guidance = has_guidance or has_prefix(names, "time_text_embed.guidance_embedder.")
        return refused_family("checkpoint", "flux", "Flux dev" if has_guidance else "Flux schnell")
    return None


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
    latent_channels = decoder_in.shape[1]
    if latent_channels == 4:
        return Sniffed("vae", "sd")
    problem = f"It has {latent_channels} latent channels; 4 are supported."
    if latent_channels == 16:
        problem = "It is for SD 3 or Flux, which Darkroom can't run yet."
    return Sniffed("vae", problem=problem, hint="Use another VAE.")


def _sniff_embedding(tensors: Tensors, metadata: Mapping[str, str]) -> Sniffed | None:
    """Textual inversion: a few vectors of a text encoder's width."""
    names = vector_tensors(tensors)
    if not names or len(tensors) > _MOST_TABLES:
        return None
    if "t5xxl" in tensors:
        return refused_family("embedding", "sd3")
    for name in names:
        info = tensors[name]
        is_float = info.dtype.startswith(("F", "BF"))
        if len(info.shape) not in (1, 2) or not is_float:
            return None
        count = info.shape[0] if len(info.shape) == 2 else 1
        if not 1 <= count <= _MOST_VECTORS:
            return None
    width = tensors[names[0]].shape[-1]
    if len(tensors) == 1 and names[0] not in _EMBEDDING_KEYS:
        is_module = "." in names[0].rstrip(".") and not names[0].startswith("<")
        if is_module or width not in _EMBEDDING_WIDTHS:
            return None
    if len(names) > 1 or names[0] in _SECOND_KEYS:
        family: str | None = "sdxl"
    else:
        family = _EMBEDDING_WIDTHS.get(width)
    return Sniffed("embedding", family or family_by_metadata(metadata) or "unknown")


def _sniff_hypernetwork(tensors: Tensors) -> Sniffed | None:
    """A1111's, converted: width of the layers it sits before, keys or values, layer."""
    widths = set()
    for name in tensors:
        match = _HYPERNETWORK.fullmatch(name)
        if match is None:
            return None
        widths.add(int(match[1]))
    for width, family in WIDTHS.items():
        if width in widths and width != 1280:
            return Sniffed("hypernetwork", family)
    return Sniffed("hypernetwork", "unknown")


def _detail_of_other(tensors: Tensors) -> str:
    """Names a file that is no model by itself; "" where it is not known."""
    if has_suffix(tensors, *_IMAGE_ENCODERS):
        return "an image encoder"
    if has_suffix(tensors, *_TEXT_ENCODERS):
        return "a text encoder"
    if has_fragment(tensors, ".motion_modules."):
        return "a motion module"
    if any(_OLD_LORA.fullmatch(name) for name in tensors):
        return "a LoRA in the form of 2022 (cloneofsimo/lora), whose layers have no names"
    quantization = other_quantization(tensors)
    return f"weights kept as {quantization}" if quantization else ""
