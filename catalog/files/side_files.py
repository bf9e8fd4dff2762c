"""What people keep beside a model's file, and what makers write into its header: pictures, notes, trigger words.

Foreign text: it is cut to a length, cleaned of control characters and markup, and only ever shown.
"""

import codecs
import html
import json
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalog.files.plain_text import without_controls

MAX_SIDE_BYTES = 4_000_000
MAX_NOTES = 4_000
MAX_WORD = 200
MAX_WORDS = 12
MAX_METADATA_PICTURE = 100_000
PREVIEW_ENDINGS = (".preview.png", ".preview.jpg", ".preview.jpeg", ".preview.webp", ".png", ".jpg", ".jpeg", ".webp")
NOTE_ENDINGS = (".civitai.info", ".json", ".txt")
_TAGS = re.compile(r"<(?:br|/p|/li|/h\d)\b[^>]*>", re.IGNORECASE)
_MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>")
_MOST_COUNTED = 10**9  # times a tag was in a picture; more is no count
_OFTEN = 0.9  # of the most frequent tag's count: what was in (nearly) every picture names what was trained


@dataclass(frozen=True, slots=True)
class About:
    """What is told about a model besides its weights."""

    title: str = ""
    notes: str = ""
    trigger_words: tuple[str, ...] = ()


def preview_of(path: Path, beside: Container[str]) -> Path | None:
    """The picture beside a file. `beside`: the names in its folder."""
    return next(
        (path.with_name(path.stem + ending) for ending in PREVIEW_ENDINGS if path.stem + ending in beside), None
    )


def notes_of(path: Path, beside: Container[str]) -> tuple[Path, ...]:
    """The files with words about a model. `beside`: the names in its folder."""
    return tuple(path.with_name(path.stem + ending) for ending in NOTE_ENDINGS if path.stem + ending in beside)


def read_notes(files: Sequence[Path]) -> About:
    """What side files say, the first that says a thing; what can't be read says nothing."""
    notes = ""
    words: tuple[str, ...] = ()
    for file in files:
        text = _text_of(file)
        if file.suffix == ".txt":
            found = About(notes=clean(text, MAX_NOTES))
        else:
            found = _of_table(_table(text))
        notes, words = notes or found.notes, words or found.trigger_words
    return About(notes=notes, trigger_words=words)


def read_metadata(metadata: Mapping[str, str]) -> About:
    """What a header's metadata says: modelspec's fields, else those of sd-scripts."""
    title = clean(metadata.get("modelspec.title", "") or metadata.get("ss_output_name", ""), MAX_WORD)
    parts = [clean(metadata.get(f"modelspec.{key}", ""), MAX_NOTES) for key in ("description", "usage_hint")]
    size = len(metadata.get("modelspec.thumbnail", ""))
    if size > MAX_METADATA_PICTURE:
        parts.append(f"The picture inside the file ({size / 1e6:.1f} MB) is not shown.")
    words = _words([metadata.get("modelspec.trigger_phrase", "")]) or _frequent_tags(
        metadata.get("ss_tag_frequency", "")
    )
    return About(title, "\n".join(part for part in parts if part)[:MAX_NOTES], words)


def clean(text: str, limit: int) -> str:
    """Plain text of foreign text: no markup, no characters that hide or turn others."""
    text = text[: limit * 4]
    if "<" in text:
        text = _MARKUP.sub("", _TAGS.sub("\n", text))
    text = without_controls(html.unescape(text).replace("\r\n", "\n"))
    return re.sub(r"\n{3,}", "\n\n", text).strip()[:limit]


def _text_of(file: Path) -> str:
    try:
        if file.stat().st_size > MAX_SIDE_BYTES or not file.is_file():
            return ""
        data = file.read_bytes()
    except OSError:
        return ""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8-sig", "replace")


def _table(text: str) -> Mapping[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _of_table(table: Mapping[str, Any]) -> About:
    """A1111's user metadata, or what Civitai's helpers keep."""
    said = [table.get(key) for key in ("notes", "description")]
    model = table.get("model")
    said += [model.get("description")] if isinstance(model, dict) else []
    words = table.get("trainedWords") or table.get("activation text") or table.get("trigger_words") or ()
    return About(
        notes=clean("\n".join(text for text in said if isinstance(text, str) and text), MAX_NOTES),
        trigger_words=_words([words] if isinstance(words, str) else words),
    )


def _words(found: object) -> tuple[str, ...]:
    texts = (
        [clean(text, MAX_WORD) for text in found if isinstance(text, str)] if isinstance(found, list | tuple) else []
    )
    return tuple(dict.fromkeys(text.strip(" ,") for text in texts if text.strip(" ,")))[:MAX_WORDS]


def _frequent_tags(text: str) -> tuple[str, ...]:
    """Tags that (nearly) every picture of a training set had. `text`: folder -> tag -> how often, as JSON."""
    counts: dict[str, int] = {}
    for tags in _table(text).values():
        for tag, count in tags.items() if isinstance(tags, dict) else ():
            if isinstance(count, int) and 0 < count < _MOST_COUNTED:
                counts[str(tag)] = counts.get(str(tag), 0) + count
    most = max(counts.values(), default=0)
    often = sorted((tag for tag, count in counts.items() if count >= most * _OFTEN), key=lambda tag: -counts[tag])
    return _words(often[:MAX_WORDS])
