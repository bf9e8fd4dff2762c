"""How each family is built, prompted and stepped; facts about families are in `catalog/families.py`."""

from collections.abc import Mapping
from types import MappingProxyType

from contract.errors import ModelProblem
from engine.families import sd, sdxl
from engine.families.depth import build_estimator
from engine.families.family import Builder, Family

FAMILIES: Mapping[str, Family] = MappingProxyType({"sd1": sd.SD1, "sd2": sd.SD2, "sdxl": sdxl.SDXL})
_OPTIONAL_BUILDERS: Mapping[str, Builder] = MappingProxyType({"depth_estimator": build_estimator})


def builder_of(family: Family, part: str) -> Builder:
    """How a part is built from its configuration, whether all checkpoints of the family have it or some."""
    return family.builders[part] if part in family.builders else _OPTIONAL_BUILDERS[part]


def family_of(name: str) -> Family:
    """The family by its id.

    Raises:
        ModelProblem: the engine doesn't know it.
    """
    if name not in FAMILIES:
        raise ModelProblem(
            f"The engine doesn't know the model family “{name}”.", "Use an SD 1.x, SD 2.x or SDXL model."
        )
    return FAMILIES[name]
