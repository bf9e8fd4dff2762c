"""SD 3 and 3.5, by the joint blocks of their transformer. Recognized and not run."""

from catalog.families.family import CheckpointHeader, Family, LatentFormat, TransformerLora
from catalog.families.sniffed import NotAMatch, Sniffed
from catalog.files.tensor_names import Tensors, has_prefix

_JOINT_BLOCK = "joint_blocks.0.x_block.attn."
_POOLED = "time_text_embed.text_embedder.linear_1.weight"  # of diffusers' transformer; few other models have it
_MEDIUM_BLOCKS = 30  # SD 3.5 large has 38, medium 24


def claim_sd3(family: Family, header: CheckpointHeader) -> Sniffed:
    """Claim a transformer, by its original and by diffusers' names."""
    names = header.denoiser
    if f"{_JOINT_BLOCK}qkv.weight" in names:
        if f"{_JOINT_BLOCK}ln_q.weight" not in names:
            return Sniffed("checkpoint", family.id, detail="SD 3")
        blocks = {name.split(".")[1] for name in names if name.startswith("joint_blocks.")}
        size = "large" if len(blocks) > _MEDIUM_BLOCKS else "medium"
        return Sniffed("checkpoint", family.id, detail=f"SD 3.5 {size}")
    if _POOLED in names and "pos_embed.proj.weight" in names:
        return Sniffed("checkpoint", family.id, detail="SD 3")
    raise NotAMatch


def is_sd3_controlnet(header: Tensors) -> bool:
    """Whether a header is that of one of its ControlNets."""
    is_transformer = has_prefix(header, "controlnet_blocks.") and _POOLED in header
    return is_transformer and "controlnet_x_embedder.weight" not in header


FAMILY = Family(
    id="sd3",
    label="SD 3",
    claim=claim_sd3,
    runs=False,
    latents=LatentFormat(channels=16),
    embedding_keys=frozenset({"t5xxl"}),
    metadata_names=("sd3", "stable-diffusion-3"),
    pipeline="StableDiffusion3",
    transformer="SD3Transformer2DModel",
    transformer_lora=TransformerLora(fragments=("joint_blocks_",), widths=(1536, 2432)),
    claims_control=is_sd3_controlnet,
)
