"""Whose pictures are when the secret that their owners were hashed with is lost.

Owners who have a job in the queue's memory (a month) are known by it. Pictures of an owner whom no one knows belong
to who administers the program (DESIGN, section 3): `adopt` gives them to that owner at the first look.
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
    """Remembers in the database which old keys are whose now."""

    def __init__(self, database: Database, owners: OwnerKeys, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._owners = owners
        self._clock = clock
        self._born = 0.0  # when the secret was made; keys of older pictures were made with another
        self.has_lost = False  # pictures whose owner nobody knows

    def open(self) -> str:
        """Compare the secret with the one that was used last, and find the owners again if it is another.

        Returns:
            What was wrong and what became of the pictures, in words; "" if nothing was wrong.
        """
        known = self._mark("owner_key")
        outcome = ""
        if known != self._owners.mark:
            if known is not None or self._owners.is_new:
                outcome = self._find_again()
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

    def _find_again(self) -> str:
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
                if new_key:
                    lost += 0
                else:
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
        """No browser is known any more (the secret of the cookies is another): all pictures go to who administers.

        Args:
            problem: Why, as a sentence; "" if there was no secret before.
        Returns:
            That, and what became of the pictures, in words; "" if nothing was lost.
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
        """The key under which a picture that says `owner_key` is shown."""
        row = self._database.row("SELECT owner_key FROM owner_aliases WHERE old_key = ?", (owner_key,))
        if row is not None:
            return str(row["owner_key"] or owner_key)
        if created_at < self._born:
            self._database.write("INSERT OR IGNORE INTO owner_aliases VALUES (?, NULL)", (owner_key,))
            self.has_lost = True
        return owner_key

    def adopt(self, owner: str) -> int:
        """Give the pictures whose owner nobody knows to an owner; returns of how many lost owners."""
        with self._database.change() as connection:
            lost = [
                row["old_key"]
                for row in connection.execute("SELECT old_key FROM owner_aliases WHERE owner_key IS NULL")
            ]
            for old_key in lost:
                _give(connection, old_key, self._owners.key_of(owner))
        self._look()
        if lost:
            logger.warning("the pictures of %d lost owners are shown to who opened Darkroom on this machine", len(lost))
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
    """What was of one key is of another from now on, in pictures that are indexed later, too."""
    connection.execute("INSERT OR REPLACE INTO owner_aliases VALUES (?, ?)", (old_key, new_key))
    connection.execute("UPDATE owner_aliases SET owner_key = ? WHERE owner_key = ?", (new_key, old_key))
    if new_key is not None:
        for table in _OWNED:
            connection.execute(f"UPDATE OR IGNORE {table} SET owner_key = ? WHERE owner_key = ?", (new_key, old_key))
