"""Route of the preprocessors: what there is, which options each has, and how the others are installed."""

from collections.abc import Sequence
from itertools import groupby
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
    """A threshold and the range that makes sense."""

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
    """A preprocessor; `hint` says what to put where when it is not installed.

    downloads: for who may, the bodies for POST /jobs/download that install it.
    """

    id: str
    label: str
    makes: str
    control_type: str
    aliases: tuple[str, ...]
    has_resolution: bool
    needs_mask: bool
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
    """All preprocessors, those that are not installed too."""
    folders = annotator_folders(studio.settings.model_dirs)
    may_download = not refusal_to_manage(request)
    return PreprocessorList(
        preprocessors=tuple(
            _facts(
                found,
                is_installed(found, folders),
                instructions(found, folders),
                _downloads(found, folders) if may_download else (),
            )
            for found in PREPROCESSORS.values()
        )
    )


def _downloads(found: Preprocessor, folders: Sequence[Path]) -> tuple[Download, ...]:
    """One for each repository that has missing files; the second one is told from the first by its name."""
    missing = missing_files(found, folders)
    return tuple(
        Download(
            source=repository,
            files=(names := tuple(file.name for file in files)),
            kind="annotator",
            name=found.label if len(names) > 1 else None,
        )
        for repository, files in groupby(missing, key=lambda file: file.repository)
    )


def _facts(found: Preprocessor, installed: bool, hint: str, downloads: tuple[Download, ...]) -> PreprocessorFacts:
    files = tuple(
        FileFacts(name=f.name, repository=f.repository, megabytes=f.megabytes, sha256=f.sha256) for f in found.files
    )
    return PreprocessorFacts(
        id=found.id,
        label=found.label,
        makes=found.makes,
        control_type=found.control_type,
        aliases=found.aliases,
        has_resolution=found.has_resolution,
        needs_mask=found.needs_mask,
        low=_option(found.low),
        high=_option(found.high),
        installed=installed,
        hint=hint,
        megabytes=found.megabytes,
        files=files,
        downloads=downloads,
    )


def _option(option: Option | None) -> OptionFacts | None:
    if option is None:
        return None
    return OptionFacts(label=option.label, default=option.default, least=option.least, most=option.most)
