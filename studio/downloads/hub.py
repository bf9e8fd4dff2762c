"""Reads what a repository of the hub holds: files with sizes and checksums, license, whether it is gated.

Reads the hub's own list (`/api/models/<id>?blobs=true`), never a file of the repository. Which of its files make
the folder form of diffusers is decided here too; where they go is in `destinations.py`.
"""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPResponse
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from contract.errors import HubUnavailable, InvalidRecipe, JobError, NotAllowed, NotFound
from contract.model_tasks import is_plain_path
from studio.downloads.wire import Broken, Late, Wire

PICKLES = (".ckpt", ".pt", ".pth", ".bin")
SUFFIXES = (".safetensors", ".json", ".txt", ".model")
LISTING_S = 60.0
_MAX_LIST_BYTES = 20_000_000
_INDEX = "model_index.json"
_NOT_NEEDED = ("safety_checker", "feature_extractor", "image_encoder")
_WEIGHTS = ("diffusion_pytorch_model", "model")
_ANY_WEIGHTS = (".safetensors", ".msgpack", ".onnx", *PICKLES)


class Busy(HubUnavailable):
    """The hub asks to come back later."""

    default_code = "hub_busy"

    def __init__(self, message: str, hint: str, *, retry_after_s: float) -> None:
        super().__init__(message, hint)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository.

    Attributes:
        sha256: Of its bytes, where it is kept as a large file.
        blob: git's sha1 of the others.
    """

    path: str
    size_bytes: int
    sha256: str = ""
    blob: str = ""

    @property
    def is_pickle(self) -> bool:
        """Whether opening it can run code."""
        return self.path.lower().endswith(PICKLES)


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository at one commit; gated: its owner asks to accept a license first."""

    id: str
    commit: str
    license: str
    is_gated: bool
    files: tuple[HubFile, ...]

    @property
    def folder(self) -> tuple[HubFile, ...]:
        """The files of the folder layout of diffusers; none if it has no such layout.

        Configurations, vocabularies, and of each component's weights one version: the half one where there is one.
        """
        by_path = {file.path: file for file in self.files}
        if _INDEX not in by_path:
            return ()
        chosen = [by_path[_INDEX]]
        folders = {path.partition("/")[0] for path in by_path if path.count("/") == 1}
        for folder in sorted(folders - set(_NOT_NEEDED)):
            paths = [path for path in by_path if path.startswith(f"{folder}/")]
            weights = None
            for name in _WEIGHTS:
                half, full = f"{folder}/{name}.fp16.safetensors", f"{folder}/{name}.safetensors"
                weights = weights or by_path.get(half) or by_path.get(full)
            if weights is None and any(path.endswith(_ANY_WEIGHTS) for path in paths):
                continue  # weights in no format that is read here
            for path in paths:
                is_direct = posixpath.dirname(path) == folder
                if is_direct and path.endswith((".json", ".txt", ".model")) and ".index." not in path:
                    chosen.append(by_path[path])
            if weights:
                chosen.append(weights)
        return tuple(chosen)


def read_repository(wire: Wire, name: str, revision: str = "main", *, whole_s: float = LISTING_S) -> Repository:
    """Ask for the list; it has to arrive within `whole_s` seconds.

    Raises:
        NotFound: there is none, or it is private.
        JobError: Offline, Busy, or the answer can't be understood.
    """
    try:
        with wire.ask(f"/api/models/{quote(name)}/revision/{quote(revision)}?blobs=true", whole_s=whole_s) as answer:
            refuse_status(answer, wire, name)
            data = answer.read(_MAX_LIST_BYTES + 1)
    except Late:
        raise HubUnavailable(
            f"{wire.hub.host} did not send its list within {whole_s:g} s.", "Try again later."
        ) from None
    except Broken:
        raise HubUnavailable(f"The connection to {wire.hub.host} broke.", "Try again.") from None
    try:
        listing = _Listing.model_validate_json(data)
    except ValidationError:
        raise HubUnavailable(f"{wire.hub.host} did not answer with a list of files.", "Try again later.") from None
    files: list[HubFile] = []
    for entry in listing.siblings:
        large = entry.lfs or {}
        size = large.get("size") if entry.size is None else entry.size
        if isinstance(size, int) and size >= 0 and is_plain_path(entry.rfilename):
            sha256 = str(large.get("sha256", "")).lower()
            files.append(HubFile(entry.rfilename, size, sha256, "" if large else entry.blobId or ""))
    card = listing.cardData or {}
    terms = card.get("license_name") or card.get("license") or ""
    return Repository(name, listing.sha, str(terms)[:80], bool(listing.gated), tuple(files))


class _Sibling(BaseModel):
    """A file in the hub's list, by the hub's names."""

    rfilename: str
    size: object = None
    blobId: str | None = None
    lfs: dict[str, object] | None = None


class _Listing(BaseModel):
    """The hub's description of a repository, as far as it is used."""

    sha: str
    siblings: tuple[_Sibling, ...]
    cardData: dict[str, object] | None = None
    gated: object = False


def refuse_status(answer: HTTPResponse, wire: Wire, name: str) -> None:
    """Raise for a status other than 200 and 206.

    Raises:
        NotFound, Busy, Broken, JobError.
    """
    status, host = answer.status, wire.hub.host
    if status in (200, 206):
        return
    code = answer.headers.get("X-Error-Code", "")
    if code == "GatedRepo" or (status in (401, 403) and code != "RepoNotFound"):
        whose = "The HF_TOKEN that Darkroom was started with has" if wire.hub.token else "You have"
        raise NotAllowed(
            f"“{name}” is given only to those who accepted its license. {whose} no access yet.",
            f"Accept it on its page at {host}, make a token there, and start Darkroom with HF_TOKEN set.",
            code="gated",
        )
    if status == 404 or code == "RepoNotFound":
        what = f"that file in “{name}”" if code == "EntryNotFound" else f"repository “{name}”"
        raise NotFound(f"{host} has no {what}, or does not show it.", "Correct the name: owner/model.")
    if status == 429:
        wait = answer.headers.get("Retry-After", "")
        wait_s = min(3600.0, float(wait)) if wait.isdigit() else 60.0
        raise Busy(
            f"{host} accepts no requests for {wait_s:.0f} s: there were too many.",
            "Try again then.",
            retry_after_s=wait_s,
        )
    if status >= 500:
        raise Broken(f"status {status}")
    raise JobError(f"{host} answered {status} for “{name}”.", "Try again later.", code="download_failed")


def chosen_files(repository: Repository, wanted: Sequence[str]) -> tuple[HubFile, ...]:
    """The files that a download names, or the folder's.

    Raises:
        NotFound: one isn't there.
        InvalidRecipe: one is no file of a model, or there is no folder form.
    """
    if not wanted:
        if not repository.folder:
            raise InvalidRecipe(
                f"“{repository.id}” has no {_INDEX}, so it is not a diffusers model.",
                "Choose one of its files.",
                field="files",
            )
        return repository.folder
    known = {file.path: file for file in repository.files}
    for path in wanted:
        if path not in known:
            raise NotFound(f"“{repository.id}” has no file “{path[:120]}”.", "Choose one that it has.")
        if not path.lower().endswith((*SUFFIXES, *PICKLES)):
            raise InvalidRecipe(
                f"“{path[:120]}” is not a model file.",
                f"Choose one that ends in {', '.join(SUFFIXES)}.",
                field="files",
            )
    return tuple(known[path] for path in wanted)
