"""The lines of the table for masks, and for ControlNets, style LoRAs and the embedding, through diffusers and peft.

The last three are GROUPS, which have no line for what is not there.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionControlNetPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
)
from PIL import Image
from safetensors.torch import load_file

from training import control, inversion, styles
from training.evaluation import measures
from training.evaluation.judge import THING_NAMES, judged
from training.evaluation.measures import STEPS, Task
from training.evaluation.rows import Row, Subject, at_least
from training.extras import CONTROLS, place_of
from training.sheet import load_pipeline

_TASKS = 32


def _tasks(seed: int) -> list[Task]:
    """Prompts of one thing each, without a style."""
    return [
        task
        for task in measures.fresh_tasks(_TASKS * 3, seed, held_out_share=0)
        if task.scene.thing and not task.scene.second
    ][:_TASKS]


def controlled_pipeline(pipeline: StableDiffusionPipeline, folder: Path) -> StableDiffusionControlNetPipeline:
    """A pipeline with a ControlNet beside it."""
    net = ControlNetModel.from_pretrained(folder, torch_dtype=torch.float32)
    controlled = StableDiffusionControlNetPipeline(**pipeline.components, controlnet=net, requires_safety_checker=False)
    controlled.set_progress_bar_config(disable=True)
    return controlled


def styled_pipeline(folder: Path, lora: Path) -> StableDiffusionPipeline:
    """A pipeline with a LoRA as its adapter "style"."""
    pipeline = load_pipeline(folder)
    pipeline.load_lora_weights(lora.parent, weight_name=lora.name, adapter_name="style")
    return pipeline


def named_pipeline(folder: Path, embedding: Path) -> StableDiffusionPipeline:
    """A pipeline that knows the embedding's name in angle brackets."""
    pipeline = load_pipeline(folder)
    pipeline.load_textual_inversion(
        {"emb_params": load_file(embedding)["emb_params"].float()}, token=f"<{inversion.NAME}>"
    )
    return pipeline


def control_rows(subject: Subject) -> Iterator[Row]:
    """How well the edges of a picture agree with the control's, with it and without.

    Once with prompts that leave the composition open, as a sketch is used; once with prompts that say everything, where
    pictures agree by themselves and the VAE alone keeps four fifths.
    """
    said = _tasks(seed=11)
    shown = np.stack([control.drawn_control(task.scene, (128, 128))[0] for task in said])
    for kind in CONTROLS:
        folder = place_of(kind, subject.folder.parent)
        if not folder.exists():
            continue
        pipeline = controlled_pipeline(subject.pipeline, folder)
        for what, tasks in (
            ("time of day said", [replace(task, prompt=task.scene.time) for task in said]),
            ("all said", said),
        ):
            with_it = [
                paint_controlled(pipeline, task, picture[..., control.CHANNELS[kind]])
                for task, picture in zip(tasks, shown, strict=True)
            ]
            without = measures.paint(subject.pipeline, tasks)
            found = []
            for all_made in (with_it, without):
                pairs = zip(shown, all_made, strict=True)
                scores = [control.agreement(picture[..., 3], control.edges(made)) for picture, made in pairs]
                found.append(np.mean(scores))
            is_asked = kind == "edges" and tasks is not said
            asked, reached = ("twice that without", bool(found[0] >= 2 * found[1])) if is_asked else ("", None)
            yield Row(
                f"{kind}, {what}: F1 of edges with control; without", f"{found[0]:.2f}; {found[1]:.2f}", asked, reached
            )


def paint_controlled(pipeline: StableDiffusionControlNetPipeline, task: Task, shown: np.ndarray) -> np.ndarray:
    """Paint a task, 128 pixels square, with a gray control (128, 128); uint8 (128, 128, 3)."""
    made = pipeline(
        task.prompt, Image.fromarray(np.repeat(shown[..., None], 3, 2)), width=128, height=128,
        num_inference_steps=STEPS, guidance_scale=measures.GUIDANCE,
        generator=torch.Generator().manual_seed(task.seed), output_type="np",
    ).images[0]  # fmt: skip
    return (made * 255 + 0.5).astype(np.uint8)


def inpaint_rows(subject: Subject) -> Iterator[Row]:
    """How often a thing is recognised that the plain model paints into a masked scene.

    The mask is the middle of a drawn scene without things.
    """
    tasks = [
        task
        for task in measures.fresh_tasks(_TASKS * 6, seed=14, held_out_share=0)
        if task.scene.thing and not task.scene.second
    ]
    tasks = [task for task in tasks if not task.scene.side and task.scene.count == 1][:_TASKS]
    empty = [
        Image.fromarray(picture) for picture in measures.drawn([inversion.background(task.scene) for task in tasks])
    ]
    mask = Image.new("L", (128, 128))
    mask.paste(255, (16, 16, 112, 124))
    pipeline = StableDiffusionInpaintPipeline(**subject.pipeline.components, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        [task.prompt for task in tasks], image=empty, mask_image=[mask] * len(tasks), width=128, height=128,
        strength=1.0, num_inference_steps=STEPS, guidance_scale=measures.GUIDANCE, output_type="np",
        generator=[torch.Generator().manual_seed(task.seed) for task in tasks],
    ).images  # fmt: skip
    scenes = [task.scene for task in tasks]
    with_mask = measures.scores(subject.judge, (made * 255 + 0.5).astype(np.uint8), scenes)["thing"]
    without = measures.scores(subject.judge, measures.paint(subject.pipeline, tasks), scenes)["thing"]
    yield Row("thing by the plain model into a mask; without a mask", f"{with_mask:.1%}; {without:.1%}")


def style_rows(subject: Subject) -> Iterator[Row]:
    """How far each LoRA goes to its style at weight 1, and at one half."""
    for style in styles.STYLES:
        file = place_of(style, subject.folder.parent)
        if not file.exists():
            continue
        tasks = _tasks(seed=12)
        plain = measures.paint(subject.pipeline, tasks)
        pipeline = styled_pipeline(subject.folder, file)
        far = {}
        for weight in (1.0, 0.5):
            pipeline.set_adapters(["style"], [weight])
            far[weight] = styles.likeness(measures.paint(pipeline, tasks), plain, style)
        reached = far[1.0] > 0.3 and 0.35 <= far[0.5] / far[1.0] <= 0.65
        yield Row(
            f"{style}: way to its style at weight 1; at 0.5",
            f"{far[1.0]:.2f}; {far[0.5]:.2f}",
            "moves; half as far ±30%",
            reached,
        )


def name_rows(subject: Subject) -> Iterator[Row]:
    """How often the embedding's thing is the one that the judge is surest of."""
    file = place_of(inversion.NAME, subject.folder.parent)
    if not file.exists():
        return
    pipeline = named_pipeline(subject.folder, file)
    tasks = [
        replace(task, prompt=f"<{inversion.NAME}> {place}")
        for task, place in zip(_tasks(seed=13), inversion.PLACES * _TASKS, strict=False)
    ]
    sure = measures.presence(judged(subject.judge, measures.paint(pipeline, tasks))).argmax(1).tolist()
    hits = float(np.mean([THING_NAMES[index] == inversion.NAME for index in sure]))
    yield at_least(f"{inversion.NAME} recognised in {len(tasks)} pictures", hits, 0.80)


GROUPS: tuple[Callable[[Subject], Iterator[Row]], ...] = (control_rows, style_rows, name_rows)
