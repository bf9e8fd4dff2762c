"""`python -m training.evaluate`: the starter set judged, as a table and as RESULTS.md with pictures.

With `--out DIR` it first draws pictures and trains a judge of its own there. Never looks at how a prompt came out
before it counts.
"""

import argparse
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from PIL import Image
from spandrel import ModelLoader
from torch.nn import functional

from training import inversion, parts, vae
from training.drawing import data
from training.drawing.scenes import random_scene
from training.evaluation import extra_rows, judge, measures
from training.evaluation.measures import Task
from training.evaluation.rows import Row, Subject, at_least
from training.loops.checkpoints import Budget
from training.loops.together import run_together
from training.sheet import load_pipeline

LOG = logging.getLogger(__name__)
RESULTS = Path(__file__).parent / "RESULTS.md"
_GOALS = {
    "time": 0.97, "sky": 0.97, "land": 0.95, "light": 0.93, "thing": 0.90, "thing, top 5": 0.97, "left or right": 0.85,
    "two things, both": 0.75, "number": 0.0,
}  # fmt: skip


def judge_rows(subject: Subject) -> Iterator[Row]:
    """How good the judge itself is, and how good the VAE.

    Pairs are too few among 500 scenes, so they have 300 of their own.
    """
    many, alone = measures.fresh_scenes(2400, seed=1), 500
    scenes, pairs = many[:alone], [scene for scene in many if scene.second][:300]
    drawn = measures.drawn([*scenes, *pairs])
    returned = measures.round_trip(subject.pipeline.vae, drawn)
    for name, pictures, goal in (("drawn scenes", drawn, 0.98), ("their VAE round trips", returned, 0.97)):
        found = measures.scores(subject.judge, pictures[:alone], scenes)
        found["two things, both"] = measures.scores(subject.judge, pictures[alone:], pairs)["two things, both"]
        for attribute, value in found.items():
            yield at_least(f"judge on {name}: {attribute}", value, goal if attribute != "number" else 0)
    yield at_least("VAE round trip, new scenes", vae.decibels(subject.pipeline.vae, drawn[:alone]), 28, "dB")


def painted_rows(subject: Subject) -> Iterator[Row]:
    """Fresh prompts and seeds, judged."""
    tasks = measures.fresh_tasks(subject.prompts, seed=1)
    scenes = [task.scene for task in tasks]
    pictures = measures.paint(subject.pipeline, tasks)
    _save_sheet(pictures[::4][:40])
    for attribute, value in measures.scores(subject.judge, pictures, scenes).items():
        yield at_least(f"painted, {len(tasks)} prompts: {attribute}", value, _GOALS[attribute])
    held_out = int(len(tasks) * 0.15)
    found = measures.scores(subject.judge, pictures[:held_out], scenes[:held_out])
    yield Row(f"of these, {held_out} with pairs never drawn: thing; land", f"{found['thing']:.1%}; {found['land']:.1%}")
    ratio = measures.sharpness(pictures) / measures.sharpness(
        measures.round_trip(subject.pipeline.vae, measures.drawn(scenes))
    )
    yield Row("sharpness against round trips of drawings", f"{ratio:.2f}", "0.75 to 1.25", 0.75 <= ratio <= 1.25)


def guidance_rows(subject: Subject) -> Iterator[Row]:
    """What guidance does to the things, and whether much of it burns."""
    tasks = [task for task in measures.fresh_tasks(160, seed=2) if task.scene.thing and not task.scene.second][:96]
    scenes = [task.scene for task in tasks]
    made = {guidance: measures.paint(subject.pipeline, tasks, guidance) for guidance in (1.0, 3.0, 7.0)}
    found = {guidance: measures.scores(subject.judge, pictures, scenes)["thing"] for guidance, pictures in made.items()}
    shown = ", ".join(f"{guidance:g}: {value:.1%}" for guidance, value in found.items())
    yield Row("thing by guidance", shown, "3 above 1", found[3.0] > found[1.0])
    drawn, seven = measures.burnt(measures.drawn(scenes)), measures.burnt(made[7.0])
    yield Row(
        "values at the ends of the range at guidance 7 (drawings)",
        f"{seven:.1%} ({drawn:.1%})",
        "≤ drawings + 10%",
        seven <= drawn + 0.10,
    )


