"""A hub that sends a byte now and then: every wait ends as a whole, not read by read."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from contract.errors import HubUnavailable, JobError
from studio.downloads.fetch import Fetcher
from studio.downloads.hub import HubFile, Repository, read_repository
from studio.downloads.wire import Broken, Hub, Late, Offline, Wire

LIST = json.dumps({"id": "a/b", "sha": "c" * 40, "siblings": []}).encode()
DRIP_S = 0.02


@contextmanager
def dripping(before: bytes, after: bytes) -> Iterator[Hub]:
    """A hub that sends the first part at once and the second byte by byte, for ever if it is long."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer(line: socket.socket) -> None:
            with suppress(OSError), line:
                line.recv(65536)
                line.sendall(before)
                for byte in after:
                    if ended.wait(DRIP_S):
                        return
                    line.sendall(bytes([byte]))

        def accept() -> None:
            with suppress(OSError):
                while not ended.is_set():
                    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield Hub(f"http://127.0.0.1:{listener.getsockname()[1]}")
        finally:
            ended.set()


def took(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n"
CASES = {
    "the head by bytes": (b"", HEAD * 20),
    "the body by bytes": (HEAD + b"\r\n", b" " * 5000),
    "nothing": (b"", b""),
    "chunks by bytes": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 500),
    "no length": (b"HTTP/1.1 200 OK\r\n\r\n", b" " * 5000),
}


@pytest.mark.parametrize("case", CASES)
def test_a_list_that_comes_by_bytes_is_not_waited_for(case: str) -> None:
    with dripping(*CASES[case]) as hub:

        def ask() -> None:
            with pytest.raises(HubUnavailable, match=r"127\.0\.0\.1"):
                read_repository(Wire(hub, 5.0), "a/b", whole_s=0.3)

        assert took(ask) < 4


def test_a_head_that_comes_by_bytes_is_not_waited_for_where_the_body_may_take_long() -> None:
    with dripping(b"", HEAD * 20) as hub:

        def ask() -> None:
            with pytest.raises(Late), Wire(hub, 0.2).ask("/x"):
                pass

        assert took(ask) < 4


@pytest.fixture
def names_unanswered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A name server that says nothing."""
    ended = threading.Event()

    def find(*_: object, **__: object) -> list[object]:
        ended.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", find)
    yield
    ended.set()


@pytest.mark.usefixtures("names_unanswered")
def test_a_name_that_is_looked_up_for_ever_is_not_waited_for() -> None:
    def ask() -> None:
        with pytest.raises(Offline, match=r"huggingface\.co"), Wire(Hub(), 0.2).ask("/x"):
            pass

    assert took(ask) < 10


@pytest.mark.usefixtures("names_unanswered")
def test_the_look_up_of_a_name_can_be_cut() -> None:
    wire = Wire(Hub(), 60.0)
    threading.Timer(0.05, wire.cut).start()

    def ask() -> None:
        with pytest.raises(Broken), wire.ask("/x"):
            pass

    assert took(ask) < 10


def test_a_list_that_is_slow_and_in_time_is_read() -> None:
    with dripping(f"HTTP/1.1 200 OK\r\nContent-Length: {len(LIST)}\r\n\r\n".encode() + LIST[:-4], LIST[-4:]) as hub:
        assert read_repository(Wire(hub), "a/b", whole_s=30).id == "a/b"


def test_after_a_late_answer_the_wire_asks_again() -> None:
    with dripping(b"", HEAD * 20) as slow:
        wire = Wire(slow, 5.0)
        for _ in range(2):
            with pytest.raises(Late), wire.ask("/x", whole_s=0.1):
                pass


def test_a_file_that_comes_by_bytes_ends_after_some_tries_however_much_has_come(tmp_path: Path) -> None:
    with dripping(HEAD + b"\r\n", b"x" * 5000) as hub:
        repository = Repository("a/b", "c" * 40, "", False, ())
        fetcher = Fetcher(Wire(hub), repository, threading.Event(), 0.001, least_rate=1000, slow_s=0.1)
        with pytest.raises(JobError, match="times in a row"):
            for _ in fetcher.fetch(HubFile("x.safetensors", 5000), tmp_path / "x.safetensors"):
                pass
