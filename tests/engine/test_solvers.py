"""Solvers of the whole list against references from the papers, in float64 on a mixture whose denoiser is known.

The references are written in another form than the solvers: integrals by quadrature, lists of steps, k-diffusion's
half steps. Those of Euler, Heun and DPM++ 2M are in test_samplers.py.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import diffusers
import numpy as np
import pytest
import torch
from scipy import integrate

from catalog.samplers import SAMPLERS, resolve_schedule
from engine.sampling.denoise import Conditions, denoise
from engine.sampling.mask_blend import MaskBlend
from engine.sampling.noise import OwnNoise
from engine.sampling.solvers.protocol import find_solver
from tests.engine.test_samplers import MEANS, SPREAD, Exact, clean, set_up
from tests.engine.test_schedules import BASE, reference_levels

Array = np.ndarray
Noise = Callable[[], Array]
POINTS = 64
SIGMAS = reference_levels("karras", 12)
COUNTS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 18, 20, 25, 30, 40, 50)


@pytest.fixture
def start() -> Array:
    return np.random.default_rng(3).standard_normal((POINTS, 4)) * SIGMAS[0]


class Model(Exact):
    """The mixture, and the same without a prompt: drawn to the first of its means."""

    asked = 0

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        self.asked += 1
        self.last = x
        return super().__call__(x, sigma)

    def uncond(self) -> torch.Tensor:
        return uncond(self.last)


def uncond(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x + torch.from_numpy(MEANS[0])


def solved(name: str, x: Array, sigmas: Array, seed: int = 0, model: Model | None = None, **options: float) -> Array:
    """A solver alone, in float64, with nothing put back."""
    row = SAMPLERS[name]
    model = model or Model(set_up("euler", "karras"))
    draws = np.random.default_rng(seed)

    def noise(like: torch.Tensor, sigma: torch.Tensor, sigma_next: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(draws.standard_normal(tuple(like.shape)))

    solution = find_solver(row)(
        model, torch.from_numpy(x), torch.from_numpy(sigmas), noise, **{**row.options, **options}
    )
    latents, _ = next(solution)
    while True:
        try:
            latents, _ = solution.send(latents)
        except StopIteration:
            return latents.numpy()


def slope(x: Array, sigma: float) -> Array:
    return (x - clean(x, sigma)) / sigma


def split(sigma: float, then: float, eta: float = 1.0) -> tuple[float, float]:
    up = min(then, eta * math.sqrt(then**2 * (sigma**2 - then**2) / sigma**2))
    return math.sqrt(then**2 - up**2), up


def integrals(nodes: Sequence[float], start: float, end: float, density: Callable[[float], float]) -> list[float]:
    """Of the Lagrange polynomials of some nodes times a density, by quadrature."""

    def product(t: float, j: int) -> float:
        others = [node for k, node in enumerate(nodes) if k != j]
        return math.prod((t - node) / (nodes[j] - node) for node in others) * density(t)

    return [integrate.quad(product, start, end, args=(j,), epsrel=1e-10)[0] for j in range(len(nodes))]


def dpm_2(x: Array, sigmas: Array, noise: Noise, is_ancestral: bool = False) -> Array:
    for now, then in itertools.pairwise(sigmas):
        down, up = split(now, then) if is_ancestral else (then, 0.0)
        if down == 0:
            return x - slope(x, now) * now
        middle = math.exp((math.log(now) + math.log(down)) / 2)
        x = x + slope(x + slope(x, now) * (middle - now), middle) * (down - now)
        x = x + up * noise() if is_ancestral else x
    return x


def dpmpp_2s_a(x: Array, sigmas: Array, noise: Noise) -> Array:
    for now, then in itertools.pairwise(sigmas):
        down, up = split(now, then)
        x0 = clean(x, now)
        if down == 0:
            return x0
        h = math.log(now / down)
        ahead = clean(math.exp(-h / 2) * x - math.expm1(-h / 2) * x0, now * math.exp(-h / 2))
        x = math.exp(-h) * x - math.expm1(-h) * ahead + up * noise()
    return x


def dpmpp_sde(x: Array, sigmas: Array, noise: Noise) -> Array:
    for now, then in itertools.pairwise(sigmas):
        x0 = clean(x, now)
        if then == 0:
            return x0
        middle = math.sqrt(now * then)
        down, up = split(now, middle)
        ahead = clean(x0 + down / now * (x - x0) + up * noise(), middle)
        down, up = split(now, then)
        x = ahead + down / now * (x - ahead) + up * noise()
    return x


def exponential_adams(order: int, eta: float) -> Callable[[Array, Array, Noise], Array]:
    """Polynomials of the estimates in lambda, integrated with the factor of the SDE's exact solution."""

    def solve(x: Array, sigmas: Array, noise: Noise) -> Array:
        estimates: list[Array] = []
        for step, (now, then) in enumerate(itertools.pairwise(sigmas)):
            estimates = [clean(x, now), *estimates[: order - 1]]
            if then == 0:
                return estimates[0]
            nodes = [-math.log(sigmas[step - back]) for back in range(len(estimates))]
            begin, end = -math.log(now), -math.log(then)
            weights = integrals(nodes, begin, end, lambda t, end=end: (1 + eta) * math.exp(-(1 + eta) * (end - t)))
            h = end - begin
            x = then / now * math.exp(-eta * h) * x + sum(w * e for w, e in zip(weights, estimates, strict=True))
            if eta:
                x = x + then * math.sqrt(1 - math.exp(-2 * eta * h)) * noise()
        return x

    return solve


