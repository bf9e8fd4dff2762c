"""Brings the index of pictures up to what lies in outputs/: at start, after a damaged database, when a folder changes.

One bad file or folder never stops it; a file that is gone leaves its row, marked missing until it is back.
"""

import logging
from collections.abc import Callable

from studio.database import Database
from studio.gallery import Gallery
from studio.ids import IdSource
from studio.image_files import PictureFolder, read_facts, shown

logger = logging.getLogger(__name__)


def reconcile(database: Database, gallery: Gallery, folder: PictureFolder, ids: IdSource,
              is_stopping: Callable[[], bool] = lambda: False) -> int:
    """Index new files, mark missing ones, finish deletions.

    Returns:
        How many pictures were added.
    """
    gallery.purge(0.0)
    known = {row["path"]: row for row in
             database.rows("SELECT id, path, missing, file_bytes, file_time FROM images")}
    added = 0
    for path, status in folder.files():
        if is_stopping():
            return added
        row = known.pop(path, None)
        if row is not None and not row["missing"]:
            continue
        if row is not None:
            gallery.mark(row["id"], False)
            continue
        facts = read_facts(folder.locate(path))
        if facts is None:
            logger.info("%s is not a picture of ours, or it is damaged; it is left as it is", shown(path))
            continue
        ids.raise_floor(facts.id)
        _follow_moved(database, facts.id, path, folder)
        added += gallery.add(path, facts)
    for row in known.values():
        if not row["missing"] and not folder.has(row["path"]):
            gallery.mark(row["id"], True)
    return added


def _follow_moved(database: Database, image_id: str, path: str, folder: PictureFolder) -> None:
    """A known picture whose file lies elsewhere now keeps its row."""
    row = database.row("SELECT path FROM images WHERE id = ?", (image_id,))
    if row is not None and not folder.has(row["path"]):
        database.write("UPDATE OR IGNORE images SET path = ?, missing = 0 WHERE id = ?", (path, image_id))
