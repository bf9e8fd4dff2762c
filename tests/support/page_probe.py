"""Some of the page's modules alone in an empty page, with a configuration: rules that need no site."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from tabs.bundle import bundle

PAGE = Path(__file__).parents[2] / "tabs/page"


def probe(browser: Browser, exports: dict[str, Sequence[str]], config: dict[str, Any]) -> Page:
    """A page in which `probe` holds the functions that are named by their module. Close it after use."""
    sources = {path.relative_to(PAGE).as_posix(): path.read_text("utf-8") for path in PAGE.rglob("*.js")}
    names = [name for given in exports.values() for name in given]
    lines = [f'import {{ {", ".join(given)} }} from "./{module}";' for module, given in exports.items()]
    sources["probe.js"] = "\n".join(
        [
            *lines,
            'import { configure } from "./core/config.js";',
            f"configure({json.dumps(config)});",
            f"window.probe = {{ {', '.join(names)} }};",
        ]
    )
    page = browser.new_page()
    page.add_script_tag(content=bundle(sources, "probe.js"))
    return page
