"""One site and one browser for the session; a visitor of one's own for each test, in an emptied profile."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from tests.support.browser_site import PATIENCE_MS, Profiles, Site, Visitor, launch, visiting

PAGE = Path(__file__).parents[2] / "tabs/page"
ADDRESS = "http://darkroom.test"
expect.set_options(timeout=PATIENCE_MS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            # Gradio counts its events with pandas, in ways that pandas has deprecated.
            item.add_marker(pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning"))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    here = Site(tmp_path_factory.mktemp("data"))
    yield here
    here.stop()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """For this folder only: playwright keeps an event loop in the main thread while it lives."""
    with sync_playwright() as playwright:
        found = launch(playwright)
        yield found
        found.close()


@pytest.fixture(scope="module")
def module(browser: Browser) -> Iterator[Page]:
    """A page that has nothing but the page's modules."""

    def give(route: Route) -> None:
        name = route.request.url.removeprefix(f"{ADDRESS}/")
        if name:
            route.fulfill(path=PAGE / name, content_type="text/javascript")
        else:
            route.fulfill(body="<!doctype html>", content_type="text/html")

    page = browser.new_page()
    page.route("**/*", give)
    page.goto(f"{ADDRESS}/")
    yield page
    page.close()


@pytest.fixture(scope="package")
def profiles(browser: Browser) -> Profiles:
    return Profiles(browser)


@pytest.fixture
def visit(browser: Browser, profiles: Profiles, site: Site) -> Iterator[Callable[..., Visitor]]:
    """Make visitors: visit(width=390, touch=True); `in_new_profile`: nothing was ever fetched, and it is not used again."""
    with ExitStack() as stack:

        def make(*, in_new_profile: bool = False, **look: Any) -> Visitor:
            coming = visiting(browser, site, **look) if in_new_profile else profiles.visiting(site, **look)
            return stack.enter_context(coming)

        yield make


@pytest.fixture
def visitor(visit: Callable[..., Visitor]) -> Visitor:
    return visit()
