"""A ticket in, work events out: the engine's public entry. Every failure becomes one ending event.

One picture at a time, each with its own seed and its own generator on the CPU, so that a picture does not
depend on its neighbors. Loading is `models.py`, the loop `denoise.py`; what a failure says, `faults.py`.
"""

import gc
import logging
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import torch

from catalog.families import FAMILIES
from catalog.samplers import resolve_schedule, SAMPLERS
from contract.errors import Cancelled, InvalidRecipe, NoValidPicture, OutOfMemory
from contract.recipe import ModelRef, Recipe
from contract.records import EngineStatus
from contract.work import (
    Ticket,
    WorkCancelled,
    WorkDone,
    WorkerEvent,
    WorkFailed,
    WorkLoading,
    WorkNotice,
    WorkPainted,
    WorkStep,
)
from engine import canvas, faults
from engine.conditioning import Conditioning, EmbeddingCache, condition
from engine.denoise import LatentStep, denoise
from engine.devices import DeviceChoice, choose_device
from engine.families.family import predict_with
from engine.models import Bundle, ModelManager
from engine.previews import PreviewMaker
from engine.samplers import Sampling, sampling_for

IsCancelled = Callable[[], bool]
_LIBRARIES = ("torch", "diffusers", "transformers", "xformers")
_LOADING_INTERVAL_S = 0.1
_PARTS_TO_COME = {"vae": "another VAE", "loras": "LoRAs", "start": "a picture to begin from", "mask": "a mask",
                  "controls": "ControlNet", "hires": "a second pass at a larger size", "refiner": "a refiner"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine runs.

    Attributes:
        threads: Of the CPU; None leaves torch's choice.
        cache_dir: For what is worked out once per model (preview maps); None keeps nothing.
        memory_budget_bytes: Host memory for weights; None takes half of the machine's.
    """

    device: DeviceChoice = "auto"
    threads: int | None = None
    cache_dir: Path | None = None
    memory_budget_bytes: int | None = None


@dataclass(slots=True)
class _Pace:
    """Lets something happen at most so often; the first time always."""

    interval_s: float
    _last: float = field(default=float("-inf"))

    def is_due(self) -> bool:
        now = time.monotonic()
        if now - self._last < self.interval_s:
            return False
        self._last = now
        return True


class Engine:
    """Paints tickets on one device. For one thread.

    Raises:
        JobError: the device that was asked for is not there.
    """

    def __init__(self, options: EngineOptions = EngineOptions()) -> None:
        self._device = choose_device(options.device, options.threads)
        self._models = ModelManager(self._device, options.memory_budget_bytes)
        self._previews = PreviewMaker(options.cache_dir)
        self._embeddings = EmbeddingCache()
        self._versions = _versions()
        self._preview_interval_s = 0.5 if self._device.torch_device.type == "cpu" else 0.25

    def describe(self) -> EngineStatus:
        """The device and the versions, for the engine pill."""
        return EngineStatus(state="ready", text=f"Ready on {self._device.label}", device=self._device.label,
                            resident=self.resident(), versions=dict(self._versions))

    def resident(self) -> tuple[str, ...]:
        """Names of the models in memory, newest first."""
        return self._models.resident()

    def warm(self, path: str, ref: ModelRef) -> None:
        """Load a model ahead of its first job.

        Raises:
            StudioError: it can't be used (ModelProblem), or there is no memory for it.
        """
        try:
            with self._models.lease(ref, path) as bundle:
                self._previews.prepare(bundle)
        except faults.FAILURES as error:
            raise faults.explain(error, ref.name, "its weights") from None

    def paint(self, ticket: Ticket, is_cancelled: IsCancelled) -> Iterator[WorkerEvent]:
        """Make the pictures of a ticket; the last event is its one ending. Never raises for a failure."""
        began = time.monotonic()
        recipe = ticket.task.recipe
        log.debug("job %s begins: %s, %d × %d×%d", ticket.job_id, recipe.model.name, recipe.count,
                 recipe.width, recipe.height)
        try:
            yield from self._paint(ticket, is_cancelled)
            ending: WorkerEvent = WorkDone(ticket.job_id, time.monotonic() - began)
        except Cancelled:
            ending = WorkCancelled(ticket.job_id)
        except faults.FAILURES as error:
            ending = self._failed(ticket, error)
        log.debug("job %s ends: %s after %.1f s", ticket.job_id, type(ending).__name__, time.monotonic() - began)
        yield ending

    def _failed(self, ticket: Ticket, error: BaseException) -> WorkFailed:
        recipe = ticket.task.recipe
        problem = faults.explain(error, recipe.model.name, f"{recipe.width}×{recipe.height}")
        # Frames of a failed job hold its tensors: let go of them before anything else is asked for.
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        if isinstance(problem, OutOfMemory):
            self._models.evict_all()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return WorkFailed(ticket.job_id, problem.code, problem.message, problem.hint)

    def _paint(self, ticket: Ticket, is_cancelled: IsCancelled) -> Iterator[WorkerEvent]:
        recipe = ticket.task.recipe
        _check_supported(recipe)
        if recipe.model.name not in ticket.model_paths:
            raise InvalidRecipe(f"The ticket names no folder for the model {recipe.model.name}.",
                                "Choose the model again.", code="invalid_model")
        path = ticket.model_paths[recipe.model.name]
        yield from self._load(ticket, path, is_cancelled)
        with self._models.lease(recipe.model, path) as bundle:
            _check_cancelled(is_cancelled)
            conditioning = condition(recipe, bundle, self._embeddings)
            for notice in conditioning.notices:
                yield WorkNotice(ticket.job_id, "prompt_too_long", notice)
            pace = _Pace(self._preview_interval_s)
            for index in range(recipe.count):
                if index not in ticket.finished:
                    yield from self._picture(ticket, index, bundle, conditioning, pace, is_cancelled)

    def _load(self, ticket: Ticket, path: str, is_cancelled: IsCancelled) -> Iterator[WorkerEvent]:
        pace = _Pace(_LOADING_INTERVAL_S)
        name = ticket.task.recipe.model.name
        for fraction in self._models.prepare(ticket.task.recipe.model, path):
            _check_cancelled(is_cancelled)
            if pace.is_due():
                yield WorkLoading(ticket.job_id, name, fraction)

    def _picture(self, ticket: Ticket, index: int, bundle: Bundle, conditioning: Conditioning, pace: _Pace,
                 is_cancelled: IsCancelled) -> Iterator[WorkerEvent]:
        began = time.monotonic()
        recipe = ticket.task.recipe.for_image(index)
        _check_cancelled(is_cancelled)
        latents = None
        for step in self._steps(recipe, bundle, conditioning):
            is_last = step.index == step.total
            if step.index == 1 and not step.latents.isfinite().all():
                raise NoValidPicture(f"{bundle.ref.name} gave numbers that are no picture at the first step.",
                                     "The model may be damaged, or the prompt's weights too strong.")
            preview = None
            if ticket.wants_previews and not is_last and pace.is_due():
                preview = self._previews.make(step.denoised, bundle)
            yield WorkStep(ticket.job_id, index, step.index, step.total, preview)
            _check_cancelled(is_cancelled)
            latents = step.latents
        assert latents is not None
        pixels, is_retry = canvas.decode(latents, bundle)
        if is_retry:
            yield WorkNotice(ticket.job_id, "vae_float32",
                             f"The VAE of {bundle.ref.name} overflowed and was run again in full precision.")
        yield WorkPainted(ticket.job_id, index, pixels, time.monotonic() - began, self._provenance(is_retry))

    def _steps(self, recipe: Recipe, bundle: Bundle, conditioning: Conditioning) -> Iterator[LatentStep]:
        sampling = sampling_of(recipe, bundle)
        generator = torch.Generator("cpu").manual_seed(recipe.seed)
        noise = first_noise(recipe, generator).to(bundle.device.torch_device)
        predict = predict_with(bundle.parts["unet"], bundle.device.dtype)
        return denoise(lambda _: predict, conditioning.at, sampling, noise, recipe.guidance, generator)

    def _provenance(self, is_retry: bool) -> dict[str, str]:
        device = self._device
        return {"device": device.label, "dtype": f"{device.dtype_label}{' (VAE float32)' if is_retry else ''}",
                "threads": str(torch.get_num_threads()), "batch": "1", **self._versions}


def sampling_of(recipe: Recipe, bundle: Bundle) -> Sampling:
    """The recipe's sampler, set for this model.

    Raises:
        InvalidRecipe: no such sampler or schedule.
    """
    config = bundle.scheduler_config
    schedule = recipe.schedule
    if recipe.sampler in SAMPLERS:
        schedule = resolve_schedule(SAMPLERS[recipe.sampler], schedule,
                                    zero_snr=bool(config.get("rescale_betas_zero_snr")))
    return sampling_for(recipe.sampler, schedule, recipe.steps, config, bundle.device.torch_device)


def first_noise(recipe: Recipe, generator: torch.Generator) -> torch.Tensor:
    """The noise a picture begins with: (1, C, h, w), float32, on the CPU whatever the device."""
    family = FAMILIES[recipe.model.family]
    height, width = recipe.height // family.vae_factor, recipe.width // family.vae_factor
    return torch.randn(1, family.latent_channels, height, width, generator=generator)


def _check_supported(recipe: Recipe) -> None:
    for name, words in _PARTS_TO_COME.items():
        if getattr(recipe, name):
            raise InvalidRecipe(f"The recipe asks for {words}, which this version can't do yet.",
                                "Leave it out.", code=f"invalid_{name}")


def _check_cancelled(is_cancelled: IsCancelled) -> None:
    if is_cancelled():
        raise Cancelled


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # xformers is optional
    return found
