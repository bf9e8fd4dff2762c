"""Serves the page's files from memory: cached forever if their URL has a version, else revalidated.

Compressed once at start: reading each from the disk in a thread slowed the page down (benchmarks/pages.py, figure 10).
"""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from types import MappingProxyType

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

# Windows may have other ideas of these in its registry, and nosniff forgives nothing.
KINDS = MappingProxyType(
    {
        ".js": "text/javascript; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".html": "text/html; charset=utf-8",
        ".svg": "image/svg+xml",
        ".json": "application/json",
        ".png": "image/png",
        ".jpg": "image/jpeg",
        ".webp": "image/webp",
        ".ico": "image/x-icon",
        ".woff2": "font/woff2",
    }
)
_LEAST_WORTH_COMPRESSING = 500


@dataclass(frozen=True, slots=True)
class _File:
    kind: str
    etag: str
    plain: bytes
    packed: bytes | None


class PageFiles:
    """ASGI middleware that serves the files it has.

    Args:
        files: Content by path, like "/page/mark.svg"; each ends in one of KINDS.
        forever: Beginnings of the paths whose files never change.
    """

    def __init__(
        self, app: ASGIApp, files: Mapping[str, bytes], forever: tuple[str, ...] = ("/assets/", "/static/fonts/")
    ) -> None:
        self._app = app
        self._forever = forever
        self._files: dict[str, _File] = {}
        for path, content in files.items():
            packed = None
            if len(content) >= _LEAST_WORTH_COMPRESSING:
                packed = gzip.compress(content, 6, mtime=0)
            if packed is not None and len(packed) >= len(content):
                packed = None
            etag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
            self._files[path] = _File(KINDS[PurePath(path).suffix], etag, content, packed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        file = None
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            file = self._files.get(scope["path"])
        if file is None:
            await self._app(scope, receive, send)
            return
        request_headers = Headers(scope=scope)
        body = file.plain
        is_packed = file.packed is not None and "gzip" in request_headers.get("accept-encoding", "")
        if is_packed and file.packed is not None:
            body = file.packed
        is_versioned = scope["query_string"].startswith(b"v=") or scope["path"].startswith(self._forever)
        headers = {
            "content-type": file.kind,
            "content-length": str(len(body)),
            "etag": file.etag,
            "cache-control": "private, max-age=31536000, immutable" if is_versioned else "no-cache",
            "vary": "Accept-Encoding",
        }
        if is_packed:
            headers["content-encoding"] = "gzip"
        is_known = file.etag in request_headers.get("if-none-match", "")
        status = 304 if is_known else 200
        await send({"type": "http.response.start", "status": status, "headers": Headers(headers).raw})
        await send({"type": "http.response.body", "body": b"" if is_known or scope["method"] == "HEAD" else body})
