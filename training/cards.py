"""`python -m training.cards`: paints the picture by which lists show a model, and puts it beside the model's file.

For the starter and each ControlNet, LoRA and embedding. One fixed prompt and seed each, with what is shipped.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from training import control, inversion, styles
from training.drawing.scenes import Scene
from training.evaluation import measures
from training.evaluation.extra_rows import controlled_pipeline, named_pipeline, paint_controlled, styled_pipeline
from training.evaluation.measures import Task
from training.extras import CONTROLS, PARTS, place_of
from training.sheet import load_pipeline

_SHOWN = Task(
    Scene("sunset", "clear", "island", thing="lighthouse", light="sun", seed=6),
    "a lighthouse on an island, at sunset, the sun",
    6,
)
_STARTER_SHOWS = (
    "a red sailboat at sea, at sunset, the sun", "a red hot air balloon over golden hills, at noon",
    "a castle on green hills, rainbow, in the morning", "a penguin in the snow, at night, aurora",
)  # fmt: skip


def card_path(part: str, models: Path) -> Path:
    """Where the picture of a part lies: in a folder, or beside a file."""
    place = place_of(part, models)
    return place / "preview.jpg" if part in CONTROLS else place.with_suffix(".jpg")


@torch.inference_mode()
def paint_card(part: str, models: Path) -> np.ndarray:
    """What a part does: (128, 128, 3).

    For a ControlNet, the lower left half shows its control, the upper right half the picture that follows it.
    """
    starter, place = models / "starter", place_of(part, models)
    if part in CONTROLS:
        shown = control.drawn_control(_SHOWN.scene, (128, 128))[0][..., control.CHANNELS[part]]
        made = paint_controlled(controlled_pipeline(load_pipeline(starter), place), _SHOWN, shown)
        return np.where(np.tri(128, dtype=np.bool_)[..., None], shown[..., None], made).astype(np.uint8)
    if part in styles.STYLES:
        return measures.paint(styled_pipeline(starter, place), [_SHOWN])[0].copy()
    task = Task(_SHOWN.scene, f"<{inversion.NAME}> {inversion.PLACES[0]}", _SHOWN.seed)
    return measures.paint(named_pipeline(starter, place), [task])[0].copy()


def paint_starter_card(folder: Path) -> np.ndarray:
    """Four pictures of the starter, seed = position: (256, 256, 3)."""
    made = measures.paint(
        load_pipeline(folder), [Task(_SHOWN.scene, prompt, seed) for seed, prompt in enumerate(_STARTER_SHOWS)]
    )
    return np.concatenate([np.concatenate(list(row), 1) for row in (made[:2], made[2:])])


def main() -> None:
    """Paint the card of the starter, and of each part that is there."""
    parser = argparse.ArgumentParser(
        prog="python -m training.cards", description="Paint the pictures that stand for the starter's parts."
    )
    parser.add_argument("--models", type=Path, default=Path("models"))
    models = parser.parse_args().models
    Image.fromarray(paint_starter_card(models / "starter")).save(models / "starter" / "preview.jpg", quality=85)
    for part in PARTS:
        if place_of(part, models).exists():
            Image.fromarray(paint_card(part, models)).resize((256, 256), Image.Resampling.BICUBIC).save(
                card_path(part, models), quality=85
            )


if __name__ == "__main__":
    main()
