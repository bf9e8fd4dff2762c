"""Styles: words that go around or behind a prompt, as A1111's styles.csv keeps them. Applied when a job is submitted.

A style's text with “{prompt}” takes the prompt there; another is joined behind it. Several are applied in order.
Source: A1111's `modules/styles.py`, whose files are read and written here.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field

from contract.errors import InvalidRecipe, NotFound, RequestError
from contract.recipe import Frozen
from contract.values import Name
from studio.prompts.text_files import UnreadableText, read_text, write_text

PLACE = "{prompt}"
OWN_STYLES = Path(__file__).with_name("styles.csv")
_MOST_BYTES = 8_000_000
_MOST_ROUNDS = 32
_MOST_CHARACTERS = 100_000
StyleText = Annotated[str, Field(max_length=_MOST_CHARACTERS)]
_COLUMNS = ("name", "prompt", "negative_prompt")


class Style(Frozen):
    """A style. source: where it is kept; only those of "here" can be changed."""

    name: Name
    prompt: StyleText = ""
    negative_prompt: StyleText = ""
    source: Annotated[str, Field(max_length=300)] = "here"


@dataclass(frozen=True, slots=True)
class StyleList:
    """Styles by name. notices: sentences on files that could not be read whole."""

    styles: Mapping[str, Style]
    notices: tuple[str, ...] = ()


@dataclass(slots=True)
class _Sheet:
    """A styles.csv as it is: its columns and rows. problem: why it must not be written anew; "" where it may."""

    columns: list[str] = field(default_factory=lambda: list(_COLUMNS))
    rows: list[dict[str, str]] = field(default_factory=list)
    problem: str = ""


def apply_styles(text: str, style_texts: Sequence[str]) -> str:
    """A prompt with the texts of styles around it or behind it."""
    for style in style_texts:
        if PLACE in style:
            text = style.replace(PLACE, text)
        else:
            text = ", ".join(part for part in (text.strip(), style.strip()) if part)
    return text


def take_styles_off(prompt: str, negative_prompt: str, styles: Sequence[Style]) -> tuple[str, str, tuple[str, ...]]:
    """Find the styles whose texts both prompts end with or lie in, as A1111 does when it reads a picture.

    Returns:
        Both prompts without them, and the names in the order in which they were applied.
    """
    names: list[str] = []
    for _ in range(_MOST_ROUNDS):
        for style in styles:
            if not (style.prompt.strip() or style.negative_prompt.strip()):
                continue
            shorter = _without(prompt, style.prompt)
            shorter_negative = _without(negative_prompt, style.negative_prompt)
            if shorter is not None and shorter_negative is not None:
                prompt, negative_prompt = shorter, shorter_negative
                names.insert(0, style.name)
                break
        else:
            break
    return prompt, negative_prompt, tuple(names)


def _without(text: str, style: str) -> str | None:
    """A text without a style's; None where it has not been applied."""
    text, style = text.strip(), style.strip()
    if PLACE in style:
        left, _, right = style.partition(PLACE)
        is_around = len(text) >= len(left) + len(right) and text.startswith(left) and text.endswith(right)
        return text[len(left) : len(text) - len(right)] if is_around and PLACE not in right else None
    if not text.endswith(style):
        return None
    rest = text[: len(text) - len(style)]
    if rest and style and not rest.endswith((", ", ",")):
        return None
    return rest.removesuffix(", ").removesuffix(",") if style else rest


