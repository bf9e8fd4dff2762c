"""Figures 10, 11, 12 and 14 of the performance page: how soon our page is there, and the first step of a job.

`python -m benchmarks.pages` starts whole processes, alternating (ABBA), and prints ratios, but for figure 14 seconds.
10: navigation in a cold browser until Generate can be pressed / until an empty gradio app's button can.
11: the same with 5,000 LoRAs and 100,000 pictures of the visitor's / with the bundled models and one picture.
14: POST of a job to an idle, warm engine until its first step arrives, less the step itself; 95th percentile, seconds.
12: process start until the page is at "/", no longer "starting", / the empty app's.
"""

import argparse
import http.client
import json
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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import Figure, report
from benchmarks.subjects.big_library import add_models, multiply_pictures

PROJECT = Path(__file__).resolve().parent.parent
_SETTLE_S = 10.0  # hashes, the index, the list of models
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
def serving(command: Callable[[int, Path], list[str]], data: Path | None = None) -> Iterator[tuple[int, float]]:
    """Run a server, on a new data folder or a given one; yields its port and the seconds until its page is there."""
    folder = data or Path(tempfile.mkdtemp(prefix="darkroom-bench-"))
    port, began = free_port(), time.perf_counter()
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False"}
    process = subprocess.Popen(
        command(port, folder), cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield port, _page_is_there(port, process, began)
    finally:
        process.terminate()  # not SIGINT: a shell's background jobs ignore it
        process.wait(15)
        if data is None:
            shutil.rmtree(folder, ignore_errors=True)


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


def page_ready(rounds: int, our_port: int, their_port: int, cookies: Mapping[int, str] | None = None) -> list[float]:
    """Per round: cold-browser seconds to a pressable Generate at our port over those at theirs.

    cookies: "name=value" of the visitor, by port.
    """
    from playwright.sync_api import sync_playwright

    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    ratios = []
    with sync_playwright() as playwright:
        for number in range(rounds):
            order = (our_port, their_port) if number % 2 == 0 else (their_port, our_port)
            seconds = {}
            for port in order:
                browser = playwright.chromium.launch(executable_path=browser_path, args=BROWSER_FLAGS)
                page = browser.new_page()
                if cookies:
                    name, _, value = cookies[port].partition("=")
                    page.context.add_cookies([{"name": name, "value": value, "url": f"http://127.0.0.1:{port}/"}])
                began = time.perf_counter()
                page.goto(f"http://127.0.0.1:{port}/")
                page.get_by_role("button", name="Generate").first.click(trial=True)
                seconds[port] = time.perf_counter() - began
                browser.close()
            ratios.append(seconds[our_port] / seconds[their_port])
    return ratios[1:]


def against_an_empty_app(rounds: int) -> list[float]:
    """Figure 10, per round."""
    with serving(ours) as (our_port, _), serving(empty) as (their_port, _):
        _wait_until_ready(our_port)
        return page_ready(rounds, our_port, their_port)


def at_scale(rounds: int, models: int = 5_000, pictures: int = 100_000) -> list[float]:
    """Figure 11, per round."""
    with tempfile.TemporaryDirectory(prefix="darkroom-bench-") as folder:
        many, few = Path(folder, "many"), Path(folder, "few")
        cookies = {}
        for data in (many, few):
            with serving(ours, data) as (port, _):
                _wait_until_ready(port)
                cookies[data] = Visitor(port).cookie_with_a_picture()
        add_models(Path(folder, "models", "loras"), models)
        multiply_pictures(many, pictures)

        def with_models(port: int, data: Path) -> list[str]:
            return [*ours(port, data), "--models", str(Path(folder, "models"))]

        with serving(with_models, many) as (many_port, _), serving(ours, few) as (few_port, _):
            for port, data, least in ((many_port, many, pictures), (few_port, few, 1)):
                _wait_until_ready(port)
                visitor = Visitor(port, cookies[data])
                found = json.loads(visitor.ask("GET", "/api/v1/images?limit=1"))["total"]
                if found < least:
                    raise RuntimeError(f"the visitor has {found} pictures of {least}")
            time.sleep(_SETTLE_S)
            by_port = {many_port: cookies[many], few_port: cookies[few]}
            return page_ready(rounds, many_port, few_port, by_port)


def submit_to_first_step(jobs: int) -> list[float]:
    """Figure 14: seconds of each job, less one step; the prompt is the same, so that it is encoded once."""
    with serving(ours) as (port, _):
        _wait_until_ready(port)
        visitor = Visitor(port)
        few, many = 2, 12
        warm = 3
        first: list[float] = []
        whole: dict[int, list[float]] = {few: [], many: []}
        for number in range(warm + jobs):
            steps = many if number % 2 else few
            began = time.perf_counter()
            first_s, all_s = visitor.follow(visitor.submit(steps), began)
            if number >= warm:
                first.append(first_s)
                whole[steps].append(all_s)
            time.sleep(0.1)
        step_s = (statistics.median(whole[many]) - statistics.median(whole[few])) / (many - few)
        return [seconds - step_s for seconds in first]


class Visitor:
    """Somebody who asks the API over one connection, as a browser does."""

    def __init__(self, port: int, cookie: str = "") -> None:
        self._port, self.cookie = port, cookie
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, method: str, path: str, body: object = None) -> bytes:
        """The body of an answer; the visitor's cookie is kept."""
        headers = {"Content-Type": "application/json", "Sec-Fetch-Site": "same-origin", "Cookie": self.cookie}
        self._connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = self._connection.getresponse()
        self.cookie = self.cookie or (answer.getheader("Set-Cookie") or "").partition(";")[0]
        content = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {content.decode()}")
        return content

    def submit(self, steps: int) -> str:
        """Send a job; its id."""
        self.cookie or self.ask("GET", "/api/v1/images")
        draft = {"prompt": "green hills at sunset", "steps": steps}
        return str(json.loads(self.ask("POST", "/api/v1/jobs", draft))["id"])

    def follow(self, job_id: str, began: float) -> tuple[float, float]:
        """Seconds from `began` until the first step arrived, and until the end did."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        headers = {"Cookie": self.cookie, "Sec-Fetch-Site": "same-origin"}
        connection.request("GET", f"/api/v1/jobs/{job_id}/events", headers=headers)
        events = connection.getresponse()
        first = 0.0
        while line := events.readline():
            if line.startswith(b"event: step") and not first:
                first = time.perf_counter() - began
            if line.startswith((b"event: done", b"event: failed")):
                break
        connection.close()
        return first, time.perf_counter() - began

    def cookie_with_a_picture(self) -> str:
        """The cookie of the visitor, who has one picture now."""
        self.follow(self.submit(1), time.perf_counter())
        return self.cookie


def _wait_until_ready(port: int, timeout_s: float = 120) -> None:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/engine", timeout=10) as answer:
            if b'"ready"' in answer.read():
                return
        time.sleep(0.25)
    raise RuntimeError("the engine was not ready in time")


def _figure(number: str, name: str, ratios: list[float], peer: str, goal: float, limit: float) -> Figure:
    middle = statistics.median(ratios)
    return Figure(number, name, middle, min(ratios), max(ratios), len(ratios), peer, goal, limit)


def figures(rounds: int, jobs: int) -> Iterator[Figure]:
    """Every figure, as it is measured."""
    yield _figure("12", "server up", server_up(rounds), "empty gradio app", 1.2, 1.5)
    yield _figure("10", "page ready", against_an_empty_app(rounds), "empty gradio app", 1.3, 1.5)
    yield _figure("11", "page at scale", at_scale(rounds), "few models and pictures", 1.02, 1.1)
    waits = sorted(submit_to_first_step(jobs))
    p95 = waits[min(len(waits) - 1, int(len(waits) * 0.95))]
    yield Figure("14", "submit to first step, p95", p95, waits[0], waits[-1], len(waits), "one second", 0.05, 0.15)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="the first one is dropped")
    parser.add_argument("--jobs", type=int, default=50, help="for figure 14")
    chosen = parser.parse_args()
    report("pages", figures(chosen.rounds, chosen.jobs))


if __name__ == "__main__":
    main()
