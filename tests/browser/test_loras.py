"""LoRAs as a person sets them: chosen from a picker or written as a tag, with a weight and words of their own."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.test_layout import check
from tests.support.browser_site import Site, Visitor
from tests.support.browser_uploads import painted
from tests.support.model_folders import SHIPPED_LORAS, make_lora

WITH_I = sum("i" in name for name in SHIPPED_LORAS)

Visit = Callable[..., Visitor]


@pytest.fixture(scope="module", autouse=True)
def loras(site: Site) -> Iterator[None]:
    """Three for the starter's family, one for another; gone again for the other tests."""
    folder = site.studio.settings.model_dirs[-1] / "loras"
    make_lora(folder, "ink", words="ink wash, brush")
    make_lora(folder, "oil")
    make_lora(folder, "lcm-lora")
    make_lora(folder, "ink_xl", width=2048)
    site.studio.models(fresh=True)
    yield
    for file in folder.iterdir():
        file.unlink()
    site.studio.models(fresh=True)


@pytest.fixture
def there(visitor: Visitor) -> Visitor:
    """A visitor with the section open."""
    visitor.page.click("#lora-section summary >> nth=0")
    expect(visitor.page.get_by_role("button", name="Add a LoRA")).to_be_visible()
    return visitor


def test_a_lora_is_chosen_from_cards_and_goes_into_the_job_and_back(there: Visitor) -> None:
    page = there.page
    page.get_by_role("button", name="Add a LoRA").click()
    cards = page.locator("dialog[open] .card")
    expect(cards).to_have_count(3 + len(SHIPPED_LORAS))  # of the chosen model's family
    page.get_by_role("searchbox", name="Search LoRAs").fill("brush")
    expect(cards).to_have_count(1)
    cards.first.click()
    row = page.locator("#lora-section .unit").first
    expect(row.locator("h3")).to_have_text("ink")
    page.fill("[data-field='loras.weight-0'] input.number", "0.8")
    page.fill("textarea[name=prompt]", "a barn")
    words = row.get_by_role("button", name="ink wash, brush")
    words.click()
    expect(page.locator("textarea[name=prompt]")).to_have_value("a barn, ink wash, brush")
    expect(words).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#lora-section summary .summary").first).to_have_text("ink 0.8")
    page.click("#generate")
    there.wait_for("done")
    recipe = painted(there.site)[-1]
    assert [(lora.model.name, lora.weight, lora.text_weight) for lora in recipe.loras] == [("ink", 0.8, None)]
    row.get_by_role("button", name="Remove ink").click()
    expect(row).to_be_hidden()
    page.get_by_role("button", name="Use settings").click()
    expect(row).to_be_visible()
    expect(page.locator("[data-field='loras.weight-0'] input.number")).to_have_value("0.8")


def test_one_for_another_family_is_named_before_the_job_is_sent(there: Visitor) -> None:
    page = there.page
    sentence = "LoRA “ink_xl” is for SDXL; Starter is SD 1.x. Choose an SDXL model or remove it."
    page.get_by_role("button", name="Add a LoRA").click()
    page.locator("dialog[open]").get_by_role("radio", name="All").click()
    page.locator("dialog[open] .card[data-name=ink_xl]").click()
    expect(page.locator("#lora-section .unit .bad")).to_have_text(sentence)
    there.ask("a barn")
    expect(page.get_by_role("button", name="Remove ink_xl")).to_be_focused()
    assert there.view()["phase"] == "idle"
    page.get_by_role("button", name="Remove ink_xl").click()
    page.fill("textarea[name=prompt]", "a barn <lora:ink_xl:1>")
    expect(page.locator("#prompt-note")).to_have_text(sentence)
    page.fill("textarea[name=prompt]", "a barn <lora:oyl:1>")
    expect(page.locator("#prompt-note")).to_have_text("<lora:oyl> is not here. Near: oil.")
    page.fill("textarea[name=prompt]", "a barn <lora:oil:0.5>")
    page.click("#generate")
    there.wait_for("done")
    recipe = painted(there.site)[-1]
    assert recipe.prompt == "a barn" and [lora.model.name for lora in recipe.loras] == ["oil"]


