"""The one door in front of everything that is served: gradio, the API, static files.

In this order: no websockets · Host · path spelling · Origin and Sec-Fetch-Site · which of gradio's routes ·
password (--lan) · body size · owner. What passes gets its owner in scope["state"]["owner"]; every answer gets
the security headers. A browser's word (Origin, Sec-Fetch-*) is trusted only to refuse.
"""

import re
from collections.abc import Callable, Container, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from types import MappingProxyType

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import Misdirected, NotSignedIn, TooManyTries, error_response, in_words
from api.head_requests import is_head
from api.security.auth import PasswordDoor
from api.security.gradio_routes import GradioDoor
from api.security.identity import Owners
from api.security.limits import Body, Streams, body_limit
from api.security.trusted_hosts import HostRule
from contract.errors import NotAllowed, StudioError, TooLarge

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
PAGES = ("/", "/login", "/api/v1/docs")
_STATIC = ("/assets/", "/static/", "/page/", "/favicon.ico", "/theme.css", "/manifest.json", "/robots.txt")
_BAD_SEGMENT = re.compile(r"(^|/)\.{1,2}(/|$)|//|[\x00-\x1f\x7f\\]")
_EVENTS = re.compile(r"/api/v1/jobs/[^/]+/events")
_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    }
)


@dataclass(frozen=True, slots=True)
class Framing:
    """Which site may show us in a frame."""

    ancestors: str = "'self'"

    def page_policy(self, nonce: str) -> str:
        """For gradio's page: its code is compiled from text, its styles are inline, and all is ours."""
        return (
            "default-src 'self'; "
            f"script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; "
            "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
            "media-src 'self' data: blob:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
            "frame-src 'none'; object-src 'none'; base-uri 'self'; form-action 'self'; "
            f"frame-ancestors {self.ancestors}"
        )

    @property
    def other_policy(self) -> str:
        """For everything that is no page."""
        return (
            "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; "
            f"form-action 'none'; frame-ancestors {self.ancestors}"
        )


