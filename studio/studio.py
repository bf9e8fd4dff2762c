"""The facade: everything that the page and the API can ask of a studio.

Synchronous and safe from any thread. Followers take `event_log()` and `studio/jobs/follow.py`. This file puts the
parts together, opens and closes them; drafts become jobs in `submission.py`, jobs are tracked in
`jobs/job_tracker.py`.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from catalog.detect.upscaler_answers import UpscalerAnswers
from catalog.models import ModelEntry
from contract.errors import ModelProblem, StorageFull, StudioError
from contract.events import Interrupted
from contract.recipe import RecipeDraft
from contract.records import (
    EngineStatus,
    ImagePage,
    ImageRecord,
    JobHandle,
    JobRecord,
    JobView,
    QueueRow,
    StoredUpload,
)
from contract.tasks import Preprocess, Upscale
from contract.values import ModelKind
from contract.work import Evict, Pin, Prefetch, Worker, Workers, path_key
from studio.dispatchers import Dispatchers
from studio.downloads.download_task import NetworkWorker
from studio.extensions import Extensions
from studio.gallery.gallery import Gallery
from studio.gallery.gallery_index import reconcile, reconcile_days
from studio.gallery.lost_owners import LostOwners
from studio.gallery.thumbnails import Thumbnails
from studio.jobs.costs import Rates
from studio.jobs.dispatcher import Tools
from studio.jobs.engine_pool import EnginePool
from studio.jobs.event_log import EventLog
from studio.jobs.job_tracker import JobTracker
from studio.jobs.queue import JobQueue
from studio.jobs.saver import Saver
from studio.library.hash_lookup import HashLookup
from studio.library.hashes import HashKeeper, ModelHashes
from studio.library.model_facts import ModelFacts
from studio.library.model_list import ModelList
from studio.library.model_tasks import ModelTasks, hub_of
from studio.library.other_hashes import OtherHashes
from studio.library.set_predictions import SetPredictions
from studio.metadata.image_files import PictureFolder
from studio.metadata.import_recipe import FoundRecipe
from studio.model_settings import ModelSettings
from studio.prompts.library import PromptLibrary
from studio.settings import Settings
from studio.storage.database import Database
from studio.storage.ids import IdSource
from studio.storage.lock import DataLock
from studio.storage.owner_keys import OwnerKeys
from studio.submission import Submission
from studio.uploads.owned_uploads import OwnedUploads
from studio.uploads.upload_owners import UploadOwners
from studio.uploads.uploads import Uploads
from studio.workers.model_tasks import DiskWorker

logger = logging.getLogger(__name__)
_HOUSEKEEPING_S = 2.0
_REINDEX_S = 10.0
_STOP_S = 4.0


class Studio:
    """One data folder, one queue, one worker a device.

    Args:
        settings: Where everything lies and how much is allowed.
        workers: Run the jobs; started and stopped by the studio.
        more: Finds further ones while the program runs.
    """

    def __init__(self, settings: Settings, *workers: Worker, more: Workers | None = None) -> None:
        self.settings = settings
        settings.make_folders()
        self._engine = EnginePool(more)
        self._lock_file = DataLock(settings.data_dir)
        self._database = database = Database(settings.database_path)
        self._ids = IdSource()
        self._rates = Rates(database)
        self._hashes = ModelHashes(database)
        predictions = SetPredictions(database)
        self._models = ModelList(
            settings.model_dirs,
            short_hash=self._hashes.short,
            kept=ModelFacts(database),
            answers=UpscalerAnswers(settings.data_dir / "tmp" / "engine"),
            predictions=predictions,
        )
        other_hashes = OtherHashes(database)
        self._hash_keeper = HashKeeper(self._hashes, self._models.listed, self._engine.is_busy, others=other_hashes)
        self._hash_lookup = HashLookup(self._models, self._hashes, other_hashes)
        owners = OwnerKeys(settings.data_dir)
        self._lost_owners = LostOwners(database, owners)
        thumbnails = Thumbnails(settings.thumbnails_dir)
        self._folder = PictureFolder(settings.outputs_dir, lambda path: self._gallery.knows(path))
        self._gallery = Gallery(database, self._folder, thumbnails, owners, lost=self._lost_owners)
        self._uploads = Uploads(settings.uploads_dir)
        self._owned_uploads = OwnedUploads(self._uploads, UploadOwners(database, owners))
        self.prompts = PromptLibrary(settings.data_dir, settings.model_dirs)
        self.extensions = Extensions(settings.extension_dirs, settings.data_dir / "extensions.json")
        self._queue = JobQueue(
            database, self._ids, self._rates, most_per_owner=settings.max_jobs_per_owner, most=settings.max_jobs
        )
        self._saver = Saver(self._folder, self._gallery, thumbnails, self.extensions, owners, self._ids)
        self._tracker = JobTracker(
            self._queue, self._gallery, self._saver, self._rates, self._models, self._engine, self.extensions
        )
        self._event_logs = self._tracker.event_logs
        self._submission = Submission(
            settings.max_pixels,
            self._models,
            self._hash_lookup,
            self._owned_uploads,
            self._gallery,
            self.extensions,
            self.prompts,
            self._queue,
            self._tracker,
        )
        finder = self._submission.finder
        self.model_settings = ModelSettings(database, owners, self._models, predictions, finder, settings.max_pixels)
        self.model_tasks = ModelTasks(settings, self._models, self._tracker.enqueue, self._queue.has)
        self._network = NetworkWorker(hub_of(settings), settings.models_dir, self._refresh_models)
        self._disk = DiskWorker(self.model_tasks.target_of, self.model_tasks.source_of, self._refresh_models)
        self._dispatchers = Dispatchers(
            Tools(
                queue=self._queue,
                router=self._tracker.router,
                pool=self._engine,
                jobs=self._tracker,
                models=self._models,
                uploads=self._owned_uploads,
                hashes=self._hashes,
                gallery=self._gallery,
                saver=self._saver,
                rates=self._rates,
                previews=settings.previews,
            ),
            self._tracker.dispatchers,
            self._engine,
            workers,
            more,
            {"network": self._network, "disk": self._disk},
        )
        self._problems: tuple[str, ...] = ()
        self._cookie_problem: str | None = None  # why browsers are forgotten, until the data folder is open
        self._stopping = threading.Event()
        self._indexed = threading.Event()
        self._threads: list[threading.Thread] = []
        self._state_lock = threading.Lock()
        self._is_open = self._is_started = False

    # Life

    def open(self) -> None:
        """Take the data folder; nothing works on it yet. Idempotent.

        Raises:
            StudioError: another program uses the folder, or it can't be written.
        """
        with self._state_lock:
            if self._is_open:
                return
            with ExitStack() as undo:
                self._lock_file.acquire()
                undo.callback(self._lock_file.release)
                undo.callback(self._database.close)
                self._database.open()
                self._problems = (self._database.problem,) if self._database.problem else ()
                self._add_problem(self._lost_owners.open())
                self._forget_browsers()
                for table in ("images", "jobs"):
                    newest = self._database.value(f"SELECT MAX(id) FROM {table}")
                    if newest:
                        self._ids.raise_floor(newest)
                self._rates.load()
                self._folder.sweep()
                for job in self._queue.recover():
                    logger.warning("job %s was interrupted twice and is not tried again", job.id)
                    self._tracker.on_event(Interrupted(job_id=job.id, attempt=job.attempt, at=time.time()))
                undo.pop_all()  # nothing failed: they stay open
            self._is_open = True

    def start_worker(self) -> None:
        """Begin to load the engine, ahead of `start`. Idempotent."""
        self._dispatchers.start_workers()

    def start(self) -> None:
        """Open the data folder and begin to work. Idempotent.

        Raises:
            StudioError: as of `open`.
        """
        self.open()
        self.start_worker()
        with self._state_lock:
            if self._is_started:
                return
            self._is_started = True
        try:
            self._folder.check_room(0)
        except StorageFull as error:
            logger.warning("%s %s", error.message, error.hint)
        for folder in self.settings.model_dirs:
            if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
                logger.warning("%s/ can't be read: its models are left out. Correct its permissions.", folder)
        self._models.begin()
        self._hash_keeper.start()
        for target, name in ((self._index, "gallery-index"), (self._housekeep, "housekeeping")):
            self._threads.append(threading.Thread(target=target, name=name, daemon=True))
            self._threads[-1].start()
        self._dispatchers.start(self._indexed)
        self.extensions.watch("on_start")

    def forget_browsers(self, problem: str) -> None:
        """Forget all browsers, since the secret of the cookies is new. problem: why; "" if there was none before."""
        self._cookie_problem = problem
        if self._is_open:
            self._forget_browsers()

    def _forget_browsers(self) -> None:
        if self._cookie_problem is not None:
            self._add_problem(self._lost_owners.lose_all(self._cookie_problem))
            self._cookie_problem = None

    def _add_problem(self, problem: str) -> None:
        if problem:
            logger.warning("%s", problem)
            self._problems += (problem,)

    @property
    def notices(self) -> tuple[str, ...]:
        """Problems with the settings and the data folder at the start, as sentences."""
        return (*self.settings.notices, *self._problems)

    def _index(self) -> None:
        try:
            reconcile(self._database, self._gallery, self._folder, self._ids, self._stopping.is_set)
        except StudioError as error:
            logger.warning("the gallery could not be updated: %s", error.message)
        finally:
            self._indexed.set()
        self._index_again()
        while not self._stopping.wait(_REINDEX_S):
            self._index_again()

    def _index_again(self) -> None:
        """Index images of older versions for the search, and folders that were added or can be read again."""
        try:
            self._gallery.words.index_older(self._stopping.is_set)
            reconcile_days(self._database, self._gallery, self._folder, self._ids, self._stopping.is_set)
        except StudioError as error:
            logger.warning("the gallery could not be updated: %s", error.message)

    def wait_until_indexed(self, timeout_s: float) -> bool:
        """Wait until the gallery shows the files of outputs/."""
        return self._indexed.wait(timeout_s)

    def _housekeep(self) -> None:
        while not self._stopping.wait(_HOUSEKEEPING_S):
            try:
                self._gallery.purge()
                self._saver.forget_old()
                self._uploads.sweep_sometimes(self._queue.named_uploads)
                self._queue.record_late()
                self._event_logs.close_late()
                self._queue.forget_old()
            except (StudioError, OSError) as error:
                logger.warning("housekeeping: %s", error)

    def stop(self) -> None:
        """End everything within five seconds; what runs is taken up again at the next start. Idempotent."""
        with self._state_lock:
            was_started, was_open = self._is_started, self._is_open
            self._is_started = self._is_open = False
        if was_started:
            self._stopping.set()
            self._hashes.stop()
            self._hash_keeper.stop()
            self._dispatchers.begin_stop()
            self._network.stop()
            self._disk.stop()
            self._dispatchers.stop(_STOP_S)
            for thread in self._threads:
                thread.join(0.2)
            self.extensions.watch("on_stop")
        self._dispatchers.stop_workers()
        if was_open:
            self._database.close()
            self._lock_file.release()

    # Jobs

    def submit(
        self, draft: RecipeDraft, owner: str, *, session: str | None = None, key: str | None = None
    ) -> JobHandle:
        """Queue a job; the same key of the same owner queues it once, however often it is sent.

        Raises:
            InvalidRecipe: a value can't be used; names it.
            InvalidInput: an upload that it names is not kept (any more), or does not fit.
            ModelProblem: the model can't be used.
            QueueFull: too many wait.
        """
        return self._submission.submit(draft, owner, session=session, key=key)

    def upscale(self, task: Upscale, owner: str, *, session: str | None = None) -> JobHandle:
        """Queue the upscaling of an image. Raises as `submit`, and InvalidInput for an image that is gone."""
        return self._submission.upscale(task, owner, session=session)

    def preprocess(self, task: Preprocess, owner: str, *, session: str | None = None) -> JobHandle:
        """Queue a preprocessor's preview; its map comes with `Prepared`. Raises as `upscale`."""
        return self._submission.preprocess(task, owner, session=session)

    def rerun(self, job_id: str, owner: str, *, session: str | None = None) -> JobHandle:
        """Queue the same job again: the same seed, the same images.

        Raises:
            NotFound: there is no such job.
            RequestError: it made no image; else as `submit`.
        """
        return self._submission.rerun(job_id, owner, session=session)

    def job(self, job_id: str, owner: str) -> JobView:
        """A job with its progress. Raises NotFound for unknown or another owner's."""
        return self._tracker.view(job_id, owner)

    def cancel(self, job_id: str, owner: str) -> None:
        """Stop a job, waiting or running; one that has ended stays as it is. Raises NotFound."""
        self._tracker.cancel(job_id, owner)

    def event_log(self, job_id: str, owner: str) -> EventLog:
        """The event log of a job, to follow it. Raises NotFound."""
        return self._tracker.event_log(job_id, owner)

    def move_up(self, job_id: str, owner: str) -> None:
        """Let a waiting job go before the one before it of the same owner. Raises NotFound."""
        self._tracker.move_up(job_id, owner)

    def queue(self, owner: str) -> tuple[QueueRow, ...]:
        """The running and waiting jobs, and the owner's that ended today. Rows of others show only durations."""
        return self._tracker.rows(owner)

    def jobs_of_session(self, owner: str, session: str) -> tuple[JobRecord, ...]:
        """A browser session's unfinished jobs, oldest first."""
        return self._tracker.of_session(owner, session)

    def job_to_follow(self, owner: str, session: str) -> JobRecord | None:
        """The job that a page shows when it loads; None if none is unfinished and unfollowed."""
        return self._tracker.to_follow(owner, session)

    def retry_save(self, job_id: str, owner: str) -> tuple[ImageRecord, ...]:
        """Save what could not be saved and is still in memory; the job is done when nothing of it is missing.

        Raises:
            NotFound: nothing is kept of this job.
            RequestError: it still runs.
            StorageFull: something can still not be saved; what could be is.
        """
        return self._tracker.retry_save(job_id, owner)

    # Images and uploads

    def images(self, owner: str, limit: int = 60, before: str | None = None, search: str | None = None) -> ImagePage:
        """A page of the owner's pictures, newest first."""
        return self._gallery.page(owner, limit, before, search)

    @property
    def has_lost_pictures(self) -> bool:
        """Whether there are images whose owner is unknown."""
        return self._lost_owners.has_lost

    def adopt_lost_pictures(self, owner: str) -> None:
        """Give them to the administrator."""
        self._gallery.adopt_lost(owner)

    def image(self, image_id: str, owner: str) -> ImageRecord:
        """One picture. Raises NotFound."""
        return self._gallery.get(image_id, owner)

    def image_file(self, image_id: str, owner: str) -> Path:
        """The PNG. Raises NotFound."""
        return self._gallery.file(image_id, owner)

    def thumbnail_file(self, image_id: str, owner: str) -> Path:
        """A JPEG of at most 320 px. Raises NotFound."""
        return self._gallery.thumbnail(image_id, owner)

    def delete_image(self, image_id: str, owner: str) -> None:
        """Hide a picture at once; its file goes after ten seconds. Raises NotFound."""
        self._gallery.delete(image_id, owner)

    def restore_image(self, image_id: str, owner: str) -> None:
        """Undo a deletion. Raises NotFound when it is too late."""
        self._gallery.restore(image_id, owner)

    def set_favorite(self, image_id: str, owner: str, favorite: bool) -> None:
        """Mark or unmark a picture. Raises NotFound."""
        self._gallery.set_favorite(image_id, owner, favorite)

    def read_recipe(self, data: bytes, owner: str = "") -> FoundRecipe:
        """Read the generation parameters of an image as a draft to submit. Raises InvalidInput, TooLarge."""
        return self._submission.read_recipe(data, owner)

    def add_upload(self, data: bytes, owner: str) -> StoredUpload:
        """Keep an uploaded image. Raises InvalidInput, TooLarge, StorageFull."""
        return self._owned_uploads.add(data, owner)

    def upload_from_image(self, image_id: str, owner: str) -> StoredUpload:
        """Keep an image of the gallery as an upload. Raises NotFound, StorageFull."""
        return self._owned_uploads.add(self._gallery.file(image_id, owner).read_bytes(), owner)

    def upload_file(self, sha256: str, owner: str) -> Path:
        """The PNG of an upload of the owner's. Raises NotFound."""
        return self._owned_uploads.path(sha256, owner)

    def upload_size(self, sha256: str, owner: str) -> tuple[int, int] | None:
        """Width and height of an upload of the owner's; None if there is none."""
        return self._owned_uploads.size(sha256, owner)

    # Models and engine

    def models(self, *, fresh: bool = False) -> tuple[ModelEntry, ...]:
        """All models, usable or not; the folders are read again every few seconds."""
        return self._models.all(fresh=fresh)

    @property
    def models_generation(self) -> int:
        """A number that grows when the list of models changes."""
        return self._models.generation

    def model(self, name: str, kind: ModelKind | None = None) -> ModelEntry:
        """One model; kind None: any. Raises NotFound."""
        return self._models.get(name, kind)

    def _refresh_models(self) -> None:
        """List a model that was just added at once."""
        self._models.all(fresh=True)

    def prefetch(self, name: str, kind: ModelKind = "checkpoint") -> None:
        """Read a model into memory beside the work, because it will be asked for.

        Raises:
            NotFound: there is none of that name.
            ModelProblem: it can't be used.
        """
        entry = self._models.get(name, kind)
        if entry.problem:
            raise ModelProblem(entry.problem, entry.hint)
        key = path_key(entry.ref)
        self._engine.tell(Prefetch(entry.ref, str(entry.path)), self._tracker.router.seat_for(key))

    def evict(self, name: str, kind: ModelKind = "checkpoint") -> None:
        """Let go of a model's memory, unless a job works with it. Raises NotFound."""
        self._engine.tell(Evict(path_key(self._models.get(name, kind).ref)))

    def pin(self, name: str, kind: ModelKind = "checkpoint", *, is_pinned: bool) -> None:
        """Keep a model in memory whatever else is loaded, or no longer. Raises NotFound."""
        self._engine.tell(Pin(path_key(self._models.get(name, kind).ref), is_pinned))

    def engine(self) -> EngineStatus:
        """The engine's state, why the queue is held (if it is), and which extensions are off."""
        return self._engine.now().model_copy(
            update={"held": self._dispatchers.held, "extensions_off": self.extensions.sentences}
        )

    def subscribe_engine(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` after every change of the engine's state; returns a function that ends it."""
        return self._engine.subscribe(wake)