def test_settings_of_a_distilled_lora_are_offered_and_never_forced(there: Visitor) -> None:
    page = there.page
    page.evaluate(
        "darkroom.form.set({ ...darkroom.form.get(), loras: ['lcm-lora', 'oil'].map((model) => "
        "({ model, weight: '1', text_weight: '' })) })"
    )
    line = page.locator("#lora-section .unit .distilled")
    expect(line.nth(0)).to_contain_text("This LoRA is made for 4–8 steps, LCM, SGM Uniform, guidance 1–2.")
    expect(line.nth(1)).to_be_hidden()
    before = page.evaluate("(({ steps, sampler }) => [steps, sampler])(darkroom.form.get())")
    line.nth(0).get_by_role("button", name="Use these").click()
    expect(line.nth(0)).to_be_hidden()
    now = page.evaluate(
        "(({ steps, guidance, sampler, schedule }) => [steps, guidance, sampler, schedule])(darkroom.form.get())"
    )
    assert now == ["6", "1", "lcm", "sgm_uniform"]
    page.get_by_role("group", name="Undo").get_by_role("button", name="Undo").click()
    expect(line.nth(0)).to_be_visible()
    assert page.evaluate("(({ steps, sampler }) => [steps, sampler])(darkroom.form.get())") == before


def test_names_are_completed_as_they_are_typed(visitor: Visitor) -> None:
    page = visitor.page
    prompt = page.locator("textarea[name=prompt]")
    prompt.click()
    prompt.press_sequentially("a barn <lora:i")
    options = page.locator(".completion:not([hidden]) .option")
    expect(options).to_have_count(3 + WITH_I)
    prompt.press("Escape")
    expect(options).to_have_count(0)
    prompt.press_sequentially("n")
    expect(options).to_have_count(2)
    prompt.press("ArrowDown")
    prompt.press("ArrowUp")
    prompt.press("Enter")
    expect(prompt).to_have_value("a barn <lora:ink:1>")
    prompt.press("Enter")
    expect(prompt).to_have_value("a barn <lora:ink:1>\n")


@pytest.mark.parametrize(("width", "touch"), [(1440, False), (390, True)])
def test_nothing_sticks_out_and_every_control_has_room(visit: Visit, width: int, touch: bool) -> None:
    visitor = visit(width=width, touch=touch)
    visitor.page.click("#lora-section summary >> nth=0")
    visitor.page.evaluate(
        "darkroom.form.set({ ...darkroom.form.get(), loras: [{ model: 'lcm-lora', weight: '1', text_weight: '' }] })"
    )
    expect(visitor.page.locator("#lora-section .unit h3")).to_have_text("lcm-lora")
    expect(visitor.page.locator("#lora-section .unit .distilled")).to_be_visible()
    check(visitor.page, touch)


def test_a_name_is_taken_only_where_the_caret_is(visitor: Visitor) -> None:
    page = visitor.page
    prompt = page.locator("textarea[name=prompt]")
    options = page.locator(".completion:not([hidden]) .option")
    prompt.click()
    prompt.press_sequentially("a barn <lora:i")
    expect(options).to_have_count(3 + WITH_I)
    prompt.press("Home")
    expect(options).to_have_count(0)
    prompt.press("Enter")
    expect(prompt).to_have_value("\na barn <lora:i")
    prompt.fill("")
    prompt.press_sequentially("<lora:in")
    prompt.press("ArrowDown")
    expect(options.nth(1)).to_have_attribute("aria-selected", "true")
    prompt.press("ArrowLeft")
    expect(options).to_have_count(3 + WITH_I)
    expect(options.first).to_contain_text("ink")
    prompt.press("Enter")
    expect(prompt).to_have_value("<lora:ink:1>")
