"""Recipes of other programs than A1111 and its kin, in A1111's words, and which program it was.

Most write JSON with much the same fields under other names: one table of names reads them all. What a program has of
its own and what can't be read is named. Nothing runs; numbers stay text, and are judged where all recipes are.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from studio.metadata.infotext import Infotext, parse

MAX_JSON_CHARACTERS = 4_000_000
_MAX_LORAS = 32
_FRACTION_DIGITS = 6
_NOT_WORD = re.compile(r"[^a-z0-9]")
_SIZE = re.compile(r"(\d{1,6})\D{1,5}(\d{1,6})")
_DREAM_OPTION = re.compile(r"\s-(?P<key>[sSWHCA])\s?(?P<value>[\w.]{1,40})")
_NAMED_GRAPH = re.compile(r"(?s)\s*(?:prompt|workflow)\s*:\s*(\{.*)", re.IGNORECASE)
_WEIGHT_FIRST = re.compile(r"(-?\d{1,2}(?:\.\d{1,20})?) - (.{1,300})")
_SUFFIX = re.compile(r"\.(safetensors|ckpt|pt|pth|bin|sft)$", re.IGNORECASE)
# A1111's key -> what others call it, with letters and digits alone.
_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Steps": ("steps", "numinferencesteps", "inferencesteps", "samplingsteps"),
        "Sampler": ("sampler", "samplername", "samplingmethod", "samplerid"),
        "Schedule type": ("scheduler", "schedulertype", "noiseschedule", "schedule", "scheduletype"),
        "CFG scale": ("cfgscale", "guidancescale", "cfg", "scale", "guidance"),
        "Seed": ("seed", "noiseseed"),
        "Model": (
            "modelname",
            "basemodel",
            "basemodelname",
            "usestablediffusionmodel",
            "stablediffusionmodel",
            "model",
            "modelweights",
            "sdmodel",
            "checkpoint",
        ),
        "Model hash": ("modelhash", "basemodelhash", "sha256"),
        "VAE": ("vae", "vaename", "usevaemodel", "vaemodel"),
        "Clip skip": ("clipskip",),
        "Denoising strength": ("strength", "denoisingstrength", "promptstrength", "denoise"),
    }
)
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
_PROMPT = ("positiveprompt", "prompt", "c", "rawprompt", "fullprompt")
_NEGATIVE = ("negativeprompt", "negative", "uc", "undesiredcontent", "rawnegativeprompt")
_SIZES = ("size", "resolution", "imagesize")
_LORAS = ("loras", "lora", "lorasused", "models")
_KINDS_OF_LORA = frozenset({"lora", "locon", "lycoris", "dora"})
_LEAST_FIELDS = 2
_NOTHING = frozenset({"", "none", "null", "automatic", "default", "default (model)"})
_UNREAD: Mapping[str, str] = MappingProxyType(
    {"ComfyUI": "its workflow", "InvokeAI": "its workflow", "Midjourney": "what it wrote"}
)
_SAYS_NOTHING = frozenset({*_NOTHING, "0", "0.0", "false", "[]", "{}", "-1"})
_LEFTOVER_KEY = re.compile(r"[\w \-/]{1,60}")
_MAX_LEFTOVERS = 40
# What programs note for themselves, or say a second time.
_NOISE = frozenset(
    [
        "version",
        "appversion",
        "swarmversion",
        "generationmode",
        "randdevice",
        "createdby",
        "metadatascheme",
        "date",
        "app",
        "software",
        "admguidance",
        "fullprompt",
        "fullnegativeprompt",
        "performance",
        "refinerswitch",
        "styles",
        "promptexpansion",
        "fooocusv2expansion",
        "sharpness",
        "refinermodel",
        "model",
        "vae",
        "clipstopatlayer",
        "loraweights",
        "originalprompt",
        "originalnegativeprompt",
        "automaticvae",
        "aspectratio",
        "sidelength",
        "generationtime",
        "preptime",
        "preparationtime",
        "images",
        "lorasectionconfinement",
        "loratencweights",
        "workflowid",
        "workflow",
        "seedmode",
        "v2",
        "maskblur",
        "profile",
        "numoutputs",
        "outputformat",
        "outputquality",
        "outputlossless",
        "metadataoutputformat",
        "vramusagelevel",
        "sessionid",
        "requestid",
        "usedrandomseed",
        "activetags",
        "inactivetags",
        "savetodiskpath",
        "showonlyfilteredimage",
        "streamprogressupdates",
        "streamimageprogress",
        "useloramodel",
        "loraalpha",
        "originaltext",
        "hypernetworkstrength",
        "blocknsfw",
        "controlnets",
        "ipadapters",
        "t2iadapters",
        "initimage",
        "prompts",
    ]
)
Table = Mapping[str, Any]


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
    """The recipe of a picture's texts if another program wrote it; None if none is known again.

    Args:
        texts: As `picture_texts`. Never raises.
    """
    texts = _unwrapped(texts)
    for reader in _READERS:
        if found := reader(texts):
            return found
    return None


def _unwrapped(texts: Mapping[str, str]) -> Mapping[str, str]:
    """With the texts that a JPEG or WebP has within one object, where a PNG has each by itself."""
    for name in ("UserComment", "ImageDescription"):
        table = _table(texts.get(name, "")) or {}
        inner = {key: text for key, text in table.items() if isinstance(text, str)}
        if any(is_json(inner.get(key, "")) for key in ("Comment", "prompt", "workflow")):
            return {**inner, **texts}
    return texts


def is_json(text: str) -> bool:
    """Whether a text is an object of some program, which is never a prompt."""
    return _table(text) is not None or bool(re.match(r"\s*[\[{]\s*(\{\s*)?\"\w{1,60}\"\s*:", text))


def _novelai(texts: Mapping[str, str]) -> Foreign | None:
    comment = _table(texts.get("Comment", ""))
    is_theirs = texts.get("Software", "").startswith("NovelAI") or texts.get("Title", "").startswith("NovelAI")
    if comment is None or "prompt" not in comment or not (is_theirs or "uc" in comment):
        return None
    table, characters = _with_characters(comment)
    found = _translated({key: value for key, value in table.items() if _fold(key) in _OF_NOVELAI})
    if found is None:
        return None
    notices = ["It was made with NovelAI's own model."]
    if characters:
        notices.append("NovelAI's characters stand at the end of the prompt; their places mean nothing here.")
    if any(mark in found.prompt for mark in "{}") or "::" in found.prompt:
        notices.append("NovelAI's weights ({word}, 1.5::word::) mean nothing here.")
    return Foreign("NovelAI", found, texts["Comment"], tuple(notices))


def _with_characters(comment: Table) -> tuple[Table, bool]:
    """NovelAI 4's prompts as one text each, and whether there are characters, which have texts of their own."""
    table, has_characters = dict(comment), False
    for name, part in (("prompt", "v4_prompt"), ("uc", "v4_negative_prompt")):
        base, listed = (_inside(table, part, "caption", key) for key in ("base_caption", "char_captions"))
        texts = [text for text in (table.get(name), base) if isinstance(text, str) and text.strip()][:1]
        own = (
            [str(one.get("char_caption", "")).strip() for one in listed if isinstance(one, dict)]
            if isinstance(listed, list)
            else []
        )
        has_characters |= any(own)
        table[name] = ", ".join(filter(None, (*texts, *own)))
    return table, has_characters


