"""Whatever is sent, the API answers with words and never with 500.

First every operation of the OpenAPI document with what schemathesis makes of it, right and wrong; then each field of
right bodies replaced by what bodies of that kind never hold; then odd headers, addresses and bytes on the wire.
DARKROOM_FUZZ=100 makes a hundred times as many cases of the first kind, and other ones each time.
"""

import copy
import json
import os
import random
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from tests.support.images import png
from tests.support.serving import Site, Visitor, served

MORE = int(os.environ.get("DARKROOM_FUZZ", "0"))
EXAMPLES = 5 * max(1, MORE)
BROUGHT = "0" * 64  # stands for a picture that was brought
# Right bodies, each of whose fields is replaced in turn.
PLAIN: dict[str, Any] = {
    "schema": 1,
    "prompt": "sea <lora:none:1>",
    "negative_prompt": "x",
    "model": "starter",
    "vae": "none",
    "sampler": "euler",
    "schedule": "normal",
    "steps": 4,
    "guidance": 5.0,
    "clip_skip": 1,
    "emphasis": "ignore",
    "width": 64,
    "height": 64,
    "seed": 7,
    "count": 1,
    "parent": "0" * 22,
    "extras": {"none": {}},
    "embeddings": [],
    "loras": [{"model": "none", "weight": 1.0, "text_weight": 1.0, "blocks": [1.0]}],
    "hypernetworks": [{"model": "none", "weight": 1.0}],
    "guidance_methods": [{"id": "pag", "values": {"scale": 3.0}}, {"id": "detail", "values": {"smooth": "smooth"}}],
    "hires": {"scale": 2.0, "steps": 4, "strength": 0.5, "upscaler": "lanczos"},
}
PARTS: dict[str, Any] = {
    "prompt": "sea",
    "init_image": {
        "image": {"sha256": BROUGHT},
        "strength": 0.5,
        "resize": "crop",
        "outpaint": {"left": 8, "overlap": 8},
    },
    "mask": {"image": {"sha256": BROUGHT}, "blur": 4, "area": "whole", "padding": 8},
    "controls": [
        {
            "model": "none",
            "image": {"sha256": BROUGHT},
            "weight": 1.0,
            "start": 0.0,
            "end": 1.0,
            "preprocessor": "canny",
            "resolution": 512,
        }
    ],
    "ip_adapters": [{"model": "none", "image": {"sha256": BROUGHT}, "weight": 1.0, "start": 0.0}],
}
BODIES: dict[str, dict[str, Any]] = {
    "/jobs": PLAIN,
    "/jobs?parts": PARTS,
    "/jobs/upscale": {
        "image": {"sha256": BROUGHT},
        "scale": 2.0,
        "upscaler": "lanczos",
        "tile": 512,
        "overlap": 32,
        "parent": "0" * 22,
    },
    "/jobs/preprocess": {
        "image": {"sha256": BROUGHT},
        "preprocessor": "canny",
        "resolution": 512,
        "low": 1.0,
        "high": 2.0,
    },
    "/jobs/download": {"source": "a/b", "files": ["a.safetensors"], "kind": "lora", "name": "n", "revision": "main"},
    "/jobs/convert": {"model": "gone", "kind": "lora"},
    "/jobs/merge": {
        "name": "m",
        "a": "starter",
        "b": "starter",
        "c": "starter",
        "ratio": 0.5,
        "method": "add_difference",
        "dtype": "float16",
        "loras": [{"model": "none", "weight": 1.0}],
    },
    "/models/evict": {"name": "starter", "kind": "checkpoint"},
    "/models/pin": {"name": "starter", "kind": "checkpoint", "pinned": True},
    "/models/prefetch": {"name": "starter", "kind": "checkpoint"},
    "/images/x/favorite": {"favorite": True},
}
DEEP = json.loads("[" * 300 + "]" * 300)
VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    0.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    -float("inf"),
    2**31,
    2**53 + 1,
    2**63,
    2**64,
    10**400,
    -(10**20),
    "",
    " ",
    "\0",
    "a\0b",
    "\ud83d",
    "\udc80x",
    "\u202e",
    "\x1b[2J",
    "x" * 5000,
    "../../etc/passwd",
    "/etc/passwd",
    "C:\\con",
    "~nobody/x",
    "%00",
    "a" * 300 + ".safetensors",
    "1",
    "NaN",
    "１２",
    "()",
    "(a:1e400)",
    "[a:b:1e400]",
    "((((" * 200,
    "<lora:x:1e999>",
    "<lora:" + ":" * 300 + ">",
    "{a|" * 100,
    "AND " * 300,
    [],
    [None],
    [[]],
    {},
    {"": 0},
    {"\ud800": "x"},
    {"sha256": "x"},
    DEEP,
    [0] * 2000,
    {"image": None},
    {"model": {"name": {}}},
]
TEXTS = [
    b"",
    b" ",
    b"null",
    b"true",
    b"1",
    b"[]",
    b"{}",
    b'""',
    b"{",
    b'{"prompt":',
    b"\xff\xfe{\0}\0",
    b"\xef\xbb\xbf{}",
    b"NaN",
    b"[" * 100_000,
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
    b'{"prompt":"\\ud83d"}',
    b'{"prompt":"\xed\xa0\xbd"}',
    b'{"prompt":1e9999}',
    b'{"prompt":"a","seed":' + b"9" * 5000 + b"}",
    b'{"prompt":"a","prompt":"b"}',
    b'{"prompt":"a","width":1e2}',
    b"\0",
    b"\x1b[2J",
    b'{"prompt":"a","steps":' + b"1" * 400 + b".0}",
]
HEADERS: list[dict[str, Any]] = (
    [
        {"Range": value}
        for value in (
            "bytes=0-",
            "bytes=5-2",
            "bytes=-1",
            "bytes=a-b",
            "bytes=0-1,2-3",
            "lines=1",
            "bytes=" + "9" * 400 + "-",
            "bytes=0-" + "1," * 500,
        )
    ]
    + [{"If-None-Match": value} for value in ("*", '"', "W/", '"x", "y"', "\xff", '"' * 3000)]
    + [{"If-Modified-Since": "never"}, {"If-Range": "x"}, {"Expect": "100-continue"}, {"Expect": "nothing"}]
    + [{"Accept-Encoding": value} for value in ("", "gzip;q=0", "gzip;q=x", "br", "*", "identity;q=0", "gzip, " * 300)]
    + [{"Accept": value} for value in ("", "x", "text/html;q=", "*/*;q=2")]
    + [
        {"Content-Type": value}
        for value in (
            "",
            "application/json; charset=utf-16",
            "application/json; charset=no",
            "application/json; x",
            "text/plain",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "/",
            "\xff",
        )
    ]
    + [{"Last-Event-ID": value} for value in ("-1", "9" * 400, "x", "\xb2", "\xff", "1.5")]
    + [{"X-Darkroom-Session": value} for value in ("", "a b", "x" * 500, "\xff", "\xb2")]
    + [
        {"Cookie": value}
        for value in ("", "=", ";;;", "a" * 3000, "darkroom_owner_=x.y", "\xff=\xff", 'a="\\', "x=" + "." * 500)
    ]
    + [{"Authorization": value} for value in ("", "Basic", "Basic ===", "Basic \xff", "Bearer x", "Basic Og==")]
    + [
        {"X-Forwarded-For": "::"},
        {"X-Forwarded-Host": "evil"},
        {"X-Forwarded-Proto": "gopher"},
        {"X-Forwarded-Prefix": "/x"},
        {"Forwarded": "for="},
        {"X-HTTP-Method-Override": "DELETE"},
        {"Origin": ""},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "x"},
        {"X-Gradio-Server": "http://evil"},
        {"Connection": "upgrade", "Upgrade": "websocket"},
        {"Connection": "upgrade", "Upgrade": "h2c"},
        {"TE": "trailers"},
        {"Transfer-Encoding": "gzip"},
        {"Content-Encoding": "gzip"},
        {"Via": "1.1 x"},
        {"Accept-Language": "\xff"},
        {"User-Agent": "\x7f"},
    ]
)
PATHS = [
    "/jobs/%00",
    "/jobs/%ff",
    "/jobs/a%2fb",
    "/jobs/..%2f..",
    "/jobs/" + "x" * 3000,
    "/jobs/%F0%9F%98%80",
    "/jobs/x/events?cursor=-1",
    "/jobs/x/events?cursor=1e3",
    "/jobs/x/events?cursor=99999999999999999999",
    "/jobs?session=%00",
    "/jobs?session=%ff",
    "/images?limit=NaN",
    "/images?limit=" + "9" * 400,
    "/images?before=%00",
    "/images?before=%ed%a0%bd",
    "/images?search=%00",
    "/images?search=%22",
    "/images?search=*",
    "/images?search=%ed%a0%bd",
    "/images?search=" + "%22%20" * 80,
    "/images?search=a%20AND%20(",
    "/images?search=NEAR(a,b)",
    "/images?search=-",
    "/images?search=%F0%9F%98%80",
    "/images?search=" + "a%20" * 120,
    "/images/x?download=maybe",
    "/images/%00/thumbnail",
    "/images/x/recipe",
    "/uploads/" + "0" * 64,
    "/uploads/" + "f" * 65,
    "/uploads/%EF%BC%90" + "0" * 63,
    "/models/%00",
    "/models/..%2f..%2fetc",
    "/models/" + "a/" * 500,
    "/models/x/preview?kind=none",
    "/models/starter/preview?kind=lora",
    "/models?kind=%00",
    "/models/%ed%a0%bd",
    "/library?search=%00",
    "/library?search=%ed%a0%bd",
    "/library?offset=-1",
    "/library?offset=1e9",
    "/library?limit=0",
    "/library?kind=",
    "/repositories/a/..",
    "/repositories/a/b?revision=%00",
    "/repositories/a%00/b",
    "/docs/%00",
    "/docs/..%2fx",
    "/openapi.json?x=%ff",
    "/samplers?%ff=%ff",
    "/health?" + "a=1&" * 2000,
    "/queue#x",
    "/%ff",
    "/jobs/x/move_up/",
    "/;",
    "/jobs;x=1",
    "/jobs//x",
    "/jobs/./x",
]
WIRE = [
    b"GET /api/v1/health HTTP/1.1\r\nHost: %HOST%\r\nContent-Length: -1\r\n\r\n",
    b"GET /api/v1/health HTTP/1.1\r\nHost: %HOST%\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    b"POST /api/v1/jobs HTTP/1.1\r\nHost: %HOST%\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}{}{}{}",
    b"POST /api/v1/jobs HTTP/1.1\r\nHost: %HOST%\r\nContent-Type: application/json\r\nContent-Length: 99999999999999999999999\r\n\r\n{}",
    b"POST /api/v1/jobs HTTP/1.1\r\nHost: %HOST%\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    b"POST /api/v1/jobs HTTP/1.1\r\nHost: %HOST%\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"GET /api/v1/health HTTP/1.1\r\nHost: %HOST%\r\nHost: evil\r\n\r\n",
    b"GET /api/v1/health HTTP/1.1\r\n\r\n",
    b"GET /api/v1/health HTTP/1.0\r\n\r\n",
    b"GET /api/v1/health HTTP/9.9\r\nHost: %HOST%\r\n\r\n",
    b"GET http://evil/api/v1/health HTTP/1.1\r\nHost: %HOST%\r\n\r\n",
    b"GET * HTTP/1.1\r\nHost: %HOST%\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: %HOST%\r\n\r\n",
    b"CONNECT evil:443 HTTP/1.1\r\nHost: %HOST%\r\n\r\n",
    b"BREW /api/v1/health HTTP/1.1\r\nHost: %HOST%\r\n\r\n",
    b"GET /api/v1/\xff HTTP/1.1\r\nHost: %HOST%\r\n\r\n",
    b"GET /api/v1/health?\xff HTTP/1.1\r\nHost: %HOST%\r\n\r\n",
    b"GET /api/v1/health HTTP/1.1\r\nHost: \xff\r\n\r\n",
    b"GET /api/v1/health HTTP/1.1\r\nHost: %HOST%\r\nX: a\r\n b\r\n\r\n",
    b"GET /api/v1/health HTTP/1.1\r\nHost: %HOST%\r\nX\x00: a\r\n\r\n",
    b"GET /api/v1/health HTTP/1.1\r\nHost: %HOST%\r\n" + b"X: a\r\n" * 3000 + b"\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: %HOST%\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\r\n\r\n\r\n",
    b"\0" * 100,
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served(
        tmp_path_factory.mktemp("hostile"), with_page=True, hub_offline=True, max_jobs_per_owner=10_000, max_jobs=10_000
    ) as running:
        yield running


