"""The list of files in docs/architecture.md, from the first lines of the modules: `python -m tests.support.file_list`."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "architecture.md"
HEADING = "## Every file\n"
PACKAGES = ("contract", "catalog", "engine", "studio", "api", "tabs")


def first_line(file: Path) -> str:
    """What a module says it is for, in one line."""
    text = file.read_text("utf-8")
    if file.suffix == ".js":
        comment = re.match(r"(?:// .*\n)+", text)
        words = " ".join(line.removeprefix("// ") for line in comment[0].splitlines()) if comment else ""
    else:
        words = (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0].replace("\n", " ")
    return re.split(r"(?<=[.;:]) (?=[A-Z])", words)[0].strip().rstrip(".")


def folders() -> Iterator[Path]:
    """Every folder of the packages that holds modules, the packages themselves first."""
    for package in PACKAGES:
        yield from sorted({file.parent for suffix in ("py", "js") for file in (ROOT / package).rglob(f"*.{suffix}")})


def file_list() -> str:
    """The list as Markdown: a heading a folder, a line a file."""
    lines: list[str] = []
    for folder in folders():
        inside = folder / "__init__.py"
        about = f": {first_line(inside)}" if inside.is_file() and first_line(inside) else ""
        lines += ["", f"**{folder.relative_to(ROOT).as_posix()}/**{about}", ""]
        files = sorted(file for file in folder.iterdir() if file.suffix in (".py", ".js") and file.stem != "__init__")
        lines += [f"- `{file.name}`: {first_line(file)}" for file in files]
    return "\n".join(lines).strip() + "\n"


if __name__ == "__main__":
    head = DOCUMENT.read_text("utf-8").partition(HEADING)[0]
    DOCUMENT.write_text(f"{head}{HEADING}\n{file_list()}", "utf-8")
