"""From POST /api/v1/uploads to a picture, once with the real engine on a tiny model: nothing between is faked."""

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from api.app import build_app
from studio.settings import Settings
from studio.studio import Studio
from studio.workers.inline import InlineWorker
from tests.support import tiny
from tests.support.serving import until

SIDE_FILE: dict[str, object] = {"defaults": {"steps": 2, "width": 64, "height": 64, "sampler": "euler"}}


class Real:
    """A studio with the real engine behind its API, asked in this process."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def ask(self, method: str, path: str, **what: Any) -> httpx.Response:
        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7860") as client:
                return await client.request(method, f"/api/v1/{path}", **what)

        return asyncio.run(go())

    def bring(self, image: Image.Image) -> dict[str, str]:
        data = io.BytesIO()
        image.save(data, "PNG")
        return {"sha256": self.ask("POST", "uploads", content=data.getvalue()).json()["sha256"]}

    def made(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
        """Post a job and wait; the record of its picture and the pixels."""
        answer = self.ask("POST", path, json=body)
        assert answer.status_code == 202, answer.text
        job = f"jobs/{answer.json()['id']}"
        until(lambda: self.ask("GET", job).json()["state"] not in ("queued", "running"), 60.0)
        status = self.ask("GET", job).json()
        assert status["state"] == "done", status["error"]
        (image_id,) = status["image_ids"]
        data = self.ask("GET", f"images/{image_id}").content
        return self.ask("GET", f"images/{image_id}/record").json(), np.asarray(Image.open(io.BytesIO(data)))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    folder = tmp_path_factory.mktemp("real")
    tiny.build("sd1", Path(folder / "models" / "starter"), side_file=SIDE_FILE)
    settings = Settings(data_dir=folder / "data", model_dirs=(folder / "models",))
    studio = Studio(settings, InlineWorker({"device": "cpu", "threads": 1}))
    studio.start()
    yield Real(build_app(studio, settings))
    studio.stop()


def test_a_masked_picture_is_repainted_within_the_mask_alone_and_then_outpainted_and_enlarged(real: Real) -> None:
    picture = Image.effect_noise((64, 64), 60).convert("RGB")
    mask = Image.new("RGB", (64, 64))
    mask.paste("white", (8, 8, 40, 40))
    start, hole = real.bring(picture), real.bring(mask)
    first, pixels = real.made(
        "jobs", {"prompt": "a cat", "init_image": {"image": start, "strength": 1.0}, "mask": {"image": hole, "blur": 0}}
    )
    inside = np.asarray(mask)[..., 0] > 0
    assert (pixels[~inside] == np.asarray(picture)[~inside]).all()
    assert (pixels[inside] != np.asarray(picture)[inside]).any(axis=-1).mean() > 0.9

    again = real.ask("POST", f"images/{first['id']}/upload").json()
    second, wider = real.made(
        "jobs",
        {
            "prompt": "a cat",
            "parent": first["id"],
            "init_image": {"image": {"sha256": again["sha256"]}, "outpaint": {"right": 32, "overlap": 16}},
        },
    )
    assert wider.shape == (64, 96, 3) and second["parent"] == first["id"]
    assert (wider[:, :48] == pixels[:, :48]).all()

    third, larger = real.made("jobs/upscale", {"image": {"sha256": again["sha256"]}, "parent": second["id"]})
    assert larger.shape == (128, 128, 3) and third["recipe"] is None and third["upscale"]["scale"] == 2.0


def test_a_brought_picture_can_be_looked_at_by_its_hash(real: Real) -> None:
    picture = real.bring(Image.new("RGB", (9, 7), "teal"))
    answer = real.ask("GET", f"uploads/{picture['sha256']}")
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).size == (9, 7)
    assert real.ask("GET", f"uploads/{'0' * 64}").status_code == 404
    assert real.ask("GET", "uploads/../../etc/passwd").status_code == 404


def odd_pictures() -> dict[str, bytes]:
    """Pictures that are accepted, and are not what one expects."""

    def data(image: Image.Image, kind: str = "PNG", **more: Any) -> bytes:
        out = io.BytesIO()
        image.save(out, kind, **more)
        return out.getvalue()

    turned = Image.Exif()
    turned[0x0112] = 6
    frames = [Image.new("RGB", (40, 30), color) for color in ("red", "blue", "green")]
    return {
        "im20 1 × 1": data(Image.new("RGB", (1, 1), "red")),
        "CMYK": data(Image.new("CMYK", (30, 40)), "JPEG"),
        "im23 16 bit": data(Image.new("I;16", (30, 40), 40_000)),
        "im30 transparent": data(Image.new("RGBA", (30, 40))),
        "im25 turned": data(Image.new("RGB", (30, 40), "red"), "JPEG", exif=turned),
        "im18 animated": data(frames[0], save_all=True, append_images=frames[1:]),
        "31 to 1": data(Image.new("RGB", (8, 248), "red")),
    }


@pytest.mark.parametrize("name", odd_pictures())
def test_an_odd_picture_begins_a_job_like_any_other(real: Real, name: str) -> None:
    start = {"sha256": real.ask("POST", "uploads", content=odd_pictures()[name]).json()["sha256"]}
    size = {"width": 64, "height": 64}
    assert real.made("jobs", {"prompt": "a cat", "init_image": {"image": start}, **size})[1].shape == (64, 64, 3)
    assert real.made("jobs", {"prompt": "a cat", "init_image": {"image": start, "resize": "fill"}})[1].ndim == 3


def test_an_empty_mask_is_refused_and_the_next_job_works(real: Real) -> None:
    start, hole = real.bring(Image.new("RGB", (64, 64), "red")), real.bring(Image.new("RGB", (64, 64)))
    body = {"prompt": "a cat", "init_image": {"image": start}, "mask": {"image": hole}}
    answer = real.ask("POST", "jobs", json=body)
    error = answer.json()
    assert (answer.status_code, error["code"], error["field"]) == (422, "invalid_mask", "mask")
    assert error["message"] == "The mask is empty: nothing would be repainted."
    assert real.made("jobs", {"prompt": "a cat", "init_image": {"image": start}})[1].shape == (64, 64, 3)
