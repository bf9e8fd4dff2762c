"""Routes that take a picture as their body: to work from, or to read how it was made."""

from fastapi import APIRouter

from api.asking import Owner, PictureBody, StudioHere, body_schema
from api.shapes import Found, draft_fields
from contract.records import StoredInput

router = APIRouter(tags=["inputs"])
_PICTURE = body_schema("image/*", {"type": "string", "format": "binary"})


@router.post("/inputs", openapi_extra=_PICTURE)
def add(studio: StudioHere, owner: Owner, body: PictureBody) -> StoredInput:
    """Bring a picture (PNG, JPEG, WebP); recipes name it by its sha256."""
    return studio.add_input(body, owner)


@router.post("/recipes/read", openapi_extra=_PICTURE)
def read(studio: StudioHere, owner: Owner, body: PictureBody) -> Found:
    """What a picture says of how it was made, by Darkroom or A1111. Nothing is kept."""
    found = studio.read_recipe(body)
    return Found(draft=draft_fields(found.draft), infotext=found.infotext, unknown=found.unknown,
                 notices=found.notices)
