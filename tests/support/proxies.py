"""Reverse proxies in front of a server of this machine: nginx, and one of a few lines that is always there."""

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "/darkroom"
PUBLIC = "darkroom.test"
# As README has it, but for places and ports.
NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port};
    location /darkroom/ {{
      proxy_pass http://127.0.0.1:{behind}/;
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_buffering off;
      proxy_read_timeout 1h;
      client_max_body_size 40m;
    }}
  }}
}}
"""


def nginx_here() -> str | None:
    """The installed nginx, if there is one."""
    return shutil.which("nginx") or next((path for path in ("/usr/sbin/nginx",) if os.path.exists(path)), None)


@contextmanager
def nginx(behind: int, folder: Path) -> Iterator[int]:
    """Run nginx before a port; its own port."""
    program = nginx_here()
    assert program
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, behind=behind))
    with subprocess.Popen([program, "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")]) as running:
        try:
            _until_open(port)
            yield port
        finally:
            running.terminate()
            running.wait(10)


def _until_open(port: int) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise AssertionError("the proxy did not start")


@contextmanager
def small_proxy(behind: int, *, strips: bool) -> Iterator[int]:
    """A proxy that names our own address as Host and the public one beside it; a connection a request."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        port = int(listener.getsockname()[1])
        ended = threading.Event()
        threading.Thread(target=_accept, args=(listener, behind, strips, ended), daemon=True).start()
        try:
            yield port
        finally:
            ended.set()


def _accept(listener: socket.socket, behind: int, strips: bool, ended: threading.Event) -> None:
    with suppress(OSError):
        while not ended.is_set():
            line, _ = listener.accept()
            threading.Thread(target=_serve, args=(line, behind, strips), daemon=True).start()


def _serve(line: socket.socket, behind: int, strips: bool) -> None:
    with suppress(OSError), line:
        heard = b""
        while b"\r\n\r\n" not in heard:
            part = line.recv(65536)
            if not part:
                return
            heard += part
        head, _, rest = heard.partition(b"\r\n\r\n")
        first, *fields = head.split(b"\r\n")
        method, target, version = first.split(b" ")
        if not (target + b"/").startswith(f"{PREFIX}/".encode()):
            line.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        if strips:
            target = target[len(PREFIX) :]
        host = next((field.split(b":", 1)[1].strip() for field in fields if field.lower().startswith(b"host:")), b"")
        kept = [
            field for field in fields if field.lower().split(b":")[0] not in (b"host", b"connection", b"keep-alive")
        ]
        kept += [
            f"Host: 127.0.0.1:{behind}".encode(),
            b"X-Forwarded-Host: " + host,
            b"X-Forwarded-For: 203.0.113.9",
            b"Connection: close",
        ]
        with socket.create_connection(("127.0.0.1", behind)) as far:
            far.sendall(b"\r\n".join([b" ".join([method, target, version]), *kept]) + b"\r\n\r\n" + rest)
            threading.Thread(target=_pass, args=(line, far), daemon=True).start()
            _pass(far, line)


def _pass(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65536):
            sink.sendall(part)
        sink.shutdown(socket.SHUT_WR)