def _fooocus(texts: Mapping[str, str]) -> Foreign | None:
    for name in ("parameters", "UserComment", "Comment", "ImageDescription"):
        table = _table(texts.get(name, ""))
        if table is None:
            continue
        folded = _folded(table)
        is_theirs = (
            "fooocus" in str(folded.get("version", "")).lower()
            or "performance" in folded
            or "fooocus_scheme" in texts
            or "fooocus" in f"{texts.get('MakerNote', '')} {folded.get('software', '')}".lower()
        )
        if is_theirs and (found := _translated(table)):
            ignored = [
                label
                for key, label in (
                    ("styles", "its styles"),
                    ("promptexpansion", "its prompt expansion"),
                    ("fooocusv2expansion", "its prompt expansion"),
                    ("sharpness", "sharpness"),
                )
                if str(folded.get(key, "")).strip() not in ("", "[]")
            ]
            ignored += ["its refiner"] if str(folded.get("refinermodel", "None")) not in ("None", "") else []
            notices = (f"Of Fooocus, {_listed(ignored)} {'is' if ignored == ['sharpness'] else 'are'} not used.",)
            return Foreign("Fooocus", found, texts[name], notices if ignored else ())
    return None


def _invokeai(texts: Mapping[str, str]) -> Foreign | None:
    if (table := _table(texts.get("invokeai_metadata", ""))) is not None:
        found = _translated(_invokeai_fields(table))
        notices = _invokeai_notices(found, table)
        return Foreign("InvokeAI", found, texts["invokeai_metadata"], notices)
    if (table := _table(texts.get("sd-metadata", ""))) is not None:
        image = table.get("image")
        fields = dict(image) if isinstance(image, dict) else {}
        prompts = fields.get("prompt")
        if isinstance(prompts, list):
            fields["prompt"] = ", ".join(str(one.get("prompt", "")) for one in prompts if isinstance(one, dict))
        found = _bracketed_negative(_translated({"model": table.get("model_weights"), **fields}))
        return Foreign("InvokeAI", found, texts["sd-metadata"], _invokeai_notices(found, table))
    if "Dream" in texts and (found := _dream(texts["Dream"])):
        return Foreign("InvokeAI", found, texts["Dream"], _invokeai_notices(found, {}))
    return Foreign("InvokeAI", None) if {"invokeai_graph", "invokeai_workflow"} & texts.keys() else None


