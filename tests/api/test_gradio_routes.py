"""Only those of gradio's routes that our page uses exist, and what they take is checked before gradio."""

import json

import pytest

from api.security.gradio_routes import MAX_DEPTH, GradioRoutes
from contract.errors import NotAllowed, NotFound, RequestError


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/config",
        "/theme.css",
        "/favicon.ico",
        "/assets/index-Dp.js",
        "/static/fonts/IBMPlexSans/A-Bold.woff2",
        "/gradio_api/queue/data",
        "/gradio_api/heartbeat/abc123",
        "/gradio_api/startup-events",
    ],
)
def test_what_the_page_uses_is_there(path: str) -> None:
    GradioRoutes.check_path("GET", path)


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=../../x",
        "/gradio_api/file=..\\x",
        "/gradio_api/file=http://a.example/",
        "/gradio_api/file/etc/passwd",
        "/gradio_api/FILE=x",
        "/file=/etc/passwd",
        "/gradio_api/file=C:/x",
        "/gradio_api/file=//server/share",
        "/gradio_api/file=file:///etc/passwd",
        "/gradio_api/file=.env",
        "/gradio_api/proxy=http://a.example/",
        "/proxy=https://hf.space/",
        "/monitoring",
        "/monitoring/summary",
        "/gradio_api/upload",
        "/gradio_api/upload_progress",
        "/gradio_api/stream/x/y/z/playlist-file",
    ],
)
def test_what_reads_or_fetches_is_refused(path: str) -> None:
    for method in ("GET", "POST", "HEAD"):
        with pytest.raises(NotAllowed):
            GradioRoutes.check_path(method, path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/gradio_api/run/predict"),
        ("POST", "/gradio_api/api/predict"),
        ("POST", "/gradio_api/call/f"),
        ("POST", "/gradio_api/call/v2/f"),
        ("GET", "/gradio_api/call/f/1"),
        ("POST", "/gradio_api/component_server"),
        ("POST", "/gradio_api/process_recording"),
        ("POST", "/gradio_api/vibe-edit"),
        ("GET", "/gradio_api/vibe-code"),
        ("GET", "/gradio_api/runs"),
        ("POST", "/gradio_api/run-history/connect"),
        ("GET", "/gradio_api/openapi.json"),
        ("GET", "/gradio_api/deep_link"),
        ("GET", "/gradio_api/dev/reload"),
        ("GET", "/gradio_api/token"),
        ("GET", "/gradio_api/profiling/traces"),
        ("GET", "/gradio_api/custom_component/1/client/component/x"),
        ("GET", "/svelte/x"),
        ("GET", "/login"),
        ("POST", "/login"),
        ("GET", "/logout"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/.env"),
        ("PUT", "/"),
        ("DELETE", "/"),
        ("PATCH", "/config"),
        ("OPTIONS", "/"),
        ("TRACE", "/"),
        ("POST", "/"),
        ("GET", "/gradio_api/queue/join"),
        ("GET", "/gradio_api/mcp/sse"),
    ],
)
def test_what_the_page_does_not_use_is_not_there(method: str, path: str) -> None:
    with pytest.raises(NotFound):
        GradioRoutes.check_path(method, path)


def join(**fields: object) -> bytes:
    return json.dumps({"data": [], "fn_index": 0, "session_hash": "abc", **fields}).encode()


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"1",
        b"{",
        b"\xff",
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        join(data=nested(MAX_DEPTH + 5)),
        join(fn_index=-1),
        join(fn_index=99_999),
        join(fn_index="0"),
        join(fn_index=True),
        join(fn_index=10**400),
        join(session_hash=""),
        join(session_hash="x" * 65),
        join(session_hash=None),
        join(session_hash=["abc"]),
        join(session_hash="a b"),
    ],
)
def test_a_bad_queue_request_is_refused_in_words(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        GradioRoutes().check_body(body, "me")
    assert caught.value.message and "gradio" not in caught.value.message.lower()


def test_a_session_belongs_to_whoever_used_it_first() -> None:
    routes = GradioRoutes()
    routes.check_body(join(), "me")
    routes.check_session("/gradio_api/queue/data", b"session_hash=abc", "me")
    with pytest.raises(NotFound):
        routes.check_session("/gradio_api/queue/data", b"session_hash=abc", "you")
    with pytest.raises(NotFound):
        routes.check_session("/gradio_api/heartbeat/abc", b"", "you")
    with pytest.raises(NotFound):
        routes.check_body(join(), "you")


@pytest.mark.parametrize("query", [b"", b"session_hash=", b"session_hash=%00", b"a=1&" * 100, b"\xff\xfe"])
def test_a_session_has_to_be_named(query: bytes) -> None:
    with pytest.raises(RequestError):
        GradioRoutes().check_session("/gradio_api/queue/data", query, "me")
