"""Saves generated images: finish hooks, PNG, index, thumbnail. Control maps are saved alike.

An image that can't be saved stays in memory for ten minutes, as far as it got, so that "Try again" can resume: it
counts as saved only when it is on the disk and in the gallery.
"""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

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
Notices = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Picture:
    """An image on its way; each field is filled when that stage is done."""

    job: JobRecord
    image: WorkImage
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
    """The images that a retry saved, and the problem with the rest."""

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
        self, job: JobRecord, image: WorkImage, hashes: Callable[[], Mapping[str, str]]
    ) -> tuple[ImageRecord, Notices]:
        """Save one image of a job; whatever is raised, it stays in memory for `retry`.

        Args:
            hashes: Gives the sha256 of its models, by `path_key`.
        Raises:
            StorageFull: it could not be written or listed.
        """
        picture = _Picture(job, image, hashes)
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
            try:
                self._gallery.add(picture.path, facts)
            except StudioError as error:
                logger.warning("%s is saved but not in the gallery: %s", picture.path, error.message)
                raise StorageFull(
                    f"The picture is saved as {picture.path}, but the gallery can't list it: {error.message}",
                    "Press Try again when that is corrected; the next start lists it, too.",
                    code="storage_not_listed",
                ) from None
            is_saved = True
        finally:
            if not is_saved:
                size_bytes = len(picture.image.pixels.rgb)
                self._remember(picture.job.id, _Unsaved(partial(self._save, picture), size_bytes, self._clock()))
        try:
            self._thumbnails.make(facts.id, pixels)
        except (OSError, ValueError) as error:
            logger.warning("no thumbnail for %s yet: %s", picture.path, error)
        return facts.record(picture.path, picture.job.owner)

    def _described(self, picture: _Picture) -> tuple[PictureFacts, RawImage]:
        """Let the extensions finish an image, and collect its facts; once, however often it is saved."""
        if picture.facts is not None and picture.pixels is not None:
            return picture.facts, picture.pixels
        job, image, task, hashes = picture.job, picture.image, picture.job.task, picture.hashes()
        recipe = with_hashes(job.recipe.for_image(image.image), hashes) if job.recipe else None
        upscale: Upscale | None = None
        source: Recipe | None = None
        if isinstance(task, Upscale):
            upscale = with_upscaler_hash(task, hashes)
            source = self._gallery.source_recipe(task.parent, job.owner)
        described = job.recipe or source
        extras = dict(described.extras) if described else {}
        pixels, picture.notices = self._extensions.finish(image.pixels, extras)
        picture.facts = PictureFacts(
            id=self._ids.new(),
            job_id=job.id,
            job_image=image.image,
            created_at=self._clock(),
            owner_key=self._owners.key_of(job.owner),
            width=pixels.width,
            height=pixels.height,
            recipe=recipe,
            upscale=upscale,
            parent=getattr(task, "parent", None),
            seconds=round(image.seconds, 3),
            provenance=dict(image.provenance),
            source=source,
        )
        picture.pixels = pixels
        return picture.facts, pixels

    def _remember(self, job_id: str, unsaved: _Unsaved) -> None:
        with self._lock:
            self._unsaved.setdefault(job_id, []).append(unsaved)
            everything = itertools.chain.from_iterable(self._unsaved.values())
            size_bytes = sum(kept.size_bytes for kept in everything)
            while size_bytes > KEPT_BYTES:
                oldest, kept_of_job = next(iter(self._unsaved.items()))
                logger.warning("no memory is left for an unsaved image of job %s", oldest)
                size_bytes -= kept_of_job.pop(0).size_bytes
                if not kept_of_job:
                    del self._unsaved[oldest]

    def forget_old(self) -> None:
        """Drop unsaved images that have waited too long."""
        with self._lock:
            oldest = self._clock() - KEPT_S
            for job_id, unsaved in list(self._unsaved.items()):
                recent = [one for one in unsaved if one.kept_at > oldest]
                if recent:
                    self._unsaved[job_id] = recent
                else:
                    del self._unsaved[job_id]

    def retry(self, job_id: str) -> Retried:
        """Save the images that could not be saved; those that still can't be stay kept.

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
