"""From what a person asked (RecipeDraft) to what will be done (Recipe): names found, gaps filled, seed drawn.

Nothing is clamped: what can't be done is refused with a sentence. LoRAs and their tags: `resolve_loras.py`;
embeddings: `resolve_embeddings.py`; words a model doesn't know: `words.py`.
"""

import difflib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from catalog.models import ModelEntry
from contract.errors import InvalidRecipe, ModelProblem
from contract.recipe import ModelRef, Recipe, RecipeDraft
from studio.model_list import ModelList
from studio.resolve_controls import resolve_controls, resolve_references
from studio.resolve_embeddings import resolve_embeddings
from studio.resolve_loras import Finder, KnownHash, WithHash, take_nets
from studio.resolve_parts import (
    SizeOf,
    check_pictures,
    check_size,
    check_start,
    choose_size,
    resolve_hires,
)
from studio.sampler_choice import choose_sampler

_NOT_YET: Mapping[str, str] = {"refiner": "A refiner"}


@dataclass(frozen=True, slots=True)
class Resolved:
    """A recipe, the model's entry, and what is worth knowing as (code, sentence)."""

    recipe: Recipe
    entry: ModelEntry
    notices: tuple[tuple[str, str], ...] = ()


def resolve(draft: RecipeDraft, models: ModelList, *, max_pixels: int, size_of: SizeOf = lambda sha256: None,
            known_hash: KnownHash = lambda entry: None, with_hash: WithHash = lambda sha256: None) -> Resolved:
    """Fill a draft.

    Args:
        size_of: Width and height of a brought picture; None if it is not kept.
        known_hash: The model's sha256 if it is known without reading weights.
        with_hash: The model of a sha256, whatever its name.

    Raises:
        InvalidRecipe: names the field, its value and what to use.
        InvalidInput: a picture is not there, or does not fit.
        ModelProblem: the model is there but can't be used.
    """
    _refuse_what_comes_later(draft)
    entry, notices = _find_model(draft.model, models, known_hash, with_hash)
    finder = Finder(models, entry, known_hash, with_hash)
    nets = take_nets(draft, finder)
    draft = nets.draft
    defaults = entry.defaults
    sampler, schedule = choose_sampler(draft.sampler, draft.schedule, entry)
    check_pictures(draft, size_of)
    check_start(draft, entry)
    width, height = choose_size(draft, entry, size_of)
    check_size(width, height, max_pixels)
    recipe = Recipe(
        prompt=draft.prompt, negative_prompt=draft.negative_prompt,
        model=entry.ref.model_copy(update={"sha256": known_hash(entry)}),
        vae=_vae_beside(entry, models) if draft.vae is None else finder.ref(draft.vae, "vae", "vae"),
        loras=nets.loras, hypernetworks=nets.hypernetworks, embeddings=resolve_embeddings(draft, finder),
        sampler=sampler.id, schedule=schedule,
        steps=defaults.steps if draft.steps is None else draft.steps,
        guidance=float(defaults.guidance if draft.guidance is None else draft.guidance),
        clip_skip=draft.clip_skip, width=width, height=height,
        seed=secrets.randbits(32) if draft.seed is None else draft.seed,
        count=draft.count, start=draft.start, mask=draft.mask,
        controls=resolve_controls(draft, models, entry, size_of),
        references=resolve_references(draft.references, models, entry),
        hires=resolve_hires(draft.hires, models, entry, sampler.id, (width, height), max_pixels)
        if draft.hires else None,
        extras=draft.extras)
    return Resolved(recipe, entry, (*notices, *finder.notices))


def _refuse_what_comes_later(draft: RecipeDraft) -> None:
    for field, words in _NOT_YET.items():
        if getattr(draft, field):
            raise InvalidRecipe(f"{words} is not there yet.", f"Leave “{field}” out.", code=f"invalid_{field}")


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


def _vae_beside(entry: ModelEntry, models: ModelList) -> ModelRef | None:
    """The VAE of a checkpoint that has none inside: `dream.vae.safetensors` beside `dream.safetensors`."""
    if entry.has_vae:
        return None
    beside = entry.path.with_suffix(".vae.safetensors")
    found = next((vae for vae in models.of_kind("vae") if vae.path == beside and not vae.problem), None)
    if found is None:
        raise ModelProblem(f"{entry.title} has no VAE inside.", "Choose one in “VAE”.")
    return found.ref


def _named(name: str, models: ModelList) -> ModelEntry:
    entry = models.find(name)
    if entry is None and (other := models.other_kind(name, "checkpoint")):
        raise InvalidRecipe(f"“{name[:80]}” is {other}, no checkpoint.", "Choose a checkpoint.", code="invalid_model")
    if entry is None:
        near = difflib.get_close_matches(name, [e.title for e in models.of_kind()], 2, 0.5)
        hint = f"Near: {', '.join(near)}." if near else "Choose one of the models that are there."
        raise InvalidRecipe(f"Model “{name[:80]}” is not here.", hint, code="invalid_model")
    return entry
