"""Pictures, notes and trigger words that people keep beside a model's file and that makers write into its header.

Foreign text: it is cut to a length, cleaned of control characters and markup, and only ever shown.
"""

import codecs
import html
import json
import re
from collections import Counter
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
    """The notes about a model."""

    title: str = ""
    notes: str = ""
    trigger_words: tuple[str, ...] = ()


def preview_of(path: Path, beside: Container[str]) -> Path | None:
    """The picture beside a file. `beside`: the names in its folder."""
    for ending in PREVIEW_ENDINGS:
        if path.stem + ending in beside:
            return path.with_name(path.stem + ending)
    return None


def notes_of(path: Path, beside: Container[str]) -> tuple[Path, ...]:
    """The files with notes about a model. `beside`: the names in its folder."""
    return tuple(path.with_name(path.stem + ending) for ending in NOTE_ENDINGS if path.stem + ending in beside)


def read_notes(files: Sequence[Path]) -> About:
    """Read side files; the first that has notes or trigger words counts, one that can't be read has none."""
    notes = ""
    words: tuple[str, ...] = ()
    for file in files:
        text = _read_text(file)
        if file.suffix == ".txt":
            found = About(notes=clean(text, MAX_NOTES))
        else:
            # A1111's user metadata, or the table that Civitai's helpers write.
            table = _json_table(text)
            texts = [table.get("notes"), table.get("description")]
            model = table.get("model")
            if isinstance(model, dict):
                texts.append(model.get("description"))
            joined = "\n".join(text for text in texts if isinstance(text, str) and text)
            triggers = table.get("trainedWords") or table.get("activation text") or table.get("trigger_words") or ()
            found = About(notes=clean(joined, MAX_NOTES), trigger_words=_trigger_words(triggers))
        notes, words = notes or found.notes, words or found.trigger_words
    return About(notes=notes, trigger_words=words)


def read_metadata(metadata: Mapping[str, str]) -> About:
    """Read a header's metadata: modelspec's fields, else those of sd-scripts."""
    title = clean(metadata.get("modelspec.title", "") or metadata.get("ss_output_name", ""), MAX_WORD)
    parts = [
        clean(metadata.get("modelspec.description", ""), MAX_NOTES),
        clean(metadata.get("modelspec.usage_hint", ""), MAX_NOTES),
    ]
    size = len(metadata.get("modelspec.thumbnail", ""))
    if size > MAX_METADATA_PICTURE:
        parts.append(f"The picture inside the file ({size / 1e6:.1f} MB) is not shown.")
    words = _trigger_words([metadata.get("modelspec.trigger_phrase", "")])
    if not words:
        words = _frequent_tags(metadata.get("ss_tag_frequency", ""))
    return About(title, "\n".join(filter(None, parts))[:MAX_NOTES], words)


def clean(text: str, limit: int) -> str:
    """Make plain text of foreign text: no markup, no characters that hide or turn others."""
    text = text[: limit * 4]
    if "<" in text:
        text = _MARKUP.sub("", _TAGS.sub("\n", text))
    text = without_controls(html.unescape(text).replace("\r\n", "\n"))
    return re.sub(r"\n{3,}", "\n\n", text).strip()[:limit]


def _read_text(file: Path) -> str:
    """A side file's text; "" for one that is too large or can't be read."""
    try:
        if file.stat().st_size > MAX_SIDE_BYTES or not file.is_file():
            return ""
        data = file.read_bytes()
    except OSError:
        return ""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8-sig", "replace")


def _json_table(text: str) -> Mapping[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _trigger_words(found: object) -> tuple[str, ...]:
    """Trigger words of a text or a list of texts, each once."""
    if isinstance(found, str):
        found = [found]
    if not isinstance(found, list | tuple):
        return ()
    words: dict[str, None] = {}
    for text in found:
        if isinstance(text, str):
            words[clean(text, MAX_WORD).strip(" ,")] = None
    words.pop("", None)
    return tuple(words)[:MAX_WORDS]


def _frequent_tags(text: str) -> tuple[str, ...]:
    """Tags that (nearly) every picture of a training set had. `text`: folder -> tag -> how often, as JSON."""
    counts: Counter[str] = Counter()
    for tags in _json_table(text).values():
        for tag, count in tags.items() if isinstance(tags, dict) else ():
            if isinstance(count, int) and 0 < count < _MOST_COUNTED:
                counts[str(tag)] += count
    most = max(counts.values(), default=0)
    often = [tag for tag, count in counts.most_common() if count >= most * _OFTEN]
    return _trigger_words(often[:MAX_WORDS])
