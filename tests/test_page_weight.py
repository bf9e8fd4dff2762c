"""The first load weighs the same with many models as with few, and no more than is said here.

Lists are fetched when they are opened. Each part of gradio's and each byte of script comes before Generate can be
pressed (benchmarks/pages.py, figure 10; docs/decisions/0050).
"""

import gzip
import json
from collections import Counter
from pathlib import Path

from starlette.testclient import TestClient

from app import build_site
from studio.settings import Settings
from studio.studio import Studio
from tabs.head import page_front
from tests.support.fakes import FakeWorker
from tests.support.model_folders import make_model

# Packed, with some room for what is being added. Larger: load what is not needed at first when it is.
MOST_SCRIPT_BYTES, MOST_STYLE_BYTES = 155_000, 16_000
MOST_FILES_OF_GRADIO = 34


def page_html(folder: Path, models: int) -> str:
    for number in range(models):
        make_model(folder / "models", f"model-{number:04}", title="A model with a title of its own")
    make_model(folder / "models", "starter")
    settings = Settings(data_dir=folder / "data", model_dirs=(folder / "models",), port=7860)
    studio = Studio(settings, FakeWorker())
    studio.start()
    try:
        client = TestClient(build_site(studio, settings), base_url="http://127.0.0.1:7860")
        answer = client.get("/", headers={"Accept": "text/html"})
        assert answer.status_code == 200 and "Darkroom" in answer.text
        assert len(studio.models()) == models + 1
        return answer.text
    finally:
        studio.stop()


def test_page_weighs_the_same_with_three_hundred_models_as_with_three(tmp_path: Path) -> None:
    few, many = len(page_html(tmp_path / "few", 3)), len(page_html(tmp_path / "many", 300))
    assert abs(many - few) < 0.01 * few, (few, many)


def test_gradio_mounts_tabs_and_four_parts_whose_configuration_is_text(tmp_path: Path) -> None:
    """It copies and compares what is no text, and every further part costs a cold page milliseconds."""
    html, before = page_html(tmp_path, 1), "window.gradio_config = "
    page, _ = json.JSONDecoder().raw_decode(html, html.index(before) + len(before))
    kinds = Counter(part["type"] for part in page["components"])
    assert kinds == {"html": 4, "tabs": 1, "tabitem": 6}
    (header,) = [part["props"] for part in page["components"] if part["props"].get("elem_id") == "page-header"]
    assert list(header["props"]) == ["config"] and json.loads(header["props"]["config"])["tabs"][0]["id"] == "txt2img"


def test_what_comes_before_generate_can_be_pressed_stays_small() -> None:
    files = page_front().files
    packed = {name: len(gzip.compress(content, 6)) for name, content in files.items()}
    assert packed["/page/darkroom.js"] < MOST_SCRIPT_BYTES
    assert packed["/page/darkroom.css"] < MOST_STYLE_BYTES
    assert sum(name.startswith("/assets/") for name in files) <= MOST_FILES_OF_GRADIO
    assert sum(name.startswith("/page/") for name in files) == 3
