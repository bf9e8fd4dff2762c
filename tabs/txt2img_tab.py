"""The Text to image tab: recipe on the left, stage on the right, and the event that joins them."""

import gradio as gr

from tabs.parts import Part


def txt2img_tab() -> tuple[Part, Part]:
    """Lay the tab out.

    Returns:
        The Generate bar, which asks, and the stage, which is told.
    """
    with gr.Row(elem_id="panes"):
        with gr.Column(elem_id="recipe", min_width=0):
            Part("prompt_box")
            Part("model_row")
            Part("size_field")
            Part("sampler_fields")
            Part("number_fields")
            Part("seed_fields")
            Part("more_section")
            Part("explain_switch")
            bar = Part("generate_bar")
        with gr.Column(elem_id="result", min_width=0):
            stage = Part("stage")
    return bar, stage
