"""Every route of the program as it is served × who asks. A route without a row here fails.

The site is app.py's own, gradio's routes included, so an upgrade that brings a new one is noticed.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

import app as program
from api.app import build_app
from studio.settings import Settings
from studio.studio import Studio
from tests.support.fakes import FakeWorker
from tests.support.model_folders import make_model
from tests.support.serving import until

# Who asks: somebody new, the owner of the job and the picture, another owner. The job has ended, so that nothing
# is left to move up or to save again; whose waiting job moves is in test_jobs.py.
TABLE = """
GET    /                                    200 200 200
HEAD   /                                    200 200 200
GET    /api/v1/docs                         200 200 200
GET    /api/v1/docs/{name}                  200 200 200
GET    /api/v1/engine                       200 200 200
GET    /api/v1/health                       200 200 200
GET    /api/v1/images                       200 200 200
GET    /api/v1/images/{image_id}            404 200 404
DELETE /api/v1/images/{image_id}            404 204 404
PUT    /api/v1/images/{image_id}/favorite  404 200 404
POST   /api/v1/images/{image_id}/upload     404 200 404
GET    /api/v1/images/{image_id}/recipe     404 200 404
GET    /api/v1/images/{image_id}/record     404 200 404
POST   /api/v1/images/{image_id}/restore    404 200 404
GET    /api/v1/images/{image_id}/thumbnail  404 200 404
POST   /api/v1/uploads                       422 422 422
GET    /api/v1/uploads/{sha256}              404 404 404
GET    /api/v1/jobs                         200 200 200
POST   /api/v1/jobs                         202 202 202
GET    /api/v1/jobs/{job_id}                404 200 404
DELETE /api/v1/jobs/{job_id}                404 200 404
GET    /api/v1/jobs/{job_id}/events         404 200 404
POST   /api/v1/jobs/convert                 404 404 404
POST   /api/v1/jobs/download                422 422 422
POST   /api/v1/jobs/merge                   404 404 404
POST   /api/v1/jobs/preprocess              422 422 422
POST   /api/v1/jobs/upscale                 422 422 422
POST   /api/v1/jobs/{job_id}/rerun          404 202 404
POST   /api/v1/jobs/{job_id}/move_up        404 404 404
POST   /api/v1/jobs/{job_id}/retry_save     404 404 404
GET    /api/v1/library                      200 200 200
GET    /api/v1/models                       200 200 200
POST   /api/v1/models/evict                 202 202 202
POST   /api/v1/models/pin                   202 202 202
POST   /api/v1/models/prefetch              202 202 202
GET    /api/v1/models/{name:path}           200 200 200
DELETE /api/v1/models/{name:path}           403 403 403
GET    /api/v1/models/{name:path}/preview   404 404 404
GET    /api/v1/model-defaults               200 200 200
GET    /api/v1/models/{name:path}/defaults  200 200 200
PUT    /api/v1/models/{name:path}/defaults  200 200 200
DELETE /api/v1/models/{name:path}/defaults  204 204 204
PUT    /api/v1/models/{name:path}/prediction 204 204 204
DELETE /api/v1/models/{name:path}/prediction 204 204 204
GET    /api/v1/catalog                       200 200 200
GET    /api/v1/openapi.json                 200 200 200
HEAD   /api/v1/openapi.json                 200 200 200
GET    /api/v1/page                         200 200 200
GET    /api/v1/guidance-methods             200 200 200
GET    /api/v1/preprocessors                200 200 200
GET    /api/v1/queue                        200 200 200
GET    /api/v1/prompts/tags                200 200 200
POST   /api/v1/prompts/combinations         200 200 200
GET    /api/v1/styles                       200 200 200
POST   /api/v1/styles                       200 200 200
DELETE /api/v1/styles/{name:path}           404 404 404
GET    /api/v1/wildcards                    200 200 200
GET    /api/v1/wildcards/{name:path}        404 404 404
PUT    /api/v1/wildcards/{name:path}        200 200 200
DELETE /api/v1/wildcards/{name:path}        200 404 404
POST   /api/v1/recipes/read                 422 422 422
GET    /api/v1/repositories/{owner}/{name}  503 503 503
GET    /api/v1/samplers                     200 200 200
GET    /api/v1/upscalers                    200 200 200
GET    /api/v1/{rest:path}                  404 404 404
HEAD   /api/v1/{rest:path}                  404 404 404
POST   /api/v1/{rest:path}                  404 404 404
PUT    /api/v1/{rest:path}                  404 404 404
PATCH  /api/v1/{rest:path}                  404 404 404
DELETE /api/v1/{rest:path}                  404 404 404
OPTIONS /api/v1/{rest:path}                 404 404 404
GET    /assets/{path:path}                  404 404 404
GET    /config                              200 200 200
GET    /config/                             200 200 200
GET    /favicon.ico                         200 200 200
GET    /gradio_api/app_id                   200 200 200
GET    /gradio_api/app_id/                  200 200 200
POST   /gradio_api/cancel                   400 400 400
GET    /gradio_api/info                     200 200 200
GET    /gradio_api/info/                    200 200 200
POST   /gradio_api/queue/join               400 400 400
GET    /gradio_api/queue/data               400 400 400
POST   /gradio_api/reset                    400 400 400
POST   /gradio_api/reset/                   400 400 400
GET    /gradio_api/startup-events           200 200 200
GET    /manifest.json                       200 200 200
GET    /page/darkroom.js                    200 200 200
GET    /page/{rest:path}                    404 404 404
HEAD   /page/{rest:path}                    404 404 404
POST   /page/{rest:path}                    405 405 405
PUT    /page/{rest:path}                    405 405 405
PATCH  /page/{rest:path}                    405 405 405
DELETE /page/{rest:path}                    405 405 405
OPTIONS /page/{rest:path}                   405 405 405
GET    /robots.txt                          200 200 200
GET    /static/{path:path}                  404 404 404
GET    /theme.css                           200 200 200
"""
# A stream without an end; who may open it is in test_gradio_door.py.
ENDLESS = {("GET", "/gradio_api/heartbeat/{session_hash}")}
# Answered by nothing: it would read, fetch, keep or call past the queue, or the page has no use for it.
CLOSED = [
    "/docs",
    "/redoc",
    "/openapi.json",
    "/login",
    "/login/",
    "/logout",
    "/monitoring",
    "/monitoring/summary",
    "/monitoring/{key}",
    "/svelte/{path:path}",
    "/pwa_icon",
    "/pwa_icon/{size}",
    "/page",
    "/gradio_api/api/{api_name}",
    "/gradio_api/api/{api_name}/",
    "/gradio_api/call/{api_name}",
    "/gradio_api/call/{api_name}/",
    "/gradio_api/call/v2/{api_name}",
    "/gradio_api/call/v2/{api_name}/",
    "/gradio_api/call/{api_name}/{event_id}",
    "/gradio_api/call/v2/{api_name}/{event_id}",
    "/gradio_api/component_server",
    "/gradio_api/component_server/",
    "/gradio_api/custom_component/{id}/{environment}/{type}/{file_name}",
    "/gradio_api/deep_link",
    "/gradio_api/dev/reload",
    "/gradio_api/file/{path:path}",
    "/gradio_api/file={path_or_url:path}",
    "/gradio_api/login_check",
    "/gradio_api/login_check/",
    "/gradio_api/openapi.json",
    "/gradio_api/process_recording",
    "/gradio_api/proxy={url_path:path}",
    "/gradio_api/queue/status",
    "/gradio_api/run/{api_name}",
    "/gradio_api/run/{api_name}/",
    "/gradio_api/runs",
    "/gradio_api/runs/",
    "/gradio_api/stream/{event_id}",
    "/gradio_api/stream/{event_id}/close",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/playlist-file",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/playlist.m3u8",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/{segment_id}.{ext}",
    "/gradio_api/theme.css",
    "/gradio_api/token",
    "/gradio_api/token/",
    "/gradio_api/undo-vibe-edit",
    "/gradio_api/undo-vibe-edit/",
    "/gradio_api/upload",
    "/gradio_api/upload_progress",
    "/gradio_api/user",
    "/gradio_api/user/",
    "/gradio_api/vibe-code",
    "/gradio_api/vibe-code/",
    "/gradio_api/vibe-edit",
    "/gradio_api/vibe-edit/",
    "/gradio_api/vibe-starter-queries",
    "/gradio_api/vibe-starter-queries/",
]
VALUES = {
    "{sha256}": "0" * 64,
    "{owner}": "owner",
    "{name}": "docs.js",
    "{name:path}": "starter",
    "{rest:path}": "nope",
    "{path:path}": "nope.js",
    "{api_name}": "run",
    "{path_or_url:path}": "/etc/passwd",
    "{url_path:path}": "http://a.example/",
}
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/api/v1/jobs"): {"prompt": "sea"},
    ("POST", "/api/v1/jobs/convert"): {"model": "gone"},
    ("POST", "/api/v1/models/evict"): {"name": "starter"},
    ("POST", "/api/v1/models/pin"): {"name": "starter", "pinned": True},
    ("POST", "/api/v1/models/prefetch"): {"name": "starter"},
    ("POST", "/api/v1/jobs/download"): {"source": "model"},
    ("POST", "/api/v1/jobs/merge"): {"name": "m", "a": "gone", "b": "gone"},
    ("POST", "/api/v1/jobs/preprocess"): {"image": {"sha256": "0" * 64}, "preprocessor": "canny"},
    ("POST", "/api/v1/jobs/upscale"): {"image": {"sha256": "0" * 64}},
    ("PUT", "/api/v1/images/{image_id}/favorite"): {"favorite": True},
    ("POST", "/api/v1/prompts/combinations"): {"prompt": "{sea|land}"},
    ("POST", "/api/v1/styles"): {"name": "dull", "prompt": "dull colors"},
    ("PUT", "/api/v1/wildcards/{name:path}"): {"text": "sea"},
    ("PUT", "/api/v1/models/{name:path}/defaults"): {"steps": 7},
    ("PUT", "/api/v1/models/{name:path}/prediction"): {"prediction": "epsilon"},
}
MANAGING = {
    ("POST", "/api/v1/jobs/convert"),
    ("POST", "/api/v1/jobs/download"),
    ("POST", "/api/v1/jobs/merge"),
    ("GET", "/api/v1/repositories/{owner}/{name}"),
    ("POST", "/api/v1/models/evict"),
    ("POST", "/api/v1/models/pin"),
    ("DELETE", "/api/v1/models/{name:path}"),
    ("PUT", "/api/v1/models/{name:path}/prediction"),
    ("DELETE", "/api/v1/models/{name:path}/prediction"),
    ("POST", "/api/v1/styles"),
    ("DELETE", "/api/v1/styles/{name:path}"),
    ("PUT", "/api/v1/wildcards/{name:path}"),
    ("DELETE", "/api/v1/wildcards/{name:path}"),
}
BASE = "http://127.0.0.1:7860"


class Row(NamedTuple):
    """What the three kinds of caller get."""

    method: str
    path: str
    expected: tuple[int, ...]


ROWS = [
    Row(method, path, tuple(map(int, numbers)))
    for method, path, *numbers in (line.split() for line in TABLE.strip().splitlines())
]


def routes(found: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(method, path template) of everything that is served, through routers and mounts."""
    for route in found:
        if hasattr(route, "effective_candidates"):
            yield from routes(route.effective_candidates(), prefix)
            continue
        known = getattr(route, "starlette_route", None) or getattr(route, "original_route", None) or route
        path = prefix + (getattr(route, "path", None) or known.path)
        if getattr(route, "routes", None):
            yield from routes(route.routes, path)
        for method in getattr(route, "methods", None) or getattr(known, "methods", None) or {"ANY"}:
            if not getattr(route, "routes", None):
                yield method, path


