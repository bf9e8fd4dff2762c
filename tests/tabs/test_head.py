"""What the page consists of: the early script, one style sheet, fonts, one script, each at a versioned address."""

import re
import shutil
from pathlib import Path

from tabs.head import GRADIO_FILES, PAGE_DIR, STYLES, gradio_files, page_front


def addresses(folder: Path = PAGE_DIR) -> dict[str, str]:
    return dict(re.findall(r'"page/([\w.]+)\?v=([0-9a-f]{10})"', page_front(folder).head_html))


def test_theme_is_set_before_anything_is_painted() -> None:
    lines = page_front().head_html
    assert lines.index('classList.toggle("dark"') < lines.index("<link")


def test_every_file_has_a_versioned_address_and_nothing_comes_from_outside() -> None:
    front = page_front()
    assert set(addresses()) == {"darkroom.js", "darkroom.css", "mark.svg"}
    assert {f"/page/{name}" for name in addresses()} == {path for path in front.files if path.startswith("/page/")}
    assert '<script type="module" src="page/darkroom.js?v=' in front.head_html
    assert front.head_html.count('as="font"') == 2
    assert "http" not in front.head_html


def test_every_module_and_style_of_the_folder_is_in() -> None:
    files = page_front().files
    modules, styles = list(PAGE_DIR.rglob("*.js")), list(PAGE_DIR.rglob("*.css"))
    assert len(modules) > 100 and len(styles) == len(STYLES)
    for path in modules:
        assert f"// {path.relative_to(PAGE_DIR).as_posix()}\n".encode() in files["/page/darkroom.js"]
    for path in styles:
        assert path.read_bytes() in files["/page/darkroom.css"]


def test_address_changes_with_the_content(tmp_path: Path) -> None:
    shutil.copytree(PAGE_DIR, tmp_path, dirs_exist_ok=True)
    before = addresses(tmp_path)
    with (tmp_path / "ui/dom.js").open("a", encoding="utf-8") as module:
        module.write("export const fresh = 1;\n")
    after = addresses(tmp_path)
    assert [name for name in after if after[name] != before[name]] == ["darkroom.js"]


def test_gradios_files_of_the_pinned_version_are_all_there_and_asked_for_at_once() -> None:
    named = GRADIO_FILES.read_text("utf-8").split()
    front = page_front()
    assert list(gradio_files(named)) == named == [path for path in front.files if path.startswith("/assets/")]
    assert all(f'href="{path[1:]}"' in front.head_html for path in named)
