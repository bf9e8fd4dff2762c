"""A whole served site for tests: Studio with the fake worker, API, guard and a small gradio page.

Served by uvicorn on a free loopback port, so that bodies, streams and refusals are what a client meets.
"""

import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
from fastapi import FastAPI
from gradio import processing_utils

from api.app import build_app
from api.security.connections import Patience, http_server
from studio.settings import Settings
from studio.studio import Studio
from tests.support.fakes import FakeWorker
from tests.support.model_folders import make_model

HEAD = '<script>window.ours = 1;</script>\n<link rel="stylesheet" href="/page/a.css?v=1">\n'
LIMIT_S = 10.0


class NoFetching:
    """What gradio gets for a transport: it refuses every request."""

    async def __aenter__(self) -> "NoFetching":
        return self

    async def __aexit__(self, *reason: object) -> None:
        return None

    async def handle_async_request(self, request: object) -> object:
        raise PermissionError("Darkroom fetches no addresses.")

    async def aclose(self) -> None:
        return None


def small_page() -> gr.Blocks:
    """A page of the same kind as ours: one JSON value in, several out."""
    with gr.Blocks(title="Small", analytics_enabled=False) as page:
        field = gr.HTML("", elem_id="field")
        button = gr.Button("Go")

        async def run(value: str, request: gr.Request) -> AsyncIterator[str]:
            assert request.request is not None
            yield f"{value} for {request.request.scope['state']['owner']}"

        button.click(run, field, field, api_visibility="private", concurrency_limit=None)
    return page.queue(api_open=False, default_concurrency_limit=None)


def mount_small_page(app: FastAPI) -> gr.Blocks:
    """Put it in its slot the way app.py puts ours."""
    page = small_page()
    application = gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        page,
        "/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        show_error=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
    )
    page.has_launched = True
    app.state.page = page
    app.state.page_slot.fill(application)
    processing_utils.async_transport = NoFetching()  # type: ignore[assignment]
    return page


class Visitor(httpx.Client):
    """One person: keeps cookies, so it has an owner of its own."""

    def paint(self, prompt: str = "sea", **draft: Any) -> str:
        """Submit a job; its id."""
        answer = self.post("/api/v1/jobs", json={"prompt": prompt, **draft})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def state(self, job_id: str) -> str:
        return str(self.get(f"/api/v1/jobs/{job_id}").json()["state"])

    def finish(self, job_id: str) -> dict[str, Any]:
        """Wait until a job has ended; its status."""
        until(lambda: self.state(job_id) not in ("queued", "running"))
        return dict(self.get(f"/api/v1/jobs/{job_id}").json())

    def picture(self, prompt: str = "sea", **draft: Any) -> str:
        """Make a picture; its id."""
        return str(self.finish(self.paint(prompt, **draft))["image_ids"][0])


class Site:
    """A served application and the parts behind it."""

    def __init__(self, app: FastAPI, studio: Studio, worker: FakeWorker, page: gr.Blocks | None, port: int) -> None:
        self.app = app
        self.studio = studio
        self.worker = worker
        self.page = page
        self.port = port
        self.base = f"http://127.0.0.1:{port}"
        self.visitors: list[Visitor] = []

    def program(self, **choices: Any) -> Visitor:
        """A caller of the API that is no browser."""
        return self.visitor(headers={}, **choices)

    def is_idle(self) -> bool:
        """Whether nobody's job runs or waits."""
        return not any(row.state in ("queued", "running") for row in self.studio.queue("nobody"))

    def visitor(self, **choices: Any) -> Visitor:
        """Somebody new, with a browser: programs on this machine would all be one owner."""
        choices.setdefault("headers", {"Sec-Fetch-Site": "none"})
        visitor = Visitor(base_url=self.base, timeout=LIMIT_S, trust_env=False, verify=False, **choices)
        self.visitors.append(visitor)
        return visitor


def until(condition: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Look every 10 ms until the condition holds."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"not within {limit_s} s"
        time.sleep(0.01)


@contextmanager
def served(
    folder: Path,
    *,
    with_page: bool = False,
    most: int = 200,
    patience: Patience | None = None,
    starting_html: str = "",
    **choices: Any,
) -> Iterator[Site]:
    """Serve a studio on `folder`; `choices` are settings."""
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "gradio")
    make_model(folder / "models")
    files = {"/page/a.css": b"body { color: red }\n" * 200, "/page/a.js": b"export const a = 1;\n"}
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio forgets it on a given socket
    port = int(listener.getsockname()[1])
    settings = Settings(data_dir=folder / "data", model_dirs=(folder / "models",), port=port, **choices)
    worker = FakeWorker()
    studio = Studio(settings, worker)
    studio.start()
    app = build_app(studio, settings, page_files=files, version="test", head_html=HEAD, starting_html=starting_html)
    page = mount_small_page(app) if with_page else None
    server = http_server(app, most_connections=most, patience=patience, log_level="critical")
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    site = Site(app, studio, worker, page, port)
    try:
        until(lambda: server.started)
        yield site
    finally:
        worker.gate.set()
        for visitor in site.visitors:
            visitor.close()
        server.should_exit = True
        thread.join(LIMIT_S)
        studio.stop()
        listener.close()
