"""The index of images in SQLite: pages by id (never by offset), search in `gallery_search.py`, owners kept apart.

The PNGs are the source of truth; `gallery_index.py` updates the index from them. Owners are stored as keyed hashes.
"""

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from contract.errors import NotFound, StudioError
from contract.recipe import Recipe
from contract.records import ImagePage, ImageRecord
from contract.tasks import Upscale
from studio.gallery.gallery_search import GallerySearch
from studio.gallery.lost_owners import LostOwners
from studio.gallery.search_text import search_terms
from studio.gallery.thumbnails import Thumbnails
from studio.metadata.image_files import PictureFacts, PictureFolder
from studio.storage.database import Database
from studio.storage.ids import is_id, row_number
from studio.storage.owner_keys import OwnerKeys

logger = logging.getLogger(__name__)
_Part = TypeVar("_Part", Recipe, Upscale)
UNDO_S = 120.0  # the page offers it for 10 s, longer while somebody reads it
MAX_PAGE = 200
_MOST_UPSCALES = 20  # one of another


class Gallery:
    """Pictures of all owners; every question names the owner."""

    def __init__(
        self,
        database: Database,
        folder: PictureFolder,
        thumbnails: Thumbnails,
        owners: OwnerKeys,
        clock: Callable[[], float] = time.time,
        lost: LostOwners | None = None,
    ) -> None:
        self._database = database
        self._folder = folder
        self._thumbnails = thumbnails
        self._owners = owners
        self._clock = clock
        self.words = GallerySearch(database)
        self._lost = lost or LostOwners(database, owners, clock)
        self._purge_lock = threading.Lock()
        self._unremoved: set[str] = set()
        self._totals: dict[str, int] = {}  # by owner key; counting a hundred thousand takes 40 ms

    def add(self, path: str, facts: PictureFacts) -> bool:
        """Index a picture that is on the disk; False if its id is known already, and nothing changes."""
        status = self._folder.status(path)
        file_facts = (status.st_size, status.st_mtime_ns) if status else (None, None)
        recipe = facts.recipe
        owner_key = self._lost.owner_key_of(facts.owner_key, facts.created_at)
        with self._database.change() as connection:
            # Another image had this path before: its folder was moved away, and a new one made.
            connection.execute(
                "UPDATE images SET path = 'missing/' || id || '.png', missing = 1 WHERE path = ? AND id != ?",
                (path, facts.id),
            )
            added = connection.execute(
                "INSERT INTO images (row, id, path, created_at, width, height, recipe, job_id, job_image, "
                "owner_key, parent, seconds, upscale, file_bytes, file_time) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    row_number(facts.id),
                    facts.id,
                    path,
                    facts.created_at,
                    facts.width,
                    facts.height,
                    recipe.canonical_json() if recipe else "",
                    facts.job_id,
                    facts.job_image,
                    owner_key,
                    facts.parent,
                    facts.seconds,
                    facts.upscale.model_dump_json(exclude_defaults=True) if facts.upscale else None,
                    *file_facts,
                ),
            ).rowcount
        if added:
            self.words.add(row_number(facts.id), recipe, facts.upscale, facts.parent)
        self._totals = {}
        return bool(added)

    def adopt_lost(self, owner: str) -> None:
        """Give the images whose owner is unknown to the administrator."""
        if self._lost.has_lost:
            self._lost.adopt(owner)
            self._totals = {}

    def knows(self, path: str) -> bool:
        """Whether a path is an image's, even if its file is gone; False while the database can't be read."""
        try:
            return bool(self._database.value("SELECT 1 FROM images WHERE path = ?", (path,)))
        except StudioError:
            return False

    def page(self, owner: str, limit: int = 60, before: str | None = None, search: str | None = None) -> ImagePage:
        """One page, newest first.

        Args:
            before: Only pictures older than this id.
            search: Parts of words that must all be in it: see `search_terms` and `words_of`.
        """
        limit = max(1, min(limit, MAX_PAGE))
        bound = row_number(before) if before and is_id(before) else 2**63 - 1
        key = self._owners.key_of(owner)
        terms = search_terms(search or "")
        if not terms:
            rows = self._database.rows(
                "SELECT * FROM images WHERE owner_key = ? AND deleted_at IS NULL AND row < ? ORDER BY row DESC LIMIT ?",
                (key, bound, limit + 1),
            )
            totals = self._totals  # a change replaces the table, so that no old count is stored in the new one
            if key not in totals:
                totals[key] = self._database.value(
                    "SELECT COUNT(*) FROM images WHERE owner_key = ? AND deleted_at IS NULL", (key,)
                )
            total = totals[key]
        else:
            rows, total = self.words.find(terms, key, bound, limit + 1)
        more = len(rows) > limit
        images = tuple(self._record(row, owner) for row in rows[:limit])
        return ImagePage(images=images, next_before=images[-1].id if more else None, total=total)

    def source_recipe(self, image_id: str | None, owner: str) -> Recipe | None:
        """The recipe that an image was made with first, however often it was upscaled since; None if it is gone."""
        for _ in range(_MOST_UPSCALES):
            record = self.find(image_id, owner) if image_id else None
            if record is None:
                return None
            if record.recipe is not None:
                return record.recipe
            image_id = record.parent
        return None

    def get(self, image_id: str, owner: str) -> ImageRecord:
        """One picture.

        Raises:
            NotFound: there is none, it was deleted, or it is another's.
        """
        return self._record(self._row(image_id, owner), owner)

    def find(self, image_id: str, owner: str) -> ImageRecord | None:
        """One picture, or None."""
        try:
            return self.get(image_id, owner)
        except NotFound:
            return None

    def of_job(self, job_id: str, owner: str) -> tuple[tuple[int, ImageRecord], ...]:
        """The pictures of a job: (which of the job, 0-based; record)."""
        rows = self._database.rows(
            "SELECT * FROM images WHERE job_id = ? AND owner_key = ? AND deleted_at IS NULL ORDER BY job_image",
            (job_id, self._owners.key_of(owner)),
        )
        return tuple((row["job_image"], self._record(row, owner)) for row in rows)

    def finished_of_job(self, job_id: str) -> frozenset[int]:
        """Which pictures of a job were made, deleted ones included."""
        rows = self._database.rows("SELECT job_image FROM images WHERE job_id = ?", (job_id,))
        return frozenset(row["job_image"] for row in rows)

    def file(self, image_id: str, owner: str) -> Path:
        """The PNG of a picture.

        Raises:
            NotFound: as `get`, or the file is gone.
        """
        row = self._row(image_id, owner)
        if self._set_missing(row, not self._is_there(row)):
            raise NotFound("The picture's file is missing.", "Its recipe is still known.")
        return self._folder.locate(row["path"])

    def thumbnail(self, image_id: str, owner: str) -> Path:
        """The small JPEG of a picture, remade when it is missing."""
        row = self._row(image_id, owner)
        try:
            return self._thumbnails.ensure(image_id, self._folder.locate(row["path"]))
        except NotFound:
            self._set_missing(row, not self._is_there(row))
            raise

    def _set_missing(self, row: sqlite3.Row, is_missing: bool) -> bool:
        """Remember that a file is gone or unreadable, or that it is back; a reader is not refused if that fails."""
        if bool(row["missing"]) != is_missing:
            try:
                self.mark(row["id"], is_missing)
            except StudioError as error:
                logger.warning("a picture's state is not recorded: %s", error.message)
        return is_missing

    def mark(self, image_id: str, is_missing: bool) -> None:
        """Record whether a picture's file is gone."""
        self._database.write("UPDATE images SET missing = ? WHERE id = ?", (is_missing, image_id))

    def set_favorite(self, image_id: str, owner: str, favorite: bool) -> None:
        """Mark or unmark a picture."""
        self._row(image_id, owner)
        self._database.write("UPDATE images SET favorite = ? WHERE id = ?", (favorite, image_id))

    def delete(self, image_id: str, owner: str) -> None:
        """Hide a picture at once; the file goes after UNDO_S (see `purge`)."""
        self._row(image_id, owner)
        self._database.write("UPDATE images SET deleted_at = ? WHERE id = ?", (self._clock(), image_id))
        self._totals = {}

    def restore(self, image_id: str, owner: str) -> None:
        """Undo a deletion.

        Raises:
            NotFound: the time is over, or there never was such a picture.
        """
        with self._purge_lock:
            restored = self._database.write(
                "UPDATE images SET deleted_at = NULL WHERE id = ? AND owner_key = ?",
                (image_id, self._owners.key_of(owner)),
            )
        self._totals = {}
        if not restored:
            raise NotFound("The picture is gone.", "It was deleted too long ago.")

    def purge(self, older_than_s: float = UNDO_S) -> int:
        """Remove files and rows of pictures that were deleted long enough ago."""
        with self._purge_lock:
            rows = self._database.rows(
                "SELECT row, id, path FROM images WHERE deleted_at <= ?", (self._clock() - older_than_s,)
            )
            for row in rows:
                try:
                    self._folder.remove(row["path"])
                    self._thumbnails.remove(row["id"])
                except OSError as error:  # it holds up no other
                    if row["id"] not in self._unremoved:
                        self._unremoved.add(row["id"])
                        message = "%s is deleted, but its file can't be removed yet: %s"
                        logger.warning(message, row["path"], error.strerror)
                    continue
                self._database.write("DELETE FROM images WHERE row = ?", (row["row"],))
                self.words.remove(row["row"])
            return len(rows)

    def _row(self, image_id: str, owner: str) -> sqlite3.Row:
        row = self._database.row(
            "SELECT * FROM images WHERE id = ? AND owner_key = ? AND deleted_at IS NULL",
            (image_id, self._owners.key_of(owner)),
        )
        if row is None:
            raise NotFound("There is no such picture.", "It may have been deleted.")
        return row

    def _is_there(self, row: sqlite3.Row) -> bool:
        status = self._folder.status(row["path"])
        return status is not None and status.st_size > 0

    def _record(self, row: sqlite3.Row, owner: str) -> ImageRecord:
        # Only missing files are looked for again: a slow disk is not asked about the others.
        missing = bool(row["missing"]) and self._set_missing(row, not self._is_there(row))
        tags: tuple[str, ...] = ()
        with suppress(ValueError, TypeError):
            tags = tuple(map(str, json.loads(row["tags"])))
        return ImageRecord(
            id=row["id"],
            path=row["path"],
            created_at=row["created_at"],
            width=row["width"],
            height=row["height"],
            recipe=_parse_part(Recipe, row["recipe"]),
            upscale=_parse_part(Upscale, row["upscale"]),
            job_id=row["job_id"],
            owner=owner,
            parent=row["parent"],
            favorite=bool(row["favorite"]),
            tags=tags,
            seconds=row["seconds"],
            missing=missing,
        )


def _parse_part(kind: type[_Part], text: str | None) -> _Part | None:
    """Parse a part of a row; None if it is damaged: one row must not hide the others."""
    try:
        if not text:
            return None
        if issubclass(kind, Recipe):
            return kind.read(text)
        return kind.model_validate_json(text)
    except ValidationError:
        return None
