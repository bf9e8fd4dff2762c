"""Routes of what can be asked for: models, samplers, schedules."""

import gzip
import hashlib

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api import shapes
from api.asking import StudioHere
from api.media import send_picture
from contract.errors import NotFound
from contract.values import ModelKind

router = APIRouter(tags=["models"])
_COMPRESSED_FROM = 20_000  # bytes


@router.get("/models", response_model=shapes.ModelList)
def models(request: Request, studio: StudioHere, kind: ModelKind = "checkpoint") -> Response:
    """All models of a kind (checkpoints, if none is named), those with a problem too."""
    body = shapes.model_list(entry for entry in studio.models() if entry.ref.kind == kind).model_dump_json().encode()
    headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"', "Cache-Control": "private, no-cache",
               "Vary": "Accept-Encoding"}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if len(body) > _COMPRESSED_FROM and "gzip" in request.headers.get("accept-encoding", ""):
        body = gzip.compress(body, 1)
        headers["Content-Encoding"] = "gzip"
    return Response(body, media_type="application/json", headers=headers)


@router.get("/models/{name:path}/preview", response_class=Response,
            responses={200: {"content": {"image/jpeg": {}, "image/png": {}}, "description": "A picture."}})
def preview(request: Request, studio: StudioHere, name: str, kind: ModelKind | None = None) -> Response:
    """The picture beside a model. Names may be those of several kinds; without one it is the first's."""
    entry = studio.model(name, kind)
    path = entry.preview_path
    if path is None:
        raise NotFound(f"“{entry.title}” has no picture.", "")
    try:
        status = path.stat()
    except OSError:
        raise NotFound(f"The picture of “{entry.title}” is gone.", "") from None
    folder = entry.path if entry.format == "folder" else entry.path.parent
    return send_picture(request, path, folder, f"{status.st_mtime_ns:x}-{status.st_size:x}")


@router.get("/models/{name:path}")
def model(studio: StudioHere, name: str, kind: ModelKind | None = None) -> shapes.Model:
    """One model, with its notes. Names may be those of several kinds; without one it is the first's."""
    return shapes.model(studio.model(name, kind))


@router.get("/upscalers")
def upscalers(studio: StudioHere) -> shapes.UpscalerList:
    """What enlarges: for hires passes all of them, for finished pictures those that are not latent."""
    return shapes.upscalers(entry for entry in studio.models() if entry.ref.kind == "upscaler")


@router.get("/samplers")
def samplers() -> shapes.SamplerList:
    """Samplers, schedules, and which pairs are offered."""
    return shapes.samplers()
