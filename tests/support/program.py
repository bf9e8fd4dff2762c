"""Darkroom as a process of its own, as a person starts it, and a client for it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

PROJECT = Path(__file__).resolve().parents[2]
START_LIMIT_S = 90


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def until(condition: Callable[[], Any], limit_s: float = START_LIMIT_S) -> Any:
    """Poll until the condition gives something true; fail with the last value otherwise."""
    end = time.monotonic() + limit_s
    value = None
    while time.monotonic() < end:
        try:
            value = condition()
        except httpx.TransportError:
            value = None
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"still {value!r} after {limit_s} s")


class Program:
    """One running app.py and a client for it."""

    def __init__(self, data: Path, *arguments: str, project: Path = PROJECT, **environment: str) -> None:
        self.port, self.data = free_port(), data
        self.log = data.parent / f"{data.name}-{self.port}.log"
        command = [
            sys.executable,
            str(project / "app.py"),
            "--no-browser",
            "--port",
            str(self.port),
            "--data",
            str(data),
            *arguments,
        ]
        kept = {k: v for k, v in os.environ.items() if not k.startswith("DARKROOM_")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=data.parent, stdout=log, stderr=log, env={**kept, **environment}
            )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=20)

    def wait_for_page(self) -> None:
        """Until the page is there: before, "/" says that it is starting."""

        def answered() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return bool(self.client.get("/api/v1/page").json()["ready"])

        until(answered)

    def wait_for_engine(self) -> None:
        until(lambda: self.client.get("/api/v1/engine").json()["state"] == "ready")

    def submit(self, **draft: Any) -> str:
        answer = self.client.post("/api/v1/jobs", json={"prompt": "sea at night", **draft})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.client.get(f"/api/v1/jobs/{job_id}").json())

    def state(self, job_id: str) -> str:
        return str(self.job(job_id)["state"])

    def wait_until_ended(self, job_id: str) -> dict[str, Any]:
        until(lambda: self.state(job_id) not in ("queued", "running"))
        return self.job(job_id)

    def children(self) -> list[int]:
        out = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True, check=False
        ).stdout
        return [int(pid) for pid in out.split()]

    def end(self) -> float:
        """Press Ctrl-C; seconds until the process is gone."""
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.wait(15)
        self.client.close()
        return time.monotonic() - began


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not Path(f"/proc/{pid}/stat").exists() or " Z " not in Path(f"/proc/{pid}/stat").read_text()
