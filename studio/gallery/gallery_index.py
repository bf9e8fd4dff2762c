"""Updates the index of images from outputs/: at start, after a damaged database, when a folder changes.

A bad file or folder never stops it; the row of a missing file stays, marked as missing until the file is back.
"""

import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence

from studio.gallery.gallery import Gallery
from studio.metadata.image_files import PictureFolder, read_picture_facts, shown
from studio.storage.database import Database
from studio.storage.ids import IdSource

logger = logging.getLogger(__name__)
_KNOWN = "SELECT id, path, missing FROM images"


def reconcile(
    database: Database,
    gallery: Gallery,
    folder: PictureFolder,
    ids: IdSource,
    is_stopping: Callable[[], bool] = lambda: False,
) -> int:
    """Index new files, mark missing ones, finish deletions.

    Returns:
        How many pictures were added.
    """
    gallery.purge(0.0)
    folder.changed_days()  # `reconcile_days` finds what changes from now on
    known = database.rows(_KNOWN)
    return _bring_up(database, gallery, folder, ids, folder.files(), known, is_stopping)


def reconcile_days(
    database: Database,
    gallery: Gallery,
    folder: PictureFolder,
    ids: IdSource,
    is_stopping: Callable[[], bool] = lambda: False,
) -> int:
    """The same for the days that were added, removed or changed since."""
    added = 0
    for day in folder.changed_days():
        known = database.rows(f"{_KNOWN} WHERE path >= ? AND path < ?", (f"{day}/", f"{day}0"))  # 0 comes after /
        added += _bring_up(database, gallery, folder, ids, folder.files_of(folder.root / day), known, is_stopping)
    return added


def _bring_up(
    database: Database,
    gallery: Gallery,
    folder: PictureFolder,
    ids: IdSource,
    files: Iterable[tuple[str, os.stat_result]],
    rows: Sequence[sqlite3.Row],
    is_stopping: Callable[[], bool],
) -> int:
    known = {row["path"]: row for row in rows}
    added = 0
    for path, _ in files:
        if is_stopping():
            return added
        row = known.pop(path, None)
        if row is not None:
            if row["missing"]:
                gallery.mark(row["id"], False)
            continue
        facts = read_picture_facts(folder.locate(path))
        if facts is None:
            logger.info("%s was not made by Darkroom, or is damaged; it is left as it is", shown(path))
            continue
        ids.raise_floor(facts.id)
        moved = database.row("SELECT path FROM images WHERE id = ?", (facts.id,))
        if moved is not None and not folder.has(moved["path"]):  # its file was moved: it keeps its row
            database.write("UPDATE OR IGNORE images SET path = ?, missing = 0 WHERE id = ?", (path, facts.id))
        added += gallery.add(path, facts)
    for row in known.values():
        if not row["missing"] and not folder.has(row["path"]):
            gallery.mark(row["id"], True)
    return added
