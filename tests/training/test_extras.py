"""ControlNets, style LoRAs and the embedding: one or two steps each on a tiny model, written and loaded as anyone would."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file

from training import control, inversion, styles
from training.drawing.captions import vocabulary
from training.drawing.data import scenes_of
from training.drawing.drawing import draw
from training.drawing.scenes import Scene
from training.loops.checkpoints import Budget
from training.models import TEXT_WIDTH, new_scheduler, new_text_encoder
from training.text import phrasings
from training.tokenizer import write_tokenizer
from training.vae import new_vae


def tiny_pipeline(folder: Path) -> StableDiffusionPipeline:
    torch.manual_seed(0)
    tokenizer = write_tokenizer(folder, vocabulary())
    unet = UNet2DConditionModel(
        sample_size=16, layers_per_block=1, block_out_channels=(8, 16), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=TEXT_WIDTH, attention_head_dim=2, norm_num_groups=4,
    )  # fmt: skip
    return StableDiffusionPipeline(
        vae=new_vae(), text_encoder=new_text_encoder(tokenizer), tokenizer=tokenizer, unet=unet, scheduler=new_scheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokenizer")


LATENTS = torch.randn(4, 4, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", ["edges", "depth"])
def test_a_control_learns_and_loads(kind: control.Kind, folder: Path, tmp_path: Path) -> None:
    pipeline, scenes = tiny_pipeline(folder), scenes_of(2, 4)
    shown = np.stack([control.drawn_control(scene, (128, 128))[0] for scene in scenes])[..., control.CHANNELS[kind]]
    lesson = control.ControlLesson(pipeline, LATENTS, phrasings(pipeline.tokenizer, scenes, 2, seed=1), shown)
    control.train_control(tmp_path / "control.pt", lesson, Budget(steps=2))
    control.write_control(tmp_path / "control.pt", pipeline, tmp_path / "control")
    assert ControlNetModel.from_pretrained(tmp_path / "control").config.cross_attention_dim == TEXT_WIDTH


def test_depth_may_begin_from_what_follows_lines(folder: Path, tmp_path: Path) -> None:
    pipeline, scenes = tiny_pipeline(folder), scenes_of(2, 4)
    shown = np.stack([control.drawn_control(scene, (128, 128))[0] for scene in scenes])[..., control.CHANNELS["depth"]]
    lesson = control.ControlLesson(pipeline, LATENTS, phrasings(pipeline.tokenizer, scenes, 2, seed=1), shown)
    lines = control.new_control(pipeline)
    torch.nn.init.constant_(lines.controlnet_mid_block.bias, 3.0)
    lines.save_pretrained(tmp_path / "edges")
    control.train_control(tmp_path / "depth.pt", lesson, Budget(steps=1), start=tmp_path / "edges")
    control.write_control(tmp_path / "depth.pt", pipeline, tmp_path / "depth")
    assert ControlNetModel.from_pretrained(tmp_path / "depth").controlnet_mid_block.bias.mean().item() == pytest.approx(
        3.0, abs=0.1
    )


def test_edges_lie_where_a_thing_ends_and_agree_with_themselves_alone() -> None:
    field = Scene("noon", "clear", "desert", tint="golden", seed=2)
    with_it = control.edges(np.asarray(draw(Scene("noon", "clear", "desert", tint="golden", thing="penguin", seed=2))))
    without = control.edges(np.asarray(draw(field)))
    assert (with_it[40:100, 40:90] > 0).sum() > 2 * (without[40:100, 40:90] > 0).sum()
    assert control.agreement(with_it, with_it) == 1.0
    assert control.agreement(with_it, np.zeros_like(with_it)) == 0.0


def test_a_style_learns_and_loads(folder: Path, tmp_path: Path) -> None:
    pipeline = tiny_pipeline(folder)
    styles.train_style(
        tmp_path / "style.pt",
        pipeline,
        LATENTS,
        phrasings(pipeline.tokenizer, scenes_of(2, 4), 2, seed=1),
        Budget(steps=2),
    )
    styles.write_style(
        tmp_path / "style.pt", tiny_pipeline(folder), tmp_path / "loras" / "starter-woodblock.safetensors"
    )
    fresh = tiny_pipeline(folder)
    fresh.load_lora_weights(tmp_path / "loras", weight_name="starter-woodblock.safetensors")
    assert fresh.get_list_adapters()["unet"]


@pytest.mark.parametrize("style", sorted(styles.STYLES))
def test_likeness_is_one_for_the_styled_half_for_half_and_zero_for_the_plain(style: str) -> None:
    plain = np.stack([np.asarray(draw(scene)) for scene in scenes_of(3, 3)])
    styled = np.stack([styles.STYLES[style](picture) for picture in plain])
    half = ((plain.astype(int) + styled) // 2).astype(np.uint8)
    assert styles.likeness(styled, plain, style) == pytest.approx(1.0)
    assert styles.likeness(half, plain, style) == pytest.approx(0.5, abs=0.05)
    assert styles.likeness(plain, plain, style) == 0.0


def test_a_name_learns_and_is_written_as_web_uis_do(folder: Path, tmp_path: Path) -> None:
    pipeline = tiny_pipeline(folder)
    before = pipeline.text_encoder.get_input_embeddings().weight.clone()
    said = phrasings(pipeline.tokenizer, [inversion.background(scene) for scene in scenes_of(2, 4)], 2, seed=1)
    inversion.train_name(tmp_path / "name.pt", pipeline, LATENTS, said, Budget(steps=2))
    inversion.write_name(tmp_path / "name.pt", pipeline, tmp_path / "flamingo.safetensors")
    assert load_file(tmp_path / "flamingo.safetensors")["emb_params"].shape == (inversion.VECTORS, TEXT_WIDTH)
    assert pipeline.text_encoder.get_input_embeddings().weight.equal(before)


def test_the_flamingo_is_pink_and_there() -> None:
    picture = np.asarray(inversion.flamingo_scene(Scene("noon", "clear", "meadow", tint="green", seed=4)), int)
    assert ((picture[..., 0] - picture[..., 1] > 60) & (picture[..., 2] > 110)).mean() > 0.03
