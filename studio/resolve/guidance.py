"""Resolves a draft's methods of guidance: known ones, values in their ranges, and only what makes sense together."""

from collections.abc import Sequence

from catalog.families import FAMILIES
from catalog.guidance import EXCLUSIVE, GUIDANCE_METHODS, Method, find_method, guidance_at
from catalog.models import ModelEntry
from contract.errors import InvalidRecipe
from contract.parts import GuidanceMethod, GuidedPass
from contract.recipe import ModelRef, RecipeDraft
from studio.resolve.model_finder import Finder


def resolve_guidance(
    draft: RecipeDraft, finder: Finder, entry: ModelEntry
) -> tuple[tuple[GuidanceMethod, ...], tuple[GuidanceMethod, ...] | None]:
    """The methods by id, each with the values that are not its defaults, in the catalog's order; the hires pass's own.

    A draft that says nothing gets what the model asks for; not so a recipe that comes back, whose model is a ref.
    What changes nothing is left out, with a notice.

    Returns:
        Those of the first pass; and of the hires pass, None where it takes them over.
    Raises:
        InvalidRecipe: names the method and the value, or the two that don't go together.
    """
    asked, hires = draft.guidance_methods, draft.hires
    guidance = entry.defaults.guidance if draft.guidance is None else draft.guidance
    if asked is None:
        rescale = entry.defaults.cfg_rescale
        is_wanted = rescale and not isinstance(draft.model, ModelRef) and guidance > 1 and entry.variant != "edit"
        asked = (GuidanceMethod(id="cfg_rescale", values={"phi": rescale}),) if is_wanted else ()
    methods = _usable(asked, "guidance_methods", draft, finder, entry)
    passes = [GuidedPass(guidance, methods, draft.steps or entry.defaults.steps)]
    own = None
    if hires:
        if hires.guidance_methods is not None:
            own = _usable(hires.guidance_methods, "hires.guidance_methods", draft, finder, entry)
        scale = guidance if hires.guidance is None else hires.guidance
        passes.append(GuidedPass(scale, methods if own is None else own, hires.steps or passes[0].steps))
    _note_without_guidance(passes, finder)
    return methods, own


def _usable(
    asked: Sequence[GuidanceMethod], part: str, draft: RecipeDraft, finder: Finder, entry: ModelEntry
) -> tuple[GuidanceMethod, ...]:
    """The methods of one pass. Raises as `resolve_guidance`; part: the field that they are in."""
    resolved: dict[str, GuidanceMethod] = {}
    for index, one in enumerate(asked):
        field = f"{part}.{index}"
        method = find_method(one.id)
        if method is None:
            labels = [known.label for known in GUIDANCE_METHODS.values()]
            raise InvalidRecipe(
                f"Guidance method is “{one.id[:60]}”, which is not known.",
                f"Use {', '.join(labels[:-1])} or {labels[-1]}.",
                field=f"{field}.id",
            )
        if method.id in resolved:
            raise InvalidRecipe(f"{method.label} is there twice.", "Remove one of them.", field=f"{field}.id")
        _check_fits(method, draft, entry, f"{field}.id")
        resolved[method.id] = GuidanceMethod(id=method.id, values=_own_values(method, one, field))
    _check_together(list(resolved), part)
    found = []
    for method in GUIDANCE_METHODS.values():
        if method.id not in resolved:
            continue
        if method.is_off(resolved[method.id].values):
            finder.notices.append(("no_effect", f"{method.label} is off with these values: it changes nothing."))
        else:
            found.append(resolved[method.id])
    return tuple(found)


def _own_values(method: Method, asked: GuidanceMethod, field: str) -> dict[str, float | str]:
    """The values that are not the defaults. Raises InvalidRecipe for one that is unknown or out of its range."""
    own: dict[str, float | str] = {}
    for name, value in asked.values.items():
        parameter = method.parameter(name)
        if parameter is None:
            names = ", ".join(known.id for known in method.parameters)
            raise InvalidRecipe(
                f"{method.label} has no value “{name[:60]}”.", f"It has {names}.", field=f"{field}.values"
            )
        refusal = parameter.refusal(value)
        if refusal:
            shown = f"{value:g}" if isinstance(value, float) else f"“{value[:40]}”"
            raise InvalidRecipe(
                f"{method.label}: {parameter.label} is {shown}.", refusal, field=f"{field}.values.{name}"
            )
        if value != parameter.default:
            own[name] = value
    return own


def _check_fits(method: Method, draft: RecipeDraft, entry: ModelEntry, field: str) -> None:
    """Whether a method goes with the model and the other parts. Raises InvalidRecipe."""
    names = {"unet": "a U-Net", "transformer": "a transformer"}
    wants, has = names[method.denoisers[0]], names[FAMILIES[entry.ref.family].denoiser]
    problem = ""
    family = FAMILIES[entry.ref.family]
    if family.denoiser == "transformer" and method.skips_layers and not family.skipped_layers:
        problem = f"{method.label} is not known for {family.label}."
    elif family.denoiser not in method.denoisers:
        problem = f"{method.label} is for models with {wants}; {entry.title} has {has}."
    elif entry.is_edm and entry.prediction not in method.predictions:
        problem = f"{method.label} does not go with {entry.title}, a model of EDM."
    elif entry.variant == "edit" and not method.suits_edit:
        problem = f"{method.label} does not go with {entry.title}, which guides by the picture too."
    elif draft.ip_adapters and not method.suits_ip_adapter:
        problem = f"{method.label} and pictures as prompt both change the cross-attention."
    elif draft.regions and not method.suits_regions:
        problem = f"{method.label} and regions both change the cross-attention."
    if problem:
        raise InvalidRecipe(problem, "Remove it.", field=field)


def _check_together(ids: Sequence[str], part: str) -> None:
    """Raises InvalidRecipe for two of which only one makes sense; the second is the one to remove."""
    for group, why in EXCLUSIVE:
        both = [name for name in ids if name in group]
        if len(both) < 2:
            continue
        first, second = (GUIDANCE_METHODS[name].label for name in both[:2])
        raise InvalidRecipe(
            f"{first} and {second} do not go together: {why}.",
            "Remove one of them.",
            field=f"{part}.{ids.index(both[1])}.id",
        )


def _note_without_guidance(passes: Sequence[GuidedPass], finder: Finder) -> None:
    """A notice for each method that needs guidance where no step of a pass that uses it has any."""
    guided: set[str] = set()
    for scale, methods, steps in passes:
        if any(guidance_at(scale, methods, step, steps) > 1 for step in range(steps)):
            guided |= {one.id for one in methods}
    for scale, methods, _ in passes:
        for method in (GUIDANCE_METHODS[one.id] for one in methods):
            if method.needs_uncond and method.id not in guided:
                guided.add(method.id)  # said once
                finder.notices.append(("no_effect", f"{method.label} changes nothing at guidance {scale:g}."))
