"""Resolves a RecipeDraft to a Recipe: finds the models, fills the gaps, draws the seed.

Nothing is clamped: a value that can't be used is refused with a sentence. LoRAs and their tags: `loras.py`;
embeddings: `textual_inversion.py`; words a model doesn't know: `vocabulary.py`.
"""

import secrets
from dataclasses import dataclass

from catalog.families import FAMILIES
from catalog.models import ModelEntry
from catalog.samplers import SAMPLERS
from contract.errors import InvalidRecipe, ModelProblem
from contract.fields import LABELS
from contract.recipe import Hires, ModelRef, Recipe, RecipeDraft
from studio.library.model_list import ModelList
from studio.resolve.controls import resolve_controls, resolve_ip_adapters
from studio.resolve.guidance import resolve_guidance
from studio.resolve.loras import network_ref, take_networks
from studio.resolve.model_finder import Finder, require_model
from studio.resolve.parts import (
    SizeOf,
    check_pictures,
    check_recipe_size,
    check_start,
    check_told_sizes,
    choose_size,
    resolve_hires,
    resolve_refiner,
    sized_mask,
)
from studio.resolve.regions import resolve_regions
from studio.resolve.sampler_choice import check_settings, choose_sampler, settle_noise
from studio.resolve.textual_inversion import resolve_embeddings


@dataclass(frozen=True, slots=True)
class Resolved:
    """A recipe, the model's entry, and notices as (code, sentence)."""

    recipe: Recipe
    entry: ModelEntry
    notices: tuple[tuple[str, str], ...] = ()


def resolve(draft: RecipeDraft, finder: Finder, *, max_pixels: int, size_of: SizeOf = lambda sha256: None) -> Resolved:
    """Fill a draft.

    Args:
        finder: Of this draft alone; its notices become the result's.
        size_of: Width and height of an upload; None if it is not kept.

    Raises:
        InvalidRecipe: names the field, its value and what to use.
        InvalidInput: a picture is not there, or does not fit.
        ModelProblem: the model is there but can't be used.
    """
    entry = _require_checkpoint(draft.model, finder)
    for warning in entry.warnings:
        finder.notices.append(("model_settings", f"{entry.title}: {warning}"))
    _check_family(draft, entry)
    networks = take_networks(draft, finder, entry)
    draft = networks.draft
    defaults = entry.defaults
    sampler, schedule = choose_sampler(draft.sampler, draft.schedule, entry)
    check_pictures(draft, size_of)
    check_start(draft, entry)
    check_told_sizes(draft, entry)
    width, height = choose_size(draft, entry, size_of, max_pixels)
    check_recipe_size(width, height, max_pixels)
    vae = _vae_beside(entry, finder.models) if draft.vae is None else _chosen_vae(draft.vae, finder, entry)
    regions = resolve_regions(draft, finder, entry, size_of, (width, height))
    embeddings = resolve_embeddings(draft, regions, finder, entry)
    controls = resolve_controls(draft, finder, entry, size_of)
    ip_adapters = resolve_ip_adapters(draft.ip_adapters, finder, entry)
    hires: Hires | None = None
    if draft.hires:
        hires = resolve_hires(draft.hires, finder, entry, sampler.id, (width, height), max_pixels)
    passes = [(sampler, schedule)]
    methods, hires_methods = resolve_guidance(draft, finder, entry)
    if hires:
        hires = hires.model_copy(update={"guidance_methods": hires_methods})
        passes.append((SAMPLERS[hires.sampler or sampler.id], hires.schedule or schedule))
    recipe = Recipe(
        prompt=draft.prompt,
        negative_prompt=draft.negative_prompt,
        prompt_2=draft.prompt_2,
        negative_prompt_2=draft.negative_prompt_2,
        model=finder.ref(entry),
        vae=vae,
        loras=networks.loras,
        hypernetworks=networks.hypernetworks,
        embeddings=embeddings,
        sampler=sampler.id,
        schedule=schedule,
        steps=defaults.steps if draft.steps is None else draft.steps,
        guidance=float(defaults.guidance if draft.guidance is None else draft.guidance),
        clip_skip=draft.clip_skip,
        emphasis=draft.emphasis,
        tiling=draft.tiling,
        template=draft.template,
        width=width,
        height=height,
        seed=secrets.randbits(32) if draft.seed is None else draft.seed,
        count=draft.count,
        init_image=draft.init_image,
        mask=sized_mask(draft),
        guidance_methods=methods,
        controls=controls,
        ip_adapters=ip_adapters,
        hires=hires,
        regions=regions,
        refiner=resolve_refiner(draft.refiner, finder, entry) if draft.refiner else None,
        size_conditioning=draft.size_conditioning,
        sampling=check_settings(draft.sampling, passes),
        noise=settle_noise(draft.noise, draft.count),
        extras=draft.extras,
    )
    return Resolved(recipe, entry, tuple(finder.notices))


def _require_checkpoint(wanted: str | ModelRef | None, finder: Finder) -> ModelEntry:
    """The checkpoint that is named, or the default one. Raises InvalidRecipe, ModelProblem."""
    if wanted is not None:
        return require_model(wanted, ("checkpoint",), "model", finder)
    entry = finder.models.first_usable()
    if entry is None:
        raise InvalidRecipe("There is no model that can be used.", "Put one into models/.", field="model")
    if entry.problem:
        raise ModelProblem(entry.problem, entry.hint, field="model")
    return entry


def _check_family(draft: RecipeDraft, entry: ModelEntry) -> None:
    """Refuse what the model's family can't do: a second encoder's prompts, a tiling. Raises InvalidRecipe."""
    family = FAMILIES[entry.ref.family]
    for name in ("prompt_2", "negative_prompt_2"):
        if getattr(draft, name) is not None and not family.takes_second_prompt:
            raise InvalidRecipe(
                f"{LABELS[name]}: {entry.title} ({family.label}) has one text encoder, which reads the first.",
                f"Leave “{name}” out.",
                field=name,
            )
    if draft.tiling and family.unet is None:
        raise InvalidRecipe(
            f"Tiling: {entry.title} ({family.label}) has no convolutions that could go on at the other side.",
            "Leave “tiling” out.",
            field="tiling",
        )


def _chosen_vae(wanted: str | ModelRef, finder: Finder, entry: ModelEntry) -> ModelRef:
    if entry.has_own_latents:
        raise InvalidRecipe(
            f"{entry.title} scales its latents as no other model does, so another VAE does not go with it.",
            "Use its own.",
            field="vae",
        )
    return network_ref(wanted, "vae", "vae", finder, entry)


def _vae_beside(entry: ModelEntry, models: ModelList) -> ModelRef | None:
    """The VAE of a checkpoint that has none inside: `dream.vae.safetensors` beside `dream.safetensors`.

    None where it has its own, or another checkpoint lends one.
    """
    if entry.has_vae:
        return None
    path = entry.path.with_suffix(".vae.safetensors")
    found = None
    for vae in models.of_kind("vae"):
        if vae.path == path:
            found = models.find(vae.ref.name, "vae")
            break
    if entry.borrows_vae and (found is None or found.problem):
        return None
    if found is None or found.problem:
        raise ModelProblem(f"{entry.title} has no VAE inside.", "Choose one in “VAE”.", field="vae")
    return found.ref
