"""Gallery, loupe, undo, and pictures that are dropped on the page."""

from pathlib import Path

from playwright.sync_api import Page, Route, expect

from contract.parts import HypernetworkUse, IpAdapter, LoraUse
from contract.values import ImageRef, ModelRef
from tests.support.browser_site import Visitor


def make(visitor: Visitor, *prompts: str) -> None:
    for prompt in prompts:
        visitor.ask(prompt)
        visitor.wait_for("done")
        visitor.page.evaluate("darkroom.job.view.set({ ...darkroom.job.view.get(), phase: 'idle' })")


def test_deleted_picture_is_hidden_at_once_and_comes_back_with_undo(visitor: Visitor) -> None:
    page = visitor.page
    make(visitor, "one", "two", "three")
    page.get_by_role("tab", name="Gallery").click()
    expect(page.locator(".tile")).to_have_count(3)
    expect(page.locator(".total")).to_have_text("3 pictures")
    page.locator(".tile").nth(1).click()
    expect(page.locator(".position")).to_have_text("2 of 3")
    expect(page.locator("dd.prompt")).to_have_text("two")
    page.keyboard.press("Delete")
    expect(page.locator("dd.prompt")).to_have_text("one")
    expect(page.locator(".undo-bar")).to_contain_text("Deleted 1 picture.")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".position")).to_have_text("3 of 3")
    page.go_back()
    expect(page.locator(".tile")).to_have_count(3)
    expect(page.locator(".grid-view")).to_be_visible()


def test_search_finds_by_prompt_and_says_when_nothing_matches(visitor: Visitor) -> None:
    page = visitor.page
    make(visitor, "red canyon", "blue lake")
    page.get_by_role("tab", name="Gallery").click()
    expect(page.locator(".tile")).to_have_count(2)
    search = page.get_by_role("searchbox", name="Search pictures")
    search.fill("canyon")
    expect(page.locator(".tile")).to_have_count(1)
    search.fill("zebra")
    expect(page.locator(".gallery .none")).to_contain_text("Nothing matches “zebra”. Clear search")
    page.get_by_role("button", name="Clear search").click()
    expect(page.locator(".tile")).to_have_count(2)


def test_empty_gallery_says_what_will_be_here(visitor: Visitor) -> None:
    visitor.page.get_by_role("tab", name="Gallery").click()
    expect(visitor.page.locator(".gallery .none")).to_have_text(
        "No pictures yet. What you generate appears here by itself."
    )


def test_a_picture_has_an_address_and_arrows_step(visitor: Visitor) -> None:
    page = visitor.page
    make(visitor, "one", "two")
    page.get_by_role("tab", name="Gallery").click()
    page.locator(".tile").first.click()
    address = page.evaluate("location.hash")
    page.keyboard.press("ArrowRight")
    expect(page.locator("dd.prompt")).to_have_text("one")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("dd.prompt")).to_have_text("two")
    other = visitor.window(address)
    expect(other.locator("dd.prompt")).to_have_text("two")
    expect(other.locator(".lightbox-picture")).to_have_attribute("alt", "Generated: two")


def drop(page: Page, content: bytes, name: str) -> None:
    """Drag a file over the frame and drop it on the half that reads its recipe."""
    page.evaluate(
        """([bytes, name]) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
      for (const [selector, type] of [[".result-pane", "dragover"], [".half[data-act=read]", "dragover"], [".half[data-act=read]", "drop"]]) {
        document.querySelector(selector).dispatchEvent(new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true }));
      }
    }""",
        [list(content), name],
    )


def test_a_dropped_picture_fills_the_form_with_what_made_it(visitor: Visitor) -> None:
    page = visitor.page
    make(visitor, "a moon over the sea")
    newest = max(Path(visitor.site.studio.settings.outputs_dir).rglob("*.png"), key=lambda path: path.stat().st_mtime)
    page.fill("textarea[name=prompt]", "other words")
    drop(page, newest.read_bytes(), "moon.png")
    expect(page.locator("textarea[name=prompt]")).to_have_value("a moon over the sea")
    expect(page.locator(".undo-bar")).to_contain_text("Settings of moon.png are in the form.")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("textarea[name=prompt]")).to_have_value("other words")


def test_a_picture_without_a_recipe_or_no_picture_says_so(visitor: Visitor) -> None:
    page = visitor.page
    drop(page, (Path(__file__).parents[2] / "tabs/page/mark.svg").read_bytes(), "mark.png")
    expect(page.locator(".undo-bar")).to_contain_text("mark.png")
    assert page.locator("textarea[name=prompt]").input_value() == ""


def test_a_recipe_lists_all_that_was_used_and_nothing_of_it_is_dropped_by_use_settings(visitor: Visitor) -> None:
    page = visitor.page
    make(visitor, "a barn")
    lora = LoraUse(model=ModelRef(kind="lora", name="styles/ink", family="sd1"), weight=0.8, text_weight=0.5)
    net = HypernetworkUse(model=ModelRef(kind="hypernetwork", name="glow", family="sd1"), weight=0.6)
    picture = IpAdapter(
        model=ModelRef(kind="ip_adapter", name="ip-small", family="sd1"), image=ImageRef(sha256="0" * 64)
    )
    parts = {
        "loras": [lora.model_dump(mode="json")],
        "hypernetworks": [net.model_dump(mode="json")],
        "ip_adapters": [picture.model_dump(mode="json")],
        "vae": {"kind": "vae", "name": "clear-vae", "family": "sd1"},
    }

    def with_parts(route: Route) -> None:
        answer = route.fetch().json()
        for image in answer["images"]:
            image["recipe"].update(parts)
        route.fulfill(json=answer)

    page.route("**/api/v1/images?*", with_parts)
    page.get_by_role("tab", name="Gallery").click()
    page.locator(".tile").first.click()
    recipe = page.locator("dl.recipe")
    for name, value in (
        ("LoRA", "ink 0.8, text 0.5"),
        ("Hypernetwork", "glow 0.6"),
        ("VAE", "clear-vae"),
        ("Picture as prompt", "ip-small 1"),
    ):
        expect(recipe.locator("div", has=page.locator("dt", has_text=name)).locator("dd")).to_have_text(value)
    page.get_by_role("button", name="Use settings").last.click()
    expect(page.get_by_role("tab", name="Text to image")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#ip-adapter-section .summary")).to_have_text("1 picture")
    expect(page.locator(".undo-bar")).to_contain_text("A picture used as prompt is not here any more.")
