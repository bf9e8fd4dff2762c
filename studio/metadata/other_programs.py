"""Recipes of other programs than A1111 and its kin, in A1111's words, and which program it was.

One reader for each program; their fields are translated in `foreign_fields.py`. What a program has of its own and
what can't be read is named. Nothing runs.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from catalog.families import FAMILIES, OLDEST, family_named
from studio.metadata.foreign_fields import LEAST_FIELDS, Table, fold, fold_keys, is_json, json_object, translate
from studio.metadata.infotext import Infotext, parse_infotext

_DREAM_OPTION = re.compile(r"\s-(?P<key>[sSWHCA])\s?(?P<value>[\w.]{1,40})")
_NAMED_GRAPH = re.compile(r"(?s)\s*(?:prompt|workflow)\s*:\s*(\{.*)", re.IGNORECASE)
# Of NovelAI's many switches those that change a picture.
_OF_NOVELAI = frozenset(
    {
        "prompt",
        "uc",
        "steps",
        "scale",
        "seed",
        "sampler",
        "noiseschedule",
        "width",
        "height",
        "sm",
        "smdyn",
        "cfgrescale",
        "strength",
        "referenceinformationextractedmultiple",
    }
)
_UNREAD: Mapping[str, str] = MappingProxyType(
    {"ComfyUI": "its workflow", "InvokeAI": "its workflow", "Midjourney": "what it wrote"}
)


@dataclass(frozen=True, slots=True)
class Foreign:
    """What another program wrote.

    Attributes:
        program: Its name.
        infotext: The same in A1111's words; None where it can't be read.
        source: The text itself.
        notices: What of it is not used, or means something else here.
    """

    program: str
    infotext: Infotext | None
    source: str = ""
    notices: tuple[str, ...] = ()

    @property
    def unread(self) -> str:
        """What of it can't be read, for a sentence."""
        return _UNREAD.get(self.program, "what it wrote")


def read_foreign(texts: Mapping[str, str]) -> Foreign | None:
    """The recipe of an image's texts if another program wrote it; None if none is recognized.

    Args:
        texts: As `picture_texts`. Never raises.
    """
    # A JPEG or WebP has within one object the texts that a PNG has each by itself.
    for name in ("UserComment", "ImageDescription"):
        table = json_object(texts.get(name, "")) or {}
        inner = {key: text for key, text in table.items() if isinstance(text, str)}
        if any(is_json(inner.get(key, "")) for key in ("Comment", "prompt", "workflow")):
            texts = {**inner, **texts}
            break
    for reader in _READERS:
        found = reader(texts)
        if found:
            return found
    return None


def _novelai(texts: Mapping[str, str]) -> Foreign | None:
    comment = json_object(texts.get("Comment", ""))
    is_theirs = texts.get("Software", "").startswith("NovelAI") or texts.get("Title", "").startswith("NovelAI")
    if comment is None or "prompt" not in comment or not (is_theirs or "uc" in comment):
        return None
    table, has_characters = _with_characters(comment)
    found = translate({key: value for key, value in table.items() if fold(key) in _OF_NOVELAI})
    if found is None:
        return None
    notices = ["It was made with NovelAI's own model."]
    if has_characters:
        notices.append("NovelAI's characters stand at the end of the prompt; their places mean nothing here.")
    if any(mark in found.prompt for mark in ("{", "}", "::")):
        notices.append("NovelAI's weights ({word}, 1.5::word::) mean nothing here.")
    return Foreign("NovelAI", found, texts["Comment"], tuple(notices))


def _with_characters(comment: Table) -> tuple[Table, bool]:
    """NovelAI 4's prompts as one text each, and whether there are characters, which have texts of their own."""
    table, has_characters = dict(comment), False
    for name, part in (("prompt", "v4_prompt"), ("uc", "v4_negative_prompt")):
        texts: list[str] = []
        for base in (table.get(name), _nested(table, part, "caption", "base_caption")):
            if isinstance(base, str) and base.strip():
                texts.append(base)
                break
        captions = _nested(table, part, "caption", "char_captions")
        for caption in captions if isinstance(captions, list) else ():
            text = str(caption.get("char_caption", "")).strip() if isinstance(caption, dict) else ""
            if text:
                texts.append(text)
                has_characters = True
        table[name] = ", ".join(texts)
    return table, has_characters