def negative_rows(subject: Subject) -> Iterator[Row]:
    """How far a negative prompt drives out what nobody asked for, from the same seed, and what the prompt asks for.

    With guidance g a picture follows g times the prompt less g - 1 times the negative prompt. Where both say the same
    thing, once of it is left over, so the last row has no goal.
    """
    rng = np.random.default_rng(44)
    scenes = [replace(random_scene(rng), thing="", second="", light="", style="") for _ in range(96)]
    places = [Task(scene, f"{scene.land} {scene.time}", 7000 + number) for number, scene in enumerate(scenes)]
    yield _driven_out(subject, "light", places, measures.light_seen)
    yield _driven_out(
        subject, "thing", [replace(task, prompt="") for task in places], measures.thing_seen
    )  # a prompt without things paints none
    pairs = [task for task in measures.fresh_tasks(400, seed=3) if task.scene.second][:48]
    names = [task.scene.second for task in pairs]
    plain, without = (
        measures.things_seen(subject.judge, measures.paint(subject.pipeline, pairs, negative=words), names)
        for words in (None, names)
    )
    yield Row("second thing that is asked for, seen; with it as negative prompt", f"{plain:.1%}; {without:.1%}")


def _driven_out(
    subject: Subject, what: str, tasks: list[Task], seen: Callable[[judge.Judge, np.ndarray], list[str]]
) -> Row:
    """How often pictures show what their prompts don't ask for, without and with just that as negative prompt."""
    before = seen(subject.judge, measures.paint(subject.pipeline, tasks))
    shown = [(task, name) for task, name in zip(tasks, before, strict=True) if name]
    if len(shown) < 0.05 * len(tasks):
        return Row(
            f"a {what} nobody asked for, seen",
            f"{len(shown) / len(tasks):.1%}: too few to drive out",
            "at least 5%",
            False,
        )
    after = seen(
        subject.judge,
        measures.paint(subject.pipeline, [task for task, _ in shown], negative=[name for _, name in shown]),
    )
    left = sum(name == now for (_, name), now in zip(shown, after, strict=True))
    reached = left <= len(shown) / 3
    measured = f"{len(shown) / len(tasks):.1%}; {left / len(tasks):.1%}"
    return Row(
        f"a {what} nobody asked for, seen; with its name as negative prompt", measured, "at most a third", reached
    )


def seed_and_speed_rows(subject: Subject) -> Iterator[Row]:
    """The same seed twice, and how long a picture takes on this machine."""
    task = measures.fresh_tasks(1, seed=4)
    for size, goal in ((128, 2.0), (256, 8.0)):
        tries = []
        for _ in range(3):
            begin = time.monotonic()
            first = measures.paint(subject.pipeline, task, size=size)
            tries.append(time.monotonic() - begin)
        seconds = min(tries)
        yield Row(
            f"seconds at {size}x{size}, {torch.get_num_threads()} threads",
            f"{seconds:.2f}",
            f"≤ {goal:g}",
            seconds <= goal,
        )
    same = bool((first == measures.paint(subject.pipeline, task, size=size)).all())
    yield Row("a seed twice", "the same bits" if same else "differs", "the same bits", same)


def part_rows(subject: Subject) -> Iterator[Row]:
    """The upscaler against Lanczos and the preview decoder against the linear map, where they are there."""
    upscaler, preview = subject.folder.parent / parts.UPSCALER, subject.folder / parts.PREVIEW
    if upscaler.exists():
        yield _upscaler_row(upscaler)
    if preview.exists():
        yield _preview_row(subject, preview)


@torch.inference_mode()
def _upscaler_row(path: Path) -> Row:
    model = ModelLoader().load_from_file(path).model.float().eval()
    pictures = np.stack(
        [np.asarray(data.drawn_scene(scene, (256, 256))[0]) for scene in measures.fresh_scenes(24, seed=5)]
    )
    real = (vae.to_tensor(pictures) + 1) / 2
    small = functional.avg_pool2d(real, 2)
    arrays = (small.permute(0, 2, 3, 1).numpy() * 255 + 0.5).astype(np.uint8)
    lanczos = np.stack(
        [np.asarray(Image.fromarray(array).resize((256, 256), Image.Resampling.LANCZOS)) for array in arrays]
    )
    ours, theirs = (
        parts.decibels_between(model(small), real),
        parts.decibels_between((vae.to_tensor(lanczos) + 1) / 2, real),
    )
    return Row(
        "upscaler over Lanczos, held-out drawings", f"{ours:.2f} dB over {theirs:.2f} dB", "+1 dB", ours >= theirs + 1
    )


@torch.inference_mode()
def _preview_row(subject: Subject, folder: Path) -> Row:
    tiny = AutoencoderTiny.from_pretrained(folder, torch_dtype=torch.float32).eval()
    real = vae.to_tensor(measures.drawn(measures.fresh_scenes(96, seed=6)))
    latents = subject.pipeline.vae.encode(real).latent_dist.mode()
    truth = (real + 1) / 2
    layer = parts.linear_map(latents[:48], truth[:48])
    linear = functional.interpolate(layer(latents[48:]), size=truth.shape[-2:], mode="bicubic")
    ours = parts.decibels_between((tiny.decode(latents[48:]).sample + 1) / 2, truth[48:])
    theirs = parts.decibels_between(linear, truth[48:])
    return Row(
        "preview decoder over the linear map", f"{ours:.2f} dB over {theirs:.2f} dB", "+3 dB", ours >= theirs + 3
    )


