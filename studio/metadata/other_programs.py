"""Recipes that programs other than A1111 and its forks wrote, translated to A1111's fields.

One reader for each program, in `READERS`; their fields are translated in `foreign_fields.py`. Features that only that
program has, and what can't be read, are named in notices. Nothing in a file is executed.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from catalog.families import FAMILIES, OLDEST, family_named
from studio.metadata.foreign_fields import LEAST_FIELDS, Table, fold_key, fold_keys, is_json, json_object, translate
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
    """The metadata of another program.

    Attributes:
        program: Its name.
        infotext: Its fields as A1111's; None if they can't be read.
        source: The text itself.
        notices: Which of it is not used, or means something else here.
    """

    program: str
    infotext: Infotext | None
    source: str = ""
    notices: tuple[str, ...] = ()

    @property
    def unread(self) -> str:
        """The part that can't be read, for a sentence."""
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
    for reader in READERS:
        found = reader(texts)
        if found:
            return found
    return None


def read_novelai(texts: Mapping[str, str]) -> Foreign | None:
    """NovelAI: a JSON object in `Comment`, whose negative prompt is `uc`."""
    comment = json_object(texts.get("Comment", ""))
    is_theirs = texts.get("Software", "").startswith("NovelAI") or texts.get("Title", "").startswith("NovelAI")
    if comment is None or "prompt" not in comment or not (is_theirs or "uc" in comment):
        return None
    table, has_characters = _with_characters(comment)
    found = translate({key: value for key, value in table.items() if fold_key(key) in _OF_NOVELAI})
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


def read_fooocus(texts: Mapping[str, str]) -> Foreign | None:
    """Fooocus: a JSON object where A1111 has its infotext, recognized by its version or its `Performance`."""
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


def read_invokeai(texts: Mapping[str, str]) -> Foreign | None:
    """InvokeAI: `invokeai_metadata`; before version 3 `sd-metadata`, before version 2 `Dream`."""
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


def read_comfyui(texts: Mapping[str, str]) -> Foreign | None:
    """ComfyUI: its graph in `prompt` (the API's form) and `workflow` (the page's); in WebP within fields of EXIF."""
    comment = json_object(texts.get("UserComment", "")) or {}
    extra = comment.get("extraMetadata")
    if isinstance(extra, str):
        # Civitai's generator runs ComfyUI, and writes the request beside the graph.
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


def read_swarmui(texts: Mapping[str, str]) -> Foreign | None:
    """SwarmUI: a JSON object with `sui_image_params`."""
    for name in ("parameters", "UserComment"):
        inner = (json_object(texts.get(name, "")) or {}).get("sui_image_params")
        if isinstance(inner, dict):
            return Foreign("SwarmUI", translate(inner), texts[name])
    return None


def read_easy_diffusion(texts: Mapping[str, str]) -> Foreign | None:
    """Easy Diffusion: one text for each field."""
    folded = {fold_key(key) for key in texts}
    has_model = folded & {"usestablediffusionmodel", "stablediffusionmodel", "numinferencesteps"}
    found = translate(texts) if has_model and "prompt" in folded else None
    if found is None:
        return None
    return Foreign("Easy Diffusion", found, "")


def recognize_description(texts: Mapping[str, str]) -> Foreign | None:
    """Mochi Diffusion and Midjourney: recognized by the image's description, which is not read further."""
    description = texts.get("Description", "") or texts.get("XMP description", "") or texts.get("ImageDescription", "")
    if "Generator: Mochi Diffusion" in description:
        return Foreign("Mochi Diffusion", None)
    if re.search(r"\bJob ID: [0-9a-f-]{36}", description):
        return Foreign("Midjourney", None)
    return None


def read_any_json(texts: Mapping[str, str]) -> Foreign | None:
    """Draw Things, Easy Diffusion's JPEGs, and whatever else writes one object with a prompt and some numbers."""
    for name, text in texts.items():
        table = json_object(text)
        if table is None:
            continue
        folded = {fold_key(key) for key in table}
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


# Tried in this order; each returns None if the program did not write the texts.
READERS: tuple[Callable[[Mapping[str, str]], Foreign | None], ...] = (
    read_novelai,
    read_fooocus,
    read_invokeai,
    read_swarmui,
    read_comfyui,
    read_easy_diffusion,
    recognize_description,
    read_any_json,
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
    named: dict[str, str] = {}
    for key, text in reversed(list(texts.items())):
        named[key.lower()] = text
    likely = ("parameters", "usercomment", "xmp usercomment", "xmp parameters")
    fields = [name for name in likely if name in named]
    if anywhere:
        fields += [name for name in named if name not in likely]
    for name in fields:
        text = named[name]
        if "steps" in text.lower() and not is_json(text) and parse_infotext(text).pairs:
            return text
    for key, text in texts.items():
        if key.lower() == "parameters" and text.strip():
            return None if is_json(text) else text
    return None
