"""Layers over the page: one at a time, and each is closed by its own buttons, whatever was open before."""

from playwright.sync_api import expect

from tests.support.browser_site import Visitor
from tests.support.browser_uploads import picture_bytes

# A picture dropped between the two halves, which were shown while it was dragged.
_DROP = """(bytes) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], "hills.png", { type: "image/png" }));
  for (const type of ["dragover", "drop"]) {
    document.querySelector(".result-pane").dispatchEvent(new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true }));
  }
}"""


def test_a_layer_that_takes_anothers_place_is_closed_by_its_own_buttons(visitor: Visitor) -> None:
    page = visitor.page
    layers = page.locator("dialog[open]")
    page.locator(".queue-button").click()
    expect(layers).to_have_attribute("aria-label", "Queue")
    page.locator(".model-row").click()
    expect(layers).to_have_attribute("aria-label", "Models")
    expect(page.locator(".queue-button")).to_have_attribute("aria-expanded", "false")
    page.get_by_role("dialog", name="Models").get_by_role("button", name="Close").click()
    expect(layers).to_have_count(0)
    expect(page.locator(".model-row")).to_be_focused()
    page.locator(".pill").first.click()
    page.get_by_role("dialog", name="Engine").get_by_role("button", name="Keyboard").click()
    expect(layers).to_have_attribute("aria-label", "Keyboard")
    page.get_by_role("dialog", name="Keyboard").get_by_role("button", name="Close").click()
    expect(layers).to_have_count(0)


def test_what_is_offered_for_a_dropped_picture_goes_when_it_was_chosen(visitor: Visitor) -> None:
    page = visitor.page
    page.evaluate(_DROP, list(picture_bytes()))
    expect(page.locator("dialog.drop-overlay")).to_be_visible()
    page.get_by_role("button", name="Start from it").click()
    expect(page.locator("dialog.drop-overlay")).to_be_hidden()
    expect(page.locator("#init-image-section .area-name")).to_have_text("hills.png")
