"""A work item in, work events out: the engine's public entry. Every failure becomes one ending event.

One picture at a time, each with its own seed and its own generator on the CPU, so that a picture does not depend on its
neighbors. `models/manager.py` loads, `pipeline.py` runs a recipe's passes, `errors.py` says what failed.
"""

import logging
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

import torch

from catalog.detect.upscaler_answers import UpscalerAnswers
from contract.errors import Cancelled, InvalidRecipe, OutOfMemory
from contract.recipe import ModelRef, Recipe
from contract.records import EngineStatus
from contract.sizes import upscaled_size
from contract.tasks import Generate, Preprocess, Task, Upscale
from contract.work import (
    Command,
    Evict,
    Prefetch,
    WorkCancelled,
    WorkDone,
    WorkerEvent,
    WorkFailed,
    WorkImage,
    WorkItem,
    WorkLoading,
    WorkNotice,
    WorkStep,
    path_key,
)
from engine import errors
from engine.adapters.prompt_encoder import EmbeddingCache
from engine.device.attention import AttentionChoice
from engine.device.devices import DeviceChoice, choose_device, device_bytes, free_bytes, release
from engine.device.memory import give_back_freed_memory, memory
from engine.device.precision import Precision, Probe, with_precision
from engine.fallbacks import NonFiniteOutput, fallback_for, with_less_memory
from engine.images.image_io import as_raw, open_input
from engine.images.preprocessors import Preprocessors
from engine.images.previews import PreviewMaker
from engine.images.upscalers import Upscalers
from engine.job_models import LoadPlan, acquire, home_of_vae, wanted_models, with_vae
from engine.models.manager import Bundle, ModelManager
from engine.models.offload import OffloadChoice
from engine.pipeline import ImagePlan, PassInputs, UpscaleFunction, Upscaling, finish, plan_image, run_pass

