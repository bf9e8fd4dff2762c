"""Routes that take a picture as their body: to work from, or to read how it was made."""

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
    """Bring a picture (PNG, JPEG, WebP, AVIF); recipes name it by its sha256.

    `notices`: what was done to it that can be seen.
    """
    return studio.add_upload(body, owner)


@router.get("/uploads/{sha256}", response_class=Response, responses=_PNG)
def kept(
    request: Request, studio: StudioHere, owner: Owner, sha256: Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]
) -> Response:
    """A brought picture as it is kept; only for those who brought it."""
    return send_picture(request, studio.upload_file(sha256, owner), studio.settings.uploads_dir, sha256)


@router.post("/recipes/read", openapi_extra=_PICTURE)
def read(studio: StudioHere, owner: Owner, body: ImageBody) -> Found:
    """What a picture says of how it was made, by Darkroom, A1111 or another program. Nothing is kept."""
    found = studio.read_recipe(body, owner)
    return Found(draft=draft_fields(found.draft), infotext=found.infotext, unknown=found.unknown, notices=found.notices)