def _save_sheet(pictures: np.ndarray) -> None:
    """The first pictures given, ten a row, none left out."""
    sheet = Image.new("RGB", (10 * 130, (len(pictures) + 9) // 10 * 130), "white")
    for index, picture in enumerate(pictures):
        sheet.paste(Image.fromarray(picture), (index % 10 * 130, index // 10 * 130))
    sheet.save(RESULTS.with_name("results.webp"), quality=80)


def _judge_worker(rank: int, out: Path, world: int, minutes: float, start: Path | None) -> None:
    pool = out / "judge" / "pool.npy"
    lesson = judge.JudgeLesson(np.load(pool, mmap_mode="r"), data.read_scenes(pool))
    judge.train_judge(out / "judge" / "judge.pt", lesson, Budget(seconds=minutes * 60), rank, world, start)


def _make_judge_pool(path: Path, count: int, pipeline: StableDiffusionPipeline) -> None:
    """Drawn scenes, one in four through the VAE and back, and one in forty with the embedding's thing."""
    drawn = data.make_pool(path.with_name("drawn.npy"), measures.fresh_scenes(count, seed=9), (128, 128))
    scenes = data.read_scenes(drawn)
    new = [
        replace(scene, thing=inversion.NAME, second="", count=1, side="", style="") for scene in scenes[: count // 40]
    ]
    pictures = np.concatenate(
        [np.load(drawn), np.stack([np.asarray(inversion.flamingo_scene(scene)) for scene in new])]
    )
    pictures[::4] = measures.round_trip(pipeline.vae, pictures[::4])
    path.with_suffix(".json").write_text(json.dumps([asdict(scene) for scene in [*scenes, *new]]))
    np.save(path, pictures)


def prepared_judge(arguments: argparse.Namespace, pipeline: StableDiffusionPipeline) -> judge.Judge:
    """The kept judge, or where a folder is given, the one trained there.

    If it is not trained yet, it is trained now; from then on it is the kept one.
    """
    if arguments.out is None:
        return judge.load_judge(judge.KEPT)
    arguments.out.mkdir(parents=True, exist_ok=True)
    pool, checkpoint = arguments.out / "judge" / "pool.npy", arguments.out / "judge" / "judge.pt"
    if not pool.exists():
        _make_judge_pool(pool, arguments.pictures, pipeline)
    world = arguments.processes
    start = judge.KEPT if arguments.go_on else None
    run_together(
        partial(_judge_worker, out=arguments.out, world=world, minutes=arguments.judge_minutes, start=start),
        world,
        arguments.out,
    )
    judge.keep_judge(judge.load_judge(checkpoint), judge.KEPT)
    return judge.load_judge(judge.KEPT)


def write_results(rows: list[Row], path: Path) -> None:
    """Keep the table beside its pictures."""
    head = "| what | measured | asked | reached |\n|---|---|---|---|\n"
    text = "\n".join(row.line() for row in rows)
    title = "# What the starter set does\n\n`python -m training.evaluate` wrote this page.\n\n"
    path.write_text(f"{title}{head}{text}\n\n![every fourth of the judged pictures, none left out](results.webp)\n")


def main() -> None:
    """Prepare the judge, measure, print and keep."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description="Judge the starter set.")
    parser.add_argument("--out", type=Path, help="folder to train another judge in; without it the kept one judges")
    parser.add_argument(
        "--go-on", action="store_true", help="with --out: train the kept judge on instead of one from nothing"
    )
    parser.add_argument("--starter", type=Path, default=Path("models/starter"))
    parser.add_argument("--prompts", type=int, default=512)
    parser.add_argument("--pictures", type=int, default=16000, help="drawn scenes for the judge")
    parser.add_argument("--judge-minutes", type=float, default=36)
    parser.add_argument("--processes", type=int, default=2, help="for the judge's training")
    arguments = parser.parse_args()
    pipeline = load_pipeline(arguments.starter)
    subject = Subject(arguments.starter, pipeline, prepared_judge(arguments, pipeline), arguments.prompts)
    rows = []
    for group in (
        judge_rows,
        painted_rows,
        guidance_rows,
        negative_rows,
        seed_and_speed_rows,
        part_rows,
        extra_rows.inpaint_rows,
        *extra_rows.GROUPS,
    ):
        for row in group(subject):
            rows.append(row)
            print(row.line(), flush=True)
    write_results(rows, RESULTS)


if __name__ == "__main__":
    main()
