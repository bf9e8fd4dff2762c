"""How the modules of each family are built and prompted; facts about families are in `catalog/families.py`."""

from collections.abc import Mapping
from types import MappingProxyType

from contract.errors import ModelProblem
from engine.families import sd, sdxl
from engine.families.depth import build_estimator
from engine.families.family import Builder, ModelFamily

FAMILIES: Mapping[str, ModelFamily] = MappingProxyType({"sd1": sd.SD1, "sd2": sd.SD2, "sdxl": sdxl.SDXL})
_OPTIONAL_BUILDERS: Mapping[str, Builder] = MappingProxyType({"depth_estimator": build_estimator})


def builder_of(family: ModelFamily, component: str) -> Builder:
    """How a component is built from its configuration, whether all checkpoints of the family have it or some."""
    return family.builders.get(component) or _OPTIONAL_BUILDERS[component]


def family_of(name: str) -> ModelFamily:
    """The family by its id.

    Raises:
        ModelProblem: the engine doesn't know it.
    """
    if name not in FAMILIES:
        raise ModelProblem(
            f"The engine doesn't know the model family “{name}”.", "Use an SD 1.x, SD 2.x or SDXL model."
        )
    return FAMILIES[name]