class Walk:
    """The program's own site, asked in this process."""

    def __init__(self, folder: Path) -> None:
        make_model(folder / "models")
        settings = Settings(data_dir=folder / "data", model_dirs=(folder / "models",), hub_offline=True)
        self.worker = FakeWorker()
        self.studio = Studio(settings, self.worker)
        self.studio.start()
        self.site = program.build_site(self.studio, settings)
        self.guarded = build_app(self.studio, Settings(data_dir=folder / "data", lan=True, password="x"))
        self.owner = self.cookie()

    def ask(
        self,
        method: str,
        path: str,
        cookie: str = "",
        *,
        lan: bool = False,
        body: Any = None,
        client: str = "127.0.0.1",
        **headers: str,
    ) -> httpx.Response:
        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(
                self.guarded if lan else self.site, raise_app_exceptions=False, client=(client, 5555)
            )
            async with httpx.AsyncClient(transport=transport, base_url=BASE) as asking:
                return await asking.request(method, path, json=body, headers={"cookie": cookie, **headers})

        return asyncio.run(go())

    def cookie(self) -> str:
        """Somebody new; the Cookie header."""
        fresh = self.ask("GET", "/api/v1/images", **{"sec-fetch-site": "same-origin"})
        return fresh.headers["set-cookie"].partition(";")[0]

    def things(self) -> dict[str, str]:
        """A job and a picture of the owner."""

        def job() -> str:
            return str(self.ask("POST", "/api/v1/jobs", self.owner, body={"prompt": "sea"}).json()["id"])

        def status(job_id: str) -> Any:
            return self.ask("GET", f"/api/v1/jobs/{job_id}", self.owner).json()

        done = job()
        until(lambda: status(done)["state"] == "done")
        return {"{job_id}": done, "{image_id}": status(done)["image_ids"][0]}


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    walk = Walk(tmp_path_factory.mktemp("walk"))
    yield walk
    walk.studio.stop()


