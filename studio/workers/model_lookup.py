"""Finds a model on another machine: at the same path, else by its content in that machine's own folders.

Knows no Ray. A model is a file, or a folder of which the weights, configurations and vocabularies count.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from catalog.files.folders import files_below

_COUNTED = (".safetensors", ".json", ".txt", ".model")


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a model: (relative path, bytes), sorted; of a single file one, without a name."""

    files: tuple[tuple[str, int], ...]

    @property
    def is_file(self) -> bool:
        """Whether it is one file, which may have any name."""
        return self.files[0][0] == "" if self.files else False


def listing_of(path: Path) -> Listing:
    """What lies at a path; nothing, where nothing can be read."""
    try:
        if path.is_file():
            return Listing((("", path.stat().st_size),))
        found = []
        for file in files_below(path):
            if file.suffix in _COUNTED:
                found.append((file.relative_to(path).as_posix(), file.stat().st_size))
        return Listing(tuple(sorted(found)))
    except OSError:
        return Listing(())


class ContentHashes:
    """sha256 of models by path; each is computed once, as long as sizes and times stay. For any thread."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], str] = {}

    def of(self, path: Path, listing: Listing) -> str:
        """Of a file's bytes, or over a folder's (relative path, sha256) pairs. Raises OSError."""
        whole, paths = hashlib.sha256(), [path / name for name, _ in listing.files]
        stamp = (path, listing, *(file.stat().st_mtime_ns for file in paths))
        if stamp not in self._known:
            for (name, _), file in zip(listing.files, paths, strict=True):
                with file.open("rb") as opened:
                    sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
                whole.update(f"{name}\0{sha256}\n".encode())
            self._known[stamp] = whole.hexdigest()
        return self._known[stamp]


def find_content(listing: Listing, sha256: str, folders: Sequence[Path], hashes: ContentHashes) -> Path | None:
    """The first place below the folders with this content. Reads only what has the same files and sizes."""
    for candidate in _candidates(listing, folders):
        try:
            if listing_of(candidate) == listing and hashes.of(candidate, listing) == sha256:
                return candidate
        except OSError:
            continue
    return None


def _candidates(listing: Listing, folders: Sequence[Path]) -> Iterator[Path]:
    if not listing.files:
        return
    first = PurePosixPath(listing.files[0][0])
    for folder in folders:
        for file in files_below(folder):
            if listing.is_file:
                yield file
            elif file.as_posix().endswith(f"/{first}"):
                yield file.parents[len(first.parts) - 1]


def places_here(
    paths: Mapping[str, str],
    listings: Mapping[str, Listing],
    sha256: Mapping[str, str],
    folders: Sequence[Path],
    hashes: ContentHashes,
) -> dict[str, str]:
    """Where each model is on this machine, by its key; without those that are nowhere.

    Args:
        paths: Where they are on the studio's machine.
        listings: What they are there.
        sha256: Of those that are to be looked for by their content.
    """
    found = {}
    for key, path in paths.items():
        if listing_of(Path(path)) == listings[key]:
            found[key] = path
        elif key in sha256:
            place = find_content(listings[key], sha256[key], folders, hashes)
            if place is not None:
                found[key] = str(place)
    return found
