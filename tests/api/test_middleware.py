"""The guard in front of the served site: who may speak to it, as whom, and what its answers carry."""

import asyncio
import json
from typing import Any

import pytest
from starlette.types import Message

from tests.support.serving import Site, Visitor

POSTS = ("/api/v1/jobs", "/gradio_api/queue/join")


@pytest.mark.parametrize("path", ["/", "/api/v1/health", "/page/a.js", "/gradio_api/queue/join", "/nope"])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.2:{port}",
        "localhost:1",
        "localhost",
        "0.0.0.0:{port}",
        "[::2]:{port}",
        "2130706433:{port}",
    ],
)
def test_a_foreign_host_is_misdirected(site: Site, me: Visitor, path: str, host: str) -> None:
    answer = me.get(path, headers={"host": host.replace("{port}", str(site.port))})
    assert answer.status_code == 421 and answer.json()["code"] == "misdirected"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "[::1]"])
def test_every_name_of_this_machine_is_good(site: Site, me: Visitor, host: str) -> None:
    assert me.get("/api/v1/health", headers={"host": f"{host}:{site.port}"}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://localhost:1",
        "http://127.0.0.1",
        "file://",
        "https://evil.example:{port}",
        "http://localhost:{port}",
        "",
        "http://127.0.0.1:{port}.evil.example",
        "chrome-extension://abc",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_another_origin_may_do_nothing(site: Site, me: Visitor, origin: str, method: str) -> None:
    for path in ("/api/v1/jobs", "/gradio_api/queue/join", "/"):
        answer = me.request(method, path, headers={"origin": origin.replace("{port}", str(site.port))})
        assert answer.status_code == 403, path
        assert not any(name.startswith("access-control") for name in answer.headers)


def test_our_own_origin_may(site: Site, me: Visitor) -> None:
    for scheme in ("http", "https"):
        answer = me.post("/api/v1/jobs", json={"prompt": "x"}, headers={"origin": f"{scheme}://127.0.0.1:{site.port}"})
        assert answer.status_code == 202
        assert not any(name.startswith("access-control") for name in answer.headers)


def test_a_form_of_another_site_uploads_nothing(me: Visitor) -> None:
    for path in ("/api/v1/uploads", "/gradio_api/upload"):
        answer = me.post(path, files={"files": ("a.png", b"x")}, headers={"origin": "http://evil.example"})
        assert answer.status_code == 403


@pytest.mark.parametrize("where", ["cross-site", "same-site", "nonsense"])
def test_a_browser_that_comes_from_elsewhere_may_only_visit_a_page(me: Visitor, where: str) -> None:
    visit = {"sec-fetch-site": where, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    for path in ("/", "/api/v1/docs"):
        assert me.get(path, headers=visit).status_code == 200
    for path in ("/api/v1/images", "/api/v1/health", "/config", "/page/a.js", "/gradio_api/info"):
        assert me.get(path, headers=visit).status_code == 403
    for change in (
        {"sec-fetch-dest": "iframe"},
        {"sec-fetch-mode": "cors"},
        {"sec-fetch-mode": "no-cors"},
        {"sec-fetch-dest": "object"},
    ):
        assert me.get("/", headers={**visit, **change}).status_code == 403
    for path in POSTS:
        assert me.post(path, headers=visit, json={"prompt": "x"}).status_code == 403


def test_every_answer_carries_the_headers(me: Visitor) -> None:
    for path in ("/", "/api/v1/health", "/nope", "/page/a.js", "/config", "/api/v1/docs", "/theme.css"):
        headers = me.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["referrer-policy"] == "same-origin"
        assert "frame-ancestors 'self'" in headers["content-security-policy"]
        assert "server" not in headers


def test_the_page_runs_its_own_scripts_and_no_others(me: Visitor) -> None:
    answer = me.get("/")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    nonce = policy["script-src"].split("'nonce-")[1].split("'")[0]
    assert answer.text.count("<script") == answer.text.count(f'<script nonce="{nonce}"')
    assert "unsafe-inline" not in policy["script-src"] and policy["object-src"] == "'none'"
    assert "http" not in answer.headers["content-security-policy"]
    assert "window.ours = 1" in answer.text and "og:" not in answer.text and "viewport-fit=cover" in answer.text
    assert answer.headers["content-encoding"] == "gzip" and nonce != me.get("/").text


def cookies_of(headers: Any) -> list[str]:
    return [value for name, value in headers.multi_items() if name == "set-cookie"]


def test_a_newcomer_gets_an_owner_once(site: Site) -> None:
    me = site.visitor()
    (cookie,) = cookies_of(me.get("/api/v1/images").headers)
    assert cookie.startswith("darkroom_owner_") and "HttpOnly" in cookie and "SameSite=Lax" in cookie
    assert cookies_of(me.get("/api/v1/images").headers) == []
    assert len(cookies_of(me.get("/").headers)) == 1  # lives on from each visit


def test_files_of_the_page_make_no_owner(site: Site) -> None:
    me = site.visitor()
    for path in ("/page/a.js", "/theme.css", "/favicon.ico", "/assets/none.js"):
        assert cookies_of(me.get(path).headers) == []


def test_a_forged_owner_is_nobody_and_gets_a_new_one(site: Site, me: Visitor) -> None:
    image = me.picture()
    ((name, value),) = me.cookies.items()
    owner, _, signature = value.partition(".")
    for forged in (owner, f"{owner}.", f"{owner}.{'A' * len(signature)}", f"{'0' * 32}.{signature}", "x", f"{value}x"):
        fresh = site.visitor(headers={"cookie": f"{name}={forged}"})
        answer = fresh.get(f"/api/v1/images/{image}")
        assert answer.status_code == 401 and answer.json()["code"] == "not_signed_in"
        assert len(cookies_of(answer.headers)) == 1
        visit = site.visitor(headers={"cookie": f"{name}={forged}"}).get("/")
        assert visit.status_code == 200 and len(cookies_of(visit.headers)) == 1


def test_cookies_of_other_programs_do_no_harm(site: Site, me: Visitor) -> None:
    image = me.picture()
    ((name, value),) = me.cookies.items()
    jar = f'a="b; c"; =x; {{"json"}}; darkroom_owner=old; {name}={value}; \xe9=1; z'
    answer = site.visitor(headers={"cookie": jar.encode("latin-1")}).get(f"/api/v1/images/{image}")
    assert answer.status_code == 200


def test_websockets_are_refused(site: Site) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/", "headers": [], "query_string": b"", "server": ("127.0.0.1", site.port)}
    asyncio.run(site.app(scope, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


# Gradio, behind the guard


def join(visitor: Visitor, **fields: Any) -> Any:
    return visitor.post(
        "/gradio_api/queue/join", json={"data": ["hello"], "fn_index": 0, "session_hash": "s1", **fields}
    )


def messages(visitor: Visitor, session: str) -> list[dict[str, Any]]:
    answer = visitor.get("/gradio_api/queue/data", params={"session_hash": session})
    assert answer.status_code == 200, answer.text
    return [json.loads(line[6:]) for line in answer.text.split("\n") if line.startswith("data: ")]


def test_an_event_of_the_page_runs_as_its_owner(me: Visitor) -> None:
    me.get("/api/v1/images")
    owner = next(iter(me.cookies.values())).partition(".")[0]
    assert join(me, session_hash="run1").status_code == 200
    done = [m for m in messages(me, "run1") if m["msg"] == "process_generating" and m["success"]]
    assert f"hello for {owner}" in json.dumps(done)


def test_anothers_session_is_not_there(me: Visitor, you: Visitor) -> None:
    assert join(me, session_hash="mine1").status_code == 200
    assert you.get("/gradio_api/queue/data?session_hash=mine1").status_code == 404
    assert join(you, session_hash="mine1").status_code == 404
    cancel = {"session_hash": "mine1", "fn_index": 0, "event_id": "x"}
    assert you.post("/gradio_api/cancel", json=cancel).status_code == 404
    messages(me, "mine1")


@pytest.mark.parametrize(
    "path", ["run/run", "run/predict", "api/run", "call/run", "call/v2/run", "run/nope", "call/nope"]
)
def test_no_function_is_called_past_the_queue(me: Visitor, path: str) -> None:
    answer = me.post(f"/gradio_api/{path}", json={"data": ["x"], "session_hash": "direct"})
    assert answer.status_code == 404 and answer.json()["code"] == "not_found"


@pytest.mark.parametrize("number", [-1, 1, 99_999, "0", None, 1.5, [], 10**30])
def test_an_event_that_is_not_there_is_refused(me: Visitor, number: object) -> None:
    answer = join(me, fn_index=number, session_hash="numbers")
    assert 400 <= answer.status_code < 500, answer.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"data": ["\\ud800"], "fn_index": 0}',
        b'{"fn_index": 0}',
        b'{"data": 1, "fn_index": 0, "session_hash": "a"}',
    ],
)
def test_a_bad_queue_request_gets_a_4xx(me: Visitor, body: bytes) -> None:
    answer = me.post("/gradio_api/queue/join", content=body, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500, answer.text


def test_a_large_queue_request_is_refused_data_addresses_too(me: Visitor) -> None:
    answer = join(me, data=["data:image/png;base64," + "A" * 1_100_000], session_hash="large")
    assert answer.status_code == 413


@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/self/environ", ".env", "C:\\Windows\\win.ini"])
def test_a_file_that_was_not_received_is_not_read(me: Visitor, path: str) -> None:
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    session = "file" + str(abs(hash(path)))[:8]
    assert join(me, data=[file], session_hash=session).status_code == 200
    (end,) = [m for m in messages(me, session) if m["msg"] == "process_completed"]
    assert end["success"] is False and "root:" not in json.dumps(end) and "/etc" not in json.dumps(end)


@pytest.mark.parametrize(
    "path", ["run-history/connect", "upload", "process_recording", "vibe-edit", "component_server"]
)
def test_what_else_gradio_brings_is_not_there(me: Visitor, path: str) -> None:
    assert me.post(f"/gradio_api/{path}", json={}).status_code in (403, 404)


def test_a_program_without_cookies_finds_its_job_at_its_next_call(site: Site) -> None:
    job_id = site.program().paint("by a program")
    answer = site.program().get(f"/api/v1/jobs/{job_id}")
    assert answer.status_code == 200 and cookies_of(answer.headers) == []


def test_a_browser_does_not_see_what_programs_made_nor_they_what_it_made(site: Site, me: Visitor) -> None:
    of_program, mine = site.program().picture("by a program"), me.picture("by me")
    assert me.get(f"/api/v1/images/{of_program}").status_code == 404
    assert site.program().get(f"/api/v1/images/{mine}").status_code == 404
