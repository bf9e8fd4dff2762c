"""Variations of a seed as a person sets them: the walk to another seed."""

from playwright.sync_api import expect

from tests.support.browser_site import Visitor
from tests.support.browser_uploads import painted


def test_a_walk_is_one_job_that_begins_at_the_seed(visitor: Visitor) -> None:
    page = visitor.page
    page.click("#sampling-section summary >> nth=0")
    walk = page.get_by_role("switch", name="Walk to the other seed, picture by picture")
    pictures = page.get_by_role("radiogroup", name="Pictures on the way")
    expect(pictures).to_be_hidden()
    walk.click()
    pictures.get_by_role("radio", name="4").click()
    strength = page.locator("[data-field='noise.variation_strength'] input.number")
    expect(strength).to_have_value("1")
    strength.fill("0")
    page.fill("[data-field='noise.variation_seed'] input", "9")
    visitor.ask("a barn")
    expect(page.locator("[data-field='noise.walk_from'] .problem")).to_contain_text("begins and ends at variation")
    page.get_by_role("button", name="End at 1").click()
    page.click("#generate")
    visitor.wait_for("done")
    recipe = painted(visitor.site)[-1]
    assert recipe.count == 4 and recipe.noise and recipe.noise.walk_from == 0.0
    assert (recipe.noise.variation_seed, recipe.noise.variation_strength) == (9, 1.0)
    assert [cell["seed"] for cell in page.evaluate("darkroom.job.view.get().cells")] == [str(recipe.seed)] * 4
    walk.click()
    expect(strength).to_have_value("0")
    expect(pictures).to_be_hidden()
