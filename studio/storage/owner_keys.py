"""Hashes owners for image files with a secret key, so that a PNG never reveals the cookie of its owner."""

import hashlib
from pathlib import Path

from studio.storage.secret_file import secret_or_new

FILE = "owner.key"


class OwnerKeys:
    """Hashes owners with a secret of this data folder (`owner.key`, mode 0600, made when missing).

    Attributes:
        is_new: The secret was made just now: no existing image was hashed with it.
        problem: Why it had to be made, as a sentence; "" if there was none before.
        replaced_at: When it replaced a damaged one, which is kept beside it; 0 if it did not.
    """

    def __init__(self, data_dir: Path) -> None:
        secret = secret_or_new(data_dir / FILE)
        self._secret = secret.value
        self.is_new = secret.is_new
        self.problem = secret.problem
        self.replaced_at = (data_dir / FILE).stat().st_mtime if any(data_dir.glob(f"{FILE}*.bad")) else 0.0

    def key_of(self, owner: str) -> str:
        """32 hex digits, the same for the same owner in the same data folder."""
        return hashlib.blake2b(owner.encode(), key=self._secret, digest_size=16).hexdigest()

    @property
    def mark(self) -> str:
        """Identifies the secret without revealing it; no owner has this name."""
        return self.key_of("\0mark")
