"""The page's own components: each is a gr.HTML whose element a module in page/ fills.

Gradio gives them a place in the layout and an event; they draw themselves, so nothing a person
types ever passes through a template. The module of a part documents what it shows and keeps.
Not a subclass: for those gradio writes a .pyi file into this folder.
"""

from typing import Any

import gradio as gr


def part(name: str, **props: Any) -> gr.HTML:
    """An element that `window.darkroom.<name>(element, props, watch, trigger)` fills.

    Args:
        name: Function and element id; the id is written with hyphens.
        props: JSON values for the module. Later values reach it by watch("value").
    """
    script = f"window.darkroom.{name}(element, props, watch, trigger)  // 'submit'"
    return gr.HTML(
        None,
        html_template="<div></div>",
        js_on_load=script,
        apply_default_css=False,
        elem_id=name.replace("_", "-"),
        elem_classes=["part"],
        **props,
    )
