"""Forward noising, one training step and a run that was stopped and goes on."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTokenizer

from training.diffusion import Bucket, Painter, Trainer, new_painter, noised, pick_bucket, timesteps
from training.drawing.captions import vocabulary
from training.drawing.scenes import random_scene
from training.loops.checkpoints import Budget, Stopwatch
from training.models import TEXT_WIDTH, new_scheduler, new_unet
from training.text import Slots, TextLesson, phrasings
from training.tokenizer import write_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"), vocabulary())


@pytest.fixture
def bucket(tokenizer: CLIPTokenizer) -> Bucket:
    rng = np.random.default_rng(1)
    latents = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    covered = torch.from_numpy(rng.integers(0, 256, (6, 8, 8)).astype(np.uint8))
    return Bucket(latents, covered, phrasings(tokenizer, [random_scene(rng) for _ in range(6)], 2, seed=1), batch=4)


def tiny_painter(tokenizer: CLIPTokenizer) -> Painter:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, layers_per_block=1, block_out_channels=(8, 16), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=TEXT_WIDTH, attention_head_dim=2, norm_num_groups=4,
    )  # fmt: skip
    return Painter(Slots(tokenizer), unet)


def test_noising_is_what_the_scheduler_does() -> None:
    scheduler = new_scheduler()
    x0, noise, t = torch.randn(5, 4, 8, 8), torch.randn(5, 4, 8, 8), torch.tensor([0, 10, 500, 900, 999])
    noisy, velocity = noised(x0, noise, scheduler.alphas_cumprod[t])
    torch.testing.assert_close(noisy, scheduler.add_noise(x0, noise, t))
    torch.testing.assert_close(velocity, scheduler.get_velocity(x0, noise, t))


def test_the_last_timestep_is_pure_noise() -> None:
    assert new_scheduler().alphas_cumprod[-1] == 0


def test_timesteps_cover_all_and_lean_to_noise() -> None:
    t = timesteps(np.random.default_rng(0), 1000)
    assert 0 <= int(t.min()) < 20 and 980 < int(t.max()) <= 999
    assert t.float().mean() > 550


def test_a_step_changes_all_parts_and_its_loss_is_finite(
    tokenizer: CLIPTokenizer, bucket: Bucket, tmp_path: Path
) -> None:
    trainer = Trainer(tiny_painter(tokenizer), tokenizer, tmp_path / "unet.pt")
    before = {name: value.clone() for name, value in trainer.painter.named_parameters()}
    losses = [trainer.train_step([bucket], Budget(steps=100)) for _ in range(2)]
    assert np.isfinite(losses).all()
    moved = {name.split(".")[0] for name, value in trainer.painter.named_parameters() if not value.equal(before[name])}
    assert moved == {"slots", "unet"}


def test_the_words_stand_still_before_the_last_part(tokenizer: CLIPTokenizer, bucket: Bucket, tmp_path: Path) -> None:
    trainer = Trainer(tiny_painter(tokenizer), tokenizer, tmp_path / "unet.pt")
    before = {name: value.clone() for name, value in trainer.painter.named_parameters()}
    trainer.train_step([bucket], Budget(steps=100, last=0.5))
    assert {
        name.split(".")[0] for name, value in trainer.painter.named_parameters() if not value.equal(before[name])
    } == {"unet"}


def test_a_start_gives_all_layers_of_its_shapes(tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    torch.manual_seed(4)
    config = {**new_unet().config, "cross_attention_dim": 64}
    old = UNet2DConditionModel.from_config(config)
    old.save_pretrained(tmp_path / "unet")
    unet = new_painter(Slots(tokenizer), tmp_path).unet
    assert unet.config.cross_attention_dim == TEXT_WIDTH
    assert unet.conv_in.weight.equal(old.conv_in.weight)


def test_a_stopped_run_goes_on_exactly(tokenizer: CLIPTokenizer, bucket: Bucket, tmp_path: Path) -> None:
    whole = Trainer(tiny_painter(tokenizer), tokenizer, tmp_path / "whole.pt")
    for _ in range(4):
        whole.train_step([bucket], Budget(steps=4))
    first = Trainer(tiny_painter(tokenizer), tokenizer, tmp_path / "parts.pt")
    for _ in range(2):
        first.train_step([bucket], Budget(steps=4))
    first.save()
    second = Trainer(tiny_painter(tokenizer), tokenizer, tmp_path / "parts.pt")
    assert second.step == 2
    for _ in range(2):
        second.train_step([bucket], Budget(steps=4))
    for name, value in whole.painter.state_dict().items():
        torch.testing.assert_close(second.painter.state_dict()[name], value, rtol=0, atol=0)


def test_other_shapes_join_at_last_and_as_often_as_they_ask(bucket: Bucket) -> None:
    other = Bucket(bucket.latents, bucket.covered, bucket.ids, share=0.25)
    rng = np.random.default_rng(2)
    assert all(pick_bucket([bucket, other], rng, is_last_part=False) is bucket for _ in range(50))
    share = np.mean([pick_bucket([bucket, other], rng, is_last_part=True) is other for _ in range(2000)])
    assert 0.2 < share < 0.3


def test_things_weigh_more(tokenizer: CLIPTokenizer, bucket: Bucket, tmp_path: Path) -> None:
    trainer = Trainer(tiny_painter(tokenizer), tokenizer, tmp_path / "unet.pt")
    bare = Bucket(bucket.latents, torch.zeros_like(bucket.covered), bucket.ids, batch=4)
    whole = Bucket(bucket.latents, torch.full_like(bucket.covered, 255), bucket.ids, batch=4)
    plain, weighted = (trainer.batch_loss(one, np.random.default_rng(1)).item() for one in (bare, whole))
    assert weighted == pytest.approx(plain * 3, rel=1e-3)


def test_the_lesson_keeps_teaching_the_slots(tokenizer: CLIPTokenizer, bucket: Bucket, tmp_path: Path) -> None:
    pictures = torch.randn(6, 4, 16, 16, generator=torch.Generator().manual_seed(2))
    lesson = TextLesson(bucket.ids, (pictures, pictures), torch.zeros(6, 16, 16))
    trainer = Trainer(tiny_painter(tokenizer), tokenizer, tmp_path / "unet.pt", lesson)
    before = trainer.painter.slots.head.weight.clone()
    trainer.train_step([bucket], Budget(steps=100))
    assert not trainer.painter.slots.head.weight.equal(before)


def test_the_rate_rises_then_falls_to_zero() -> None:
    budget = Budget(steps=1000)
    rates = [budget.rate(1e-3, step, 0.0) for step in (0, 99, 500, 1000)]
    assert rates[0] < rates[1] > rates[2] > rates[3]
    assert rates[3] < 1e-6


def test_a_run_that_goes_on_later_keeps_its_rate() -> None:
    assert Budget(steps=1000, last=0).rate(1e-3, 1000, 0.0) == pytest.approx(1e-3, rel=1e-3)
    rates = [Budget(steps=1000, last=0.25).rate(1e-3, step, 0.0) for step in (300, 750, 900, 1000)]
    assert rates[0] == rates[1] > rates[2] > rates[3]


def test_a_stop_counts_little(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter((0.0, 2.0, 1000.0))
    clock = SimpleNamespace(monotonic=lambda: next(times))  # the module's own: threads of other tests read the real one
    monkeypatch.setattr("training.loops.checkpoints.time", clock)
    watch = Stopwatch(longest_s=20.0)
    assert (watch.lap(), watch.lap()) == (2.0, 20.0)


def test_a_budget_of_seconds_ends_by_the_clock() -> None:
    assert Budget(seconds=10).progress(10**6, 5.0) == 0.5
    assert Budget(seconds=10).progress(0, 20.0) == 1.0
