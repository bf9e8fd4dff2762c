"""A whole site in this process (Studio on a FakeWorker, API, page) and a browser to look at it."""

import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, Playwright

from app import build_site
from studio.settings import load_settings
from studio.studio import Studio
from tests.support.fakes import FakeWorker
from tests.support.model_folders import make_controlnet, make_union

PROJECT = Path(__file__).resolve().parents[2]
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP *.test 127.0.0.1",
    # The pages of a profile share a process, and what it has compiled.
    "--process-per-site",
)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge", "microsoft-edge")
PLACES = (
    "/usr/bin/chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)
STEP_S = 0.01
PATIENCE_MS = 30_000  # with what a test waits for; a busy machine needs it, no other waits as long
# Profiles that are kept open; each has a process.
_KEPT = 4
# Layout shifts that no click or key of the last half second explains.
_WATCH_SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    if (!entry.hadRecentInput) window.shifts.push({ value: entry.value, at: entry.startTime,
      nodes: entry.sources.map((source) => source.node?.className ?? source.node?.parentNode?.outerHTML ?? source.node?.nodeName) });
  }
}).observe({ type: "layout-shift", buffered: true });
"""


class Site:
    """A running site; `worker.gate` holds jobs in mid-step."""

    def __init__(self, data: Path, *more: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = int(listener.getsockname()[1])
        more_models = data / "more-models"
        make_controlnet(more_models, "canny-small")
        make_controlnet(more_models, "depth-xl", family="sdxl")
        make_union(more_models, "union-small")
        arguments = ["--port", str(self.port), "--data", str(data), "--no-browser", "--models", str(more_models), *more]
        settings = load_settings(arguments, {}, PROJECT)
        self.worker = FakeWorker(pace_s=STEP_S)
        self.studio = Studio(settings, self.worker)
        self.studio.start()
        self.serve()

    def serve(self) -> None:
        """Start the server, and wait until it answers."""
        self.server: uvicorn.Server | None = None
        # In a thread from the first: playwright keeps an event loop in this one.
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        end = time.monotonic() + 60
        while not (self.server and self.server.started):
            assert self._thread.is_alive() and time.monotonic() < end, "the site did not start"
            time.sleep(0.02)

    def stop_serving(self) -> None:
        """End the server alone; the studio and what it knows stay."""
        if self.server:
            self.server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive(), "the site did not stop"

    def _serve(self) -> None:
        self.server = uvicorn.Server(
            uvicorn.Config(
                build_site(self.studio, self.studio.settings),
                host="127.0.0.1",
                port=self.port,
                log_level="error",
                proxy_headers=False,
                timeout_graceful_shutdown=1,
            )
        )
        self.server.run()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def stop(self) -> None:
        self.worker.gate.set()
        self.stop_serving()
        self.studio.stop()


def launch(playwright: Playwright) -> Browser:
    """An installed Chromium, Chrome or Edge, else playwright's own.

    A missing browser fails the test: these checks must run and not be skipped.
    """
    places = [place for place in (*map(shutil.which, NAMES), *PLACES) if place and os.path.exists(place)]
    if not places and not os.path.exists(playwright.chromium.executable_path):
        raise AssertionError(
            "No Chromium, Chrome or Edge is installed. Install one, or run “python -m playwright install chromium”."
        )
    return playwright.chromium.launch(executable_path=places[0] if places else None, args=list(FLAGS))


def new_profile(
    browser: Browser, *, width: int = 1440, height: int = 900, dark: bool = False, touch: bool = False
) -> BrowserContext:
    """A browser profile in which nothing was fetched yet."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        has_touch=touch,
        is_mobile=touch,
        reduced_motion="reduce",
    )
    context.add_init_script(_WATCH_SHIFTS)
    return context


class Visitor:
    """A person with a browser profile of their own; `page` is their first window."""

    def __init__(self, context: BrowserContext, site: Site) -> None:
        self.site = site
        self.context = context
        self.problems: list[str] = []
        self.page = self.window()

    def window(self, address: str = "") -> Page:
        """Open one more window."""
        page = self.context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.goto(self.site.url + address)
        page.wait_for_selector("#generate" if "gallery" not in address else ".gallery")
        return page

    def ask(self, prompt: str, page: Page | None = None, **fields: str) -> None:
        """Fill the prompt and press Generate."""
        page = page or self.page
        page.fill("textarea[name=prompt]", prompt)
        for name, value in fields.items():
            page.fill(f"[data-field={name}] input.number", value)
        page.click("#generate")

    def wait_for(self, phase: str, page: Page | None = None) -> None:
        """Wait until the stage is in a phase."""
        (page or self.page).wait_for_selector(f".result-pane[data-phase={phase}]")

    def view(self, page: Page | None = None) -> Mapping[str, Any]:
        """What the stage goes by."""
        found: Mapping[str, Any] = (page or self.page).evaluate("darkroom.job.view.get()")
        return found

    def status(self, page: Page | None = None) -> str:
        """The status line, with plain spaces."""
        return (page or self.page).inner_text(".status").replace("\u00a0", " ")


class Profiles:
    """Browser profiles that visitors take over from one another, emptied of all but the fetched and compiled scripts.

    A page in a profile that was used loads in less than half the time of one in a new profile. Whoever leaves more
    behind than pages, cookies and stored things (an init script of the context, say) takes a `new_profile` instead.
    """

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._free: list[tuple[dict[str, Any], BrowserContext]] = []

    @contextmanager
    def visiting(self, site: Site, **look: Any) -> Iterator[Visitor]:
        """A visitor who leaves again; an error in the page's scripts fails the test."""
        context = self._take(site, look)
        try:
            with _visiting(context, site) as visitor:
                yield visitor
        finally:
            for page in context.pages[1:]:
                page.close()
            self._free.append((look, context))
            for _, oldest in self._free[:-_KEPT]:
                oldest.close()
            del self._free[:-_KEPT]

    def _take(self, site: Site, look: dict[str, Any]) -> BrowserContext:
        fitting = [kept for kept in self._free if kept[0] == look]
        if fitting:
            self._free.remove(fitting[-1])
            context = fitting[-1][1]
            parked = context.pages[0]
        else:
            context = new_profile(self._browser, **look)
            parked = context.new_page()
        # The first page stays open, so that the process that has compiled the scripts does.
        parked.goto(f"{site.url}api/v1/health")
        origin = {"origin": site.url.rstrip("/"), "storageTypes": "all"}
        context.new_cdp_session(parked).send("Storage.clearDataForOrigin", origin)
        context.clear_cookies()
        context.set_offline(False)
        return context


@contextmanager
def visiting(browser: Browser, site: Site, **look: Any) -> Iterator[Visitor]:
    """A visitor with a new profile, who leaves again; an error in the page's scripts fails the test."""
    context = new_profile(browser, **look)
    try:
        with _visiting(context, site) as visitor:
            yield visitor
    finally:
        context.close()


@contextmanager
def _visiting(context: BrowserContext, site: Site) -> Iterator[Visitor]:
    visitor = Visitor(context, site)
    try:
        yield visitor
    finally:
        site.worker.gate.set()
    assert not visitor.problems, visitor.problems
