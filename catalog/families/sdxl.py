"""SDXL: CLIP's and OpenCLIP's text encoders side by side, 1024 pixels, epsilon."""

from catalog.families.family import Defaults, Family, LatentFormat, T2IAdapterShape, TextEncoder, UNet, three_sizes
from catalog.families.ldm_checkpoints import claim_unet

_SIZES = three_sizes((1024, 1024), (1216, 832), (832, 1216))
FAMILY = Family(
    id="sdxl",
    label="SDXL",
    claim=claim_unet,
    sizes=_SIZES,
    # Playground v2.5 as its makers advise; CosXL.
    by_prediction={
        "edm": (
            _SIZES,
            Defaults(sampler="dpmpp_2m", schedule="karras", steps=30, guidance=3.0, width=1024, height=1024),
        ),
        "edm_v": (_SIZES, Defaults(sampler="dpmpp_2m", schedule="karras", steps=25, width=1024, height=1024)),
    },
    defaults=Defaults(sampler="dpmpp_2m", schedule="karras", steps=25, width=1024, height=1024),
    latents=LatentFormat(scale=0.13025, overflows_half=True),
    layer_read=2,
    text_encoders=(
        TextEncoder("text_encoder", "conditioner.embedders.0."),
        TextEncoder("text_encoder_2", "conditioner.embedders.1.", is_open=True, is_projecting=True),
    ),
    sigma_table="xl",
    unet=UNet(prompt_width=2048, proj_in_dimensions=2, takes_size=True, is_deep=True),
    t2i_adapter=T2IAdapterShape(downscale=16, full_type="full_adapter_xl"),
    embedding_width=1280,
    embedding_keys=frozenset({"clip_g", "text_encoders_1"}),
    metadata_names=("sdxl", "stable-diffusion-xl"),
)
