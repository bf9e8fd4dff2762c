"""Flux, by the double and single blocks of its transformer. Recognized and not run."""

from catalog.families.family import CheckpointHeader, Family, LatentFormat, TransformerLora
from catalog.families.sniffed import NotAMatch, Sniffed
from catalog.files.tensor_names import Tensors, has_prefix

_BY_INPUTS = {384: "Flux Fill", 128: "Flux Canny or Depth"}  # latents and what is beside them
_POOLED = "time_text_embed.text_embedder.linear_1.weight"


def claim_flux(family: Family, header: CheckpointHeader) -> Sniffed:
    """Claim a transformer, by its original and by diffusers' names."""
    names = header.denoiser
    is_original = "double_blocks.0.img_attn.qkv.weight" in names and "vector_in.in_layer.weight" in names
    is_diffusers = _POOLED in names and "pos_embed.proj.weight" not in names and "x_embedder.weight" in names
    if is_diffusers:
        is_diffusers = has_prefix(names, "single_transformer_blocks.0.")
    if not is_original and not is_diffusers:
        raise NotAMatch
    first = names.get("img_in.weight") or names.get("x_embedder.weight")
    kind = _BY_INPUTS.get(first.shape[-1] if first is not None and first.shape else 0)
    has_guidance = "guidance_in.in_layer.weight" in names or has_prefix(names, "time_text_embed.guidance_embedder.")
    return Sniffed("checkpoint", family.id, detail=kind or ("Flux dev" if has_guidance else "Flux schnell"))


def is_flux_controlnet(header: Tensors) -> bool:
    """Whether a header is that of one of its ControlNets."""
    if has_prefix(header, "double_blocks."):
        return True
    is_transformer = has_prefix(header, "controlnet_blocks.") and _POOLED in header
    return is_transformer and "controlnet_x_embedder.weight" in header


FAMILY = Family(
    id="flux",
    label="Flux",
    claim=claim_flux,
    runs=False,
    latents=LatentFormat(channels=16),
    metadata_names=("flux",),
    pipeline="Flux",
    transformer="FluxTransformer2DModel",
    transformer_lora=TransformerLora(
        fragments=("single_transformer_blocks_", "double_blocks_", "single_blocks_"), widths=(3072,)
    ),
    claims_control=is_flux_controlnet,
)
