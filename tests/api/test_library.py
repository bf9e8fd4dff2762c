"""The Models tab's list by pages, and what stays in memory."""

from collections.abc import Iterator

import pytest

from tests.support.model_folders import make_controlnet, make_model
from tests.support.serving import Site, served


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("stocked")
    for number in range(12):
        make_model(folder / "models", f"model-{number:02}")
    make_controlnet(folder / "models", "canny-small")
    with served(folder) as site:
        site.studio.models(fresh=True)
        yield site


def test_pages_follow_one_another_and_say_how_many_there_are(stocked: Site) -> None:
    me = stocked.visitor()
    pages = [me.get("/api/v1/library", params={"limit": 5, "offset": offset}).json() for offset in (0, 5, 10, 15)]
    assert [len(page["models"]) for page in pages] == [5, 5, 4, 0]
    assert {page["total"] for page in pages} == {14}
    assert pages[0]["kinds"] == {"checkpoint": 13, "controlnet": 1}
    names = [(model["kind"], model["name"]) for page in pages for model in page["models"]]
    assert len(set(names)) == 14


def test_a_kind_and_words_narrow_it(stocked: Site) -> None:
    me = stocked.visitor()
    found = me.get("/api/v1/library", params={"kind": "controlnet"}).json()
    assert [model["name"] for model in found["models"]] == ["canny-small"] and found["kinds"]["checkpoint"] == 13
    found = me.get("/api/v1/library", params={"search": "MODEL-0 sd"}).json()
    assert found["total"] == 10 and found["kinds"] == {"checkpoint": 10}
    assert me.get("/api/v1/library", params={"search": "nothing like it"}).json()["total"] == 0


def test_a_card_says_nothing_of_where_it_lies(stocked: Site) -> None:
    assert str(stocked.studio.settings.data_dir.parent) not in stocked.visitor().get("/api/v1/library").text


def test_memory_is_asked_for_by_name(stocked: Site) -> None:
    me = stocked.visitor()
    for what, body in (("prefetch", {}), ("evict", {}), ("pin", {"pinned": True})):
        answer = me.post(f"/api/v1/models/{what}", json={"name": "model-01", **body})
        assert answer.status_code == 202 and "state" in answer.json()
        assert me.post(f"/api/v1/models/{what}", json={"name": "gone", **body}).status_code == 404
    assert me.post("/api/v1/models/pin", json={"name": "model-01"}).json()["code"] == "invalid_pinned"
    through = {"x-forwarded-for": "127.0.0.1"}
    assert me.post("/api/v1/models/evict", json={"name": "model-01"}, headers=through).status_code == 403
    assert me.post("/api/v1/models/prefetch", json={"name": "model-01"}, headers=through).status_code == 202
