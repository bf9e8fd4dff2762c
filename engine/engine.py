"""A work item in, work events out: the engine's public entry. Every failure becomes one ending event.

One image at a time, each with its own seed and its own generator on the CPU, so that an image does not depend on its
neighbors. `models/manager.py` loads, `pipeline.py` runs the passes, `fallbacks.py` says what to try when memory or
precision does not suffice, `errors.py` maps what failed.
"""

import logging
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

import torch
from PIL import Image

from catalog.detect.upscaler_answers import UpscalerAnswers
from contract.errors import Cancelled, InvalidRecipe, OutOfMemory, StudioError
from contract.recipe import ModelRef, Recipe
from contract.records import EngineStatus
from contract.sizes import upscaled_size
from contract.tasks import Generate, Preprocess, Upscale
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
from engine.adapters.prompt_encoder import NO_T5, EmbeddingCache, T5Prompts
from engine.adapters.t5 import read_with_t5
from engine.batching import SharingJob, SideBySide
from engine.device.batch_table import BatchTable
from engine.device.card_evaluator import CardEvaluator
from engine.device.devices import Device, cards, choose_device, device_bytes, free_bytes, release
from engine.device.memory import give_back_freed_memory, memory
from engine.device.openvino_backend import choose_backend, offer
from engine.device.precision import Probe, with_precision
from engine.fallbacks import fallback_for, with_less_memory
from engine.families import check_families
from engine.images.image_io import as_raw, open_input
from engine.images.preprocessors import Preprocessors
from engine.images.previews import PreviewMaker
from engine.images.upscalers import Upscalers
from engine.job_models import (
    JobModels,
    LocatedModel,
    SecondModel,
    acquire,
    home_of_vae,
    second_model,
    wanted_models,
    with_vae,
)
from engine.models.manager import ModelManager
from engine.options import EngineOptions, with_options
from engine.pipeline import (
    ImagePlan,
    PassInputs,
    Swapping,
    Upscaled,
    Upscaling,
    finish,
    parts_of_passes,
    plan_image,
    run_pass,
)
from engine.step_watch import RateLimit, StepWatch

IsCancelled = Callable[[], bool]
_LIBRARIES = ("torch", "diffusers", "transformers", "xformers")
_LOADING_INTERVAL_S = 0.1
_TILE, _TILE_OVERLAP = 256, 16  # pixels, of an upscaler within a hires pass

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _GenerateJob:
    """A generate job while it runs.

    Attributes:
        plan: For every image from here on: a fallback replaces it. None between two attempts of the whole.
        inputs: What the plan was made with; None with it.
        t5: What T5 reads of the prompts.
        has_steps: Whether a step was reported: from then on only the image is tried again, not the whole.
        sharing: Its thread, where it may share evaluations with other jobs.
    """

    work_item: WorkItem
    recipe: Recipe
    is_cancelled: IsCancelled
    preview_limit: RateLimit
    plan: ImagePlan | None = None
    inputs: PassInputs | None = None
    t5: T5Prompts = NO_T5
    has_steps: bool = False
    sharing: SharingJob | None = None


