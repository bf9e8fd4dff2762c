"""What runs on a machine of a Ray cluster: an actor that holds a process worker, as the studio itself does at home.

The actor is light; torch is in the process that it starts (`process.py`, `child.py`), whose death and hangs it notices.
It opens no database and writes no image; models are looked up on its own machine (`model_lookup.py`).
"""

import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from catalog.preprocessors import annotator_folders
from contract.recipe import ModelRef
from contract.records import EngineStatus
from contract.work import Command, Prefetch, WorkerEvent, WorkItem
from studio.workers.child import Mailbox
from studio.workers.model_lookup import ContentHashes, Listing, places_here
from studio.workers.process import ProcessWorker

_MOST_MESSAGES = 32


def model_folders_here() -> tuple[Path, ...]:
    """The folders of models of this machine: DARKROOM_MODELS, as for the program itself."""
    listed = os.environ.get("DARKROOM_MODELS", "").split(os.pathsep)
    return tuple(Path(folder) for folder in listed if folder)


class EngineActor:
    """One device of a node. Ray calls its methods in several threads.

    Args:
        options: As of `ProcessWorker`; folders of the studio's machine are replaced by this one's.
        warm: Model to load ahead, if it is at the same path here.
        factory: As of `ProcessWorker`.
    """

    def __init__(self, options: Mapping[str, object], warm: tuple[str, ModelRef] | None, factory: str) -> None:
        # A spawned process imports its parent's main module again: here Ray's, which it has no use for.
        vars(sys.modules["__main__"]).pop("__file__", None)
        self._folders, self._hashes = model_folders_here(), ContentHashes()
        here = {
            "cache_dir": str(Path.home() / ".cache" / "darkroom"),
            "annotator_dirs": tuple(map(str, annotator_folders(self._folders))),
        }
        if warm is not None and not Path(warm[0]).exists():
            warm = None
        self._mailbox = Mailbox()
        self._running = threading.Lock()
        self._worker = ProcessWorker({**options, **here}, warm, factory=factory)
        self._worker.start(self._mailbox.put)

    def pid(self) -> int:
        """Of this process."""
        return os.getpid()

    def find(
        self, paths: Mapping[str, str], listings: Mapping[str, Listing], sha256: Mapping[str, str]
    ) -> dict[str, str]:
        """As `places_here`."""
        return places_here(paths, listings, sha256, self._folders, self._hashes)

    def begin(self, work_item: WorkItem) -> None:
        """Run a work item, whose paths are this machine's; its events come with `take`."""
        decoders = tuple(path for path in work_item.preview_decoders if Path(path).exists())
        here = replace(work_item, preview_decoders=decoders)

        def run() -> None:
            with self._running:
                for event in self._worker.run([here]):
                    self._mailbox.put(event)

        threading.Thread(target=run, name="engine-run", daemon=True).start()

    def take(self, timeout_s: float) -> tuple[EngineStatus, list[WorkerEvent]]:
        """The state of the engine, and the events since the last call; waits for news so long at most."""
        messages = self._mailbox.take(timeout_s, _MOST_MESSAGES)
        events: list[WorkerEvent] = [message for message in messages if not isinstance(message, EngineStatus)]
        return self._worker.status(), events

    def cancel(self, job_id: str) -> None:
        """As of a worker."""
        self._worker.cancel(job_id)

    def tell(self, command: Command) -> None:
        """As of a worker; a model that is elsewhere here is read when its job comes."""
        if not isinstance(command, Prefetch) or Path(command.path).exists():
            self._worker.tell(command)

    def stop(self) -> None:
        """End the engine's process."""
        self._worker.stop()
