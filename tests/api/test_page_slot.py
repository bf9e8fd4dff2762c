"""What answers at "/" before the page is there, and how the page takes its place under a running server."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from api.page_slot import PageSlot
from tests.support.serving import Site, mount_small_page, served

HTML = '<head></head><style nonce="{{nonce}}"></style><script nonce="{{nonce}}"></script>Darkroom is starting'
PASSWORD = "open sesame"
GRADIOS = (
    "/config",
    "/theme.css",
    "/gradio_api/info",
    "/gradio_api/startup-events",
    "/assets/index.js",
    "/static/x.js",
)


@pytest.fixture
def starting(tmp_path: Path) -> Iterator[Site]:
    with served(tmp_path, starting_html=HTML) as running:
        yield running


def test_it_says_that_it_is_starting_under_a_strict_policy(starting: Site) -> None:
    answer = starting.visitor().get("/")
    assert answer.status_code == 200 and "Darkroom is starting" in answer.text
    nonces = re.findall(r'nonce="([\w-]+)"', answer.text)
    policy = answer.headers["content-security-policy"]
    assert len(nonces) == 2 and policy.startswith("default-src 'none'; ") and "unsafe" not in policy
    assert all(f"'nonce-{nonce}'" in policy for nonce in nonces)
    assert answer.headers["cache-control"] == "no-store" and "ours = 1" not in answer.text
    assert starting.visitor().get("/").headers["content-security-policy"] != policy


def test_gradios_routes_are_refused_with_a_time_and_the_api_works(starting: Site) -> None:
    me = starting.visitor()
    for path in GRADIOS:
        refused = me.get(path)
        assert refused.status_code == 503 and int(refused.headers["retry-after"]) >= 1, path
        assert refused.json()["code"] == "starting"
    joined = me.post("/gradio_api/queue/join", json={"fn_index": 0, "data": [], "session_hash": "abc"})
    assert joined.status_code == 503
    assert me.get("/api/v1/page").json() == {"ready": False}
    assert me.get("/page/a.css").status_code == 200
    assert me.finish(me.paint())["state"] == "done"


def test_security_is_in_front_of_it(starting: Site, tmp_path: Path) -> None:
    me = starting.visitor()
    assert me.get("/", headers={"host": "evil.example"}).status_code == 421
    assert me.get("/", headers={"origin": "http://evil.example"}).status_code == 403
    assert me.get("/api/v1/page", headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert me.post("/gradio_api/upload").status_code == 403
    with served(tmp_path / "lan", starting_html=HTML, lan=True, password=PASSWORD) as shared:
        them = shared.visitor()
        visit = them.get("/", headers={"accept": "text/html"})
        assert visit.status_code == 303 and visit.headers["location"] == "/login"
        assert them.get("/api/v1/page").status_code == 401
        them.post("/login", data={"password": PASSWORD}, headers={"origin": shared.base})
        assert "is starting" in them.get("/", headers={"accept": "text/html"}).text


def test_the_page_takes_its_place_while_it_is_served(starting: Site) -> None:
    me = starting.visitor()
    assert "is starting" in me.get("/").text
    mount_small_page(starting.app)
    page = me.get("/")
    assert "window.ours = 1" in page.text and "is starting" not in page.text
    assert me.get("/api/v1/page").json() == {"ready": True}
    # Gradio's queue runs: its lifespan began.
    joined = me.post("/gradio_api/queue/join", json={"fn_index": 0, "data": ["", None], "session_hash": "abc"})
    assert joined.status_code == 200, joined.text
    with me.stream("GET", "/gradio_api/queue/data?session_hash=abc") as stream:
        assert any("process_completed" in line for line in stream.iter_lines())


def _page(seen: list[str], *, fails: bool = False) -> Starlette:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        if fails:
            raise RuntimeError("it can't begin")
        begun_in = asyncio.current_task()
        seen.append("begins")
        yield
        seen.append("ends" if asyncio.current_task() is begun_in else "ends in another task")

    async def answer(request: Request) -> Response:
        return HTMLResponse("the page")

    return Starlette(routes=[Route("/", answer)], lifespan=lifespan)


@pytest.mark.parametrize("is_served_first", [True, False])
def test_the_page_s_lifespan_begins_and_ends_once_in_one_task(is_served_first: bool) -> None:
    seen: list[str] = []
    slot = PageSlot("", "'self'", lambda page: page)

    async def serve() -> None:
        async with slot.lifespan(None):
            if is_served_first:
                await asyncio.to_thread(slot.fill, _page(seen))
            assert slot.is_filled and len(seen) == 1

    if not is_served_first:
        slot.fill(_page(seen))
    asyncio.run(serve())
    assert seen == ["begins", "ends"]


def test_a_page_that_can_not_begin_is_not_shown() -> None:
    slot = PageSlot("", "'self'", lambda page: page)

    async def serve() -> None:
        async with slot.lifespan(None):
            with pytest.raises(RuntimeError, match="can't begin"):
                await asyncio.to_thread(slot.fill, _page([], fails=True))

    asyncio.run(serve())
    assert not slot.is_filled
