"""Models of families that are not run, named by tensors that only they have, so that a sentence can say what a file is.

Names, no shapes; a model may lie below a prefix. Source: the layouts that are published, as ComfyUI and diffusers tell
them. Those of families that are run are never looked up here (`sniff.py`).
"""

from collections.abc import Container, Mapping
from types import MappingProxyType

PREFIXES = ("", "model.diffusion_model.", "diffusion_model.", "model.", "net.", "transformer.", "unet.")
# All tensors that a layout has -> what it is. The first that fits counts.
_LAYOUTS: Mapping[tuple[str, ...], str] = MappingProxyType(
    {
        ("double_stream_modulation_img.lin.weight",): "Flux 2",
        ("double_stream_modulation_img.linear.weight",): "Flux 2",
        ("txt_in.individual_token_refiner.blocks.0.norm1.weight",): "Hunyuan Video, a video model",
        (
            "context_embedder.time_text_embed.text_embedder.linear_1.weight",
            "time_text_embed.text_embedder.linear_1.weight",
        ): "Hunyuan Video, a video model",
        (
            "context_embedder.time_text_embed.text_embedder.linear_1.weight",
            "time_guidance_embed.timestep_embedder.linear_1.weight",
        ): "Hunyuan Image",
        ("latent_in.weight", "cond_in.weight"): "Hunyuan3D",
        ("distilled_guidance_layer.norms.0.scale",): "Chroma",
        ("distilled_guidance_layer.0.norms.0.scale",): "Chroma",
        ("distilled_guidance_layer.in_proj.weight",): "Chroma",
        ("double_layers.0.attn.w1q.weight",): "AuraFlow",
        ("joint_transformer_blocks.0.attn.add_q_proj.weight", "register_tokens"): "AuraFlow",
        ("t5_yproj.weight",): "Mochi, a video model",
        ("t5_y_embedder.to_kv.weight",): "Mochi, a video model",
        ("time_embed.pooler.to_kv.weight", "time_embed.caption_proj.weight"): "Mochi, a video model",
        ("head.modulation", "patch_embedding.weight"): "Wan, a video model",
        ("condition_embedder.text_embedder.linear_1.weight", "patch_embedding.weight"): "Wan, a video model",
        ("patchify_proj.weight", "adaln_single.linear.weight"): "LTX, a video model",
        (
            "proj_in.weight",
            "adaln_single.linear.weight",
            "caption_projection.linear_1.weight",
            "scale_shift_table",
        ): "LTX, a video model",
        (
            "proj_in.weight",
            "time_embed.emb.timestep_embedder.linear_1.weight",
            "caption_projection.linear_1.weight",
            "scale_shift_table",
        ): "LTX, a video model",
        ("pos_embed.proj.weight", "adaln_single.linear.weight", "caption_projection.linear_1.weight"): "PixArt",
        ("x_embedder.proj.weight", "t_block.1.weight", "y_embedder.y_proj.fc1.weight"): "PixArt",
        ("mlp_t5.0.weight",): "Hunyuan-DiT",
        ("extra_embedder.0.weight", "text_states_proj.linear_1.weight"): "Hunyuan-DiT",
        ("text_embedder.linear_1.weight", "time_extra_emb.pooler.positional_embedding"): "Hunyuan-DiT",
        ("caption_projection.0.linear.weight", "double_stream_blocks.0.block.attn1.to_q.weight"): "HiDream",
        ("txt_norm.weight", "transformer_blocks.0.attn.add_q_proj.weight"): "Qwen-Image",
        ("cap_pad_token", "cap_embedder.1.weight"): "Z-Image",
        ("cap_embedder.1.weight", "context_refiner.0.attention.qkv.weight"): "Lumina 2",
        ("time_caption_embed.caption_embedder.0.weight",): "Lumina",
        ("time_caption_embed.timestep_embedder.linear_1.weight",): "Lumina or OmniGen",
        ("cap_embedder.1.weight",): "Lumina",
        ("blocks.block0.blocks.0.block.attn.to_q.0.weight",): "Cosmos, a video model",
        ("blocks.0.mlp.layer1.weight", "x_embedder.proj.1.weight"): "Cosmos, a video model",
        ("patch_embed.proj.weight", "time_embed.t_embedder.linear_1.weight"): "Cosmos, a video model",
        ("clip_txt_mapper.weight",): "Stable Cascade (stage C)",
        ("clip_txt_pooled_mapper.weight", "effnet_mapper.0.weight"): "Stable Cascade (stage B)",
        ("in_block.1.weight", "out_block.0.weight"): "Stable Cascade's autoencoder (stage A)",
        ("effnet_mapper.0.weight",): "Würstchen",
        ("clf.1.weight", "effnet_mapper.0.weight"): "Stable Cascade",
        ("visual_transformer_blocks.0.feed_forward.in_layer.weight",): "Kandinsky 5",
        (
            "patch_embed.text_proj.weight",
            "time_condition_embed.condition_embedder.linear_1.weight",
        ): "CogView",
        ("patch_embed.text_proj.weight", "time_embedding.linear_1.weight"): "CogVideoX, a video model",
        ("glyph_projector.net.0.proj.weight",): "GLM-Image",
        ("patch_embed.text_proj.weight", "transformer_blocks.0.norm1.linear.weight"): "CogVideoX or CogView",
        ("caption_projection.linear_1.weight", "transformer_blocks.0.ff.conv_inverted.weight"): "Sana",
        ("encoder_hid_proj.weight", "conv_in.weight", "add_embedding.linear_1.weight"): "Kolors",
        ("encoder_hid_proj.weight", "conv_in.weight", "encoder_hid_proj.bias"): "DeepFloyd IF or Kandinsky",
        ("add_time_condition.attention.to_q.weight", "conv_in.weight"): "Kandinsky 3",
        ("prd_embedding", "clip_mean"): "a prior of unCLIP or Kandinsky",
        ("down_blocks.0.resnets.0.temporal_res_block.conv1.weight",): "Stable Video Diffusion",
        ("transformer_in.proj_in.weight", "conv_in.weight"): "a video model",
        ("add_embedding.image_norm.weight",): "Kandinsky",
        ("prompt_embed_proj.weight",): "Kandinsky",
        ("genre_embedder.weight",): "ACE-Step, which makes sound",
        ("transformer.rotary_pos_emb.inv_freq",): "Stable Audio, which makes sound",
        ("double_blocks.0.img_attn.qkv.weight",): "a model built like Flux",
        ("double_blocks.0.img_attn.qkv.qweight",): "a model built like Flux",
        ("transformer_blocks.0.attn.add_q_proj.weight",): "a transformer of a later family",
    }
)


def other_model(names: Container[str]) -> str:
    """What a file is whose tensors have these names; "" for what is not known."""
    for prefix in PREFIXES:
        for layout, label in _LAYOUTS.items():
            if all(prefix + name in names for name in layout):
                return label
    return ""
