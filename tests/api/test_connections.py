"""Connections: every wait has a deadline on the whole, and there are never more than leave files for the rest."""

import errno
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from api.security import connections
from api.security.connections import KEPT_FILES, Connections, Patience, http_server, most_connections, raise_file_limit
from tests.support.serving import Site, served, until

SHORT = Patience(head_s=0.6, idle_s=0.5, late_s=0.6, body_rate=20_000, answer_rate=20_000, look_s=0.1)
PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served(tmp_path_factory.mktemp("short"), most=12, patience=SHORT) as running:
        yield running


def line_to(site: Site, sent: bytes = b"") -> socket.socket:
    line = socket.create_connection(("127.0.0.1", site.port), timeout=15)
    line.sendall(sent.replace(b"%HOST%", f"127.0.0.1:{site.port}".encode()))
    return line


def heard_to_the_end(line: socket.socket) -> bytes:
    heard = b""
    try:
        while part := line.recv(65536):
            heard += part
    except ConnectionError:
        pass
    return heard


def drip(line: socket.socket, bytes_: bytes, ended: threading.Event) -> None:
    """One byte every 50 ms until it can't be sent or is over."""
    for byte in bytes_:
        if ended.wait(0.05):
            return
        try:
            line.sendall(bytes([byte]))
        except OSError:
            return


HEAD = b"POST /api/v1/uploads HTTP/1.1\r\nHost: %HOST%\r\nContent-Type: image/png\r\nContent-Length: 40000\r\n\r\n"


@pytest.mark.parametrize(
    "begun,rest",
    [
        (b"", b""),
        (b"GET / HT", b""),
        (b"GET / HTTP/1.1\r\n", b"X: " + b"a" * 400),
        (HEAD, b""),
        (HEAD, b"a" * 400),
        (HEAD + b"a" * 39_000, b""),
    ],
    ids=["nothing", "half a line", "a head by bytes", "no body", "a body by bytes", "a body that stops"],
)
def test_what_does_not_arrive_in_time_is_ended_as_a_whole(site: Site, begun: bytes, rest: bytes) -> None:
    ended = threading.Event()
    with line_to(site, begun) as line:
        threading.Thread(target=drip, args=(line, rest, ended), daemon=True).start()
        heard = heard_to_the_end(line)
        ended.set()
    assert heard == b"" or heard.startswith(b"HTTP/1.1 408")


def test_a_connection_that_asks_no_more_is_closed(site: Site) -> None:
    with line_to(site, b"GET /api/v1/health HTTP/1.1\r\nHost: %HOST%\r\n\r\n") as line:
        assert heard_to_the_end(line).startswith(b"HTTP/1.1 200")


def test_a_second_head_by_bytes_is_ended_too(site: Site) -> None:
    ended = threading.Event()
    with line_to(site, b"GET /api/v1/health HTTP/1.1\r\nHost: %HOST%\r\n\r\n") as line:
        threading.Thread(target=drip, args=(line, b"GET /" + b"a" * 400, ended), daemon=True).start()
        assert heard_to_the_end(line)
        ended.set()


def test_who_reads_no_answer_is_ended(site: Site) -> None:
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect(("127.0.0.1", site.port))
        asked = f"GET /api/v1/openapi.json HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n\r\n".encode()
        line.settimeout(15)
        try:
            for _ in range(400):  # answers pile up, none is read
                line.sendall(asked)
        except OSError as error:
            assert error.errno in (errno.EPIPE, errno.ECONNRESET)
        else:
            with pytest.raises(ConnectionError):
                while True:
                    line.sendall(b"x")
                    time.sleep(0.02)


def test_a_slow_but_steady_upload_goes_through(site: Site) -> None:
    with line_to(site, HEAD) as line:
        for _ in range(16):
            time.sleep(0.05)
            line.sendall(b"a" * 2500)
        assert line.recv(100).startswith(b"HTTP/1.1 422")


