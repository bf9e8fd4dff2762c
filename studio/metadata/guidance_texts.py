"""Methods of guidance as fields of an infotext, in the words of the extensions that people know them by.

Source of the keys: Forge's built-in extensions for PAG, SAG, FreeU and dynamic thresholding, A1111's for CFG rescale,
SEG and Detail Daemon; the others have Darkroom's own. Keys are read in any case, and `_` as a space.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from catalog.guidance import GUIDANCE_METHODS, Method
from contract.parts import GuidanceMethod, Hires
from studio.metadata.import_parts import number
from studio.metadata.infotext_parts import format_number

# By method: the key that says whether it is on ("" for none), and the key of each value.
_KEYS: Mapping[str, tuple[str, Mapping[str, str]]] = MappingProxyType(
    {
        "apg": ("APG enabled", {"eta": "APG eta", "threshold": "APG norm threshold", "momentum": "APG momentum"}),
        "cfg_zero": ("CFG-Zero star", {"zero_steps": "CFG-Zero init steps"}),
        "dynamic_thresholding": (
            "dynthres_enabled",
            {
                "mimic_scale": "dynthres_mimic_scale",
                "percentile": "dynthres_threshold_percentile",
                "start_point": "dynthres_scaling_startpoint",
                "measure": "dynthres_variability_measure",
                "phi": "dynthres_interpolate_phi",
            },
        ),
        "pag": ("pag_enabled", {"scale": "pag_scale", "adaptive": "pag_adaptive"}),
        "seg": ("SEG Active", {"scale": "SEG scale", "blur": "SEG Blur Sigma"}),
        "sag": ("sag_enabled", {"scale": "sag_scale", "blur": "sag_blur_sigma"}),
        "skip_layer": ("", {"scale": "SLG scale", "start": "SLG start", "end": "SLG end"}),
        "cfg_rescale": ("", {"phi": "CFG Rescale φ"}),
        "epsilon_scaling": ("", {"scale": "Epsilon scaling"}),
        "detail": (
            "DD Enabled",
            {
                "amount": "DD Amount",
                "start": "DD Start",
                "end": "DD End",
                "bias": "DD Bias",
                "exponent": "DD Exponent",
                "start_offset": "DD Start Offset",
                "end_offset": "DD End Offset",
                "fade": "DD Fade",
                "smooth": "DD Smooth",
            },
        ),
        "freeu": ("freeu_enabled", {name: f"freeu_{name}" for name in ("b1", "b2", "s1", "s2")}),
        "cfg_interval": ("", {"start": "CFG interval start", "end": "CFG interval end"}),
        "guidance_curve": ("", {"shape": "CFG curve", "end": "CFG curve end", "points": "CFG curve points"}),
        "nag": ("NAG enabled", {"scale": "NAG scale", "tau": "NAG tau", "alpha": "NAG alpha"}),
    }
)
# What other programs call the same, folded: SD.Next's, A1111's extension, A1111 1.10's own.
_OTHER_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "cfg rescale": "CFG Rescale φ",
        "cfg rescale phi": "CFG Rescale φ",
        "guidance rescale": "CFG Rescale φ",
        "dynamic thresholding enabled": "dynthres_enabled",
        "mimic scale": "dynthres_mimic_scale",
        "threshold percentile": "dynthres_threshold_percentile",
        "interpolate phi": "dynthres_interpolate_phi",
        "scaling startpoint": "dynthres_scaling_startpoint",
        "variability measure": "dynthres_variability_measure",
        "pag active": "pag_enabled",
        "skip early cfg": "CFG interval start",
    }
)
_CHOICES: Mapping[str, str] = MappingProxyType(
    {"mean": "MEAN", "zero": "ZERO", "ad": "AD", "std": "STD", "smooth": "True", "straight": "False"}
)
_HIRES = "Hires "
_NO_METHODS = "Hires guidance methods"
_FALSE = ("false", "0", "none")


def guidance_pairs(methods: tuple[GuidanceMethod, ...]) -> dict[str, object]:
    """Keys and values, the defaults too: other programs have others."""
    pairs: dict[str, object] = {}
    for one in methods:
        if one.id not in _KEYS:
            continue
        marker, keys = _KEYS[one.id]
        if marker:
            pairs[marker] = True
        for name, value in GUIDANCE_METHODS[one.id].values(one.values).items():
            text = _CHOICES.get(value, value) if isinstance(value, str) else format_number(value)
            pairs[keys[name]] = text
    return pairs


def hires_guidance_pairs(hires: Hires | None) -> dict[str, object]:
    """Those of a hires pass with methods of its own, behind “Hires ”; that it has none is said, too."""
    if hires is None or hires.guidance_methods is None:
        return {}
    pairs = {f"{_HIRES}{key}": value for key, value in guidance_pairs(hires.guidance_methods).items()}
    return pairs or {_NO_METHODS: "None"}


def add_hires_guidance(found: Mapping[str, Any], pairs: Mapping[str, str]) -> set[str]:
    """Add to the hires pass that was found, if there is one, the methods of its own; the keys that were used."""
    own = {key.removeprefix(_HIRES): value for key, value in pairs.items() if key.startswith(_HIRES)}
    methods, used = guidance_fields(own)
    if "hires" in found and (methods or _NO_METHODS in pairs):
        found["hires"]["guidance_methods"] = methods
    return {f"{_HIRES}{key}" for key in used} | {_NO_METHODS}


def guidance_fields(pairs: Mapping[str, str]) -> tuple[list[dict[str, object]], set[str]]:
    """The methods of an infotext as a draft has them, and the keys that were used."""
    folded: dict[str, tuple[str, str]] = {}
    for key, value in pairs.items():
        name = _folded(key)
        folded.setdefault(_folded(_OTHER_KEYS.get(name, name)), (key, value))
    found: list[dict[str, object]] = []
    used: set[str] = set()
    for method_id, (marker, keys) in _KEYS.items():
        is_on = folded.get(_folded(marker), ("", ""))[1].lower() if marker else ""
        own = {name: folded[_folded(key)] for name, key in keys.items() if _folded(key) in folded}
        if marker and is_on in _FALSE:
            used |= {folded[_folded(marker)][0], *(key for key, _ in own.values())}
        elif own or is_on == "true":
            method = GUIDANCE_METHODS[method_id]
            values = {name: _value(method, name, text) for name, (_, text) in own.items()}
            if method_id == "cfg_interval":
                values.setdefault("end", 1.0)  # "Skip Early CFG" has none
            percentile = values.get("percentile")
            if isinstance(percentile, float | int) and percentile > 1:
                values["percentile"] = percentile / 100  # A1111's extension has percents, Forge shares
            found.append({"id": method_id, "values": values})
            used |= {key for key, _ in own.values()} | ({folded[_folded(marker)][0]} if is_on else set())
    return found, used


def _value(method: Method, name: str, text: str) -> object:
    parameter = method.parameter(name)
    if parameter is None or not parameter.choices:
        return text if parameter and isinstance(parameter.default, str) else number(text, float)
    for choice, _ in parameter.choices:
        if text.lower() in (choice, _CHOICES.get(choice, choice).lower()):
            return choice
    return text


def _folded(key: str) -> str:
    return key.lower().replace("_", " ")