def dpmpp_3m_sde(x: Array, sigmas: Array, noise: Noise) -> Array:
    """A parabola by its slope and its second difference, of which half counts, as in k-diffusion; by quadrature."""
    estimates: list[Array] = []
    for step, (now, then) in enumerate(itertools.pairwise(sigmas)):
        estimates = [clean(x, now), *estimates[:2]]
        if then == 0:
            return estimates[0]
        h = math.log(now / then)
        weights = [
            integrate.quad(lambda u, p=p, h=h: 2 * h * math.exp(-2 * h * (1 - u)) * u**p, 0, 1, epsrel=1e-11)[0]
            for p in range(3)
        ]
        bend, way = np.zeros_like(x), np.zeros_like(x)
        if step:
            r = math.log(sigmas[step - 1] / now) / h
            way = (estimates[0] - estimates[1]) / r
        if step > 1:
            r_before = math.log(sigmas[step - 2] / sigmas[step - 1]) / h
            bend = (way - (estimates[1] - estimates[2]) / r_before) / (r + r_before)
            way = way + r * bend
        moved = weights[0] * estimates[0] + weights[1] * way + weights[2] * bend / 2
        x = math.exp(-2 * h) * x + moved + then * math.sqrt(1 - math.exp(-2 * h)) * noise()
    return x


def adams(x: Array, sigmas: Array, time: Callable[[float], float], order: int, ends_at_estimate: bool) -> Array:
    """Polynomials of the slopes in a measure of time, integrated over sigma."""
    slopes: list[Array] = []
    for step, (now, then) in enumerate(itertools.pairwise(sigmas)):
        slopes = [slope(x, now), *slopes[: order - 1]]
        if then == 0 and ends_at_estimate:
            return x - now * slopes[0]
        nodes = [time(sigmas[step - back]) for back in range(len(slopes))]
        weights = []
        for j, node in enumerate(nodes):
            others = [other for k, other in enumerate(nodes) if k != j]

            def polynomial(sigma: float, node: float = node, others: list[float] = others) -> float:
                return math.prod((time(sigma) - other) / (node - other) for other in others)

            weights.append(integrate.quad(polynomial, now, then, epsrel=1e-9)[0])
        x = x + sum(weight * one for weight, one in zip(weights, slopes, strict=True))
    return x


