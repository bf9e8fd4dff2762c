"""How the families with a U-Net claim a checkpoint with original (LDM) keys, which all single-file checkpoints have.

Names and shapes of tensors decide; metadata counts only where they leave it open. A prompt width that is a family's
decides; for other widths the structure does, so that small models of the same build are recognized too.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType

from catalog.families.family import CheckpointHeader, Family, LatentFormat, UNet
from catalog.families.sniffed import NotAMatch, Sniffed
from catalog.files.tensor_names import Tensors, first_width, has_fragment, has_prefix, has_suffix

UNET = "model.diffusion_model."  # prefix of the U-Net in files with LDM keys
CROSS_ATTENTION = "attn2.to_k.weight"
VARIANTS: Mapping[int, str] = MappingProxyType(dict(LatentFormat().variants))  # of all families with a U-Net
# Numbers in a file of EDM: Playground's statistics of latents, the range of CosXL's noise.
EDM_MEAN, EDM_STD = "edm_mean", "edm_std"
EDM_V_MIN, EDM_V_MAX = "edm_vpred.sigma_min", "edm_vpred.sigma_max"
WHOLE_HINT = "Use a checkpoint that is whole."
_SIZE_INPUTS = ("add_embedding.linear_1.weight", "label_emb.0.0.weight")  # by diffusers' and by LDM names


def claim_unet(family: Family, header: CheckpointHeader) -> Sniffed:
    """Claim a checkpoint by its U-Net and its text encoders."""
    unet = family.unet
    assert unet is not None
    if header.is_bare:
        return _claim_bare_unet(family, unet, header)
    tensors = header.tensors
    first = header.denoiser.get("input_blocks.0.0.weight")
    if first is None or len(first.shape) != 4 or look_alike(tensors, header.denoiser):
        raise NotAMatch
    channels = first.shape[1]
    if channels not in VARIANTS or not _is_its_unet(family, unet, header):
        raise NotAMatch
    variant = VARIANTS[channels]
    prediction, zero_snr = prediction_of(tensors, header.metadata)
    # Only v-prediction has something to predict where there is no signal.
    zero_snr = zero_snr and (prediction or family.usual_prediction(variant)) == "v_prediction"
    has_vae = "first_stage_model.decoder.conv_in.weight" in tensors
    has_encoders = all(has_prefix(tensors, *encoder.marks) for encoder in family.text_encoders)
    problem = ""
    if EDM_MEAN in tensors or EDM_STD in tensors:
        problem = _problem_of_statistics(tensors, family.latents.channels, has_vae=has_vae)
    return Sniffed(
        "checkpoint",
        family.id,
        variant,
        prediction,
        zero_snr,
        has_vae,
        has_encoders,
        detail="EDM" if prediction.startswith("edm") else "",
        problem=problem,
        hint=WHOLE_HINT if problem else "",
    )


def _problem_of_statistics(tensors: Tensors, channels: int, *, has_vae: bool) -> str:
    """Why a checkpoint with Playground's statistics of latents can't be used; "" when it can."""
    sizes = [math.prod(tensors[name].shape) for name in (EDM_MEAN, EDM_STD) if name in tensors]
    if sizes != [channels, channels]:
        return f"It lacks what scales its latents: {channels} numbers each in {EDM_MEAN} and {EDM_STD}."
    return "" if has_vae else "It has no VAE inside, and its latents are scaled as those of no other model."


def _is_its_unet(family: Family, unet: UNet, header: CheckpointHeader) -> bool:
    width = first_width(header.denoiser, CROSS_ATTENTION)
    if unet.takes_size != ("label_emb.0.0.weight" in header.denoiser):
        return False
    if width in header.known_widths and width != unet.prompt_width:
        return False
    prefixes = {encoder.key_prefix for encoder in family.text_encoders}
    if header.encoder_prefixes:
        return width != 0 and bool(prefixes & header.encoder_prefixes)
    if width == unet.prompt_width:
        return True
    for name, info in header.denoiser.items():
        if name.endswith(".proj_in.weight"):
            return width != 0 and len(info.shape) == unet.proj_in_dimensions
    return False


def _claim_bare_unet(family: Family, unet: UNet, header: CheckpointHeader) -> Sniffed:
    """A file that is a U-Net alone; many other models are, so only a family's own widths and first layers count."""
    tensors = header.denoiser
    first = tensors.get("conv_in.weight") or tensors.get("input_blocks.0.0.weight")
    is_mine = (
        first_width(tensors, CROSS_ATTENTION) == unet.prompt_width
        and first is not None
        and len(first.shape) == 4
        and first.shape[0] == unet.channels
        and first.shape[1] in VARIANTS
        and unet.takes_size == any(name in tensors for name in _SIZE_INPUTS)
        and is_bare_unet(tensors)
        and not has_fragment(tensors, "temporal")
        and not has_suffix(tensors, "norm_q.weight")
    )
    if not is_mine or first is None:
        raise NotAMatch
    variant = VARIANTS[first.shape[1]]
    prediction, zero_snr = prediction_of(header.tensors, header.metadata)
    problem = ""
    if EDM_MEAN in header.tensors or EDM_STD in header.tensors:
        problem = _problem_of_statistics(header.tensors, family.latents.channels, has_vae=False)
    return Sniffed(
        "checkpoint",
        family.id,
        variant,
        prediction,
        zero_snr and (prediction or family.usual_prediction(variant)) == "v_prediction",
        has_vae=False,
        has_encoders=False,
        detail="EDM U-Net" if prediction.startswith("edm") else "U-Net",
        problem=problem,
        hint=WHOLE_HINT if problem else "",
    )


