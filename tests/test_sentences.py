"""What can reach a person's eye names no route of the API: people press buttons, programs read its documentation."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.fields import RANGES

PROJECT = Path(__file__).resolve().parents[1]
PACKAGES = ("contract", "catalog", "studio", "engine", "api", "tabs", "extensions")
_ROUTE = re.compile(r"/api/|/gradio_api|\b(?:GET|POST|PUT|PATCH|DELETE|HEAD) /|https?://127|\b(?:queue/join|openapi)\b")
_LITERAL = re.compile(r"\"((?:[^\"\\\n]|\\.)*)\"|`((?:[^`\\]|\\.)*)`|'((?:[^'\\\n]|\\.)*)'")


def sentences(path: Path) -> Iterator[str]:
    """Literals with a space in them, formatted ones in one piece; docstrings, and words for programs, are none."""
    tree = ast.parse(path.read_text("utf-8"))
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(node.value)
        elif isinstance(node, ast.JoinedStr):
            skipped |= set(ast.walk(node)) - {node}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        if isinstance(node, ast.JoinedStr):
            text = "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
        if " " in text.strip():
            yield text


def _is_for_programs(text: str) -> bool:
    return text.startswith("</api/v1/docs>; rel=")


@pytest.mark.parametrize("package", PACKAGES)
def test_no_sentence_of_the_server_names_a_route(package: str) -> None:
    found = [
        (path.name, text)
        for path in (PROJECT / package).rglob("*.py")
        for text in sentences(path)
        if _ROUTE.search(text) and not _is_for_programs(text)
    ]
    assert found == []


def test_no_sentence_of_the_page_names_a_route() -> None:
    found = []
    for path in (PROJECT / "tabs/page").rglob("*.js"):
        code = re.sub(r"/\*.*?\*/|(?<![:\"'`])//[^\n]*", "", path.read_text("utf-8"), flags=re.DOTALL)
        texts = (next(filter(None, match), "") for match in _LITERAL.findall(code))
        found += [(path.name, text) for text in texts if " " in text.strip() and _ROUTE.search(text)]
    assert found == []


def test_the_hints_of_all_fields_are_for_people() -> None:
    assert [hint for hint in RANGES.values() if _ROUTE.search(hint) or "sha256" in hint or not hint.endswith(".")] == []


def test_a_route_in_a_sentence_would_be_found(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text(
        '"""GET /api/v1/x is fine here."""\nHINT = f"Use one from GET /api/v1/models, {HINT!r}."\nROUTE = "/api/v1/jobs"\n'
    )
    assert [text for text in sentences(bad) if _ROUTE.search(text)] == ["Use one from GET /api/v1/models, …."]
