"""The table of colors (specs: interface, section 4), recomputed from the tokens."""

import re
from pathlib import Path

import pytest

from contract.regions import MAX_REGIONS

TOKENS = Path(__file__).parents[2] / "tabs/page/styles/tokens.css"
GROUNDS = ("page", "surface", "raised", "wall", "sunk")
GRAYS = (*GROUNDS, "line", "line-2", "edge", "ink", "ink-2", "ink-3")


def themes() -> dict[str, dict[str, str]]:
    blocks = re.findall(r"(:root[^{]*)\{([^}]*)\}", TOKENS.read_text("utf-8"))
    found: dict[str, dict[str, str]] = {"light": {}, "dark": {}}
    for selector, body in blocks:
        name = "dark" if ".dark" in selector else "light"
        for token, color in re.findall(r"--([\w-]+):\s*(#[0-9A-Fa-f]{6});", body):
            found[name][token] = color
    return found


def channels(color: str) -> tuple[float, float, float]:
    values = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
    return red, green, blue


def luminance(color: str) -> float:
    red, green, blue = channels(color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, 1.4.3."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def chroma(color: str) -> float:
    """C* of CIELAB under D65."""
    red, green, blue = channels(color)
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.95047
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.08883
    fx, fy, fz = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, luminance(color), z))
    return ((500 * (fx - fy)) ** 2 + (200 * (fy - fz)) ** 2) ** 0.5


@pytest.mark.parametrize(
    ("theme", "token", "lowest"),
    [
        ("light", "ink", 13.9),
        ("dark", "ink", 12.7),
        ("light", "ink-2", 6.5),
        ("dark", "ink-2", 7.1),
        ("light", "ink-3", 5.0),
        ("dark", "ink-3", 5.2),
        ("light", "accent-ink", 5.1),
        ("dark", "accent-ink", 7.4),
        ("light", "bad", 5.7),
        ("dark", "bad", 7.0),
        ("light", "accent", 4.4),
        ("dark", "accent", 6.2),
        ("light", "focus", 4.4),
        ("dark", "focus", 7.4),
        ("light", "edge", 3.2),
        ("dark", "edge", 3.4),
    ],
)
def test_lowest_contrast_over_every_ground_is_what_the_table_says(theme: str, token: str, lowest: float) -> None:
    colors = themes()[theme]
    found = min(contrast(colors[token], colors[ground]) for ground in GROUNDS)
    assert found == pytest.approx(lowest, abs=0.06)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_on_accent_and_on_soft_grounds_can_be_read(theme: str) -> None:
    colors = themes()[theme]
    for text, ground in (
        ("on-accent", "accent"),
        ("on-accent", "accent-hover"),
        ("accent-ink", "accent-soft"),
        ("bad", "bad-soft"),
        *(("on-accent", f"region-{number}") for number in range(1, MAX_REGIONS + 1)),
    ):
        assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_only_orange_and_red_have_color(theme: str) -> None:
    colors = themes()[theme]
    assert {token: round(chroma(colors[token]), 1) for token in GRAYS if chroma(colors[token]) > 5.05} == {}


def test_both_themes_give_every_color() -> None:
    light, dark = themes().values()
    assert set(light) - set(dark) <= {"seed-ink"}
    assert set(dark) <= set(light)
