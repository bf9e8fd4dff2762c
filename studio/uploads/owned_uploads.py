"""Uploads with their owners: each owner can see and use only their own."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from contract.errors import NotFound
from contract.records import StoredUpload
from contract.work import RawImage
from studio.uploads.upload_owners import UploadOwners
from studio.uploads.uploads import Uploads


class OwnedUploads:
    """The uploads folder and the table of owners together.

    Attributes:
        files: The folder itself, for reading an upload that is known to be the owner's.
    """

    def __init__(self, files: Uploads, owners: UploadOwners) -> None:
        self.files = files
        self._owners = owners

    def add(self, data: bytes, owner: str) -> StoredUpload:
        """Keep an image. Raises InvalidInput, TooLarge, StorageFull."""
        kept = self.files.add(data)
        self._owners.add(kept.sha256, owner)
        return kept

    def add_raw(self, pixels: RawImage, owner: str) -> StoredUpload:
        """Keep an image that a job of the owner made. Raises StorageFull."""
        kept = self.files.add_raw(pixels)
        self._owners.add(kept.sha256, owner)
        return kept

    def path(self, sha256: str, owner: str) -> Path:
        """The PNG of an upload. Raises NotFound."""
        path = self.files.path(sha256)
        if not path.is_file() or not self._owners.has(sha256, owner):
            raise NotFound("There is no such picture.", "Add it again.")
        return path

    def size(self, sha256: str, owner: str) -> tuple[int, int] | None:
        """Width and height of an upload; None if there is none or it is another's."""
        if not self._owners.has(sha256, owner):
            return None
        return self.files.size(sha256)

    def sizes_of(self, owner: str) -> Callable[[str], tuple[int, int] | None]:
        """`size` for one owner."""
        return partial(self.size, owner=owner)
