"""The facade: everything that the page and the API can ask of a studio.

Synchronous and safe from any thread. Followers take `event_log()` and `studio/jobs/follow.py`. The parts are in the
other files of this package; this one only puts them together and checks whose things are asked for.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from catalog.detect.embedding_names import prompt_names
from catalog.detect.upscaler_answers import UpscalerAnswers
from catalog.models import ModelEntry
from contract.errors import InvalidRecipe, ModelProblem, NotFound, RequestError, StorageFull, StudioError
from contract.events import Cancelled, Interrupted, JobEvent
from contract.model_tasks import QueueName
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
from contract.tasks import Generate, Preprocess, Task, Upscale
from contract.values import ModelKind
from contract.work import Evict, Pin, Prefetch, Worker, path_key
from studio.downloads.download_task import NetworkWorker
from studio.extensions import Extensions
from studio.gallery.gallery import Gallery
from studio.gallery.gallery_index import reconcile, reconcile_days
from studio.gallery.lost_owners import LostOwners
from studio.gallery.thumbnails import Thumbnails
from studio.jobs.costs import Rates
from studio.jobs.dispatcher import Dispatcher, Runner, Tools, saving
from studio.jobs.engine_state import EngineState
from studio.jobs.event_log import EventLog
from studio.jobs.event_logs import EventLogs
from studio.jobs.idempotency import Once
from studio.jobs.progress import Progress
from studio.jobs.queue import JobQueue
from studio.jobs.queue_view import QueueView
from studio.jobs.read_ahead import read_ahead
from studio.jobs.saver import Notices, Saver
from studio.library.hashes import HashKeeper, ModelHashes
from studio.library.model_facts import ModelFacts
from studio.library.model_list import ModelList
from studio.library.model_tasks import ModelTasks, hub_of
from studio.library.other_hashes import OtherHashes
from studio.metadata.image_files import PictureFolder
from studio.metadata.import_recipe import FoundRecipe, read_recipe
from studio.resolve.check_ahead import check_ahead
from studio.resolve.controls import resolve_preprocess
from studio.resolve.draft import Resolved, resolve
from studio.resolve.model_finder import Finder
from studio.resolve.no_effect import without_effect
from studio.resolve.parts import SizeOf, resolve_upscale
from studio.resolve.prompt_notes import prompt_notes
from studio.resolve.vocabulary import unknown_words
from studio.settings import Settings
from studio.storage.database import Database
from studio.storage.ids import IdSource
from studio.storage.lock import DataLock
from studio.storage.owner_keys import OwnerKeys
from studio.uploads.upload_owners import UploadOwners
from studio.uploads.uploads import Uploads
from studio.workers.model_tasks import DiskWorker

logger = logging.getLogger(__name__)
_HOUSEKEEPING_S = 2.0
_LOOK_AGAIN_S = 10.0
_STOP_S = 4.0


class Studio:
    """One data folder, one queue, one worker.

    Args:
        settings: Where everything lies and how much is allowed.
        worker: Runs the jobs; started and stopped by the studio.
    """

    def __init__(self, settings: Settings, worker: Worker) -> None:
        self.settings = settings
        settings.make_folders()
        self._worker = worker
        self._lock_file = DataLock(settings.data_dir)
        self._database = Database(settings.database_path)
        self._ids = IdSource()
        self._rates = Rates(self._database)
        self._hashes = ModelHashes(self._database)
        self._models = ModelList(
            settings.model_dirs,
            short_hash=self._hashes.short,
            kept=ModelFacts(self._database),
            answers=UpscalerAnswers(settings.data_dir / "tmp" / "engine"),
        )
        self._other_hashes = OtherHashes(self._database)
        self._hash_keeper = HashKeeper(self._hashes, self._models.listed, self._is_busy, others=self._other_hashes)
        self._folder = PictureFolder(settings.outputs_dir, lambda path: self._gallery.knows(path))
        self._owners = owners = OwnerKeys(settings.data_dir)
        self._lost_owners = LostOwners(self._database, owners)
        self._problems: tuple[str, ...] = ()
        self._forgotten: str | None = None  # why, until the data folder is open
        thumbnails = Thumbnails(settings.thumbnails_dir)
        self._gallery = Gallery(self._database, self._folder, thumbnails, owners, lost=self._lost_owners)
        self._uploads = Uploads(settings.uploads_dir)
        self._upload_owners = UploadOwners(self._database, owners)
        self.extensions = Extensions(settings.extension_dirs, settings.data_dir / "extensions.json")
        self._queue = JobQueue(
            self._database, self._ids, self._rates, most_per_owner=settings.max_jobs_per_owner, most=settings.max_jobs
        )
        self._saver = Saver(self._folder, self._gallery, thumbnails, self.extensions, owners, self._ids)
        self._once = Once()
        self._event_logs = EventLogs(self._queue, self._gallery, self._place_of)
        self.model_tasks = ModelTasks(settings, self._models, self._queue_up, self._queue.has)
        self._network = NetworkWorker(hub_of(settings), settings.models_dir, self._look_again)
        self._disk = DiskWorker(self.model_tasks.target_of, self.model_tasks.source_of, self._look_again)
        tools = Tools(
            queue=self._queue,
            worker=worker,
            models=self._models,
            uploads=self._uploads,
            upload_owners=self._upload_owners,
            hashes=self._hashes,
            saver=self._saver,
            rates=self._rates,
            event_log_of=self._event_logs.live,
            on_change=self._announce,
            on_event=self._watch,
            on_end=self._close_event_log,
            finished_of_job=self._gallery.finished_of_job,
            on_picture=self._read_ahead,
            previews=settings.previews,
        )
        runners: dict[QueueName, Runner] = {"engine": worker, "network": self._network, "disk": self._disk}
        self._dispatchers = {
            queue_name: Dispatcher(replace(tools, worker=runner, queue_name=queue_name))
            for queue_name, runner in runners.items()
        }
        self._view = QueueView(self._queue, self._rates, self._progress)
        self._engine = EngineState(worker)
        self._announcing = threading.Lock()
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
            self._lock_file.acquire()
            try:
                self._database.open()
                self._problems = (self._database.problem,) if self._database.problem else ()
                self._say(self._lost_owners.open())
                self._forget_browsers()
                self._recover()
            except BaseException:
                self._database.close()
                self._lock_file.release()
                raise
            self._is_open = True

    def start(self) -> None:
        """Open the data folder and begin to work. Idempotent.

        Raises:
            StudioError: as of `open`.
        """
        self.open()
        with self._state_lock:
            if self._is_started:
                return
            self._is_started = True
        self._warn_of_closed_folders()
        self._worker.start(self._engine.set)
        self._models.begin()
        self._hash_keeper.start()
        for target, name in ((self._index, "gallery-index"), (self._keep_house, "housekeeping")):
            self._threads.append(threading.Thread(target=target, name=name, daemon=True))
            self._threads[-1].start()
        for dispatcher in self._dispatchers.values():
            dispatcher.start(self._indexed)
        self.extensions.watch("on_start")

    def _warn_of_closed_folders(self) -> None:
        try:
            self._folder.check_room(0)
        except StorageFull as error:
            logger.warning("%s %s", error.message, error.hint)
        for folder in self.settings.model_dirs:
            if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
                logger.warning("%s/ can't be read: its models are left out. Correct its permissions.", folder)

    def forget_browsers(self, problem: str) -> None:
        """The secret of the cookies is new: nobody has the owner of before. problem: why; "" if there was none."""
        self._forgotten = problem
        if self._is_open:
            self._forget_browsers()

    def _forget_browsers(self) -> None:
        if self._forgotten is not None:
            self._say(self._lost_owners.lose_all(self._forgotten))
            self._forgotten = None

    def _say(self, problem: str) -> None:
        if problem:
            logger.warning("%s", problem)
            self._problems += (problem,)

    @property
    def notices(self) -> tuple[str, ...]:
        """What was wrong with the settings and the data folder at the start, as sentences."""
        return (*self.settings.notices, *self._problems)

    def _recover(self) -> None:
        for table in ("images", "jobs"):
            newest = self._database.value(f"SELECT MAX(id) FROM {table}")
            if newest:
                self._ids.raise_floor(newest)
        self._rates.load()
        self._folder.sweep()
        for job in self._queue.recover():
            logger.warning("job %s was interrupted twice and is not tried again", job.id)
            self._watch(Interrupted(job_id=job.id, attempt=job.attempt, at=time.time()))

    def _index(self) -> None:
        try:
            reconcile(self._database, self._gallery, self._folder, self._ids, self._stopping.is_set)
        except StudioError as error:
            logger.warning("the gallery could not be brought up to date: %s", error.message)
        finally:
            self._indexed.set()
        self._index_again()
        while not self._stopping.wait(_LOOK_AGAIN_S):
            self._index_again()

    def _index_again(self) -> None:
        """Pictures of an older version get their words; folders that came, or can be read again, their pictures."""
        try:
            self._gallery.words.index_older(self._stopping.is_set)
            reconcile_days(self._database, self._gallery, self._folder, self._ids, self._stopping.is_set)
        except StudioError as error:
            logger.warning("the gallery could not be brought up to date: %s", error.message)

    def wait_until_indexed(self, timeout_s: float) -> bool:
        """Wait until the gallery shows what lies in outputs/."""
        return self._indexed.wait(timeout_s)

    def _keep_house(self) -> None:
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
            self._end_work()
        if was_open:
            self._database.close()
            self._lock_file.release()

    def _end_work(self) -> None:
        self._stopping.set()
        self._hashes.stop()
        self._hash_keeper.stop()
        stopper = threading.Thread(target=self._worker.stop, name="worker-stop", daemon=True)
        for dispatcher in self._dispatchers.values():
            dispatcher.begin_stop()
        stopper.start()
        self._network.stop()
        self._disk.stop()
        deadline = time.monotonic() + _STOP_S
        for dispatcher in self._dispatchers.values():
            dispatcher.stop(max(0.1, deadline - time.monotonic()))
        stopper.join(1.0)
        for thread in self._threads:
            thread.join(0.2)
        self.extensions.watch("on_stop")

    # Jobs

    def submit(
        self, draft: RecipeDraft, owner: str, *, session: str | None = None, key: str | None = None
    ) -> JobHandle:
        """Queue a job; the same key of the same owner queues it once, however often it is sent.

        Raises:
            InvalidRecipe: a value can't be used; names it.
            InvalidInput: a picture that it names is not kept (any more), or does not fit.
            ModelProblem: the model can't be used.
            QueueFull: too many wait.
        """
        return self._once.begin(owner, key, lambda: self._submit(draft, owner, session))

    def _submit(self, draft: RecipeDraft, owner: str, session: str | None) -> JobHandle:
        draft = self.extensions.adjust(draft)
        self._models.catch_up()
        found, notices = self._resolved(draft, owner)
        parent = self._known_parent(draft.parent, owner)
        return self._queue_up(Generate(recipe=found.recipe, parent=parent), owner, session, notices)

    def _resolved(self, draft: RecipeDraft, owner: str) -> tuple[Resolved, Notices]:
        """What would be done, and all that is worth saying of it. Raises as `submit`."""
        found = resolve(draft, self._finder(), max_pixels=self.settings.max_pixels, size_of=self._sizes_for(owner))
        recipe, entry, gray_range = found.recipe, found.entry, cache(self._uploads.gray_range)
        check_ahead(recipe, entry, gray_range)
        called = [name for ref in recipe.embeddings for name in prompt_names(ref.name)]
        return found, (
            *found.notices,
            *unknown_words(recipe.prompt, entry, called),
            *prompt_notes(recipe, takes_strength=entry.variant != "edit"),
            *without_effect(recipe, entry, self._uploads.picture, self._uploads.notes, gray_range),
        )

    def upscale(self, task: Upscale, owner: str, *, session: str | None = None) -> JobHandle:
        """Queue the enlargement of a picture. Raises as `submit`, and InvalidInput for a picture that is gone."""
        finder, parent = self._finder(), self._known_parent(task.parent, owner)
        resolved = resolve_upscale(task, finder, self._sizes_for(owner), self.settings.max_pixels)
        return self._queue_up(resolved.model_copy(update={"parent": parent}), owner, session, finder.notices)

    def preprocess(self, task: Preprocess, owner: str, *, session: str | None = None) -> JobHandle:
        """Queue a preprocessor's preview; its map comes with `Prepared`. Raises as `upscale`."""
        return self._queue_up(resolve_preprocess(task, self._models, self._sizes_for(owner)), owner, session)

    def rerun(self, job_id: str, owner: str, *, session: str | None = None) -> JobHandle:
        """Queue what a job was, once more: the same seed, the same pictures.

        Raises:
            NotFound: there is no such job.
            RequestError: it was no picture's; else as `submit`.
        """
        task = self._queue.record(job_id, owner).task
        match task:
            case Generate():
                draft = RecipeDraft.read(task.recipe.canonical_json())
                return self.submit(draft.model_copy(update={"parent": task.parent}), owner, session=session)
            case Upscale():
                return self.upscale(task, owner, session=session)
            case Preprocess():
                return self.preprocess(task, owner, session=session)
        raise RequestError("Only what makes a picture is run again by this.", "Ask for it anew.", code="not_repeated")

    def _finder(self) -> Finder:
        return Finder(self._models, self._known_hash, self._model_with_hash)

    def _progress(self, job_id: str) -> Progress | None:
        found = (dispatcher.progress(job_id) for dispatcher in self._dispatchers.values())
        return next((progress for progress in found if progress is not None), None)

    def _look_again(self) -> None:
        """A model has come: it is in the list at once."""
        self._models.all(fresh=True)

    def _queue_up(
        self, task: Task, owner: str, session: str | None, notices: Sequence[tuple[str, str]] = ()
    ) -> JobHandle:
        job = self._queue.add(task, owner, session, notices)
        self._event_logs.of(job)
        self._announce()
        return JobHandle(id=job.id, position=self._place_of(job.id)[0])

    def _sizes_for(self, owner: str) -> SizeOf:
        """Sizes of the pictures that the owner brought; others' are as good as not there."""
        return lambda sha256: self._uploads.size(sha256) if self._upload_owners.has(sha256, owner) else None

    def _known_parent(self, parent: str | None, owner: str) -> str | None:
        """A parent is provenance: one that was deleted meanwhile (or is another's) holds nothing up."""
        return parent if parent is not None and self._gallery.find(parent, owner) else None

    def _known_hash(self, entry: ModelEntry) -> str | None:
        try:
            return self._hashes.known(entry.path)
        except OSError:
            return None

    def _model_with_hash(self, sha256: str) -> ModelEntry | None:
        """A usable model whose sha256 is or begins so."""
        folders = self._hashes.folders_of(sha256)
        return next(
            (
                entry
                for entry in self._models.all()
                if entry.path in folders
                and entry.problem is None
                and (self._known_hash(entry) or "").startswith(sha256.lower())
            ),
            None,
        )

    def _model_with_any_hash(self, beginning: str) -> ModelEntry | None:
        """The same by any hash that a program knows it by: its sha256, A1111's of LoRAs, a trainer's."""
        return self._model_with_hash(beginning) or self._other_hashes.find(beginning, self._models.all())

    def job(self, job_id: str, owner: str) -> JobView:
        """A job with its progress. Raises NotFound for unknown or another owner's."""
        return self._view.job(self._queue.record(job_id, owner))

    def cancel(self, job_id: str, owner: str) -> None:
        """Stop a job, waiting or running; one that has ended stays as it is. Raises NotFound."""
        job = self._queue.record(job_id, owner)
        if self._queue.withdraw(job_id, owner):
            event_log = self._event_logs.live(job)
            event = Cancelled(job_id=job_id, attempt=job.attempt, at=time.time())
            event_log.append(event)
            self._watch(event)
            self._close_event_log(job, event_log)
            self._announce()
        elif self._queue.record(job_id, owner).state == "running":
            self._dispatchers[job.task.queue_name].cancel(job_id)

    def event_log(self, job_id: str, owner: str) -> EventLog:
        """What happens to a job, for following. Raises NotFound."""
        return self._event_logs.of(self._queue.record(job_id, owner))

    def move_up(self, job_id: str, owner: str) -> None:
        """Let a waiting job go before the one before it of the same owner. Raises NotFound."""
        self._queue.move_up(job_id, owner)
        self._announce()

    def queue(self, owner: str) -> tuple[QueueRow, ...]:
        """What runs, what waits, and the owner's jobs that ended today. Others' rows say only how long."""
        return self._view.rows(owner)

    def jobs_of_session(self, owner: str, session: str) -> tuple[JobRecord, ...]:
        """A window's unfinished jobs, oldest first."""
        return self._queue.records("owner = ? AND session = ? AND state IN ('queued', 'running')", (owner, session))

    def job_to_follow(self, owner: str, session: str) -> JobRecord | None:
        """What a window that was just loaded shows: its own first unfinished job, else the owner's newest
        unfinished job of a window that follows nothing."""
        mine = [job for job in self.jobs_of_session(owner, session) if job.task.queue_name == "engine"]
        if mine:
            return next((job for job in mine if job.state == "running"), mine[0])
        jobs = self._queue.records("owner = ? AND state IN ('queued', 'running')", (owner,))
        followed = {job.session for job in jobs if self._event_logs.is_followed(job.id)}
        free = [
            job
            for job in jobs
            if not self._event_logs.is_followed(job.id)
            and job.task.queue_name == "engine"
            and (job.session is None or job.session not in followed)
        ]
        return free[-1] if free else None

    def retry_save(self, job_id: str, owner: str) -> tuple[ImageRecord, ...]:
        """Save what could not be saved and is still in memory; the job is done when nothing of it is missing.

        Raises:
            NotFound: nothing is kept of this job.
            RequestError: it still runs.
            StorageFull: something can still not be saved; what could be is.
        """
        job = self._queue.record(job_id, owner)
        if job.state in ("queued", "running"):
            raise RequestError("The job still runs.", "Try again when it has ended.", code="job_running")
        with saving():
            retried = self._saver.retry(job.id)
        maps = [one for one in retried.saved if isinstance(one, StoredUpload)]
        count = len(maps) or len(self._gallery.finished_of_job(job.id))
        is_complete = (
            retried.problem is None and count >= job.task.picture_count and (job.error_code or "").startswith("storage")
        )
        images = {record.id: image for image, record in self._gallery.of_job(job.id, owner)}
        self._event_logs.extend(job, retried.saved, lambda image_id: images.get(image_id, 0), is_complete)
        if is_complete:
            self._queue.finish(job.id, "done")
        if retried.problem:
            raise retried.problem
        return tuple(one for one in retried.saved if isinstance(one, ImageRecord))

    def _read_ahead(self, running: JobRecord) -> None:
        coming = read_ahead(running, self._queue, self._models)
        if coming is not None:
            self._worker.tell(coming)

    def _place_of(self, job_id: str) -> tuple[int, float | None]:
        return self._view.place(job_id)

    def _announce(self) -> None:
        with self._announcing:
            for job_id, (position, wait_s) in self._view.places().items():
                self._event_logs.say_position(job_id, position, wait_s)

    def _watch(self, event: JobEvent) -> None:
        self.extensions.watch("on_event", event=event)

    def _close_event_log(self, job: JobRecord, event_log: EventLog) -> None:
        try:
            self._event_logs.close(job, event_log)
        except StudioError as error:
            logger.warning("the log of job %s could not be kept: %s", job.id, error.message)

    # Pictures

    def images(self, owner: str, limit: int = 60, before: str | None = None, search: str | None = None) -> ImagePage:
        """A page of the owner's pictures, newest first."""
        return self._gallery.page(owner, limit, before, search)

    @property
    def has_lost_pictures(self) -> bool:
        """Whether there are pictures whose owner nobody knows any more."""
        return self._lost_owners.has_lost

    def adopt_lost_pictures(self, owner: str) -> None:
        """Give them to who administers the program."""
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
        """What a picture says it was made with, as a draft that its owner can submit. Raises InvalidInput, TooLarge."""

        def check(draft: RecipeDraft) -> None:
            try:
                adjusted = self.extensions.adjust(draft)
            except InvalidRecipe:
                return  # an extension's fault is none of the picture's, and leaving out a field mends nothing
            self._resolved(adjusted, owner)

        return read_recipe(data, self._models, self._model_with_any_hash, check=check)

    def add_upload(self, data: bytes, owner: str) -> StoredUpload:
        """Keep a picture someone brought. Raises InvalidInput, TooLarge, StorageFull."""
        return self._keep_upload(data, owner)

    def upload_from_image(self, image_id: str, owner: str) -> StoredUpload:
        """Keep a picture of the gallery as one to work from. Raises NotFound, StorageFull."""
        return self._keep_upload(self._gallery.file(image_id, owner).read_bytes(), owner)

    def _keep_upload(self, data: bytes, owner: str) -> StoredUpload:
        kept = self._uploads.add(data)
        self._upload_owners.add(kept.sha256, owner)
        return kept

    def upload_file(self, sha256: str, owner: str) -> Path:
        """The PNG of a picture that the owner brought. Raises NotFound."""
        path = self._uploads.path(sha256)
        if not path.is_file() or not self._upload_owners.has(sha256, owner):
            raise NotFound("There is no such picture.", "Add it again.")
        return path

    def upload_size(self, sha256: str, owner: str) -> tuple[int, int] | None:
        """Width and height of a picture that the owner brought; None if there is none."""
        return self._sizes_for(owner)(sha256)

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

    def _is_busy(self) -> bool:
        return self._engine.now().state in ("starting", "loading", "working")

    def prefetch(self, name: str, kind: ModelKind = "checkpoint") -> None:
        """Read a model into memory beside the work, because it will be asked for.

        Raises:
            NotFound: there is none of that name.
            ModelProblem: it can't be used.
        """
        entry = self._models.get(name, kind)
        if entry.problem:
            raise ModelProblem(entry.problem, entry.hint)
        self._worker.tell(Prefetch(entry.ref, str(entry.path)))

    def evict(self, name: str, kind: ModelKind = "checkpoint") -> None:
        """Let go of a model's memory, unless a job works with it. Raises NotFound."""
        self._worker.tell(Evict(path_key(self._models.get(name, kind).ref)))

    def pin(self, name: str, kind: ModelKind = "checkpoint", *, is_pinned: bool) -> None:
        """Keep a model in memory whatever else is loaded, or no longer. Raises NotFound."""
        self._worker.tell(Pin(path_key(self._models.get(name, kind).ref), is_pinned))

    def engine(self) -> EngineStatus:
        """What the engine does, why the queue stands still if it does, and which extensions are off."""
        return self._engine.now().model_copy(
            update={"held": self._dispatchers["engine"].held, "extensions_off": self.extensions.sentences}
        )

    def subscribe_engine(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` after every change of the engine's state; returns a function that ends it."""
        return self._engine.subscribe(wake)
