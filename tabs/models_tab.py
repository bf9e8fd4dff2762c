"""The Models tab: one part that lists models, and gets, converts, merges and deletes them by the API."""

import gradio as gr

from tabs.parts import part


def models_tab() -> gr.HTML:
    """Lay the tab out; its module builds it when it is first opened."""
    return part("models_tab")
