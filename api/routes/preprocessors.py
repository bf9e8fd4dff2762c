"""Route of the preprocessors: their options, and how to install those that are missing."""

from collections.abc import Sequence
from pathlib import Path

from fastapi import APIRouter, Request
from pydantic import BaseModel

from api.dependencies import StudioHere, refusal_to_manage
from catalog.preprocessors import (
    PREPROCESSORS,
    Option,
    Preprocessor,
    annotator_folders,
    instructions,
    is_installed,
    missing_files,
)
from contract.model_tasks import Download

router = APIRouter(tags=["models"])


class OptionFacts(BaseModel):
    """A threshold and its useful range."""

    label: str
    default: float
    least: float
    most: float


class FileFacts(BaseModel):
    """A file that a preprocessor needs; `sha256` is empty where it is not known."""

    name: str
    repository: str
    megabytes: int
    sha256: str


class PreprocessorFacts(BaseModel):
    """A preprocessor; `hint` says how to install it if it is not.

    downloads: the bodies for POST /jobs/download that install it, for callers who may download.
    """

    id: str
    label: str
    makes: str
    control_type: str
    aliases: tuple[str, ...]
    has_resolution: bool
    needs_mask: bool
    needs_model: bool
    low: OptionFacts | None
    high: OptionFacts | None
    installed: bool
    hint: str
    megabytes: int
    files: tuple[FileFacts, ...]
    downloads: tuple[Download, ...]


class PreprocessorList(BaseModel):
    preprocessors: tuple[PreprocessorFacts, ...]


@router.get("/preprocessors")
def preprocessors(request: Request, studio: StudioHere) -> PreprocessorList:
    """All preprocessors, installed or not."""
    folders = annotator_folders(studio.settings.model_dirs)
    may_download = refusal_to_manage(request) is None
    listed = []
    for found in PREPROCESSORS.values():
        files = []
        for file in found.files:
            files.append(
                FileFacts(name=file.name, repository=file.repository, megabytes=file.megabytes, sha256=file.sha256)
            )
        listed.append(
            PreprocessorFacts(
                id=found.id,
                label=found.label,
                makes=found.makes,
                control_type=found.control_type,
                aliases=found.aliases,
                has_resolution=found.has_resolution,
                needs_mask=found.needs_mask,
                needs_model=found.needs_model,
                low=_option(found.low),
                high=_option(found.high),
                installed=is_installed(found, folders),
                hint=instructions(found, folders),
                megabytes=found.megabytes,
                files=tuple(files),
                downloads=_downloads(found, folders) if may_download else (),
            )
        )
    return PreprocessorList(preprocessors=tuple(listed))


def _downloads(preprocessor: Preprocessor, folders: Sequence[Path]) -> tuple[Download, ...]:
    """A download for each repository with missing files; one of several files has the preprocessor's name."""
    by_repository: dict[str, list[str]] = {}
    for file in missing_files(preprocessor, folders):
        by_repository.setdefault(file.repository, []).append(file.name)
    downloads = []
    for repository, names in by_repository.items():
        name = preprocessor.label if len(names) > 1 else None
        downloads.append(Download(source=repository, files=tuple(names), kind="annotator", name=name))
    return tuple(downloads)


def _option(option: Option | None) -> OptionFacts | None:
    if option is None:
        return None
    return OptionFacts(label=option.label, default=option.default, least=option.least, most=option.most)
