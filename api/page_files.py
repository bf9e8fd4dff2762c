"""Serves the page's files from memory: kept for ever when their address names a version, else asked anew.

Compressed once at start: going to the disk and through a thread for each held the page up
(benchmarks/pages.py, figure 10).
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
_HEADERS = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class _File:
    kind: str
    etag: str
    plain: bytes
    packed: bytes | None


class PageFiles:
    """ASGI middleware that answers for files it has.

    Args:
        files: Content by path, like "/page/mark.svg"; each ends in one of KINDS.
        forever: Beginning of the paths that name a version themselves.
    """

    def __init__(self, app: ASGIApp, files: Mapping[str, bytes], forever: str = "/assets/") -> None:
        self._app = app
        self._forever = forever
        self._files: Mapping[str, _File] = MappingProxyType(
            {path: _made(path, content) for path, content in files.items()}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_asked = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        file = self._files.get(scope["path"]) if is_asked else None
        if file is None:
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope)
        is_known = file.etag in asked.get("if-none-match", "")
        packed = file.packed if "gzip" in asked.get("accept-encoding", "") else None
        body = packed or file.plain
        is_versioned = scope["query_string"].startswith(b"v=") or scope["path"].startswith(self._forever)
        headers = _headers(file, len(body), packed is not None, is_versioned)
        await send({"type": "http.response.start", "status": 304 if is_known else 200, "headers": list(headers)})
        await send({"type": "http.response.body", "body": b"" if is_known or scope["method"] == "HEAD" else body})


def _made(path: str, plain: bytes) -> _File:
    packed = gzip.compress(plain, 6, mtime=0) if len(plain) >= _LEAST_WORTH_COMPRESSING else b""
    etag = f'"{hashlib.sha256(plain).hexdigest()[:20]}"'
    return _File(KINDS[PurePath(path).suffix], etag, plain, packed if 0 < len(packed) < len(plain) else None)


def _headers(file: _File, size: int, is_packed: bool, is_versioned: bool) -> _HEADERS:
    caching = "private, max-age=31536000, immutable" if is_versioned else "no-cache"
    headers = [
        ("content-type", file.kind),
        ("content-length", str(size)),
        ("etag", file.etag),
        ("cache-control", caching),
        ("vary", "Accept-Encoding"),
    ]
    if is_packed:
        headers.append(("content-encoding", "gzip"))
    return tuple((name.encode(), value.encode()) for name, value in headers)
