"""Translates the fields of other programs to those of A1111: one table of names for all programs.

Most programs write one JSON object with much the same fields under other names. Numbers stay text; they are checked
where all recipes are. `other_programs.py` recognizes which program wrote a text.
"""

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from studio.metadata.infotext import Infotext
from studio.metadata.infotext_parts import NEGATIVE_PROMPT_2, PROMPT_2

Table = Mapping[str, Any]
MAX_JSON_CHARACTERS = 4_000_000
LEAST_FIELDS = 2  # beside the prompt: with fewer, an object is no recipe
_MAX_LORAS = 32
_FRACTION_DIGITS = 6
_NOT_WORD = re.compile(r"[^a-z0-9]")
_SIZE = re.compile(r"(\d{1,6})\D{1,5}(\d{1,6})")
_WEIGHT_FIRST = re.compile(r"(-?\d{1,2}(?:\.\d{1,20})?) - (.{1,300})")
_WEIGHT = re.compile(r"-?\d{1,2}(\.\d{1,20})?")
_SUFFIX = re.compile(r"\.(safetensors|ckpt|pt|pth|bin|sft)$", re.IGNORECASE)
_FOOOCUS_LORA = re.compile(r"lora_combined_\d+|LoRA \d+")
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
        PROMPT_2: ("positivestyleprompt", "prompt2"),
        NEGATIVE_PROMPT_2: ("negativestyleprompt", "negativeprompt2"),
        "Tiling": ("tiling", "seamlesstiling", "seamless"),
        "Denoising strength": ("strength", "denoisingstrength", "promptstrength", "denoise"),
    }
)
_PROMPT = ("positiveprompt", "prompt", "c", "rawprompt", "fullprompt")
_NEGATIVE = ("negativeprompt", "negative", "uc", "undesiredcontent", "rawnegativeprompt")
_SIZES = ("size", "resolution", "imagesize")
_LORAS = ("loras", "lora", "lorasused", "models")
_KINDS_OF_LORA = frozenset({"lora", "locon", "lycoris", "dora"})
_NOTHING = frozenset({"", "none", "null", "automatic", "default", "default (model)"})
_NO_VALUE = frozenset({*_NOTHING, "0", "0.0", "false", "[]", "{}", "-1"})
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
_TRANSLATED = frozenset(
    {*_PROMPT, *_NEGATIVE, *_SIZES, *_LORAS, "width", "height", "seamlessx", "seamlessy"}.union(*_NAMES.values()),
)


def translate(table: Table) -> Infotext | None:
    """An object's fields as A1111's; None if it has no prompt, or hardly anything beside it."""
    folded = fold_keys(table)
    prompt, negative = first_value(folded, _PROMPT), first_value(folded, _NEGATIVE)
    pairs: dict[str, str] = {}
    for key, names in _NAMES.items():
        value = as_text(first_value(folded, names))
        if value.lower() not in _NOTHING:
            pairs[key] = value
    if "Sampler" not in pairs and "Schedule type" in pairs:
        pairs["Sampler"] = pairs.pop("Schedule type")  # diffusers' word for it
    if pairs.get("Schedule type", "").lower() in ("native", "normal", "false", "true"):
        del pairs["Schedule type"]
    clip_skip = pairs.get("Clip skip", "").lower()
    if clip_skip in ("true", "false"):  # Easy Diffusion's switch
        pairs["Clip skip"] = "2" if clip_skip == "true" else "1"
    last_layer = as_text(folded.get("clipstopatlayer"))
    if re.fullmatch(r"-\d{1,2}", last_layer):  # SwarmUI counts from the end
        pairs["Clip skip"] = last_layer[1:]
    wrapped = [axis for axis in "xy" if as_text(folded.get(f"seamless{axis}")).lower() == "true"]
    if wrapped:
        pairs["Tiling"] = "".join(wrapped)
    for key in ("Model", "VAE"):
        if key in pairs:
            pairs[key] = _model_name(pairs[key])
    size = _SIZE.search(as_text(first_value(folded, _SIZES)))
    width, height = as_text(folded.get("width")), as_text(folded.get("height"))
    if width and height:
        pairs["Size"] = f"{width}x{height}"
    elif size:
        pairs["Size"] = f"{size[1]}x{size[2]}"
    if not isinstance(prompt, str) or len(pairs) < LEAST_FIELDS or is_json(prompt):
        return None
    if pairs.get("Denoising strength") in ("1", "1.0"):
        del pairs["Denoising strength"]  # as of an image that began from noise alone
    # Other fields stay untranslated: readers of the pairs report those that they do not use.
    leftovers: list[str] = []
    for key, value in table.items():
        is_known = fold_key(key) in _NOISE or fold_key(key) in _TRANSLATED
        if not is_known and str(value).strip().lower() not in _NO_VALUE and _LEFTOVER_KEY.fullmatch(str(key)):
            leftovers.append(str(key))
    for key in leftovers[:_MAX_LEFTOVERS]:
        if not _FOOOCUS_LORA.fullmatch(key):
            pairs.setdefault(key, "set")
    prompt = prompt.strip()
    for name, weight in _loras(table):
        prompt += f" <lora:{name}:{weight}>"
    negative = negative.strip() if isinstance(negative, str) else ""
    return Infotext(prompt, negative, pairs)


