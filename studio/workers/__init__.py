"""Ways to run the engine: `inline` in this process, `process` in one of its own for each device, `ray` elsewhere.

The only files of the studio that reach the engine, and they import it inside functions.
"""

import os
from typing import TYPE_CHECKING

from catalog.models import bundled_model
from catalog.preprocessors import annotator_folders
from contract.recipe import ModelRef
from contract.work import Worker, Workers

if TYPE_CHECKING:
    from studio.settings import Settings


def make_workers(settings: "Settings") -> tuple[tuple[Worker, ...], Workers | None]:
    """The workers that the settings name, and what finds more of them; the bundled model is loaded ahead of the jobs.

    Raises:
        StudioError: Ray is asked for and not installed.
    """
    from studio.workers.cards import OtherCards
    from studio.workers.inline import InlineWorker
    from studio.workers.process import ProcessWorker

    devices = settings.device.split(",")
    options: dict[str, object] = {
        "device": devices[0],
        "threads": settings.threads,
        "cache_dir": str(settings.data_dir / "tmp" / "engine"),
        "precision": settings.precision,
        "offload": settings.offload,
        "attention": settings.attention,
        "cuda_graphs": settings.cuda_graphs,
        "compile": settings.compile,
        "cfg_split": settings.cfg_split,
        "backend": settings.backend,
        "storage": settings.storage,
        "memory_budget_bytes": settings.memory_gb * 10**9 if settings.memory_gb else None,
        "batch_jobs": settings.batch_jobs,
        "annotator_dirs": tuple(map(str, annotator_folders(settings.model_dirs))),
    }
    entry = bundled_model(settings.model_dirs)
    warm: tuple[str, ModelRef] | None = None
    if entry:
        warm = (str(entry.path), entry.ref)
    if settings.workers:
        from studio.workers.ray import RayWorkers

        return (), RayWorkers(settings.workers, options, warm)
    if settings.worker == "inline":
        return (InlineWorker(options, warm),), None
    if settings.device == "auto":

        def for_card(device: str, count: int) -> Worker:
            return ProcessWorker(options | {"device": device, "sharers": count}, warm)

        return (ProcessWorker(options, warm),), OtherCards(for_card)
    options["sharers"] = len(devices)
    if len(devices) > 1 and settings.threads is None:
        options["threads"] = max(1, (os.cpu_count() or 1) // len(devices))
    return tuple(ProcessWorker(options | {"device": device}, warm) for device in devices), None
