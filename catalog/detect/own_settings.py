"""Settings that a checkpoint's folder may hold beside its weights: darkroom.json, and the vocabulary it knows.

All of it is a convenience, so nothing in it makes a model useless: a setting that makes no sense is left out, the
family's default is used, and a sentence says so.
"""

import json
import math
from collections.abc import Mapping
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
_EXPECTED: Mapping[str, str] = MappingProxyType(
    {
        "steps": f"a whole number from {STEPS[0]} to {STEPS[1]}",
        "guidance": f"a number from {GUIDANCE[0]:g} to {GUIDANCE[1]:g}",
        "cfg_rescale": "a number from 0 to 1",
        "width": f"a multiple of {SIDE_MULTIPLE} from {SIDE[0]} to {SIDE[1]}",
        "height": f"a multiple of {SIDE_MULTIPLE} from {SIDE[0]} to {SIDE[1]}",
        "sampler": "a sampler that is known",
        "schedule": "a schedule that is known",
    }
)


@dataclass(frozen=True, slots=True)
class OwnSettings:
    """The settings of a folder; `warnings` are sentences about those that were left out."""

    defaults: Defaults
    sizes: Mapping[str, Size]
    title: str = ""
    description: str = ""
    examples: tuple[str, ...] = ()
    words: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class _Reader:
    """Reads single values of a table, and collects a warning for each that makes no sense."""

    warnings: list[str] = field(default_factory=list)

    def warn(self, sentence: str) -> None:
        """Report a setting that is left out."""
        self.warnings.append(sentence)

    def text(self, table: Mapping[str, object], name: str) -> str:
        """A text of one line; "" where there is none."""
        value = table.get(name, "")
        if isinstance(value, str):
            return printable(value, _MAX_TEXT)
        self.warn(f"In {OWN_FILE} “{name}” is {_as_in_file(value)}, not a text; it is left out.")
        return ""

    def table(self, table: Mapping[str, object], name: str) -> Mapping[str, object]:
        """A table in a table; empty where there is none."""
        value = table.get(name, {})
        if isinstance(value, dict):
            return value
        self.warn(f"In {OWN_FILE} “{name}” is {_as_in_file(value)}, not a table; it is left out.")
        return {}


def read_own_settings(
    folder: Path,
    defaults: Defaults,
    sizes: Mapping[str, Size],
    *,
    zero_snr: bool,
    is_flow: bool = False,
    is_edm: bool = False,
) -> OwnSettings:
    """Read a folder's darkroom.json and vocabulary.txt.

    Args:
        defaults, sizes: The family's, used where the folder gives none that make sense.
        zero_snr, is_flow, is_edm: Of the model; not every sampler and schedule goes with it.
    """
    reader = _Reader()
    table: Mapping[str, object] = {}
    try:
        if (folder / OWN_FILE).exists():
            table = read_json(folder / OWN_FILE)
    except ModelProblem:
        reader.warn(f"{OWN_FILE} can't be read as a table in JSON; the usual settings are used.")
    own_defaults = _own_defaults(reader, reader.table(table, "defaults"), defaults, zero_snr, is_flow, is_edm)
    own_sizes = _own_sizes(reader, reader.table(table, "sizes")) or sizes
    title, description = reader.text(table, "title"), reader.text(table, "description")
    texts = table.get("examples", [])
    examples: list[str] = []
    if isinstance(texts, list):
        examples = [printable(text, _MAX_EXAMPLE) for text in texts if isinstance(text, str)]
        if len(examples) < len(texts):
            reader.warn(f"In {OWN_FILE} “examples” holds more than texts; those are left out.")
    else:
        reader.warn(f"In {OWN_FILE} “examples” is {_as_in_file(texts)}, not a list; it is left out.")
    own = OwnSettings(
        own_defaults,
        own_sizes,
        title,
        description,
        tuple(filter(None, examples))[:_MAX_EXAMPLES],
        _vocabulary(folder, reader),
    )
    return replace(own, warnings=tuple(reader.warnings[:_MAX_WARNINGS]))


