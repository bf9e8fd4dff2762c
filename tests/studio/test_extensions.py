"""Extensions come from folders; a bad one is named and the rest goes on (EX01, EX03)."""

import logging
from pathlib import Path

import pytest

from contract.recipe import RecipeDraft
from studio.extensions import Extensions

GOOD = """
from contract.hooks import hookimpl

@hookimpl
def adjust_recipe(draft):
    return draft.model_copy(update={"prompt": draft.prompt + " {name}"})
"""


def write(root: Path, name: str, code: str) -> None:
    (root / name).mkdir()
    (root / name / "extension.py").write_text(code)


def test_extensions_are_loaded_in_order_and_bad_ones_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, "a_first", GOOD.replace("{name}", "one"))
    write(tmp_path, "b_raises", "1 / 0")
    write(tmp_path, "c_exits", "import sys\nsys.exit(1)")
    write(tmp_path, "d_syntax", "def (")
    write(tmp_path, "e_unknown_hook", "from contract.hooks import hookimpl\n@hookimpl\ndef no_such_hook(): pass\n")
    write(tmp_path, "f_last", GOOD.replace("{name}", "two"))
    (tmp_path / "README.md").write_text("no extension")
    with caplog.at_level(logging.ERROR):
        extensions = Extensions((tmp_path, tmp_path / "nothing"))
    assert set(extensions.names) == {"a_first", "f_last"}
    assert set(extensions.failed) == {"b_raises", "c_exits", "d_syntax", "e_unknown_hook"}
    assert extensions.failed["b_raises"] == "Extension “b_raises” could not be loaded (ZeroDivisionError)."
    assert extensions.adjust(RecipeDraft(prompt="x")).prompt == "x one two"
