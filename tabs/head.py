"""The parts of the page: the lines of the served <head>, and the files they name.

The theme is set before the first paint; then one style sheet, fonts, one script. URLs have no root (a proxy may serve
the page below a path) and carry a hash of the file's content, so that a browser may keep the file forever and still
gets a new one after an upgrade. No build step: the files are put together at every start.

Gradio's script asks for its parts in four waves, each when the one before has run. gradio_files.txt lists them (a
browser test keeps it true), so that a browser asks for all at once and gets them from memory. Gradio itself is not
imported for that.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tabs.bundle import bundle

PAGE_DIR = Path(__file__).parent / "page"
SCRIPT, STYLE, MARK = "darkroom.js", "darkroom.css", "mark.svg"
STYLES = tuple(
    f"styles/{name}.css"
    for name in (
        "tokens",
        "frame",
        "controls",
        "result",
        "gallery",
        "uploads",
        "mask_editor",
        "layers",
        "models",
        "regions",
    )
)
GRADIO_FILES = Path(__file__).with_name("gradio_files.txt")
FONTS = tuple(f"/static/fonts/IBMPlexSans/IBMPlexSans-{weight}.woff2" for weight in ("Regular", "Bold"))

# Runs before the first paint. darkroom is a stub that queues calls until the script is loaded.
EARLY = """
(() => {
  let theme = "auto";
  try { theme = localStorage.getItem("darkroom.theme") || "auto"; } catch { /* storage is off */ }
  const dark = theme === "dark" || (theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  const root = document.documentElement;
  root.classList.toggle("dark", dark);
  root.style.setProperty("--bg", "var(--page)");
  root.style.setProperty("--bg-dark", "var(--page)");
  const waiting = [];
  window.darkroom = new Proxy({ waiting }, {
    get: (kept, name) => name === "waiting" ? kept.waiting : (...given) => waiting.push([name, given]),
  });
})();
"""


@dataclass(frozen=True, slots=True)
class PageFront:
    """head_html: lines for the <head>; the middleware writes them before </head>. files: content by path."""

    head_html: str
    files: dict[str, bytes]


def page_front(folder: Path = PAGE_DIR) -> PageFront:
    """Put the page's files together.

    Raises:
        ValueError: a module in the folder can't be joined with the others.
    """
    modules = {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in folder.rglob("*.js")}
    files = {
        SCRIPT: bundle(modules, SCRIPT).encode(),
        STYLE: "\n".join((folder / name).read_text("utf-8") for name in STYLES).encode(),
        MARK: (folder / MARK).read_bytes(),
    }
    gradios = gradio_files(GRADIO_FILES.read_text("utf-8").split())
    address = {}
    served = {}
    for name, content in files.items():
        address[name] = f"page/{name}?v={hashlib.sha256(content).hexdigest()[:10]}"
        served[f"/page/{name}"] = content
    lines = [f"<script>{EARLY}</script>", f'<link rel="stylesheet" href="{address[STYLE]}">']
    for path in gradios:
        if path.endswith(".js"):
            lines.append(f'<link rel="modulepreload" href="{path[1:]}">')
        else:
            lines.append(f'<link rel="preload" href="{path[1:]}" as="style" crossorigin>')
    for font in FONTS:
        lines.append(f'<link rel="preload" href="{font[1:]}" as="font" type="font/woff2" crossorigin>')
    lines += [
        f'<link rel="icon" href="{address[MARK]}" type="image/svg+xml">',
        f'<script type="module" src="{address[SCRIPT]}"></script>',
    ]
    return PageFront("\n".join(lines) + "\n", {**served, **gradios, **gradio_files(FONTS)})


def gradio_files(paths: Sequence[str]) -> dict[str, bytes]:
    """Gradio's files at some paths; names of another gradio version are skipped."""
    spec = find_spec("gradio")
    found = {}
    for folder in spec.submodule_search_locations or () if spec else ():
        for path in paths:
            file = Path(folder, "templates", "frontend", path.lstrip("/"))
            if file.is_file():
                found[path] = file.read_bytes()
    return found
