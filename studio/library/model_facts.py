"""Facts read from the headers of models, kept across restarts, so that each file is opened only once.

Facts that another version of the catalog read are ignored.
"""

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from catalog.detect.file_models import FileFacts, facts_version
from catalog.families.sniffed import Sniffed
from catalog.files.side_files import About
from contract.errors import StudioError
from studio.storage.database import Database

logger = logging.getLogger(__name__)
Facts = tuple[str, FileFacts]  # the stamp of a file, and its facts


class ModelFacts:
    """A table of facts by path."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._version = facts_version()

    def load(self) -> dict[str, Facts]:
        """All that is kept; nothing while the database can't be read."""
        try:
            rows = self._database.rows("SELECT path, stamp, facts FROM model_facts WHERE version = ?", (self._version,))
        except StudioError:
            return {}
        found: dict[str, Facts] = {}
        for row in rows:
            with suppress(ValueError, KeyError, TypeError):  # a damaged row's file is read again
                table: dict[str, Any] = json.loads(row["facts"])
                sniffed: dict[str, Any] = table["sniffed"]
                about: dict[str, Any] = {}
                for name, value in table["about"].items():
                    about[name] = tuple(value) if isinstance(value, list) else value
                facts = FileFacts(
                    Sniffed(**{**sniffed, "control_type": tuple(sniffed["control_type"])}),
                    About(**about),
                    table["fingerprint"],
                    table["is_pickle"],
                )
                found[row["path"]] = (row["stamp"], facts)
        return found

    def save(self, facts: Mapping[str, Facts]) -> None:
        """Add facts; those that can't be kept are read again after the next start."""
        rows = [(path, stamp, self._version, json.dumps(asdict(kept))) for path, (stamp, kept) in facts.items()]
        try:
            with self._database.change() as connection:
                connection.executemany(
                    "INSERT OR REPLACE INTO model_facts (path, stamp, version, facts) VALUES (?, ?, ?, ?)", rows
                )
        except StudioError as error:
            logger.info("the facts of %d models could not be kept: %s", len(rows), error.message)
