"""The security middleware in front of everything that is served: gradio, the API, static files.

In this order: no websockets · Host · path spelling · Origin and Sec-Fetch-Site · which of gradio's routes ·
password (--lan) · body size · owner. A request that passes gets its owner in scope["state"]["owner"]; every response
gets the security headers. Headers that a browser sends (Origin, Sec-Fetch-*) are trusted only to refuse.
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

from api.errors import Misdirected, NotSignedIn, TooManyTries, error_of_status, error_response
from api.head_requests import is_head
from api.security.auth import PasswordAuth
from api.security.gradio_routes import GradioRoutes
from api.security.identity import Owners
from api.security.limits import Body, Streams, body_limit
from api.security.trusted_hosts import TrustedHosts
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
    """The site that may show the page in a frame."""

    ancestors: str = "'self'"

    def page_policy(self, nonce: str) -> str:
        """The policy of gradio's page: its code is compiled from text, its styles are inline; all is served here."""
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
        """The policy of everything else."""
        return (
            "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; "
            f"form-action 'none'; frame-ancestors {self.ancestors}"
        )


class SecurityMiddleware:
    """ASGI middleware.

    Args:
        hosts: The hosts that a request may name.
        owners: Makes and reads the owner cookie.
        auth: The password of --lan; None lets everyone in.
        framing: The site that may show the page in a frame.
        events: The event numbers of the mounted page, if they are known.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: TrustedHosts,
        owners: Owners,
        auth: PasswordAuth | None,
        framing: Framing,
        events: Callable[[], Container[int] | None],
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._owners = owners
        self._auth = auth
        self._framing = framing
        self._gradio = GradioRoutes(events)
        self._streams = Streams()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        cookies: list[str] = []
        answer = _with_headers(send, self._framing, cookies, scope)
        body = Body(receive, answer, body_limit(request.method, scope["path"]))
        try:
            self._check_sender(request)
            if self._auth and not await self._is_signed_in(self._auth, request, body):
                return
            body.check_announced(request.headers)
            owner = self._owner(request, cookies)
            self._gradio.check_session(scope["path"], scope["query_string"], owner)
            if GradioRoutes.takes_body(request.method, scope["path"]):
                self._gradio.check_body(await body.read(), owner)
            is_stream = GradioRoutes.is_stream(scope["path"]) or _EVENTS.fullmatch(scope["path"]) is not None
            if is_stream:
                self._streams.check(owner)
        except StudioError as error:
            headers = None
            if self._auth and isinstance(error, TooManyTries):
                headers = self._auth.wait_header(request)
            # A client that sends "Expect: 100-continue" has sent no body yet and reads the answer first.
            if isinstance(error, TooLarge) and "expect" not in request.headers:
                await body.drain()
            await error_response(error, headers=headers)(scope, receive, answer)
            return
        if is_head(scope) and GradioRoutes.is_stream(scope["path"]):  # opening it takes its messages, closing ends it
            await Response(media_type="text/event-stream")(scope, receive, answer)
            return
        scope.setdefault("state", {})["owner"] = owner
        with self._streams.counted(owner) if is_stream else nullcontext():
            await self._app(scope, body.receive, body.send)
            await body.finish(scope)

    def _check_sender(self, request: Request) -> None:
        """Check the request line and the headers."""
        scope, headers, path = request.scope, request.headers, request.scope["path"]
        if request.method not in METHODS:
            raise error_of_status(405, request.method)
        host = headers.get("host", "")
        if not self._hosts.allows(host, scope.get("server")):
            shown = host.encode("utf-8", "replace").decode()[:60]
            raise Misdirected(f"This Darkroom is not “{shown}”.", "Use the address that was shown when it started.")
        if _BAD_SEGMENT.search(path) and not re.search(r"(?i)/(file|proxy)=", path):
            raise error_of_status(404, request.method)
        other_site = NotAllowed("Another site's page may not use this Darkroom.", "Open Darkroom itself.")
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
            raise other_site
        # A link on another site may lead to a page here.
        shown_in = ("document",) if self._framing.ancestors == "'self'" else ("document", "iframe")
        is_visit = (
            request.method in ("GET", "HEAD")
            and headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") in shown_in
            and path in PAGES
        )
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and not is_visit:
            raise other_site
        if not (GradioRoutes.is_own(path) or (self._auth and path == "/login")):
            GradioRoutes.check_path(request.method, path)

    async def _is_signed_in(self, auth: PasswordAuth, request: Request, body: Body) -> bool:
        """Whether the request may go on; if not, it has been answered.

        Raises:
            NotSignedIn, TooManyTries: a program gave no password, a wrong one, or too many.
        """
        scope = request.scope
        if scope["path"] == "/login" and request.method in ("GET", "POST"):
            body.check_announced(request.headers)
            await body.read()
            response = await auth.answer(Request(scope, body.receive))
            await response(scope, body.receive, body.send)
            return False
        if auth.is_signed_in(request):
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
        if cookie is None:
            program = self._program_name(request)
            if program is not None:
                return self._owners.of_program(program)
        owner = self._owners.new()
        if not path.startswith(_STATIC):
            cookies.append(self._owners.header(owner))
            if cookie and path not in PAGES:
                raise NotSignedIn("This browser's cookie is not from this Darkroom.", "Reload the page.")
        return owner

    def _program_name(self, request: Request) -> str | None:
        """The name of a caller of the API without a cookie; None for browsers, and on a Space.

        Without --lan every program is the same owner, so that the next call finds the job that one call began.
        Browsers send Sec-Fetch-Site or Origin.
        """
        headers = request.headers
        is_browser = "sec-fetch-site" in headers or "origin" in headers
        if is_browser or self._framing.ancestors != "'self'" or not request.scope["path"].startswith("/api/"):
            return None
        return self._auth.program_name(request) if self._auth else "this machine"


def _with_headers(send: Send, framing: Framing, cookies: list[str], scope: Scope) -> Send:
    """A send that adds the security headers where the application set none, and the cookies."""

    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message.get("headers", [])))
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Content-Security-Policy", framing.other_policy)
            headers.setdefault("Cache-Control", _cache_control(scope, message["status"]))
            if headers.get("content-type", "").startswith("text/event-stream"):
                headers.setdefault("X-Accel-Buffering", "no")  # nginx would hold it back
            for name in list(headers):
                if name.startswith("access-control-"):
                    del headers[name]
            for cookie in cookies:
                headers.append("Set-Cookie", cookie)
            message = {**message, "headers": headers.raw}
        await send(message)

    return sender


def _cache_control(scope: Scope, status: int) -> str:
    """Gradio's assets carry a hash in their names, its theme one in the address; the rest change with it."""
    path: str = scope["path"]
    if status not in (200, 304):
        return "no-store"
    if path.startswith("/assets/") or (path == "/theme.css" and scope["query_string"].startswith(b"v=")):
        return "private, max-age=31536000, immutable"
    return "private, max-age=3600" if path.startswith("/static/") else "no-store"
