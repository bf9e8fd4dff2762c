"""Rewrites the HTML of "/": adds Darkroom's lines to its head and a nonce to every script, drops gradio's own tags.

Gradio's `head=` travels in its configuration and is inserted after the first paint, so the lines are
written here. The nonce lets the page's own scripts run and no others. Only "/" is touched.
"""

import re
import secrets
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 8_000_000
VIEWPORT = '<meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover">'
_VIEWPORT = re.compile(rb'<meta\s+name="viewport"[^>]*>')
_SOCIAL = re.compile(rb'\s*<meta\s+(?:property="og:|name="twitter:)[^>]*>')
_THEME = re.compile(rb'"theme_hash": ?"([0-9a-f]{8,128})"')
_SCRIPT = re.compile(rb"<script(?=[\s>])")


def rewrite(html: bytes, head_html: bytes, nonce: str) -> bytes:
    """The page with Darkroom's lines at the end of its head, since their style sheets have to win."""
    html = _SOCIAL.sub(b"", _VIEWPORT.sub(VIEWPORT.encode(), html, count=1))
    theme = _THEME.search(html)
    if theme:  # gradio asks for it last, and draws nothing before it is there
        head_html = b'<link rel="preload" href="theme.css?v=' + theme[1] + b'" as="style">\n' + head_html
    before, end, after = html.partition(b"</head>")
    html = before + head_html + end + after
    return _SCRIPT.sub(b'<script nonce="' + nonce.encode() + b'"', html)


class PageHead:
    """ASGI middleware around the page in its slot.

    Args:
        head_html: Lines for the head, written by the program itself: trusted.
        policy: Makes the page's Content-Security-Policy from a nonce.
    """

    def __init__(self, app: ASGIApp, head_html: str, policy: Callable[[str], str]) -> None:
        self._app = app
        self._head = head_html.encode()
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        # Compressed HTML could not be rewritten; it is compressed again further out.
        headers = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        answer = _Rewriter(self._head, self._policy, send)
        await self._app({**scope, "headers": headers}, receive, answer.send)


class _Rewriter:
    """Holds an HTML response back until it is whole."""

    def __init__(self, head: bytes, policy: Callable[[str], str], send: Send) -> None:
        self._head = head
        self._policy = policy
        self._send = send
        self._start: Message | None = None
        self._body = bytearray()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message.get("headers", [])))
            if headers.get("content-type", "").startswith("text/html") and "content-encoding" not in headers:
                self._start = message
                return
        if self._start is None:
            await self._send(message)
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if len(self._body) > MOST_BYTES:
                raise RuntimeError("the page is too large to be rewritten")
            if message.get("more_body", False):
                return
            start, self._start = self._start, None
            nonce = secrets.token_urlsafe(16)
            body = rewrite(bytes(self._body), self._head, nonce)
            headers = MutableHeaders(raw=list(start["headers"]))
            headers["Content-Length"] = str(len(body))
            headers["Content-Security-Policy"] = self._policy(nonce)
            headers["Cache-Control"] = "no-cache"
            await self._send({**start, "headers": headers.raw})
            await self._send({"type": "http.response.body", "body": body})
