"""The model manager's routes: what the owner of the machine may do, and nobody else."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.downloads import download_task
from tests.support.hub import HubHere, hub_here
from tests.support.model_folders import make_model
from tests.support.serving import Site, served, until

DATA = os.urandom(50_000)
BODY = {"source": "owner/model", "files": ["a.safetensors"], "kind": "lora"}
MANAGED = (
    ("POST", "/api/v1/jobs/download", BODY),
    ("POST", "/api/v1/jobs/convert", {"model": "old"}),
    ("POST", "/api/v1/jobs/merge", {"name": "m", "a": "a", "b": "b"}),
    ("GET", "/api/v1/repositories/owner/model", None),
    ("DELETE", "/api/v1/models/starter", None),
)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubHere]:
    monkeypatch.setattr(download_task, "_FLOOR_BYTES", 0)
    with hub_here() as here:
        here.add("owner/model", "a.safetensors", DATA)
        here.add("owner/model", "old.ckpt", DATA)
        here.add("owner/model", "run.py", b"x")
        yield here


@pytest.fixture
def here(hub: HubHere, tmp_path: Path) -> Iterator[Site]:
    with served(tmp_path, hub_endpoint=hub.endpoint) as site:
        yield site


def test_a_repository_is_looked_at_and_a_file_of_it_downloaded(here: Site, hub: HubHere, tmp_path: Path) -> None:
    me = here.visitor()
    found = me.get("/api/v1/repositories/owner/model").json()
    assert [(file["path"], file["is_pickle"]) for file in found["files"]] == [
        ("a.safetensors", False),
        ("old.ckpt", True),
    ]
    assert (found["license"], found["files"][0]["size_bytes"], found["folder"]) == ("mit", len(DATA), [])
    answer = me.post("/api/v1/jobs/download", json=BODY)
    assert answer.status_code == 202
    ended = me.finish(answer.json()["id"])
    assert (ended["state"], ended["type"], ended["title"]) == ("done", "download", "Download a.safetensors")
    assert (tmp_path / "models" / "loras" / "a.safetensors").read_bytes() == DATA
    assert here.visitor().get(f"/api/v1/jobs/{answer.json()['id']}").status_code == 404


def test_progress_is_told_in_bytes(here: Site, hub: HubHere) -> None:
    me = here.visitor()
    hub.gate.clear()
    job = me.post("/api/v1/jobs/download", json=BODY).json()["id"]
    until(lambda: me.get(f"/api/v1/jobs/{job}").json()["total_bytes"] == len(DATA))
    row = me.get("/api/v1/queue").json()["rows"][0]
    assert (row["type"], row["total_bytes"], row["prompt"]) == ("download", len(DATA), "Download a.safetensors")
    stranger = here.visitor().get("/api/v1/queue").json()["rows"][0]
    assert stranger["prompt"] is None and stranger["total_bytes"] is None
    assert me.delete(f"/api/v1/jobs/{job}").status_code == 200
    assert me.finish(job)["state"] == "cancelled"


def test_catalog_models_say_license_size_and_what_is_here(here: Site, tmp_path: Path) -> None:
    found = here.visitor().get("/api/v1/catalog").json()
    assert found["allowed"] and found["refusal"] == "" and found["free_bytes"] > 0
    assert all(
        catalog_model["license"] and catalog_model["terms"] and catalog_model["size_bytes"]
        for catalog_model in found["catalog_models"]
    )
    assert {catalog_model["runs"] for catalog_model in found["catalog_models"] if catalog_model["family"] == "sd1"} == {
        True
    }
    assert not any(catalog_model["installed"] for catalog_model in found["catalog_models"])
    file = tmp_path / "models" / "checkpoints" / "v1-5-pruned-emaonly.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    found = here.visitor().get("/api/v1/catalog").json()
    assert [catalog_model["id"] for catalog_model in found["catalog_models"] if catalog_model["installed"]] == ["sd15"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"source": "evil.example/../x"}, "invalid_source"),
        ({"source": "a/b", "files": ["../x.json"]}, "invalid_files"),
        ({"source": "a/b", "endpoint": "https://evil.example"}, "unknown_field"),
        ({"source": "a/b", "name": "../x"}, "invalid_name"),
        ({"source": "a/b", "kind": "code"}, "invalid_kind"),
        ({}, "invalid_source"),
    ],
)
def test_a_bad_request_is_named(here: Site, hub: HubHere, body: dict[str, object], code: str) -> None:
    answer = here.visitor().post("/api/v1/jobs/download", json=body)
    assert answer.status_code == 422 and answer.json()["code"] == code
    assert hub.asked == []


def test_a_model_is_deleted_by_its_name(here: Site, tmp_path: Path) -> None:
    make_model(tmp_path / "models", "mine")
    here.studio.models(fresh=True)
    me = here.visitor()
    assert me.delete("/api/v1/models/mine").status_code == 204
    assert not (tmp_path / "models" / "mine").exists()
    assert me.delete("/api/v1/models/mine").status_code == 404
    assert me.delete("/api/v1/models/starter").status_code == 403


@pytest.mark.parametrize(("method", "path", "body"), MANAGED)
def test_who_comes_through_another_program_does_not_manage(
    here: Site, hub: HubHere, method: str, path: str, body: dict[str, object] | None
) -> None:
    for name in ("x-forwarded-for", "forwarded", "via", "x-real-ip"):
        answer = here.visitor().request(method, path, json=body, headers={name: "127.0.0.1"})
        assert answer.status_code == 403 and answer.json()["code"] == "not_allowed", name
    assert hub.asked == []


@pytest.mark.parametrize(("method", "path", "body"), MANAGED)
def test_on_a_space_nobody_manages(
    tmp_path: Path, hub: HubHere, method: str, path: str, body: dict[str, object] | None
) -> None:
    with served(tmp_path, space_host="me-demo.hf.space", hub_endpoint=hub.endpoint) as site:
        me = site.visitor()
        assert me.request(method, path, json=body).status_code == 403
        catalog_models = me.get("/api/v1/catalog").json()
        assert (
            catalog_models["allowed"] is False
            and "Space" in catalog_models["refusal"]
            and catalog_models["free_bytes"] is None
        )
    assert hub.asked == []
