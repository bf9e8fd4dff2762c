"""Owners as pictures know them: a keyed hash, so that a PNG never gives away the cookie of who made it."""

import hashlib
from pathlib import Path

from studio.storage.secret_file import secret_or_new

FILE = "owner.key"


class OwnerKeys:
    """Hashes owners with a secret of this data folder (`owner.key`, mode 0600, made when missing).

    Attributes:
        is_new: The secret was made just now: no picture that is there already was hashed with it.
        problem: Why it had to be made, as a sentence; "" if there was none before.
        replaced_at: When it took the place of a damaged one that is kept beside it; 0 if there is none.
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
        """What tells this secret from another and says nothing of it; no owner is called so."""
        return self.key_of("\0mark")
