"""What is dropped or pasted is used, or a sentence says why not; the page stays, and nothing is fetched from elsewhere."""

import base64
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser_site import Visitor
from tests.support.browser_uploads import painted, picture_bytes, picture_file

ELSEWHERE = "http://pictures.example/cat"
# As a browser gives it: files with their name, type and content (base64), texts by their kind, folders by name.
_ACT = """([kind, target, { files = [], texts = {}, folders = [] }]) => {
  const transfer = new DataTransfer();
  for (const [name, type, data] of files) transfer.items.add(new File([Uint8Array.from(atob(data), (one) => one.charCodeAt(0))], name, { type }));
  for (const [type, text] of Object.entries(texts)) transfer.setData(type, text);
  if (folders.length) DataTransferItem.prototype.webkitGetAsEntry = function () { const name = this.getAsFile()?.name; return { name, isDirectory: folders.includes(name) }; };
  const element = target === "window" ? document.body : [...document.querySelectorAll(target)].find((one) => one.checkVisibility()) ?? document.querySelector(target);
  if (kind === "paste") return !element.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true }));
  element.dispatchEvent(new DragEvent("dragenter", { dataTransfer: transfer, bubbles: true, cancelable: true }));
  const over = !element.dispatchEvent(new DragEvent("dragover", { dataTransfer: transfer, bubbles: true, cancelable: true }));
  const drop = !element.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
  return over && drop;
}"""
PLACES = (
    "window",
    ".result-pane",
    "header.bar",
    "textarea[name=prompt]",
    "[data-field=steps] input.number",
    "[data-field=steps] input[type=range]",
    ".model-row",
    "[data-field=sampler] select",
    ".tab-wrapper",
    "#generate",
)


def act(page: Page, kind: str, target: str = "window", **what: Any) -> bool:
    """Whether the page keeps the browser from doing what it would."""
    what["files"] = [(name, mime, base64.b64encode(data).decode()) for name, mime, data in what.get("files", ())]
    kept: bool = page.evaluate(_ACT, [kind, target, what])
    return kept


PICTURE = ("sea.png", "image/png", picture_bytes())
UNUSABLE: list[tuple[str, dict[str, Any], str]] = [
    (
        "link",
        {"texts": {"text/uri-list": "https://example.org/a", "text/plain": "https://example.org/a"}},
        "A link can’t be used. Darkroom fetches nothing from other sites.",
    ),
    ("address as text", {"texts": {"text/plain": "https://example.org/a.html"}}, "A link can’t be used."),
    (
        "picture of a page",
        {"texts": {"text/uri-list": ELSEWHERE, "text/html": f'<img src="{ELSEWHERE}">'}},
        "That picture is on another site. Darkroom fetches nothing from other sites. Save the picture first, then drop its file.",
    ),
    ("picture by address", {"texts": {"text/uri-list": f"{ELSEWHERE}.jpg?x=1"}}, "That picture is on another site."),
    (
        "pdf",
        {"files": [("notes.pdf", "application/pdf", b"%PDF-1.4")]},
        "notes.pdf is a PDF. Use a picture file: PNG, JPEG or WebP.",
    ),
    ("video", {"files": [("clip.mp4", "video/mp4", b"x")]}, "clip.mp4 is a video."),
    ("video without a type", {"files": [("clip.MKV", "", b"x")]}, "clip.MKV is a video."),
    ("sound", {"files": [("song.mp3", "audio/mpeg", b"x")]}, "song.mp3 is a sound file."),
    ("text file", {"files": [("notes.txt", "text/plain", b"x")]}, "notes.txt is a text file."),
    ("web page", {"files": [("page.html", "text/html", b"x")]}, "page.html is a web page."),
    ("archive", {"files": [("all.zip", "application/zip", b"x")]}, "all.zip is an archive."),
    (
        "document",
        {"files": [("letter.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", b"x")]},
        "letter.docx is a document.",
    ),
    ("model", {"files": [("ink.safetensors", "", b"x")]}, "ink.safetensors is a model file. Put it into models/"),
    ("shortcut", {"files": [("cat.url", "", b"x")]}, "cat.url is a link, not the picture."),
    ("anything", {"files": [("a.dat", "application/octet-stream", b"x")]}, "a.dat is no picture."),
    (
        "folder",
        {"files": [("holiday", "", b"x")], "folders": ["holiday"]},
        "“holiday” is a folder. Take one picture out of it.",
    ),
    ("empty file", {"files": [("none.png", "image/png", b"")]}, "none.png is empty (0 bytes). Choose another file."),
    (
        "three pictures",
        {"files": [PICTURE, PICTURE, PICTURE]},
        "These are 3 files, and one picture goes here. Take one of them.",
    ),
    (
        "picture and text file",
        {"files": [PICTURE, ("a.txt", "text/plain", b"x")]},
        "These are 2 files, and one picture goes here.",
    ),
    (
        "text",
        {"texts": {"text/plain": "a castle on a hill"}},
        "Text can’t be used here. Drop it on the prompt, or drop a picture file.",
    ),
    ("nothing", {"texts": {"application/x-strange": "1"}}, "What was dropped holds no picture."),
]


