"""Recipes of schema 1 read as those of schema 2: the same fields under older names.

Pictures, queues and files made before December 2026 carry them. Canonical JSON leaves the schema's number out, so an
old recipe is recognized by its field names; a recipe with `"schema": 2` is never changed.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

_TOP: Final[Mapping[str, str]] = {"start": "init_image", "references": "ip_adapters"}
_WITHIN: Final[Mapping[str, Mapping[str, str]]] = {
    "init_image": {"extend": "outpaint"},
    "mask": {"feather": "blur"},
    "controls": {"begin": "start", "shows": "control_type"},
    "ip_adapters": {"begin": "start"},
}


def upgraded_json(text: str | bytes) -> str | bytes:
    """JSON of a recipe or draft in today's names; a text that needs no change, or is no JSON, is returned unchanged."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return text
    recipe = upgraded(data)
    return text if recipe == data else json.dumps(recipe)


def upgraded(data: Any) -> Any:
    """A recipe or draft in today's names; anything else, or of another schema, is returned unchanged.

    A field that is there under both names keeps both, so that validation names the one that is unknown.
    """
    if not isinstance(data, Mapping) or data.get("schema", 1) != 1 or isinstance(data.get("schema", 1), bool):
        return data
    recipe = _renamed(data, _TOP)
    recipe.pop("schema", None)
    for part, names in _WITHIN.items():
        value = recipe.get(part)
        if isinstance(value, list | tuple):
            recipe[part] = [_renamed(unit, names) for unit in value]
        elif part in recipe:
            recipe[part] = _renamed(value, names)
    return recipe


def _renamed(values: Any, names: Mapping[str, str]) -> Any:
    if not isinstance(values, Mapping):
        return values
    renamed = {}
    for name, value in values.items():
        new_name = names.get(name, name)
        renamed[name if new_name in values else new_name] = value
    return renamed