def _loras(table: Table) -> list[tuple[str, str]]:
    """Names and weights of LoRAs, however they are listed."""
    found: list[tuple[str, str]] = []
    folded = fold_keys(table)
    listed = first_value(folded, _LORAS)
    weights = first_value(folded, ("loraweights",))
    for index, entry in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(entry, str):  # SwarmUI lists names and weights apart
            has_weight = isinstance(weights, list) and index < len(weights)
            found.append((entry, as_text(weights[index]) if has_weight else "1"))
        elif isinstance(entry, list) and len(entry) >= 2:
            weight_and_name = _WEIGHT_FIRST.fullmatch(as_text(entry[1]))  # RuinedFooocus: hash, "0.5 - name"
            if weight_and_name:
                found.append((weight_and_name[2], weight_and_name[1]))
            else:
                found.append((as_text(entry[0]), as_text(entry[1])))
        elif isinstance(entry, dict) and str(entry.get("type", "lora")).lower() in _KINDS_OF_LORA:
            fields = fold_keys(entry)
            name = as_text(first_value(fields, ("lora", "model", "name", "modelname", "modelfilename", "file")))
            weight = as_text(first_value(fields, ("weight", "strength", "modelstrength", "multiplier")))
            found.append((name, weight or "1"))
    for key, value in table.items():
        if _FOOOCUS_LORA.fullmatch(str(key)) and isinstance(value, str) and " : " in value:
            name, _, weight = value.rpartition(" : ")
            found.append((name, weight))
    easy_diffusion = as_text(folded.get("useloramodel"))
    if not found and easy_diffusion:
        found = [(easy_diffusion, as_text(folded.get("loraalpha")) or "1")]
    usable: list[tuple[str, str]] = []
    for name, weight in found:
        is_name = name.lower() not in _NOTHING and not set(name) & set("<>:\n")
        if is_name and _WEIGHT.fullmatch(weight):
            usable.append((_model_name(name), weight))
    return usable[:_MAX_LORAS]


def _model_name(path: str) -> str:
    """A model's name without folders and suffix."""
    return _SUFFIX.sub("", path.replace("\\", "/").rpartition("/")[2])


def is_json(text: str) -> bool:
    """Whether a text is an object of some program, which is never a prompt."""
    return json_object(text) is not None or bool(re.match(r"\s*[\[{]\s*(\{\s*)?\"\w{1,60}\"\s*:", text))


def json_object(text: str) -> dict[str, Any] | None:
    """A JSON object; None for anything else."""
    text = text.strip("\0 \t\r\n")
    if not text.startswith("{") or len(text) > MAX_JSON_CHARACTERS:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def fold_key(key: object) -> str:
    """A key in lower case, letters and digits alone: "CFG Scale" and "cfg_scale" are "cfgscale"."""
    return _NOT_WORD.sub("", str(key).lower())


def fold_keys(table: Table) -> dict[str, Any]:
    """The values by folded key; of two with one folded key the first counts."""
    folded: dict[str, Any] = {}
    for key, value in table.items():
        folded.setdefault(fold_key(key), value)
    return folded


def first_value(folded: Table, names: tuple[str, ...]) -> Any:
    """The first value under one of the names that is not empty; None if there is none."""
    for name in names:
        value = folded.get(name)
        if value not in (None, "", []):
            return value
    return None


def as_text(value: Any) -> str:
    """A number or a name as text; of an object that describes a model its name."""
    if isinstance(value, dict):
        value = first_value(fold_keys(value), ("modelname", "name", "file", "modelfilename", "label", "key"))
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        if abs(value) >= 1e15:
            return str(value)
        if value.is_integer():
            return str(int(value))
        return repr(round(value, _FRACTION_DIGITS))
    if isinstance(value, str | int):
        return str(value).strip()
    return ""
