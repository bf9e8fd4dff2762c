"""The searchable words of an image, and the terms of a search, in one spelling.

Both go through `fold`, so that case, accents and the width of letters don't matter. `gallery_search.py` searches.
"""

import re
import unicodedata
from typing import NamedTuple

from catalog.samplers import SAMPLERS, SCHEDULES
from catalog.upscalers import UPSCALERS
from contract.recipe import ModelRef, Recipe
from contract.tasks import Upscale

MAX_TERMS = 16
_MAX_CHARACTERS = 20_000  # of a field
_MAX_QUESTION = 2_000
# Marks over these are accents; elsewhere they are vowels and tones, and a word without them is another word.
_ACCENTED = ("LATIN", "GREEK", "CYRILLIC", "ARABIC", "HEBREW")
_WHOLE = str.maketrans(
    {"ł": "l", "ø": "o", "đ": "d", "ħ": "h", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ـ": None}
)  # letters that no accent can be taken from, and Arabic's stretching
_UNSEEN = re.compile("[\ufe0e\ufe0f\u00ad\u200b\u200c\u2060\ufeff]")  # invisible: nobody types them on purpose
_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
_TERM = re.compile(r'"([^"]+)"|(\S+)')
_AROUND = ",.;:!?()[]{}\"'“”„‘’«»<>、。，！？"  # punctuation around a word in a sentence or a prompt


def fold(text: str) -> str:
    """One spelling of equal words: "Ｃafé" and "cafe", "ÉTÉ" and "ete"; が stays が, and Thai keeps its vowels."""
    folded = text.casefold()
    if not text.isascii():
        decomposed = unicodedata.normalize("NFKD", _UNSEEN.sub("", text.encode("utf-8", "replace").decode()).casefold())
        kept: list[str] = []
        base = " "
        for character in decomposed:
            if unicodedata.category(character) != "Mn":
                base = character
            elif unicodedata.name(base, "").startswith(_ACCENTED):
                continue
            kept.append(character)
        folded = unicodedata.normalize("NFC", "".join(kept)).casefold().translate(_WHOLE)
    return re.sub(r"[^\S\n]+", " ", _CONTROLS.sub(" ", folded))


def search_terms(question: str) -> tuple[str, ...]:
    """The terms that must all be found, as parts of words: split at white space, "several in quotes" kept together.

    Punctuation around a word is dropped, unless the term is nothing else: a comma is incidental, a smiley or a
    percent sign is meant.
    """
    asked = []
    for quoted, plain in _TERM.findall(fold(question[:_MAX_QUESTION]).replace("\n", " ")):
        term = quoted.strip() if quoted else plain.strip(_AROUND) or plain
        if term:
            asked.append(term)
    return tuple(dict.fromkeys(asked))[:MAX_TERMS]


class Words(NamedTuple):
    """The searchable words of an image, folded, by field."""

    prompt: str = ""
    negative_prompt: str = ""
    model: str = ""
    names: str = ""  # of all else: LoRAs, embeddings, sampler, seed, …


def words_of(recipe: Recipe | None, upscale: Upscale | None = None) -> Words:
    """The words of a picture.

    Args:
        recipe: How it was made; of an upscaled picture, how the one it comes from was.
    """
    names = ["upscaled", _named(upscale.upscaler)] if upscale else []
    if recipe is None:
        return Words(names=_field(*names))
    hires, regions = recipe.hires, recipe.regions.regions if recipe.regions else ()
    if hires:
        names.append(_named(hires.upscaler))
    names += [model.name for model in recipe.models[1:]]
    names += [f"<lora:{lora.model.name}:{lora.weight:g}>" for lora in recipe.loras]
    for region in regions:
        names += [f"<lora:{lora.model.name}:{lora.weight:g}>" for lora in region.loras]
    names += [control.preprocessor for control in recipe.controls if control.preprocessor != "none"]
    for sampler_id in dict.fromkeys((recipe.sampler, hires.sampler if hires else None)):
        if sampler_id is not None:
            sampler = SAMPLERS.get(sampler_id)
            names.append(f"{sampler_id} {sampler.label}" if sampler else sampler_id)
    schedule = SCHEDULES.get(recipe.schedule)
    names += [schedule.label if schedule else recipe.schedule, str(recipe.seed)]
    return Words(
        prompt=_field(
            recipe.prompt, recipe.prompt_2, hires.prompt if hires else "", *(region.prompt for region in regions)
        ),
        negative_prompt=_field(
            recipe.negative_prompt,
            recipe.negative_prompt_2,
            hires.negative_prompt if hires else "",
            *(region.negative_prompt for region in regions),
        ),
        model=_field(recipe.model.name),
        names=_field(*names),
    )


def _field(*lines: str | None) -> str:
    folded = fold("\n".join(" ".join(line.split()) for line in lines if line))[:_MAX_CHARACTERS]
    return folded + "\n\n"  # lets the last letters begin a group of three, too


def _named(upscaler: str | ModelRef) -> str:
    if isinstance(upscaler, ModelRef):
        return upscaler.name
    built_in = UPSCALERS.get(upscaler)
    return f"{upscaler} {built_in.label}" if built_in else upscaler
