"""From painted pixels to a picture in the gallery: finish hooks, PNG, index, thumbnail.

Pictures that find no space stay in memory for ten minutes, so that "Try again" can keep them.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from contract.errors import JobError, NotFound, StudioError
from contract.recipe import Recipe
from contract.records import ImageRecord, JobRecord
from contract.tasks import Upscale
from contract.work import RawImage, WorkPainted
from studio.costs import expected_pixels
from studio.extensions import Extensions
from studio.gallery import Gallery
from studio.ids import IdSource
from studio.image_files import PictureFacts, PictureFolder
from studio.owners import OwnerKeys
from studio.recipe_hashes import with_hashes, with_upscaler_hash
from studio.thumbnails import Thumbnails

logger = logging.getLogger(__name__)
KEPT_S = 600.0
KEPT_BYTES = 512_000_000
_MOST_UPSCALES = 20  # one of another
Notices = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Unsaved:
    pixels: RawImage
    facts: PictureFacts
    kept_at: float


class Saver:
    """Saves pictures, one at a time, for one studio."""

    def __init__(self, folder: PictureFolder, gallery: Gallery, thumbnails: Thumbnails, extensions: Extensions,
                 owners: OwnerKeys, ids: IdSource, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._gallery = gallery
        self._thumbnails = thumbnails
        self._extensions = extensions
        self._owners = owners
        self._ids = ids
        self._clock = clock
        self._lock = threading.Lock()
        self._unsaved: dict[str, list[_Unsaved]] = {}

    def check_room(self, job: JobRecord) -> None:
        """Raises StorageFull if the pictures of a job would not fit."""
        self._folder.check_room(3 * expected_pixels(job.task) * job.task.picture_count)

    def save(self, job: JobRecord, painted: WorkPainted, hashes: Mapping[str, str]) -> tuple[ImageRecord, Notices]:
        """Keep one picture of a job.

        Args:
            hashes: sha256 of its models, by `path_key`.
        Raises:
            StorageFull: it stays in memory for `retry`.
        """
        recipe, source = None, self._source(job)
        extras = dict(described.extras) if (described := job.recipe or source) else {}
        pixels, notices = self._extensions.finish(painted.pixels, extras)
        if job.recipe is not None:
            recipe = with_hashes(job.recipe.for_image(painted.image), hashes)
        task = job.task
        facts = PictureFacts(
            id=self._ids.new(), job_id=job.id, job_image=painted.image, created_at=self._clock(),
            owner_key=self._owners.key_of(job.owner), recipe=recipe, width=pixels.width, height=pixels.height,
            upscale=with_upscaler_hash(task, hashes) if isinstance(task, Upscale) else None, parent=getattr(task, "parent", None),
            seconds=round(painted.seconds, 3), provenance=dict(painted.provenance), source=source)
        record, more = self._keep(pixels, facts, job.owner)
        return record, (*notices, *more)

    def _source(self, job: JobRecord) -> Recipe | None:
        """The recipe of the picture that an upscale enlarges, however often it was enlarged before."""
        parent = job.task.parent if isinstance(job.task, Upscale) else None
        for _ in range(_MOST_UPSCALES):
            record = self._gallery.find(parent, job.owner) if parent else None
            if record is None or record.recipe is not None:
                return record.recipe if record else None
            parent = record.parent
        return None

    def _keep(self, pixels: RawImage, facts: PictureFacts, owner: str) -> tuple[ImageRecord, Notices]:
        try:
            path = self._folder.save(pixels, facts)
        except JobError:
            self._remember(_Unsaved(pixels, facts, self._clock()))
            raise
        notices: Notices = ()
        try:
            self._gallery.add(path, facts)
        except StudioError as error:
            logger.warning("%s is saved but not in the index: %s", path, error.message)
            notices = (("not_indexed", f"The picture is saved as {path}, but the gallery can't list it: "
                                       f"{error.message}"),)
        try:
            self._thumbnails.make(facts.id, pixels)
        except OSError as error:
            logger.warning("no thumbnail for %s: %s", path, error.strerror)
        return facts.record(path, owner), notices

    def _remember(self, unsaved: _Unsaved) -> None:
        with self._lock:
            self._unsaved.setdefault(unsaved.facts.job_id, []).append(unsaved)
            while sum(len(u.pixels.rgb) for us in self._unsaved.values() for u in us) > KEPT_BYTES:
                self._unsaved.pop(next(iter(self._unsaved)))

    def forget_old(self) -> None:
        """Let go of what waited too long."""
        with self._lock:
            oldest = self._clock() - KEPT_S
            self._unsaved = {job_id: kept for job_id, unsaved in self._unsaved.items()
                             if (kept := [u for u in unsaved if u.kept_at > oldest])}

    def retry(self, job: JobRecord) -> tuple[ImageRecord, ...]:
        """Save what a full disk refused.

        Raises:
            NotFound: nothing of this job is kept (any more).
            StorageFull: still no space; what is not saved stays kept.
        """
        with self._lock:
            waiting = self._unsaved.pop(job.id, [])
        if not waiting:
            raise NotFound("No unsaved picture of this job is kept any more.", "Run the job again.")
        saved = []
        while waiting:
            try:
                saved.append(self._keep(waiting[0].pixels, waiting[0].facts, job.owner)[0])
            except JobError:
                with self._lock:  # _keep has put the first one back
                    self._unsaved[job.id] += waiting[1:]
                raise
            waiting.pop(0)
        return tuple(saved)
