"""The start refuses to serve a page that would read a file it did not receive, or fetch an address."""

from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest
from fastapi import FastAPI
from gradio import processing_utils

from api.page_slot import PageSlot
from api.security.selftest import FAR_ADDRESS, self_test
from contract.errors import StudioError
from tests.support.serving import mount_small_page


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[gr.Blocks]:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(processing_utils, "async_transport", None)  # put back afterwards
    app = FastAPI()
    app.state.page_slot = PageSlot("", "'self'", lambda page: page)
    yield mount_small_page(app)


async def fetch(address: str) -> object:
    return await processing_utils.async_ssrf_protected_get(address)


def test_a_sealed_page_may_be_served(page: gr.Blocks) -> None:
    self_test(page, fetch)


def test_a_page_that_reads_files_is_refused_and_leaves_no_copy(page: gr.Blocks, tmp_path: Path) -> None:
    page.has_launched = False
    with pytest.raises(StudioError, match="read files that nobody gave it"):
        self_test(page, fetch)
    assert not list(tmp_path.rglob("canary-*.txt"))


def test_a_page_that_refuses_for_another_reason_proves_nothing(
    page: gr.Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*given: object, **named: object) -> None:
        raise ValueError("something else")

    monkeypatch.setattr(page, "process_api", fail)
    with pytest.raises(StudioError, match="read files"):
        self_test(page, fetch)


def test_a_page_that_fetches_is_refused(page: gr.Blocks) -> None:
    asked: list[str] = []

    async def try_it(address: str) -> object:
        asked.append(address)
        raise ConnectionError("no route")

    with pytest.raises(StudioError, match="fetch addresses"):
        self_test(page, try_it)
    assert asked == [FAR_ADDRESS]


def test_a_page_that_got_an_answer_is_refused(page: gr.Blocks) -> None:
    async def answered(address: str) -> object:
        return "200 OK"

    with pytest.raises(StudioError, match="fetch addresses"):
        self_test(page, answered)