def _fooocus(texts: Mapping[str, str]) -> Foreign | None:
    for name in ("parameters", "UserComment", "Comment", "ImageDescription"):
        table = json_object(texts.get(name, ""))
        if table is None:
            continue
        folded = fold_keys(table)
        is_theirs = (
            "fooocus" in str(folded.get("version", "")).lower()
            or "performance" in folded
            or "fooocus_scheme" in texts
            or "fooocus" in f"{texts.get('MakerNote', '')} {folded.get('software', '')}".lower()
        )
        found = translate(table) if is_theirs else None
        if found is None:
            continue
        ignored: list[str] = []
        for key, label in (
            ("styles", "its styles"),
            ("promptexpansion", "its prompt expansion"),
            ("fooocusv2expansion", "its prompt expansion"),
            ("sharpness", "sharpness"),
        ):
            if str(folded.get(key, "")).strip() not in ("", "[]"):
                ignored.append(label)
        if str(folded.get("refinermodel", "None")) not in ("None", ""):
            ignored.append("its refiner")
        notices = _not_used("Fooocus", ignored, is_one=ignored == ["sharpness"])
        return Foreign("Fooocus", found, texts[name], notices)
    return None


def _invokeai(texts: Mapping[str, str]) -> Foreign | None:
    table = json_object(texts.get("invokeai_metadata", ""))
    if table is not None:
        fields = dict(table)
        fields["sampler"] = scheduler = str(fields.pop("scheduler", ""))
        if scheduler.endswith("_k"):
            fields |= {"sampler": scheduler.removesuffix("_k"), "schedule": "karras"}
        skipped = fields.pop("clip_skip", None)
        if isinstance(skipped, int) and skipped > 0:
            # It counts the layers left out, from the family's own; A1111 the one that is read, from the last.
            base = str(_nested(fields, "model", "base") or _nested(fields, "model", "base_model"))
            family = FAMILIES.get(family_named(base) or OLDEST, FAMILIES[OLDEST])
            fields["clip_skip"] = skipped + family.layer_read
        found = translate(fields)
        return Foreign("InvokeAI", found, texts["invokeai_metadata"], _invokeai_notices(found, table))
    table = json_object(texts.get("sd-metadata", ""))
    if table is not None:
        image = table.get("image")
        fields = dict(image) if isinstance(image, dict) else {}
        prompts = fields.get("prompt")
        if isinstance(prompts, list):
            fields["prompt"] = ", ".join(str(one.get("prompt", "")) for one in prompts if isinstance(one, dict))
        found = _with_bracketed_negative(translate({"model": table.get("model_weights"), **fields}))
        return Foreign("InvokeAI", found, texts["sd-metadata"], _invokeai_notices(found, table))
    if "Dream" in texts:
        found = _dream(texts["Dream"])
        if found:
            return Foreign("InvokeAI", found, texts["Dream"], _invokeai_notices(found, {}))
    if "invokeai_graph" in texts or "invokeai_workflow" in texts:
        return Foreign("InvokeAI", None)
    return None


def _invokeai_notices(found: Infotext | None, table: Table) -> tuple[str, ...]:
    notices: tuple[str, ...] = ()
    if found and re.search(r"[\w)][+-]{2,}|\)[\d.]+|\)\+|\.(and|blend|swap)\(", found.prompt):
        notices = ("InvokeAI's weights (word++, (words)1.2) mean nothing here.",)
    others = ("controlnets", "ipAdapters", "t2iAdapters", "refiner_model", "init_image")
    ignored = [name for name in others if table.get(name)]
    return notices + _not_used("InvokeAI", ignored, is_one=len(ignored) == 1)


def _dream(text: str) -> Infotext | None:
    """`"a barn [blurry]" -s 50 -S 42 -W 512 -H 512 -C 7.5 -A k_lms`, InvokeAI's first form."""
    quoted = re.match(r'\s*"(.*)"(.*)', text, re.DOTALL)
    if quoted:
        prompt, options = quoted.groups()
    else:
        prompt, options = text.partition(" -")[0], text
    found = {match["key"]: match["value"] for match in _DREAM_OPTION.finditer(" " + options)}
    pairs: dict[str, str] = {}
    for key, name in (("s", "Steps"), ("S", "Seed"), ("C", "CFG scale"), ("A", "Sampler")):
        if key in found:
            pairs[name] = found[key]
    if "W" in found and "H" in found:
        pairs["Size"] = f"{found['W']}x{found['H']}"
    if len(pairs) < LEAST_FIELDS:
        return None
    return _with_bracketed_negative(Infotext(prompt.strip(), "", pairs))


def _with_bracketed_negative(found: Infotext | None) -> Infotext | None:
    """Take the negative prompt out of brackets within the prompt, where early InvokeAI wrote it."""
    if found is None or found.negative_prompt:
        return found
    negative = ", ".join(re.findall(r"\[([^\[\]]{1,2000})\]", found.prompt))
    prompt = re.sub(r"\s*\[[^\[\]]{1,2000}\]", "", found.prompt).strip()
    return replace(found, prompt=prompt, negative_prompt=negative)


