"""Gradio's queue, woken by arrivals: it starts events at once, tells progress, cancels, and costs nothing between."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import gradio as gr
import pytest
from fastapi import FastAPI, Request
from gradio.data_classes import PredictBodyInternal

from tabs.queue_wakes import WokenQueue, wake_by_arrivals

pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")


class Opened:
    """A page whose queue runs in the test's own event loop."""

    def __init__(self, handler: Any, *, limit: int | None = None, most: int = 40) -> None:
        with gr.Blocks(analytics_enabled=False) as page:
            field = gr.HTML("")
            gr.Button("Go").click(handler, field, field, concurrency_limit=limit)
        page.max_threads = most
        page.queue(api_open=False)
        assert wake_by_arrivals(page)
        gr.mount_gradio_app(FastAPI(), page, "/", ssr_mode=False)
        self.page, self.queue = page, page._queue
        self.queue.set_server_app(page.app)

    async def __aenter__(self) -> "Opened":
        self.page.run_startup_events()
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *reason: object) -> None:
        self.queue.close()

    async def push(self, session: str = "s") -> str:
        request = Request(
            {
                "type": "http",
                "method": "POST",
                "path": "/gradio_api/queue/join",
                "headers": [],
                "query_string": b"",
                "server": ("127.0.0.1", 7860),
                "scheme": "http",
                "root_path": "",
            }
        )
        (number,) = self.page.fns
        body = PredictBodyInternal(session_hash=session, fn_index=number, data=["x"], request=request)
        taken, event, _ = await self.queue.push(body, request, None)
        assert taken
        return str(event)

    async def until(self, kind: str, session: str = "s") -> Any:
        async with asyncio.timeout(10):
            while True:
                message = await self.queue.pending_messages_per_session[session].get()
                if message.msg == kind:
                    return message


def test_an_event_is_started_when_it_comes_and_ended() -> None:
    async def go() -> None:
        async with Opened(lambda value: value + "!") as opened:
            for _ in range(3):
                await opened.push()
                assert (await opened.until("process_completed")).output["data"] == ["x!"]

    asyncio.run(go())


def test_what_waits_for_room_is_started_when_there_is_some() -> None:
    async def go() -> None:
        gate = asyncio.Event()

        async def handler(value: str) -> str:
            await gate.wait()
            return value

        async with Opened(handler, most=2) as opened:
            for session in "abcde":
                await opened.push(session)
            gate.set()
            for session in "abcde":
                await opened.until("process_completed", session)

    asyncio.run(go())


def test_a_limit_of_one_is_kept() -> None:
    async def go() -> None:
        running: list[int] = []

        async def handler(value: str) -> str:
            running.append(1)
            assert len(running) == 1
            await asyncio.sleep(0.01)
            running.pop()
            return value

        async with Opened(handler, limit=1) as opened:
            for session in "abc":
                await opened.push(session)
            for session in "abc":
                assert (await opened.until("process_completed", session)).success

    asyncio.run(go())


def test_a_running_event_is_found_by_its_name_and_cancelled() -> None:
    async def go() -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def handler(value: str) -> AsyncIterator[str]:
            try:
                begun.set()
                await asyncio.sleep(60)
                yield value
            finally:
                ended.set()

        async with Opened(handler) as opened:
            await opened.push()
            await begun.wait()
            from gradio.utils import cancel_tasks

            (number,) = opened.page.fns
            await cancel_tasks({f"s_{number}"})
            async with asyncio.timeout(5):
                await ended.wait()

    asyncio.run(go())


def test_progress_is_told() -> None:
    async def go() -> None:
        def handler(value: str, progress: gr.Progress = gr.Progress()) -> str:  # noqa: B008
            progress(0.5, desc="half")
            return value

        async with Opened(handler) as opened:
            await opened.push()
            message = await opened.until("progress")
            assert message.progress_data[0].desc == "half"
            await opened.until("process_completed")

    asyncio.run(go())


def test_a_queue_in_which_nothing_happens_goes_round_no_more() -> None:
    async def go() -> None:
        async with Opened(lambda value: value) as opened:
            await opened.push()
            await opened.until("process_completed")
            woken = opened.queue.start_processing.__self__
            assert isinstance(woken, WokenQueue)
            before = -1
            async with asyncio.timeout(5):
                while woken.rounds != before:  # one that is late may still come; then none does
                    before = woken.rounds
                    await asyncio.sleep(0.08)

    asyncio.run(go())


@pytest.fixture
def stock() -> Iterator[gr.Blocks]:
    with gr.Blocks(analytics_enabled=False) as page:
        gr.HTML("")
    yield page.queue()


def test_a_queue_of_another_shape_is_left_alone_and_said(stock: gr.Blocks, caplog: pytest.LogCaptureFixture) -> None:
    del stock._queue.active_jobs
    with caplog.at_level(logging.WARNING):
        assert not wake_by_arrivals(stock)
    assert "active_jobs" in caplog.text
    assert "start_processing" not in vars(stock._queue)


def test_a_method_with_other_parameters_is_another_shape(stock: gr.Blocks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stock._queue, "push", lambda body: None)
    assert not wake_by_arrivals(stock)
