"""The text encoder, the U-Net and the scheduler of the starter model, untrained."""

from diffusers import DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training.tokenizer import LENGTH

TEXT_WIDTH = 192


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A causal transformer of 4 layers, 192 wide: 2.1 M parameters."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=TEXT_WIDTH, intermediate_size=TEXT_WIDTH * 4, projection_dim=TEXT_WIDTH,
        num_hidden_layers=4, num_attention_heads=6, max_position_embeddings=LENGTH, hidden_act="quick_gelu",
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return CLIPTextModel(config)


def new_unet() -> UNet2DConditionModel:
    """9.0 M parameters for latents of 16x16; `attention_head_dim` means the number of heads."""
    return UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(96, 128, 152),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH, attention_head_dim=(2, 4, 4), norm_num_groups=8,
    )  # fmt: skip


def new_scheduler() -> DDIMScheduler:
    """v prediction down to pure noise: dark and bright skies need zero terminal SNR."""
    return DDIMScheduler(
        num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing", steps_offset=1,
        clip_sample=False, set_alpha_to_one=True,
    )  # fmt: skip
