"""How each family is built, prompted and stepped; facts about families are in `catalog/families.py`."""

from collections.abc import Mapping
from types import MappingProxyType

from contract.errors import ModelProblem
from engine.families import sd, sdxl
from engine.families.family import Family

FAMILIES: Mapping[str, Family] = MappingProxyType({"sd1": sd.SD1, "sd2": sd.SD2, "sdxl": sdxl.SDXL})


def family_of(name: str) -> Family:
    """The family by its id.

    Raises:
        ModelProblem: the engine doesn't know it.
    """
    if name not in FAMILIES:
        raise ModelProblem(f"The engine doesn't know the model family “{name}”.",
                           "Use an SD 1.x, SD 2.x or SDXL model.")
    return FAMILIES[name]
