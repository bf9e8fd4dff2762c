"""The rows of guidance: complete, and each with a class of its own for the families that run."""

import importlib

import pytest

from catalog.families import FAMILIES
from catalog.guidance import (
    EXCLUSIVE,
    GUIDANCE_METHODS,
    curve_points,
    evaluations_per_step,
    find_method,
    needs_negative,
)
from contract.parts import MAX_GUIDANCE_METHODS, GuidanceMethod

RUNNING = {family.denoiser for family in FAMILIES.values()}


def test_every_method_for_a_model_that_runs_has_a_class() -> None:
    for method in GUIDANCE_METHODS.values():
        is_runnable = bool(RUNNING & set(method.denoisers))
        assert bool(method.maker) == is_runnable, method.id
        if method.maker:
            module, _, name = method.maker.partition(":")
            assert getattr(importlib.import_module(f"engine.sampling.guidance.{module}"), name)
    usable = len(GUIDANCE_METHODS) - 1 - max(len(group) - 1 for group, _ in EXCLUSIVE)
    assert usable <= MAX_GUIDANCE_METHODS


def test_rows_agree_with_themselves() -> None:
    for method in GUIDANCE_METHODS.values():
        names = [parameter.id for parameter in method.parameters]
        assert len(set(names)) == len(names)
        assert set(method.off) <= set(names), method.id
        assert not method.is_off({}), f"{method.id} is added and does nothing"
        assert method.does.endswith(".")
        for parameter in method.parameters:
            assert not parameter.refusal(parameter.default), (method.id, parameter.id)
        for name in (method.id, method.label, method.label.upper(), *method.aliases):
            assert find_method(name) is method
    assert all(group <= set(GUIDANCE_METHODS) for group, _ in EXCLUSIVE)


@pytest.mark.parametrize("text", ["", "0:7,", "0:7, 0:8", "0.5:7, 0.2:1", "0:31", "1.5:7", "a:b", "0:nan", "0:7;1:2"])
def test_points_of_a_curve_that_are_none(text: str) -> None:
    parameter = GUIDANCE_METHODS["guidance_curve"].parameter("points")
    assert parameter is not None and parameter.refusal(text).startswith("Use pairs like 0:7, 0.5:5, 1:2")
    with pytest.raises(ValueError):
        curve_points(text)


def test_a_step_costs_what_is_evaluated() -> None:
    def cost(guidance: float, *ids: str) -> float:
        return evaluations_per_step(guidance, [GuidanceMethod(id=name) for name in ids], 10)

    assert (cost(7.0), cost(1.0), cost(7.0, "pag"), cost(1.0, "pag", "seg")) == (2, 1, 3, 3)
    assert (cost(7.0, "cfg_interval"), cost(7.0, "cfg_interval", "sag")) == (1.6, 2.6)
    assert cost(7.0, "guidance_curve") == 1.9, "the last step of a curve down to 1 is not guided"
    assert (cost(1.0, "nag"), cost(7.0, "freeu", "detail", "cfg_rescale")) == (1, 2)


def test_the_negative_prompt_is_read_where_something_uses_it() -> None:
    def is_read(guidance: float, **methods: dict[str, float | str]) -> bool:
        return needs_negative(guidance, [GuidanceMethod(id=name, values=values) for name, values in methods.items()], 5)

    assert is_read(7.0) and not is_read(1.0)
    assert is_read(1.0, nag={}) and is_read(1.0, guidance_curve={"end": 5.0})
    assert not is_read(7.0, cfg_interval={"start": 0.0, "end": 0.0})