class Styles:
    """The styles of the data folder, those that other programs keep, and those that ship; the first of a name counts.

    Args:
        path: styles.csv in the data folder; the only one that is written.
        others: Files that other programs may have.
    """

    def __init__(self, path: Path, others: Sequence[Path]) -> None:
        self._path = path
        self._others = others

    def all(self) -> StyleList:
        """Every style, read anew."""
        found: dict[str, Style] = {}
        notices: list[str] = []
        for path in (self._path, *self._others, OWN_STYLES):
            if path != self._path and not path.is_file():
                continue
            sheet = _read(path)
            if sheet.problem:
                notices.append(sheet.problem)
            source = "here" if path == self._path else "Darkroom" if path == OWN_STYLES else path.parent.name
            for row in sheet.rows:
                name = row["name"].strip()
                if max(len(row["prompt"]), len(row["negative_prompt"])) > _MOST_CHARACTERS or len(name) > 300:
                    notices.append(f"{path.name}: style “{name[:40]}” is too long to be used.")
                elif name:
                    style = Style(
                        name=name, prompt=row["prompt"], negative_prompt=row["negative_prompt"], source=source
                    )
                    found.setdefault(name, style)
        return StyleList(found, tuple(notices))

    def named(self, names: Sequence[str]) -> tuple[Style, ...]:
        """Styles by name, in that order.

        Raises:
            InvalidRecipe: one is not here.
        """
        styles = self.all().styles
        for name in names:
            if name not in styles:
                raise InvalidRecipe(f"Style “{name[:80]}” is not here.", "Choose another, or none.", field="styles")
        return tuple(styles[name] for name in names)

    def put(self, style: Style) -> None:
        """Keep a style under its name, in place of one that has it.

        Raises:
            RequestError: the file has something that can't be read, which writing would lose.
            StudioError: it can't be written.
        """
        sheet = self._to_write()
        row = next((row for row in sheet.rows if row["name"].strip() == style.name), None)
        if row is None:
            row = dict.fromkeys(sheet.columns, "")
            sheet.rows.append(row)
        row |= {"name": style.name, "prompt": style.prompt, "negative_prompt": style.negative_prompt}
        self._write(sheet)

    def remove(self, name: str) -> Style:
        """Remove a style of the data folder, and return it.

        Raises:
            NotFound: there is none, or it is another program's.
            RequestError, StudioError: as of `put`.
        """
        sheet = self._to_write()
        kept = [row for row in sheet.rows if row["name"].strip() != name]
        gone = [row for row in sheet.rows if row["name"].strip() == name]
        if not gone:
            raise NotFound(
                f"Style “{name[:80]}” is not kept here.",
                "Those that ship, or are another program's, stay.",
                field="name",
            )
        sheet.rows = kept
        self._write(sheet)
        return Style(name=name, prompt=gone[0]["prompt"], negative_prompt=gone[0]["negative_prompt"])

    def _to_write(self) -> _Sheet:
        sheet = _read(self._path)
        if sheet.problem:
            raise RequestError(
                sheet.problem, "Correct the file or move it away; nothing was changed.", code="damaged_file"
            )
        return sheet

    def _write(self, sheet: _Sheet) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, sheet.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sheet.rows)
        write_text(self._path, text.getvalue())


def _read(path: Path) -> _Sheet:
    """The rows of a styles.csv; one that is not there has none. Never raises."""
    sheet = _Sheet()
    if not path.exists() and not path.is_symlink():
        return sheet
    try:
        text = read_text(path, _MOST_BYTES)
    except UnreadableText as error:
        sheet.problem = error.message
        return sheet
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", restval="", strict=True)
    try:
        columns = [name.strip() for name in reader.fieldnames or ()]
        if not text.strip():
            return sheet
        if "name" not in columns:
            sheet.problem = f"{path.name} has no column “name” in its first line."
            return sheet
        reader.fieldnames = columns
        sheet.columns = [*columns, *(name for name in _COLUMNS if name not in columns)]
        for row in reader:
            if row.pop("", None):
                sheet.problem = f"{path.name}, line {reader.reader.line_num}: there are more fields than columns."
            if not row["prompt" if "prompt" in columns else "name"] and row.get("text"):
                row["prompt"] = row["text"]  # as A1111 called the column at first
            sheet.rows.append({name: row.get(name, "") for name in sheet.columns})
    except csv.Error as error:
        sheet.problem = f"{path.name}, line {reader.reader.line_num}: {error}."
    return sheet
