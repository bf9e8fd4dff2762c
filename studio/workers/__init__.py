"""Ways to run the engine: `inline` in this process, `process` in a spawned one.

The only files of the studio that reach the engine, and they import it inside functions.
"""

from typing import TYPE_CHECKING

from catalog.models import bundled_model
from catalog.preprocessors import annotator_folders
from contract.work import Worker

if TYPE_CHECKING:
    from studio.settings import Settings


def make_worker(settings: "Settings") -> Worker:
    """The kind of worker that the settings name; the bundled model is loaded ahead of the first job."""
    from studio.workers.inline import InlineWorker
    from studio.workers.process import ProcessWorker

    options: dict[str, object] = {
        "device": settings.device,
        "threads": settings.threads,
        "cache_dir": str(settings.data_dir / "tmp" / "engine"),
        "precision": settings.precision,
        "offload": settings.offload,
        "attention": settings.attention,
        "backend": settings.backend,
        "storage": settings.storage,
        "memory_budget_bytes": settings.memory_gb * 10**9 if settings.memory_gb else None,
        "annotator_dirs": tuple(map(str, annotator_folders(settings.model_dirs))),
    }
    entry = bundled_model(settings.model_dirs)
    warm = None
    if entry:
        warm = (str(entry.path), entry.ref)
    if settings.worker == "inline":
        return InlineWorker(options, warm)
    return ProcessWorker(options, warm)
