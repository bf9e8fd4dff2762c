"""Assigns images to owners again after the secret that owners are hashed with was lost.

Owners with a job in the database (kept for a month) are found by it. The other images go to the administrator (DESIGN,
section 3): `adopt` gives them to the first owner who opens the gallery on the machine itself.
"""

import logging
import sqlite3
import time
from collections.abc import Callable

from studio.storage.database import Database
from studio.storage.owner_keys import OwnerKeys

logger = logging.getLogger(__name__)
_OWNED = ("images", "upload_owners")


class LostOwners:
    """Maps old owner keys to current ones, in the database."""

    def __init__(self, database: Database, owners: OwnerKeys, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._owners = owners
        self._clock = clock
        self._born = 0.0  # when the secret was made; keys of older pictures were made with another
        self.has_lost = False  # images whose owner is unknown

    def open(self) -> str:
        """Compare the secret with the one used last; if it is another, find the owners again.

        Returns:
            The problem and what happened to the images, as sentences; "" if there was none.
        """
        known = self._mark("owner_key")
        outcome = ""
        if known != self._owners.mark:
            if known is not None or self._owners.is_new:
                outcome = self._match_by_jobs()
                self._set_mark("owner_key_born", repr(self._clock()))
            elif self._owners.replaced_at:  # the database that knew it was lost since
                self._set_mark("owner_key_born", repr(self._owners.replaced_at))
            self._set_mark("owner_key", self._owners.mark)
        self._born = float(self._mark("owner_key_born") or 0.0)
        self._look()
        problem = self._owners.problem
        if outcome and not problem:
            problem = "owner.key is not the one that the pictures were made with."
        return f"{problem} {outcome}".strip()

    def _mark(self, name: str) -> str | None:
        value = self._database.value("SELECT value FROM marks WHERE name = ?", (name,))
        return None if value is None else str(value)

    def _set_mark(self, name: str, value: str) -> None:
        self._database.write("INSERT OR REPLACE INTO marks VALUES (?, ?)", (name, value))

    def _look(self) -> None:
        self.has_lost = bool(self._database.value("SELECT 1 FROM owner_aliases WHERE owner_key IS NULL LIMIT 1"))

    def _match_by_jobs(self) -> str:
        """Find the owners by the jobs that made their images; returns a sentence about the images."""
        with self._database.change() as connection:
            owners = {
                row["old_key"]: row["owner"]
                for row in connection.execute(
                    "SELECT DISTINCT images.owner_key AS old_key, jobs.owner FROM images "
                    "JOIN jobs ON jobs.id = images.job_id"
                )
            }
            count = connection.execute("SELECT COUNT(*) FROM images WHERE deleted_at IS NULL").fetchone()[0]
            lost = 0
            for old_key in _keys(connection):
                new_key = self._owners.key_of(owners[old_key]) if old_key in owners else None
                if new_key is None:
                    lost += connection.execute(
                        "SELECT COUNT(*) FROM images WHERE owner_key = ? AND deleted_at IS NULL", (old_key,)
                    ).fetchone()[0]
                _give(connection, old_key, new_key)
        if not count:
            return ""
        if not lost:
            return "The owners of all pictures were found again by their jobs."
        return (
            f"Of {lost} of the {count} pictures nobody knows the owner any more: they are shown to who opens Darkroom "
            "on this machine."
        )

    def lose_all(self, problem: str) -> str:
        """Give all images to the administrator: the cookies' secret is a new one, so that no browser is known.

        Args:
            problem: Why, as a sentence; "" if there was no secret before.
        Returns:
            The problem and what happened to the images, as sentences; "" if nothing was lost.
        """
        with self._database.change() as connection:
            for old_key in _keys(connection):
                _give(connection, old_key, None)
        self._look()
        if not self.has_lost:
            return problem
        return (
            f"{problem or 'The secret of the cookies was missing.'} Browsers are new to Darkroom now: the pictures "
            "are shown to who opens it on this machine."
        )

    def owner_key_of(self, owner_key: str, created_at: float) -> str:
        """The current key of the owner that an image has as `owner_key`."""
        row = self._database.row("SELECT owner_key FROM owner_aliases WHERE old_key = ?", (owner_key,))
        if row is not None:
            return str(row["owner_key"] or owner_key)
        if created_at < self._born:
            self._database.write("INSERT OR IGNORE INTO owner_aliases VALUES (?, NULL)", (owner_key,))
            self.has_lost = True
        return owner_key

    def adopt(self, owner: str) -> int:
        """Give the images of unknown owners to an owner; returns how many owners these were."""
        with self._database.change() as connection:
            lost = [
                row["old_key"]
                for row in connection.execute("SELECT old_key FROM owner_aliases WHERE owner_key IS NULL")
            ]
            for old_key in lost:
                _give(connection, old_key, self._owners.key_of(owner))
        self._look()
        if lost:
            logger.warning(
                "the images of %d unknown owners now belong to the browser that opened Darkroom on this machine",
                len(lost),
            )
        return len(lost)


def _keys(connection: sqlite3.Connection) -> list[str]:
    return [
        row[0]
        for row in connection.execute(
            "SELECT owner_key FROM images UNION SELECT owner_key FROM upload_owners "
            "UNION SELECT owner_key FROM owner_aliases WHERE owner_key IS NOT NULL"
        )
    ]


def _give(connection: sqlite3.Connection, old_key: str, new_key: str | None) -> None:
    """Move everything of one key to another, also for images that are indexed later."""
    connection.execute("INSERT OR REPLACE INTO owner_aliases VALUES (?, ?)", (old_key, new_key))
    connection.execute("UPDATE owner_aliases SET owner_key = ? WHERE owner_key = ?", (new_key, old_key))
    if new_key is not None:
        for table in _OWNED:
            connection.execute(f"UPDATE OR IGNORE {table} SET owner_key = ? WHERE owner_key = ?", (new_key, old_key))
