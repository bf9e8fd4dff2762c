"""The lines in the served head: the early script, the import map, styles, fonts, modules."""

import json
import re
from pathlib import Path

import pytest

from tabs import head


def imports(lines: str) -> dict[str, str]:
    found = re.search(r'<script type="importmap">(.*?)</script>', lines, re.DOTALL)
    assert found
    table: dict[str, str] = json.loads(found[1])["imports"]
    return table


def test_theme_is_set_before_anything_is_painted() -> None:
    lines = head.head_html()
    assert lines.index('classList.toggle("dark"') < lines.index("<link")


def test_every_module_has_a_versioned_address() -> None:
    table = imports(head.head_html())
    assert set(table) == {f"/page/{path.name}" for path in head.PAGE_DIR.glob("*.js")}
    assert all(re.fullmatch(rf"{re.escape(name)}\?v=[0-9a-f]{{10}}", table[name]) for name in table)


def test_styles_fonts_and_entry_are_named_and_nothing_from_outside() -> None:
    lines = head.head_html()
    for style in head.PAGE_DIR.glob("*.css"):
        assert f'href="/page/{style.name}?v=' in lines
    assert lines.count('as="font"') == 2
    assert '<script type="module" src="/page/darkroom.js?v=' in lines
    assert "http" not in lines


def test_address_changes_with_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in head.PAGE_DIR.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(head, "PAGE_DIR", tmp_path)
    before = imports(head.head_html())
    (tmp_path / "dom.js").write_text("// new", "utf-8")
    after = imports(head.head_html())
    assert [name for name in after if after[name] != before[name]] == ["/page/dom.js"]
