"""House rules of page/: short modules, text only as text, colors once, hooks that survive gradio."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "tabs/page"
MODULES = sorted(PAGE.rglob("*.js"))
STYLES = sorted(PAGE.rglob("*.css"))
# From the lowest floor to the highest; darkroom.js stands on top of all.
FOLDERS = (
    "ui",
    "core",
    "form",
    "jobs",
    "mask_editor",
    "models",
    "guidance",
    "sections",
    "inpaint",
    "controlnet",
    "lora",
    "prompt",
    "regions",
    "result",
    "gallery",
    "shell",
)
_MARKUP = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser")
_COLOR = re.compile(r"#[0-9a-fA-F]{3,8}\b(?![\w-])|rgba?\(|hsla?\(")
_EXPORT = re.compile(r"export (?:async )?(?:function|const|class) (\w+)")
_IMPORT = re.compile(r"import \{([^}]*)\} from \"(\.{1,2}/[\w./]+)\"")


def code(module: Path) -> str:
    return re.sub(r"/\*.*?\*/|(?<!:)//[^\n]*", "", module.read_text("utf-8"), flags=re.DOTALL)


def test_every_folder_is_looked_at() -> None:
    """A glob that finds almost nothing would let everything pass."""
    assert len(MODULES) > 100 and len(STYLES) == 10
    assert {path.parent for path in MODULES} >= {PAGE} | {PAGE / name for name in FOLDERS}


@pytest.mark.parametrize(("folder", "below"), [(name, set(FOLDERS[:at])) for at, name in enumerate(FOLDERS)])
def test_a_folder_imports_only_from_those_below_it(folder: str, below: set[str]) -> None:
    modules = list((PAGE / folder).glob("*.js"))
    assert 2 <= len(modules) <= 20
    for module in modules:
        for _, target in _IMPORT.findall(code(module)):
            assert (module.parent / target).resolve().parent.name in below | {folder}, f"{module.name} imports {target}"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_module_is_short_says_what_it_is_for_and_makes_no_markup(module: Path) -> None:
    text = module.read_text("utf-8")
    assert text.startswith("// "), "begins with what it is for"
    assert len(text.splitlines()) <= 400
    assert not _MARKUP.search(code(module))
    assert not _COLOR.search(code(module))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_every_import_is_there_and_used(module: Path) -> None:
    text = code(module)
    for names, target in _IMPORT.findall(text):
        exported = set(_EXPORT.findall(code(module.parent / target)))
        for name in (part.strip() for part in names.split(",")):
            assert name in exported, f"{module.name}: {target} has no {name}"
            assert len(re.findall(rf"\b{name}\b", text)) > 1, f"{module.name}: {name} is not used"


def test_every_export_is_used_somewhere() -> None:
    everything = {module: code(module) for module in MODULES}
    for module, text in everything.items():
        for name in _EXPORT.findall(text):
            inside = len(re.findall(rf"\b{name}\b", text)) > 1
            outside = any(re.search(rf"\b{name}\b", other) for one, other in everything.items() if one != module)
            assert inside or outside, f"{module.name}: nobody uses {name}"
            assert outside or module.name == "darkroom.js", f"{module.name}: {name} need not be exported"


@pytest.mark.parametrize("style", STYLES, ids=lambda path: path.name)
def test_colors_and_sizes_of_text_come_from_the_tokens(style: Path) -> None:
    text = re.sub(r"/\*.*?\*/", "", style.read_text("utf-8"), flags=re.DOTALL)
    assert "svelte-" not in text and "gradio-container-" not in text
    assert not re.search(r"font-weight:\s*(?!400|700)\d", text)
    if style.name == "tokens.css":
        return
    assert not _COLOR.search(text)
    assert set(re.findall(r"font:\s*([^;!]+)", text)) <= {
        f"var(--{name})" for name in ("hint", "label", "body", "prompt", "title", "headline", "mono")
    } | {"var(--body) "}
    outside = re.sub(r"@(?:media|container)[^{]*\{|@keyframes[^}]*\}\s*\}", "", text)
    tops = re.findall(r"^ {0,2}([^\s&@}][^{};]*)\{", outside, flags=re.MULTILINE)
    assert all(".gradio-container" in top or top.startswith(("html", ".explains &")) for top in tops), tops
