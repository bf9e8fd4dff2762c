"""Routes of finished images. A file is served by the image's id only, and only to its owner."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, ValidationError

from api.dependencies import ImageId, JsonBody, Owner, StudioHere, body_schema, is_browser, refusal_to_manage
from api.media import send_picture
from api.schemas import Picture, PicturePage, picture
from contract.errors import InvalidRecipe, NotFound
from contract.recipe import Recipe
from contract.records import StoredUpload

router = APIRouter(prefix="/images", tags=["images"])
_PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}, "description": "The picture."}}
_THUMBNAIL: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/webp": {}, "image/jpeg": {}}, "description": "At most 320 px."}
}


class Favorite(BaseModel):
    """Whether a picture is one."""

    model_config = ConfigDict(strict=True, extra="forbid")
    favorite: bool


@router.get("")
def page(
    request: Request,
    studio: StudioHere,
    owner: Owner,
    limit: Annotated[int, Query(ge=1, le=200)] = 60,
    before: Annotated[str | None, Query(max_length=64)] = None,
    search: Annotated[str | None, Query(max_length=500)] = None,
) -> PicturePage:
    """The caller's pictures, newest first."""
    # At the machine itself, a browser adopts images that lost their owner; a program could come first by chance.
    if studio.has_lost_pictures and is_browser(request) and refusal_to_manage(request) is None:
        studio.adopt_lost_pictures(owner)
    found = studio.images(owner, limit=limit, before=before, search=search)
    return PicturePage(
        images=tuple(picture(record) for record in found.images), next_before=found.next_before, total=found.total
    )


@router.get("/{image_id}", response_class=Response, responses=_PNG)
def file(request: Request, studio: StudioHere, owner: Owner, image_id: ImageId, download: bool = False) -> Response:
    """The PNG with its recipe inside; `?download=1` to keep it."""
    path = studio.image_file(image_id, owner)
    name = None
    if download:
        made_by = studio.image(image_id, owner).recipe
        name = f"darkroom-{image_id}-{made_by.seed if made_by else 'upscaled'}"
    return send_picture(request, path, path.parent, image_id, name=name)


@router.get("/{image_id}/thumbnail", response_class=Response, responses=_THUMBNAIL)
def thumbnail(request: Request, studio: StudioHere, owner: Owner, image_id: ImageId) -> Response:
    """A small version."""
    path = studio.thumbnail_file(image_id, owner)
    return send_picture(request, path, studio.settings.thumbnails_dir, f"{image_id}-t")


@router.get("/{image_id}/record")
def record(studio: StudioHere, owner: Owner, image_id: ImageId) -> Picture:
    """A picture's record."""
    return picture(studio.image(image_id, owner))


@router.get("/{image_id}/recipe")
def recipe(studio: StudioHere, owner: Owner, image_id: ImageId) -> Recipe:
    """The recipe of an image; post it to /api/v1/jobs to generate it again."""
    found = studio.image(image_id, owner).recipe
    if found is None:
        raise NotFound("The picture was upscaled and has no recipe of its own.", "See its parent's.")
    return found


@router.post("/{image_id}/upload")
def as_upload(studio: StudioHere, owner: Owner, image_id: ImageId) -> StoredUpload:
    """Keep it as a picture to work from; name it as `parent` in the job that does."""
    return studio.upload_from_image(image_id, owner)


@router.delete("/{image_id}", status_code=204)
def delete(studio: StudioHere, owner: Owner, image_id: ImageId) -> None:
    """Hide it at once; its file goes a little later, until then it can be restored."""
    studio.delete_image(image_id, owner)


@router.post("/{image_id}/restore")
def restore(studio: StudioHere, owner: Owner, image_id: ImageId) -> Picture:
    """Undo a delete."""
    studio.restore_image(image_id, owner)
    return picture(studio.image(image_id, owner))


@router.put("/{image_id}/favorite", openapi_extra=body_schema("application/json", Favorite.model_json_schema()))
def favorite(studio: StudioHere, owner: Owner, image_id: ImageId, body: JsonBody) -> Picture:
    """Mark or unmark it."""
    try:
        wanted = Favorite.model_validate_json(body)
    except ValidationError:
        raise InvalidRecipe(
            "The body does not say whether it is a favorite.",
            'Send {"favorite": true} or {"favorite": false}.',
            field="favorite",
        ) from None
    studio.set_favorite(image_id, owner, wanted.favorite)
    return picture(studio.image(image_id, owner))