def test_a_stream_of_events_lasts(site: Site) -> None:
    site.worker.gate.clear()
    me = site.visitor()
    job = me.paint()
    try:
        with me.stream("GET", f"/api/v1/jobs/{job}/events") as answer:
            lines = answer.iter_lines()
            began = time.monotonic()
            while time.monotonic() - began < 1.2:  # twice all patience
                next(lines)
                if time.monotonic() - began < 0.5:
                    time.sleep(0.1)
                break
            threading.Timer(1.2, site.worker.gate.set).start()
            assert any(line == "event: done" for line in lines)
    finally:
        site.worker.gate.set()


def test_half_sent_uploads_keep_nobody_out(tmp_path: Path) -> None:
    with served(tmp_path, most=8, patience=Patience(look_s=0.1)) as site:
        lines = [line_to(site, HEAD + b"a" * 10) for _ in range(30)]
        assert site.visitor().get("/api/v1/health").status_code == 200
        assert site.visitor().picture()
        for line in lines:
            line.close()


class Line(SimpleNamespace):
    """Stands for a connection."""

    __hash__ = object.__hash__


def test_who_reads_no_answer_makes_room_and_who_reads_does_not() -> None:
    ended: list[str] = []

    def made(name: str, reader_late_s: float) -> Any:
        return Line(
            address="10.0.0.1",
            only_waits=False,
            reader_late_s=reader_late_s,
            waited_s=reader_late_s,
            loop=SimpleNamespace(call_later=lambda *_: None),
            transport=SimpleNamespace(abort=lambda: ended.append(name)),
        )

    all_of_them = Connections(3, Patience(stuck_s=3.0))
    assert [
        all_of_them.add(made(name, late_s)) for name, late_s in (("reads", 0.5), ("stuck", 9.0), ("late", 4.0))
    ] == [True] * 3
    assert [all_of_them.add(made("new", 0.0)) for _ in range(3)] == [True, True, False]
    assert ended == ["stuck", "late"] and len(all_of_them) == 3


def test_an_end_that_is_asked_for_is_heard_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_PULSE_S", 3600.0)

    async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan"
        for kind in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{kind}.complete"})

    server = http_server(nothing, most_connections=4)
    server.capture_signals = nullcontext  # type: ignore[method-assign,assignment]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        until(lambda: server.started)
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def test_where_all_work_a_new_one_is_refused_with_words(tmp_path: Path) -> None:
    with served(tmp_path, most=3, patience=Patience(look_s=0.1)) as site:
        site.worker.gate.clear()
        me = site.visitor()
        job = me.paint()
        cookie = "; ".join(f"{name}={value}" for name, value in me.cookies.items()).encode()
        asked = (
            b"GET /api/v1/jobs/" + job.encode() + b"/events HTTP/1.1\r\nHost: %HOST%\r\nCookie: " + cookie + b"\r\n\r\n"
        )
        me.close()
        lines = [line_to(site, asked) for _ in range(3)]
        for line in lines:
            assert line.recv(1000).startswith(b"HTTP/1.1 200")
        with line_to(site) as late:
            assert heard_to_the_end(late).startswith(b"HTTP/1.1 503")
        for line in lines:
            line.close()
        until(lambda: site.visitor().get("/api/v1/health").status_code == 200)


def test_the_connections_leave_files_for_everything_else() -> None:
    for limit in (1024, 4096, 65_536):
        assert 2 * most_connections(limit) + KEPT_FILES <= limit
    assert most_connections(256) == 32


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
def test_the_limit_of_files_is_raised_as_far_as_it_may_be() -> None:
    code = (
        "import resource\nfrom api.security.connections import raise_file_limit\n"
        "soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\nresource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))\n"
        "got = raise_file_limit()\nassert got == resource.getrlimit(resource.RLIMIT_NOFILE)[0] and (got > 200 or hard <= 200), got"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True, timeout=60)
    assert raise_file_limit() > 0
