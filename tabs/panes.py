"""What the generating tabs show: each is a list of sections, which stand in one pane that all of them share.

So what tabs have in common keeps its place, its value and the picture beside it when the tab changes;
page/form/panes.js shows the sections of the chosen tab.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GeneratingTab:
    """A tab that makes pictures. sections: names of functions in page/, in the order of the page."""

    id: str
    label: str
    sections: tuple[str, ...]


def section_order(tabs: Sequence[GeneratingTab]) -> list[str]:
    """Every section once; one that not all tabs have comes after the section that precedes it in its own tab."""
    order: list[str] = []
    for tab in tabs:
        at = 0
        for name in tab.sections:
            if name not in order:
                order.insert(at, name)
            at = order.index(name) + 1
    return order
