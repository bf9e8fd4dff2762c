"""The SQLite file: one writer, readers beside it, numbered forward-only migrations.

The only place that knows sqlite3's errors; they leave as StudioErrors with a sentence. A damaged file is renamed to
.bad and a new one is made; `gallery/gallery_index.py` fills it again from the PNGs.
"""

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from contract.errors import StorageFull, StudioError

logger = logging.getLogger(__name__)
BUSY_START_S = 12.0
BUSY_S = 3.0

# Also run when a damaged index is rebuilt; changes need a new migration.
SEARCH_TABLES = """
    CREATE VIRTUAL TABLE image_words USING fts5 (prompt, negative_prompt, model, names,
                                                 tokenize = 'trigram case_sensitive 1', detail = none, columnsize = 0);
    CREATE VIRTUAL TABLE image_groups USING fts5vocab (image_words, 'row');
"""

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE jobs (
        id TEXT PRIMARY KEY, owner TEXT NOT NULL, window TEXT, state TEXT NOT NULL, recipe TEXT NOT NULL,
        cost REAL NOT NULL, rank REAL NOT NULL, created_at REAL NOT NULL, finished_at REAL,
        attempt INTEGER NOT NULL DEFAULT 1, starts INTEGER NOT NULL DEFAULT 0, seconds REAL,
        error_code TEXT, error_message TEXT, error_hint TEXT,
        notices TEXT NOT NULL DEFAULT '[]', log TEXT);
    CREATE INDEX jobs_by_state ON jobs (state, owner);
    CREATE INDEX jobs_by_owner ON jobs (owner, id);
    CREATE INDEX jobs_by_end ON jobs (finished_at);
    CREATE TABLE images (
        row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, path TEXT NOT NULL UNIQUE,
        created_at REAL NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL, recipe TEXT NOT NULL,
        job_id TEXT NOT NULL, job_image INTEGER NOT NULL, owner_key TEXT NOT NULL, parent TEXT,
        favourite INTEGER NOT NULL DEFAULT 0, tags TEXT NOT NULL DEFAULT '[]', seconds REAL,
        missing INTEGER NOT NULL DEFAULT 0, deleted_at REAL, file_bytes INTEGER, file_time INTEGER);
    CREATE INDEX images_by_owner ON images (owner_key, deleted_at, row);
    CREATE INDEX images_by_job ON images (job_id, job_image);
    CREATE INDEX images_deleted ON images (deleted_at) WHERE deleted_at IS NOT NULL;
    CREATE VIRTUAL TABLE image_words USING fts5 (prompt, negative_prompt, model);
    CREATE TABLE model_hashes (stamp TEXT PRIMARY KEY, sha256 TEXT NOT NULL);
    CREATE TABLE model_rates (model TEXT PRIMARY KEY, seconds_per_cost REAL NOT NULL);
    """,
    """
    ALTER TABLE model_hashes ADD COLUMN folder TEXT NOT NULL DEFAULT '';
    CREATE INDEX model_hashes_by_sha256 ON model_hashes (sha256);
    """,
    """
    ALTER TABLE jobs ADD COLUMN task TEXT NOT NULL DEFAULT '';
    ALTER TABLE jobs ADD COLUMN prepared TEXT NOT NULL DEFAULT '[]';
    UPDATE jobs SET task = '{"type":"paint","recipe":' || recipe || '}';
    ALTER TABLE jobs DROP COLUMN recipe;
    ALTER TABLE images ADD COLUMN upscale TEXT;
    """,
    """
    CREATE TABLE input_owners (sha256 TEXT NOT NULL, owner_key TEXT NOT NULL, PRIMARY KEY (sha256, owner_key))
    WITHOUT ROWID;
    """,
    """
    CREATE TABLE model_facts (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, version TEXT NOT NULL, facts TEXT NOT NULL);
    """,
    # Rows below search_progress.below are not yet in image_words. marks: facts about this data folder.
    # owner_aliases: owners of images that were hashed with a lost key; NULL if unknown.
    f"""
    DROP TABLE image_words;
    {SEARCH_TABLES}
    CREATE TABLE search_progress (below INTEGER NOT NULL);
    INSERT INTO search_progress SELECT COALESCE(MAX(row) + 1, 0) FROM images;
    CREATE TABLE marks (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE owner_aliases (old_key TEXT PRIMARY KEY, owner_key TEXT) WITHOUT ROWID;
    """,
    # Names of today. Recipes need none: those of schema 1 are read as they are (contract/schema_1.py).
    """
    ALTER TABLE images RENAME COLUMN favourite TO favorite;
    ALTER TABLE jobs RENAME COLUMN window TO session;
    ALTER TABLE input_owners RENAME TO upload_owners;
    UPDATE jobs SET task = replace(task, '"type":"paint"', '"type":"generate"');
    """,
    """
    CREATE TABLE model_defaults (owner_key TEXT NOT NULL, model TEXT NOT NULL, defaults TEXT NOT NULL,
                                 PRIMARY KEY (owner_key, model)) WITHOUT ROWID;
    CREATE TABLE model_predictions (model TEXT PRIMARY KEY, prediction TEXT NOT NULL) WITHOUT ROWID;
    """,
)


class Database:
    """One file, one writing connection, one reading connection; safe from any thread.

    Attributes:
        is_new: Nothing was there, or what was there was damaged: the index has to be rebuilt.
        problem: What was damaged, as a sentence; else "".
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_new = False
        self.problem = ""
        self._write_lock = threading.RLock()
        self._read_lock = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open or create the file and migrate it to the newest version.

        Raises:
            StudioError: locked, read-only, from a newer version of the program, or no space.
        """
        self.is_new = not self.path.exists() or self.path.stat().st_size == 0
        try:
            with explained(self.path):
                if self.path.is_dir():
                    raise DamagedDatabase(f"{self.path.name} is a folder.")
                self._connect()
        except StudioError as error:
            self.close()  # which also rolls back a failed migration
            if not isinstance(error, DamagedDatabase):
                raise
            stamp = time.strftime("%Y%m%d-%H%M%S")
            for suffix in ("", "-wal", "-shm"):
                part = self.path.with_name(self.path.name + suffix)
                if part.exists():
                    part.replace(part.with_name(f"{self.path.name}{suffix}.{stamp}.bad"))
            self.problem = (
                f"{self.path.name} was damaged. It is kept as {self.path.name}.{stamp}.bad, and the gallery is "
                "read from the pictures again: favorites, tags and what waited in the queue are lost. If you have "
                "a copy, end Darkroom, put it in its place, and start again."
            )
            logger.warning("%s", self.problem)
            self.is_new = True
            with explained(self.path):
                self._connect()

    def _connect(self) -> None:
        self._writer = _connection(self.path, BUSY_START_S)
        self._writer.execute("PRAGMA journal_mode=WAL")
        self._writer.execute("PRAGMA synchronous=NORMAL")
        if not self.is_new:
            verdict = self._writer.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise DamagedDatabase(verdict)
        version = self._writer.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise StudioError(
                f"{self.path.name} was made by a newer Darkroom.",
                "Use that version, or another data folder with --data.",
                code="database_newer",
            )
        if version == 0 and _tables(self._writer):
            raise DamagedDatabase(f"{self.path.name} is another program's.")
        for number in range(version, len(MIGRATIONS)):
            self._writer.executescript(
                f"BEGIN IMMEDIATE; {MIGRATIONS[number]}; PRAGMA user_version={number + 1}; COMMIT;"
            )
        if missing := _expected_tables() - _tables(self._writer):
            raise DamagedDatabase(f"{self.path.name} has no {', '.join(sorted(missing))}.")
        self._writer.execute("BEGIN IMMEDIATE")  # another program may hold a lock: wait here, not at the first job
        self._writer.execute("ROLLBACK")
        self._writer.execute(f"PRAGMA busy_timeout={int(BUSY_S * 1000)}")
        self._reader = _connection(self.path, BUSY_S)
        self._reader.execute("PRAGMA query_only=1")

    def close(self) -> None:
        """Close both connections. Idempotent."""
        with self._write_lock, self._read_lock:
            for connection in (self._reader, self._writer):
                if connection is not None:
                    connection.close()
            self._reader = self._writer = None

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """One transaction: commits at the end, rolls back if anything raises.

        Raises:
            StudioError: the file system or a lock refused.
        """
        with self._write_lock, explained(self.path):
            if self._writer is None:
                raise StudioError("Darkroom is stopping.", code="stopping")
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                try:
                    yield self._writer
                    self._writer.execute("COMMIT")
                finally:
                    if self._writer.in_transaction:
                        self._writer.execute("ROLLBACK")
            except sqlite3.Error:
                # Move the write-ahead log into the file, so that the next write may fit.
                with contextlib.suppress(sqlite3.Error):
                    self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                raise

    def write(self, sql: str, values: Sequence[object] = ()) -> int:
        """One statement as a transaction, tried twice when the log could not grow.

        Returns:
            How many rows it touched.
        """
        for attempt in (1, 2):
            try:
                with self.change() as connection:
                    return connection.execute(sql, tuple(values)).rowcount
            except StorageFull:
                if attempt == 2:
                    raise
        return 0

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        """All rows of a query, as committed."""
        with self._read_lock, explained(self.path):
            if self._reader is None:
                raise StudioError("Darkroom is stopping.", code="stopping")
            return self._reader.execute(sql, tuple(values)).fetchall()

    def row(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Row | None:
        """The first row of a query, if there is one."""
        rows = self.rows(sql, values)
        return rows[0] if rows else None

    def value(self, sql: str, values: Sequence[object] = ()) -> Any:
        """The first column of the first row, or None."""
        row = self.row(sql, values)
        return row[0] if row is not None else None


class DamagedDatabase(StudioError):
    """The file is not a database or its pages are broken."""

    default_code = "database_damaged"


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _expected_tables() -> set[str]:
    connection = sqlite3.connect(":memory:")
    try:
        connection.executescript(";".join(MIGRATIONS))
        return {name for name in _tables(connection) if not name.startswith("sqlite_")}
    finally:
        connection.close()


def _connection(path: Path, busy_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    return connection


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn sqlite3's errors into StudioErrors."""
    try:
        yield
    except sqlite3.Error as error:
        logger.warning("%s: %s", path.name, error)
        name, code = path.name, getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise StorageFull(
                f"Darkroom can't record anything: {name} can't grow.", "Free some space, then try again."
            ) from None
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StudioError(
                f"{name} is locked by another program.", "Close it, then try again.", code="database_locked"
            ) from None
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            raise StudioError(
                f"{name} can't be written.",
                "Correct its permissions, or choose another folder with --data.",
                code="database_read_only",
            ) from None
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise DamagedDatabase(f"{name} is damaged.", "Start Darkroom again: it repairs the file.") from None
        raise StudioError(f"{name} could not be used.", "Details are in the log.", code="database") from None
