"""GET /api/v1/preprocessors: what works, and what to put where for the rest."""

from tests.support.serving import Visitor


def by_id(visitor: Visitor) -> dict[str, dict[str, object]]:
    return {found["id"]: found for found in visitor.get("/api/v1/preprocessors").json()["preprocessors"]}


def test_what_needs_files_is_not_installed_and_says_what_to_do(me: Visitor) -> None:
    found = by_id(me)
    assert found["canny"]["installed"] and found["canny"]["hint"] == ""
    assert found["canny"]["low"] == {"label": "Low threshold", "default": 100, "least": 1, "most": 255}
    assert not found["softedge_hed"]["installed"]
    assert found["softedge_hed"]["hint"] == (
        "Put ControlNetHED.pth (29 MB, huggingface.co/lllyasviel/Annotators) into models/annotators/."
    )


def test_who_sits_at_the_machine_gets_what_to_download(me: Visitor) -> None:
    found = by_id(me)
    assert found["canny"]["downloads"] == []
    (download,) = found["softedge_hed"]["downloads"]  # type: ignore[misc]
    assert {**download, "name": None} == {
        "type": "download",
        "source": "lllyasviel/Annotators",
        "revision": "main",
        "files": ["ControlNetHED.pth"],
        "kind": "annotator",
        "name": None,
    }
    assert me.post("/api/v1/jobs/download", json={**download, "source": "nobody"}).status_code == 422
    poses = found["openpose"]["downloads"]
    assert [len(one["files"]) for one in poses] == [3]  # type: ignore[attr-defined]
    passed_on = me.get("/api/v1/preprocessors", headers={"x-forwarded-for": "10.0.0.1"}).json()["preprocessors"]
    assert not any(one["downloads"] for one in passed_on)
