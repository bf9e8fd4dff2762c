"""The page's own components: each is a gr.HTML whose element a module in page/ fills.

Gradio gives them a place in the layout and an event; they draw themselves, so nothing a person
types ever passes through a template. What a part shows and keeps is said in its module.
"""

from typing import Any

import gradio as gr

from gradio.events import Dependency

class Part(gr.HTML):
    """An element that `window.darkroom.<name>(element, props, watch, trigger)` fills.

    Args:
        name: Function and element id; the id is written with hyphens.
        template: What stands there until the module runs; plain HTML without placeholders.
        value: First value; later ones reach the module by watch("value").
        props: JSON values for the module.
    """

    def __init__(self, name: str, *, template: str = "", value: object = None, **props: Any) -> None:
        script = f"window.darkroom.{name}(element, props, watch, trigger)  // 'submit'"
        super().__init__(value, html_template=template or "<div></div>", js_on_load=script,
                         apply_default_css=False, elem_id=name.replace("_", "-"),
                         elem_classes=["part"], **props)

    def get_block_name(self) -> str:
        return "html"
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block
    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component