"""How the modules of each family are built and prompted; facts about families are in `catalog/families/`.

A family that the catalog declares to run has a module of its id here, imported when a model of it is used.
"""

import importlib
from collections.abc import Mapping
from importlib.util import find_spec
from types import MappingProxyType

from catalog.families import FAMILIES, families_that_run
from contract.errors import ModelProblem
from engine.checkpoints.component import Builder
from engine.families.depth import build_estimator
from engine.families.family import ModelFamily

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
            f"The engine doesn't know the model family “{name}”.", f"Use an {families_that_run()} model."
        )
    module = importlib.import_module(f"{__name__}.{name}")
    family: ModelFamily = module.FAMILY
    assert family.facts is FAMILIES[name]
    return family


def check_families() -> None:
    """Check that each family that runs has its module; called when the engine starts."""
    missing = [name for name in FAMILIES if find_spec(f"{__name__}.{name}") is None]
    assert not missing, f"no module in engine/families for {missing}"
