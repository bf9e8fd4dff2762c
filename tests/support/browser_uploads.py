"""Pictures that visitors bring, and what was asked of the worker."""

import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from contract.recipe import Recipe
from contract.tasks import Generate
from tests.support.browser_site import Site


def picture_file(folder: Path, name: str = "hills.png", width: int = 192, height: int = 128) -> Path:
    """A PNG of one's own: a gradient that no other size has."""
    image = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    path = folder / name
    image.save(path)
    return path


def picture_bytes(width: int = 64, height: int = 64) -> bytes:
    """The same without a file."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def bring(page: Page, section: str, path: Path) -> None:
    """Choose a file in the drop area of a section (its element id)."""
    page.set_input_files(f"#{section} input[type=file] >> nth=0", path)
    expect(page.locator(f"#{section} .area-full").first).to_be_visible()


def painted(site: Site) -> list[Recipe]:
    """The recipes that the worker was given, oldest first."""
    return [work_item.task.recipe for work_item in site.worker.work_items if isinstance(work_item.task, Generate)]
