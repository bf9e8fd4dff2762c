"""Styles, wildcards and trigger words as a person uses them in the page."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from studio.prompts.styles import Style
from tests.browser.test_layout import check
from tests.support.browser_site import Site, Visitor
from tests.support.browser_uploads import painted
from tests.support.model_folders import make_lora


@pytest.fixture(autouse=True)
def tidy(site: Site) -> Iterator[None]:
    yield
    for name in [one.name for one in site.studio.prompts.wildcards.all()]:
        site.studio.prompts.wildcards.remove(name)
    for style in site.studio.prompts.styles.all().styles.values():
        if style.source == "here":
            site.studio.prompts.styles.remove(style.name)


def open_styles(page: Page) -> None:
    page.locator("#recipe").get_by_role("button", name="Styles", exact=True).click()
    expect(page.get_by_role("dialog", name="Styles")).to_be_visible()


def test_styles_are_chosen_sent_taken_off_and_come_back_with_the_picture(visitor: Visitor) -> None:
    page = visitor.page
    page.fill("textarea[name=prompt]", "a barn")
    open_styles(page)
    page.keyboard.type("water")
    page.get_by_role("button", name="Watercolor").click()
    page.fill("dialog[open] input[type=search]", "film")
    page.get_by_role("button", name="Film photo").click()
    page.keyboard.press("Escape")
    chips = page.locator(".style-chips .chip")
    expect(chips).to_have_text(["Watercolor×", "Film photo×"])
    page.click("#generate")
    visitor.wait_for("done")
    recipe = painted(visitor.site)[-1]
    assert recipe.prompt.startswith("watercolor of a barn, ") and recipe.prompt.endswith("shallow depth of field")
    assert recipe.template and recipe.template.styles == ("Watercolor", "Film photo")
    chips.first.click()
    chips.first.click()
    expect(page.locator(".style-chips")).to_be_hidden()
    page.fill("textarea[name=prompt]", "")
    page.get_by_role("button", name="Use settings").click()
    expect(page.locator("textarea[name=prompt]")).to_have_value("a barn")
    expect(chips).to_have_text(["Watercolor×", "Film photo×"])


def test_where_a_style_has_changed_since_the_whole_prompt_comes_back(visitor: Visitor) -> None:
    page, styles = visitor.page, visitor.site.studio.prompts.styles
    styles.put(Style(name="Mine", prompt="{prompt}, mine"))
    page.fill("textarea[name=prompt]", "a barn")
    page.evaluate("darkroom.form.set({ ...darkroom.form.get(), styles: ['Mine'] })")
    page.click("#generate")
    visitor.wait_for("done")
    styles.put(Style(name="Mine", prompt="{prompt}, changed"))
    page.reload()
    page.evaluate("darkroom.form.set({ ...darkroom.form.get(), prompt: '', styles: [] })")
    page.get_by_role("button", name="Use settings").click()
    expect(page.locator("textarea[name=prompt]")).to_have_value("a barn, mine")
    expect(page.locator(".style-chips")).to_be_hidden()


def test_a_style_is_kept_changed_and_deleted_with_undo(visitor: Visitor) -> None:
    page, styles = visitor.page, visitor.site.studio.prompts.styles
    page.fill("textarea[name=prompt]", "oil of {prompt}")
    open_styles(page)
    page.get_by_role("button", name="Keep").click()
    expect(page.locator("dialog[open] .problem")).to_have_text("Give it a name.")
    page.fill("#style-name", "My oil")
    page.get_by_role("button", name="Keep").click()
    row = page.get_by_role("button", name="My oil oil of {prompt}")
    expect(row).to_be_visible()
    assert styles.all().styles["My oil"].prompt == "oil of {prompt}"
    page.get_by_role("button", name="Delete My oil").click()
    expect(row).to_have_count(0)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Undo").click()
    page.wait_for_function("true")
    open_styles(page)
    expect(row).to_be_visible()
    assert styles.all().styles["My oil"].prompt == "oil of {prompt}"


def test_a_style_goes_by_completion_and_one_that_is_gone_is_said_at_the_styles(visitor: Visitor) -> None:
    page = visitor.page
    page.click("textarea[name=prompt]")
    page.keyboard.type("a barn <style:ink")
    option = page.locator(".completion:not([hidden]) .option")
    expect(option).to_contain_text("Ink wash")
    page.keyboard.press("Enter")
    expect(page.locator("textarea[name=prompt]")).to_have_value("a barn ")
    expect(page.locator(".style-chips .chip")).to_have_text(["Ink wash×"])
    page.evaluate("darkroom.form.set({ ...darkroom.form.get(), styles: ['Gone'] })")
    page.click("#generate")
    expect(page.locator("[data-field=styles] .problem")).to_have_text(
        "Style “Gone” is not here. Choose another, or none."
    )


def test_wildcards_are_written_completed_and_drawn_for_each_picture(visitor: Visitor) -> None:
    page, wildcards = visitor.page, visitor.site.studio.prompts.wildcards
    page.evaluate("location.hash = '#/models/wildcards'")
    expect(page.get_by_text("There are no wildcards yet.")).to_be_visible()
    page.get_by_role("button", name="New wildcard").click()
    page.fill("#wildcard-name", "../out")
    page.fill("#wildcard-text", "cat\ndog\nfox\nowl\nhen\nkoi\nelk\nant")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".wildcard-editor .problem").first).to_contain_text("can't be the name of a wildcard")
    page.fill("#wildcard-name", "zoo/animals")
    page.get_by_role("button", name="Save").click()
    row = page.get_by_role("button", name="__zoo/animals__")
    expect(row).to_contain_text("8 lines: cat, dog, fox, owl, hen")
    page.get_by_role("button", name="Delete zoo/animals").click()
    expect(row).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(row).to_be_visible()
    assert wildcards.choices_of("zoo/animals")[0] == "cat"
    page.evaluate("location.hash = '#/txt2img'")
    page.click("textarea[name=prompt]")
    page.keyboard.type("a __ani")
    expect(page.locator(".completion:not([hidden]) .option")).to_contain_text("zoo/animals")
    page.keyboard.press("Enter")
    expect(page.locator("textarea[name=prompt]")).to_have_value("a __zoo/animals__")
    page.fill("[data-field=seed] input", "7")
    page.get_by_role("radio", name="4").click()
    expect(page.locator("#prompt-note")).to_have_text("Each picture draws its own choices.")
    before = len(painted(visitor.site))
    page.click("#generate")
    page.wait_for_function(
        "darkroom.job.view.get().note === 'picture 4 of 4' && darkroom.job.view.get().phase === 'done'"
    )
    recipes = painted(visitor.site)[before:]
    assert [recipe.seed for recipe in recipes] == [7, 8, 9, 10] and len({recipe.prompt for recipe in recipes}) > 1
    assert all(recipe.template and recipe.template.prompt == "a __zoo/animals__" for recipe in recipes)
    page.get_by_role("button", name="Use settings").click()
    expect(page.locator("textarea[name=prompt]")).to_have_value(recipes[-1].prompt)
    expect(page.locator("#prompt-note")).to_have_text("Drawn from a template.")
    page.get_by_role("button", name="Use the template").click()
    expect(page.locator("textarea[name=prompt]")).to_have_value("a __zoo/animals__")
    expect(page.locator("#prompt-note")).to_have_text("One of its choices is drawn.")


def test_cancel_ends_all_pictures_of_a_template(visitor: Visitor) -> None:
    page, worker = visitor.page, visitor.site.worker
    page.fill("textarea[name=prompt]", "a {red|blue} barn")
    page.get_by_role("radio", name="4").click()
    before = len(painted(visitor.site))
    worker.gate.clear()
    page.click("#generate")
    page.wait_for_function("darkroom.job.view.get().id && darkroom.job.waiting.get().length === 3")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".undo-bar")).to_contain_text("Ended at picture 1 of 4.")
    page.wait_for_function("darkroom.job.waiting.get().length === 0 && !darkroom.job.isActive()")
    worker.gate.set()
    assert len(painted(visitor.site)) <= before + 2


def test_all_combinations_are_counted_before_they_are_made(visitor: Visitor) -> None:
    page = visitor.page
    page.fill("textarea[name=prompt]", "a {red|blue} barn")
    page.get_by_role("button", name="All combinations").click()
    expect(page.locator("#prompt-note")).to_have_text("All combinations are 2 pictures.")
    before = len(painted(visitor.site))
    page.get_by_role("button", name="Make them").click()
    page.wait_for_function(
        "darkroom.job.view.get().note === 'picture 2 of 2' && darkroom.job.view.get().phase === 'done'"
    )
    assert [recipe.prompt for recipe in painted(visitor.site)[before:]] == ["a red barn", "a blue barn"]
    page.fill("textarea[name=prompt]", "{a|b}" * 30)
    page.get_by_role("button", name="All combinations").click()
    expect(page.locator("[data-field=prompt] > .problem:visible")).to_contain_text("means more than 1,000 pictures")


def test_trigger_words_that_were_chosen_come_along_the_next_time(site: Site, visitor: Visitor) -> None:
    path = make_lora(site.studio.settings.model_dirs[-1] / "loras", "ink", words="ink wash, brush")
    site.studio.models(fresh=True)
    try:
        page = visitor.page
        page.fill("textarea[name=prompt]", "a barn")
        page.click("#lora-section summary >> nth=0")

        def choose() -> None:
            page.get_by_role("button", name="Add a LoRA").click()
            page.get_by_role("searchbox", name="Search LoRAs").fill("brush")
            page.locator("dialog[open] .card").first.click()

        choose()
        chip = page.locator("#lora-section .trigger-words .chip").first
        expect(page.locator("textarea[name=prompt]")).to_have_value("a barn")
        chip.click()
        expect(page.locator("textarea[name=prompt]")).to_have_value("a barn, ink wash, brush")
        page.get_by_role("button", name="Remove ink").click()
        page.fill("textarea[name=prompt]", "a lake")
        choose()
        expect(page.locator("textarea[name=prompt]")).to_have_value("a lake, ink wash, brush")
        chip.click()
        expect(page.locator("textarea[name=prompt]")).to_have_value("a lake")
        page.get_by_role("button", name="Remove ink").click()
        choose()
        expect(page.locator("textarea[name=prompt]")).to_have_value("a lake")
    finally:
        path.unlink()
        site.studio.models(fresh=True)


@pytest.mark.parametrize(("width", "touch"), [(1440, False), (390, True)])
def test_nothing_sticks_out_and_every_control_has_room(width: int, touch: bool, visit: Callable[..., Visitor]) -> None:
    visitor = visit(width=width, touch=touch)
    page = visitor.page
    visitor.site.studio.prompts.wildcards.put("animals", "cat\n" * 3)
    page.fill("textarea[name=prompt]", "a {red|blue} barn, (cat")
    page.evaluate("darkroom.form.set({ ...darkroom.form.get(), styles: ['Ink wash', 'Watercolor'] })")
    check(page, touch)
    open_styles(page)
    box = page.get_by_role("dialog", name="Styles").bounding_box()
    assert box and box["x"] >= 0 and box["x"] + box["width"] <= width and box["y"] + box["height"] <= 900
    page.keyboard.press("Escape")
    page.evaluate("location.hash = '#/models/wildcards'")
    page.get_by_role("button", name="__animals__").click()
    expect(page.locator("#wildcard-text")).to_be_focused()
    check(page, touch)
