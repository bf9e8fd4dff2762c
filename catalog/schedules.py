"""Schedules: each is one row here, with its names and what the program needs to know of it.

How a row spreads the noise levels is the function of its id in `engine/sampling/schedules.py`; a row with a table has
none. Source of aliases: the field's infotexts and APIs (A1111, Forge, ComfyUI, InvokeAI, RES4LYF).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

Table = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """How the noise levels are spread over the steps: the function of this id in `engine/sampling/schedules.py`.

    Attributes:
        is_even_in_time: The function gives timesteps; those of the others give sigmas.
        suits_zero_snr: Whether it goes with models of zero terminal signal-to-noise ratio. Where sigmas are spread,
            nearly all would lie far beyond the data; and a grid that leaves out the last timestep never begins.
        is_floored: Samplers of whole timesteps take the one below, not the nearest one, as diffusers does.
        ends_shifted: Of a rectified flow it ends at the timestep that has the number of the least shifted sigma, as the
            makers' own program and diffusers do: a little above the least timestep.
        takes_rho: The function has a rho; every one that gives sigmas takes the smallest and the largest.
        tables: Sigmas that were searched for a kind of model, by a family's `sigma_table`; other numbers of steps are
            interpolated in log sigma.
    """

    id: str
    label: str
    aliases: tuple[str, ...] = ()
    is_even_in_time: bool = False
    suits_zero_snr: bool = True
    is_floored: bool = False
    ends_shifted: bool = False
    takes_rho: bool = False
    tables: Mapping[str, Table] = field(default_factory=dict, hash=False)


# Sabour et al. 2024 (arXiv 2404.14507), the authors' quickstart: ten steps for SD 1.5 and SDXL.
_ALIGNED = {
    "sd": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
    "xl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
}
# The same, refined to 32 levels by the Forge forks (`align_your_steps_32`).
_ALIGNED_32 = {
    "sd": (
        *(14.615, 11.23951352, 8.64363081, 6.64729424, 5.57250862, 4.71648546, 3.99196065, 3.5195609, 3.13490466),
        *(2.79228788, 2.48773628, 2.21663865, 1.97508351, 1.7793172, 1.61475335, 1.46540953, 1.314849, 1.16642497),
        *(1.03475547, 0.91573744, 0.80748169, 0.71202361, 0.621739, 0.53065202, 0.4529096, 0.37491455, 0.27461819),
        *(0.2011529, 0.14105873, 0.06682881, 0.03166121, 0.015),
    ),
    "xl": (
        *(14.615, 11.1491618, 8.50522127, 6.48827151, 5.43707402, 4.60398619, 3.89854704, 3.27407457, 2.74396527),
        *(2.29968659, 1.95448514, 1.67108715, 1.42878152, 1.23181009, 1.06789649, 0.92579443, 0.80290886, 0.69660121),
        *(0.60436903, 0.52852552, 0.46773344, 0.41393379, 0.36258186, 0.31008517, 0.26518925, 0.22326461, 0.17653877),
        *(0.13959192, 0.10587381, 0.05519369, 0.02877334, 0.015),
    ),
}
# GITS, Chen et al. 2024 (arXiv 2405.11326), as A1111 and Forge have it for these models.
_GITS = {
    "sd": (14.615, 4.617, 2.507, 1.236, 0.702, 0.402, 0.240, 0.156, 0.104, 0.094, 0.029),
    "xl": (14.615, 4.734, 2.567, 1.529, 0.987, 0.652, 0.418, 0.268, 0.179, 0.127, 0.029),
}
_ROWS = (
    Schedule("automatic", "Automatic"),
    Schedule("uniform", "Uniform", ("normal",), is_even_in_time=True, ends_shifted=True),
    Schedule("karras", "Karras", suits_zero_snr=False, takes_rho=True),
    Schedule("exponential", "Exponential", suits_zero_snr=False, is_floored=True),
    Schedule("polyexponential", "Polyexponential", suits_zero_snr=False, is_floored=True, takes_rho=True),
    Schedule("sgm_uniform", "SGM Uniform", ("SGMUniform",), is_even_in_time=True, ends_shifted=True),
    Schedule("simple", "Simple", is_even_in_time=True),
    Schedule("ddim_uniform", "DDIM", ("ddim",), is_even_in_time=True, suits_zero_snr=False),
    Schedule("turbo", "Turbo", is_even_in_time=True),
    Schedule("beta", "Beta", suits_zero_snr=False, is_floored=True),
    Schedule("beta_comfyui", "Beta (ComfyUI)", is_even_in_time=True),
    Schedule("kl_optimal", "KL Optimal", suits_zero_snr=False),
    Schedule("linear_quadratic", "Linear Quadratic", suits_zero_snr=False),
    Schedule("bong_tangent", "Bong Tangent", suits_zero_snr=False),
    Schedule(
        "align_your_steps",
        "Align Your Steps",
        ("ays", "align_your_steps_11", "ays_11"),
        suits_zero_snr=False,
        tables=_ALIGNED,
    ),
    Schedule("align_your_steps_32", "Align Your Steps 32", ("ays_32",), suits_zero_snr=False, tables=_ALIGNED_32),
    Schedule("gits", "GITS", ("Align Your Steps GITS", "align_your_steps_GITS"), suits_zero_snr=False, tables=_GITS),
)
# What a schedule of the list means with one sampler or another.
_OWN_GRIDS = (
    Schedule("leading", "Leading", is_even_in_time=True, suits_zero_snr=False),
    Schedule("distilled", "Distilled", is_even_in_time=True),
)
SCHEDULES: Mapping[str, Schedule] = MappingProxyType({schedule.id: schedule for schedule in _ROWS})
GRIDS: Mapping[str, Schedule] = MappingProxyType({grid.id: grid for grid in (*_ROWS, *_OWN_GRIDS)})
