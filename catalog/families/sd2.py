"""SD 2.x: OpenCLIP's text encoder, read at the layer before its last; v-prediction at 768 pixels, epsilon at 512."""

from catalog.families import sd1
from catalog.families.family import Defaults, Family, Telltale, TextEncoder, UNet, three_sizes
from catalog.families.ldm_checkpoints import UNET, claim_unet

FAMILY = Family(
    id="sd2",
    label="SD 2.x",
    claim=claim_unet,
    sizes=three_sizes((768, 768), (1024, 640), (640, 1024)),
    defaults=Defaults(width=768, height=768),
    # Those that predict noise were trained at 512 pixels, as were its inpainting and depth variants.
    by_prediction={"epsilon": (sd1.FAMILY.sizes, Defaults(width=512, height=512))},
    predictions={"text": "v_prediction"},
    # It was trained both ways with the same shapes. Other programs look at this tensor too.
    telltale=Telltale(f"{UNET}output_blocks.11.1.transformer_blocks.0.norm1.bias", least_v=0.09),
    layer_read=2,
    text_encoders=(TextEncoder("text_encoder", "cond_stage_model.", is_open=True),),
    unet=UNet(prompt_width=1024, proj_in_dimensions=2, upcasts_attention=True),
    embedding_width=1024,
    metadata_names=("sd_v2", "stable-diffusion-v2", "sd-2"),
)
