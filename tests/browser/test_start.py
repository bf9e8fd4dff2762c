"""A browser that comes while the program starts: it sees that, and gets the page by itself."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from api.security.connections import http_server
from app import add_page, listen, starting_site
from studio.settings import load_settings
from studio.studio import Studio
from tabs.head import GRADIO_FILES
from tests.support.browser_site import PROJECT, new_profile
from tests.support.fakes import FakeWorker
from tests.support.program import free_port
from tests.support.serving import until

_FETCHED = "performance.getEntriesByType('resource').map((one) => new URL(one.name).pathname)"


class StartingSite:
    """A served site without its page, until `finish`."""

    def __init__(self, data: Path) -> None:
        arguments = ["--port", str(free_port()), "--data", str(data), "--no-browser"]
        self.settings = load_settings(arguments, {}, PROJECT)
        self.studio = Studio(self.settings, FakeWorker())
        self.studio.start()
        self.url = f"http://127.0.0.1:{self.settings.port}/"
        self.site = starting_site(self.studio, self.settings)
        self.server = http_server(self.site, most_connections=100, log_level="error")
        listener = listen(self.settings)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]}, daemon=True)
        self.thread.start()
        until(lambda: self.server.started)

    def finish(self) -> None:
        """Build the page, as app.py does: in a thread beside the server's."""
        builder = threading.Thread(target=add_page, args=(self.site, self.studio, self.settings))
        builder.start()
        builder.join()

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)
        self.studio.stop()


@pytest.fixture
def starting(tmp_path: Path) -> Iterator[StartingSite]:
    here = StartingSite(tmp_path)
    yield here
    here.stop()


def visit(browser: Browser, here: StartingSite, address: str = "", dark: bool = False) -> Page:
    context = new_profile(browser, dark=dark)
    page = context.new_page()
    page.goto(here.url + address)
    expect(page.get_by_role("heading", name="Darkroom is starting")).to_be_visible()
    return page


def ground(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


@pytest.mark.parametrize("dark", [False, True])
def test_it_becomes_the_page_by_itself_with_its_files_there_and_nothing_moves(
    browser: Browser, starting: StartingSite, dark: bool
) -> None:
    complaints: list[str] = []
    page = visit(browser, starting, "#/gallery", dark)
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.evaluate("document.fonts.ready")
    color, brand = ground(page), page.locator(".mark").bounding_box()
    assert page.evaluate("window.shifts") == []
    assert brand is not None
    ahead = len(GRADIO_FILES.read_text("utf-8").split()) + 3
    # Not by wait_for_function, which evaluates text: the page's policy forbids that.
    until(lambda: len([path for path in page.evaluate(_FETCHED) if not path.startswith("/api/")]) >= ahead)

    starting.finish()
    page.wait_for_selector(".gallery")
    assert page.url.endswith("#/gallery")
    assert ground(page) == color and page.locator(".mark").bounding_box() == brand
    # The script, the style sheet and gradio's come from the browser's cache: 0 bytes were transferred.
    sizes = page.evaluate(
        "Object.fromEntries(performance.getEntriesByType('resource')"
        ".map((one) => [new URL(one.name).pathname, one.transferSize]))"
    )
    assert {path: size for path, size in sizes.items() if path.startswith("/assets/") and size} == {}
    assert sizes["/page/darkroom.js"] == 0 and sizes["/page/darkroom.css"] == 0
    assert complaints == []
    page.context.close()


def test_it_says_when_the_program_has_ended_and_goes_on_when_it_is_back(
    browser: Browser, starting: StartingSite
) -> None:
    page = visit(browser, starting)
    page.route("**/api/v1/page", lambda route: route.abort())
    expect(page.get_by_role("status")).to_contain_text("Darkroom does not answer.")
    page.unroute("**/api/v1/page")
    expect(page.get_by_role("status")).to_contain_text("It opens here by itself")
    page.context.close()


def test_without_scripts_it_looks_again(browser: Browser, starting: StartingSite) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(starting.url)
    assert page.title() == "Darkroom"
    starting.finish()
    expect(page.locator("#app, gradio-app, noscript").first).to_be_attached(timeout=10_000)
    expect(page.get_by_text("Darkroom is starting")).to_have_count(0, timeout=10_000)
    context.close()
