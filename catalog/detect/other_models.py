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
        ("txt_in.individual_token_refiner.blocks.0.norm1.weight",): "Hunyuan Video, a video model",
        ("latent_in.weight", "cond_in.weight"): "Hunyuan3D",
        ("distilled_guidance_layer.norms.0.scale",): "Chroma",
        ("distilled_guidance_layer.0.norms.0.scale",): "Chroma",
        ("distilled_guidance_layer.in_proj.weight",): "Chroma",
        ("double_layers.0.attn.w1q.weight",): "AuraFlow",
        ("joint_transformer_blocks.0.attn.add_q_proj.weight", "register_tokens"): "AuraFlow",
        ("t5_yproj.weight",): "Mochi, a video model",
        ("t5_y_embedder.to_kv.weight",): "Mochi, a video model",
        ("head.modulation", "patch_embedding.weight"): "Wan, a video model",
        ("condition_embedder.text_embedder.linear_1.weight", "patch_embedding.weight"): "Wan, a video model",
        ("patchify_proj.weight", "adaln_single.linear.weight"): "LTX, a video model",
        (
            "proj_in.weight",
            "adaln_single.linear.weight",
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
        ("time_caption_embed.timestep_embedder.linear_1.weight",): "Lumina or OmniGen",
        ("cap_embedder.1.weight",): "Lumina",
        ("blocks.block0.blocks.0.block.attn.to_q.0.weight",): "Cosmos, a video model",
        ("blocks.0.mlp.layer1.weight", "x_embedder.proj.1.weight"): "Cosmos, a video model",
        ("clip_txt_mapper.weight",): "Stable Cascade",
        ("clip_txt_pooled_mapper.weight", "effnet_mapper.0.weight"): "Stable Cascade",
        ("effnet_mapper.0.weight",): "Würstchen",
        ("clf.1.weight", "effnet_mapper.0.weight"): "Stable Cascade",
        ("visual_transformer_blocks.0.feed_forward.in_layer.weight",): "Kandinsky 5",
        ("patch_embed.text_proj.weight", "transformer_blocks.0.norm1.linear.weight"): "CogVideoX or CogView",
        ("caption_projection.linear_1.weight", "transformer_blocks.0.ff.conv_inverted.weight"): "Sana",
        ("encoder_hid_proj.weight", "conv_in.weight", "add_embedding.linear_1.weight"): "Kolors",
        ("encoder_hid_proj.weight", "conv_in.weight", "encoder_hid_proj.bias"): "DeepFloyd IF or Kandinsky",
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
