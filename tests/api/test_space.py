"""On a Hugging Face Space: another name, in a frame of the hub's page, cookies that live there."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from api.app import build_app
from studio.settings import Settings
from studio.studio import Studio
from tests.support.fakes import FakeWorker

HOST = "me-darkroom.hf.space"


@pytest.fixture
def space(tmp_path: Path) -> Iterator[FastAPI]:
    settings = Settings(data_dir=tmp_path, host="0.0.0.0", space_host=HOST)
    studio = Studio(settings, FakeWorker())
    studio.start()
    yield build_app(studio, settings)
    studio.stop()


def get(app: FastAPI, path: str = "/api/v1/docs", **headers: str) -> httpx.Response:
    async def go() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"https://{HOST}") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(go())


def test_it_answers_to_the_name_of_the_space_only(space: FastAPI) -> None:
    assert get(space).status_code == 200
    assert get(space, host="other.hf.space").status_code == 421
    assert get(space, host="localhost").status_code == 421


def test_the_hub_may_show_it_in_a_frame(space: FastAPI) -> None:
    visit = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}
    answer = get(space, **visit)
    assert answer.status_code == 200
    policy = get(space, "/api/v1/health").headers["content-security-policy"]
    assert policy.endswith("frame-ancestors 'self' https://huggingface.co")


def test_the_hub_may_call_nothing(space: FastAPI) -> None:
    assert get(space, "/api/v1/health", origin="https://huggingface.co").status_code == 403
    assert get(space, "/api/v1/health", origin=f"https://{HOST}").status_code == 200


def test_its_cookie_lives_in_the_frame(space: FastAPI) -> None:
    cookie = get(space).headers["set-cookie"]
    assert cookie.endswith("HttpOnly; SameSite=None; Secure; Partitioned")
