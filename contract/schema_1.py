"""Recipes of schema 1 read as those of schema 2: the same fields under older names.

Pictures, queues and files made before December 2026 carry them. Canonical JSON leaves the schema's number out, so an
old recipe is told by its names; a recipe that says `"schema": 2` is never touched.
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
    """JSON of a recipe or draft in today's names; what needs no change, or is no JSON, is returned as it is."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return text
    plain = upgraded(data)
    return text if plain == data else json.dumps(plain)


def upgraded(data: Any) -> Any:
    """A recipe or draft in today's names. What is no mapping, or of another schema, is returned as it is.

    A field that is there under both names keeps both, so that validation names the one that is unknown.
    """
    if not isinstance(data, Mapping) or data.get("schema", 1) != 1 or isinstance(data.get("schema", 1), bool):
        return data
    plain = _renamed({name: value for name, value in data.items() if name != "schema"}, _TOP)
    for part, names in _WITHIN.items():
        value = plain.get(part)
        if isinstance(value, Mapping):
            plain[part] = _renamed(value, names)
        elif isinstance(value, list | tuple):
            plain[part] = [_renamed(unit, names) if isinstance(unit, Mapping) else unit for unit in value]
    return plain


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name) if names.get(name) not in values else name: value for name, value in values.items()}
