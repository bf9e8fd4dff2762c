"""The Text to image tab: recipe on the left, stage on the right, and the event that joins them."""

import gradio as gr

from tabs.parts import part


def txt2img_tab() -> tuple[gr.HTML, gr.HTML]:
    """Lay the tab out.

    Returns:
        The Generate bar, which asks, and the stage, which is told.
    """
    with gr.Row(elem_id="panes"):
        with gr.Column(elem_id="recipe", min_width=0):
            part("prompt_box")
            part("model_row")
            part("size_field")
            part("sampler_fields")
            part("number_fields")
            part("seed_fields")
            part("more_section")
            part("explain_switch")
            bar = part("generate_bar")
        with gr.Column(elem_id="result", min_width=0):
            stage = part("stage")
    return bar, stage
