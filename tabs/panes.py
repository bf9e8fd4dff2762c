"""The two panes that all generating tabs share: recipe on the left, result pane on the right.

A generating tab is a list of sections. They stand in one pane, so that what tabs have in common keeps its
place, its value and the picture beside it when the tab changes; page/panes.js shows those of the chosen tab.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr

from tabs.parts import part


@dataclass(frozen=True, slots=True)
class GeneratingTab:
    """A tab that makes pictures. sections: names of functions in page/, in the order of the page."""

    id: str
    label: str
    sections: tuple[str, ...]


def panes(tabs: Sequence[GeneratingTab]) -> tuple[gr.HTML, gr.HTML]:
    """Lay the panes out.

    Returns:
        The Generate bar, which sends the request, and the result pane, which shows the job.
    """
    with gr.Row(elem_id="panes"):
        with gr.Column(elem_id="recipe", min_width=0):
            part("recipe_sections", sections=_in_order(tabs))
            bar = part("generate_bar")
        with gr.Column(elem_id="result", min_width=0):
            result = part("result_pane")
    return bar, result


def _in_order(tabs: Sequence[GeneratingTab]) -> list[str]:
    """Every section once; one that not all tabs have comes after the section that precedes it in its own tab."""
    order: list[str] = []
    for tab in tabs:
        at = 0
        for name in tab.sections:
            if name not in order:
                order.insert(at, name)
            at = order.index(name) + 1
    return order
