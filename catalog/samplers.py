"""Samplers and schedules: each is one row here, with its names and every fact that the program needs of it.

A row names its function: a solver in `engine/sampling/solvers/`, a schedule in `engine/sampling/schedules.py`.
Source of aliases and of "Automatic": the field's infotexts and APIs (A1111, Forge, ComfyUI, InvokeAI).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_ALL_SCHEDULES = ("automatic", "uniform", "karras", "exponential", "sgm_uniform", "simple", "beta")
_ZERO_SNR_SCHEDULE = "sgm_uniform"
_DIFFUSION = ("epsilon", "v_prediction", "sample")
_FLOW = "flow_prediction"
_SCHEDULER = "diffusers_scheduler:sample_with_scheduler"


@dataclass(frozen=True, slots=True)
class Schedule:
    """How the noise levels are spread over the steps: the function of this id in `engine/sampling/schedules.py`.

    Attributes:
        is_even_in_time: The function gives timesteps; those of the others give sigmas.
        suits_zero_snr: Whether it goes with models of zero terminal signal-to-noise ratio. Where sigmas are spread,
            nearly all would lie far beyond the data; and a grid that leaves out the last timestep never begins.
        is_floored: Samplers of whole timesteps take the one below, not the nearest one, as diffusers does.
    """

    id: str
    label: str
    aliases: tuple[str, ...] = ()
    is_even_in_time: bool = False
    suits_zero_snr: bool = True
    is_floored: bool = False


@dataclass(frozen=True, slots=True)
class Sampler:
    """A solver, and how it is set.

    Attributes:
        automatic: The schedule that "Automatic" stands for.
        solver: "module:function" in `engine/sampling/solvers/`.
        schedules: Those that are offered with it.
        is_stochastic: Whether it draws noise at each step.
        order: Evaluations of the model a step; the last of an order-2 sampler needs one.
        options: Keyword arguments of the solver.
        grids: Schedules that mean another one with this sampler.
        predictions: What the model may predict, by diffusers' names.
        whole_timesteps: The model is evaluated at integers of its training grid only.
        is_variance_preserving: Its latents are scaled to unit variance at every noise level; those of the others are
            x0 + sigma * noise (Song et al. 2021, arXiv 2011.13456).
        takes_pure_noise: Can begin at zero signal, where sigma is infinite; others begin at a signal of 2^-12 there.
    """

    id: str
    label: str
    aliases: tuple[str, ...]
    automatic: str
    solver: str
    schedules: tuple[str, ...] = _ALL_SCHEDULES
    is_stochastic: bool = False
    order: int = 1
    options: Mapping[str, object] = field(default_factory=dict, hash=False)
    grids: Mapping[str, str] = field(default_factory=dict, hash=False)
    predictions: tuple[str, ...] = _DIFFUSION
    whole_timesteps: bool = False
    is_variance_preserving: bool = False
    takes_pure_noise: bool = False

    def evaluations(self, steps: int) -> int:
        """Model evaluations (of a guided pair) for so many steps."""
        return steps if self.order == 1 else self.order * steps - 1


_SCHEDULES = (
    Schedule("automatic", "Automatic"),
    Schedule("uniform", "Uniform", ("normal",), is_even_in_time=True),
    Schedule("karras", "Karras", suits_zero_snr=False),
    Schedule("exponential", "Exponential", ("polyexponential",), suits_zero_snr=False, is_floored=True),
    Schedule("sgm_uniform", "SGM Uniform", ("SGMUniform",), is_even_in_time=True),
    Schedule("simple", "Simple", is_even_in_time=True),
    Schedule("beta", "Beta", suits_zero_snr=False, is_floored=True),
)
# What a schedule of the list means with one sampler or another.
_OWN_GRIDS = (
    Schedule("leading", "Leading", is_even_in_time=True, suits_zero_snr=False),
    Schedule("distilled", "Distilled", is_even_in_time=True),
)
_SAMPLERS = (
    Sampler(
        "euler",
        "Euler",
        ("k_euler", "sample_euler"),
        "uniform",
        "euler:sample_euler",
        predictions=(*_DIFFUSION, _FLOW),
    ),
    Sampler(
        "euler_a",
        "Euler a",
        ("k_euler_a", "k_euler_ancestral", "euler_ancestral"),
        "uniform",
        "euler:sample_euler_ancestral",
        is_stochastic=True,
    ),
    Sampler(
        "heun",
        "Heun",
        ("k_heun",),
        "uniform",
        "heun:sample_heun",
        order=2,
        predictions=(*_DIFFUSION, _FLOW),
    ),
    Sampler(
        "dpmpp_2m",
        "DPM++ 2M",
        ("k_dpmpp_2m",),
        "karras",
        "dpmpp:sample_dpmpp_2m",
        whole_timesteps=True,
        is_variance_preserving=True,
    ),
    Sampler(
        "dpmpp_2m_sde",
        "DPM++ 2M SDE",
        ("k_dpmpp_2m_sde", "dpmpp_2m_sde_gpu"),
        "exponential",
        "dpmpp:sample_dpmpp_2m_sde",
        is_stochastic=True,
        whole_timesteps=True,
        is_variance_preserving=True,
    ),
    Sampler(
        "ddim",
        "DDIM",
        (),
        "uniform",
        _SCHEDULER,
        ("automatic", "uniform", "sgm_uniform"),
        options={"scheduler": "DDIMScheduler", "clip_sample": False, "set_alpha_to_one": False},
        grids={"uniform": "leading", "sgm_uniform": "simple"},
        whole_timesteps=True,
        is_variance_preserving=True,
        takes_pure_noise=True,
    ),
    Sampler(
        "unipc",
        "UniPC",
        ("uni_pc", "uni_pc_bh2"),
        "uniform",
        _SCHEDULER,
        options={"scheduler": "UniPCMultistepScheduler", "solver_type": "bh2", "solver_order": 2},
        whole_timesteps=True,
        is_variance_preserving=True,
    ),
    Sampler(
        "lcm",
        "LCM",
        ("k_lcm", "sample_lcm"),
        "sgm_uniform",
        _SCHEDULER,
        ("automatic", "sgm_uniform", "simple"),
        is_stochastic=True,
        options={"scheduler": "LCMScheduler", "original_inference_steps": 150},
        grids={"sgm_uniform": "distilled"},
        whole_timesteps=True,
        is_variance_preserving=True,
        takes_pure_noise=True,
    ),
)
SCHEDULES: Mapping[str, Schedule] = MappingProxyType({schedule.id: schedule for schedule in _SCHEDULES})
SAMPLERS: Mapping[str, Sampler] = MappingProxyType({sampler.id: sampler for sampler in _SAMPLERS})
_GRIDS: Mapping[str, Schedule] = MappingProxyType({grid.id: grid for grid in (*_SCHEDULES, *_OWN_GRIDS)})


def find_sampler(name: str) -> Sampler | None:
    """A sampler by id, label or alias, in any case."""
    for sampler in _SAMPLERS:
        if _is_called(sampler, name):
            return sampler
    return None


def find_schedule(name: str) -> Schedule | None:
    """A schedule by id, label or alias, in any case."""
    for schedule in _SCHEDULES:
        if _is_called(schedule, name):
            return schedule
    return None


def _is_called(item: Sampler | Schedule, name: str) -> bool:
    wanted = _with_underscores(name)
    return any(_with_underscores(text) == wanted for text in (item.id, item.label, *item.aliases))


def _with_underscores(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def grid_of(sampler: Sampler, schedule: str) -> Schedule:
    """The schedule that spreads the noise levels when a sampler is asked for the one of this id."""
    return _GRIDS[sampler.grids.get(schedule, schedule)]


def schedules_for(sampler: Sampler, *, zero_snr: bool = False) -> tuple[str, ...]:
    """List the ids of the schedules that go with a sampler.

    Args:
        zero_snr: The model was trained to zero terminal signal-to-noise ratio.
    """
    if not zero_snr:
        return sampler.schedules
    return tuple(schedule for schedule in sampler.schedules if grid_of(sampler, schedule).suits_zero_snr)


def resolve_schedule(sampler: Sampler, schedule: str, *, zero_snr: bool = False) -> str:
    """Resolve "automatic"; other ids pass through. Zero-SNR models need trailing steps."""
    if schedule != "automatic":
        return schedule
    return _ZERO_SNR_SCHEDULE if zero_snr else sampler.automatic