class Guard:
    """ASGI middleware.

    Args:
        hosts: Which Host a request may name.
        owners: Makes and reads the owner cookie.
        door: The password of --lan; None lets everyone in.
        framing: Who may frame us.
        events: Which event numbers the mounted page has, if it is known.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: HostRule,
        owners: Owners,
        door: PasswordDoor | None,
        framing: Framing,
        events: Callable[[], Container[int] | None],
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._owners = owners
        self._door = door
        self._framing = framing
        self._gradio = GradioDoor(events)
        self._streams = Streams()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        cookies: list[str] = []
        answer = _with_headers(send, self._framing, cookies, scope)
        body = Body(receive, answer, body_limit(request.method, scope["path"]))
        try:
            self._check_sender(request)
            if self._door and not await self._let_in(self._door, request, body):
                return
            body.check_announced(request.headers)
            owner = self._owner(request, cookies)
            await self._check_gradio(request, body, owner)
            is_stream = GradioDoor.is_stream(scope["path"]) or _EVENTS.fullmatch(scope["path"]) is not None
            if is_stream:
                self._streams.check(owner)
        except StudioError as error:
            wait = self._door.wait_header(request) if self._door and isinstance(error, TooManyTries) else None
            # Who sends "Expect: 100-continue" has sent no body yet and reads the answer first.
            if isinstance(error, TooLarge) and "expect" not in request.headers:
                await body.drain()
            await error_response(error, headers=wait)(scope, receive, answer)
            return
        if is_head(scope) and GradioDoor.is_stream(
            scope["path"]
        ):  # to open it would take its messages, to close it end it
            await Response(media_type="text/event-stream")(scope, receive, answer)
            return
        scope.setdefault("state", {})["owner"] = owner
        with self._streams.counted(owner) if is_stream else nullcontext():
            await self._app(scope, body.receive, body.send)
            await body.finish(scope)

    def _check_sender(self, request: Request) -> None:
        """Everything that can be told from the request line and its headers."""
        scope, path = request.scope, request.scope["path"]
        if request.method not in METHODS:
            raise in_words(405, request.method)
        host = request.headers.get("host", "")
        if not self._hosts.allows(host, scope.get("server")):
            shown = host.encode("utf-8", "replace").decode()[:60]
            raise Misdirected(f"This Darkroom is not “{shown}”.", "Use the address that was shown when it started.")
        if _BAD_SEGMENT.search(path) and not re.search(r"(?i)/(file|proxy)=", path):
            raise in_words(404, request.method)
        self._check_origin(request, host)
        if not (GradioDoor.is_ours(path) or (self._door and path == "/login")):
            GradioDoor.check_path(request.method, path)

    def _check_origin(self, request: Request, host: str) -> None:
        headers = request.headers
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
            raise NotAllowed("Another site's page may not use this Darkroom.", "Open Darkroom itself.")
        if headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
            return
        shown_in = ("document",) if self._framing.ancestors == "'self'" else ("document", "iframe")
        is_visit = (
            request.method in ("GET", "HEAD")
            and headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") in shown_in
            and request.scope["path"] in PAGES
        )
        if not is_visit:
            raise NotAllowed("Another site's page may not use this Darkroom.", "Open Darkroom itself.")

    async def _let_in(self, door: PasswordDoor, request: Request, body: Body) -> bool:
        """Whether the request may go on; if not, it was answered.

        Raises:
            NotSignedIn, TooManyTries: a program gave no password, a wrong one, or too many.
        """
        scope = request.scope
        if scope["path"] == "/login" and request.method in ("GET", "POST"):
            body.check_announced(request.headers)
            await body.read()
            response = await door.answer(Request(scope, body.receive))
            await response(scope, body.receive, body.send)
            return False
        if door.is_open_for(request):
            return True
        is_visit = request.method == "GET" and "text/html" in request.headers.get("accept", "")
        if not is_visit or scope["path"] not in PAGES:
            raise NotSignedIn(
                "This Darkroom asks for its password.",
                "Reload the page to sign in; programs send it by HTTP Basic with any user name.",
            )
        await RedirectResponse("/login", 303)(scope, body.receive, body.send)
        return False

    def _owner(self, request: Request, cookies: list[str]) -> str:
        """The caller's owner; a new caller becomes one.

        Raises:
            NotSignedIn: the cookie was not signed here. A good one goes with the answer.
        """
        path = request.scope["path"]
        cookie = request.cookies.get(self._owners.cookie)
        owner = self._owners.read(cookie) if cookie else None
        if owner is not None:
            if path == "/":
                cookies.append(self._owners.header(owner))
            return owner
        program = self._program(request) if cookie is None else None
        if program is not None:
            return self._owners.of_program(program)
        made = self._owners.new()
        if not path.startswith(_STATIC):
            cookies.append(self._owners.header(made))
            if cookie and path not in PAGES:
                raise NotSignedIn("This browser's cookie is not from this Darkroom.", "Reload the page.")
        return made

    def _program(self, request: Request) -> str | None:
        """What a caller of the API that keeps no cookie is called; None for browsers, and on a Space.

        On this machine alone every program is the same owner, so that a job that one call began can be
        asked for by the next. Browsers say where a request comes from.
        """
        headers = request.headers
        is_browser = "sec-fetch-site" in headers or "origin" in headers
        if is_browser or self._framing.ancestors != "'self'" or not request.scope["path"].startswith("/api/"):
            return None
        return self._door.program_name(request) if self._door else "this machine"

    async def _check_gradio(self, request: Request, body: Body, owner: str) -> None:
        method, path = request.method, request.scope["path"]
        self._gradio.check_session(path, request.scope["query_string"], owner)
        if GradioDoor.takes_body(method, path):
            self._gradio.check_body(await body.read(), owner)


def _with_headers(send: Send, framing: Framing, cookies: list[str], scope: Scope) -> Send:
    """A send that adds the security headers where the application set none, and the cookies."""

    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message.get("headers", [])))
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Content-Security-Policy", framing.other_policy)
            headers.setdefault("Cache-Control", _caching(scope, message["status"]))
            if headers.get("content-type", "").startswith("text/event-stream"):
                headers.setdefault("X-Accel-Buffering", "no")  # nginx would hold it back
            for name in [name for name in headers if name.startswith("access-control-")]:
                del headers[name]
            for cookie in cookies:
                headers.append("Set-Cookie", cookie)
            message = {**message, "headers": headers.raw}
        await send(message)

    return sender


def _caching(scope: Scope, status: int) -> str:
    """Gradio's assets carry a hash in their names, its theme one in the address; the rest change with it."""
    path: str = scope["path"]
    if status not in (200, 304):
        return "no-store"
    if path.startswith("/assets/") or (path == "/theme.css" and scope["query_string"].startswith(b"v=")):
        return "private, max-age=31536000, immutable"
    return "private, max-age=3600" if path.startswith("/static/") else "no-store"
