"""The page that says Darkroom is starting: at "/" while gradio is imported and the real page is built.

Its colors and type are the page's own, so that nothing flashes when the page takes over. It has the browser fetch the
page's files meanwhile, so that they are there by then. `starting.html` is all of it; no gradio here.
"""

import re
from pathlib import Path
from urllib.parse import quote

from tabs.head import EARLY, FONTS, PAGE_DIR, PageFront

_TEMPLATE = Path(__file__).with_name("starting.html")


def starting_html(front: PageFront) -> str:
    """The page, with {{nonce}} where each answer has its own.

    Args:
        front: The parts of the real page, which are fetched ahead.
    """
    tokens = (PAGE_DIR / "styles" / "tokens.css").read_text("utf-8")
    tokens = tokens.replace("../static/", "static/").replace("font-display: swap", "font-display: block")
    lines = [f'<link rel="preload" href="{font[1:]}" as="font" type="font/woff2" crossorigin>' for font in FONTS]
    ahead = re.findall(r'(?:href|src)="((?:page|assets)/[^"]+)"', front.head_html)
    parts = {
        "early": EARLY,
        "tokens": tokens,
        "mark": quote((PAGE_DIR / "mark.svg").read_text("utf-8")),
        "preloads": "\n".join(lines),
        "ahead": " ".join(ahead),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts.get(found[1], found[0]), _TEMPLATE.read_text("utf-8"))