def _invokeai_fields(table: Table) -> Table:
    fields = dict(table)
    fields["sampler"] = scheduler = str(fields.pop("scheduler", ""))
    if scheduler.endswith("_k"):
        fields |= {"sampler": scheduler.removesuffix("_k"), "schedule": "karras"}
    if isinstance(skipped := fields.pop("clip_skip", None), int) and skipped > 0:
        # It counts the layers left out, from the family's own; A1111 the one that is read, from the last.
        base = str(_inside(table, "model", "base") or _inside(table, "model", "base_model"))
        fields["clip_skip"] = skipped + (2 if base.startswith(("sd-2", "sdxl")) else 1)
    return fields


def _invokeai_notices(found: Infotext | None, table: Table) -> tuple[str, ...]:
    notices = []
    if found and re.search(r"[\w)][+-]{2,}|\)[\d.]+|\)\+|\.(and|blend|swap)\(", found.prompt):
        notices.append("InvokeAI's weights (word++, (words)1.2) mean nothing here.")
    others = [
        name for name in ("controlnets", "ipAdapters", "t2iAdapters", "refiner_model", "init_image") if table.get(name)
    ]
    return (
        (*notices, f"Of InvokeAI, {_listed(others)} {'is' if len(others) == 1 else 'are'} not used.")
        if others
        else tuple(notices)
    )


def _dream(text: str) -> Infotext | None:
    """`"a barn [blurry]" -s 50 -S 42 -W 512 -H 512 -C 7.5 -A k_lms`, InvokeAI's first form."""
    quoted = re.match(r'\s*"(.*)"(.*)', text, re.DOTALL)
    prompt, options = quoted.groups() if quoted else (text.partition(" -")[0], text)
    found = {match["key"]: match["value"] for match in _DREAM_OPTION.finditer(" " + options)}
    keys = {"s": "Steps", "S": "Seed", "C": "CFG scale", "A": "Sampler"}
    pairs = {name: found[key] for key, name in keys.items() if key in found}
    if "W" in found and "H" in found:
        pairs["Size"] = f"{found['W']}x{found['H']}"
    return _bracketed_negative(Infotext(prompt.strip(), "", pairs)) if len(pairs) >= _LEAST_FIELDS else None


def _bracketed_negative(found: Infotext | None) -> Infotext | None:
    """Early InvokeAI wrote what to avoid in brackets, within the prompt."""
    if found is None or found.negative_prompt:
        return found
    negative = ", ".join(re.findall(r"\[([^\[\]]{1,2000})\]", found.prompt))
    prompt = re.sub(r"\s*\[[^\[\]]{1,2000}\]", "", found.prompt).strip()
    return replace(found, prompt=prompt, negative_prompt=negative)


def _comfyui(texts: Mapping[str, str]) -> Foreign | None:
    """Its graph, which the API's "prompt" and the page's "workflow" hold; in WebP within fields of EXIF."""
    graphs = [texts.get("prompt", ""), texts.get("workflow", "")]
    graphs += [named[1] for text in texts.values() if (named := _NAMED_GRAPH.match(text))]
    comment = _table(texts.get("UserComment", "")) or {}
    if isinstance(extra := comment.get("extraMetadata"), str) and (table := _table(extra)) is not None:
        # Civitai's generator runs ComfyUI, and says beside the graph what was asked for.
        found = _translated(table)
        return Foreign("Civitai", found, extra) if found else Foreign("ComfyUI", None)
    graphs.append(texts.get("UserComment", ""))
    return Foreign("ComfyUI", None) if any(map(_is_graph, graphs)) else None