@pytest.fixture(scope="module")
def me(site: Site) -> Visitor:
    visitor = site.visitor()
    visitor.timeout = httpx.Timeout(60)
    return visitor


@pytest.fixture(scope="module")
def brought(me: httpx.Client) -> str:
    return str(me.post("/api/v1/uploads", content=png((64, 64))).json()["sha256"])


@pytest.fixture(scope="module")
def document(me: httpx.Client) -> dict[str, Any]:
    return dict(me.get("/api/v1/openapi.json").json())


def check(answer: httpx.Response, what: object) -> None:
    """Never 500; whatever is refused says why, in the one shape."""
    assert answer.status_code != 500, (what, answer.text[:300])
    if answer.status_code >= 400 and answer.request.method != "HEAD":
        assert {"code", "message", "hint"} <= set(answer.json()) <= {"code", "message", "hint", "field", "fix"}, (
            what,
            answer.text[:300],
        )
        assert answer.json()["message"], what


def test_no_operation_of_the_document_answers_500(site: Site, me: httpx.Client, document: dict[str, Any]) -> None:
    schema = schemathesis.openapi.from_dict(document)
    schema.config.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
    count = 0

    def attack(operation: Any) -> None:
        @given(case=operation.as_strategy())
        @settings(
            max_examples=EXAMPLES,
            derandomize=not MORE,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def one(case: Any) -> None:
            nonlocal count
            count += 1
            given = case.as_transport_kwargs(base_url=site.base)
            send = {name: given[name] for name in ("json", "data", "params", "cookies") if given.get(name) is not None}
            answer = ask(me, given["method"], given["url"], headers=given.get("headers"), **send)
            if answer is not None:
                check(answer, (given["method"], given["url"], send))

        one()

    for result in schema.get_all_operations():
        attack(result.ok())
    assert count > 100


def ask(me: httpx.Client, method: str, url: str, **given: Any) -> httpx.Response | None:
    """One request; None for what httpx can't send, and for streams no more than their beginning."""
    data = given.pop("data", None)
    if isinstance(data, (bytes, str)):
        given["content"] = data
    elif data is not None:
        given["json"] = data
    try:
        body = json.dumps(given.pop("json")).encode() if "json" in given else None
        request = me.build_request(method, url, **({"content": body} if body is not None else {}), **given)
        answer = me.send(request, stream=True)
    except (ValueError, TypeError, httpx.InvalidURL, httpx.LocalProtocolError):
        return None
    if not answer.headers.get("content-type", "").startswith("text/event-stream"):
        answer.read()
    answer.close()
    return answer


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in a body, its own first."""
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def replaced(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    body = copy.deepcopy(body)
    inner = body
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return body


@pytest.mark.parametrize("path", BODIES)
def test_no_field_with_what_it_never_holds_gives_500(me: httpx.Client, brought: str, path: str) -> None:
    chance = random.Random(13 if not MORE else None)
    method = "PUT" if path.endswith("favorite") else "POST"
    for place in places(BODIES[path]):
        simple = {"prompt": "sea"} if path.startswith("/jobs?") or path == "/jobs" else {}
        for value in VALUES if MORE else chance.sample(VALUES, 7):
            whole = replaced(BODIES[path], place, value)
            alone = {**simple, place[0]: whole[place[0]]} if place and isinstance(whole, dict) else whole
            for body in (whole, alone):
                text = json.dumps(body).replace(BROUGHT, brought).encode()
                answer = me.request(
                    method, f"/api/v1{path}", content=text, headers={"Content-Type": "application/json"}
                )
                check(answer, (path, place, text[:200]))


@pytest.mark.parametrize("path", BODIES)
def test_no_missing_field_gives_500(me: httpx.Client, path: str) -> None:
    method = "PUT" if path.endswith("favorite") else "POST"
    for place in list(places(BODIES[path]))[1:]:
        body = copy.deepcopy(BODIES[path])
        inner = body
        for key in place[:-1]:
            inner = inner[key]
        del inner[place[-1]]
        check(me.request(method, f"/api/v1{path}", json=body), (path, place))


@pytest.mark.parametrize("path", [*BODIES, "/uploads", "/recipes/read"])
def test_no_body_gives_500(me: httpx.Client, path: str) -> None:
    method = "PUT" if path.endswith("favorite") else "POST"
    for text in TEXTS:
        check(
            me.request(method, f"/api/v1{path}", content=text, headers={"Content-Type": "application/json"}),
            (path, text[:100]),
        )


def test_no_header_gives_500(me: Visitor) -> None:
    picture = me.picture()
    for path in ("/models", f"/images/{picture}", "/jobs/none/events"):
        for headers in HEADERS:
            raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
            answer = ask(me, "GET", f"/api/v1{path}", headers=raw)
            if answer is not None:
                assert answer.status_code != 500, (path, headers)
    for headers in HEADERS:
        raw = [
            (name.encode(), value.encode("latin-1"))
            for name, value in {"Content-Type": "application/json", **headers}.items()
        ]
        answer = ask(me, "POST", "/api/v1/jobs", content=b'{"prompt": "sea"}', headers=raw)
        assert answer is None or answer.status_code != 500, headers


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "POST", "PUT"])
def test_no_address_gives_500(me: httpx.Client, method: str) -> None:
    for path in PATHS:
        check(me.request(method, f"/api/v1{path}"), (method, path))


@pytest.mark.parametrize("sent", WIRE, ids=range(len(WIRE)))
def test_no_bytes_on_the_wire_give_500_or_end_the_server(site: Site, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", site.port), timeout=5) as line:
        line.sendall(sent.replace(b"%HOST%", f"127.0.0.1:{site.port}".encode()))
        line.shutdown(socket.SHUT_WR)
        heard = b""
        try:
            while part := line.recv(65536):
                heard += part
        except ConnectionError:
            pass
    assert b" 500 " not in heard.split(b"\r\n")[0]
    assert site.visitor().get("/api/v1/health").status_code == 200
