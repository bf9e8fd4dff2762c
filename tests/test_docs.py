"""The documentation names what is there: every file in a line, every link to something."""

import re
from pathlib import Path

import pytest

from tests.support.file_list import DOCUMENT, HEADING, ROOT, file_list

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_every_file_has_its_line() -> None:
    """`python -m tests.support.file_list` writes the list anew."""
    assert DOCUMENT.read_text("utf-8").partition(HEADING)[2].strip() == file_list().strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text("utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_that_are_named_by_their_path_are_there(page: Path) -> None:
    text = page.read_text("utf-8")
    named = re.findall(
        r"`((?:contract|catalog|engine|studio|api|tabs|tests|benchmarks|training)/[\w./]+\.(?:py|js|md))`", text
    )
    assert [path for path in named if not (ROOT / path).is_file()] == []