def _comfyui(texts: Mapping[str, str]) -> Foreign | None:
    """Its graph, which the API's "prompt" and the page's "workflow" hold; in WebP within fields of EXIF."""
    comment = json_object(texts.get("UserComment", "")) or {}
    extra = comment.get("extraMetadata")
    if isinstance(extra, str):
        # Civitai's generator runs ComfyUI, and writes beside the graph what was asked for.
        table = json_object(extra)
        if table is not None:
            found = translate(table)
            if found:
                return Foreign("Civitai", found, extra)
            return Foreign("ComfyUI", None)
    graphs = [texts.get("prompt", ""), texts.get("workflow", ""), texts.get("UserComment", "")]
    for text in texts.values():
        named = _NAMED_GRAPH.match(text)
        if named:
            graphs.append(named[1])
    if any(map(_is_graph, graphs)):
        return Foreign("ComfyUI", None)
    return None


def _is_graph(text: str) -> bool:
    table = json_object(text)
    if table is None:
        return '"class_type"' in text[:100_000]
    nodes = table.get("nodes")
    if isinstance(nodes, list) and ("links" in table or "last_node_id" in table):
        return True
    inner = table.get("prompt")
    graph = inner if isinstance(inner, dict) else table
    return any(isinstance(node, dict) and "class_type" in node for node in graph.values())


def _swarm(texts: Mapping[str, str]) -> Foreign | None:
    for name in ("parameters", "UserComment"):
        inner = (json_object(texts.get(name, "")) or {}).get("sui_image_params")
        if isinstance(inner, dict):
            return Foreign("SwarmUI", translate(inner), texts[name])
    return None


def _easy_diffusion(texts: Mapping[str, str]) -> Foreign | None:
    """A text for each field."""
    folded = {fold(key) for key in texts}
    has_model = folded & {"usestablediffusionmodel", "stablediffusionmodel", "numinferencesteps"}
    found = translate(texts) if has_model and "prompt" in folded else None
    if found is None:
        return None
    return Foreign("Easy Diffusion", found, "")


def _by_description(texts: Mapping[str, str]) -> Foreign | None:
    description = texts.get("Description", "") or texts.get("XMP description", "") or texts.get("ImageDescription", "")
    if "Generator: Mochi Diffusion" in description:
        return Foreign("Mochi Diffusion", None)
    if re.search(r"\bJob ID: [0-9a-f-]{36}", description):
        return Foreign("Midjourney", None)
    return None


def _any_json(texts: Mapping[str, str]) -> Foreign | None:
    """Draw Things, Easy Diffusion's JPEGs, and whatever else writes one object with a prompt and some numbers."""
    for name, text in texts.items():
        table = json_object(text)
        if table is None:
            continue
        folded = {fold(key) for key in table}
        program = "another program"
        if {"c", "uc"} <= folded:
            program = "Draw Things"
        elif "usestablediffusionmodel" in folded:
            program = "Easy Diffusion"
        found = translate(table)
        if found:
            return Foreign(program, found, text)
        if name == "parameters":
            return Foreign("another program", None)
    return None


_READERS: tuple[Callable[[Mapping[str, str]], Foreign | None], ...] = (
    _novelai,
    _fooocus,
    _invokeai,
    _swarm,
    _comfyui,
    _easy_diffusion,
    _by_description,
    _any_json,
)


def _not_used(program: str, names: list[str], *, is_one: bool) -> tuple[str, ...]:
    """A sentence that names what of a program's recipe is not used; nothing if all is."""
    if not names:
        return ()
    listed = names[-1]
    if len(names) > 1:
        listed = f"{', '.join(names[:-1])} and {names[-1]}"
    return (f"Of {program}, {listed} {'is' if is_one else 'are'} not used.",)


def _nested(table: Table, *path: str) -> Any:
    """The value at a path of keys; None where an object of the path is missing."""
    value: Any = table
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def best_infotext(texts: Mapping[str, str], *, anywhere: bool = True) -> str | None:
    """The text that is A1111's infotext; None if there is none.

    Under “parameters” any text counts as a prompt, unless it is some program's object; elsewhere one that has an
    infotext's last line, so that a camera's comment or a title never becomes a prompt.

    Args:
        anywhere: Whether fields count where other programs put a summary of what they say elsewhere.
    """
    for text in _candidates(texts, anywhere=anywhere):
        if parse_infotext(text).pairs:
            return text
    for key, text in texts.items():
        if key.lower() == "parameters" and text.strip():
            return None if is_json(text) else text
    return None


def _candidates(texts: Mapping[str, str], *, anywhere: bool) -> Iterator[str]:
    """Texts that may be an infotext, likely fields first."""
    named: dict[str, str] = {}
    for key, text in reversed(list(texts.items())):
        named[key.lower()] = text
    likely = ("parameters", "usercomment", "xmp usercomment", "xmp parameters")
    fields = [name for name in likely if name in named]
    if anywhere:
        fields += [name for name in named if name not in likely]
    for name in fields:
        if "steps" in named[name].lower() and not is_json(named[name]):
            yield named[name]
