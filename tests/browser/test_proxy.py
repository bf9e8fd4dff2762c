"""Behind a reverse proxy under a path: the page loads, paints, shows previews and the gallery, reloads, downloads."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.support.browser_site import Site
from tests.support.proxies import PREFIX, PUBLIC, nginx, nginx_here, small_proxy

needs_nginx = pytest.mark.skipif(nginx_here() is None, reason="nginx is not installed")


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    here = Site(tmp_path_factory.mktemp("behind"), "--root-path", PREFIX, "--trusted-hosts", PUBLIC)
    yield here
    here.stop()


@pytest.fixture(params=["strips", "keeps", pytest.param("nginx", marks=needs_nginx)])
def address(request: pytest.FixtureRequest, behind: Site, tmp_path: Path) -> Iterator[str]:
    with ExitStack() as stack:
        proxy = (
            nginx(behind.port, tmp_path)
            if request.param == "nginx"
            else small_proxy(behind.port, strips=request.param == "strips")
        )
        yield f"http://{PUBLIC}:{stack.enter_context(proxy)}{PREFIX}"


def opened(browser: Browser, address: str, problems: list[str]) -> Page:
    page = browser.new_context(accept_downloads=True).new_page()
    page.set_default_timeout(20_000)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "requestfailed",
        lambda asked: (
            problems.append(f"{asked.url}: {asked.failure}") if "ERR_ABORTED" not in (asked.failure or "") else None
        ),
    )
    page.on(
        "response", lambda answer: problems.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None
    )
    page.on(
        "request",
        lambda asked: (
            problems.append(f"outside: {asked.url}")
            if asked.url.startswith("http") and not asked.url.startswith(f"{address}/")
            else None
        ),
    )
    page.goto(f"{address}/")
    page.wait_for_selector("#generate")
    return page


def test_the_page_works_below_a_path_of_another_name(browser: Browser, behind: Site, address: str) -> None:
    problems: list[str] = []
    page = opened(browser, address, problems)
    page.fill("textarea[name=prompt]", "sea at night [slow]")
    page.fill("[data-field=steps] input.number", "100")
    page.click("#generate")
    page.wait_for_selector(".cell .preview:not([hidden])")
    behind.worker.gate.clear()
    page.reload()
    page.wait_for_selector(".result-pane[data-phase=running]")
    behind.worker.gate.set()
    page.wait_for_selector(".result-pane[data-phase=done]")
    page.wait_for_function("document.querySelector('.cell .picture.shown')?.naturalWidth > 0")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download", exact=True).first.click()
    assert saved.value.suggested_filename.startswith("darkroom-")
    page.get_by_role("tab", name="Gallery").click()
    page.wait_for_function("document.querySelector('.tile img')?.naturalWidth > 0")
    assert page.url == f"{address}/#/gallery"
    page.locator(".tile").first.click()
    page.wait_for_selector(".recipe")
    page.reload()
    page.wait_for_selector(".recipe")
    cookies = page.context.cookies()
    assert {(cookie["path"], cookie["domain"]) for cookie in cookies} == {(PREFIX, PUBLIC)}
    page.context.close()
    assert not problems


def test_fonts_and_style_come_from_below_the_path_too(browser: Browser, address: str) -> None:
    problems: list[str] = []
    page = opened(browser, address, problems)
    assert page.evaluate("document.fonts.ready.then(() => document.fonts.check('16px \"IBM Plex Sans\"'))")
    page.get_by_role("tab", name="Models").click()
    page.wait_for_selector(".models-here")
    page.context.close()
    assert not problems
