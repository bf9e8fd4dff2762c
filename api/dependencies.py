"""What the routes take from a request: who asks, which window, the body.

Bodies are read raw: JSON goes to `contract.validation`, pictures to the studio's one opener. All are `async`
though none waits for more than a body: FastAPI gives every plain dependency a thread.
"""

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, Path, Request

from api.errors import NotSupported
from api.image_bodies import PictureBodies
from api.security.proxied import is_public
from contract.errors import InvalidRecipe, NotAllowed, NotFound
from studio.studio import Studio

_WINDOW = re.compile(r"[\w-]{1,64}", re.ASCII)
_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
_HERE = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
_PASSED_ON = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


async def studio_of(request: Request) -> Studio:
    """The studio behind the application."""
    studio: Studio = request.app.state.studio
    return studio


async def owner_of(request: Request) -> str:
    """Whom the guard took the caller for."""
    return str(request.scope["state"]["owner"])


async def session_of(request: Request) -> str | None:
    """The browser window that asks, from X-Darkroom-Session or ?session=; None for programs.

    Raises:
        InvalidRecipe: it is not a short plain name.
    """
    name = request.headers.get("x-darkroom-session") or request.query_params.get("session")
    if name is not None and not _WINDOW.fullmatch(name):
        raise InvalidRecipe(
            "The window's name is not plain.", "Use 1 to 64 letters, digits, _ or -.", code="invalid_session"
        )
    return name


async def key_of(request: Request) -> str | None:
    """What the sender calls this request, from Idempotency-Key: sent twice, it begins one job.

    Raises:
        InvalidRecipe: it is not a short plain name.
    """
    key = request.headers.get("idempotency-key")
    if key is not None and not _WINDOW.fullmatch(key):
        raise InvalidRecipe(
            "The key of the request is not plain.", "Use 1 to 64 letters, digits, _ or -.", code="invalid_key"
        )
    return key


async def json_body(request: Request) -> bytes:
    """The body of a JSON request.

    Raises:
        NotSupported: it is sent as something else, which any page could do without asking.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise NotSupported(
            f"The body is sent as “{kind[:60] or 'nothing'}”.", "Send it with Content-Type: application/json."
        )
    return await request.body()


async def picture_body(request: Request) -> AsyncIterator[bytes]:
    """The bytes of a picture, whatever type they are said to have; one of a few that are worked on at a time.

    Raises:
        NotSupported: they are wrapped in a form.
    """
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        raise NotSupported("The picture is sent in a form.", "Send its bytes alone as the body.")
    bodies: PictureBodies = request.app.state.picture_bodies
    async with bodies.received(request.stream()) as body:
        yield body


def refusal_to_manage(request: Request) -> str:
    """Why a caller may not manage the models of this machine; empty for those who may: who sits at it.

    With --lan all know the same password, so that only where a request comes from tells the owner. A browser's
    word is trusted only to refuse: one that was passed on by another program counts as from elsewhere.
    """
    studio: Studio = request.app.state.studio
    if studio.settings.space_host is not None:
        return "Models can't be managed on a Space."
    host = request.client.host if request.client else ""
    if host not in _HERE or is_public(request.scope) or any(name in request.headers for name in _PASSED_ON):
        return "Only the owner of the machine manages models: open Darkroom on the machine itself."
    return ""


def is_browser(request: Request) -> bool:
    """Whether a caller keeps a cookie or says where it comes from, as browsers do."""
    return "cookie" in request.headers or "sec-fetch-site" in request.headers


async def _administrator(request: Request) -> None:
    if refusal := refusal_to_manage(request):
        sentence, _, hint = refusal.partition(": ")
        raise NotAllowed(f"{sentence.rstrip('.')}.", f"{hint[:1].upper()}{hint[1:]}")


def plain_id(name: str, what: str) -> str:
    """An id out of a path.

    Raises:
        NotFound: it can't be one.
    """
    if not _ID.fullmatch(name):
        raise NotFound(f"There is no {what} of that name.", "")
    return name


async def _job_id(job_id: Annotated[str, Path()]) -> str:
    return plain_id(job_id, "job")


async def _image_id(image_id: Annotated[str, Path()]) -> str:
    return plain_id(image_id, "picture")


Administrator = Depends(_administrator)
StudioHere = Annotated[Studio, Depends(studio_of)]
Owner = Annotated[str, Depends(owner_of)]
Session = Annotated[str | None, Depends(session_of)]
Key = Annotated[str | None, Depends(key_of)]
JobId = Annotated[str, Depends(_job_id)]
ImageId = Annotated[str, Depends(_image_id)]
JsonBody = Annotated[bytes, Depends(json_body)]
# Its turn ends with the route, before the answer is sent.
PictureBody = Annotated[bytes, Depends(picture_body, scope="function")]


def body_schema(content: str, schema: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI words for a body that is read raw."""
    return {"requestBody": {"required": True, "content": {content: {"schema": schema}}}}
