"""Serves the files of the page: kept for ever when their address carries a version, else asked for anew."""

import os
from types import MappingProxyType

from starlette.datastructures import QueryParams
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

# Windows may have other ideas of these in its registry, and nosniff forgives nothing.
KINDS = MappingProxyType({
    ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8", ".svg": "image/svg+xml", ".json": "application/json",
    ".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp", ".ico": "image/x-icon",
    ".woff2": "font/woff2"})


class PageFiles(StaticFiles):
    """StaticFiles with our types and caching."""

    def file_response(self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope,
                      status_code: int = 200) -> Response:
        """The file, or 304."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        kind = KINDS.get(os.path.splitext(full_path)[1].lower(), "application/octet-stream")
        if "content-type" in response.headers:
            response.headers["Content-Type"] = kind
        versioned = "v" in QueryParams(scope["query_string"])
        response.headers["Cache-Control"] = (
            "private, max-age=31536000, immutable" if versioned else "no-cache")
        return response
