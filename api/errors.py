"""Answers every failure of a request in one JSON shape, {"code", "message", "hint"}, with the right status.

Maps the errors of `contract/errors.py` to statuses, and starlette's own failures to sentences. No response contains a
path of this machine or a traceback; those are in the log.
"""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from contract.errors import (
    HubUnavailable,
    InvalidInput,
    InvalidRecipe,
    JobError,
    ModelProblem,
    NotAllowed,
    NotFound,
    OutOfMemory,
    QueueFull,
    RequestError,
    StorageFull,
    StudioError,
    TooLarge,
    WorkerDied,
    WorkerHung,
)

logger = logging.getLogger(__name__)

STATUS: Mapping[type[StudioError], int] = MappingProxyType(
    {
        InvalidRecipe: 422,
        InvalidInput: 422,
        NotFound: 404,
        NotAllowed: 403,
        TooLarge: 413,
        QueueFull: 429,
        RequestError: 400,
        ModelProblem: 422,
        OutOfMemory: 503,
        WorkerDied: 503,
        WorkerHung: 503,
        StorageFull: 507,
        HubUnavailable: 503,
        JobError: 500,
        StudioError: 500,
    }
)
# The code of a body that could not be read as a whole, so that no field can be named.
_UNREADABLE = "invalid_recipe"


class ErrorBody(BaseModel):
    """The one shape of every error.

    field: the field to change, as a dotted path of the request with its indexes ("controls.1.image"); left out where
    it is not a single one. fix: accepted values of fields, by the same paths; left out where none is known.
    """

    code: str
    message: str
    hint: str
    field: str | None = None
    fix: dict[str, int | float | str] | None = None


class NotSupported(RequestError):
    """The body has a type this route does not read."""

    default_code = "unsupported_type"


class MethodNotAllowed(RequestError):
    """The path is there, but not for this method."""

    default_code = "method_not_allowed"


class NotSignedIn(NotAllowed):
    """The caller has to give the password, or sends a cookie that was not signed here."""

    default_code = "not_signed_in"


class TooManyTries(NotAllowed):
    """Wrong passwords come too fast."""

    default_code = "too_many_tries"


class Misdirected(NotAllowed):
    """The request names a host that this program is not."""

    default_code = "misdirected"


class Starting(StudioError):
    """The page is not built yet; the API works."""

    default_code = "starting"


_OF_THE_API = (NotFound, NotSupported, MethodNotAllowed, RequestError)
_OWN_STATUS: Mapping[type[StudioError], int] = MappingProxyType(
    {NotSupported: 415, MethodNotAllowed: 405, NotSignedIn: 401, TooManyTries: 429, Misdirected: 421, Starting: 503}
)


def status_of(error: StudioError) -> int:
    """The HTTP status of an error, by its class or the nearest one above it."""
    if error.code == _UNREADABLE:
        return 400
    for kind in type(error).__mro__:
        status = _OWN_STATUS.get(kind) or STATUS.get(kind)
        if status:
            return status
    return 500


def error_response(
    error: StudioError, *, headers: Mapping[str, str] | None = None, status: int | None = None
) -> JSONResponse:
    """The error as JSON; half characters in its words are replaced, since JSON can't carry them."""
    facts = error.as_dict()
    for key, text in facts.items():
        if isinstance(text, str):
            facts[key] = text.encode("utf-8", "replace").decode()
    extra = dict(headers or {})
    if type(error) in _OF_THE_API:  # for programs, so that no sentence has to name a route
        extra.setdefault("Link", '</api/v1/docs>; rel="service-doc"')
    if isinstance(error, QueueFull):
        extra["Retry-After"] = str(error.retry_after_s)
    return JSONResponse(facts, status or status_of(error), extra)


def add_error_handlers(app: FastAPI) -> None:
    """Make the application answer every failure in the one shape."""

    @app.exception_handler(StudioError)
    async def studio_error(request: Request, error: StudioError) -> Response:
        return error_response(error)

    @app.exception_handler(HTTPException)
    async def http_exception(request: Request, error: HTTPException) -> Response:
        status = error.status_code
        return error_response(error_of_status(status, request.method), headers=dict(error.headers or {}), status=status)

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> Response:
        problem = error.errors()[0]
        location: Sequence[object] = problem.get("loc", ())
        name = str(location[-1])[:60] if location else "request"
        shown = str(problem.get("input", ""))[:40]
        cause = str(problem.get("msg", "")).removeprefix("Input should be ").partition(",")[0][:160]
        return error_response(RequestError(f"“{name}” is “{shown}”.", f"It should be {cause}.", field=name), status=422)

    @app.exception_handler(ValidationError)
    async def late_validation_error(request: Request, error: ValidationError) -> Response:
        """Answer 422 for a body that passed its first check and failed a later one: a bug that the caller can avoid."""
        problem = error.errors(include_url=False)[0]
        names = [part[:60] for part in problem["loc"] if isinstance(part, str)]
        name = names[-1] if names else "request"
        logger.error("%s %s: “%s” passed its first check (%s)", request.method, request.url.path, name, problem["msg"])
        return error_response(
            InvalidRecipe(
                f"“{name}” doesn't go with the rest of the request.",
                f"{problem['msg'].removeprefix('Value error, ')[:160].rstrip('.')}.",
                code=f"invalid_{name}",
            )
        )

    @app.exception_handler(ClientDisconnect)
    async def disconnected(request: Request, error: ClientDisconnect) -> Response:
        return error_response(RequestError("The request ended before its body did.", "Send it again."))

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        logger.error("%s %s failed: %s", request.method, request.url.path, type(error).__name__)
        sentence = "Something unexpected went wrong."
        return error_response(
            StudioError(sentence, "Try again; the log says more.", code="unexpected"),
            headers={"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"},
        )


def error_of_status(status: int, method: str) -> StudioError:
    """The error for a bare HTTP status."""
    if status == HTTPStatus.NOT_FOUND:
        return NotFound("There is nothing at this address.", "Correct the address, or reload the page.")
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        return MethodNotAllowed(f"This address does not take {method[:20]}.", "Use another method, or reload the page.")
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return TooLarge("The request is larger than is accepted.", "Send less.")
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Refused"
    return RequestError(f"{phrase}.", "Reload the page and try again.", code=phrase.lower().replace(" ", "_"))