def _is_graph(text: str) -> bool:
    table = _table(text)
    if table is None:
        return '"class_type"' in text[:100_000]
    nodes = table.get("nodes")
    if isinstance(nodes, list) and ("links" in table or "last_node_id" in table):
        return True
    inner = table.get("prompt")
    entries = (inner if isinstance(inner, dict) else table).values()
    return any(isinstance(node, dict) and "class_type" in node for node in entries)


def _swarm(texts: Mapping[str, str]) -> Foreign | None:
    for name in ("parameters", "UserComment"):
        table = _table(texts.get(name, ""))
        inner = table.get("sui_image_params") if table else None
        if isinstance(inner, dict):
            return Foreign("SwarmUI", _translated(inner), texts[name])
    return None


def _easy_diffusion(texts: Mapping[str, str]) -> Foreign | None:
    """A text for each field."""
    folded = {_fold(key) for key in texts}
    is_theirs = {"usestablediffusionmodel", "stablediffusionmodel", "numinferencesteps"} & folded and "prompt" in folded
    found = _translated(texts) if is_theirs else None
    return Foreign("Easy Diffusion", found, "") if found else None


def _by_description(texts: Mapping[str, str]) -> Foreign | None:
    description = texts.get("Description", "") or texts.get("XMP description", "") or texts.get("ImageDescription", "")
    if "Generator: Mochi Diffusion" in description:
        return Foreign("Mochi Diffusion", None)
    return Foreign("Midjourney", None) if re.search(r"\bJob ID: [0-9a-f-]{36}", description) else None


def _any_json(texts: Mapping[str, str]) -> Foreign | None:
    """Draw Things, Easy Diffusion's JPEGs, and whatever else writes one object with a prompt and some numbers."""
    for name, text in texts.items():
        table = _table(text)
        if table is None:
            continue
        folded = {_fold(key) for key in table}
        program = (
            "Draw Things"
            if {"c", "uc"} <= folded
            else "Easy Diffusion"
            if "usestablediffusionmodel" in folded
            else "another program"
        )
        if found := _translated(table):
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


def _translated(table: Table) -> Infotext | None:
    """A1111's words for an object's fields; None if it has no prompt, or hardly anything beside it."""
    folded = _folded(table)
    prompt, negative = _first(folded, _PROMPT), _first(folded, _NEGATIVE)
    pairs = {}
    for key, names in _NAMES.items():
        value = _plain(_first(folded, names))
        if value.lower() not in _NOTHING:
            pairs[key] = value
    if "Sampler" not in pairs and "Schedule type" in pairs:
        pairs["Sampler"] = pairs.pop("Schedule type")  # diffusers' word for it
    if pairs.get("Schedule type", "").lower() in ("native", "normal", "false", "true"):
        del pairs["Schedule type"]
    if pairs.get("Clip skip", "").lower() in ("true", "false"):  # Easy Diffusion's switch
        pairs["Clip skip"] = "2" if pairs["Clip skip"].lower() == "true" else "1"
    if re.fullmatch(r"-\d{1,2}", last := _plain(folded.get("clipstopatlayer"))):  # SwarmUI counts from the end
        pairs["Clip skip"] = last[1:]
    for key in ("Model", "VAE"):
        if key in pairs:
            pairs[key] = _SUFFIX.sub("", pairs[key].replace("\\", "/").rpartition("/")[2])
    size = _SIZE.search(_plain(_first(folded, _SIZES)))
    width, height = _plain(folded.get("width")), _plain(folded.get("height"))
    if width and height:
        pairs["Size"] = f"{width}x{height}"
    elif size:
        pairs["Size"] = f"{size[1]}x{size[2]}"
    if not isinstance(prompt, str) or len(pairs) < _LEAST_FIELDS or is_json(prompt):
        return None
    if pairs.get("Denoising strength") in ("1", "1.0"):
        del pairs["Denoising strength"]  # as of a picture that began from noise alone
    pairs |= {key: value for key, value in _leftovers(table) if key not in pairs}
    tags = "".join(f" <lora:{name}:{weight}>" for name, weight in _loras(table))
    return Infotext(prompt.strip() + tags, negative.strip() if isinstance(negative, str) else "", pairs)


def _leftovers(table: Table) -> Iterator[tuple[str, str]]:
    """What else an object says and nobody translates: whoever reads the pairs names what it does not use."""
    known = {
        *_NOISE,
        *_PROMPT,
        *_NEGATIVE,
        *_SIZES,
        *_LORAS,
        "width",
        "height",
        *(name for names in _NAMES.values() for name in names),
    }
    left = [
        str(key)
        for key, value in table.items()
        if _fold(key) not in known
        and str(value).strip().lower() not in _SAYS_NOTHING
        and _LEFTOVER_KEY.fullmatch(str(key))
    ]
    yield from ((key, "set") for key in left[:_MAX_LEFTOVERS] if not re.fullmatch(r"lora_combined_\d+|LoRA \d+", key))


