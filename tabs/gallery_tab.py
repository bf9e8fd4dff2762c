"""The Gallery tab: one part that pages through /api/v1/images and opens a picture large."""

import gradio as gr

from tabs.parts import part


def gallery_tab() -> gr.HTML:
    """Lay the tab out."""
    return part("gallery")
