"""Gradio's theme on the page's own tokens; every color is written once, in page/tokens.css."""

import gradio as gr

_CLEAR = "transparent"


def darkroom_theme() -> gr.themes.Base:
    """The plainest gradio theme with the page's custom properties where they are visible."""
    theme = gr.themes.Base(font=("IBM Plex Sans", "system-ui", "sans-serif"), font_mono=("ui-monospace", "monospace"))
    return theme.set(
        body_background_fill="var(--page)",
        body_background_fill_dark="var(--page)",
        body_text_color="var(--ink)",
        body_text_color_dark="var(--ink)",
        background_fill_primary="var(--page)",
        background_fill_primary_dark="var(--page)",
        background_fill_secondary="var(--page)",
        background_fill_secondary_dark="var(--page)",
        border_color_primary="var(--line)",
        border_color_primary_dark="var(--line)",
        block_background_fill=_CLEAR,
        block_background_fill_dark=_CLEAR,
        block_border_width="0px",
        block_border_width_dark="0px",
        block_padding="0px",
        block_shadow="none",
        block_shadow_dark="none",
        block_radius="0px",
        layout_gap="0px",
        form_gap_width="0px",
        loader_color="var(--accent)",
    )