def vp_time(sigma: float) -> float:
    """The time of a variance-preserving process with sigma 0.002 at 0.001 and 80 at 1; by bisection."""
    low, high = math.log(0.002**2 + 1), math.log(80**2 + 1)
    slope_of_beta = 2 * (low / 1e-3 - high) / (1e-3 - 1)
    least = high - slope_of_beta / 2
    below, above = 0.0, 1.5
    for _ in range(60):
        t = (below + above) / 2
        is_below = 0.5 * slope_of_beta * t**2 + least * t < math.log(sigma**2 + 1)
        below, above = (t, above) if is_below else (below, t)
    return (below + above) / 2


def even_adams(x: Array, sigmas: Array, begins_with_heun: bool = False) -> Array:
    weights = {1: (1,), 2: (1.5, -0.5), 3: (23 / 12, -4 / 3, 5 / 12), 4: (55 / 24, -59 / 24, 37 / 24, -3 / 8)}
    slopes: list[Array] = []
    for now, then in itertools.pairwise(sigmas):
        slopes = [slope(x, now), *slopes[:3]]
        if then == 0:
            return x - now * slopes[0]
        way = sum(w * d for w, d in zip(weights[len(slopes)], slopes, strict=True))
        if begins_with_heun and len(slopes) == 1:
            way = (slopes[0] + slope(x + slopes[0] * (then - now), then)) / 2
        x = x + (then - now) * way
    return x


def heunpp2(x: Array, sigmas: Array, noise: Noise) -> Array:
    steps = len(sigmas) - 1
    for step, (now, then) in enumerate(itertools.pairwise(sigmas)):
        first = slope(x, now)
        if step == steps - 1:
            return x + first * (then - now)
        ahead = x + first * (then - now)
        second = slope(ahead, then)
        if step == steps - 2:
            share = then / (2 * sigmas[0])
            way = (1 - share) * first + share * second
        else:
            after = sigmas[step + 2]
            third = slope(ahead + second * (after - then), after)
            b, c = then / (3 * sigmas[0]), after / (3 * sigmas[0])
            way = (1 - b - c) * first + b * second + c * third
        x = x + way * (then - now)
    return x


def gradient_estimation(x: Array, sigmas: Array, noise: Noise) -> Array:
    before = None
    for now, then in itertools.pairwise(sigmas):
        d = slope(x, now)
        if then == 0:
            return x - now * d
        x = x + (then - now) * (d if before is None else 2 * d - before)
        before = d
    return x


def er_sde(x: Array, sigmas: Array, noise: Noise) -> Array:
    """Algorithm 3 with its integrals by quadrature."""

    def scale(sigma: float) -> float:
        return sigma * (math.exp(sigma**0.3) + 10)

    estimates: list[Array] = []
    slopes: list[Array] = []
    for step, (now, then) in enumerate(itertools.pairwise(sigmas)):
        estimates.append(clean(x, now))
        if then == 0:
            return estimates[-1]
        r = scale(then) / scale(now)
        x_next = r * x + (1 - r) * estimates[-1]
        if step:
            slopes.append((estimates[-1] - estimates[-2]) / (now - sigmas[step - 1]))
            first = integrate.quad(lambda s: 1 / scale(s), then, now)[0]
            x_next = x_next + (then - now + scale(then) * first) * slopes[-1]
        if step > 1:
            bend = (slopes[-1] - slopes[-2]) / ((now - sigmas[step - 2]) / 2)
            second = integrate.quad(lambda s, now=now: (s - now) / scale(s), then, now)[0]
            x_next = x_next + ((then - now) ** 2 / 2 + scale(then) * second) * bend
        x = x_next + math.sqrt(then**2 - (r * now) ** 2) * noise()
    return x


REFERENCES: dict[str, tuple[Callable[[Array, Array, Noise], Array], float]] = {
    "dpm_2": (dpm_2, 1e-9),
    "dpm_2_a": (lambda x, s, n: dpm_2(x, s, n, is_ancestral=True), 1e-9),
    "dpmpp_2s_a": (dpmpp_2s_a, 1e-9),
    "dpmpp_sde": (dpmpp_sde, 1e-9),
    "dpmpp_2m_sde_heun": (exponential_adams(2, 1.0), 1e-7),
    "dpmpp_3m_sde": (dpmpp_3m_sde, 1e-7),
    "res_multistep": (exponential_adams(2, 0.0), 1e-7),
    "lms": (lambda x, s, n: adams(x, s, float, 4, ends_at_estimate=False), 1e-7),
    "deis": (lambda x, s, n: adams(x, s, vp_time, 3, ends_at_estimate=True), 1e-6),
    "ipndm": (lambda x, s, n: even_adams(x, s), 1e-9),
    "plms": (lambda x, s, n: even_adams(x, s, begins_with_heun=True), 1e-9),
    "heunpp2": (heunpp2, 1e-9),
    "gradient_estimation": (gradient_estimation, 1e-9),
    "er_sde": (er_sde, 3e-2),
}


