"""Finds a sampler and a schedule by any name people use; refuses pairs that don't go together."""

import difflib

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
from contract.errors import InvalidRecipe


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
    offered = schedules_for(sampler, zero_snr=entry.zero_snr)
    if found.id not in offered:
        which = sampler.label if found.id not in sampler.schedules else entry.title
        labels = [SCHEDULES[schedule_id].label for schedule_id in offered]
        raise InvalidRecipe(
            f"{which} does not go with {found.label}.",
            f"Use {', '.join(labels[:-1])} or {labels[-1]}.",
            field="schedule",
        )
    return sampler, resolve_schedule(sampler, found.id, zero_snr=entry.zero_snr)


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