def _loras(table: Table) -> list[tuple[str, str]]:
    """Names and weights, however they are listed."""
    found: list[tuple[str, str]] = []
    folded = _folded(table)
    listed = _first(folded, _LORAS)
    weights = _first(folded, ("loraweights",))
    for place, entry in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(entry, str):  # SwarmUI lists names and weights apart
            has_weight = isinstance(weights, list) and place < len(weights)
            found.append((entry, _plain(weights[place]) if has_weight else "1"))
        elif isinstance(entry, list) and len(entry) >= 2:
            weighed = _WEIGHT_FIRST.fullmatch(_plain(entry[1]))  # RuinedFooocus: hash, "0.5 - name"
            found.append((weighed[2], weighed[1]) if weighed else (_plain(entry[0]), _plain(entry[1])))
        elif isinstance(entry, dict) and str(entry.get("type", "lora")).lower() in _KINDS_OF_LORA:
            one = _folded(entry)
            found.append(
                (
                    _plain(_first(one, ("lora", "model", "name", "modelname", "modelfilename", "file"))),
                    _plain(_first(one, ("weight", "strength", "modelstrength", "multiplier"))) or "1",
                )
            )
    for key, value in table.items():  # Fooocus
        if re.fullmatch(r"lora_combined_\d+|LoRA \d+", str(key)) and isinstance(value, str) and " : " in value:
            name, _, weight = value.rpartition(" : ")
            found.append((name, weight))
    if not found and (name := _plain(folded.get("useloramodel"))):  # Easy Diffusion
        found = [(name, _plain(folded.get("loraalpha")) or "1")]
    return [
        (_SUFFIX.sub("", name.replace("\\", "/").rpartition("/")[2]), weight)
        for name, weight in found
        if name
        and name.lower() not in _NOTHING
        and re.fullmatch(r"-?\d{1,2}(\.\d{1,20})?", weight)
        and not set(name) & set("<>:\n")
    ][:_MAX_LORAS]


def _table(text: str) -> dict[str, Any] | None:
    """A JSON object; None for anything else."""
    text = text.strip("\0 \t\r\n")
    if not text.startswith("{") or len(text) > MAX_JSON_CHARACTERS:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _fold(key: object) -> str:
    return _NOT_WORD.sub("", str(key).lower())


def _folded(table: Table) -> dict[str, Any]:
    folded: dict[str, Any] = {}
    for key, value in table.items():
        folded.setdefault(_fold(key), value)
    return folded


def _first(folded: Table, names: tuple[str, ...]) -> Any:
    return next((folded[name] for name in names if folded.get(name) not in (None, "", [])), None)


def _inside(table: Table, *path: str) -> Any:
    value: Any = table
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _plain(value: Any) -> str:
    """A number or a name as text; of an object that describes a model its name."""
    if isinstance(value, dict):
        value = _first(_folded(value), ("modelname", "name", "file", "modelfilename", "label", "key"))
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, float):
        return repr(round(value, _FRACTION_DIGITS)) if abs(value) < 1e15 else str(value)
    return str(value).strip() if isinstance(value, str | int) else ""


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else ""


def best_infotext(texts: Mapping[str, str], *, anywhere: bool = True) -> str | None:
    """The text that is A1111's infotext; None if there is none.

    Under “parameters” any text counts as a prompt, unless it is some program's object; elsewhere one that has an
    infotext's last line, so that a camera's comment or a title never becomes a prompt.

    Args:
        anywhere: Whether places count where other programs put a summary of what they say elsewhere.
    """
    for text in _candidates(texts, anywhere=anywhere):
        if len(parse(text).pairs) > 0:
            return text
    plain = next((text for key, text in texts.items() if key.lower() == "parameters" and text.strip()), None)
    return plain if plain and not is_json(plain) else None


def _candidates(texts: Mapping[str, str], *, anywhere: bool) -> Iterator[str]:
    """Likely places first."""
    order = ("parameters", "usercomment", "xmp usercomment", "xmp parameters")
    named = {key.lower(): text for key, text in reversed(list(texts.items()))}
    places = [*(name for name in order if name in named), *(name for name in named if anywhere and name not in order)]
    yield from (named[name] for name in places if "steps" in named[name].lower() and not is_json(named[name]))
