"""Samplers: each is one row here, with its names and every fact that the program needs of it.

A row names its function, a solver in `engine/sampling/solvers/`. The schedules that go with it are rows of
`schedules.py`. Source of aliases and of "Automatic": the field's infotexts and APIs (A1111, Forge, ComfyUI, InvokeAI).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from types import MappingProxyType

from catalog.schedules import GRIDS, SCHEDULES, Schedule

__all__ = [
    "EDM_PREDICTIONS",
    "SAMPLERS",
    "SCHEDULES",
    "Sampler",
    "Schedule",
    "find_sampler",
    "find_schedule",
    "grid_of",
    "resolve_schedule",
    "schedules_for",
]
_ALL_SCHEDULES = tuple(SCHEDULES)
_ZERO_SNR_SCHEDULE = "sgm_uniform"
EDM_PREDICTIONS = ("edm", "edm_v")
_EDM_SCHEDULE = "karras"
_SCHEDULED = ("epsilon", "v_prediction", "sample")  # of models that were trained on timesteps
_FLOW = "flow_prediction"
_FLOW_SCHEDULE = "sgm_uniform"
_DIFFUSION = (*_SCHEDULED, *EDM_PREDICTIONS)
_ANY = (*_DIFFUSION, _FLOW)
_SCHEDULER = "diffusers_scheduler:sample_with_scheduler"
_CHURN = ("s_churn", "s_tmin", "s_tmax", "s_noise")
_ANCESTRAL = ("eta", "s_noise")
# Of a schedule these solvers take the first and the last noise level alone.
_RANGE_ONLY = ("automatic", "karras", "sgm_uniform")
_TO_THE_LEAST = {"sgm_uniform": "uniform"}  # which goes down to the smallest
_ENDS_NOISY = "Ends at the smallest noise level, as in k-diffusion, and not at 0."


@dataclass(frozen=True, slots=True)
class Sampler:
    """A solver, and how it is set.

    Attributes:
        automatic: The schedule that "Automatic" stands for.
        solver: "module:function" in `engine/sampling/solvers/`.
        schedules: Those that are offered with it.
        is_stochastic: Whether it draws noise at each step.
        is_brownian: Whether that noise is the increments of one Brownian path, so that steps of other lengths see the
            same noise.
        is_white_here: Its noise is Brownian in other programs' conventions only.
        order: Evaluations of the model a step; the last steps make no more than there are steps left.
        first_evaluations: Further ones in the first step of several.
        typical_evaluations: Of a run, where the solver decides for itself how many it needs; else 0.
        options: Keyword arguments of the solver.
        settings: Those of a recipe's `sampling` part that the solver takes as keyword arguments, too.
        discards_penultimate: A step more is spread, and the last noise level left out.
        guidance_factor: What guidance is multiplied by: methods of CFG++ count from 0 to 1.
        grids: Schedules that mean another one with this sampler.
        predictions: What the model may predict, by diffusers' names; and EDM's network, of either sign.
        whole_timesteps: The model is evaluated at integers of its training grid only.
        is_variance_preserving: Its latents are scaled to unit variance at every noise level; those of the others are
            x0 + sigma * noise (Song et al. 2021, arXiv 2011.13456).
        follows_flow: Solves rectified flow in its own latents; others in those of x0 + sigma * noise, which are the
            same over the share of x0.
        takes_pure_noise: Can begin at zero signal, where sigma is infinite; others begin at a signal of 2^-12 there.
        difference: How it differs from the sampler of this name in other programs, as a sentence.
    """

    id: str
    label: str
    aliases: tuple[str, ...]
    automatic: str
    solver: str
    schedules: tuple[str, ...] = _ALL_SCHEDULES
    is_stochastic: bool = False
    is_brownian: bool = False
    is_white_here: bool = False
    order: int = 1
    first_evaluations: int = 0
    typical_evaluations: int = 0
    options: Mapping[str, object] = field(default_factory=dict, hash=False)
    settings: tuple[str, ...] = ()
    discards_penultimate: bool = False
    guidance_factor: float = 1.0
    grids: Mapping[str, str] = field(default_factory=dict, hash=False)
    predictions: tuple[str, ...] = _ANY
    whole_timesteps: bool = False
    is_variance_preserving: bool = False
    follows_flow: bool = False
    takes_pure_noise: bool = False
    difference: str = ""

    def evaluations(self, steps: int) -> int:
        """Model evaluations (of a guided pair) for so many steps."""
        return self.typical_evaluations or self.step_ends(steps)[-1]

    def step_ends(self, steps: int) -> tuple[int, ...]:
        """The number of evaluations that are made when each step is done; none where only the solver knows."""
        if self.typical_evaluations:
            return ()
        made = [min(self.order, steps - step) for step in range(steps)]
        if steps > 1:
            made[0] += self.first_evaluations
        return tuple(accumulate(made))


_SAMPLERS = (
    Sampler(
        "euler",
        "Euler",
        ("k_euler", "sample_euler"),
        "uniform",
        "euler:sample_euler",
        settings=_CHURN,
        follows_flow=True,
    ),
    Sampler(
        "euler_a",
        "Euler a",
        ("k_euler_a", "k_euler_ancestral", "euler_ancestral"),
        "uniform",
        "euler:sample_euler_ancestral",
        is_stochastic=True,
        settings=_ANCESTRAL,
    ),
    Sampler(
        "heun",
        "Heun",
        ("k_heun",),
        "uniform",
        "heun:sample_heun",
        order=2,
        settings=_CHURN,
        follows_flow=True,
    ),
    Sampler(
        "dpmpp_2m",
        "DPM++ 2M",
        ("k_dpmpp_2m",),
        "karras",
        "dpmpp:sample_dpmpp_2m",
        whole_timesteps=True,
        is_variance_preserving=True,
        follows_flow=True,
    ),
    Sampler(
        "dpmpp_2m_sde",
        "DPM++ 2M SDE",
        ("k_dpmpp_2m_sde", "dpmpp_2m_sde_gpu"),
        "exponential",
        "dpmpp:sample_dpmpp_2m_sde",
        is_stochastic=True,
        is_brownian=True,
        is_white_here=True,
        settings=_ANCESTRAL,
        whole_timesteps=True,
        is_variance_preserving=True,
        follows_flow=True,
    ),
    Sampler(
        "ddim",
        "DDIM",
        (),
        "uniform",
        _SCHEDULER,
        ("automatic", "uniform", "sgm_uniform"),
        options={"scheduler": "DDIMScheduler", "clip_sample": False, "set_alpha_to_one": False},
        settings=("eta",),
        grids={"uniform": "leading", "sgm_uniform": "simple"},
        predictions=_SCHEDULED,
        whole_timesteps=True,
        is_variance_preserving=True,
        takes_pure_noise=True,
        difference="A1111's DDIM makes one step less.",
    ),
    Sampler(
        "unipc",
        "UniPC",
        ("uni_pc_bh2", "uni_pc"),
        "uniform",
        _SCHEDULER,
        options={"scheduler": "UniPCMultistepScheduler", "solver_type": "bh2", "solver_order": 2},
        predictions=_SCHEDULED,
        whole_timesteps=True,
        is_variance_preserving=True,
        difference="A1111's UniPC is nearest to “UniPC bh1”, of order 3.",
    ),
    Sampler(
        "lcm",
        "LCM",
        ("k_lcm", "sample_lcm"),
        "sgm_uniform",
        "consistency:sample_lcm",
        ("automatic", "sgm_uniform", "simple"),
        is_stochastic=True,
        grids={"sgm_uniform": "distilled"},
        predictions=_SCHEDULED,
        whole_timesteps=True,
        is_variance_preserving=True,
        takes_pure_noise=True,
    ),
    Sampler(
        "dpm_2",
        "DPM2",
        ("k_dpm_2",),
        "karras",
        "dpm2:sample_dpm_2",
        order=2,
        settings=_CHURN,
        discards_penultimate=True,
        follows_flow=True,
    ),
    Sampler(
        "dpm_2_a",
        "DPM2 a",
        ("k_dpm_2_a", "dpm_2_ancestral", "k_dpm_2_ancestral"),
        "karras",
        "dpm2:sample_dpm_2_ancestral",
        is_stochastic=True,
        order=2,
        settings=_ANCESTRAL,
        discards_penultimate=True,
    ),
    Sampler("lms", "LMS", ("k_lms",), "uniform", "multistep:sample_lms", follows_flow=True),
    Sampler(
        "dpmpp_2s_a",
        "DPM++ 2S a",
        ("k_dpmpp_2s_a", "dpmpp_2s_ancestral"),
        "karras",
        "dpmpp_singlestep:sample_dpmpp_2s_ancestral",
        is_stochastic=True,
        order=2,
        settings=_ANCESTRAL,
    ),
    Sampler(
        "dpmpp_sde",
        "DPM++ SDE",
        ("k_dpmpp_sde", "dpmpp_sde_gpu"),
        "karras",
        "dpmpp_singlestep:sample_dpmpp_sde",
        is_stochastic=True,
        is_brownian=True,
        order=2,
        settings=_ANCESTRAL,
    ),
    Sampler(
        "dpmpp_2m_sde_heun",
        "DPM++ 2M SDE Heun",
        ("k_dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu"),
        "exponential",
        "dpmpp:sample_dpmpp_2m_sde",
        is_stochastic=True,
        is_brownian=True,
        options={"is_exact": True},
        settings=_ANCESTRAL,
    ),
    Sampler(
        "dpmpp_3m_sde",
        "DPM++ 3M SDE",
        ("k_dpmpp_3m_sde", "dpmpp_3m_sde_gpu"),
        "exponential",
        "dpmpp:sample_dpmpp_3m_sde",
        is_stochastic=True,
        is_brownian=True,
        settings=_ANCESTRAL,
        discards_penultimate=True,
    ),
    Sampler(
        "dpm_fast",
        "DPM fast",
        ("k_dpm_fast",),
        "karras",
        "dpm_solver:sample_dpm_fast",
        _RANGE_ONLY,
        grids=_TO_THE_LEAST,
        settings=_ANCESTRAL,
        difference=_ENDS_NOISY,
    ),
    Sampler(
        "dpm_adaptive",
        "DPM adaptive",
        ("k_dpm_ad", "k_dpm_adaptive"),
        "karras",
        "dpm_solver:sample_dpm_adaptive",
        _RANGE_ONLY,
        grids=_TO_THE_LEAST,
        typical_evaluations=50,
        settings=_ANCESTRAL,
        predictions=_DIFFUSION,
        difference="The number of steps changes nothing: it makes as many as it needs.",
    ),
    Sampler(
        "restart",
        "Restart",
        ("restart_sampler",),
        "karras",
        "heun:sample_restart",
        _RANGE_ONLY,
        grids=_TO_THE_LEAST,
        is_stochastic=True,
        order=2,
        settings=("s_noise",),
    ),
    Sampler(
        "heunpp2",
        "HeunPP2",
        ("heun++2", "k_heunpp2"),
        "uniform",
        "heun:sample_heunpp2",
        order=3,
        settings=_CHURN,
        follows_flow=True,
    ),
    Sampler("ipndm", "IPNDM", ("k_ipndm",), "uniform", "multistep:sample_ipndm", follows_flow=True),
    Sampler("ipndm_v", "IPNDM_V", ("k_ipndm_v",), "uniform", "multistep:sample_ipndm_v", follows_flow=True),
    Sampler("deis", "DEIS", ("k_deis",), "uniform", "multistep:sample_deis"),
    Sampler(
        "unipc_bh1",
        "UniPC bh1",
        ("uni_pc_bh1",),
        "uniform",
        "unipc:sample_unipc",
        options={"order": 3},
        difference="A1111's ends at the smallest noise level, this one at 0.",
    ),
    Sampler(
        "plms",
        "PLMS",
        ("pndm", "k_plms"),
        "ddim_uniform",
        "multistep:sample_plms",
        first_evaluations=1,
        difference="A1111's PLMS makes one step less, and ends at the first timestep.",
    ),
    Sampler(
        "euler_cfg_pp",
        "Euler CFG++",
        ("k_euler_cfg_pp",),
        "uniform",
        "euler:sample_euler_cfg_pp",
    ),
    Sampler(
        "euler_a_cfg_pp",
        "Euler a CFG++",
        ("euler_ancestral_cfg_pp", "k_euler_a_cfg_pp"),
        "uniform",
        "euler:sample_euler_ancestral_cfg_pp",
        is_stochastic=True,
        settings=_ANCESTRAL,
    ),
    Sampler(
        "ddim_cfg_pp",
        "DDIM CFG++",
        ("ddim_cfgpp",),
        "ddim_uniform",
        "euler:sample_euler_cfg_pp",
        guidance_factor=1 / 12.5,
        difference="A1111's DDIM CFG++ makes one step less, and ends at the first timestep.",
    ),
    Sampler(
        "ddpm",
        "DDPM",
        ("k_ddpm",),
        "uniform",
        "euler:sample_euler_ancestral",
        is_stochastic=True,
        settings=("s_noise",),
    ),
    Sampler(
        "tcd",
        "TCD",
        ("k_tcd",),
        "sgm_uniform",
        "consistency:sample_tcd",
        ("automatic", "sgm_uniform", "simple"),
        is_stochastic=True,
        settings=("eta",),
        grids={"sgm_uniform": "distilled"},
        predictions=_SCHEDULED,
        whole_timesteps=True,
    ),
    Sampler(
        "er_sde",
        "ER SDE",
        ("k_er_sde",),
        "uniform",
        "exponential:sample_er_sde",
        is_stochastic=True,
        settings=("s_noise",),
    ),
    Sampler(
        "gradient_estimation",
        "Gradient estimation",
        ("k_gradient_estimation",),
        "uniform",
        "multistep:sample_gradient_estimation",
        follows_flow=True,
    ),
    Sampler(
        "sa_solver",
        "SA-Solver",
        ("k_sa_solver",),
        "uniform",
        "sa_solver:sample_sa_solver",
        is_stochastic=True,
        settings=_ANCESTRAL,
    ),
    Sampler("res_multistep", "Res multistep", ("k_res_multistep",), "uniform", "exponential:sample_res_multistep"),
)
SAMPLERS: Mapping[str, Sampler] = MappingProxyType({sampler.id: sampler for sampler in _SAMPLERS})


def find_sampler(name: str) -> Sampler | None:
    """A sampler by id, label or alias, in any case."""
    for sampler in _SAMPLERS:
        if _is_called(sampler, name):
            return sampler
    return None


def find_schedule(name: str) -> Schedule | None:
    """A schedule by id, label or alias, in any case."""
    for schedule in SCHEDULES.values():
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
    return GRIDS[sampler.grids.get(schedule, schedule)]


def schedules_for(
    sampler: Sampler, *, zero_snr: bool = False, is_flow: bool = False, is_edm: bool = False
) -> tuple[str, ...]:
    """List the ids of the schedules that go with a sampler; none where it doesn't go with the model.

    Args:
        zero_snr: The model was trained to zero terminal signal-to-noise ratio.
        is_flow: The model is one of rectified flow, for which no table of sigmas was searched.
        is_edm: The model is one of EDM, which was trained on sigmas and has no timesteps to be even in.
    """
    if is_edm and not set(EDM_PREDICTIONS) <= set(sampler.predictions):
        return ()
    if is_edm:
        grids = {schedule: grid_of(sampler, schedule) for schedule in sampler.schedules}
        return tuple(one for one, grid in grids.items() if not grid.is_even_in_time and not grid.tables)
    if is_flow and _FLOW not in sampler.predictions:
        return ()
    if is_flow:
        return tuple(schedule for schedule in sampler.schedules if not grid_of(sampler, schedule).tables)
    if not zero_snr:
        return sampler.schedules
    return tuple(schedule for schedule in sampler.schedules if grid_of(sampler, schedule).suits_zero_snr)


def resolve_schedule(
    sampler: Sampler, schedule: str, *, zero_snr: bool = False, is_flow: bool = False, is_edm: bool = False
) -> str:
    """Resolve "automatic"; other ids pass through.

    Zero-SNR models need trailing steps, EDM's the paper's. For rectified flow, steps even in time down to the
    last level suit solvers that count in it; others extrapolate through the last of them, which is long in log sigma.
    """
    if schedule != "automatic":
        return schedule
    if is_edm:
        return _EDM_SCHEDULE
    if is_flow:
        is_even = sampler.follows_flow and grid_of(sampler, sampler.automatic).is_even_in_time
        return sampler.automatic if is_even else _FLOW_SCHEDULE
    return _ZERO_SNR_SCHEDULE if zero_snr else sampler.automatic
