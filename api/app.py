"""Builds the application: routes under /api/v1, the page's files, and the middleware in front of everything.

The page is put into app.state.page_slot afterwards (`api/page_slot.py`), when the server may be running; the middleware
and the compression are around it already. Routes are plain `def`: they may block a thread, never the event loop.
"""

import re
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Route, compile_path

from api.errors import ErrorBody, add_error_handlers
from api.head_requests import HeadRequests
from api.image_bodies import ImageBodies
from api.page_files import PageFiles
from api.page_head import PageHead
from api.page_slot import PageSlot
from api.routes import (
    images,
    jobs,
    library,
    model_settings,
    model_tasks,
    models,
    preprocessors,
    prompts,
    residency,
    system,
    uploads,
)
from api.routes.models import ModelPages
from api.security.auth import PasswordAuth, Throttle
from api.security.identity import CookieStyle, Owners, Sessions
from api.security.middleware import METHODS, Framing, SecurityMiddleware
from api.security.proxied import Proxied
from api.security.trusted_hosts import TrustedHosts
from contract.recipe import RecipeDraft
from contract.tasks import Preprocess, Upscale
from studio.settings import Settings
from studio.storage.secret_file import secret_or_new
from studio.studio import Studio

SECRET_FILE = "cookies.key"
PREFIX = "/api/v1"
_PARTS = (
    model_settings,
    model_tasks,
    residency,
    jobs,
    images,
    uploads,
    library,
    models,
    preprocessors,
    prompts,
    system,
)
_REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "Refused, with words."},
    "5XX": {"model": ErrorBody, "description": "Failed, with words."},
}


def build_app(
    studio: Studio,
    settings: Settings,
    page_files: Mapping[str, bytes] | None = None,
    version: str = "0",
    head_html: str = "",
    starting_html: str = "",
) -> FastAPI:
    """The application without the page.

    Args:
        page_files: Files of the page, by path.
        head_html: Lines for the head of the page at "/".
        starting_html: The page at "/" until the real one is there; see `PageSlot`.

    Raises:
        StudioError: --lan without a password, or the secret can't be written.
    """
    framing = Framing("'self' https://huggingface.co" if settings.space_host is not None else "'self'")
    slot = PageSlot(starting_html, framing.ancestors, lambda page: PageHead(page, head_html, framing.page_policy))
    app = FastAPI(
        title="Darkroom",
        version=version,
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{PREFIX}/openapi.json",
        redirect_slashes=False,
        lifespan=slot.lifespan,
    )
    app.state.studio = studio
    app.state.page_slot = slot
    app.state.model_pages = ModelPages(studio)
    app.state.image_bodies = ImageBodies(settings.tmp_dir)
    add_error_handlers(app)
    routes = APIRouter(prefix=PREFIX, responses=_REFUSALS)
    for part in _PARTS:
        routes.include_router(part.router)
    app.include_router(routes)
    _refuse_unknown_paths(app)
    _describe_bodies(app)
    app.mount("/", slot)
    _add_middleware(app, studio, settings, page_files or {}, framing)
    return app


def _refuse_unknown_paths(app: FastAPI) -> None:
    """Answer requests that no route takes; they would fall through to the page that is mounted at "/"."""
    known: list[tuple[re.Pattern[str], set[str]]] = []
    for part in _PARTS:
        for route in part.router.routes:
            if isinstance(route, Route):
                pattern, _, _ = compile_path(f"{PREFIX}{route.path}")
                known.append((pattern, route.methods or set()))

    def no_such_route(request: Request) -> None:
        methods: set[str] = set()
        for pattern, taken in known:
            if pattern.match(request.url.path):
                methods |= taken
        if "GET" in methods:
            methods.add("HEAD")
        if methods:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(methods))})
        raise HTTPException(404)

    def no_such_page_file(request: Request) -> None:
        if request.method in ("GET", "HEAD"):
            raise HTTPException(404)
        raise HTTPException(405, headers={"Allow": "GET, HEAD"})

    app.add_api_route(f"{PREFIX}/{{rest:path}}", no_such_route, methods=list(METHODS), include_in_schema=False)
    app.add_api_route("/page/{rest:path}", no_such_page_file, methods=list(METHODS), include_in_schema=False)


def _add_middleware(
    app: FastAPI, studio: Studio, settings: Settings, page_files: Mapping[str, bytes], framing: Framing
) -> None:
    loaded = secret_or_new(settings.data_dir / SECRET_FILE)
    secret = loaded.value
    if loaded.is_new:
        studio.forget_browsers(loaded.problem)
    in_frame = settings.space_host is not None
    style = CookieStyle(in_frame=in_frame)
    password = settings.visitors_password()
    auth = PasswordAuth(password, Sessions(secret, password, style), Throttle()) if password else None
    # The last one added is the outermost.
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=6)
    app.add_middleware(PageFiles, files=page_files)
    app.add_middleware(
        SecurityMiddleware,
        hosts=TrustedHosts(settings),
        owners=Owners(secret, style),
        auth=auth,
        framing=framing,
        events=lambda: getattr(getattr(app.state, "page", None), "fns", None),
    )
    app.add_middleware(HeadRequests)
    if not in_frame:  # a Space's proxy is the hub's own, and gradio knows it
        app.add_middleware(Proxied, settings=settings)


def _describe_bodies(app: FastAPI) -> None:
    """Add the bodies that routes read raw to the OpenAPI document."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                routes=app.routes,
                description="Everything the page can do, for programs.",
            )
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            parts = (model_settings, model_tasks, residency, prompts)
            bodies = [kind for part in parts for kind in part.BODIES]
            for kind in (RecipeDraft, Upscale, Preprocess, *bodies):
                body = kind.model_json_schema(ref_template="#/components/schemas/{model}")
                for name, schema in body.pop("$defs", {}).items():
                    schemas.setdefault(name, schema)
                schemas[kind.__name__] = body
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
