"""What a cold browser fetches: gradio's files as listed, ours in one script and one style sheet."""

from playwright.sync_api import Browser

from tabs.head import GRADIO_FILES
from tests.support.browser_site import Site, visiting

_FETCHED = "performance.getEntriesByType('resource').map((one) => new URL(one.name).pathname)"


def test_first_load_fetches_the_listed_files_and_one_script_and_style_of_ours(browser: Browser, site: Site) -> None:
    with visiting(browser, site) as visitor:
        fetched = visitor.page.evaluate(_FETCHED)
    assert fetched.count("/theme.css") == 1 and fetched.index("/theme.css") < fetched.index("/page/darkroom.js")
    needed = {path for path in fetched if path.startswith("/assets/")}
    listed = set(GRADIO_FILES.read_text("utf-8").split())
    assert needed == listed, f"tabs/gradio_files.txt: add {needed - listed}"
    assert [path for path in fetched if path.startswith("/page/") and not path.endswith(".svg")] == [
        "/page/darkroom.css",
        "/page/darkroom.js",
    ]


def test_no_listed_file_is_fetched_for_nothing(browser: Browser, site: Site) -> None:
    """Without our asking ahead, gradio asks for the same files."""
    with visiting(browser, site) as visitor:
        visitor.page.route(
            "**/",
            lambda route: route.fulfill(
                response=(answer := route.fetch()),
                body="\n".join(line for line in answer.text().splitlines() if "preload" not in line or "font" in line),
            ),
        )
        visitor.page.reload()
        visitor.page.wait_for_selector("#generate")
        visitor.page.wait_for_load_state("networkidle")
        fetched = visitor.page.evaluate(_FETCHED)
    assert {path for path in fetched if path.startswith("/assets/")} == set(GRADIO_FILES.read_text("utf-8").split())
