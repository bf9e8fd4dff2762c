"""A small hub on this machine: lists, files by range, and everything that can go wrong on the way."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class HubHere:
    """What the hub has and how it behaves.

    Attributes:
        files: bytes by (repository, path).
        cut_after: Ends each answer of a file after so many bytes, as often as it says.
        answers: Status codes for the next requests of files, before they are served.
        lies: A checksum that is said in place of the true one, by path.
        gate: Answers of files wait for it after their first bytes.
        asked: (path, Range, Authorization) of every request.
    """

    files: dict[tuple[str, str], bytes] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    lies: dict[str, str] = field(default_factory=dict)
    no_ranges: bool = False
    list_status: tuple[int, dict[str, str]] = (200, {})
    redirect: str = ""
    gate: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    extra_paths: tuple[str, ...] = ()
    endpoint: str = ""

    def add(self, repository: str, path: str, data: bytes) -> None:
        self.files[repository, path] = data

    def ranges(self) -> list[str]:
        """The Range headers of the requests for files."""
        return [asked[1] for asked in self.asked if "/resolve/" in asked[0]]

    def listing(self, repository: str) -> dict[str, Any]:
        siblings: list[dict[str, Any]] = [
            {"rfilename": path, "size": 1, "blobId": "0" * 40} for path in self.extra_paths
        ]
        for (name, path), data in self.files.items():
            if name != repository:
                continue
            one: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": git_name(data)}
            if path.endswith((".safetensors", ".ckpt", ".pth")):
                one["lfs"] = {"sha256": self.lies.get(path, hashlib.sha256(data).hexdigest()), "size": len(data)}
            siblings.append(one)
        return {"id": repository, "sha": "c" * 40, "gated": False, "cardData": {"license": "mit"}, "siblings": siblings}


def git_name(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


@contextmanager
def hub_here() -> Iterator[HubHere]:
    """Serve one; closed at the end."""
    hub = HubHere()
    hub.gate.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def do_GET(self) -> None:
            hub.asked.append((self.path, self.headers.get("Range", ""), self.headers.get("Authorization", "")))
            self.close_connection = True
            path = self.path.partition("?")[0]
            if path.startswith("/api/models/"):
                self._list(path.removeprefix("/api/models/").partition("/revision/")[0])
            elif hub.redirect:
                self._send(302, b"", Location=hub.redirect)
            else:
                repository, _, rest = path.removeprefix("/").partition("/resolve/")
                self._file(repository, rest.partition("/")[2])

        def _list(self, repository: str) -> None:
            status, headers = hub.list_status
            known = any(name == repository for name, _ in hub.files)
            if status == 200 and not known:
                status, headers = 401, {"X-Error-Code": "RepoNotFound"}
            self._send(status, json.dumps(hub.listing(repository)).encode() if status == 200 else b"{}", **headers)

        def _file(self, repository: str, path: str) -> None:
            if hub.answers:
                status, headers = hub.answers.pop(0)
                if status != 200:
                    self._send(status, b"", **headers)
                    return
            data = hub.files[repository, path]
            asked = self.headers.get("Range", "")
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and not hub.no_ranges else 0
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            end = min(len(data), start + hub.cut_after.pop(0)) if hub.cut_after else len(data)
            middle = min(end, start + 1000)
            self.wfile.write(data[start:middle])
            self.wfile.flush()
            if not hub.gate.is_set():
                hub.gate.wait(10)
            self.wfile.write(data[middle:end])

        def _send(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            return  # the other side went away, as tests want it

    server = Server(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()