@pytest.mark.parametrize("schedule", ["karras", "exponential", "uniform"])
@pytest.mark.parametrize("name", REFERENCES)
def test_a_solver_is_the_one_of_its_paper(name: str, schedule: str, start: Array) -> None:
    sigmas = reference_levels(schedule, 12)
    draws = np.random.default_rng(7)
    reference, tolerance = REFERENCES[name]
    theirs = reference(start, sigmas, lambda: draws.standard_normal(start.shape))
    assert np.abs(solved(name, start, sigmas, seed=7) - theirs).max() < tolerance


def test_ipndm_v_is_adams_method_where_steps_are_even(start: Array) -> None:
    """Up to order 3; its fourth order is its authors' own."""
    sigmas = np.linspace(14.0, 11.0, 4)
    assert np.allclose(solved("ipndm_v", start, sigmas), even_adams(start, sigmas), atol=1e-9)
    more = np.linspace(14.0, 1.0, 13)
    assert np.allclose(solved("ipndm_v", start, more), even_adams(start, more), atol=5e-3)


def test_restart_goes_back_up_and_makes_as_many_steps_as_asked(start: Array) -> None:
    """A1111's list of steps: for 20 of them 11 down and 9 again, between the levels nearest to 0.1 and 2."""
    sigmas = reference_levels("karras", 20)
    draws = np.random.default_rng(4)
    main = np.append((np.linspace(sigmas[0] ** (1 / 7), sigmas[-2] ** (1 / 7), 11)) ** 7, 0)
    low, high = (int(np.abs(main[:-1] - level).argmin()) for level in (0.1, 2.0))
    again = np.linspace(main[high] ** (1 / 7), main[low] ** (1 / 7), 10) ** 7

    def heun(x: Array, levels: Array) -> Array:
        for now, then in itertools.pairwise(levels):
            d = slope(x, now)
            if then > 0:
                d = (d + slope(x + d * (then - now), then)) / 2
            x = x + d * (then - now)
        return x

    x = heun(start, main[: low + 1])
    x = x + math.sqrt(main[high] ** 2 - main[low] ** 2) * draws.standard_normal(x.shape)
    x = heun(heun(x, again), main[low:])
    model = Model(set_up("euler", "karras"))
    assert np.abs(solved("restart", start, sigmas, seed=4, model=model) - x).max() < 1e-5
    assert model.asked == 39
    few = reference_levels("karras", 19)
    assert np.allclose(solved("restart", start, few), heun(start, few), atol=1e-9)
    late = reference_levels("karras", 40)[20:]  # an image to image that begins below sigma 2, and one below 0.1
    for levels in (late, reference_levels("karras", 150)[110:]):
        model = Model(set_up("euler", "karras"))
        assert np.isfinite(solved("restart", start, levels, model=model)).all()
        assert model.asked == SAMPLERS["restart"].evaluations(len(levels) - 1)