def test_a_drop_that_cannot_be_used_says_so_in_one_sentence(visitor: Visitor) -> None:
    page = visitor.page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for name, what, words in UNUSABLE:
        assert act(page, "drop", ".result-pane", **what), name
        expect(page.locator(".undo-bar"), name).to_contain_text(words)
        expect(page.locator("dialog.drop-overlay")).to_be_hidden()
    assert not [url for url in asked if not url.startswith(visitor.site.url) or "/uploads" in url], asked


def test_no_place_of_the_page_lets_a_drop_open_in_its_stead(visitor: Visitor) -> None:
    page = visitor.page
    for place in PLACES:
        for what in (
            {"files": [("notes.pdf", "application/pdf", b"%PDF")]},
            {"texts": {"text/uri-list": "https://example.org/"}},
        ):
            assert act(page, "drop", place, **what), place  # type: ignore[arg-type]
    page.get_by_role("tab", name="Gallery").click()
    page.wait_for_selector(".gallery")
    assert act(page, "drop", ".gallery input[type=search]", files=[("a.html", "text/html", b"x")])
    page.locator(".pill").first.click()
    assert act(page, "drop", "dialog.panel", files=[("a.html", "text/html", b"x")])


def test_a_page_within_the_page_does_not_take_the_drop(visitor: Visitor) -> None:
    page = visitor.page
    page.evaluate(
        "document.querySelector('.result-pane').append(Object.assign(document.createElement('iframe'), { srcdoc: 'x' }))"
    )
    style = "getComputedStyle(document.querySelector('.result-pane iframe')).pointerEvents"
    assert page.evaluate(style) == "auto"
    page.evaluate("""() => { const transfer = new DataTransfer(); transfer.items.add(new File(["x"], "a.png", { type: "image/png" }));
      document.body.dispatchEvent(new DragEvent("dragover", { dataTransfer: transfer, bubbles: true, cancelable: true })); }""")
    assert page.evaluate(style) == "none"
    page.evaluate("document.body.dispatchEvent(new DragEvent('dragleave', { bubbles: true }))")
    page.wait_for_function(f"{style} === 'auto'")


def test_text_dropped_on_a_text_field_is_left_to_the_browser(visitor: Visitor) -> None:
    assert not act(visitor.page, "drop", "textarea[name=prompt]", texts={"text/plain": "a castle"})
    assert act(visitor.page, "drop", "header.bar", texts={"text/plain": "a castle"})


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"files": [("a.pdf", "application/pdf", b"x")]}, "a.pdf is a PDF."),
        ({"texts": {"text/uri-list": ELSEWHERE, "text/html": "<p><IMG src=x>"}}, "Save the picture first"),
        ({"files": [("none.png", "image/png", b"")]}, "none.png is empty (0 bytes)."),
    ],
)
def test_the_place_for_a_picture_says_it_itself(visitor: Visitor, what: dict[str, Any], words: str) -> None:
    page = visitor.page
    page.get_by_role("tab", name="Image to image").click()
    assert act(page, "drop", "#init-image-section .area", **what)
    expect(page.locator("#init-image-section .area .problem")).to_contain_text(words)
    expect(page.locator(".undo-bar")).to_be_hidden()
    assert act(page, "drop", "#init-image-section .area", files=[PICTURE])
    expect(page.locator("#init-image-section .area-name")).to_have_text("sea.png")
    expect(page.locator("#init-image-section .area .problem")).to_be_hidden()


def test_three_files_where_one_goes_say_so_and_where_many_go_the_rest_is_named(visitor: Visitor) -> None:
    page = visitor.page
    page.get_by_role("tab", name="ControlNet").click()
    three = [PICTURE, ("notes.pdf", "application/pdf", b"x"), PICTURE]
    act(page, "drop", "#control-section .area", files=three)
    expect(page.locator("#control-section .area .problem").first).to_contain_text(
        "These are 3 files, and one picture goes here."
    )
    page.get_by_role("tab", name="Image to image").click()
    act(page, "drop", "#init-image-section .area", files=three)
    expect(page.locator("#init-image-section .area .problem")).to_contain_text("1 file can’t be used: notes.pdf.")
    expect(page.get_by_text("Generate makes 2 jobs, one for each file.")).to_be_visible()


def test_a_file_that_is_gone_is_named_and_is_no_broken_connection(visitor: Visitor, tmp_path: Path) -> None:
    page = visitor.page
    page.get_by_role("tab", name="Image to image").click()
    file = picture_file(tmp_path)
    page.evaluate("""() => { const real = Blob.prototype.arrayBuffer;
      Blob.prototype.arrayBuffer = function () { return this.size === 1 ? Promise.reject(new DOMException("gone", "NotReadableError")) : real.call(this); }; }""")
    page.set_input_files("#init-image-section input[type=file] >> nth=0", file)
    expect(page.locator("#init-image-section .area .problem")).to_have_text(
        "hills.png could not be read. Choose it again. A folder can’t be used."
    )
    assert "No connection" not in page.locator(".pill").first.inner_text()


