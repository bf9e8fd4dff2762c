"""The whole page as gradio Blocks, and as an application. Tabs are in their own files."""

import json

import gradio as gr
from fastapi import FastAPI

from studio.studio import Studio
from tabs.controlnet_tab import CONTROLNET
from tabs.gallery_tab import gallery_tab
from tabs.img2img_tab import IMG2IMG
from tabs.inpaint_tab import INPAINT
from tabs.models_tab import models_tab
from tabs.page_config import page_config
from tabs.panes import section_order
from tabs.parts import part
from tabs.queue_wakes import wake_by_arrivals
from tabs.run_panel import make_runner
from tabs.theme import darkroom_theme
from tabs.txt2img_tab import TXT2IMG

GENERATING = (TXT2IMG, IMG2IMG, INPAINT, CONTROLNET)
GALLERY, MODELS = ("gallery", "Gallery"), ("models", "Models")


def build_page(studio: Studio) -> gr.Blocks:
    """Header, tabs, and the one event that makes and follows pictures."""
    page = gr.Blocks(title="Darkroom", analytics_enabled=False, fill_width=True)
    with page:
        names = [*((tab.id, tab.label) for tab in GENERATING), GALLERY, MODELS]
        config = page_config(studio)
        config["tabs"] = [{"id": name, "label": label} for name, label in names]
        config["sections"] = {tab.id: tab.sections for tab in GENERATING}
        config["section_order"] = section_order(GENERATING)
        # As text: gradio copies and compares a value of many parts several times before anything is drawn.
        part("page_header", config=json.dumps(config))
        with gr.Tabs(elem_id="tabs", selected=TXT2IMG.id, overflow_behavior="wrap"):
            for tab in GENERATING:
                gr.Tab(tab.label, id=tab.id, elem_id=f"tab-{tab.id}")
            with gr.Tab(GALLERY[1], id=GALLERY[0], elem_id=f"tab-{GALLERY[0]}"):
                gallery_tab()
            with gr.Tab(MODELS[1], id=MODELS[0], elem_id=f"tab-{MODELS[0]}"):
                models_tab()
        panes = part("recipe_and_result")
        panes.submit(
            make_runner(studio),
            inputs=[panes],
            outputs=[panes],
            js="() => window.darkroom.request()",
            show_progress="hidden",
            concurrency_limit=None,
            trigger_mode="multiple",
            api_visibility="private",
        )
    page.queue(api_open=False, max_size=None, default_concurrency_limit=None)
    wake_by_arrivals(page)
    return page


def page_application(page: gr.Blocks, root_path: str = "") -> FastAPI:
    """The page at "/" of an application of its own, whose lifespan is the page's.

    `root_path` is where a proxy shows it.
    """
    application = FastAPI(openapi_url=None)
    gr.mount_gradio_app(
        application,
        page,
        "/",
        theme=darkroom_theme(),
        footer_links=[],
        run_history=False,
        root_path=root_path or None,
        ssr_mode=False,
        show_error=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
    )
    return application
