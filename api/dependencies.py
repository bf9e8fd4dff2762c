"""Dependencies of the routes: the owner, the browser window, the body of a request.

Bodies are read raw: `contract/validation.py` parses JSON, `studio/uploads/safe_open.py` opens images. All are `async`,
since FastAPI would run each plain function in a thread.
"""

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, Path, Request

from api.errors import NotSupported
from api.image_bodies import ImageBodies
from api.security.proxied import came_by_public_name
from contract.errors import InvalidRecipe, NotAllowed, NotFound
from studio.studio import Studio

_PLAIN_NAME = re.compile(r"[\w-]{1,64}", re.ASCII)
_LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
_FORWARDED_HEADERS = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


async def studio_of(request: Request) -> Studio:
    """The studio behind the application."""
    studio: Studio = request.app.state.studio
    return studio


async def owner_of(request: Request) -> str:
    """The owner that the middleware found for the caller."""
    return str(request.scope["state"]["owner"])


async def session_of(request: Request) -> str | None:
    """The browser window of a request, from X-Darkroom-Session or ?session=; None for programs.

    Raises:
        InvalidRecipe: it is not a short plain name.
    """
    name = request.headers.get("x-darkroom-session") or request.query_params.get("session")
    if name is not None and not _PLAIN_NAME.fullmatch(name):
        raise InvalidRecipe(
            "The window's name is not plain.", "Use 1 to 64 letters, digits, _ or -.", code="invalid_session"
        )
    return name


async def key_of(request: Request) -> str | None:
    """The client's key of this request, from Idempotency-Key: sent twice, it starts one job.

    Raises:
        InvalidRecipe: it is not a short plain name.
    """
    key = request.headers.get("idempotency-key")
    if key is not None and not _PLAIN_NAME.fullmatch(key):
        raise InvalidRecipe(
            "The key of the request is not plain.", "Use 1 to 64 letters, digits, _ or -.", code="invalid_key"
        )
    return key


async def json_body(request: Request) -> bytes:
    """The body of a JSON request.

    Raises:
        NotSupported: it is sent as another type, which any site's page may do without CORS.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise NotSupported(
            f"The body is sent as “{kind[:60] or 'nothing'}”.", "Send it with Content-Type: application/json."
        )
    return await request.body()


async def image_body(request: Request) -> AsyncIterator[bytes]:
    """The bytes of an image, whatever their declared type; only a few are handled at a time.

    Raises:
        NotSupported: they are wrapped in a form.
    """
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        raise NotSupported("The picture is sent in a form.", "Send its bytes alone as the body.")
    bodies: ImageBodies = request.app.state.image_bodies
    async with bodies.received(request.stream()) as body:
        yield body


def refusal_to_manage(request: Request, what: str = "models") -> NotAllowed | None:
    """The refusal for a caller who may not manage the models of this machine; None for callers at the machine itself.

    Args:
        what: Is managed, in the refusal's words.

    With --lan all know the same password, so only the address of a request shows the machine's owner. A forwarded
    request counts as one from elsewhere.
    """
    studio: Studio = request.app.state.studio
    if studio.settings.space_host is not None:
        return NotAllowed(f"{what.capitalize()} can't be managed on a Space.")
    host = request.client.host if request.client else ""
    is_forwarded = any(name in request.headers for name in _FORWARDED_HEADERS)
    if host not in _LOOPBACK or came_by_public_name(request.scope) or is_forwarded:
        return NotAllowed(f"Only the owner of the machine manages {what}.", "Open Darkroom on the machine itself.")
    return None


def is_browser(request: Request) -> bool:
    """Whether a caller sends a cookie or Sec-Fetch-Site, as browsers do."""
    return "cookie" in request.headers or "sec-fetch-site" in request.headers


async def require_administrator(request: Request) -> None:
    """Let only the owner of the machine through. Raises NotAllowed."""
    refusal = refusal_to_manage(request)
    if refusal is not None:
        raise refusal


async def require_editor(request: Request) -> None:
    """Let only the owner of the machine change what all prompts share. Raises NotAllowed."""
    refusal = refusal_to_manage(request, "styles and wildcards")
    if refusal is not None:
        raise refusal


def plain_id(name: str, what: str) -> str:
    """An id from a path.

    Raises:
        NotFound: it can't be one.
    """
    if not _PLAIN_NAME.fullmatch(name):
        raise NotFound(f"There is no {what} of that name.", "")
    return name


async def job_id_of(job_id: Annotated[str, Path()]) -> str:
    """The job that a path names. Raises NotFound."""
    return plain_id(job_id, "job")


async def image_id_of(image_id: Annotated[str, Path()]) -> str:
    """The image that a path names. Raises NotFound."""
    return plain_id(image_id, "picture")


Administrator = Depends(require_administrator)
Editor = Depends(require_editor)
StudioHere = Annotated[Studio, Depends(studio_of)]
Owner = Annotated[str, Depends(owner_of)]
Session = Annotated[str | None, Depends(session_of)]
Key = Annotated[str | None, Depends(key_of)]
JobId = Annotated[str, Depends(job_id_of)]
ImageId = Annotated[str, Depends(image_id_of)]
JsonBody = Annotated[bytes, Depends(json_body)]
# Its turn ends with the route, before the answer is sent.
ImageBody = Annotated[bytes, Depends(image_body, scope="function")]


def body_schema(content: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI entry of a body that is read raw."""
    return {"requestBody": {"required": True, "content": {content: {"schema": schema}}}}
