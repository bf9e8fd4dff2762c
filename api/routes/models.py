"""Routes that list what a recipe may name: models, samplers, schedules, guidance methods, upscalers."""

import gzip
import hashlib

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api import schemas
from api.dependencies import StudioHere
from api.media import send_picture
from catalog.files.folders import file_stamp
from contract.errors import NotFound
from contract.values import ModelKind
from studio.studio import Studio

router = APIRouter(tags=["models"])
_COMPRESSED_FROM = 20_000  # bytes


class ModelPages:
    """The answers to GET /models, made once for each state of the list.

    With 5,000 models, one answer takes a tenth of a second.
    """

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._kept: dict[ModelKind, tuple[int, str, bytes, bytes]] = {}

    def page(self, kind: ModelKind) -> tuple[str, bytes, bytes]:
        """The list of a kind: its ETag, the JSON, and the same compressed."""
        models = self._studio.models()
        generation = self._studio.models_generation
        kept = self._kept.get(kind)
        if kept is None or kept[0] != generation:
            body = schemas.model_list(entry for entry in models if entry.ref.kind == kind).model_dump_json().encode()
            tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            # Here and not in the application's compression, which would block the event loop.
            kept = self._kept[kind] = (generation, tag, body, gzip.compress(body, 1))
        return kept[1:]


@router.get("/models", response_model=schemas.ModelList)
def models(request: Request, kind: ModelKind = "checkpoint") -> Response:
    """All models of a kind (checkpoints, if none is named), those with a problem too."""
    pages: ModelPages = request.app.state.model_pages
    tag, body, compressed = pages.page(kind)
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Accept-Encoding"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if len(body) > _COMPRESSED_FROM and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(compressed, media_type="application/json", headers={**headers, "Content-Encoding": "gzip"})
    return Response(body, media_type="application/json", headers=headers)


@router.get(
    "/models/{name:path}/preview",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}, "image/png": {}}, "description": "A picture."}},
)
def preview(request: Request, studio: StudioHere, name: str, kind: ModelKind | None = None) -> Response:
    """The image beside a model. A name may be of several kinds; without `kind` the first is taken."""
    entry = studio.model(name, kind)
    path = entry.preview_path
    if path is None:
        raise NotFound(f"“{entry.title}” has no picture.", "")
    try:
        status = path.stat()
    except OSError:
        raise NotFound(f"The picture of “{entry.title}” is gone.", "") from None
    folder = entry.path if entry.format == "folder" else entry.path.parent
    return send_picture(request, path, folder, file_stamp(status).replace(":", "-"))


@router.get("/models/{name:path}")
def model(studio: StudioHere, name: str, kind: ModelKind | None = None) -> schemas.Model:
    """One model, with its notes. A name may be of several kinds; without `kind` the first is taken."""
    return schemas.model_details(studio.model(name, kind))


@router.get("/upscalers")
def upscalers(studio: StudioHere) -> schemas.UpscalerList:
    """All upscalers; those that are latent work in hires passes only."""
    return schemas.upscaler_list(entry for entry in studio.models() if entry.ref.kind == "upscaler")


@router.get("/guidance-methods")
def guidance_methods() -> schemas.GuidanceMethodList:
    """Methods beside classifier-free guidance, and their parameters."""
    return schemas.guidance_method_list()


@router.get("/samplers")
def samplers() -> schemas.SamplerList:
    """Samplers, schedules, and which pairs are offered."""
    return schemas.sampler_list()
