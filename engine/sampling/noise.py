"""Where an image's noise comes from: ours, or drawn as another program draws it, so that its seeds give its images.

A source gives the noise that a pass begins with and the noise of its steps: white, or the increments of a Brownian
path. Which numbers a seed stands for is a `Draw`: torch's on the CPU, or a CUDA card's (`philox.py`).
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from catalog.samplers import Sampler
from contract.parts import NoiseSettings
from contract.values import MAX_SEED
from engine.sampling.philox import PhiloxGenerator

Draw = Callable[[Sequence[int]], Tensor]  # unit noise of a shape, float32, on the CPU; each call the next
# Unit noise like x for the way from one noise level down to another: noise(x, sigma, sigma_next).
StepNoise = Callable[[Tensor, Tensor, Tensor], Tensor]

_PARALLEL = 0.9995  # the cosine between two noises from which they are mixed along a line
_DIGITS = 6  # to which a Brownian path knows its sigmas
_INTERVALS = "torchsde._brownian.brownian_interval"


class NoiseSource(Protocol):
    """The noise of one image."""

    def first(self, shape: Sequence[int]) -> Tensor:
        """What a pass begins with: (1, C, h, w), float32, on the CPU."""
        ...

    def filling(self, shape: Sequence[int]) -> Tensor:
        """What a mask's area is filled with, of the same kind."""
        ...

    def steps(self, sampler: Sampler, sigmas: Tensor) -> StepNoise:
        """The noise of a pass's steps. sigmas: of the steps that are run, falling, the last 0."""
        ...