class Engine:
    """Runs work items on one device. For one thread.

    Raises:
        JobError: the device that was asked for is not there.
    """

    def __init__(self, options: EngineOptions | None = None) -> None:
        check_families()
        options = options or EngineOptions()
        device = choose_device(options.device, options.threads)
        device = with_precision(device, options.precision, options.cache_dir)
        self._probe: Probe | None = None
        if options.precision == "auto" and device.torch_device.type == "cpu":
            self._probe = Probe(options.cache_dir, device.dtype)
        self._device = with_options(device, options)
        self._openvino = choose_backend(options.backend, device.torch_device, device.dtype, options.cache_dir)
        self._offer = offer(device.torch_device) if options.backend == "auto" else ""
        sharers = options.sharers or max(1, cards(self._device))
        self._storage = options.storage
        self._models = ModelManager(
            self._device, options.memory_budget_bytes, options.offload, self._openvino, options.storage, sharers
        )
        is_cuda = self._device.torch_device.type == "cuda"
        self._side_stream = torch.cuda.Stream(self._device.torch_device) if is_cuda else None
        self._previews = PreviewMaker(options.cache_dir, self._side_stream)
        self._embeddings = EmbeddingCache()
        self._upscalers = Upscalers(self._device, UpscalerAnswers(options.cache_dir))
        self._preprocessors = Preprocessors(options.annotator_dirs, self._device.torch_device)
        self._versions = _versions()
        self._rough_previews: LocatedModel | None = None  # of which model's VAE
        self._has_generated = False
        batches = BatchTable(self._device, options.cache_dir, options.batch_jobs)
        self._side_by_side = SideBySide(self._device.torch_device, batches)
        self._decode_rates: dict[str, float] = {}  # seconds a number of the latents, by VAE
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
            batch_jobs=self._side_by_side.most,
            cards=cards(self._device),
            offer=self._offer,
        )

    def obey(self, command: Command) -> None:
        """Change what is in memory; between two events of `generate` too. Never raises for an unusable model."""
        if isinstance(command, Prefetch):
            self._models.prefetch(command.ref, command.path)
        elif isinstance(command, Evict):
            self._models.evict(command.key)
        else:
            self._models.pin(command.key, command.is_pinned)

    def tidy(self) -> bool:
        """The engine is idle: do a little of what no image should wait for.

        Returns:
            Whether there is more to do. Else free memory was given back to the system.
        """
        # One step toward the full preview map of a VAE that is still in memory.
        rough, self._rough_previews = self._rough_previews, None
        if rough is not None and self._models.size_of(*rough):
            try:
                with errors.mapped_load(rough[0].name), self._models.lease(*rough) as bundle:
                    if self._previews.is_rough(bundle) and self._previews.refine(bundle):
                        self._rough_previews = rough
            except StudioError as error:
                log.info("the previews of %s stay rough: %s", rough[0].name, error.message)
        if self._rough_previews is not None:
            return True
        if self._openvino is not None:
            self._openvino.is_idle.set()
        if self._models.make_evaluations():
            return True
        if self._has_generated and self._probe is not None:
            self._probe.measure()
            self._probe = None
        give_back_freed_memory()
        return False

    def is_fetching(self) -> bool:
        """Whether a model is being prefetched."""
        return self._models.is_fetching()

    def warm(self, path: str, ref: ModelRef) -> None:
        """Load a model ahead of its first job.

        Raises:
            StudioError: it can't be used (ModelProblem), or there is no memory for it.
        """
        with errors.mapped_load(ref.name), self._models.lease(ref, path) as bundle:
            if bundle.has("vae"):  # else the job's recipe names one
                self._previews.prepare(bundle)
                self._rough_previews = (ref, path) if self._previews.is_rough(bundle) else None

    def generate(self, work_item: WorkItem, is_cancelled: IsCancelled) -> Iterator[WorkerEvent]:
        """Make the images of a work item, and of those that `join` it; each one's last event is its one ending.

        Never raises for a failure.
        """
        yield from self._side_by_side.run(work_item.task, partial(self._run, work_item, is_cancelled))

    def join(self, work_item: WorkItem, is_cancelled: IsCancelled) -> bool:
        """Run a work item beside those that `generate` runs, from their next step on; between two of its events.

        Returns:
            False if it can't: it computes with other weights or at another size, or no more fit (`batching.py`).
        """
        return self._side_by_side.join(work_item.task, partial(self._run, work_item, is_cancelled))

    def _run(
        self, work_item: WorkItem, is_cancelled: IsCancelled, sharing: SharingJob | None
    ) -> Generator[WorkerEvent, None, None]:
        """Make the images of one work item; the last event is its one ending."""
        began = time.monotonic()
        task = work_item.task
        log.debug("job %s begins: %s", work_item.job_id, task.type)
        if self._openvino is not None:
            self._openvino.is_idle.clear()
            self._openvino.used.clear()
        if isinstance(task, Upscale):
            events = self._upscale(work_item, task, is_cancelled)
        elif isinstance(task, Preprocess):
            events = self._preprocess(work_item, task)
        elif not isinstance(task, Generate):
            raise TypeError(f"{task.type} is not the engine's work")
        else:
            preview_limit = RateLimit(self._preview_interval_s)
            job = _GenerateJob(work_item, task.recipe, is_cancelled, preview_limit, sharing=sharing)
            events = self._generate_images(job)
        try:
            yield from events
            ending: WorkerEvent = WorkDone(work_item.job_id, time.monotonic() - began)
        except Cancelled:
            ending = WorkCancelled(work_item.job_id)
        except Exception as error:
            if isinstance(task, Generate):
                model, size = task.recipe.model.name, f"{task.recipe.width}×{task.recipe.height}"
            else:
                model, size = task.models[0].name if task.models else "this picture", task.title
            problem = errors.as_studio_error(error, model, size)
            # Frames of a failed job hold its tensors: release them before anything else is asked for.
            traceback.clear_frames(error.__traceback__)
            error.__traceback__ = None
            if isinstance(problem, OutOfMemory):
                self._models.evict_all()
                self._upscalers.clear()
                self._preprocessors.clear()
                release()
            ending = WorkFailed(
                work_item.job_id, problem.code, problem.message, problem.hint, problem.field, problem.fix
            )
        log.debug("job %s ends: %s after %.1f s", work_item.job_id, type(ending).__name__, time.monotonic() - began)
        yield ending

    def _generate_images(self, job: _GenerateJob) -> Iterator[WorkerEvent]:
        """Load the models and make all images. Until the first step the whole is tried again with less memory."""
        work_item, recipe = job.work_item, job.recipe
        if path_key(recipe.model) not in work_item.model_paths:
            raise InvalidRecipe(
                f"The work item names no folder for the model {recipe.model.name}.",
                "Choose the model again.",
                field="model",
            )
        checkpoint = (recipe.model, work_item.model_paths[path_key(recipe.model)])
        job.t5 = yield from self._read_with_t5(job, checkpoint[1])
        others = wanted_models(recipe, work_item.model_paths)
        for ref, path in (checkpoint, *others):
            yield from self._loading(job, ref.name, self._models.prepare(ref, path))
        beside = sum(self._models.size_of(*model) for model in others)
        with self._models.lease(*checkpoint, beside=beside) as own:
            while True:
                try:
                    with (
                        with_vae(own, recipe, work_item, self._models) as bundle,
                        acquire(recipe, work_item, self._models, self._preprocessors, bundle) as loaded,
                        second_model(recipe, work_item.model_paths, self._models, bundle) as second,
                    ):
                        _check_cancelled(job.is_cancelled)
                        if second is not None and not second.takes_turns:
                            yield from self._loading(job, second.located[0].name, second.come())
                        yield from self._plan(job, loaded, second)
                        for index in range(recipe.count):
                            if index not in work_item.finished:
                                yield from self._generate_image(job, index)
                                self._has_generated = True
                        if self._previews.is_rough(bundle):
                            self._rough_previews = home_of_vae(recipe, work_item.model_paths)
                    return
                except Exception as error:
                    notice = None if job.has_steps else with_less_memory(error, own, self._models)
                    if notice is None:
                        raise
                    traceback.clear_frames(error.__traceback__)
                    job.plan = job.inputs = None
                yield WorkNotice(work_item.job_id, "less_memory", notice)

    def _read_with_t5(self, job: _GenerateJob, checkpoint: str) -> Generator[WorkerEvent, None, T5Prompts]:
        """The prompts as T5 reads them, where the checkpoint has one: before the rest of the model needs the memory."""
        parts, limit = parts_of_passes(job.recipe), RateLimit(_LOADING_INTERVAL_S)
        reading = read_with_t5(job.recipe, parts, Path(checkpoint), self._models, self._embeddings)
        while True:
            try:
                name, fraction = next(reading)
            except StopIteration as ended:
                prompts: T5Prompts = ended.value
                return prompts
            _check_cancelled(job.is_cancelled)
            if limit.is_due():
                yield WorkLoading(job.work_item.job_id, name, fraction)

    @staticmethod
    def _loading(job: _GenerateJob, name: str, fractions: Iterator[float]) -> Iterator[WorkerEvent]:
        loading_limit = RateLimit(_LOADING_INTERVAL_S)
        for fraction in fractions:
            _check_cancelled(job.is_cancelled)
            if loading_limit.is_due():
                yield WorkLoading(job.work_item.job_id, name, fraction)

    def _plan(self, job: _GenerateJob, loaded: JobModels, second: SecondModel | None) -> Iterator[WorkerEvent]:
        """Make the job's plan; yields what is worth knowing before the first step."""
        work_item = job.work_item

        def upscale(image: Image.Image, upscaler: str | ModelRef, size: tuple[int, int]) -> Upscaled:
            path = _upscaler_path(upscaler, work_item)
            return self._upscalers.upscale(image, upscaler, size, path, tile=_TILE, overlap=_TILE_OVERLAP)

        if self._storage == "auto" and loaded.bundle.device.storage_dtype is not None:
            yield WorkNotice(
                work_item.job_id,
                "less_memory",
                f"Memory is short, so the weights of {loaded.bundle.ref.name} are kept in half: it is slower.",
            )
        for notice in loaded.notices:
            yield WorkNotice(work_item.job_id, "lora_in_part", notice)
        for notice in loaded.idle:
            yield WorkNotice(work_item.job_id, "no_effect", notice)
        share = job.sharing.sharing if job.sharing else None
        inputs = PassInputs(work_item.images, self._embeddings, upscale, loaded, job.t5, share, second)
        plan = plan_image(job.recipe, loaded.bundle, inputs)
        for notice in loaded.controls.blank:
            yield WorkNotice(work_item.job_id, "blank_map", notice)
        too_long = [*plan.conditioning.notices, *job.t5.notices]
        if plan.second is not None:
            too_long += plan.second.conditioning.notices
        for notice in dict.fromkeys(too_long):
            yield WorkNotice(work_item.job_id, "prompt_too_long", notice)
        if plan.region and plan.region.notice:
            yield WorkNotice(work_item.job_id, "picture_cut", plan.region.notice)
        job.plan, job.inputs = plan, inputs
        job.preview_limit = RateLimit(self._preview_interval_s)

    def _generate_image(self, job: _GenerateJob, index: int) -> Iterator[WorkerEvent]:
        """One image; when memory or precision does not suffice, again from its first step with a fallback's plan."""
        work_item = job.work_item
        reported = 0  # steps that followers have seen in an attempt before
        while True:
            assert job.plan is not None and job.inputs is not None
            plan, bundle = job.plan, job.plan.bundle
            began = time.monotonic()
            if job.sharing is not None:
                job.sharing.begin_image()
            if bundle.evaluator is not None:
                bundle.evaluator.used.clear()
            try:
                _check_cancelled(job.is_cancelled)
                latents, swapping_limit = None, RateLimit(_LOADING_INTERVAL_S)
                watch = StepWatch(
                    work_item, bundle, self._previews, job.preview_limit, self._decode_rates, self._side_stream
                )
                for progress in run_pass(plan, plan.recipe.for_image(index), job.inputs):
                    if isinstance(progress, Upscaling):
                        yield WorkLoading(work_item.job_id, progress.upscaler, progress.index / progress.total)
                        _check_cancelled(job.is_cancelled)
                        continue
                    if isinstance(progress, Swapping):
                        if swapping_limit.is_due():
                            yield WorkLoading(work_item.job_id, progress.model, progress.fraction)
                        _check_cancelled(job.is_cancelled)
                        continue
                    latents = progress.step.latents
                    preview = watch.look(progress)
                    if progress.index > reported:
                        reported = progress.index
                        job.has_steps = True
                        yield WorkStep(work_item.job_id, index, progress.index, progress.total, preview)
                    _check_cancelled(job.is_cancelled)
                    watch.go_on()
                decode_began = time.monotonic()
                pixels, is_retry = finish(plan, latents)
                if latents is not None:
                    rate = (time.monotonic() - decode_began) / latents.numel()
                    self._decode_rates[bundle.digests["vae"]] = rate
                if is_retry:
                    yield WorkNotice(
                        work_item.job_id,
                        "vae_float32",
                        f"The VAE of {bundle.ref.name} overflowed and was run again in full precision.",
                    )
                seconds = time.monotonic() - began
                batch, share = (job.sharing.batch, job.sharing.share) if job.sharing else (1, 1.0)
                provenance = self._provenance(bundle.device, is_retry, batch, bundle.evaluator)
                yield WorkImage(work_item.job_id, index, pixels, seconds, provenance, share)
                return
            except Exception as error:
                fallback = fallback_for(error, plan, self._models)
                if fallback is None:
                    raise
                traceback.clear_frames(error.__traceback__)
                job.plan, code, message = fallback
            yield WorkNotice(work_item.job_id, code, message)

    def _upscale(self, work_item: WorkItem, task: Upscale, is_cancelled: IsCancelled) -> Iterator[WorkerEvent]:
        began = time.monotonic()
        image = open_input(task.image, work_item.images)
        size = upscaled_size(image.size, task.scale)
        path = _upscaler_path(task.upscaler, work_item)
        tiles = self._upscalers.upscale(image, task.upscaler, size, path, tile=task.tile, overlap=task.overlap)
        for done, total, upscaled in tiles:
            _check_cancelled(is_cancelled)
            yield WorkStep(work_item.job_id, 0, done, total)
            if upscaled is not None:
                seconds = time.monotonic() - began
                yield WorkImage(work_item.job_id, 0, as_raw(upscaled), seconds, self._provenance(self._device))

    def _preprocess(self, work_item: WorkItem, task: Preprocess) -> Iterator[WorkerEvent]:
        began = time.monotonic()
        image = open_input(task.image, work_item.images)
        control_map = self._preprocessors.make(image, task.preprocessor, task.resolution, task.low, task.high)
        seconds = time.monotonic() - began
        yield WorkImage(work_item.job_id, 0, as_raw(control_map), seconds, self._provenance(self._device))

    def _provenance(
        self, device: Device, is_retry: bool = False, batch: int = 1, evaluator: CardEvaluator | None = None
    ) -> dict[str, str]:
        evaluated = {"evaluated": ", ".join(sorted(evaluator.used))} if evaluator and evaluator.used else {}
        return {
            "device": device.label,
            "dtype": device.dtype_label + (" (VAE float32)" if is_retry else ""),
            "threads": str(torch.get_num_threads()),
            "batch": str(batch),
            **evaluated,
            **({"backend": self._openvino.label} if self._openvino and self._openvino.used else {}),
            **self._versions,
        }


def _upscaler_path(upscaler: str | ModelRef, work_item: WorkItem) -> str | None:
    return work_item.model_paths.get(path_key(upscaler)) if isinstance(upscaler, ModelRef) else None


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
