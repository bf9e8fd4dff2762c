"""The lines that stand in the served <head>: theme before the first paint, styles, fonts, modules.

Every address carries a hash of the file's content, the modules by an import map, so that a browser
may keep them for ever and still gets a new one after an upgrade. No build step.
"""

import hashlib
import json
from pathlib import Path

PAGE_DIR = Path(__file__).parent / "page"
STYLES = ("tokens.css", "frame.css", "controls.css", "stage.css", "gallery.css", "layers.css")
ENTRY = "darkroom.js"
_FONTS = ("IBMPlexSans-Regular", "IBMPlexSans-Bold")

# Runs before anything is painted. darkroom is a stand-in that keeps calls until the modules are there.
_EARLY = """
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


def head_html() -> str:
    """Our lines for the <head> of the page; the guard writes them before </head>."""
    modules = sorted(path.name for path in PAGE_DIR.glob("*.js"))
    addresses = {name: _address(name) for name in modules}
    imports = {"imports": {f"/page/{name}": address for name, address in addresses.items()}}
    lines = [f"<script>{_EARLY}</script>",
             f'<script type="importmap">{json.dumps(imports)}</script>']
    lines += [f'<link rel="stylesheet" href="{_address(name)}">' for name in STYLES]
    lines += [f'<link rel="preload" href="/static/fonts/IBMPlexSans/{font}.woff2" as="font" '
              'type="font/woff2" crossorigin>' for font in _FONTS]
    lines += [f'<link rel="modulepreload" href="{addresses[name]}">' for name in modules]
    lines += ['<link rel="icon" href="/page/mark.svg" type="image/svg+xml">',
              f'<script type="module" src="{addresses[ENTRY]}"></script>']
    return "\n".join(lines) + "\n"


def _address(name: str) -> str:
    digest = hashlib.sha256((PAGE_DIR / name).read_bytes()).hexdigest()[:10]
    return f"/page/{name}?v={digest}"
