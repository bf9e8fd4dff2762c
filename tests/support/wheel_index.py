"""A package index on this machine with tiny wheels: PyTorch's CPU index and the ordinary one, sound or broken."""

import base64
import hashlib
import io
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote

from launch import this_machine

PYTHON = f"cp{sys.version_info[0]}{sys.version_info[1]}"
CPU, ORDINARY = "/whl/cpu", "/simple"


def wheel(name: str, version: str) -> tuple[str, bytes]:
    """The file name and the content of a wheel for this Python and this Linux that holds one empty package."""
    tag = f"{PYTHON}-{PYTHON}-linux_{this_machine().processor}"
    about = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": "",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: {tag}\n",
    }
    lines = []
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            lines.append(f"{path},sha256={digest},{len(text)}")
        archive.writestr(f"{about}/RECORD", "\n".join([*lines, f"{about}/RECORD,,", ""]))
    return f"{name}-{version}-{tag}.whl", made.getvalue()


class WheelIndex(ThreadingHTTPServer):
    """What it serves, and how the CPU index behaves: whole, gone (404), garbage, hung, or old (other versions)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behavior = "whole"
        self.asked: list[str] = []
        self.ended = threading.Event()
        self.base = f"http://127.0.0.1:{self.server_port}"
        self.wheels = {
            CPU: dict([wheel("torch", "2.10.0+cpu"), wheel("torchvision", "0.25.0+cpu")]),
            ORDINARY: dict([wheel("torch", "2.10.0"), wheel("torchvision", "0.25.0"), wheel("xformers", "0.0.35")]),
        }


class _Handler(BaseHTTPRequestHandler):
    server: WheelIndex

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        index = CPU if self.path.startswith(CPU) else ORDINARY
        behavior = self.server.behavior if index == CPU else "whole"
        wheels = self.server.wheels[index]
        parts = unquote(self.path).removeprefix(index).strip("/").split("/")
        if behavior == "hung":
            self.server.ended.wait(30)
        elif behavior == "garbage":
            self.wfile.write(b"\x00\xff not HTTP\r\n\r\n" * 100)
        elif behavior == "gone":
            self.send_error(404)
        elif parts[-1] in wheels:
            self._send(wheels[parts[-1]], "application/octet-stream")
        else:
            names = [name for name in wheels if name.startswith(f"{parts[0]}-")]
            if behavior == "old":
                names = [name.replace("2.10.0", "2.9.1") for name in names]
            links = [f'<a href="{index}/{parts[0]}/{quote(name)}">{name}</a>' for name in names]
            self._send(f"<!DOCTYPE html><html><body>{' '.join(links)}</body></html>".encode(), "text/html")

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing on the terminal."""


@contextmanager
def wheel_index() -> Iterator[WheelIndex]:
    """A running index."""
    with WheelIndex() as index:
        thread = threading.Thread(target=index.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield index
        finally:
            index.ended.set()
            index.shutdown()
            thread.join(5)
