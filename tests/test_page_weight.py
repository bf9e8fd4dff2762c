"""The first load weighs the same with many models as with few: lists are fetched when they are opened."""

from pathlib import Path

from starlette.testclient import TestClient

from app import build_site
from studio.settings import Settings
from studio.studio import Studio
from tests.support.fakes import FakeWorker
from tests.support.model_folders import make_model


def page_bytes(folder: Path, models: int) -> int:
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
        return len(answer.content)
    finally:
        studio.stop()


def test_page_weighs_the_same_with_three_hundred_models_as_with_three(tmp_path: Path) -> None:
    few, many = page_bytes(tmp_path / "few", 3), page_bytes(tmp_path / "many", 300)
    assert abs(many - few) < 0.01 * few, (few, many)
