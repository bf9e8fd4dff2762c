"""The page on the real program: app.py as a process, the starter model, a browser that only looks and clicks."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageStat
from playwright.sync_api import Browser, Page, expect

from tests.support.program import Program


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    running = Program(tmp_path_factory.mktemp("run") / "data")
    running.wait_for_page()
    yield running
    running.end()


@pytest.fixture
def page(browser: Browser, program: Program) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(f"http://127.0.0.1:{program.port}/")
    page.wait_for_selector("#generate")
    yield page
    context.close()


def generate(page: Page, prompt: str, steps: int) -> None:
    page.fill("textarea[name=prompt]", prompt)
    page.fill("[data-field=steps] input.number", str(steps))
    page.keyboard.press("Control+Enter")


def test_prompt_previews_picture_gallery_settings_reload_and_cancel(page: Page, program: Program) -> None:
    expect(page.locator(".pill").first).to_contain_text("ready", timeout=90_000)
    generate(page, "sea at night, full moon", 20)
    preview = page.locator(".cell .preview:not([hidden])")
    expect(preview).to_be_visible(timeout=60_000)
    expect(page.locator(".result-pane[data-phase=done]")).to_be_visible(timeout=60_000)
    expect(page.locator(".cell .picture.shown")).to_be_visible()

    page.get_by_role("tab", name="Gallery").click()
    page.locator(".tile").first.click()
    expect(page.locator(".recipe")).to_contain_text("sea at night, full moon")
    page.get_by_role("button", name="Use settings").last.click()
    expect(page.locator("textarea[name=prompt]")).to_have_value("sea at night, full moon")

    generate(page, "green hills", 150)
    expect(page.locator(".status")).to_contain_text("Step ", timeout=60_000)
    page.reload()
    expect(page.locator(".result-pane[data-phase=running]")).to_be_visible(timeout=60_000)
    expect(preview).to_be_visible(timeout=60_000)
    page.keyboard.press("Escape")
    expect(page.locator(".result-pane[data-phase=cancelled]")).to_be_visible(timeout=60_000)
    assert len(list((Path(program.data) / "outputs").rglob("*.png"))) == 1


def test_two_regions_paint_two_halves(page: Page, program: Program) -> None:
    page.locator("#regions-section summary").first.click()
    page.get_by_role("button", name="Two columns").click()
    page.get_by_label("Prompt of region 1").fill("green hills at noon")
    page.get_by_label("Prompt of region 2").fill("sea at night, full moon")
    page.get_by_role("switch", name="Common words first").click()
    page.fill("[data-field='regions.base'] input.number", "0")
    page.fill("[data-field=seed] input", "138677620")
    before = set((Path(program.data) / "outputs").rglob("*.png"))
    generate(page, "", 20)
    expect(page.locator(".result-pane[data-phase=done]")).to_be_visible(timeout=120_000)
    (made,) = set((Path(program.data) / "outputs").rglob("*.png")) - before
    with Image.open(made) as image:
        feet = [ImageStat.Stat(image.crop((left, 80, left + 48, 128))).mean for left in (0, 80)]
    hills, sea = (green - blue for _, green, blue in feet)
    assert hills > 30 > 15 > sea, feet
