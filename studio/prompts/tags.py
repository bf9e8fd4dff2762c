"""Tags to complete while a prompt is typed: a small list of our own, and CSV files that a person drops into tags/.

A row is name, category, count and other names (booru style: "long_hair,0,4350743,"longhair,hair_long""); only the name
is needed. The page asks for all at once and searches them itself, so that no key press asks the server.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from studio.prompts.text_files import UnreadableText, read_text

OWN_TAGS = Path(__file__).with_name("tags.csv")
_MOST_BYTES = 32_000_000
_MOST_TAGS = 300_000
_MOST_CHARACTERS = 120
_MOST_NAMES = 12

# Name, category as boorus number them, how often it is used, other names.
Tag = tuple[str, int, int, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class TagList:
    """Tags, the most used first. notices: sentences on files that could not be used."""

    tags: tuple[Tag, ...]
    notices: tuple[str, ...] = ()


def read_tags(folder: Path) -> TagList:
    """Those of the CSV files of a folder, and our own behind them, each name once."""
    found: dict[str, Tag] = {}
    notices: list[str] = []
    for path in (*sorted(folder.glob("*.csv")), OWN_TAGS):
        try:
            for tag in _rows(read_text(path, _MOST_BYTES)):
                found.setdefault(tag[0].lower().replace("_", " "), tag)
        except UnreadableText as error:
            notices.append(f"{error.message} {error.hint}")
    tags = sorted(found.values(), key=lambda tag: -tag[2])
    if len(tags) > _MOST_TAGS:
        notices.append(f"There are {len(tags):,} tags; the {_MOST_TAGS:,} most used are offered.")
    return TagList(tuple(tags[:_MOST_TAGS]), tuple(notices))


def _rows(text: str) -> Iterator[Tag]:
    """The tags of a CSV. A line that is none is passed over, and so is a heading."""
    rows = csv.reader(text.replace("\0", "").split("\n"))
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error:
            continue
        name = row[0].strip() if row else ""
        if not name or len(name) > _MOST_CHARACTERS or (row[1:] and row[1].strip().lower() in ("type", "category")):
            continue
        numbers = [int(field) if field.strip().isdecimal() and len(field) < 12 else 0 for field in (*row[1:3], "", "")]
        others = row[3].split(",")[:_MOST_NAMES] if len(row) > 3 else []
        kept = (other.strip() for other in others)
        yield name, numbers[0], numbers[1], tuple(other for other in kept if 0 < len(other) <= _MOST_CHARACTERS)
