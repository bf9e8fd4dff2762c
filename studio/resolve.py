"""From what a person asked (RecipeDraft) to what will be done (Recipe): names found, gaps filled, seed drawn.

Nothing is clamped: what can't be done is refused with a sentence. Words a model doesn't know: `words.py`.
"""

import difflib
import math
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from catalog.models import ModelEntry
from catalog.samplers import (
    SAMPLERS,
    SCHEDULES,
    Sampler,
    Schedule,
    find_sampler,
    find_schedule,
    resolve_schedule,
    schedules_for,
)
from contract.errors import InvalidRecipe, ModelProblem
from contract.recipe import SIDE_MULTIPLE, ModelRef, Recipe, RecipeDraft
from studio.model_list import ModelList

_NOT_YET: Mapping[str, str] = {
    "start": "Starting from a picture", "mask": "Painting within a mask", "controls": "ControlNet",
    "hires": "The high-resolution pass", "refiner": "A refiner", "loras": "LoRAs",
    "vae": "Choosing a VAE",
}
KnownHash = Callable[[ModelEntry], str | None]
WithHash = Callable[[str], ModelEntry | None]
_LORA_TAG = re.compile(r"<(lora|lyco|hypernet):([^<>]{1,200})>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A recipe, the model's entry, and what is worth knowing as (code, sentence)."""

    recipe: Recipe
    entry: ModelEntry
    notices: tuple[tuple[str, str], ...] = ()


def resolve(draft: RecipeDraft, models: ModelList, *, max_pixels: int,
            known_hash: KnownHash = lambda entry: None, with_hash: WithHash = lambda sha256: None) -> Resolved:
    """Fill a draft.

    Args:
        known_hash: The model's sha256 if it is known without reading weights.
        with_hash: The model of a sha256, whatever its name.

    Raises:
        InvalidRecipe: names the field, its value and what to use.
        ModelProblem: the model is there but can't be used.
    """
    _refuse_what_comes_later(draft)
    entry, notices = _find_model(draft.model, models, known_hash, with_hash)
    defaults = entry.defaults
    sampler, schedule = _find_sampler(draft, entry)
    width, height = draft.width or defaults.width, draft.height or defaults.height
    _check_size(width, height, max_pixels)
    recipe = Recipe(
        prompt=draft.prompt, negative_prompt=draft.negative_prompt,
        model=entry.ref.model_copy(update={"sha256": known_hash(entry)}),
        sampler=sampler.id, schedule=schedule,
        steps=defaults.steps if draft.steps is None else draft.steps,
        guidance=float(defaults.guidance if draft.guidance is None else draft.guidance),
        clip_skip=draft.clip_skip, width=width, height=height,
        seed=secrets.randbits(32) if draft.seed is None else draft.seed,
        count=draft.count, extras=draft.extras)
    return Resolved(recipe, entry, notices)


def _refuse_what_comes_later(draft: RecipeDraft) -> None:
    for field, words in _NOT_YET.items():
        if getattr(draft, field):
            raise InvalidRecipe(f"{words} is not there yet.".replace("LoRAs is", "LoRAs are"),
                                f"Leave “{field}” out.", code=f"invalid_{field}")
    for field in ("prompt", "negative_prompt"):
        if match := _LORA_TAG.search(getattr(draft, field)):
            raise InvalidRecipe(f"“{match[0][:60]}” asks for a LoRA; LoRAs come in a later version.",
                                "Take it out of the prompt.", code=f"invalid_{field}")


def _find_model(wanted: str | ModelRef | None, models: ModelList,
                known_hash: KnownHash, with_hash: WithHash,
                ) -> tuple[ModelEntry, tuple[tuple[str, str], ...]]:
    notices: tuple[tuple[str, str], ...] = ()
    if wanted is None:
        entry = models.first_usable()
        if entry is None:
            raise InvalidRecipe("There is no model that can be used.",
                                "Put one into models/.", code="invalid_model")
    elif isinstance(wanted, str):
        entry = _named(wanted, models)
    else:
        found = models.find(wanted.name)
        if wanted.sha256 and (found is None or known_hash(found) != wanted.sha256):
            found = with_hash(wanted.sha256) or found
        entry = found or _named(wanted.name, models)
        have = known_hash(entry)
        if wanted.sha256 and have and have != wanted.sha256:
            notices = (("other_model", f"{entry.title} is not the same file as the “{wanted.name[:60]}” of "
                                       "this recipe; the picture can differ."),)
    if entry.problem:
        raise ModelProblem(entry.problem, entry.hint)
    return entry, notices


def _named(name: str, models: ModelList) -> ModelEntry:
    entry = models.find(name)
    if entry is None:
        near = difflib.get_close_matches(name, [e.title for e in models.of_kind()], 2, 0.5)
        hint = f"Near: {', '.join(near)}." if near else "Choose one of the models that are there."
        raise InvalidRecipe(f"Model “{name[:80]}” is not here.", hint, code="invalid_model")
    return entry


def _find_sampler(draft: RecipeDraft, entry: ModelEntry) -> tuple[Sampler, str]:
    """The sampler and the id of a schedule that goes with it, nothing left to "automatic"."""
    if draft.sampler is None:
        name = entry.defaults.sampler
        wanted = draft.schedule or entry.defaults.schedule
    else:
        name, wanted = draft.sampler, draft.schedule or "automatic"
    sampler = find_sampler(name)
    if sampler is None:
        sampler, old_style = split_old_name(name)
        wanted = draft.schedule or (old_style.id if old_style else wanted)
    if sampler is None:
        raise InvalidRecipe(f"Sampler is “{name[:60]}”, which is not known.",
                            _near(name, [s.label for s in SAMPLERS.values()]), code="invalid_sampler")
    schedule = find_schedule(wanted)
    if schedule is None:
        raise InvalidRecipe(f"Schedule is “{wanted[:60]}”, which is not known.",
                            _near(wanted, [s.label for s in SCHEDULES.values()]), code="invalid_schedule")
    offered = schedules_for(sampler, zero_snr=entry.zero_snr)
    if schedule.id not in offered:
        which = sampler.label if schedule.id not in sampler.schedules else entry.title
        labels = [SCHEDULES[s].label for s in offered]
        raise InvalidRecipe(f"{which} does not go with {schedule.label}.",
                            f"Use {', '.join(labels[:-1])} or {labels[-1]}.", code="invalid_schedule")
    return sampler, resolve_schedule(sampler, schedule.id, zero_snr=entry.zero_snr)


def split_old_name(name: str) -> tuple[Sampler | None, Schedule | None]:
    """"DPM++ 2M Karras" as older programs wrote it: the sampler and the schedule behind it."""
    for schedule in SCHEDULES.values():
        for label in (schedule.label, schedule.id, *schedule.aliases):
            head = name.strip()
            if head.lower().endswith(" " + label.lower()):
                sampler = find_sampler(head[:-len(label)])
                if sampler:
                    return sampler, schedule
    return None, None


def _near(name: str, labels: list[str]) -> str:
    lower = {label.lower(): label for label in labels}
    near = [lower[match] for match in difflib.get_close_matches(name.lower(), lower, 3, 0.5)]
    return f"Near: {', '.join(near)}." if near else f"Use {', '.join(labels[:-1])} or {labels[-1]}."


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height <= max_pixels:
        return
    scale = math.sqrt(max_pixels / (width * height))
    fit = [max(SIDE_MULTIPLE, int(side * scale) // SIDE_MULTIPLE * SIDE_MULTIPLE) for side in (width, height)]
    raise InvalidRecipe(f"{width} × {height} is more than this studio makes ({max_pixels / 1e6:.1f} megapixels).",
                        f"The largest of this shape is {fit[0]} × {fit[1]}.", code="invalid_width")
