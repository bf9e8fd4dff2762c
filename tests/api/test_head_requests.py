"""HEAD: every route that has a GET answers it with the same status and headers, and no body."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.test_routes import ENDLESS, ROWS, Row, Walk, filled
from tests.support.serving import Site, served

GETS = [row for row in ROWS if row.method == "GET"]
# Different for two requests in a row, or of the connection.
PASSING = {"date", "content-security-policy", "set-cookie", "server"}


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    walk = Walk(tmp_path_factory.mktemp("head"))
    yield walk
    walk.studio.stop()


def lasting(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in PASSING}


@pytest.mark.parametrize("row", GETS, ids=lambda row: row.path)
def test_head_of_every_route_is_its_get_without_the_body(walk: Walk, row: Row) -> None:
    path = filled(row.path, walk.things() if "_id}" in row.path else {})
    if path.endswith("/startup-events"):
        walk.ask("GET", path)  # what the first of all starts
    packing = "identity" if path == "/" else "gzip"  # of the page, whose nonces compress to more or less
    got, head = (walk.ask(method, path, walk.owner, **{"accept-encoding": packing}) for method in ("GET", "HEAD"))
    assert head.status_code == got.status_code
    assert head.content == b""
    assert lasting(head) == lasting(got)


@pytest.mark.parametrize(
    "path",
    [
        "/page/darkroom.js",
        "/static/fonts/IBMPlexSans/IBMPlexSans-Bold.woff2",
        "/nothing",
        "/api/v1/jobs/none",
        "/api/v1/models?kind=lora",
    ],
)
def test_head_of_files_and_of_nothing_is_their_get_without_the_body(walk: Walk, path: str) -> None:
    got, head = walk.ask("GET", path, walk.owner), walk.ask("HEAD", path, walk.owner)
    assert (head.status_code, head.content, lasting(head)) == (got.status_code, b"", lasting(got))


@pytest.mark.parametrize("path", [*(path for _, path in sorted(ENDLESS)), "/gradio_api/queue/data?session_hash=mine"])
def test_head_of_a_stream_ends_at_once(walk: Walk, path: str) -> None:
    head = walk.ask("HEAD", filled(path, {}), walk.owner)
    assert head.status_code == 200 and head.headers["content-type"].startswith("text/event-stream")


def test_head_at_the_locked_door_is_led_to_the_form(walk: Walk) -> None:
    head = walk.ask("HEAD", "/", lan=True, accept="text/html")
    assert (head.status_code, head.headers["location"]) == (303, "/login")
    assert walk.ask("HEAD", "/login", lan=True).status_code == 200


def test_head_over_the_wire_keeps_the_connection_and_says_the_length(tmp_path: Path) -> None:
    with served(tmp_path, with_page=True) as site:
        me = site.visitor()
        picture = f"/api/v1/images/{me.picture()}"
        assert_same(site, me, picture)


def assert_same(site: Site, me: Any, path: str) -> None:
    got, head = me.get(path), me.head(path)
    assert head.headers["content-length"] == str(len(got.content)) and head.content == b""
    assert me.get("/api/v1/health").status_code == 200  # on the same connection: nothing is left over in it


def test_a_stream_that_head_ended_leaves_no_task_behind(walk: Walk) -> None:
    job = walk.things()["{job_id}"]
    assert walk.ask("HEAD", f"/api/v1/jobs/{job}/events", walk.owner).status_code == 200
    assert asyncio.run(_tasks()) == 1


async def _tasks() -> int:
    return len(asyncio.all_tasks())