def filled(path: str, things: dict[str, str]) -> str:
    for name, value in {**VALUES, **things}.items():
        path = path.replace(name, value)
    return path.replace("{", "").replace("}", "")


def test_every_route_has_a_row_and_every_row_a_route(walk: Walk) -> None:
    served = set(routes(walk.site.routes))
    known = {(row.method, row.path) for row in ROWS} | ENDLESS
    assert {path for route in served - known if (path := route[1]) not in CLOSED} == set()
    assert known - served == {("GET", "/page/darkroom.js")}  # middleware answers


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.path}")
def test_a_route_answers_each_caller_as_the_table_says(walk: Walk, row: Row) -> None:
    things, body = walk.things() if "_id}" in row.path else {}, BODIES.get((row.method, row.path))
    path = filled(row.path, things)
    other, stranger = walk.cookie(), ""
    # The owner last: it may delete.
    got = {
        who: walk.ask(row.method, path, cookie, body=body).status_code
        for who, cookie in (("stranger", stranger), ("other", other), ("owner", walk.owner))
    }
    assert (got["stranger"], got["owner"], got["other"]) == row.expected


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.path}")
def test_a_route_is_shut_for_foreign_pages_names_and_strangers_of_a_network(walk: Walk, row: Row) -> None:
    path = filled(row.path, {"{job_id}": "x", "{image_id}": "x"})
    body = BODIES.get((row.method, row.path))

    def status(**headers: str) -> int:
        return walk.ask(row.method, path, walk.owner, body=body, **headers).status_code

    assert status(host="evil.example:7860") == 421
    assert status(origin="http://evil.example") == status(origin="null") == 403
    assert status(**{"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}) == 403
    assert walk.ask(row.method, path, walk.owner, lan=True, body=body).status_code == 401


@pytest.mark.parametrize(
    "row", [row for row in ROWS if (row.method, row.path) in MANAGING], ids=lambda row: f"{row.method} {row.path}"
)
def test_models_are_managed_at_the_machine_only(walk: Walk, row: Row) -> None:
    path, body = filled(row.path, {}), BODIES.get((row.method, row.path))
    answer = walk.ask(row.method, path, walk.owner, body=body, client="192.168.1.7")
    assert answer.status_code == 403 and "on the machine itself" in answer.json()["hint"]


@pytest.mark.parametrize("path", CLOSED)
def test_what_the_page_does_not_use_is_shut_for_all(walk: Walk, path: str) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
        answer = walk.ask(method, filled(path, {}), walk.owner)
        assert answer.status_code in (403, 404), method
