"""Our solvers against k-diffusion's own, in float64, given the same noise, on a mixture whose denoiser is known.

Of k-diffusion only `sampling` and `utils` are read: the rest of the package wants what its training needs.
"""

import importlib
import math
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from catalog.samplers import SAMPLERS
from engine.sampling.solvers.protocol import find_solver
from tests.engine.test_samplers import Exact, clean, set_up
from tests.engine.test_schedules import reference_levels

Array = np.ndarray
# The function of k-diffusion, what it is given to be the sampler of that name, and what both are given besides.
PARTNERS: dict[str, tuple[str, dict[str, Any], tuple[dict[str, float], ...]]] = {
    "euler": ("sample_euler", {}, ({"s_churn": 8.0, "s_tmin": 0.1, "s_tmax": 8.0, "s_noise": 1.01},)),
    "heun": ("sample_heun", {}, ({"s_churn": 8.0, "s_tmin": 0.1, "s_tmax": 8.0, "s_noise": 1.01},)),
    "dpm_2": ("sample_dpm_2", {}, ({"s_churn": 8.0, "s_tmin": 0.1, "s_tmax": 8.0, "s_noise": 1.01},)),
    "euler_a": ("sample_euler_ancestral", {}, ({"eta": 0.5, "s_noise": 1.01},)),
    "dpm_2_a": ("sample_dpm_2_ancestral", {}, ({"eta": 0.5, "s_noise": 1.01},)),
    "lms": ("sample_lms", {}, ()),
    "dpmpp_2s_a": ("sample_dpmpp_2s_ancestral", {}, ({"eta": 0.5, "s_noise": 1.01},)),
    "dpmpp_sde": ("sample_dpmpp_sde", {}, ({"eta": 0.5, "s_noise": 1.01},)),
    "dpmpp_2m": ("sample_dpmpp_2m", {}, ()),
    "dpmpp_2m_sde": ("sample_dpmpp_2m_sde", {"solver_type": "midpoint"}, ({"eta": 0.5, "s_noise": 1.01}, {"eta": 0.0})),
    "dpmpp_2m_sde_heun": ("sample_dpmpp_2m_sde", {"solver_type": "heun"}, ({"eta": 0.5, "s_noise": 1.01},)),
    "dpmpp_3m_sde": ("sample_dpmpp_3m_sde", {}, ({"eta": 0.5, "s_noise": 1.01},)),
}


@pytest.fixture(scope="module")
def k_diffusion() -> Iterator[ModuleType]:
    spec = find_spec("k_diffusion")
    assert spec and spec.submodule_search_locations
    package = ModuleType("k_diffusion")
    package.__path__ = list(spec.submodule_search_locations)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "k_diffusion", package)
        yield importlib.import_module("k_diffusion.sampling")
    for name in [name for name in sys.modules if name.startswith("k_diffusion.")]:
        del sys.modules[name]


@pytest.fixture
def doubles() -> Iterator[None]:
    """k-diffusion's DPM-Solver makes its grid in the default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def start() -> Array:
    return np.random.default_rng(3).standard_normal((64, 4)) * reference_levels("karras", 12)[0]


def denoiser(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """The mixture's, as k-diffusion calls it; x: (points, 4), sigma: (points,), all equal."""
    return torch.from_numpy(clean(x.numpy(), float(sigma[0])))


def draws(seed: int = 7) -> Any:
    generator = np.random.default_rng(seed)
    return lambda *shape: torch.from_numpy(generator.standard_normal(shape))


def ours(name: str, start: Array, sigmas: Array, **options: float) -> Array:
    """The solver alone from x0 + sigma * noise to the last level, in its own space and back."""
    row, draw = SAMPLERS[name], draws()
    model = Exact(set_up(name, "karras"))
    x = torch.from_numpy(start) * model.alpha(sigmas[0])
    solution = find_solver(row)(
        model, x, torch.from_numpy(sigmas), lambda like, *_: draw(*like.shape), **{**row.options, **options}
    )
    latents, sigma = next(solution)
    while True:
        try:
            latents, sigma = solution.send(latents)
        except StopIteration:
            return (latents / model.alpha(float(sigma))).numpy()


@pytest.mark.parametrize("schedule", ["karras", "exponential", "uniform"])
@pytest.mark.parametrize("name", PARTNERS)
def test_a_solver_gives_the_latents_of_k_diffusion(
    name: str, schedule: str, start: Array, k_diffusion: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    function, given, settings = PARTNERS[name]
    sigmas = reference_levels(schedule, 12)
    for options in ({}, *settings):
        draw = draws()
        monkeypatch.setattr(torch, "randn_like", lambda like, draw=draw: draw(*like.shape))
        noise = {"noise_sampler": lambda *_, draw=draw: draw(*start.shape)} if SAMPLERS[name].is_stochastic else {}
        theirs = getattr(k_diffusion, function)(
            denoiser, torch.from_numpy(start), torch.from_numpy(sigmas), disable=True, **given, **noise, **options
        )
        monkeypatch.undo()
        assert np.abs(ours(name, start, sigmas, **options) - theirs.numpy()).max() < 1e-6, options


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize("eta", [0.0, 0.6])
@pytest.mark.parametrize("evaluations", [2, 3, 4, 5, 6, 7, 20])
def test_dpm_fast_is_k_diffusions(evaluations: int, eta: float, start: Array, k_diffusion: ModuleType) -> None:
    sigmas, draw = reference_levels("karras", evaluations), draws()
    least, most = (torch.tensor(sigmas[at], dtype=torch.float64) for at in (-2, 0))
    theirs = k_diffusion.DPMSolver(denoiser).dpm_solver_fast(
        torch.from_numpy(start), -most.log(), -least.log(), evaluations, eta, 1.0, lambda *_: draw(*start.shape)
    )
    assert np.abs(ours("dpm_fast", start, sigmas, eta=eta) - theirs.numpy()).max() < 1e-6


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize("eta", [0.0, 0.6])
def test_dpm_adaptive_is_k_diffusions(eta: float, start: Array, k_diffusion: ModuleType) -> None:
    sigmas, draw = reference_levels("karras", 12), draws()
    ends = (torch.tensor(-math.log(sigmas[at]), dtype=torch.float64) for at in (0, -2))
    theirs, about = k_diffusion.DPMSolver(denoiser).dpm_solver_adaptive(
        torch.from_numpy(start), *ends, eta=eta, noise_sampler=lambda *_: draw(*start.shape)
    )
    assert about["n_accept"] > 3
    assert np.abs(ours("dpm_adaptive", start, sigmas, eta=eta) - theirs.numpy()).max() < 1e-6
