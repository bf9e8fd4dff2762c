"""SD 1.x: one CLIP text encoder, 512 pixels, epsilon."""

from catalog.families.family import Family, T2IAdapterShape, TextEncoder, UNet, three_sizes
from catalog.families.ldm_checkpoints import claim_unet

FAMILY = Family(
    id="sd1",
    label="SD 1.x",
    claim=claim_unet,
    sizes=three_sizes((512, 512), (768, 512), (512, 768)),
    text_encoders=(TextEncoder("text_encoder", "cond_stage_model."),),
    unet=UNet(prompt_width=768, proj_in_dimensions=4, heads=8),
    t2i_adapter=T2IAdapterShape(downscale=8, full_type="full_adapter"),
    embedding_width=768,
    metadata_names=("sd_v1", "stable-diffusion-v1", "sd-1"),
)
