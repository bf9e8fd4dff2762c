"""Every form of names leads to the same layers, and what is not known is told by its kind."""

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import UNet2DConditionModel

from engine.lora.keys import ModuleNames, match_layers
from engine.lora.ldm_names import block_of, ldm_names

NOTHING = torch.zeros(1)


@pytest.fixture(scope="module")
def sd15() -> UNet2DConditionModel:
    with init_empty_weights():
        return UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)


@pytest.fixture(scope="module")
def sdxl() -> UNet2DConditionModel:
    with init_empty_weights():
        return UNet2DConditionModel(
            sample_size=128,
            block_out_channels=(320, 640, 1280),
            layers_per_block=2,
            cross_attention_dim=2048,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )


@pytest.mark.parametrize(
    "stem",
    [
        "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_out_0.lora_down.weight",
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_out_0.lora_up.weight",
        "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0.lora.down.weight",
        "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.processor.to_out_lora.up.weight",
        "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0.lora_A.weight",
        "unet.base_model.model.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0.lora_B.weight",
        "base_model.model.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0.lora_B.weight",
        "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_out.0.lora_up.weight",
        "lycoris_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_out_0.lokr_w1",
        "unet.unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0.lora_B.weight",
        "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0.lora_A.some_adapter.weight",
    ],
)
def test_every_form_of_a_name_is_the_same_layer(
    sd15: UNet2DConditionModel, sdxl: UNet2DConditionModel, stem: str
) -> None:
    for unet in (sd15, sdxl):
        found = match_layers({stem: NOTHING}, ModuleNames.of({"unet": unet}))
        assert [(layer.part, layer.module) for layer in found.layers] == [
            ("unet", "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0")
        ]
        assert found.unmatched == () and block_of(found.layers[0].ldm_name) == "IN04"


def test_first_names_cover_every_weight_and_none_twice(sd15: UNet2DConditionModel, sdxl: UNet2DConditionModel) -> None:
    for unet in (sd15, sdxl):
        names = [name for name, child in unet.named_modules() if "weight" in child._parameters]
        found = ldm_names(names)
        assert set(found) == set(names) and len(set(found.values())) == len(names)


@pytest.mark.parametrize(
    ("family", "ours", "first"),
    [
        ("sd15", "up_blocks.0.upsamplers.0.conv", "output_blocks.2.1.conv"),
        ("sd15", "up_blocks.1.upsamplers.0.conv", "output_blocks.5.2.conv"),
        ("sd15", "down_blocks.3.resnets.1.conv2", "input_blocks.11.0.out_layers.3"),
        ("sdxl", "up_blocks.0.upsamplers.0.conv", "output_blocks.2.2.conv"),
        ("sdxl", "up_blocks.2.resnets.2.conv_shortcut", "output_blocks.8.0.skip_connection"),
        (
            "sdxl",
            "down_blocks.2.attentions.1.transformer_blocks.9.ff.net.0.proj",
            "input_blocks.8.1.transformer_blocks.9.ff.net.0.proj",
        ),
        ("sdxl", "add_embedding.linear_2", "label_emb.0.2"),
        ("sd15", "mid_block.resnets.1.time_emb_proj", "middle_block.2.emb_layers.1"),
    ],
)
def test_known_pairs_of_names(request: pytest.FixtureRequest, family: str, ours: str, first: str) -> None:
    unet = request.getfixturevalue(family)
    assert ldm_names(name for name, _ in unet.named_modules())[ours] == first


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("lora_unet_mid_block_attentions_0_proj_in.oft_blocks", ""),
        ("lora_unet_x.a1.weight", "GLoRA"),
        ("unet.mid_block.attentions.0.proj_in.vera_lambda_b", "VeRA"),
        ("unet.mid_block.attentions.0.proj_in.lora_A.weight", ""),
    ],
)
def test_kinds_that_are_not_run_are_known(sd15: UNet2DConditionModel, name: str, kind: str) -> None:
    assert match_layers({name: NOTHING}, ModuleNames.of({"unet": sd15})).other_kind == kind


@pytest.mark.parametrize(
    "name",
    [
        "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight",
        "transformer.blocks.0.attn.to_q.lora_A.weight",
        "mid_block.attentions.0.proj_in.weight",
        "lora_te2_text_model_encoder_layers_0_mlp_fc1.alpha",
        "x",
        "a..b",
        "unet.mid_block.attentions.0.proj_in.lora_down.bias",
    ],
)
def test_what_the_model_has_no_place_for_is_counted(sd15: UNet2DConditionModel, name: str) -> None:
    found = match_layers({name: NOTHING}, ModuleNames.of({"unet": sd15}))
    assert (len(found.layers), len(found.unmatched), found.total) == (0, 1, 1)
