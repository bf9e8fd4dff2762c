"""Routes of the model manager: the catalog, downloads, conversions, merges, deletion.

All but the catalog are for the owner of the machine alone. Models in memory are managed in `residency.py`.
"""

import shutil
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel

from api.dependencies import Administrator, JsonBody, Owner, Session, StudioHere, body_schema, refusal_to_manage
from api.schemas import Accepted, accepted
from catalog.families import FAMILIES, label_of
from contract.model_tasks import Convert, Download, MergeDraft
from contract.validation import parse_request
from contract.values import ModelKind
from studio.downloads.hub import SUFFIXES

router = APIRouter(tags=["model manager"])


class CatalogModelFacts(BaseModel):
    """A model of the catalog.

    `download` is the body for POST /jobs/download, `queue_title` what the queue calls it; `runs`: its family runs here.
    """

    id: str
    title: str
    about: str
    kind: str
    family: str
    family_label: str
    runs: bool
    license: str
    terms: str
    size_bytes: int
    gated: bool
    installed: bool
    download: Download
    queue_title: str


class CatalogModelList(BaseModel):
    """allowed: whether the caller may download; else `refusal` says why not. folder: where models go."""

    catalog_models: tuple[CatalogModelFacts, ...]
    allowed: bool
    refusal: str
    offline: bool
    folder: str
    free_bytes: int | None


class FileOfRepository(BaseModel):
    path: str
    size_bytes: int
    is_pickle: bool
    sha256: str


class RepositoryFacts(BaseModel):
    """A repository of the hub: its model files, and the files of its diffusers folder layout, if it has one."""

    id: str
    license: str
    gated: bool
    files: tuple[FileOfRepository, ...]
    folder: tuple[str, ...]
    folder_bytes: int


def _body(kind: type[BaseModel]) -> dict[str, object]:
    return body_schema("application/json", {"$ref": f"#/components/schemas/{kind.__name__}"})


BODIES = (Download, Convert, MergeDraft)


@router.get("/catalog")
def catalog_models(request: Request, studio: StudioHere) -> CatalogModelList:
    """Recommended models that are openly available, with license and size."""
    refusal = refusal_to_manage(request)
    folder = studio.settings.models_dir
    models = []
    for model, is_installed in studio.model_tasks.catalog_models():
        models.append(
            CatalogModelFacts(
                id=model.id,
                title=model.title,
                about=model.about,
                kind=model.download.kind,
                family=model.family,
                family_label=label_of(model.family),
                runs=model.family in FAMILIES,
                license=model.license,
                terms=model.terms,
                size_bytes=model.size_bytes,
                gated=model.is_gated,
                installed=is_installed,
                download=model.download,
                queue_title=model.download.title,
            )
        )
    return CatalogModelList(
        catalog_models=tuple(models),
        allowed=refusal is None,
        refusal=f"{refusal.message} {refusal.hint}".rstrip() if refusal else "",
        offline=studio.settings.hub_offline,
        folder=f"{folder.name}/",
        free_bytes=shutil.disk_usage(folder).free if not refusal and folder.is_dir() else None,
    )


@router.get("/repositories/{owner}/{name}", dependencies=[Administrator])
def repository(
    studio: StudioHere,
    owner: Annotated[str, Path(pattern=r"^[\w.-]{1,96}$")],
    name: Annotated[str, Path(pattern=r"^[\w.-]{1,96}$")],
    revision: Annotated[str, Query(pattern=r"^[A-Za-z0-9][\w.-]{0,95}$")] = "main",
) -> RepositoryFacts:
    """The model files of a repository of huggingface.co, before anything is downloaded."""
    found = studio.model_tasks.repository(f"{owner}/{name}", revision)
    files = []
    for file in found.files:
        if file.is_pickle or file.path.endswith(SUFFIXES[0]):
            files.append(
                FileOfRepository(
                    path=file.path, size_bytes=file.size_bytes, is_pickle=file.is_pickle, sha256=file.sha256
                )
            )
    return RepositoryFacts(
        id=found.id,
        license=found.license,
        gated=found.is_gated,
        files=tuple(files),
        folder=tuple(file.path for file in found.folder),
        folder_bytes=sum(file.size_bytes for file in found.folder),
    )


@router.post("/jobs/download", status_code=202, dependencies=[Administrator], openapi_extra=_body(Download))
def download(studio: StudioHere, owner: Owner, session: Session, body: JsonBody) -> Accepted:
    """Download a model into the models folder; resumes where an earlier try stopped."""
    return accepted(studio.model_tasks.download(parse_request(Download, body), owner, session))


@router.post("/jobs/convert", status_code=202, dependencies=[Administrator], openapi_extra=_body(Convert))
def convert(studio: StudioHere, owner: Owner, session: Session, body: JsonBody) -> Accepted:
    """Convert a pickle to safetensors, in an isolated process."""
    return accepted(studio.model_tasks.convert(parse_request(Convert, body), owner, session))


@router.post("/jobs/merge", status_code=202, dependencies=[Administrator], openapi_extra=_body(MergeDraft))
def merge(studio: StudioHere, owner: Owner, session: Session, body: JsonBody) -> Accepted:
    """Merge checkpoints into a new one."""
    return accepted(studio.model_tasks.merge(parse_request(MergeDraft, body), owner, session))


@router.delete("/models/{name:path}", status_code=204, dependencies=[Administrator])
def delete(studio: StudioHere, name: str, kind: ModelKind | None = None) -> None:
    """Remove a model's files from the disk, for good."""
    studio.model_tasks.delete(name, kind)