@pytest.mark.parametrize("evaluations", [2, 3, 4, 5, 6, 7, 20])
def test_dpm_fast_makes_so_many_evaluations_and_ends_at_the_smallest_level(evaluations: int, start: Array) -> None:
    """Orders 3 … 3 and then 2, 1 or the rest, each step as in appendix B of the paper."""
    sigmas = reference_levels("karras", evaluations)
    model = Model(set_up("euler", "karras"))
    ours = solved("dpm_fast", start, sigmas, model=model)
    assert model.asked == evaluations
    steps = evaluations // 3 + 1
    orders = [3] * (steps - 2) + [2, 1] if evaluations % 3 == 0 else [3] * (steps - 1) + [evaluations % 3]
    x, lambdas = start, np.linspace(-math.log(sigmas[0]), -math.log(sigmas[-2]), len(orders) + 1)
    for order, (s, t) in zip(orders, itertools.pairwise(lambdas), strict=True):
        h, end = t - s, math.exp(-t)
        first = slope(x, math.exp(-s))
        way = x - end * math.expm1(h) * first
        if order > 1:
            r = 0.5 if order == 2 else 1 / 3
            at = math.exp(-(s + r * h))
            change = slope(x - at * math.expm1(r * h) * first, at) - first
            if order == 2:
                way = way - end / (2 * r) * math.expm1(h) * change
            else:
                at, g = math.exp(-(s + 2 * h / 3)), math.expm1(2 * h / 3)
                u = x - at * g * first - at * 2 * (g / (2 * h / 3) - 1) * change
                way = way - end * 1.5 * (math.expm1(h) / h - 1) * (slope(u, at) - first)
        x = way
    assert np.abs(ours - x).max() < 1e-9


def test_dpm_adaptive_finds_its_steps(start: Array) -> None:
    exact = solved("heun", start, reference_levels("karras", 1000)[:-1])
    counts = []
    for steps in (5, 30):  # which change nothing but the range's end
        model = Model(set_up("euler", "karras"))
        made = solved("dpm_adaptive", start, reference_levels("karras", steps), model=model)
        counts.append(model.asked)
        assert np.sqrt(((made - exact) ** 2).mean()) < 0.05
    assert counts[0] == counts[1] and 15 < counts[0] < 60
    noisy = solved("dpm_adaptive", start, SIGMAS, eta=0.6)
    assert np.isfinite(noisy).all() and not np.allclose(noisy, made, atol=0.05)


@pytest.mark.parametrize(("name", "is_ancestral"), [("euler_cfg_pp", False), ("euler_a_cfg_pp", True)])
def test_cfg_pp_keeps_the_noise_that_is_seen_without_the_prompt(name: str, is_ancestral: bool, start: Array) -> None:
    draws, x = np.random.default_rng(2), start
    for now, then in itertools.pairwise(SIGMAS):
        down, up = split(now, then) if is_ancestral else (then, 0.0)
        unguided = uncond(torch.from_numpy(x)).numpy()
        x = clean(x, now) + down * (x - unguided) / now
        x = x + up * draws.standard_normal(x.shape) if is_ancestral else x
    assert np.abs(solved(name, start, SIGMAS, seed=2) - x).max() < 1e-9


def test_the_loop_gives_cfg_pp_the_unguided_estimate() -> None:
    """One step to the next level with a model that sees 0.2 without and 0.6 with the prompt."""

    def predict(rows: torch.Tensor, *_: object) -> torch.Tensor:
        return torch.stack([torch.full((4, 2, 2), 0.2), torch.full((4, 2, 2), 0.6)])

    noise = torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(1))
    guided = Conditions(torch.zeros(2, 2, 3), is_guided=True)
    for name, factor in (("euler_cfg_pp", 1.0), ("ddim_cfg_pp", 0.08)):
        sampling = set_up(name, "uniform", 5)
        step = next(denoise(lambda _: predict, lambda _: guided, sampling, noise, 5.0))
        sigma, then = sampling.sigmas[:2]
        x, w = noise * sigma, 5.0 * factor
        assert torch.allclose(step.denoised, x - sigma * (0.2 + w * 0.4), atol=1e-4)
        assert torch.allclose(step.latents, step.denoised + then * 0.2, atol=1e-4)


