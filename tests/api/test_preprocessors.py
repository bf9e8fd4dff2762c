"""GET /api/v1/preprocessors: what works, and what to put where for the rest."""

from tests.api.serving import Visitor


def by_id(visitor: Visitor) -> dict[str, dict[str, object]]:
    return {found["id"]: found for found in visitor.get("/api/v1/preprocessors").json()["preprocessors"]}


def test_what_needs_files_is_not_installed_and_says_what_to_do(me: Visitor) -> None:
    found = by_id(me)
    assert found["canny"]["installed"] and found["canny"]["hint"] == ""
    assert found["canny"]["low"] == {"label": "Low threshold", "default": 100, "least": 1, "most": 255}
    assert not found["softedge_hed"]["installed"]
    assert found["softedge_hed"]["hint"] == (
        "Put ControlNetHED.pth (29 MB, huggingface.co/lllyasviel/Annotators) into models/annotators/.")
