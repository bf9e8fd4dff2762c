"""Samplers and schedules by the names people use, and which pairs make sense.

Only names and facts; the diffusers scheduler of each is in `engine/sampling/samplers.py`.
Source of aliases and of "Automatic": the field's infotexts and APIs (A1111, Forge, ComfyUI, InvokeAI).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_SIGMA_SCHEDULES = ("automatic", "uniform", "karras", "exponential", "sgm_uniform", "simple", "beta")
# Their first sigmas lie far beyond the data when the last signal-to-noise ratio is zero.
_NOT_FOR_ZERO_SNR = frozenset({"karras", "exponential", "beta"})


@dataclass(frozen=True, slots=True)
class Schedule:
    """How the noise levels are spread over the steps."""

    id: str
    label: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sampler:
    """A solver.

    Attributes:
        automatic: the schedule that "Automatic" stands for.
        is_stochastic: whether it draws noise at each step.
        order: evaluations of the model a step; the last of an order-2 sampler needs one.
    """

    id: str
    label: str
    aliases: tuple[str, ...]
    automatic: str
    schedules: tuple[str, ...] = _SIGMA_SCHEDULES
    is_stochastic: bool = False
    order: int = 1

    def evaluations(self, steps: int) -> int:
        """Model evaluations (of a guided pair) for so many steps."""
        return steps if self.order == 1 else self.order * steps - 1


_SCHEDULES = (
    Schedule("automatic", "Automatic"),
    Schedule("uniform", "Uniform", ("normal",)),
    Schedule("karras", "Karras"),
    Schedule("exponential", "Exponential", ("polyexponential",)),
    Schedule("sgm_uniform", "SGM Uniform", ("SGMUniform",)),
    Schedule("simple", "Simple"),
    Schedule("beta", "Beta"),
)
_SAMPLERS = (
    Sampler("euler", "Euler", ("k_euler", "sample_euler"), "uniform"),
    Sampler("euler_a", "Euler a", ("k_euler_a", "k_euler_ancestral", "euler_ancestral"), "uniform", is_stochastic=True),
    Sampler("heun", "Heun", ("k_heun",), "uniform", order=2),
    Sampler("dpmpp_2m", "DPM++ 2M", ("k_dpmpp_2m",), "karras"),
    Sampler("dpmpp_2m_sde", "DPM++ 2M SDE", ("k_dpmpp_2m_sde", "dpmpp_2m_sde_gpu"), "exponential", is_stochastic=True),
    Sampler("ddim", "DDIM", (), "uniform", ("automatic", "uniform", "sgm_uniform")),
    Sampler("unipc", "UniPC", ("uni_pc", "uni_pc_bh2"), "uniform"),
    Sampler(
        "lcm", "LCM", ("k_lcm", "sample_lcm"), "sgm_uniform", ("automatic", "sgm_uniform", "simple"), is_stochastic=True
    ),
)
SCHEDULES: Mapping[str, Schedule] = MappingProxyType({schedule.id: schedule for schedule in _SCHEDULES})
SAMPLERS: Mapping[str, Sampler] = MappingProxyType({sampler.id: sampler for sampler in _SAMPLERS})


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


def schedules_for(sampler: Sampler, *, zero_snr: bool = False) -> tuple[str, ...]:
    """List the ids of the schedules that go with a sampler.

    Args:
        zero_snr: The model was trained to zero terminal signal-to-noise ratio.
    """
    if not zero_snr:
        return sampler.schedules
    # DDIM's own (leading) grid never visits the last timestep, where such a model begins.
    left_out = _NOT_FOR_ZERO_SNR | {"uniform"} if sampler.id == "ddim" else _NOT_FOR_ZERO_SNR
    return tuple(schedule for schedule in sampler.schedules if schedule not in left_out)


def resolve_schedule(sampler: Sampler, schedule: str, *, zero_snr: bool = False) -> str:
    """Resolve "automatic"; other ids pass through. Zero-SNR models need trailing steps."""
    if schedule != "automatic":
        return schedule
    return "sgm_uniform" if zero_snr else sampler.automatic