IsCancelled = Callable[[], bool]
_LIBRARIES = ("torch", "diffusers", "transformers", "xformers")
_LOADING_INTERVAL_S = 0.1
_TILE, _TILE_OVERLAP = 256, 16  # pixels, of an upscaler within a hires pass
_PARTS_TO_COME = {"refiner": "a refiner"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine runs.

    Attributes:
        threads: Of the CPU; None leaves torch's choice.
        cache_dir: For what is worked out once per model (preview maps); None keeps nothing.
        memory_budget_bytes: Host memory for weights; None takes half of the machine's.
        precision: Of U-Net and text encoders (`device/precision.py`); None is the device's usual one.
        offload: How a model's parts lie on a card (`models/offload.py`).
        attention: Which code computes it (`device/attention.py`).
        annotator_dirs: Where files of preprocessors lie.
    """

    device: DeviceChoice = "auto"
    threads: int | None = None
    cache_dir: Path | None = None
    memory_budget_bytes: int | None = None
    precision: Precision | None = None
    offload: OffloadChoice = "auto"
    attention: AttentionChoice = "auto"
    annotator_dirs: tuple[Path, ...] = ()


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
    """Paints work items on one device. For one thread.

    Raises:
        JobError: the device that was asked for is not there.
    """

    def __init__(self, options: EngineOptions = EngineOptions()) -> None:
        device = choose_device(options.device, options.threads)
        self._probe = (
            Probe(options.cache_dir) if options.precision == "auto" and device.torch_device.type == "cpu" else None
        )
        device = with_precision(device, options.precision, options.cache_dir)
        self._device = replace(device, attention=options.attention)
        self._models = ModelManager(self._device, options.memory_budget_bytes, options.offload)
        self._previews = PreviewMaker(options.cache_dir)
        self._embeddings = EmbeddingCache()
        self._upscalers = Upscalers(self._device, UpscalerAnswers(options.cache_dir))
        self._preprocessors = Preprocessors(options.annotator_dirs, self._device.torch_device)
        self._versions = _versions()
        self._rough_previews: LoadPlan | None = None  # of which model's VAE
        self._has_painted = False
        self._preview_interval_s = 0.5 if self._device.torch_device.type == "cpu" else 0.25

    def describe(self) -> EngineStatus:
        """The device, the versions, and what is in memory, for the engine pill and the Models tab."""
        models = self._models.resident()
        limit = device_bytes(self._device)
        return EngineStatus(
            state="ready",
            text=f"Ready on {self._device.label}",
            device=self._device.label,
            resident=tuple(held.name for held in models if held.place != "coming"),
            versions=dict(self._versions),
            models=models,
            budget_bytes=self._models.budget_bytes,
            free_bytes=memory().free,
            device_bytes=limit,
            device_free_bytes=None if limit is None else free_bytes(self._device),
        )

    def obey(self, command: Command) -> None:
        """Change what is in memory; between two events of `paint` too. Never raises for a model that can't be used."""
        if isinstance(command, Prefetch):
            self._models.prefetch(command.ref, command.path)
        elif isinstance(command, Evict):
            self._models.evict(command.key)
        else:
            self._models.pin(command.key, command.is_pinned)

    def tidy(self) -> bool:
        """Nothing has been asked for some time: do a little of what pictures had not to wait for.

        Returns:
            Whether there is more to do. Else memory that is free was handed back to the system.
        """
        if self._refine_previews():
            return True
        if self._has_painted and self._probe is not None:
            self._probe.measure()
            self._probe = None
        give_back_freed_memory()
        return False

    def _refine_previews(self) -> bool:
        """One step toward the whole map of a VAE that is still in memory; whether there is more to do."""
        wanted, self._rough_previews = self._rough_previews, None
        if wanted is None or not self._models.size_of(*wanted):
            return False
        try:
            with self._models.lease(*wanted) as bundle:
                if self._previews.is_rough(bundle) and self._previews.refine(bundle):
                    self._rough_previews = wanted
        except errors.FAILURES as error:
            log.info("the previews of %s stay rough: %s", wanted[0].name, error)
        return self._rough_previews is not None

    def is_fetching(self) -> bool:
        """Whether a model is read ahead."""
        return self._models.is_fetching()

    def warm(self, path: str, ref: ModelRef) -> None:
        """Load a model ahead of its first job.

        Raises:
            StudioError: it can't be used (ModelProblem), or there is no memory for it.
        """
        try:
            with self._models.lease(ref, path) as bundle:
                if bundle.has("vae"):  # else a job brings one
                    self._previews.prepare(bundle)
                    self._rough_previews = (ref, path) if self._previews.is_rough(bundle) else None
        except errors.FAILURES as error:
            raise errors.as_studio_error(error, ref.name, "its weights") from None

    def generate(self, work_item: WorkItem, is_cancelled: IsCancelled) -> Iterator[WorkerEvent]:
        """Make the pictures of a work item; the last event is its one ending. Never raises for a failure."""
        began = time.monotonic()
        log.debug("job %s begins: %s", work_item.job_id, work_item.task.type)
        try:
            yield from self._work(work_item, is_cancelled)
            ending: WorkerEvent = WorkDone(work_item.job_id, time.monotonic() - began)
        except Cancelled:
            ending = WorkCancelled(work_item.job_id)
        except errors.FAILURES as error:
            ending = self._failed(work_item, error)
        log.debug("job %s ends: %s after %.1f s", work_item.job_id, type(ending).__name__, time.monotonic() - began)
        yield ending

    def _failed(self, work_item: WorkItem, error: BaseException) -> WorkFailed:
        problem = errors.as_studio_error(error, *_who_and_what(work_item.task))
        # Frames of a failed job hold its tensors: let go of them before anything else is asked for.
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        if isinstance(problem, OutOfMemory):
            self._models.evict_all()
            self._upscalers.clear()
            self._preprocessors.clear()
            release()
        return WorkFailed(work_item.job_id, problem.code, problem.message, problem.hint, problem.field, problem.fix)

    def _work(self, work_item: WorkItem, is_cancelled: IsCancelled) -> Iterator[WorkerEvent]:
        task = work_item.task
        if isinstance(task, Upscale):
            yield from self._upscale(work_item, task, is_cancelled)
        elif isinstance(task, Preprocess):
            yield from self._preprocess(work_item, task)
        else:
            yield from self._paint(work_item, task.recipe, is_cancelled)

    def _paint(self, work_item: WorkItem, recipe: Recipe, is_cancelled: IsCancelled) -> Iterator[WorkerEvent]:
        _check_supported(recipe)
        if path_key(recipe.model) not in work_item.model_paths:
            raise InvalidRecipe(
                f"The work item names no folder for the model {recipe.model.name}.",
                "Choose the model again.",
                field="model",
            )
        path = work_item.model_paths[path_key(recipe.model)]
        others = wanted_models(recipe, work_item.model_paths)
        for model in ((recipe.model, path), *others):
            yield from self._load(work_item, *model, is_cancelled)
        beside = sum(self._models.size_of(*model) for model in others)
        with self._models.lease(recipe.model, path, beside=beside) as own:
            while (notice := (yield from self._unless_memory_fails(work_item, recipe, own, is_cancelled))) is not None:
                yield WorkNotice(work_item.job_id, "less_memory", notice)

    def _unless_memory_fails(
        self, work_item: WorkItem, recipe: Recipe, own: Bundle, is_cancelled: IsCancelled
    ) -> Generator[WorkerEvent, None, str | None]:
        """All pictures. Before the first step the whole is tried again with less memory; later `_picture` helps itself.

        Returns:
            What was done, where it has to be tried again.
        """
        has_begun = False
        try:
            for event in self._paint_with(work_item, recipe, own, is_cancelled):
                has_begun = has_begun or isinstance(event, WorkStep)
                yield event
            return None
        except errors.FAILURES as error:
            notice = None if has_begun else with_less_memory(error, own, self._models)
            if notice is None:
                raise
            traceback.clear_frames(error.__traceback__)
            return notice

    def _paint_with(
        self, work_item: WorkItem, recipe: Recipe, own: Bundle, is_cancelled: IsCancelled
    ) -> Iterator[WorkerEvent]:
        with (
            with_vae(own, recipe, work_item, self._models) as bundle,
            acquire(recipe, work_item, self._models, self._preprocessors, bundle) as loaded,
        ):
            _check_cancelled(is_cancelled)
            for notice in loaded.notices:
                yield WorkNotice(work_item.job_id, "lora_in_part", notice)
            for notice in loaded.idle:
                yield WorkNotice(work_item.job_id, "no_effect", notice)
            inputs = PassInputs(work_item.images, self._embeddings, self._enlarger(work_item), loaded)
            plan = plan_image(recipe, loaded.bundle, inputs)
            for notice in loaded.controls.blank:
                yield WorkNotice(work_item.job_id, "blank_map", notice)
            passes = [each for each in (plan, plan.second) if each is not None]
            for notice in dict.fromkeys(notice for each in passes for notice in each.conditioning.notices):
                yield WorkNotice(work_item.job_id, "prompt_too_long", notice)
            if plan.region and plan.region.notice:
                yield WorkNotice(work_item.job_id, "picture_cut", plan.region.notice)
            pace = _Pace(self._preview_interval_s)
            for index in range(recipe.count):
                if index not in work_item.finished:
                    plan = yield from self._picture(work_item, index, plan, inputs, pace, is_cancelled)
                    self._has_painted = True
            if self._previews.is_rough(bundle):
                self._rough_previews = home_of_vae(recipe, work_item.model_paths)

    def _load(self, work_item: WorkItem, ref: ModelRef, path: str, is_cancelled: IsCancelled) -> Iterator[WorkerEvent]:
        pace = _Pace(_LOADING_INTERVAL_S)
        for fraction in self._models.prepare(ref, path):
            _check_cancelled(is_cancelled)
            if pace.is_due():
                yield WorkLoading(work_item.job_id, ref.name, fraction)

    def _picture(
        self,
        work_item: WorkItem,
        index: int,
        plan: ImagePlan,
        inputs: PassInputs,
        pace: _Pace,
        is_cancelled: IsCancelled,
    ) -> Generator[WorkerEvent, None, ImagePlan]:
        """One picture; when memory or precision does not suffice, once more from its first step with what helps.

        Returns:
            The plan that worked, for the next picture.
        """
        said = 0
        while True:
            try:
                for event in self._attempt(work_item, index, plan, inputs, pace, is_cancelled):
                    if isinstance(event, WorkStep) and event.index <= said:
                        continue  # a follower has seen it in the attempt before
                    said = event.index if isinstance(event, WorkStep) else said
                    yield event
                return plan
            except errors.FAILURES as error:
                helped = fallback_for(error, plan, self._models)
                if helped is None:
                    raise
                traceback.clear_frames(error.__traceback__)
                plan, code, message = helped
            yield WorkNotice(work_item.job_id, code, message)

    def _attempt(
        self,
        work_item: WorkItem,
        index: int,
        plan: ImagePlan,
        inputs: PassInputs,
        pace: _Pace,
        is_cancelled: IsCancelled,
    ) -> Iterator[WorkerEvent]:
        began, bundle = time.monotonic(), plan.bundle
        _check_cancelled(is_cancelled)
        latents = None
        for progress in run_pass(plan, plan.recipe.for_image(index), inputs):
            if isinstance(progress, Upscaling):
                yield WorkLoading(work_item.job_id, progress.upscaler, progress.index / progress.total)
                _check_cancelled(is_cancelled)
                continue
            latents = progress.step.latents
            if progress.index == 1 and not latents.isfinite().all():
                raise NonFiniteOutput(
                    f"{bundle.ref.name} gave numbers that are no picture at the first step.",
                    "The model may be damaged, or the prompt's weights too strong.",
                )
            preview = None
            if work_item.wants_previews and progress.index < progress.total and pace.is_due():
                denoised = progress.step.denoised
                tiny = (
                    self._previews.choose(bundle, work_item.preview_decoders, denoised)
                    if work_item.preview_decoders
                    else None
                )
                preview = self._previews.make(denoised, bundle, tiny)
            yield WorkStep(work_item.job_id, index, progress.index, progress.total, preview)
            _check_cancelled(is_cancelled)
        pixels, is_retry = finish(plan, latents)
        if is_retry:
            yield WorkNotice(
                work_item.job_id,
                "vae_float32",
                f"The VAE of {bundle.ref.name} overflowed and was run again in full precision.",
            )
        yield WorkImage(work_item.job_id, index, pixels, time.monotonic() - began, self._provenance(is_retry))

    def _upscale(self, work_item: WorkItem, task: Upscale, is_cancelled: IsCancelled) -> Iterator[WorkerEvent]:
        began = time.monotonic()
        image = open_input(task.image, work_item.images)
        size = upscaled_size(image.size, task.scale)
        path = _path_of(task.upscaler, work_item)
        for done, total, made in self._upscalers.upscale(
            image, task.upscaler, size, path, tile=task.tile, overlap=task.overlap
        ):
            _check_cancelled(is_cancelled)
            yield WorkStep(work_item.job_id, 0, done, total)
            if made is not None:
                yield WorkImage(work_item.job_id, 0, as_raw(made), time.monotonic() - began, self._provenance(False))

    def _preprocess(self, work_item: WorkItem, task: Preprocess) -> Iterator[WorkerEvent]:
        began = time.monotonic()
        picture = open_input(task.image, work_item.images)
        made = self._preprocessors.make(picture, task.preprocessor, task.resolution, task.low, task.high)
        yield WorkImage(work_item.job_id, 0, as_raw(made), time.monotonic() - began, self._provenance(False))

    def _enlarger(self, work_item: WorkItem) -> UpscaleFunction:
        """For the hires pass: tiles of the usual size."""
        return lambda image, upscaler, size: self._upscalers.upscale(
            image, upscaler, size, _path_of(upscaler, work_item), tile=_TILE, overlap=_TILE_OVERLAP
        )

    def _provenance(self, is_retry: bool) -> dict[str, str]:
        device = self._device
        return {
            "device": device.label,
            "dtype": f"{device.dtype_label}{' (VAE float32)' if is_retry else ''}",
            "threads": str(torch.get_num_threads()),
            "batch": "1",
            **self._versions,
        }


def _path_of(upscaler: str | ModelRef, work_item: WorkItem) -> str | None:
    return work_item.model_paths.get(path_key(upscaler)) if isinstance(upscaler, ModelRef) else None


def _check_supported(recipe: Recipe) -> None:
    for name, words in _PARTS_TO_COME.items():
        if getattr(recipe, name):
            raise InvalidRecipe(
                f"The recipe asks for {words}, which this version can't do yet.", "Leave it out.", field=name
            )


def _who_and_what(task: Task) -> tuple[str, str]:
    """The model and the size, as a failure names them."""
    if isinstance(task, Generate):
        return task.recipe.model.name, f"{task.recipe.width}×{task.recipe.height}"
    return (task.models[0].name if task.models else "this picture"), task.title


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