def is_bare_unet(tensors: Tensors) -> bool:
    """Whether a file is a U-Net of any kind, with LDM or diffusers' names."""
    if "input_blocks.0.0.weight" in tensors and has_prefix(tensors, "output_blocks."):
        return True
    has_ends = "conv_in.weight" in tensors and "time_embedding.linear_1.weight" in tensors
    return has_ends and has_prefix(tensors, "down_blocks.") and has_prefix(tensors, "up_blocks.")


def unknown_unet() -> Sniffed:
    """A U-Net without the other components, of no family that is known."""
    problem = "It is a U-Net alone, of a model that is not known."
    return Sniffed("checkpoint", "unknown", detail="U-Net", problem=problem, hint=WHOLE_HINT)


def look_alike(tensors: Tensors, unet: Tensors) -> str:
    """Names a U-Net that looks like one of these families' and is not; "" for all others."""
    if has_fragment(unet, ".time_stack.", ".time_mixer."):
        return "a video model"
    if "cc_projection.weight" in tensors:
        return "a model of turned views (Zero123)"
    if "label_emb.0.0.weight" in unet:
        if has_prefix(tensors, "cond_stage_model.") or first_width(unet, CROSS_ATTENTION) == 1024:
            return "SD 2.x unCLIP"
    if "label_emb.weight" in unet:
        return "an upscaling model (SD x4)"
    return ""


def prediction_of(tensors: Tensors, metadata: Mapping[str, str]) -> tuple[str, bool]:
    """The prediction that the file names ("" where it names none), and whether it was trained to zero terminal SNR.

    "edm" and "edm_v" are EDM's preconditioned network, the second with its output's sign turned: v at unit variance.
    Source: marks that makers of v-prediction SDXL models add as empty tensors, EDM's numbers (Playground, CosXL),
    modelspec and sd-scripts' metadata.
    """
    is_zero_snr = "ztsnr" in tensors or metadata.get("ss_zero_terminal_snr") == "True"
    if EDM_MEAN in tensors and EDM_STD in tensors:
        return "edm", False
    if EDM_V_MAX in tensors:
        return "edm_v", False
    prediction_type = metadata.get("modelspec.prediction_type", "").lower()
    architecture = metadata.get("modelspec.architecture", "")
    is_v_by_metadata = prediction_type in ("v", "v_prediction") or metadata.get("ss_v_parameterization") == "True"
    if "v_pred" in tensors or is_v_by_metadata:
        return "v_prediction", is_zero_snr
    if prediction_type == "epsilon" or "v2-512" in architecture:
        return "epsilon", is_zero_snr
    return ("v_prediction" if "768-v" in architecture else ""), is_zero_snr