@pytest.mark.parametrize("steps", [6, 12])
def test_unipc_bh1_is_the_stock_schedulers_up_to_its_last_step(steps: int, start: Array) -> None:
    """There diffusers' gives no number; both work up to the smallest level."""
    stock = diffusers.UniPCMultistepScheduler(**BASE, solver_type="bh1", solver_order=3, prediction_type="sample")
    stock.set_timesteps(steps)
    sigmas = reference_levels("karras", steps)
    stock.sigmas = torch.from_numpy(sigmas)
    x = torch.from_numpy(start) / math.sqrt(sigmas[0] ** 2 + 1)
    for step, t in enumerate(stock.timesteps[:-1]):
        x0 = clean((x * math.sqrt(sigmas[step] ** 2 + 1)).numpy(), sigmas[step])
        x = stock.step(torch.from_numpy(x0), t, x, return_dict=False)[0]
    model = Model(set_up("euler", "karras"))
    row = SAMPLERS["unipc_bh1"]
    solution = find_solver(row)(model, torch.from_numpy(start), torch.from_numpy(sigmas), None, **row.options)
    ours, _ = next(solution)
    for _ in range(steps - 2):
        ours, _ = solution.send(ours)
    assert np.abs(ours.numpy() - (x * math.sqrt(sigmas[-2] ** 2 + 1)).numpy()).max() < 2e-4


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_tcd_is_the_stock_schedulers(eta: float) -> None:
    sampling = set_up("tcd", "sgm_uniform", 4)
    stock = diffusers.TCDScheduler(**BASE, prediction_type="sample", clip_sample=False)
    stock.set_timesteps(timesteps=sampling.timesteps.tolist())
    answer = torch.full((1, 4, 2, 2), 0.3)
    noise = torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(1))
    theirs, draws = noise, torch.Generator().manual_seed(5)

    class Model:
        def __init__(self) -> None:
            self.sampling = sampling

        def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            return answer + 0.1 * x / (sigma**2 + 1) ** 0.5

    x = noise * (sampling.sigmas[0] ** 2 + 1) ** 0.5
    steps = OwnNoise(draws).steps(sampling.sampler, sampling.sigmas)
    run = find_solver(sampling.sampler)(Model(), x, sampling.sigmas, steps, eta=eta)  # type: ignore[arg-type]
    made = [next(run)]
    for _ in range(2):
        made.append(run.send(made[-1][0]))
    generator = torch.Generator().manual_seed(5)
    for t, (latents, sigma) in zip(stock.timesteps[:3], made, strict=True):
        theirs = stock.step(answer + 0.1 * theirs, t, theirs, eta=eta, generator=generator, return_dict=False)[0]
        assert torch.allclose(latents / (sigma**2 + 1) ** 0.5, theirs, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "order", "options"),
    [
        ("dpm_2", 2, {}),
        ("dpm_2_a", 2, {"eta": 0.0}),
        ("dpmpp_2s_a", 2, {"eta": 0.0}),
        ("dpmpp_sde", 2, {"eta": 0.0}),
        ("dpmpp_2m_sde_heun", 2, {"eta": 0.0}),
        ("dpmpp_3m_sde", 2, {"eta": 0.0}),
        ("res_multistep", 2, {}),
        ("lms", 3, {}),
        ("deis", 3, {}),
        ("ipndm_v", 1, {}),
        ("unipc_bh1", 2, {}),
        ("sa_solver", 2, {"eta": 0.0}),
        ("gradient_estimation", 1, {}),
        ("heunpp2", 1, {}),
        ("dpm_fast", 3, {}),
    ],
)
def test_solver_converges_at_its_order(name: str, order: int, options: dict[str, float], start: Array) -> None:
    """Halving the steps divides the error by 2^order, at least; between two levels, away from sigma 0.

    Multistep solvers begin with a step of order 1, whose error is of order 2 and stays.
    """

    def ends(name: str, steps: int, **options: float) -> Array:
        sigmas = np.exp(np.linspace(math.log(10.0), math.log(0.1), steps + 1))
        if name == "dpm_fast":
            sigmas = np.append(sigmas, 0.0)
        return solved(name, start / SIGMAS[0] * 10, sigmas, **options)

    exact = ends("heun", 3000)
    coarse, fine = (np.sqrt(((ends(name, steps, **options) - exact) ** 2).mean()) for steps in (80, 160))
    assert np.log2(coarse / fine) > order - 0.3, np.log2(coarse / fine)