BESIDE: list[tuple[str, dict[str, str]]] = [
    ("Word", {"text/plain": "a castle", "text/html": "<p>a castle</p>", "text/rtf": "{\\rtf1 a castle}"}),
    ("Excel", {"text/plain": "a\tcastle\r\n", "text/html": "<table><tr><td>a</td></tr></table>"}),
    ("browser", {"text/plain": "a castle", "text/html": '<img src="https://example.org/x.png"> a castle'}),
]


@pytest.mark.parametrize(("program", "texts"), BESIDE, ids=[name for name, _ in BESIDE])
def test_text_with_a_picture_beside_it_goes_into_a_text_field_as_text(
    visitor: Visitor, program: str, texts: dict[str, str]
) -> None:
    page = visitor.page
    for field in (
        "textarea[name=prompt]",
        "textarea[name=negative_prompt]",
        "[data-field=seed] input",
        "[data-field=steps] input.number",
    ):
        assert not act(page, "paste", field, files=[PICTURE], texts=texts), field
        expect(page.locator("dialog.drop-overlay")).to_be_hidden()
    assert act(page, "paste", "window", files=[PICTURE], texts=texts)
    expect(page.get_by_role("button", name="Start from it")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Image to image").click()
    assert act(page, "paste", "#init-image-section .area-choose", files=[PICTURE], texts=texts)
    expect(page.locator("#init-image-section .area-name")).to_have_text("sea.png")


@pytest.mark.parametrize("texts", [{}, {"text/plain": "\r\n"}, {"text/html": '<img src="https://example.org/x.png">'}])
def test_a_picture_alone_is_offered_from_a_text_field_too(visitor: Visitor, texts: dict[str, str]) -> None:
    assert act(visitor.page, "paste", "textarea[name=prompt]", files=[PICTURE], texts=texts)
    expect(visitor.page.get_by_role("button", name="Read its recipe")).to_be_visible()


def test_a_pasted_file_that_is_no_picture_says_so(visitor: Visitor) -> None:
    assert act(visitor.page, "paste", "window", files=[("a.pdf", "application/pdf", b"x")])
    expect(visitor.page.locator(".undo-bar")).to_contain_text("a.pdf is a PDF.")
    assert not act(visitor.page, "paste", "window", texts={"text/plain": "words"})


def test_a_picture_of_ours_is_known_by_its_address(visitor: Visitor) -> None:
    page = visitor.page
    visitor.ask("a lighthouse")
    visitor.wait_for("done")
    identity = visitor.view()["cells"][0]["id"]
    page.get_by_role("tab", name="Image to image").click()
    address = f"{visitor.site.url}api/v1/images/{identity}/thumbnail"
    act(
        page,
        "drop",
        "#init-image-section .area",
        texts={"text/uri-list": address, "text/html": f'<img src="{address}">'},
    )
    expect(page.locator("#init-image-section .area-name")).to_have_text("From the gallery")
    visitor.ask("a lighthouse again")
    visitor.wait_for("done")
    assert painted(visitor.site)[-1].init_image is not None


def test_files_and_links_that_are_really_dropped_do_not_open_in_place_of_the_page(
    visitor: Visitor, tmp_path: Path
) -> None:
    """By the browser's own drag, which would navigate."""
    page = visitor.page
    web_page = tmp_path / "notes.html"
    web_page.write_text("<title>gone</title>", "utf-8")
    screen = page.context.new_cdp_session(page)

    def drop(selector: str, items: list[dict[str, str]], files: list[str]) -> None:
        box = page.locator(selector).first.bounding_box()
        assert box
        data = {"items": items, "files": files, "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            screen.send(
                "Input.dispatchDragEvent",
                {"type": kind, "x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2, "data": data},
            )

    before = page.url
    for place in ("header.bar .spring", "textarea[name=prompt]", "[data-field=seed] input", ".result-pane"):
        drop(place, [], [str(web_page)])
        expect(page.locator(".undo-bar")).to_contain_text("notes.html is a web page.")
        drop(place, [{"mimeType": "text/uri-list", "data": "http://127.0.0.1:9/cat.png"}], [])
        expect(page.locator(".undo-bar")).to_contain_text("Save the picture first")
    drop(".result-pane", [], [str(tmp_path)])
    expect(page.locator(".undo-bar")).to_contain_text("is a folder. Take one picture out of it.")
    drop("textarea[name=prompt]", [{"mimeType": "text/plain", "data": "a castle"}], [])
    expect(page.locator("textarea[name=prompt]")).to_have_value("a castle")
    assert page.url == before and page.title() != "gone"
