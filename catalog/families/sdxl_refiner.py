"""The SDXL refiner: OpenCLIP's text encoder alone. Recognized and not run."""

from catalog.families.family import Family, LatentFormat, TextEncoder, UNet
from catalog.families.ldm_checkpoints import claim_unet

FAMILY = Family(
    id="sdxl_refiner",
    label="SDXL refiner",
    claim=claim_unet,
    runs=False,
    cannot_run="It is an SDXL refiner, which can't start a picture.",
    cannot_run_hint="Use an SDXL base.",
    latents=LatentFormat(scale=0.13025, overflows_half=True),
    text_encoders=(TextEncoder("text_encoder_2", "conditioner.embedders.0.", is_open=True, is_projecting=True),),
    sigma_table="xl",
    unet=UNet(prompt_width=1280, proj_in_dimensions=2, channels=384, takes_size=True, is_deep=True),
    metadata_names=("sdxl_refiner", "stable-diffusion-xl-v1-refiner"),
)
