"""Owners as pictures know them: a keyed hash, so that a PNG never gives away the cookie of who made it."""

import hashlib
from pathlib import Path

from studio.secret_file import secret_or_new


class OwnerKeys:
    """Hashes owners with a secret of this data folder (`owner.key`, mode 0600, made when missing).

    Attributes:
        is_new: The secret was made just now: no picture that is there already was hashed with it.
        problem: Why it had to be made, as a sentence; "" if there was none before.
    """

    def __init__(self, data_dir: Path) -> None:
        secret = secret_or_new(data_dir / "owner.key")
        self._secret = secret.value
        self.is_new = secret.is_new
        self.problem = secret.problem

    def key_of(self, owner: str) -> str:
        """32 hex digits, the same for the same owner in the same data folder."""
        return hashlib.blake2b(owner.encode(), key=self._secret, digest_size=16).hexdigest()

    @property
    def mark(self) -> str:
        """What tells this secret from another and says nothing of it; no owner is called so."""
        return self.key_of("\0mark")
