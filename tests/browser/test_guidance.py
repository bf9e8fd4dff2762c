"""Methods of guidance as a person sets them: added from a menu, set, removed, refused at their row, and filled back."""

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.test_layout import check
from tests.support.browser_site import Visitor
from tests.support.browser_uploads import painted

Visit = Callable[..., Visitor]


@pytest.fixture
def there(visitor: Visitor) -> Visitor:
    visitor.page.click("#guidance-section summary >> nth=0")
    return visitor


def add(visitor: Visitor, label: str) -> None:
    visitor.page.get_by_role("button", name="Add a method").click()
    visitor.page.get_by_role("menuitem", name=label, exact=True).click()


def test_a_method_goes_into_the_job_and_back(there: Visitor) -> None:
    page = there.page
    expect(page.locator("#guidance-section .unit")).to_have_count(0)
    add(there, "PAG")
    add(there, "Guidance curve")
    row = page.locator("#guidance-section .unit").first
    expect(row.locator("h3")).to_have_text("PAG")
    value = page.locator("[data-field='guidance_methods.scale-pag'] input.number")
    expect(value).to_have_value("3")
    value.fill("2.5")
    page.locator("[data-field='guidance_methods.shape-guidance_curve'] select").select_option("cosine")
    expect(page.locator("#guidance-section summary .summary").first).to_have_text("PAG 2.5, Guidance curve")
    there.ask("a barn")
    there.wait_for("done")
    recipe = painted(there.site)[-1]
    assert [(one.id, one.values) for one in recipe.guidance_methods] == [
        ("pag", {"scale": 2.5}),
        ("guidance_curve", {"shape": "cosine"}),
    ]
    page.get_by_role("button", name="Remove PAG").click()
    expect(page.locator("#guidance-section .unit")).to_have_count(1)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#guidance-section .unit")).to_have_count(2)
    page.get_by_role("button", name="Remove PAG").click()
    page.get_by_role("button", name="Use settings").click()
    expect(value).to_have_value("2.5")


def test_a_hires_pass_takes_methods_of_its_own(there: Visitor) -> None:
    page = there.page
    add(there, "PAG")
    page.click("#hires-section summary >> nth=0")
    page.get_by_role("switch", name="Paint once more, larger").click()
    section = page.locator("#hires-section")
    expect(section.locator(".unit")).to_have_count(0)
    own = section.get_by_role("switch", name="Guidance methods of its own")
    own.click()
    expect(section.locator(".unit h3")).to_have_text("PAG")
    section.get_by_role("button", name="Remove PAG").click()
    section.get_by_role("button", name="Add a method").click()
    page.get_by_role("menuitem", name="SAG", exact=True).click()
    section.locator("[data-field='hires.guidance_methods.scale-sag'] input.number").fill("9")
    there.ask("a barn")
    expect(section.locator(".problem:visible")).to_contain_text("SAG: Scale is 9.")
    section.locator("[data-field='hires.guidance_methods.scale-sag'] input.number").fill("0.5")
    page.click("#generate")
    there.wait_for("done")
    recipe = painted(there.site)[-1]
    assert [one.id for one in recipe.guidance_methods] == ["pag"]
    assert recipe.hires and recipe.hires.guidance_methods
    assert [(one.id, one.values) for one in recipe.hires.guidance_methods] == [("sag", {"scale": 0.5})]
    own.click()
    page.click("#generate")
    page.wait_for_function("darkroom.job.view.get().phase === 'done'")
    assert (hires := painted(there.site)[-1].hires) and hires.guidance_methods is None


def test_what_is_wrong_is_said_at_its_row(there: Visitor) -> None:
    page = there.page
    add(there, "NAG")
    value = page.locator("[data-field='guidance_methods.scale-nag'] input.number")
    value.fill("50")
    there.ask("a barn")
    sentence = "NAG: Scale is 50. Use a number, 1 to 20."
    expect(page.locator("[data-field='guidance_methods.scale-nag'] .problem")).to_contain_text(sentence)
    expect(value).to_be_focused()
    value.fill("4")
    add(there, "APG")
    add(there, "CFG-Zero*")
    there.ask("a barn")
    problem = page.locator("#guidance-section .problem:visible")
    expect(problem).to_contain_text("APG and CFG-Zero* do not go together")
    assert there.view()["phase"] == "idle"


def test_the_models_own_rescale_is_seen_and_can_be_removed(there: Visitor) -> None:
    page = there.page
    page.evaluate(
        "(() => { const now = darkroom.form.get(); darkroom.form.set({ ...now, model: { ...now.model,"
        " defaults: { ...now.model.defaults, cfg_rescale: 0.7 } }, guidance_methods: [{ id: 'cfg_rescale', phi: '0.7' }] }) })()"
    )
    expect(page.locator("#guidance-section summary .summary").first).to_have_text("CFG rescale 0.7")
    page.get_by_role("button", name="Remove CFG rescale").click()
    there.ask("a barn")
    there.wait_for("done")
    assert painted(there.site)[-1].guidance_methods == ()


@pytest.mark.parametrize(("width", "touch"), [(1440, False), (390, True)])
def test_nothing_sticks_out_and_every_control_has_room(visit: Visit, width: int, touch: bool) -> None:
    visitor = visit(width=width, touch=touch)
    visitor.page.click("#guidance-section summary >> nth=0")
    for label in ("Detail amount", "Dynamic thresholding", "Guidance curve"):
        add(visitor, label)
    visitor.page.locator("#guidance-section .unit-more summary").first.click()
    check(visitor.page, touch)
