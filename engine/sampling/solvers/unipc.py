"""UniPC: a predictor and a corrector of one formula, which share one evaluation.

Source: Zhao et al. 2023 (arXiv 2302.04867), algorithms 5 to 8 for data prediction, in its letters: lambda is -log
sigma here, m the denoised estimates, r the earlier ones' distance in units of the step h, B(h) = h ("bh1").
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from engine.sampling.solvers.protocol import Model, Solution, StepNoise


def sample_unipc(model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise, *, order: int = 3) -> Solution:
    """UniPC-p of an order, lower in the first steps and the last."""
    ms: list[Tensor] = []  # the newest first
    steps = len(sigmas) - 1
    x_last, order_last = x, 0
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        m = model(x, sigma)
        if sigma_next == 0:
            yield m, sigma_next
            return
        if step:
            x_last = _advance(x_last, sigmas[step - order_last : step + 1], [m, *ms], is_corrector=True)
        ms = [m, *ms[: order - 1]]
        order_last = min(order, steps - step, len(ms))
        x = yield _advance(x_last, sigmas[step + 1 - order_last : step + 2], ms, is_corrector=False), sigma_next


def _advance(x: Tensor, sigmas: Tensor, ms: Sequence[Tensor], *, is_corrector: bool) -> Tensor:
    """One step.

    Args:
        sigmas: Falling: those of the estimates from the oldest that counts, where the step begins, where it ends.
        ms: The newest first; of a corrector, with that of the step's end.
    """
    lambdas = -sigmas.log()
    lambda_s, lambda_t = lambdas[-2], lambdas[-1]
    h = lambda_t - lambda_s
    m_s = ms[1] if is_corrector else ms[0]
    x = sigmas[-1] / sigmas[-2] * x - torch.expm1(-h) * m_s
    earlier = ms[2:] if is_corrector else ms[1:]
    before = lambdas[:-2].flip(0)
    rs = [float((level - lambda_s) / h) for level in before]
    differences = [(m - m_s) / r for m, r in zip(earlier, rs, strict=False)]
    if is_corrector:
        rs, differences = [*rs, 1.0], [*differences, ms[0] - m_s]
    if not rs:
        return x
    for weight, difference in zip(_weights(rs, -float(h), sigmas.dtype), differences, strict=True):
        x = x + h * weight * difference
    return x


def _weights(rs: Sequence[float], hh: float, dtype: torch.dtype) -> list[float]:
    """The solution of R(h) a = phi(h) / B(h), eq. 9; that of one unknown is 1/2, as the paper sets it."""
    if len(rs) == 1:
        return [0.5]
    rows, right = [], []
    phi, factorial = torch.expm1(torch.tensor(hh, dtype=torch.float64)) / hh - 1, 1.0
    for power in range(len(rs)):
        rows.append([r**power for r in rs])
        right.append(float(phi) * factorial / hh)
        factorial *= power + 2
        phi = phi / hh - 1 / factorial
    R, b = torch.tensor(rows, dtype=torch.float64), torch.tensor(right, dtype=torch.float64)
    weights: list[float] = torch.linalg.solve(R, b).to(dtype).tolist()
    return weights
