"""Figures 10 and 12 of the performance page: how soon our page is there, against an empty gradio app.

`python -m benchmarks.pages` starts both as whole processes, alternating (ABBA), and prints ratios only.
10: navigation in a cold browser until Generate can be pressed / until the empty app's button can.
12: process start until the page is at "/", no longer "starting", / the empty app's.
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import Figure, report

PROJECT = Path(__file__).resolve().parent.parent
EMPTY_APP = """
import sys, gradio as gr
with gr.Blocks() as demo:
    gr.Button("Generate")
demo.launch(server_port=int(sys.argv[1]), quiet=True, ssr_mode=False)
"""
BROWSER_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def ours(port: int, data: Path) -> list[str]:
    """The command line of Darkroom on a fresh data folder."""
    return [sys.executable, str(PROJECT / "app.py"), "--no-browser", "--port", str(port), "--data", str(data)]


def empty(port: int, data: Path) -> list[str]:
    """The command line of an empty gradio app."""
    return [sys.executable, "-c", EMPTY_APP, str(port)]


@contextmanager
def serving(command: Callable[[int, Path], list[str]]) -> Iterator[tuple[int, float]]:
    """Run a server; yields its port and the seconds from process start until its page is there."""
    data = Path(tempfile.mkdtemp(prefix="darkroom-bench-"))
    port, began = free_port(), time.perf_counter()
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False"}
    process = subprocess.Popen(
        command(port, data), cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield port, _page_is_there(port, process, began)
    finally:
        process.terminate()  # not SIGINT: a shell's background jobs ignore it
        process.wait(15)
        shutil.rmtree(data, ignore_errors=True)


def _page_is_there(port: int, process: "subprocess.Popen[bytes]", began: float) -> float:
    while process.poll() is None and time.perf_counter() - began < 120:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                if answer.status == 200 and b"Darkroom is starting" not in answer.read():
                    return time.perf_counter() - began
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        time.sleep(0.02)
    raise RuntimeError(f"the server on port {port} ended with {process.returncode} before it answered")


def server_up(rounds: int) -> list[float]:
    """Per round: our seconds until the page is there over the empty app's, in ABBA order."""
    ratios = []
    for number in range(rounds):
        order = (ours, empty) if number % 2 == 0 else (empty, ours)
        seconds = {}
        for command in order:
            with serving(command) as (_, taken):
                seconds[command] = taken
        ratios.append(seconds[ours] / seconds[empty])
    return ratios[1:]


def page_ready(rounds: int) -> list[float]:
    """Per round: our cold-browser seconds to a pressable Generate over the empty app's."""
    from playwright.sync_api import sync_playwright

    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    ratios = []
    with serving(ours) as (our_port, _), serving(empty) as (their_port, _), sync_playwright() as playwright:
        _wait_until_ready(our_port)
        for number in range(rounds):
            order = (our_port, their_port) if number % 2 == 0 else (their_port, our_port)
            seconds = {}
            for port in order:
                browser = playwright.chromium.launch(executable_path=browser_path, args=BROWSER_FLAGS)
                page = browser.new_page()
                began = time.perf_counter()
                page.goto(f"http://127.0.0.1:{port}/")
                page.get_by_role("button", name="Generate").first.click(trial=True)
                seconds[port] = time.perf_counter() - began
                browser.close()
            ratios.append(seconds[our_port] / seconds[their_port])
    return ratios[1:]


def _wait_until_ready(port: int, timeout_s: float = 120) -> None:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/engine", timeout=10) as answer:
            if b'"ready"' in answer.read():
                return
        time.sleep(0.25)
    raise RuntimeError("the engine was not ready in time")


def _figure(number: str, name: str, ratios: list[float], goal: float, limit: float) -> Figure:
    return Figure(
        number, name, statistics.median(ratios), min(ratios), max(ratios), len(ratios), "empty gradio app", goal, limit
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="the first one is dropped")
    rounds = parser.parse_args().rounds
    report(
        "pages",
        [
            _figure("12", "server up", server_up(rounds), 1.2, 1.5),
            _figure("10", "page ready", page_ready(rounds), 1.3, 1.5),
        ],
    )


if __name__ == "__main__":
    main()
