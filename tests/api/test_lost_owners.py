"""Secrets of the data folder that are lost: the browser on the machine gets its gallery back, and is told."""

from pathlib import Path

import pytest

from tests.support.serving import served

LOST = "nobody knows"


@pytest.mark.parametrize("name", ["cookies.key", "owner.key"])
@pytest.mark.parametrize("content", [b"", b"short", None])
def test_the_gallery_comes_back_to_the_browser_on_this_machine(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    with served(tmp_path) as site:
        me = site.visitor()
        image = me.picture("a castle")
        cookies = dict(me.cookies)
    key = tmp_path / "data" / name
    key.unlink()
    if content is not None:
        key.write_bytes(content)
    if name == "owner.key":  # and nothing that could tell the owner
        for path in (tmp_path / "data").glob("darkroom.sqlite3*"):
            path.unlink()
    with served(tmp_path) as site:
        assert site.studio.wait_until_indexed(10)
        program = site.program()
        assert program.get("/api/v1/images").json()["total"] == 0  # a program that comes first takes nothing away
        me = site.visitor(cookies=cookies)
        found = me.get("/api/v1/images").json()
        assert [picture["id"] for picture in found["images"]] == [image]
        assert me.get(f"/api/v1/images/{image}").status_code == 200
        notices = me.get("/api/v1/engine").json()["notices"]
        assert any(name in notice for notice in notices) if content is not None else len(notices) <= 2
        assert site.visitor().get("/api/v1/images").json()["total"] == 0
        from_elsewhere = me.get("/api/v1/engine", headers={"X-Forwarded-For": "10.0.0.7"})
        assert from_elsewhere.json()["notices"] == []
    with served(tmp_path) as site:
        me = site.visitor(cookies=dict(me.cookies))
        assert me.get("/api/v1/images").json()["total"] == 1 and me.get("/api/v1/engine").json()["notices"] == []
