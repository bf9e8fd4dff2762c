"""“File missing” ends when the file is back, without a reload, and costs nothing while nothing is missing."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser_site import Visitor


def made(visitor: Visitor, prompt: str = "a lighthouse") -> tuple[str, Path]:
    """A picture's id, and its file."""
    visitor.ask(prompt)
    visitor.wait_for("done")
    identity = visitor.view()["cells"][0]["id"]
    record = visitor.page.request.get(f"{visitor.site.url}api/v1/images/{identity}/record").json()
    files = [
        path
        for path in visitor.site.studio.settings.outputs_dir.glob("*/*.png")
        if path.name.endswith(f"-{record['seed']}.png")
    ]
    return identity, max(files, key=lambda path: path.stat().st_mtime)


def look_away_and_back(page: Page) -> None:
    page.evaluate("dispatchEvent(new Event('focus'))")


@pytest.fixture
def gone(visitor: Visitor) -> tuple[Visitor, str, Path, Path]:
    """A visitor, a picture whose file and thumbnail are away, and where both were put."""
    identity, file = made(visitor)
    away = file.with_suffix(".away")
    file.rename(away)
    for thumbnail in visitor.site.studio.settings.thumbnails_dir.rglob(f"{identity}.*"):
        thumbnail.unlink()
    # A browser keeps pictures for ever; this one is to ask.
    visitor.page.context.new_cdp_session(visitor.page).send("Network.clearBrowserCache")
    return visitor, identity, file, away


def test_a_tile_of_the_gallery_shows_its_picture_again(gone: tuple[Visitor, str, Path, Path]) -> None:
    visitor, identity, file, away = gone
    page = visitor.page
    page.reload()
    page.get_by_role("tab", name="Gallery").click()
    tile = page.locator(f".tile[data-id='{identity}']")
    expect(tile.get_by_text("File missing")).to_be_visible()
    look_away_and_back(page)
    expect(tile.get_by_text("File missing")).to_be_visible()
    away.rename(file)
    look_away_and_back(page)
    expect(tile.get_by_text("File missing")).to_be_hidden()
    page.wait_for_function(
        "(id) => document.querySelector(`.tile[data-id='${id}'] img`).naturalWidth > 0", arg=identity
    )


def test_the_loupe_and_its_film_show_it_again(gone: tuple[Visitor, str, Path, Path]) -> None:
    visitor, identity, file, away = gone
    page = visitor.page
    page.reload()
    page.evaluate(f"location.hash = '#/gallery/{identity}'")
    expect(page.locator(".lightbox-missing")).to_be_visible()
    away.rename(file)
    look_away_and_back(page)
    expect(page.locator(".lightbox-missing")).to_be_hidden()
    page.wait_for_function("document.querySelector('.lightbox-picture').naturalWidth > 0")
    page.wait_for_function(
        "[...document.querySelectorAll('.film img')].every((one) => one.naturalWidth > 0 && one.style.visibility === '')"
    )


def test_the_stage_and_the_strip_show_it_again_by_themselves(gone: tuple[Visitor, str, Path, Path]) -> None:
    visitor, identity, file, away = gone
    page = visitor.page
    page.add_init_script(
        "const later = window.setTimeout; window.setTimeout = (act, ms, ...rest) => later(act, ms >= 4000 && ms <= 60000 ? 100 : ms, ...rest);"
    )
    page.reload()
    page.wait_for_selector(f".slot[data-id='{identity}']")
    page.locator(f".slot[data-id='{identity}']").click()
    cell = page.locator(".cell").first
    expect(cell.get_by_text("File missing")).to_be_visible()
    away.rename(file)
    expect(cell.get_by_text("File missing")).to_have_count(0)
    page.wait_for_function("document.querySelector('.cell .picture').naturalWidth > 0")
    page.wait_for_function(
        "(id) => document.querySelector(`.slot[data-id='${id}'] img`).naturalWidth > 0", arg=identity
    )


def test_nothing_is_asked_while_nothing_is_missing(visitor: Visitor) -> None:
    page = visitor.page
    identity, _ = made(visitor)
    page.get_by_role("tab", name="Gallery").click()
    page.wait_for_selector(f".tile[data-id='{identity}']")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for _ in range(3):
        look_away_and_back(page)
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert not [url for url in asked if "/images/" in url], asked
