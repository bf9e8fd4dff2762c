"""Pictures and notes that people keep beside a model's file and that makers write into its header.

Foreign text: it is cut to a length, cleaned of control characters and markup, and only ever shown, or offered as a
default where it is a number in its range. An address is made of numbers, never taken.
"""

import codecs
import html
import json
import re
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from catalog.files.plain_text import without_controls
from contract.values import SIDE, SIDE_MULTIPLE

MAX_SIDE_BYTES = 4_000_000
MAX_NOTES = 4_000
MAX_WORD = 200
MAX_WORDS = 12
MAX_NEGATIVE = 2_000
MAX_METADATA_PICTURE = 100_000
PREVIEW_ENDINGS = (".preview.png", ".preview.jpg", ".preview.jpeg", ".preview.webp", ".png", ".jpg", ".jpeg", ".webp")
NOTE_ENDINGS = (".civitai.info", ".json", ".txt")
_TAGS = re.compile(r"<(?:br|/p|/li|/h\d)\b[^>]*>", re.IGNORECASE)
_MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>")
_RESOLUTION = re.compile(r"(\d{2,5})x(\d{2,5})")
_CLIP_SKIPS = ("1", "2", "3", "4")
_MOST_WEIGHT, _MOST_VERSIONS, _MOST_ID = 10.0, 500, 2**53
_MOST_COUNTED = 10**9  # times a tag was in a picture; more is no count
_OFTEN = 0.9  # of the most frequent tag's count: what was in (nearly) every picture names what was trained


@dataclass(frozen=True, slots=True)
class About:
    """What is said about a model, by its maker or its owner.

    Attributes:
        version, base_model, author, license: In their words; "" where nothing is said.
        link: Its page at Civitai, made of the numbers in its notes; "" for none.
        preferred_weight: Of a LoRA; None where nothing is said.
        negative_text: To be written into the negative prompt for it.
        clip_skip: As other programs count it, from the last layer; None where nothing is said.
        resolution: Width and height that it was trained for, in pixels; empty where nothing is said.
    """

    title: str = ""
    notes: str = ""
    trigger_words: tuple[str, ...] = ()
    version: str = ""
    base_model: str = ""
    author: str = ""
    license: str = ""
    link: str = ""
    preferred_weight: float | None = None
    negative_text: str = ""
    clip_skip: int | None = None
    resolution: tuple[int, ...] = ()

    def completed_by(self, other: "About") -> "About":
        """This one, with what only the other says."""
        gaps = {}
        for field in fields(self):
            if getattr(self, field.name) in ("", (), None):
                gaps[field.name] = getattr(other, field.name)
        return replace(self, **gaps)


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
    """Read side files; of several the first that says something counts, one that can't be read says nothing."""
    about = About()
    for file in files:
        text = _read_text(file)
        if file.suffix == ".txt":
            found = About(notes=clean(text, MAX_NOTES))
        else:
            found = _about_in(_json_table(text), file.name.removesuffix(file.suffix).removesuffix(".civitai"))
        about = about.completed_by(found)
    return about


def _about_in(table: Mapping[str, Any], stem: str) -> About:
    """Of A1111's user metadata, or what Civitai's helpers keep: a model's version, or a model with all its versions.

    Args:
        stem: The model's file name without its suffix, by which its version is found.
    """
    model = table if "modelVersions" in table else _table_in(table, "model")
    version = _version_of(table, stem) if "modelVersions" in table else table
    texts = [table.get("notes"), table.get("description"), model.get("description") if model is not table else None]
    texts.append(version.get("description") if version is not table else None)
    id_of_model = table.get("id") if model is table else table.get("modelId")
    id_of_version = table.get("modelVersionId") or version.get("id")
    name = _line(version, "name") if "trainedWords" in version or "baseModel" in version else ""
    creator = _table_in(model, "creator") or _table_in(table, "creator")
    triggers = version.get("trainedWords") or table.get("activation text") or table.get("trigger_words") or ()
    return About(
        title=_line(model, "name"),
        notes=clean("\n".join(text for text in texts if isinstance(text, str) and text), MAX_NOTES),
        trigger_words=_trigger_words(triggers),
        version=name,
        base_model=_line(version, "baseModel") or _line(table, "sd version"),
        author=_line(creator, "username"),
        link=_civitai_link(id_of_model, id_of_version),
        preferred_weight=_number(table.get("preferred weight"), _MOST_WEIGHT) or None,
        negative_text=clean(_text(table.get("negative text")), MAX_NEGATIVE),
    )


def _version_of(table: Mapping[str, Any], stem: str) -> Mapping[str, Any]:
    """The version with a file of this name; the only one; else none, since each has its own words."""
    versions = table.get("modelVersions")
    known = [one for one in versions if isinstance(one, dict)] if isinstance(versions, list) else []
    for one in known[:_MOST_VERSIONS]:
        files = one.get("files")
        for file in files[:_MOST_VERSIONS] if isinstance(files, list) else ():
            if isinstance(file, dict) and Path(_text(file.get("name"))).stem == stem:
                return one
    return known[0] if len(known) == 1 else {}


def _civitai_link(model: object, version: object) -> str:
    if not isinstance(model, int) or isinstance(model, bool) or not 0 < model < _MOST_ID:
        return ""
    is_known = isinstance(version, int) and not isinstance(version, bool) and 0 < version < _MOST_ID
    return f"https://civitai.com/models/{model}" + (f"?modelVersionId={version}" if is_known else "")


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
    layer = metadata.get("modelspec.encoder_layer", "")
    return About(
        title,
        "\n".join(filter(None, parts))[:MAX_NOTES],
        words,
        author=_line(metadata, "modelspec.author"),
        license=_line(metadata, "modelspec.license"),
        clip_skip=int(layer) if layer in _CLIP_SKIPS else None,
        resolution=_resolution(metadata.get("modelspec.resolution", "")),
    )


def _resolution(text: str) -> tuple[int, ...]:
    """Width and height of "1024x1024"; empty for what no image here has."""
    match = _RESOLUTION.fullmatch(text)
    sides = (int(match[1]), int(match[2])) if match else ()
    return sides if all(SIDE[0] <= side <= SIDE[1] and side % SIDE_MULTIPLE == 0 for side in sides) else ()


def _table_in(table: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = table.get(name)
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _line(table: Mapping[str, Any], name: str) -> str:
    """A text of one line, "" where there is none."""
    return " ".join(clean(_text(table.get(name)), MAX_WORD).split())


def _number(value: object, most: float) -> float:
    """A number, also one that is written as text; 0 for none."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else 0.0
    except (ValueError, OverflowError):
        return 0.0
    return number if 0 < number <= most else 0.0


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
