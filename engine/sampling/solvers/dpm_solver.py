"""DPM-Solver, singlestep, of a given number of evaluations ("fast") or with steps of a length that it finds itself.

Source: Lu et al. 2022 (arXiv 2206.00927), algorithms 1 and 2, in k-diffusion's letters: t is -log sigma, h the step in
t, r1 and r2 where in the step the model is evaluated again, epsilon the noise that it sees.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.sampling.solvers.added_noise import split_ancestral
from engine.sampling.solvers.protocol import Model, Solution, StepNoise

_RTOL, _ATOL, _FIRST_STEP, _SAFETY = 0.05, 0.0078, 0.05, 0.81  # k-diffusion's
_MIN_LEFT = 1e-5

Part = Generator[tuple[Tensor, Tensor], Tensor, tuple[Tensor, Tensor]]


@dataclass(slots=True)
class _Step:
    """One step of order 1, 2 or 3 down from `sigma`; the model is evaluated when and where it is needed first."""

    model: Model
    x: Tensor
    t: Tensor
    epsilon: Tensor | None = None

    def solve(self, t_next: Tensor, order: int) -> Part:
        """The latents at t_next, by the order and by one less.

        Its last evaluation is not yielded: what comes of it is the caller's.
        """
        h, x = t_next - self.t, self.x
        if self.epsilon is None:
            self.epsilon = _noise_seen(self.model, x, self.t)
        epsilon, sigma_next = self.epsilon, (-t_next).exp()
        x_1 = x - sigma_next * h.expm1() * epsilon
        if order == 1:
            return x_1, x_1
        r1 = 1 / 2 if order == 2 else 1 / 3
        s1 = self.t + r1 * h
        u1 = yield x - (-s1).exp() * (r1 * h).expm1() * epsilon, (-s1).exp()
        change = _noise_seen(self.model, u1, s1) - epsilon
        x_2 = x_1 - sigma_next / (2 * r1) * h.expm1() * change
        if order == 2:
            return x_2, x_1
        r2 = 2 / 3
        s2 = self.t + r2 * h
        sigma_2, growth = (-s2).exp(), (r2 * h).expm1()
        u2 = x - sigma_2 * growth * epsilon - sigma_2 * (r2 / r1) * (growth / (r2 * h) - 1) * change
        u2 = yield u2, sigma_2
        change = _noise_seen(self.model, u2, s2) - epsilon
        return x_1 - sigma_next / r2 * (h.expm1() / h - 1) * change, x_2


def sample_dpm_fast(
    model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise, *, eta: float = 0.0, s_noise: float = 1.0
) -> Solution:
    """DPM-Solver-fast: steps of order 3, even in log sigma, with one of 2 or 1 so that the evaluations are as asked.

    Ends at the smallest of the sigmas, which is yielded as the last, 0, that stands behind it.
    """
    evaluations = len(sigmas) - 1
    if evaluations == 1:
        yield model(x, sigmas[0]), sigmas[-1]
        return
    full, rest = divmod(evaluations, 3)
    orders = [3] * (full - 1) + [2, 1] if rest == 0 else [3] * full + [rest]
    ends = torch.linspace(float(-sigmas[0].log()), float(-sigmas[-2].log()), len(orders) + 1, dtype=sigmas.dtype)
    for step, order in enumerate(orders):
        t, t_next = ends[step], ends[step + 1]
        t_down, sigma_up = _split(t, t_next, ends[-1], eta)
        x, _ = yield from _Step(model, x, t).solve(t_down, order)
        if eta:
            x = x + noise(x, (-t).exp(), (-t_next).exp()) * (s_noise * sigma_up)
        x = yield x, (-t_next).exp() if step + 1 < len(orders) else sigmas[-1]


def sample_dpm_adaptive(
    model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise, *, eta: float = 0.0, s_noise: float = 1.0
) -> Solution:
    """DPM-Solver-23: a step is made of order 3, and again with a shorter one where order 2 would say otherwise.

    Of the sigmas it takes the first and the smallest, where it ends; that is yielded as the last, 0.
    """
    t, t_end = -sigmas[0].log(), -sigmas[-2].log()
    h, x_last = _FIRST_STEP, x
    if len(sigmas) == 2:
        yield model(x, sigmas[0]), sigmas[-1]
        return
    step = _Step(model, x, t)
    while True:
        t_next = torch.minimum(t_end, t + h)
        t_down, sigma_up = _split(t, t_next, t_end, eta)
        x_high, x_low = yield from step.solve(t_down, 3)
        scale = torch.clamp(_RTOL * torch.maximum(x_low.abs(), x_last.abs()), min=_ATOL)
        error = float(torch.linalg.norm((x_low - x_high) / scale)) / x.numel() ** 0.5
        factor = (1 / (error + 1e-8)) ** (1 / (1.5 if eta else 3))
        factor = 1 + math.atan(factor - 1)
        h *= factor
        if factor < _SAFETY:
            continue  # once more from the same latents; the first evaluation is kept
        if eta:
            x_high = x_high + noise(x, (-t).exp(), (-t_next).exp()) * (s_noise * sigma_up)
        is_end = t_next >= t_end - _MIN_LEFT
        x = yield x_high, sigmas[-1] if is_end else (-t_next).exp()
        if is_end:
            return
        t, x_last = t_next, x_low
        step = _Step(model, x, t)


def _noise_seen(model: Model, x: Tensor, t: Tensor) -> Tensor:
    sigma = (-t).exp()
    return (x - model(x, sigma)) / sigma


def _split(t: Tensor, t_next: Tensor, t_end: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """Where a step of the SDE goes down to, and the noise that leads up from there; without eta to its end."""
    if not eta:
        return t_next, torch.zeros_like(t)
    sigma_next = (-t_next).exp()
    sigma_down, _ = split_ancestral((-t).exp(), sigma_next, eta)
    t_down = torch.minimum(t_end, -sigma_down.log())
    return t_down, (sigma_next**2 - (-2 * t_down).exp()).clamp(min=0) ** 0.5
