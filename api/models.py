"""Routes of what can be asked for: models, samplers, schedules."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api import shapes
from api.asking import StudioHere
from api.media import send_picture
from contract.errors import NotFound
from contract.values import ModelKind

router = APIRouter(tags=["models"])


@router.get("/models")
def models(studio: StudioHere, kind: ModelKind = "checkpoint") -> shapes.ModelList:
    """All models of a kind (checkpoints, if none is named), those with a problem too."""
    return shapes.ModelList(models=tuple(shapes.model(entry) for entry in studio.models() if entry.ref.kind == kind))


@router.get("/models/{name:path}/preview", response_class=Response,
            responses={200: {"content": {"image/jpeg": {}, "image/png": {}}, "description": "A picture."}})
def preview(request: Request, studio: StudioHere, name: str) -> Response:
    """The picture beside a model."""
    entry = studio.model(name)
    path = entry.preview_path
    if path is None:
        raise NotFound(f"“{entry.title}” has no picture.", "")
    status = path.stat()
    return send_picture(request, path, entry.path, f"{status.st_mtime_ns:x}-{status.st_size:x}")


@router.get("/models/{name:path}")
def model(studio: StudioHere, name: str) -> shapes.Model:
    """One model."""
    return shapes.model(studio.model(name))


@router.get("/upscalers")
def upscalers(studio: StudioHere) -> shapes.UpscalerList:
    """What enlarges: for hires passes all of them, for finished pictures those that are not latent."""
    return shapes.upscalers(entry for entry in studio.models() if entry.ref.kind == "upscaler")


@router.get("/samplers")
def samplers() -> shapes.SamplerList:
    """Samplers, schedules, and which pairs are offered."""
    return shapes.samplers()
