"""Pictures as prompts: each adapter says its kind, and one for faces what picture it wants."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.test_layout import check
from tests.catalog.test_control_models import make_encoder, make_ip_adapter
from tests.support.browser_site import Site, Visitor

PLUS = {"image_proj.latents": [1, 16], "image_proj.proj_in.weight": [4, 1280]}


@pytest.fixture(scope="module", autouse=True)
def adapters(site: Site) -> Iterator[None]:
    folder = site.studio.settings.model_dirs[-1] / "ip_adapter"
    make_encoder(folder / "image_encoder")
    for name in ("ip-adapter-plus_sd15", "ip-adapter-plus-face_sd15"):
        make_ip_adapter(folder / f"{name}.safetensors", 768, 16, 0, **PLUS)
    site.studio.models(fresh=True)
    yield
    shutil.rmtree(folder)
    site.studio.models(fresh=True)


def test_an_adapter_for_faces_says_which_picture_it_wants(visitor: Visitor) -> None:
    page = visitor.page
    page.get_by_text("Picture as prompt", exact=True).first.click()
    page.get_by_role("button", name="Add a picture").click()
    choice = page.locator("[data-field='ip_adapters.model-0'] select")
    hint = page.get_by_text("It is for faces: use a picture of little more than the face.")
    choice.select_option(label="ip-adapter-plus_sd15 · SD 1.x · Plus")
    expect(hint).to_be_hidden()
    choice.select_option(label="ip-adapter-plus-face_sd15 · SD 1.x · Plus")
    expect(hint).to_be_visible()
    check(page, False)
