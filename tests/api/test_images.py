"""Finished pictures over HTTP: by id, by their owner, as what they are."""

import os
from pathlib import Path

import pytest

from tests.support.serving import Site, Visitor

ACTIONS = [
    ("GET", ""),
    ("GET", "/thumbnail"),
    ("GET", "/record"),
    ("GET", "/recipe"),
    ("DELETE", ""),
    ("POST", "/restore"),
    ("PUT", "/favorite"),
]


def test_a_picture_is_a_png_that_may_be_kept(me: Visitor) -> None:
    answer = me.get(f"/api/v1/images/{me.picture()}")
    assert answer.status_code == 200 and answer.content.startswith(b"\x89PNG")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert "content-encoding" not in answer.headers and "content-disposition" not in answer.headers


def test_a_thumbnail_is_small_and_what_it_says(me: Visitor) -> None:
    answer = me.get(f"/api/v1/images/{me.picture(width=512, height=512)}/thumbnail")
    assert answer.status_code == 200 and answer.headers["content-type"] in ("image/jpeg", "image/webp")
    assert len(answer.content) < 30_000


@pytest.mark.parametrize("kind", ["", "/thumbnail"])
def test_a_picture_that_the_browser_has_is_not_sent_again(me: Visitor, kind: str) -> None:
    address = f"/api/v1/images/{me.picture()}{kind}"
    tag = me.get(address).headers["etag"]
    again = me.get(address, headers={"If-None-Match": f'"other", W/{tag}'})
    assert again.status_code == 304 and again.content == b"" and again.headers["etag"] == tag
    assert me.get(address, headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_download_has_a_safe_name(me: Visitor) -> None:
    image = me.picture("../../evil\r\nSet-Cookie: a=b", seed=7)
    answer = me.get(f"/api/v1/images/{image}?download=1")
    assert answer.headers["content-disposition"] == f'attachment; filename="darkroom-{image}-7.png"'


def test_the_gallery_is_paged_newest_first(me: Visitor) -> None:
    images = me.finish(me.paint(count=3))["image_ids"]
    first = me.get("/api/v1/images", params={"limit": 2}).json()
    assert [image["id"] for image in first["images"]] == images[:0:-1] and first["total"] == 3
    rest = me.get("/api/v1/images", params={"limit": 2, "before": first["next_before"]}).json()
    assert [image["id"] for image in rest["images"]] == images[:1] and rest["next_before"] is None


def test_a_record_tells_everything_but_the_owner(me: Visitor) -> None:
    image = me.picture(seed=2**60 + 1)
    record = me.get(f"/api/v1/images/{image}/record").json()
    assert record["seed"] == str(2**60 + 1) and record["recipe"]["seed"] == 2**60 + 1
    assert me.get(record["url"]).status_code == me.get(record["thumbnail_url"]).status_code == 200
    assert "owner" not in record and "path" not in record


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=abc", "limit=1e9", "limit=", "before=" + "x" * 65, "search=" + "x" * 501]
)
def test_a_bad_question_is_named(me: Visitor, query: str) -> None:
    answer = me.get(f"/api/v1/images?{query}")
    assert answer.status_code == 422 and answer.json()["code"] == f"invalid_{query.partition('=')[0]}"


@pytest.mark.parametrize(
    "query",
    [
        "before=nope",
        "before=%00",
        "search=%00",
        "search=%22%20OR%201%3D1",
        "search=*",
        "search=%F0%9F",
        "limit=5&limit=6",
    ],
)
def test_an_odd_question_finds_nothing_of_anyone(me: Visitor, you: Visitor, query: str) -> None:
    you.picture()
    answer = me.get(f"/api/v1/images?{query}")
    assert answer.status_code in (200, 422) and not answer.json().get("images")


def test_search_finds_a_word_of_the_prompt(me: Visitor) -> None:
    me.picture("a quiet harbor")
    assert me.get("/api/v1/images?search=harbor").json()["images"]
    assert not me.get("/api/v1/images?search=desert").json()["images"]


@pytest.mark.parametrize(("method", "path"), ACTIONS)
def test_anothers_picture_is_not_there(me: Visitor, you: Visitor, method: str, path: str) -> None:
    image = me.picture()
    answer = you.request(method, f"/api/v1/images/{image}{path}", json={"favorite": True} if method == "PUT" else None)
    assert answer.status_code == 404 and answer.json()["code"] == "not_found"
    assert me.get(f"/api/v1/images/{image}").status_code == 200
    assert not you.get("/api/v1/images").json()["images"]


def test_a_deleted_picture_is_gone_until_it_is_restored(me: Visitor) -> None:
    address = f"/api/v1/images/{me.picture()}"
    assert me.delete(address).status_code == 204
    assert me.get(address).status_code == 404 and me.get(f"{address}/thumbnail").status_code == 404
    assert me.delete(address).status_code == 404
    assert me.post(f"{address}/restore").status_code == 200
    assert me.get(address).status_code == 200


