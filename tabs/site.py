"""The whole page as gradio Blocks, and how it is mounted. Tabs are in their own files."""

import gradio as gr
from fastapi import FastAPI

from studio.studio import Studio
from tabs.gallery_tab import gallery_tab
from tabs.page_config import page_config
from tabs.parts import part
from tabs.run_panel import make_runner
from tabs.theme import darkroom_theme
from tabs.txt2img_tab import txt2img_tab


def build_page(studio: Studio) -> gr.Blocks:
    """Header, tabs, and the one event that makes and follows pictures."""
    page = gr.Blocks(title="Darkroom", analytics_enabled=False, fill_width=True)
    with page:
        part("page_header", config=page_config(studio))
        with gr.Tabs(elem_id="tabs", selected="txt2img"):
            with gr.Tab("Text to image", id="txt2img", elem_id="tab-txt2img"):
                bar, stage = txt2img_tab()
            with gr.Tab("Gallery", id="gallery", elem_id="tab-gallery"):
                gallery_tab()
        bar.submit(make_runner(studio), inputs=[bar], outputs=[stage], js="() => window.darkroom.request()",
                   show_progress="hidden", concurrency_limit=None, trigger_mode="multiple",
                   api_visibility="private")
    page.queue(api_open=False, max_size=None, default_concurrency_limit=None)
    return page


def mount_page(app: FastAPI, page: gr.Blocks) -> None:
    """Put the page at "/" of an application whose own routes are already there."""
    gr.mount_gradio_app(
        app, page, "/", theme=darkroom_theme(), footer_links=[], run_history=False,
        ssr_mode=False, show_error=False, enable_monitoring=False, pwa=False, mcp_server=False)
