"""Regions as fields of an infotext, for people to read and for Darkroom to read back.

Regions: base 0.2, common words first
Region 1: "box 0 0 0.5 1, weight 1: a red boat <lora:ink:0.8>"      left, top, width, height; or mask and its sha256
Region 1 negative prompt: fog
"""

import re
from collections.abc import Callable, Mapping

from contract.recipe import Recipe
from contract.regions import MAX_REGIONS
from studio.metadata.infotext_parts import format_number, lora_tags, with_tags

_ALL = "Regions"
_COMMON, _ALONE = "common words first", "each prompt alone"
_NUMBER = r"(-?\d+(?:\.\d+)?(?:e-?\d+)?)"
_ALL_VALUE = re.compile(rf"base {_NUMBER}, ({_COMMON}|{_ALONE})")
_VALUE = re.compile(
    rf"(?:box {_NUMBER} {_NUMBER} {_NUMBER} {_NUMBER}|mask ([0-9a-f]{{64}})), weight {_NUMBER}:(.*)", re.DOTALL
)


def region_pairs(recipe: Recipe) -> dict[str, object]:
    """Keys and values of a recipe's regions."""
    regions = recipe.regions
    if regions is None:
        return {}
    pairs: dict[str, object] = {
        _ALL: f"base {format_number(regions.base)}, {_COMMON if regions.common else _ALONE}",
    }
    for number, region in enumerate(regions.regions, 1):
        if region.box:
            sides = (region.box.left, region.box.top, region.box.width, region.box.height)
            place = f"box {' '.join(map(format_number, sides))}"
        else:
            assert region.mask is not None
            place = f"mask {region.mask.sha256}"
        prompt = with_tags(region.prompt, lora_tags(region.loras))
        pairs[f"Region {number}"] = f"{place}, weight {format_number(region.weight)}: {prompt}"
        if region.negative_prompt is not None:
            pairs[f"Region {number} negative prompt"] = region.negative_prompt or '""'
    return pairs


def region_fields(pairs: Mapping[str, str], rename: Callable[[str], str]) -> tuple[dict[str, object], set[str]]:
    """The regions of an infotext as a draft has them, and the keys that were used.

    Args:
        rename: A prompt with the names that its networks have here.
    """
    whole = _ALL_VALUE.fullmatch(pairs.get(_ALL, ""))
    if whole is None:
        return {}, set()
    used, regions = {_ALL}, []
    for number in range(1, MAX_REGIONS + 1):
        key = f"Region {number}"
        found = _VALUE.fullmatch(pairs.get(key, ""))
        if found is None:
            continue
        *sides, mask, weight, prompt = found.groups()
        region: dict[str, object] = {"prompt": rename(prompt.strip()), "weight": float(weight)}
        if mask:
            region["mask"] = {"sha256": mask}
        else:
            region["box"] = dict(zip(("left", "top", "width", "height"), map(float, sides), strict=True))
        used.add(key)
        negative_key = f"{key} negative prompt"
        if negative_key in pairs:
            region["negative_prompt"] = rename(pairs[negative_key].removeprefix('""'))
            used.add(negative_key)
        regions.append(region)
    if not regions:
        return {}, set()
    return {"regions": {"base": float(whole[1]), "common": whole[2] == _COMMON, "regions": regions}}, used
