"""Routes that take an image as their body: to use it in recipes, or to read its generation parameters."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from api.dependencies import ImageBody, Owner, StudioHere, body_schema
from api.media import send_picture
from api.schemas import Found, draft_fields
from contract.records import StoredUpload

router = APIRouter(tags=["uploads"])
_PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}, "description": "The picture."}}
_PICTURE = body_schema("image/*", {"type": "string", "format": "binary"})


@router.post("/uploads", openapi_extra=_PICTURE)
def add(studio: StudioHere, owner: Owner, body: ImageBody) -> StoredUpload:
    """Upload an image (PNG, JPEG, WebP, AVIF); recipes name it by its sha256.

    `notices`: visible changes that were made to it.
    """
    return studio.add_upload(body, owner)


@router.get("/uploads/{sha256}", response_class=Response, responses=_PNG)
def kept(
    request: Request, studio: StudioHere, owner: Owner, sha256: Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]
) -> Response:
    """An uploaded image as it is stored; only for those who uploaded it."""
    return send_picture(request, studio.upload_file(sha256, owner), studio.settings.uploads_dir, sha256)


@router.post("/recipes/read", openapi_extra=_PICTURE)
def read(studio: StudioHere, owner: Owner, body: ImageBody) -> Found:
    """Read the generation parameters that Darkroom, A1111 or another program wrote into an image. Nothing is stored."""
    found = studio.read_recipe(body, owner)
    return Found(draft=draft_fields(found.draft), infotext=found.infotext, unknown=found.unknown, notices=found.notices)
