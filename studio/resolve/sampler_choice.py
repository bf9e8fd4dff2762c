"""Finds a sampler and a schedule by any name people use; refuses pairs that don't go together."""

import difflib
import secrets
from collections.abc import Sequence

from catalog.models import ModelEntry
from catalog.samplers import (
    SAMPLERS,
    SCHEDULES,
    Sampler,
    Schedule,
    find_sampler,
    find_schedule,
    grid_of,
    resolve_schedule,
    schedules_for,
)
from contract.errors import InvalidRecipe
from contract.fields import LABELS
from contract.parts import BATCH, NoiseSettings, SamplerSettings


def choose_sampler(name: str | None, schedule: str | None, entry: ModelEntry) -> tuple[Sampler, str]:
    """The sampler and the id of a schedule that goes with it and with the model, nothing left to "automatic".

    Args:
        name, schedule: As asked; None takes the model's own sampler, and the sampler's own schedule.
    Raises:
        InvalidRecipe: one is not known, or they don't go together.
    """
    if name is None:
        name, usual_schedule = entry.defaults.sampler, entry.defaults.schedule
    else:
        usual_schedule = "automatic"
    wanted = schedule or usual_schedule
    sampler = find_sampler(name)
    if sampler is None:
        sampler, schedule_in_name = split_old_name(name)
        if schedule_in_name and not schedule:
            wanted = schedule_in_name.id
    if sampler is None:
        labels = [known.label for known in SAMPLERS.values()]
        raise InvalidRecipe(f"Sampler is “{name[:60]}”, which is not known.", _near(name, labels), field="sampler")
    found = find_schedule(wanted)
    if found is None:
        labels = [known.label for known in SCHEDULES.values()]
        raise InvalidRecipe(
            f"Schedule is “{wanted[:60]}”, which is not known.", _near(wanted, labels), field="schedule"
        )
    kinds = {"zero_snr": entry.is_zero_snr, "is_flow": entry.is_flow, "is_edm": entry.is_edm}
    offered = schedules_for(sampler, **kinds)
    if not offered:
        labels = [known.label for known in SAMPLERS.values() if schedules_for(known, **kinds)]
        kind = "EDM" if entry.is_edm else "rectified flow"
        raise InvalidRecipe(
            f"{sampler.label} does not go with {entry.title}, a model of {kind}.",
            f"Use {', '.join(labels[:-1])} or {labels[-1]}.",
            field="sampler",
        )
    if found.id not in offered:
        which = sampler.label if found.id not in sampler.schedules else entry.title
        labels = [SCHEDULES[schedule_id].label for schedule_id in offered]
        raise InvalidRecipe(
            f"{which} does not go with {found.label}.",
            f"Use {', '.join(labels[:-1])} or {labels[-1]}.",
            field="schedule",
        )
    return sampler, resolve_schedule(sampler, found.id, **kinds)


def check_settings(settings: SamplerSettings | None, passes: Sequence[tuple[Sampler, str]]) -> SamplerSettings | None:
    """What the sampler and the schedule are set to; None where nothing is.

    Args:
        passes: The samplers and the schedules of all passes.
    Raises:
        InvalidRecipe: something is set that none of them has a use for; it names it.
    """
    if settings is None:
        return None
    grids = [grid_of(sampler, schedule) for sampler, schedule in passes]
    is_spread = any(not grid.is_even_in_time and not grid.tables for grid in grids)
    useful = {name for sampler, _ in passes for name in sampler.settings} | {"discard_penultimate"}
    if is_spread:
        useful |= {"sigma_min", "sigma_max"}
    if any(grid.takes_rho for grid in grids):
        useful.add("rho")
    for name in settings.model_fields_set:
        if getattr(settings, name) is None or name in useful:
            continue
        label, field = LABELS[f"sampling.{name}"], f"sampling.{name}"
        takers = [sampler.label for sampler in SAMPLERS.values() if name in sampler.settings]
        if takers:
            what = passes[0][0].label
            hint = f"Leave it out, or use {', '.join(takers[:3])}."
        else:
            what, hint = SCHEDULES[passes[0][1]].label, "Leave it out, or use Karras."
        raise InvalidRecipe(f"{label} changes nothing with {what}.", hint, field=field)
    return None if settings == SamplerSettings() else settings


def settle_noise(noise: NoiseSettings | None, count: int) -> NoiseSettings | None:
    """The noise with a variation's seed drawn; None where it is the usual one.

    Raises:
        InvalidRecipe: ComfyUI's batch would be too large.
    """
    if noise is None or noise == NoiseSettings():
        return None
    if noise.batch_index + count - 1 > BATCH[1]:
        raise InvalidRecipe(
            f"{count} pictures from place {noise.batch_index} on are more than a batch of {BATCH[1] + 1}.",
            "Make fewer, or begin at an earlier place.",
            field="noise.batch_index",
        )
    if (noise.variation_strength or noise.walk_from) and noise.variation_seed is None:
        return noise.model_copy(update={"variation_seed": secrets.randbits(32)})
    return noise


def split_old_name(name: str) -> tuple[Sampler | None, Schedule | None]:
    """ "DPM++ 2M Karras" as older programs wrote it: the sampler and the schedule behind it."""
    for schedule in SCHEDULES.values():
        for label in (schedule.label, schedule.id, *schedule.aliases):
            head = name.strip()
            if head.lower().endswith(" " + label.lower()):
                sampler = find_sampler(head[: -len(label)])
                if sampler:
                    return sampler, schedule
    return None, None


def _near(name: str, labels: list[str]) -> str:
    lower = {label.lower(): label for label in labels}
    near = [lower[match] for match in difflib.get_close_matches(name.lower(), lower, 3, 0.5)]
    if near:
        return f"Near: {', '.join(near)}."
    return f"Use {', '.join(labels[:-1])} or {labels[-1]}."