@dataclass(frozen=True, slots=True)
class OwnNoise:
    """Ours: one generator on the CPU for all passes of an image."""

    generator: torch.Generator
    settings: NoiseSettings = NoiseSettings()
    factor: int = 8

    def first(self, shape: Sequence[int]) -> Tensor:
        return _begin(shape, self.settings, self.factor, self._draw, _torch_draw, self.generator.initial_seed())

    def filling(self, shape: Sequence[int]) -> Tensor:
        return self._draw(shape)

    def steps(self, sampler: Sampler, sigmas: Tensor) -> StepNoise:
        if sampler.is_brownian and not sampler.is_white_here:
            entropy = int(torch.randint(2**62, (1,), generator=self.generator))
            return BrownianNoise(entropy, sigmas)
        return _white(self._draw)

    def _draw(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(tuple(shape), generator=self.generator)


@dataclass(slots=True)
class A1111Noise:
    """A1111's: the seed begins anew with every pass. Source: its `modules/rng.py`.

    Attributes:
        draw_of: Its source of noise, "CPU" or "NV": the draws of a seed.
        factor: Pixels per latent.
    """

    seed: int
    settings: NoiseSettings
    factor: int
    draw_of: Callable[[int], Draw]
    _draw: Draw | None = None

    def first(self, shape: Sequence[int]) -> Tensor:
        draw = self.draw_of(self.seed)
        noise = _begin(shape, self.settings, self.factor, draw, self.draw_of, self.seed)
        if self.settings.eta_seed_delta:
            draw = self.draw_of((self.seed + self.settings.eta_seed_delta) % (MAX_SEED + 1))
        self._draw = draw
        return noise

    def filling(self, shape: Sequence[int]) -> Tensor:
        return self.draw_of(self.seed)(shape)

    def steps(self, sampler: Sampler, sigmas: Tensor) -> StepNoise:
        if sampler.is_brownian:
            return BrownianNoise(self.seed, sigmas, draw_of=self.draw_of)
        return _white(self._draw or self.draw_of(self.seed))


@dataclass(frozen=True, slots=True)
class ComfyUINoise:
    """ComfyUI's: a batch's first noise at once on the CPU, that of its steps on a card; Brownian paths on the CPU.

    Source: its `comfy/sample.py` and `default_noise_sampler` in `comfy/k_diffusion/sampling.py`.

    Attributes:
        index: The image's place in the batch, of which all before it are drawn, too.
    """

    seed: int
    index: int = 0

    def first(self, shape: Sequence[int]) -> Tensor:
        return _torch_draw(self.seed)((self.index + 1, *shape[1:]))[self.index :]

    def filling(self, shape: Sequence[int]) -> Tensor:
        return self.first(shape)

    def steps(self, sampler: Sampler, sigmas: Tensor) -> StepNoise:
        if sampler.is_brownian:
            return BrownianNoise(self.seed, sigmas, index=self.index)
        draw, index = _philox_draw(self.seed), self.index
        return _white(lambda shape: draw((index + 1, *shape[1:]))[index:])


class BrownianNoise:
    """Increments of a Brownian path over sigma, scaled to unit noise; any steps see the same path.

    Source: Kloeden and Platen 1992 for the path, halved where it is asked for (torchsde's BrownianTree, Li et al.
    2020, arXiv 2001.01328, section 4); over sigma as in k-diffusion's BrownianTreeNoiseSampler.
    """

    def __init__(
        self, entropy: int, sigmas: Tensor, *, draw_of: Callable[[int], Draw] | None = None, index: int = 0
    ) -> None:
        """Begin a path from the largest of the sigmas to the smallest above 0.

        Args:
            draw_of: Whose numbers a seed stands for; torch's on the CPU without.
            index: Of the image in a batch that is drawn at once.
        """
        self._entropy, self._draw_of, self._index = entropy, draw_of, index
        self._low = round(float(sigmas[sigmas > 0].min()), _DIGITS)
        self._high = round(float(sigmas.max()), _DIGITS)
        self._path: Any = None

    def __call__(self, x: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        if sigma_next == 0 or sigma == sigma_next:
            return torch.zeros_like(x)
        if self._path is None:
            self._path = self._begin((self._index + 1, *x.shape[1:]))
        high, low = float(sigma), float(sigma_next)
        increment = self._path(max(self._low, round(low, _DIGITS)), min(self._high, round(high, _DIGITS)))
        increment = -increment / (high - low) ** 0.5
        of_image: Tensor = increment[self._index :].to(x.device, x.dtype)
        return of_image

    def _begin(self, shape: Sequence[int]) -> Any:
        import torchsde  # takes a while, and few samplers ask for it

        intervals = torchsde if self._draw_of is None else _with_draws(self._draw_of)
        return intervals.BrownianInterval(
            t0=self._low,
            t1=self._high,
            size=tuple(shape),
            dtype=torch.float32,
            device="cpu",
            entropy=self._entropy,
            tol=10.0**-_DIGITS,
            pool_size=24,
            halfway_tree=True,
        )


def noise_source(seed: int, settings: NoiseSettings | None, factor: int) -> NoiseSource:
    """The source that a recipe asks for, for one image.

    Args:
        settings: The recipe's; None is ours.
        factor: Pixels per latent.
    """
    settings = settings or NoiseSettings()
    if settings.source == "comfyui":
        return ComfyUINoise(seed, settings.batch_index)
    if settings.source == "darkroom":
        return OwnNoise(torch.Generator("cpu").manual_seed(seed), settings, factor)
    return A1111Noise(seed, settings, factor, _philox_draw if settings.source == "nv" else _torch_draw)


def _torch_draw(seed: int) -> Draw:
    generator = torch.Generator("cpu").manual_seed(seed)
    return lambda shape: torch.randn(tuple(shape), generator=generator)


def _philox_draw(seed: int) -> Draw:
    return PhiloxGenerator(seed).randn


def _white(draw: Draw) -> StepNoise:
    def noise(x: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        drawn = draw(x.shape)
        if x.device.type == "cuda":  # from page-locked memory: neither the card nor Python waits for the other
            drawn = drawn.pin_memory()
        return drawn.to(x.device, x.dtype, non_blocking=True)

    return noise


def _begin(
    shape: Sequence[int],
    settings: NoiseSettings,
    factor: int,
    draw: Draw,
    draw_of: Callable[[int], Draw],
    seed: int,
) -> Tensor:
    """The first noise, turned towards a variation's and of another size in the middle, as settings say.

    Args:
        draw: The image's own, which goes on from here.
        draw_of: The draws of another seed.
    """
    size = tuple(shape)
    if settings.resize_width and settings.resize_height:
        size = (*size[:2], settings.resize_height // factor, settings.resize_width // factor)
    is_resized = size != tuple(shape)
    noise = draw_of(seed)(size) if is_resized else draw(size)
    if settings.variation_strength and settings.variation_seed is not None:
        noise = slerp(noise, draw_of(settings.variation_seed)(size), settings.variation_strength)
    if not is_resized:
        return noise
    around = draw(shape)
    (height, width), (old_height, old_width) = shape[2:], size[2:]
    h, w = min(height, old_height), min(width, old_width)
    top, left = max((height - old_height) // 2, 0), max((width - old_width) // 2, 0)
    old_top, old_left = max((old_height - height) // 2, 0), max((old_width - width) // 2, 0)
    around[..., top : top + h, left : left + w] = noise[..., old_top : old_top + h, old_left : old_left + w]
    return around


def slerp(low: Tensor, high: Tensor, share: float) -> Tensor:
    """Turn one noise towards another, column by column of each channel as A1111 does; all (1, C, h, w).

    Source: Shoemake 1985, "Animating rotation with quaternion curves", section 3.3.
    """
    cosine = (low / low.norm(dim=-2, keepdim=True) * (high / high.norm(dim=-2, keepdim=True))).sum(-2, keepdim=True)
    if float(cosine.mean()) > _PARALLEL:
        return low * share + high * (1 - share)
    angle = torch.acos(cosine)
    return (torch.sin((1 - share) * angle) * low + torch.sin(share * angle) * high) / torch.sin(angle)


def _with_draws(draw_of: Callable[[int], Draw]) -> Any:
    """torchsde's module of Brownian paths, a copy of our own whose seeds stand for other numbers."""
    spec = importlib.util.find_spec(_INTERVALS)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def randn(size: Sequence[int], dtype: torch.dtype, device: object, seed: int) -> Tensor:
        return draw_of(int(seed))(size).to(dtype)

    module._randn = randn  # type: ignore[attr-defined]
    return module
