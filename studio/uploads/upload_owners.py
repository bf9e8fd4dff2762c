"""Records who uploaded which image.

Only they may see or use it, though its hash is in every recipe that used it.
"""

from studio.storage.database import Database
from studio.storage.owner_keys import OwnerKeys


class UploadOwners:
    """Owners of uploads; several may have uploaded the same image."""

    def __init__(self, database: Database, owners: OwnerKeys) -> None:
        self._database = database
        self._owners = owners

    def add(self, sha256: str, owner: str) -> None:
        """Remember that the owner uploaded it, or that a job of theirs made it."""
        self._database.write("INSERT OR IGNORE INTO upload_owners VALUES (?, ?)", (sha256, self._owners.key_of(owner)))

    def has(self, sha256: str, owner: str) -> bool:
        """Whether the owner uploaded it, or has an image that was made with it (the table may have been lost)."""
        key = self._owners.key_of(owner)
        return bool(
            self._database.value("SELECT 1 FROM upload_owners WHERE sha256 = ? AND owner_key = ?", (sha256, key))
            or self._database.value(
                "SELECT 1 FROM images WHERE owner_key = ? AND (recipe LIKE ? OR upscale LIKE ?) LIMIT 1",
                (key, *[f'%{{"sha256":"{sha256}"%'] * 2),
            )
        )
