"""Finds images by parts of words: a trigram index proposes, the text itself decides.

The index is SQLite's FTS5 with its trigram tokenizer. It can be lost: `index_older` rebuilds it from the rows of
`images`, newest first, a few at a time, in the background. Terms come folded from `search_text.py`.
"""

import logging
import sqlite3
from collections.abc import Callable, Sequence

from pydantic import ValidationError

from contract.errors import StudioError
from contract.recipe import Recipe
from contract.tasks import Upscale
from studio.gallery.search_text import Words, words_of
from studio.storage.database import SEARCH_TABLES, DamagedDatabase, Database

logger = logging.getLogger(__name__)
COUNT_UP_TO = 1001  # counting every hit of a common word takes longer than the page
_GROUP = 3
_MOST_GROUPS = 12  # of a term; the text itself decides in the end
_MOST_BEGINNINGS = 64  # groups that begin with a term of one or two letters; with more, it is found soon by reading
_BATCH = 200
_MOST_PARENTS = 20


class GallerySearch:
    """The index over the words of all pictures."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, row: int, recipe: Recipe | None, upscale: Upscale | None, parent: str | None) -> None:
        """Index one picture; a failure is logged and made up for later, since the picture itself is safe."""
        try:
            with self._database.change() as connection:
                _put(connection, row, words_of(recipe or _source(connection, parent), upscale))
        except StudioError as error:
            if _is_damage(error):
                self.rebuild()
                return
            logger.warning("an image can't be found by its words yet: %s", error.message)
            # Let `index_older` begin at this row again; if that fails too, the next start indexes it.
            try:
                self._database.write("UPDATE search_progress SET below = MAX(below, ?)", (row + 1,))
            except StudioError as problem:
                logger.warning("the search index is incomplete: %s", problem.message)

    def remove(self, row: int) -> None:
        """Remove an image from the index; entries without a row are never found."""
        try:
            self._database.write("DELETE FROM image_words WHERE rowid = ?", (row,))
        except StudioError as error:
            if not _is_damage(error):
                raise
            self.rebuild()

    def find(self, terms: Sequence[str], key: str, bound: int, limit: int) -> tuple[list[sqlite3.Row], int]:
        """Rows of `images` whose words hold every term, newest first.

        Args:
            key: The owner's.
            bound: Only rows below it.

        Returns:
            At most `limit` rows, and how many there are in all (counted up to COUNT_UP_TO).
        """
        try:
            return self._find(terms, key, bound, limit)
        except StudioError as error:
            if not _is_damage(error):
                raise
            self.rebuild()
            return self._find(terms, key, bound, limit)

    def _find(self, terms: Sequence[str], key: str, bound: int, limit: int) -> tuple[list[sqlite3.Row], int]:
        groups = self._groups(terms)
        if groups is None:
            return [], 0
        # The table of the index's texts, by SQLite's documentation of FTS5, is read faster than the index itself.
        source, row, columns = "image_words_content", "id", [f"c{number}" for number in range(len(Words._fields))]
        conditions: list[str] = []
        values: list[object] = []
        if groups:
            source, row, columns = "image_words", "rowid", list(Words._fields)
            conditions.append("image_words MATCH ?")
            values.append(groups)
        text = " || ".join(f"COALESCE({source}.{column}, '')" for column in columns)
        conditions += [f"instr({text}, ?)"] * len(terms)
        values += [*terms, key]
        matching = (
            f"FROM {source} CROSS JOIN images ON images.row = {source}.{row} "
            f"WHERE {' AND '.join(conditions)} AND owner_key = ? AND deleted_at IS NULL"
        )
        rows = self._database.rows(
            f"SELECT images.* {matching} AND {source}.{row} < ? ORDER BY {source}.{row} DESC LIMIT ?",
            (*values, bound, limit),
        )
        if len(rows) < limit and bound == 2**63 - 1:
            return rows, len(rows)
        total = self._database.value(f"SELECT COUNT(*) FROM (SELECT 1 {matching} LIMIT {COUNT_UP_TO})", values)
        return rows, total

    def _groups(self, terms: Sequence[str]) -> str | None:
        """A question to the index that all hits answer; "" if every text must be read, None if nothing can match."""
        asked = []
        for term in terms:
            if len(term) >= _GROUP:
                groups = list(dict.fromkeys(term[i : i + _GROUP] for i in range(len(term) - _GROUP + 1)))
                step = max(1, len(groups) // _MOST_GROUPS)  # some of them, over all of the term
                asked += [_quoted(group) for group in groups[::step][:_MOST_GROUPS]]
                continue
            found = self._database.rows(
                "SELECT term FROM image_groups WHERE term >= ? AND term < ? LIMIT ?",
                (term, term + "\U0010ffff", _MOST_BEGINNINGS),
            )
            if not found:
                return None
            if len(found) < _MOST_BEGINNINGS:
                asked.append(f"({' OR '.join(_quoted(row['term']) for row in found)})")
        return " AND ".join(asked)

    def rebuild(self) -> None:
        """Rebuild the damaged index: everything in it can be read from the rows of `images`."""
        logger.warning("the search index was damaged and is rebuilt")
        with self._database.change() as connection:
            for table in ("image_groups", "image_words"):
                connection.execute(f"DROP TABLE IF EXISTS {table}")
            for statement in filter(str.strip, SEARCH_TABLES.split(";")):
                connection.execute(statement)
            connection.execute("UPDATE search_progress SET below = ?", (2**63 - 1,))

    def index_older(self, is_stopping: Callable[[], bool] = lambda: False) -> int:
        """Index the images that are not yet indexed: all after an update of the program or a damaged index, else none.

        Returns:
            How many pictures were indexed.
        """
        try:
            return self._index_older(is_stopping)
        except StudioError as error:
            if not _is_damage(error):
                raise
            self.rebuild()
            return self._index_older(is_stopping)

    def _index_older(self, is_stopping: Callable[[], bool]) -> int:
        count = 0
        while not is_stopping():
            below = self._database.value("SELECT below FROM search_progress") or 0
            if below:
                rows = self._database.rows(
                    "SELECT row, recipe, upscale, parent FROM images WHERE row < ? ORDER BY row DESC LIMIT ?",
                    (below, _BATCH),
                )
            else:
                rows = []
            with self._database.change() as connection:
                for row in rows:
                    _put(connection, row["row"], _words(connection, row))
                connection.execute(
                    "UPDATE search_progress SET below = ? WHERE below = ?", (rows[-1]["row"] if rows else 0, below)
                )
            count += len(rows)
            if not rows:
                break
        return count


def _is_damage(error: StudioError) -> bool:
    """Whether the index itself is damaged; FTS5 reports most damage without a code of its own."""
    return isinstance(error, DamagedDatabase) or error.code == "database"


def _put(connection: sqlite3.Connection, row: int, words: Words) -> None:
    connection.execute("DELETE FROM image_words WHERE rowid = ?", (row,))
    connection.execute(
        "INSERT INTO image_words (rowid, prompt, negative_prompt, model, names) VALUES (?, ?, ?, ?, ?)", (row, *words)
    )


def _words(connection: sqlite3.Connection, row: sqlite3.Row) -> Words:
    """The words of a row; of one that can't be read, none: it stays in the gallery all the same."""
    try:
        recipe = Recipe.read(row["recipe"]) if row["recipe"] else _source(connection, row["parent"])
        upscale = Upscale.model_validate_json(row["upscale"]) if row["upscale"] else None
    except ValidationError:
        return Words()
    return words_of(recipe, upscale)


def _source(connection: sqlite3.Connection, parent: str | None) -> Recipe | None:
    """The recipe of the picture that an upscaled one comes from, however often it was upscaled before."""
    for _ in range(_MOST_PARENTS):
        row = connection.execute("SELECT recipe, parent FROM images WHERE id = ?", (parent,)).fetchone()
        if row is None:
            return None
        if row["recipe"]:
            return Recipe.read(row["recipe"])
        parent = row["parent"]
    return None


def _quoted(group: str) -> str:
    doubled = group.replace('"', '""')
    return f'"{doubled}"'
