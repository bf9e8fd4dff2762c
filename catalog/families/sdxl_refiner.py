"""The SDXL refiner: OpenCLIP's text encoder alone, and an aesthetic score. Trained on the last fifth of the noise."""

from catalog.families import sdxl
from catalog.families.family import Family, TextEncoder, UNet
from catalog.families.ldm_checkpoints import claim_unet

FAMILY = Family(
    id="sdxl_refiner",
    label="SDXL refiner",
    claim=claim_unet,
    refines=sdxl.FAMILY.id,
    sizes=sdxl.FAMILY.sizes,
    defaults=sdxl.FAMILY.defaults,
    latents=sdxl.FAMILY.latents,
    layer_read=2,
    text_encoders=(TextEncoder("text_encoder_2", "conditioner.embedders.0.", is_open=True, is_projecting=True),),
    sigma_table="xl",
    unet=UNet(prompt_width=1280, proj_in_dimensions=2, channels=384, takes_size=True, takes_score=True, is_deep=True),
    metadata_names=("sdxl_refiner", "stable-diffusion-xl-v1-refiner"),
)
