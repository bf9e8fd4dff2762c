"""The judge's labels and shapes, and the measures that need no training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from training.drawing.scenes import Scene, any_scene, is_held_out
from training.evaluation import measures
from training.evaluation.judge import (
    ANSWERS,
    THING_NAMES,
    Judge,
    JudgeLesson,
    judged,
    keep_judge,
    labels_of,
    load_judge,
    moved,
    places_of,
    train_judge,
)
from training.loops.checkpoints import Budget


def perfect_logits(scenes: list[Scene]) -> dict[str, torch.Tensor]:
    labels = labels_of(scenes)
    logits = {
        name: torch.nn.functional.one_hot(values, len(ANSWERS[name])).float() for name, values in labels.whole.items()
    }
    return {**logits, "things": labels.things * 2 - 1}


def test_every_scene_has_labels() -> None:
    rng = np.random.default_rng(3)
    scenes = [any_scene(rng) for _ in range(200)]
    labels = labels_of(scenes)
    assert labels.things.sum(dim=(1, 2)).tolist() == [len(places_of(scene)) for scene in scenes]


def test_places_follow_side_number_and_second_thing() -> None:
    plain = Scene("noon", "clear", "field", thing="cat")
    assert places_of(plain) == [("cat", 1)]
    assert places_of(Scene("noon", "clear", "field", thing="cat", side="right")) == [("cat", 2)]
    assert places_of(Scene("noon", "clear", "field", thing="cat", count=3)) == [("cat", 0), ("cat", 1), ("cat", 2)]
    assert places_of(Scene("noon", "clear", "field", thing="cat", second="dog")) == [("cat", 0), ("dog", 2)]
    assert places_of(Scene("noon", "clear", "field")) == []


def test_perfect_answers_score_all(monkeypatch) -> None:
    rng = np.random.default_rng(4)
    scenes = [any_scene(rng) for _ in range(150)]
    monkeypatch.setattr(measures, "judged", lambda judge, pictures: perfect_logits(scenes))
    assert set(measures.scores(Judge(), np.zeros(1), scenes).values()) == {1.0}


def test_wrong_answers_score_little(monkeypatch) -> None:
    rng = np.random.default_rng(4)
    scenes = [any_scene(rng) for _ in range(150)]
    monkeypatch.setattr(measures, "judged", lambda judge, pictures: perfect_logits(scenes[1:] + scenes[:1]))
    found = measures.scores(Judge(), np.zeros(1), scenes)
    assert found["thing"] < 0.1 and found["land"] < 0.3 and found["time"] < 0.5


def test_training_the_judge_lowers_its_loss(tmp_path: Path) -> None:
    scenes = [Scene("noon", "clear", "field", thing="cat"), Scene("night", "clear", "sea", light="full moon")]
    lesson = JudgeLesson(measures.drawn(scenes), scenes)
    path = tmp_path / "judge.pt"
    before = lesson.loss(load_judge(path), np.random.default_rng(0)).item()
    train_judge(path, lesson, Budget(steps=2))
    assert lesson.loss(load_judge(path), np.random.default_rng(0)).item() < before
    assert judged(load_judge(path), measures.drawn(scenes))["things"].shape == (2, len(THING_NAMES), 3)


def test_a_kept_judge_goes_on(tmp_path: Path) -> None:
    scenes = [Scene("noon", "clear", "field", thing="cat"), Scene("night", "clear", "sea", light="full moon")]
    lesson = JudgeLesson(measures.drawn(scenes), scenes)
    train_judge(tmp_path / "first.pt", lesson, Budget(steps=12))
    first = load_judge(tmp_path / "first.pt")
    keep_judge(first, tmp_path / "kept.safetensors")
    for name, start in (("second", tmp_path / "kept.safetensors"), ("anew", None)):
        train_judge(tmp_path / f"{name}.pt", lesson, Budget(steps=1), start=start)
    second, anew = (
        lesson.loss(load_judge(tmp_path / f"{name}.pt"), np.random.default_rng(0)).item() for name in ("second", "anew")
    )
    assert second < 0.9 * anew


def test_left_and_right_change_places_in_a_mirror() -> None:
    scene = Scene("noon", "clear", "field", thing="cat", side="left")
    assert labels_of([scene]).mirrored().things.equal(labels_of([replace(scene, side="right")]).things)
    picture = measures.drawn([scene])
    seen, mirrored = (judged(Judge(), pictures)["things"] for pictures in (picture, picture[:, :, ::-1].copy()))
    assert torch.allclose(seen, mirrored.flip(2), atol=1e-5) and not torch.allclose(seen, mirrored, atol=1e-5)


def test_a_shifted_batch_keeps_its_size_and_repeats_its_edge() -> None:
    batch = torch.arange(64.0).view(1, 1, 8, 8).repeat(2, 3, 1, 1)
    shifted = moved(batch, np.random.default_rng(2))
    assert shifted.shape == batch.shape and not shifted.equal(batch)
    assert set(shifted.unique().tolist()) <= set(range(64))


def test_fresh_tasks_are_the_same_each_time_and_hold_pairs_never_drawn() -> None:
    tasks = measures.fresh_tasks(20, seed=1)
    assert tasks == measures.fresh_tasks(20, seed=1)
    assert [is_held_out(task.scene) for task in tasks] == [True] * 3 + [False] * 17


def test_sharpness_and_burnt() -> None:
    flat = np.full((1, 8, 8, 3), 128, np.uint8)
    assert measures.sharpness(flat) == 0 and measures.burnt(flat) == 0
    checks = np.indices((8, 8)).sum(0)[None, ..., None] % 2 * np.full(3, 255, np.uint8)
    assert measures.sharpness(checks) == 255 and measures.burnt(checks) == 1
