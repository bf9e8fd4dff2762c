"""Owners as pictures know them: a keyed hash, so that a PNG never gives away the cookie of who made it."""

import hashlib
import os
import secrets
from pathlib import Path

from contract.errors import StudioError

_KEY_BYTES = 32


class OwnerKeys:
    """Hashes owners with a secret of this data folder (`owner.key`, mode 0600, made when missing)."""

    def __init__(self, data_dir: Path) -> None:
        self._secret = _secret(data_dir / "owner.key")

    def key_of(self, owner: str) -> str:
        """32 hex digits, the same for the same owner in the same data folder."""
        return hashlib.blake2b(owner.encode(), key=self._secret, digest_size=16).hexdigest()


def _secret(path: Path) -> bytes:
    try:
        if path.exists():
            secret = path.read_bytes()
            if len(secret) == _KEY_BYTES:
                return secret
            path.replace(path.with_name(path.name + ".bad"))
        secret = secrets.token_bytes(_KEY_BYTES)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secret)
        return secret
    except OSError as error:
        raise StudioError(f"{path.name} can't be used ({error.strerror}).",
                          "Correct the permissions of the data folder.", code="data_folder") from None
