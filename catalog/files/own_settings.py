"""What a checkpoint's folder may say for itself beside its weights: darkroom.json, and the words it knows.

All of it is a convenience, so that nothing in it makes a model useless: what makes no sense is left out, the usual
stands in its place, and a sentence says so.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from catalog.families import Defaults, Size
from catalog.files.folders import MAX_CONFIG_BYTES, read_json
from catalog.files.plain_text import printable
from catalog.samplers import find_sampler, find_schedule, schedules_for
from contract.errors import ModelProblem
from contract.values import GUIDANCE, SIDE, SIDE_MULTIPLE, STEPS

OWN_FILE, WORDS_FILE = "darkroom.json", "vocabulary.txt"
_MAX_TEXT = 300
_MAX_SIZES, _MAX_EXAMPLES, _MAX_WARNINGS = 12, 6, 4
_MAX_SIZE_NAME, _MAX_EXAMPLE, _MAX_SHOWN = 40, 200, 60


@dataclass(frozen=True, slots=True)
class OwnSettings:
    """What a folder says of its model; `warnings` are sentences about what it says wrongly."""

    defaults: Defaults
    sizes: Mapping[str, Size]
    title: str = ""
    description: str = ""
    examples: tuple[str, ...] = ()
    words: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class _Reader:
    """Takes single values out of a table, and remembers what could not be taken."""

    warnings: list[str] = field(default_factory=list)

    def complain(self, sentence: str) -> None:
        """Say what is left out."""
        self.warnings.append(sentence)

    def text(self, table: Mapping[str, object], name: str) -> str:
        """A text of one line; "" where there is none."""
        value = table.get(name, "")
        if isinstance(value, str):
            return printable(value, _MAX_TEXT)
        self.complain(f"In {OWN_FILE} “{name}” is {_shown(value)}, not a text; it is left out.")
        return ""

    def table(self, table: Mapping[str, object], name: str) -> Mapping[str, object]:
        """A table in a table; empty where there is none."""
        value = table.get(name, {})
        if isinstance(value, dict):
            return value
        self.complain(f"In {OWN_FILE} “{name}” is {_shown(value)}, not a table; it is left out.")
        return {}


def read_own_settings(folder: Path, defaults: Defaults, sizes: Mapping[str, Size], *, zero_snr: bool) -> OwnSettings:
    """A folder's darkroom.json and vocabulary.txt.

    Args:
        defaults, sizes: The family's, for what the folder does not say, or says wrongly.
        zero_snr: Of the model, with which not every schedule goes.
    """
    reader = _Reader()
    side = _side_file(folder, reader)
    own = OwnSettings(
        _defaults(reader, reader.table(side, "defaults"), defaults, zero_snr=zero_snr),
        MappingProxyType(dict(_sizes(reader, reader.table(side, "sizes")))) or sizes,
        reader.text(side, "title"),
        reader.text(side, "description"),
        _examples(reader, side.get("examples", [])),
        _words(folder, reader),
    )
    return replace(own, warnings=tuple(reader.warnings[:_MAX_WARNINGS]))


def _side_file(folder: Path, reader: _Reader) -> Mapping[str, object]:
    if not (folder / OWN_FILE).exists():
        return {}
    try:
        return read_json(folder / OWN_FILE)
    except ModelProblem:
        reader.complain(f"{OWN_FILE} can't be read as a table in JSON; the usual settings are used.")
        return {}


def _defaults(reader: _Reader, table: Mapping[str, object], usual: Defaults, *, zero_snr: bool) -> Defaults:
    checks: Mapping[str, tuple[Callable[[object], int | float | str | None], str]] = {
        "steps": (lambda value: _whole(value, *STEPS), f"a whole number from {STEPS[0]} to {STEPS[1]}"),
        "guidance": (lambda value: _number(value, *GUIDANCE), f"a number from {GUIDANCE[0]:g} to {GUIDANCE[1]:g}"),
        "width": (_side, f"a multiple of {SIDE_MULTIPLE} from {SIDE[0]} to {SIDE[1]}"),
        "height": (_side, f"a multiple of {SIDE_MULTIPLE} from {SIDE[0]} to {SIDE[1]}"),
        "sampler": (_sampler, "a sampler that is known"),
        "schedule": (_schedule, "a schedule that is known"),
    }
    taken: dict[str, int | float | str] = {}
    for name, value in table.items():
        check, expected = checks.get(name, (lambda _: None, ""))
        found = check(value)
        if found is not None:
            taken[name] = found
        elif expected:
            reader.complain(
                f"In {OWN_FILE} “{name}” is {_shown(value)}, not {expected}; {getattr(usual, name)} is used."
            )
        else:
            reader.complain(f"In {OWN_FILE} “{printable(name, _MAX_SHOWN)}” is no default that is known.")
    made = replace(usual, **taken)  # type: ignore[arg-type]
    sampler = find_sampler(made.sampler)
    assert sampler is not None
    if made.schedule in schedules_for(sampler, zero_snr=zero_snr):
        return made
    if {"sampler", "schedule"} & set(taken):
        reader.complain(
            f"In {OWN_FILE} the schedule “{made.schedule}” does not go with “{made.sampler}”"
            f"{' on this model' if zero_snr else ''}; the sampler's own is used."
        )
    return replace(made, schedule="automatic")


def _sizes(reader: _Reader, table: Mapping[str, object]) -> Iterator[tuple[str, Size]]:
    for name, value in list(table.items())[:_MAX_SIZES]:
        sides = [_side(side) for side in value] if isinstance(value, list) else []
        label = printable(name, _MAX_SIZE_NAME)
        if len(sides) == 2 and sides[0] and sides[1] and label:
            yield label, (sides[0], sides[1])
        else:
            reader.complain(
                f"In {OWN_FILE} the size “{label}” is {_shown(value)}, not two multiples of {SIDE_MULTIPLE} "
                f"from {SIDE[0]} to {SIDE[1]}; it is left out."
            )


def _examples(reader: _Reader, value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        reader.complain(f"In {OWN_FILE} “examples” is {_shown(value)}, not a list; it is left out.")
        return ()
    texts = [printable(text, _MAX_EXAMPLE) for text in value if isinstance(text, str)]
    if len(texts) < len(value):
        reader.complain(f"In {OWN_FILE} “examples” holds more than texts; those are left out.")
    return tuple(text for text in texts if text)[:_MAX_EXAMPLES]


def _words(folder: Path, reader: _Reader) -> frozenset[str]:
    """The vocabulary that a model publishes; empty (any word) where there is none."""
    path = folder / WORDS_FILE
    try:
        if not path.is_file():
            return frozenset()
        if path.stat().st_size > MAX_CONFIG_BYTES:
            reader.complain(f"{WORDS_FILE} is too large; it is not used.")
            return frozenset()
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        reader.complain(f"{WORDS_FILE} is not in UTF-8; it is not used.")
        return frozenset()
    except OSError as error:
        reader.complain(f"{WORDS_FILE} can't be read ({error.strerror}); it is not used.")
        return frozenset()
    return frozenset(word for line in lines if (word := printable(line, _MAX_TEXT).lower()))


def _whole(value: object, least: int, most: int) -> int | None:
    number = _number(value, least, most)
    return int(number) if number is not None and number == int(number) else None


def _number(value: object, least: float, most: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if least <= value <= most and math.isfinite(value) else None


def _side(value: object) -> int | None:
    side = _whole(value, *SIDE)
    return side if side is not None and side % SIDE_MULTIPLE == 0 else None


def _sampler(value: object) -> str | None:
    found = find_sampler(value) if isinstance(value, str) else None
    return found.id if found else None


def _schedule(value: object) -> str | None:
    found = find_schedule(value) if isinstance(value, str) else None
    return found.id if found else None


def _shown(value: object) -> str:
    """A value as the file has it, short."""
    if isinstance(value, list | dict) and len(value) > 4:
        return "a long list" if isinstance(value, list) else "a table"
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):  # a number of thousands of digits, or lists without end
        return "a value"
    return printable(text, _MAX_SHOWN)
