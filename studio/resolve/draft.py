"""From what a person asked (RecipeDraft) to what will be done (Recipe): names found, gaps filled, seed drawn.

Nothing is clamped: what can't be done is refused with a sentence. LoRAs and their tags: `loras.py`;
embeddings: `textual_inversion.py`; words a model doesn't know: `vocabulary.py`.
"""

import difflib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from catalog.models import ModelEntry
from contract.errors import InvalidRecipe, ModelProblem
from contract.recipe import ModelRef, Recipe, RecipeDraft
from studio.library.model_list import ModelList
from studio.resolve.controls import resolve_controls, resolve_ip_adapters
from studio.resolve.loras import net_ref, take_nets
from studio.resolve.model_finder import Finder
from studio.resolve.parts import (
    SizeOf,
    check_pictures,
    check_size,
    check_start,
    choose_size,
    resolve_hires,
    sized_mask,
)
from studio.resolve.sampler_choice import choose_sampler
from studio.resolve.textual_inversion import resolve_embeddings

_NOT_YET: Mapping[str, str] = {"refiner": "A refiner"}


@dataclass(frozen=True, slots=True)
class Resolved:
    """A recipe, the model's entry, and what is worth knowing as (code, sentence)."""

    recipe: Recipe
    entry: ModelEntry
    notices: tuple[tuple[str, str], ...] = ()


def resolve(draft: RecipeDraft, finder: Finder, *, max_pixels: int, size_of: SizeOf = lambda sha256: None) -> Resolved:
    """Fill a draft.

    Args:
        finder: Of this draft alone; its notices become the result's.
        size_of: Width and height of a brought picture; None if it is not kept.

    Raises:
        InvalidRecipe: names the field, its value and what to use.
        InvalidInput: a picture is not there, or does not fit.
        ModelProblem: the model is there but can't be used.
    """
    _refuse_what_comes_later(draft)
    entry = _find_model(draft.model, finder)
    finder.notices += [("model_settings", f"{entry.title}: {warning}") for warning in entry.warnings]
    nets = take_nets(draft, finder, entry)
    draft = nets.draft
    defaults = entry.defaults
    sampler, schedule = choose_sampler(draft.sampler, draft.schedule, entry)
    check_pictures(draft, size_of)
    check_start(draft, entry)
    width, height = choose_size(draft, entry, size_of, max_pixels)
    check_size(width, height, max_pixels)
    recipe = Recipe(
        prompt=draft.prompt,
        negative_prompt=draft.negative_prompt,
        model=finder.ref(entry),
        vae=_vae_beside(entry, finder.models) if draft.vae is None else net_ref(draft.vae, "vae", "vae", finder, entry),
        loras=nets.loras,
        hypernetworks=nets.hypernetworks,
        embeddings=resolve_embeddings(draft, finder, entry),
        sampler=sampler.id,
        schedule=schedule,
        steps=defaults.steps if draft.steps is None else draft.steps,
        guidance=float(defaults.guidance if draft.guidance is None else draft.guidance),
        clip_skip=draft.clip_skip,
        width=width,
        height=height,
        seed=secrets.randbits(32) if draft.seed is None else draft.seed,
        count=draft.count,
        init_image=draft.init_image,
        mask=sized_mask(draft),
        controls=resolve_controls(draft, finder, entry, size_of),
        ip_adapters=resolve_ip_adapters(draft.ip_adapters, finder, entry),
        hires=resolve_hires(draft.hires, finder, entry, sampler.id, (width, height), max_pixels)
        if draft.hires
        else None,
        extras=draft.extras,
    )
    return Resolved(recipe, entry, tuple(finder.notices))


def _refuse_what_comes_later(draft: RecipeDraft) -> None:
    for field, words in _NOT_YET.items():
        if getattr(draft, field):
            raise InvalidRecipe(f"{words} is not there yet.", f"Leave “{field}” out.", field=field)


def _find_model(wanted: str | ModelRef | None, finder: Finder) -> ModelEntry:
    if wanted is None:
        entry = finder.models.first_usable()
        if entry is None:
            raise InvalidRecipe("There is no model that can be used.", "Put one into models/.", field="model")
    else:
        name = wanted if isinstance(wanted, str) else wanted.name
        entry = finder.find(wanted, ("checkpoint",)) or _named(name, finder.models)
    if entry.problem:
        raise ModelProblem(entry.problem, entry.hint, field="model")
    return entry


def _vae_beside(entry: ModelEntry, models: ModelList) -> ModelRef | None:
    """The VAE of a checkpoint that has none inside: `dream.vae.safetensors` beside `dream.safetensors`."""
    if entry.has_vae:
        return None
    beside = entry.path.with_suffix(".vae.safetensors")
    listed = next((vae for vae in models.of_kind("vae") if vae.path == beside), None)
    found = models.find(listed.ref.name, "vae") if listed else None
    if found is None or found.problem:
        raise ModelProblem(f"{entry.title} has no VAE inside.", "Choose one in “VAE”.", field="vae")
    return found.ref


def _named(name: str, models: ModelList) -> ModelEntry:
    entry = models.find(name)
    if entry is None and (other := models.other_kind(name, "checkpoint")):
        raise InvalidRecipe(f"“{name[:80]}” is {other}, no checkpoint.", "Choose a checkpoint.", field="model")
    if entry is None:
        near = difflib.get_close_matches(name, [e.title for e in models.of_kind()], 2, 0.5)
        hint = f"Near: {', '.join(near)}." if near else "Choose one of the models that are there."
        raise InvalidRecipe(f"Model “{name[:80]}” is not here.", hint, field="model")
    return entry
