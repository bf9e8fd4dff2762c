"""Size, sampler and hires pass of an infotext as fields of a draft, with the arithmetic of A1111's older keys.

Values without an equivalent here are replaced by the nearest, with a notice. Source: specs/compatibility.md 4a; how
A1111 converts `First pass size` and `Hires resize` when it pastes an infotext.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from catalog.samplers import find_sampler, find_schedule
from catalog.upscalers import find_upscaler
from contract.parts import HIRES_SCALE
from contract.sizes import hires_size
from contract.values import SIDE, SIDE_MULTIPLE
from studio.library.model_list import ModelList
from studio.metadata.infotext_parts import SETTINGS, SOURCES, TOLD
from studio.resolve.sampler_choice import split_old_name

Pairs = Mapping[str, str]
HIRES_KEYS = (
    "Hires upscale",
    "Hires resize",
    "Hires upscaler",
    "Hires steps",
    "Hires strength",
    "Denoising strength",
    "Hires sampler",
    "Hires schedule type",
    "Hires CFG Scale",
    "Hires prompt",
    "Hires negative prompt",
    "First pass size",
)
NOISE_KEYS = (*SETTINGS, "Eta DDIM", "Variation seed", "Variation seed strength", "Seed resize from", "Batch index")
TOLD_KEYS = tuple(TOLD)
_A1111 = re.compile(r"v?1\.\d|f\d|v1")  # A1111's own version, or Forge's
_SIDES = re.compile(r"\s*(\d{1,6})\s*[x×]\s*(\d{1,6})\s*")
_OLD_PIXELS, _OLD_MULTIPLE = 512 * 512, 64  # of the first pass that early A1111 chose by itself
_SCALE_DIGITS = 6
_CROPPED = 0.02  # of a side: less is rounding


def number(text: str, kind: type) -> Any:
    """The number, or the text itself, so that the refusal can show it. "2.0" is a whole number too."""
    try:
        value = float(text) if len(text) <= 40 else math.nan
        if math.isnan(value):
            return text
        if kind is float or not value.is_integer():
            return kind(text)
        if re.fullmatch(r"\s*[+-]?\d+\s*", text):
            return int(text)
        return int(value)
    except (ValueError, OverflowError):
        return text


def told_fields(pairs: Pairs) -> dict[str, object]:
    """Size conditioning, as Darkroom writes it."""
    told = {}
    for key, name in TOLD.items():
        if key in pairs:
            told[name] = number(pairs[key], float if name.endswith("score") else int)
    return {"size_conditioning": told} if told else {}


def sides(text: str) -> tuple[int, int] | None:
    """Width and height out of "512x768"."""
    match = _SIDES.fullmatch(text)
    if match is None:
        return None
    return int(match[1]), int(match[2])


def size_fields(pairs: Pairs, notices: list[str]) -> dict[str, object]:
    """Width and height of the first pass; sides that are no multiple of 8, as A1111 allows, are made the one below."""
    text = pairs.get("Size", "")
    size = _first_pass(pairs) or sides(text)
    if size is None:
        width, _, height = text.partition("x")
        if not height:
            return {}
        return {"width": number(width, int), "height": number(height, int)}
    scale = min(1.0, SIDE[1] / max(size))
    usable_width, usable_height = (max(SIDE[0], int(side * scale) // SIDE_MULTIPLE * SIDE_MULTIPLE) for side in size)
    if (usable_width, usable_height) != size:
        if min(size) < SIDE[0]:
            return {"width": size[0], "height": size[1]}  # no size to make an image of: refused by name
        why = f"sides are multiples of {SIDE_MULTIPLE}"
        if max(size) > SIDE[1]:
            why = f"sides are at most {SIDE[1]}"
        used = f"{usable_width} × {usable_height}"
        notices.append(f"The size is {size[0]} × {size[1]}, and {why}: {used} is used.")
    return {"width": usable_width, "height": usable_height}


def _first_pass(pairs: Pairs) -> tuple[int, int] | None:
    """Before there was "Hires upscale", "Size" was the result's, and "First pass size: 0x0" chosen by the program."""
    first, whole = sides(pairs.get("First pass size", "")), sides(pairs.get("Size", ""))
    if first is None or whole is None or 0 not in first:
        return first
    if 0 in whole:
        return None
    scale = math.sqrt(_OLD_PIXELS / (whole[0] * whole[1]))
    width, height = (math.ceil(scale * side / _OLD_MULTIPLE) * _OLD_MULTIPLE for side in whole)
    return width, height


def sampler_fields(pairs: Pairs, notices: list[str]) -> dict[str, object]:
    """Sampler and schedule by the ids that they have here; a schedule in the sampler's name counts."""
    if "Sampler" not in pairs:
        return {}
    name, schedule_name = pairs["Sampler"], pairs.get("Schedule type", "automatic")
    sampler, schedule = find_sampler(name), find_schedule(schedule_name)
    if sampler is None:
        sampler, schedule_in_name = split_old_name(name)
        if schedule_in_name:
            schedule_name, schedule = schedule_in_name.label, schedule_in_name
    if sampler is None:
        notices.append(f"Sampler “{name[:60]}” is not known here; the model's own is used.")
        return {}
    if schedule is None or schedule.id not in sampler.schedules:
        what = "is not known here" if schedule is None else f"does not go with {sampler.label}"
        notices.append(f"Schedule “{schedule_name[:60]}” {what}; Automatic is used.")
        return {"sampler": sampler.id, "schedule": "automatic"}
    return {"sampler": sampler.id, "schedule": schedule.id}