def _own_defaults(
    reader: _Reader, table: Mapping[str, object], usual: Defaults, zero_snr: bool, is_flow: bool, is_edm: bool
) -> Defaults:
    taken: dict[str, int | float | str] = {}
    for name, value in table.items():
        if name not in _EXPECTED:
            reader.warn(f"In {OWN_FILE} “{printable(name, _MAX_SHOWN)}” is no default that is known.")
            continue
        read: int | float | str | None = None
        if name == "guidance":
            read = _number_in(value, GUIDANCE)
        elif name == "cfg_rescale":
            read = _number_in(value, (0.0, 1.0))
        elif name == "steps":
            read = _integer_in(value, STEPS)
        elif name in ("width", "height"):
            read = _side(value)
        elif isinstance(value, str):
            item = find_sampler(value) if name == "sampler" else find_schedule(value)
            read = item.id if item else None
        if read is not None:
            taken[name] = read
        else:
            instead = getattr(usual, name)
            reader.warn(f"In {OWN_FILE} “{name}” is {_as_in_file(value)}, not {_EXPECTED[name]}; {instead} is used.")
    defaults = replace(usual, **taken)  # type: ignore[arg-type]
    sampler = find_sampler(defaults.sampler)
    assert sampler is not None
    offered = schedules_for(sampler, zero_snr=zero_snr, is_flow=is_flow, is_edm=is_edm)
    if not offered:
        reader.warn(f"In {OWN_FILE} the sampler “{sampler.id}” does not go with this model; {usual.sampler} is used.")
        return replace(defaults, sampler=usual.sampler, schedule=usual.schedule)
    if defaults.schedule in offered:
        return defaults
    if "sampler" in taken or "schedule" in taken:
        reader.warn(
            f"In {OWN_FILE} the schedule “{defaults.schedule}” does not go with “{defaults.sampler}”"
            f"{' on this model' if zero_snr or is_flow or is_edm else ''}; the sampler's own is used."
        )
    return replace(defaults, schedule="automatic")


def _own_sizes(reader: _Reader, table: Mapping[str, object]) -> Mapping[str, Size]:
    sizes = {}
    for name, value in list(table.items())[:_MAX_SIZES]:
        label = printable(name, _MAX_SIZE_NAME)
        width, height = None, None
        if isinstance(value, list) and len(value) == 2:
            width, height = _side(value[0]), _side(value[1])
        if width and height and label:
            sizes[label] = (width, height)
        else:
            reader.warn(
                f"In {OWN_FILE} the size “{label}” is {_as_in_file(value)}, not two multiples of {SIDE_MULTIPLE} "
                f"from {SIDE[0]} to {SIDE[1]}; it is left out."
            )
    return MappingProxyType(sizes)


def _vocabulary(folder: Path, reader: _Reader) -> frozenset[str]:
    """The vocabulary that a model publishes; empty (any word) where there is none."""
    path = folder / WORDS_FILE
    try:
        if not path.is_file():
            return frozenset()
        if path.stat().st_size > MAX_CONFIG_BYTES:
            reader.warn(f"{WORDS_FILE} is too large; it is not used.")
            return frozenset()
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        reader.warn(f"{WORDS_FILE} is not in UTF-8; it is not used.")
        return frozenset()
    except OSError as error:
        reader.warn(f"{WORDS_FILE} can't be read ({error.strerror}); it is not used.")
        return frozenset()
    words = {printable(line, _MAX_TEXT).lower() for line in lines}
    return frozenset(words - {""})


def _integer_in(value: object, limits: tuple[int, int]) -> int | None:
    number = _number_in(value, limits)
    return int(number) if number is not None and number == int(number) else None


def _number_in(value: object, limits: tuple[float, float]) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if limits[0] <= value <= limits[1] and math.isfinite(value) else None


def _side(value: object) -> int | None:
    side = _integer_in(value, SIDE)
    return side if side is not None and side % SIDE_MULTIPLE == 0 else None


def _as_in_file(value: object) -> str:
    """A value as the file has it, short."""
    if isinstance(value, list | dict) and len(value) > 4:
        return "a long list" if isinstance(value, list) else "a table"
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):  # a number of thousands of digits, or lists without end
        return "a value"
    return printable(text, _MAX_SHOWN)