STOCHASTIC = [
    row.id for row in SAMPLERS.values() if row.is_stochastic and row.id not in ("lcm", "tcd", "euler_a_cfg_pp")
]


@pytest.mark.parametrize("name", STOCHASTIC)
def test_a_stochastic_sampler_reaches_the_mean_and_the_variance_of_the_data(name: str) -> None:
    """4096 points from pure noise: the mixture's mean and variance, within what so many can tell and the steps allow."""
    start = np.random.default_rng(1).standard_normal((4096, 4)) * SIGMAS[0]
    sampling = set_up(name, resolve_schedule(SAMPLERS[name], "automatic"))
    start = start * float(sampling.space.alpha_and_sigma(torch.tensor(SIGMAS[0]))[0])
    model = Model(sampling)
    made = solved(name, start, reference_levels("karras", 60), seed=3, model=model)
    assert np.abs(made.mean(0) - MEANS.mean(0)).max() < 0.06
    assert np.abs(made.std(0) / np.sqrt(SPREAD**2 + MEANS.var(0)) - 1).max() < 0.06


@pytest.mark.parametrize("name", SAMPLERS)
def test_eighteen_counts_of_steps_come_nearer_to_the_data(name: str) -> None:
    """Every count is finite, makes its evaluations, and leaves points near the mixture."""
    row = SAMPLERS[name]
    schedule = resolve_schedule(row, "automatic")
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    plain = Conditions(torch.zeros(1, 2, 3))
    for steps in COUNTS:
        sampling = set_up(name, schedule, steps)
        asked: list[int] = []

        def predict(batch: torch.Tensor, t: torch.Tensor, *_: object) -> torch.Tensor:
            asked.append(1)  # noqa: B023
            level = float(np.interp(float(t), np.arange(1000), sampling.table.sigmas))  # noqa: B023
            x = batch.double().reshape(4, 64).T.numpy() * math.sqrt(level**2 + 1)
            noise_seen = (x - clean(x, level)) / level
            return torch.from_numpy(noise_seen.T.reshape(1, 4, 8, 8).copy()).float()

        source = OwnNoise(torch.Generator().manual_seed(2))
        made = list(denoise(lambda _: predict, lambda _: plain, sampling, noise, 1.0, source))
        assert made[-1].index == steps and made[-1].latents.isfinite().all()
        if row.typical_evaluations == 0:
            assert len(asked) == row.evaluations(steps)
        if steps >= 15:
            points = made[-1].latents.double().reshape(4, 64).T.numpy()
            distance = np.sqrt(((points[:, None] - MEANS[None]) ** 2).sum(-1)).min(1)
            assert np.median(distance) < 4 * SPREAD, steps


@pytest.mark.parametrize("strength", [0.1, 0.35, 0.6, 1.0])
@pytest.mark.parametrize("name", SAMPLERS)
def test_image_to_image_begins_late_and_keeps_what_is_masked(name: str, strength: float) -> None:
    first = 12 - max(1, int(12 * strength))
    kept, answer = torch.full((1, 4, 4, 4), 0.7), 0.2
    noise = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    mask = torch.cat([torch.zeros(1, 1, 4, 2), torch.ones(1, 1, 4, 2)], dim=-1)

    def predict(batch: torch.Tensor, t: torch.Tensor, *_: object) -> torch.Tensor:
        return torch.full_like(batch, answer)

    sampling = set_up(name, resolve_schedule(SAMPLERS[name], "automatic"), 12, prediction_type="sample")
    made = list(
        denoise(
            lambda _: predict,
            lambda _: Conditions(torch.zeros(1, 2, 3)),
            sampling,
            noise,
            1.0,
            OwnNoise(torch.Generator().manual_seed(3)),
            mask_blend=MaskBlend(first, kept, noise, sampling, mask),
        )
    )
    indices = [step.index for step in made]
    assert indices == sorted(set(indices)) and indices[0] > first and indices[-1] == 12
    last = made[-1].latents
    assert torch.allclose(last[..., :2], kept[..., :2])
    if name != "ddim":  # which ends at the first training step, and so keeps a share of what it begins with
        assert (last[..., 2:] - answer).abs().max() < 0.15