def noise_fields(pairs: Pairs) -> dict[str, object]:
    """Settings of the sampler, and where the noise came from.

    A1111 and Forge write "RNG" only where it is not the card's; a card's noise is computed here, as "NV".
    """
    found: dict[str, object] = {}
    settings: dict[str, object] = {}
    for key, name in (*SETTINGS.items(), ("Eta DDIM", "eta")):
        text = pairs.get(key, "").strip()
        if name == "discard_penultimate" and text.lower() in ("true", "false"):
            settings[name] = text.lower() == "true"
        elif text and text.lower() != "inf":
            settings[name] = number(text, float)
    if settings:
        found["sampling"] = settings
    noise: dict[str, object] = {}
    written = pairs.get("RNG", "").strip().lower()
    by_label = {label.lower(): source for source, label in SOURCES.items()} | {"gpu": "nv"}
    delta = number(pairs.get("ENSD", "0"), int)
    if written in by_label:
        noise["source"] = by_label[written]
    elif delta or _A1111.match(pairs.get("Version", "")):
        noise["source"] = by_label["gpu"]
    if delta:
        noise["eta_seed_delta"] = delta
    if "Batch index" in pairs:
        noise["batch_index"] = number(pairs["Batch index"], int)
    strength = number(pairs.get("Variation seed strength", "0"), float)
    if strength:
        noise["variation_strength"] = strength
        noise["variation_seed"] = number(pairs.get("Variation seed", "0"), int)
    resized = sides(pairs.get("Seed resize from", ""))
    if resized and min(resized) > 0:
        noise |= {"resize_width": resized[0], "resize_height": resized[1]}
    if noise:
        found["noise"] = noise
    return found


def sampler_notice(pairs: Pairs) -> str:
    """How the sampler that another program names differs here; "" where it does not."""
    sampler = find_sampler(pairs.get("Sampler", "")) or split_old_name(pairs.get("Sampler", ""))[0]
    if sampler is None or not sampler.difference or pairs.get("Version", "").startswith("Darkroom"):
        return ""
    return f"{sampler.label} differs a little: {sampler.difference}"


def hires_fields(pairs: Pairs, first: tuple[int, int] | None, models: ModelList, notices: list[str]) -> dict[str, Any]:
    """A hires pass, if its upscaler is here; else none, and its keys are reported as not used.

    Args:
        first: Width and height of the first pass.
    """
    scale = _hires_scale(pairs, first, notices)
    name = pairs.get("Hires upscaler", "Latent")
    built_in = find_upscaler(name)
    entry = None if built_in else models.find(name, "upscaler")
    if scale is None:
        return {}
    hires: dict[str, Any] = {"scale": scale}
    if entry:
        hires["upscaler"] = entry.ref.name
    elif built_in:
        hires["upscaler"] = built_in.id
    else:
        return {}
    steps = number(pairs.get("Hires steps", "0"), int)
    if steps:
        hires["steps"] = steps
    strength = pairs.get("Hires strength", pairs.get("Denoising strength"))
    if strength is not None:
        hires["strength"] = number(strength, float)
    hires |= _hires_sampler(pairs, notices)
    if "Hires CFG Scale" in pairs and pairs["Hires CFG Scale"] != pairs.get("CFG scale"):
        hires["guidance"] = number(pairs["Hires CFG Scale"], float)
    for key, field in (("Hires prompt", "prompt"), ("Hires negative prompt", "negative_prompt")):
        if key in pairs:
            hires[field] = pairs[key]
    return {"hires": hires}


def _hires_scale(pairs: Pairs, first: tuple[int, int] | None, notices: list[str]) -> object | None:
    """The scale; for a target size the larger of the two factors, since A1111 covers the target and crops the rest."""
    if "Hires upscale" in pairs:
        scale = number(pairs["Hires upscale"], float)
        return None if scale == 1.0 else scale
    is_old = "First pass size" in pairs
    target = sides(pairs.get("Size" if is_old else "Hires resize", ""))
    if target is None or first is None or target == (0, 0):
        return None
    factor = max(target[0] / first[0], target[1] / first[1])
    if not HIRES_SCALE[0] < factor <= HIRES_SCALE[1]:
        notices.append(
            f"The hires pass makes {target[0]} × {target[1]} out of {first[0]} × {first[1]}. It was left out."
        )
        return None
    made = hires_size(first, factor)
    is_cropped = made[0] - target[0] > _CROPPED * target[0] or made[1] - target[1] > _CROPPED * target[1]
    if 0 not in target and is_cropped:
        notices.append(f"A1111 crops its hires pass to {target[0]} × {target[1]}; here it is {made[0]} × {made[1]}.")
    return round(factor, _SCALE_DIGITS)


def _hires_sampler(pairs: Pairs, notices: list[str]) -> dict[str, object]:
    """Sampler and schedule of the hires pass, where they are not "Use same …"."""
    found: dict[str, object] = {}
    name = pairs.get("Hires sampler", "Use same")
    if not name.lower().startswith("use same"):
        sampler = find_sampler(name)
        schedule_in_name = None
        if sampler is None:
            sampler, schedule_in_name = split_old_name(name)
        if sampler is None:
            notices.append(f"Hires sampler “{name[:60]}” is not known here; the first pass's is used.")
        else:
            found["sampler"] = sampler.id
        if schedule_in_name:
            found["schedule"] = schedule_in_name.id
    schedule_name = pairs.get("Hires schedule type", "Use same")
    if not schedule_name.lower().startswith("use same"):
        schedule = find_schedule(schedule_name)
        if schedule is None:
            notices.append(f"Hires schedule “{schedule_name[:60]}” is not known here; the first pass's is used.")
        else:
            found["schedule"] = schedule.id
    return found
