"""From painted pixels to a picture in the gallery: finish hooks, PNG, index, thumbnail. Control maps are kept alike.

What can't be kept stays in memory for ten minutes, as far as it came, so that "Try again" can go on from there: a
picture counts as saved when it is on the disk and in the gallery, not before.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from contract.errors import NotFound, StorageFull, StudioError
from contract.recipe import Recipe
from contract.records import ImageRecord, JobRecord, StoredUpload
from contract.tasks import Upscale
from contract.work import RawImage, WorkImage
from studio.extensions import Extensions
from studio.gallery.gallery import Gallery
from studio.gallery.thumbnails import Thumbnails
from studio.jobs.costs import expected_pixels
from studio.metadata.image_files import PictureFacts, PictureFolder
from studio.metadata.recipe_hashes import with_hashes, with_upscaler_hash
from studio.storage.ids import IdSource
from studio.storage.owner_keys import OwnerKeys

logger = logging.getLogger(__name__)
KEPT_S = 600.0
KEPT_BYTES = 512_000_000
_MOST_UPSCALES = 20  # one of another
Notices = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Picture:
    """A picture on its way; each part is filled when that stage is behind it."""

    job: JobRecord
    painted: WorkImage
    hashes: Callable[[], Mapping[str, str]]
    pixels: RawImage | None = None
    facts: PictureFacts | None = None
    path: str | None = None
    notices: Notices = ()


@dataclass(frozen=True, slots=True)
class _Unsaved:
    save: Callable[[], ImageRecord | StoredUpload]
    size_bytes: int
    kept_at: float


@dataclass(frozen=True, slots=True)
class Retried:
    """What a retry could save, and why it could not save the rest."""

    saved: tuple[ImageRecord | StoredUpload, ...]
    problem: StudioError | None


class Saver:
    """Saves pictures, one at a time, for one studio."""

    def __init__(
        self,
        folder: PictureFolder,
        gallery: Gallery,
        thumbnails: Thumbnails,
        extensions: Extensions,
        owners: OwnerKeys,
        ids: IdSource,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._gallery = gallery
        self._thumbnails = thumbnails
        self._extensions = extensions
        self._owners = owners
        self._ids = ids
        self._clock = clock
        self._lock = threading.Lock()
        self._unsaved: dict[str, list[_Unsaved]] = {}
        self._was_refused = False

    def check_room(self, job: JobRecord) -> None:
        """Raises StorageFull if the pictures of a job would not fit, or if the last one could still not be written."""
        self._folder.check_room(3 * expected_pixels(job.task) * job.task.picture_count)
        if self._was_refused:
            self._folder.check_writing()
            self._was_refused = False

    def save(
        self, job: JobRecord, painted: WorkImage, hashes: Callable[[], Mapping[str, str]]
    ) -> tuple[ImageRecord, Notices]:
        """Keep one picture of a job; whatever is raised, it stays in memory for `retry`.

        Args:
            hashes: Gives the sha256 of its models, by `path_key`.
        Raises:
            StorageFull: it could not be written or listed.
        """
        picture = _Picture(job, painted, hashes)
        return self._save(picture), picture.notices

    def save_map(self, job: JobRecord, pixels: RawImage, keep: Callable[[RawImage], StoredUpload]) -> StoredUpload:
        """Keep a control map; whatever `keep` raises, the map stays in memory for `retry`."""

        def save() -> StoredUpload:
            is_saved = False
            try:
                made = keep(pixels)
                is_saved = True
            finally:
                if not is_saved:
                    self._remember(job.id, _Unsaved(save, len(pixels.rgb), self._clock()))
            return made

        return save()

    def _save(self, picture: _Picture) -> ImageRecord:
        is_saved = False
        try:
            facts, pixels = self._described(picture)
            if picture.path is None or not self._folder.has(picture.path):
                try:
                    picture.path = self._folder.save(pixels, facts)
                except StorageFull:
                    self._was_refused = True
                    raise
            self._list(picture.path, facts)
            is_saved = True
        finally:
            if not is_saved:
                size_bytes = len(picture.painted.pixels.rgb)
                self._remember(picture.job.id, _Unsaved(lambda: self._save(picture), size_bytes, self._clock()))
        try:
            self._thumbnails.make(facts.id, pixels)
        except (OSError, ValueError) as error:
            logger.warning("no thumbnail for %s yet: %s", picture.path, error)
        return facts.record(picture.path, picture.job.owner)

    def _described(self, picture: _Picture) -> tuple[PictureFacts, RawImage]:
        """Let the extensions finish a picture, and say what it is; once, however often it is saved."""
        if picture.facts is not None and picture.pixels is not None:
            return picture.facts, picture.pixels
        job, painted, task, hashes = picture.job, picture.painted, picture.job.task, picture.hashes()
        source = self._source(job)
        described = job.recipe or source
        pixels, picture.notices = self._extensions.finish(painted.pixels, dict(described.extras) if described else {})
        picture.facts = PictureFacts(
            id=self._ids.new(),
            job_id=job.id,
            job_image=painted.image,
            created_at=self._clock(),
            owner_key=self._owners.key_of(job.owner),
            width=pixels.width,
            height=pixels.height,
            recipe=with_hashes(job.recipe.for_image(painted.image), hashes) if job.recipe else None,
            upscale=with_upscaler_hash(task, hashes) if isinstance(task, Upscale) else None,
            parent=getattr(task, "parent", None),
            seconds=round(painted.seconds, 3),
            provenance=dict(painted.provenance),
            source=source,
        )
        picture.pixels = pixels
        return picture.facts, pixels

    def _source(self, job: JobRecord) -> Recipe | None:
        """The recipe of the picture that an upscale upscales, however often it was upscaled before."""
        parent = job.task.parent if isinstance(job.task, Upscale) else None
        for _ in range(_MOST_UPSCALES):
            record = self._gallery.find(parent, job.owner) if parent else None
            if record is None or record.recipe is not None:
                return record.recipe if record else None
            parent = record.parent
        return None

    def _list(self, path: str, facts: PictureFacts) -> None:
        try:
            self._gallery.add(path, facts)
        except StudioError as error:
            logger.warning("%s is saved but not in the gallery: %s", path, error.message)
            raise StorageFull(
                f"The picture is saved as {path}, but the gallery can't list it: {error.message}",
                "Press Try again when that is corrected; the next start lists it, too.",
                code="storage_not_listed",
            ) from None

    def _remember(self, job_id: str, unsaved: _Unsaved) -> None:
        with self._lock:
            self._unsaved.setdefault(job_id, []).append(unsaved)
            while sum(one.size_bytes for kept in self._unsaved.values() for one in kept) > KEPT_BYTES:
                oldest, kept = next(iter(self._unsaved.items()))
                logger.warning("no memory is left for an unsaved picture of job %s", oldest)
                kept.pop(0)
                if not kept:
                    del self._unsaved[oldest]

    def forget_old(self) -> None:
        """Let go of what waited too long."""
        with self._lock:
            oldest = self._clock() - KEPT_S
            self._unsaved = {
                job_id: kept
                for job_id, unsaved in self._unsaved.items()
                if (kept := [one for one in unsaved if one.kept_at > oldest])
            }

    def retry(self, job_id: str) -> Retried:
        """Save what could not be saved; what still can't stays kept.

        Raises:
            NotFound: nothing of this job is kept (any more).
        """
        with self._lock:
            waiting = self._unsaved.pop(job_id, [])
        if not waiting:
            raise NotFound("No unsaved picture of this job is kept any more.", "Run the job again.")
        saved: list[ImageRecord | StoredUpload] = []
        try:
            while waiting:
                saved.append(waiting.pop(0).save())
        except StudioError as error:
            return Retried(tuple(saved), error)
        finally:
            with self._lock:  # the one that failed has put itself back
                if waiting:
                    self._unsaved.setdefault(job_id, []).extend(waiting)
        return Retried(tuple(saved), None)
