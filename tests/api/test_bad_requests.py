"""Whatever fails, the answer is one JSON object with a code, a sentence and a hint, and says nothing of the machine."""

import http.client
import json
import socket

import pytest

from tests.support.serving import Site, Visitor

JSON = {"content-type": "application/json"}


def ask(
    site: Site, method: str, path: str, *, headers: dict[str, str] | None = None, body: bytes | None = None
) -> http.client.HTTPResponse:
    """A request exactly as it is written."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=5)
    connection.request(method, path, body=body, headers=headers or {})
    answer = connection.getresponse()
    answer.content = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/nope", 404),
        ("GET", "/api/v1/", 404),
        ("GET", "/api/v1", 404),
        ("GET", "/api/v1/jobs/", 404),
        ("GET", "/nope", 404),
        ("GET", "/page/nope.js", 404),
        ("GET", "/page/../app.py", 404),
        ("GET", "/page/%2e%2e/app.py", 404),
        ("GET", "/page/..%2f..%2fapp.py", 404),
        ("GET", "/page/%00", 404),
        ("POST", "/api/v1/health", 405),
        ("PATCH", "/api/v1/jobs", 405),
        ("DELETE", "/api/v1/images", 405),
        ("HEAD", "/api/v1/nope", 404),
        ("OPTIONS", "/api/v1/jobs", 405),
        ("POST", "/page/a.js", 405),
        ("PROPFIND", "/", 405),
        ("TRACE", "/api/v1/jobs", 405),
        ("CONNECT", "/", 405),
        ("GET", "/api/v1/models/nope", 404),
        ("GET", "/api/v1/models/../../etc/preview", 404),
        ("GET", "/api/v1/models/starter/preview", 404),
        ("GET", "/api/v1/docs/../app.py", 404),
        ("GET", "/api/v1/docs/app.py", 404),
    ],
)
def test_what_is_not_there_says_so(site: Site, method: str, path: str, status: int) -> None:
    answer = ask(site, method, path)
    assert answer.status == status
    if method != "HEAD":
        assert set(json.loads(answer.content)) == {"code", "message", "hint"}  # type: ignore[attr-defined]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_wrong_method_names_the_right_ones(me: Visitor) -> None:
    assert me.patch("/api/v1/jobs").headers["allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "text/plain; application/json",
        "",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "\u00e9",
    ],
)
def test_json_that_is_sent_as_something_else_is_refused(me: Visitor, kind: str) -> None:
    answer = me.post("/api/v1/jobs", content=b'{"prompt": "x"}', headers={"content-type": kind.encode()})
    assert answer.status_code == 415 and answer.json()["code"] == "unsupported_type"


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_is_taken(me: Visitor, kind: str) -> None:
    answer = me.post("/api/v1/jobs", content=b'{"prompt": "x"}', headers={"content-type": kind})
    assert answer.status_code == 202


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"{",
        b'{"prompt": "x"} trailing',
        b"\xff\xfe{}",
        b'{"prompt": "\xff"}',
        b"\0",
        b'{"prompt": "\\ud800"}',
        b"[" * 100_000,
        b'{"prompt":' * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'\xef\xbb\xbf{"prompt": "x"}',
    ],
    ids=[
        "empty",
        "null",
        "list",
        "string",
        "open",
        "trailing",
        "UTF-16",
        "bad UTF-8",
        "NUL",
        "half a character",
        "deep lists",
        "deep objects",
        "deep and closed",
        "BOM",
    ],
)
def test_what_is_no_recipe_is_refused_in_words(me: Visitor, body: bytes) -> None:
    answer = me.post("/api/v1/jobs", content=body, headers=JSON)
    assert answer.status_code in (400, 422), answer.text
    assert set(answer.json()) - {"field"} == {"code", "message", "hint"} and len(answer.text) < 500


def test_50_mb_of_json_are_refused_and_heard_out(site: Site, me: Visitor) -> None:
    answer = me.post("/api/v1/jobs", content=b'{"prompt": "' + b"x" * 50_000_000 + b'"}', headers=JSON)
    assert answer.status_code == 413 and answer.json()["code"] == "too_large"


def test_who_asks_before_sending_is_refused_before_sending(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.port), timeout=5) as connection:
        connection.sendall(
            f"POST /api/v1/jobs HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\nExpect: 100-continue\r\n"
            "Content-Type: application/json\r\nContent-Length: 50000000\r\n\r\n".encode()
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_50_mb_in_pieces_are_refused_by_count(me: Visitor) -> None:
    answer = me.post("/api/v1/jobs", content=(b"x" * 1_000_000 for _ in range(50)), headers=JSON)
    assert answer.status_code == 413 and answer.json()["code"] == "too_large"


@pytest.mark.parametrize("length", ["-1", "abc", "1e3", "99999999999999999999999"])
def test_a_length_that_is_no_sane_number_is_refused(site: Site, length: str) -> None:
    with socket.create_connection(("127.0.0.1", site.port), timeout=5) as connection:
        head = f"POST /api/v1/jobs HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\nContent-Length: {length}\r\n"
        connection.sendall((head + "Content-Type: application/json\r\nConnection: close\r\n\r\n").encode())
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100).split(b" ")[1] in (b"400", b"413")


def test_a_body_that_breaks_off_harms_nobody(site: Site, me: Visitor) -> None:
    with socket.create_connection(("127.0.0.1", site.port), timeout=5) as connection:
        connection.sendall(
            f"POST /api/v1/jobs HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\nContent-Length: 99\r\n"
            "Content-Type: application/json\r\n\r\n{".encode()
        )
    assert me.get("/api/v1/health").status_code == 200


def test_the_unexpected_is_said_without_details(site: Site, me: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("[Errno 5] /secret/place")

    monkeypatch.setattr(site.studio, "engine", fail)
    answer = me.get("/api/v1/engine")
    assert answer.status_code == 500 and answer.json()["code"] == "unexpected"
    assert "secret" not in answer.text and "Errno" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_no_answer_names_a_folder_of_this_machine(site: Site, me: Visitor) -> None:
    folder = str(site.studio.settings.data_dir.parent)
    for path in (
        "health",
        "engine",
        "queue",
        "models",
        "models/starter",
        "samplers",
        "images",
        "openapi.json",
        "jobs/nope",
        "images/nope",
    ):
        assert folder not in me.get(f"/api/v1/{path}").text


def test_large_json_is_compressed_and_pictures_are_not(me: Visitor) -> None:
    assert me.get("/api/v1/openapi.json").headers["content-encoding"] == "gzip"
    assert "content-encoding" not in me.get("/api/v1/health").headers
    assert me.get("/page/a.css").headers["content-encoding"] == "gzip"


def test_files_of_the_page_are_kept_when_their_address_says_which(me: Visitor) -> None:
    assert "immutable" in me.get("/page/a.css?v=1").headers["cache-control"]
    plain = me.get("/page/a.js")
    assert plain.headers["cache-control"] == "no-cache"
    assert plain.headers["content-type"] == "text/javascript; charset=utf-8"
    assert me.get("/page/a.js", headers={"If-None-Match": plain.headers["etag"]}).status_code == 304


def test_models_and_samplers_say_what_can_be_asked_for(me: Visitor) -> None:
    (model,) = me.get("/api/v1/models").json()["models"]
    assert model["name"] == "starter" and model["problem"] is None and model["defaults"]["steps"] == 4
    one = me.get("/api/v1/models/starter").json()
    for each in (model, one):  # its hash may become known between the two
        each.pop("short_hash")
    predictions = ["epsilon", "v_prediction", "v_zero_snr"]
    assert one == {**model, "notes": "", "about": {}, "predictions": predictions}
    facts = me.get("/api/v1/samplers").json()
    ddim = next(sampler for sampler in facts["samplers"] if sampler["id"] == "ddim")
    (pag,) = [one for one in me.get("/api/v1/guidance-methods").json()["guidance_methods"] if one["id"] == "pag"]
    assert pag["parameters"][0] == {
        "id": "scale",
        "label": "Scale",
        "default": 3,
        "least": 0,
        "most": 20,
        "choices": [],
    }
    assert "karras" not in ddim["schedules"] and {s["id"] for s in facts["schedules"]} >= set(ddim["schedules"])


def test_the_document_names_every_body_and_every_type(me: Visitor) -> None:
    document = me.get("/api/v1/openapi.json").json()
    text = json.dumps(document)
    assert document["paths"]["/api/v1/jobs"]["post"]["requestBody"]
    names = set(document["components"]["schemas"])
    assert {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]} <= names
    assert {"RecipeDraft", "Upscale", "Preprocess"} <= names and "$defs" not in text


def test_the_page_that_shows_the_document_loads_nothing_from_outside(me: Visitor) -> None:
    page = me.get("/api/v1/docs")
    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert "http" not in page.text.replace("http-equiv", "") and "<script>" not in page.text
    for name, kind in (("docs.js", "text/javascript"), ("docs.css", "text/css")):
        assert me.get(f"/api/v1/docs/{name}").headers["content-type"].startswith(kind)