def test_a_favorite_stays_one(me: Visitor) -> None:
    address = f"/api/v1/images/{me.picture()}"
    assert me.put(f"{address}/favorite", json={"favorite": True}).json()["favorite"] is True
    assert me.get(f"{address}/record").json()["favorite"] is True


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"favorite": 1}', b'{"favorite": true, "owner": "x"}', b"\xff", b"[" * 100_000]
)
def test_a_favorite_is_yes_or_no(me: Visitor, body: bytes) -> None:
    answer = me.put(
        f"/api/v1/images/{me.picture()}/favorite", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 422 and answer.json()["code"] == "invalid_favorite"


@pytest.mark.parametrize(
    "spelling",
    [
        "//{id}",
        "/{id}/",
        "/./{id}",
        "/../images/{id}",
        "/%2e%2e/images/{id}",
        "/%2e/{id}",
        "/{id};a=b",
        "/{id}%00",
        "/{id}.png",
        "/{id}%2Fthumbnail%2F..",
        "/..%5C{id}",
        "/%252e%252e/{id}",
        "/{id}%0d%0aX:1",
        "/*",
        "/~",
        "/CON",
        "/%F0%9F%92%A9",
    ],
)
def test_an_odd_spelling_of_a_path_is_not_there(site: Site, me: Visitor, spelling: str) -> None:
    image = me.picture()
    path = f"/api/v1/images{spelling.replace('{id}', image)}"
    status, body = raw_get(site, me, path)
    assert status == 404 and b'"code"' in body and b"PNG" not in body


def raw_get(site: Site, visitor: Visitor, path: str) -> tuple[int, bytes]:
    """GET a path exactly as it is written; httpx would tidy it."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=5)
    cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    try:
        connection.request("GET", path, headers={"Cookie": cookie})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def file_of(site: Site) -> Path:
    return max((site.studio.settings.outputs_dir).rglob("*.png"), key=lambda path: path.stat().st_mtime_ns)


def test_a_file_that_was_removed_is_said_to_be_gone(site: Site, me: Visitor) -> None:
    image = me.picture()
    file_of(site).unlink()
    answer = me.get(f"/api/v1/images/{image}")
    assert answer.status_code == 404 and str(site.studio.settings.data_dir) not in answer.text
    assert me.get(f"/api/v1/images/{image}/recipe").status_code == 200


@pytest.mark.parametrize("content", [b"<html><script>1</script></html>", b"<svg onload=1>", b"", b"RIFFxxxxAVI "])
def test_a_file_that_is_no_picture_any_more_is_not_sent(site: Site, me: Visitor, content: bytes) -> None:
    image = me.picture()
    file_of(site).write_bytes(content)
    assert me.get(f"/api/v1/images/{image}").status_code == 404


def test_a_link_that_leads_out_of_outputs_is_not_followed(site: Site, me: Visitor, tmp_path: Path) -> None:
    image = me.picture()
    file = file_of(site)
    elsewhere = tmp_path / "private.png"
    os.replace(file, elsewhere)
    file.symlink_to(elsewhere)
    assert me.get(f"/api/v1/images/{image}").status_code == 404


def test_a_folder_that_its_owner_moved_and_linked_is_followed(site: Site, me: Visitor, tmp_path: Path) -> None:
    image = me.picture()
    day = file_of(site).parent
    day.rename(tmp_path / "other disk")
    day.symlink_to(tmp_path / "other disk")
    try:
        assert me.get(f"/api/v1/images/{image}").status_code == 200
        assert me.get(f"/api/v1/images/{image}/thumbnail").status_code == 200
        later = me.picture("into the linked folder")
        assert me.get(f"/api/v1/images/{later}").status_code == 200
        day.unlink()  # the disk is not there
        assert me.get(f"/api/v1/images/{image}").status_code == 404
        assert me.get(f"/api/v1/images/{image}/record").json()["missing"]
        day.symlink_to(tmp_path / "other disk")  # and there again
        assert not me.get(f"/api/v1/images/{image}/record").json()["missing"]
        assert not any(found["missing"] for found in me.get("/api/v1/images").json()["images"])
        assert me.get(f"/api/v1/images/{image}").status_code == 200
    finally:
        day.unlink(missing_ok=True)
        (tmp_path / "other disk").rename(day)


def test_a_pipe_in_place_of_a_picture_is_not_waited_for(site: Site, me: Visitor) -> None:
    image = me.picture()
    file = file_of(site)
    data = file.read_bytes()
    file.unlink()
    os.mkfifo(file)
    assert me.get(f"/api/v1/images/{image}").status_code == 404
    site.studio._gallery._thumbnails.remove(image)
    assert me.get(f"/api/v1/images/{image}/thumbnail").status_code == 404
    file.unlink()
    file.write_bytes(data)
    assert me.get(f"/api/v1/images/{image}/thumbnail").status_code == 200
