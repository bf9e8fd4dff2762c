"""Pictures that are sent: on the disk while they arrive, few in memory, bounded, and the memory given back."""

import asyncio
import errno
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from api import image_bodies
from api.image_bodies import ImageBodies, give_back
from contract.errors import QueueFull, StorageFull, StudioError
from tests.support.images import png
from tests.support.serving import Visitor


async def parts(size: int, count: int = 4) -> AsyncIterator[bytes]:
    for _ in range(count):
        await asyncio.sleep(0)
        yield b"x" * (size // count)


def test_no_more_than_a_few_are_in_memory_at_a_time(tmp_path: Path) -> None:
    async def go() -> int:
        bodies, now, most = ImageBodies(tmp_path, at_once=2), 0, 0

        async def one() -> None:
            nonlocal now, most
            async with bodies.received(parts(2_000_000)) as body:
                assert len(body) == 2_000_000
                now += 1
                most = max(most, now)
                await asyncio.sleep(0.01)
                now -= 1

        await asyncio.gather(*(one() for _ in range(12)))
        return most

    assert asyncio.run(go()) == 2


def test_what_arrives_lies_on_the_disk_without_a_name_and_is_gone_afterwards(tmp_path: Path) -> None:
    async def go() -> None:
        bodies = ImageBodies(tmp_path)
        async with bodies.received(parts(3_000_000)):
            assert not list(tmp_path.iterdir()) or sys.platform == "win32"
        assert bodies._bytes == 0

    asyncio.run(go())


def test_too_many_bytes_at_once_are_refused_and_forgotten(tmp_path: Path) -> None:
    async def go() -> None:
        bodies = ImageBodies(tmp_path, most_bytes=1000)
        with pytest.raises(QueueFull):
            async with bodies.received(parts(2000)):
                pass
        async with bodies.received(parts(800)) as body:
            assert len(body) == 800

    asyncio.run(go())


def test_whose_turn_does_not_come_in_time_is_told_so(tmp_path: Path) -> None:
    async def go() -> None:
        bodies = ImageBodies(tmp_path, at_once=1, patience_s=0.05)
        async with bodies.received(parts(100)):
            with pytest.raises(QueueFull) as refused:
                async with bodies.received(parts(100)):
                    pass
            assert refused.value.retry_after_s > 0
        async with bodies.received(parts(100)):
            pass

    asyncio.run(go())


def test_a_sender_that_goes_away_leaves_nothing(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 500
        raise ConnectionResetError

    async def go() -> None:
        bodies = ImageBodies(tmp_path, at_once=1)
        with pytest.raises(ConnectionResetError):
            async with bodies.received(broken()):
                pass
        assert bodies._bytes == 0
        async with bodies.received(parts(100)):
            pass

    asyncio.run(go())


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull), (errno.EACCES, StorageFull), (errno.EMFILE, QueueFull)],
)
def test_a_file_that_can_not_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[StudioError]
) -> None:
    class Full:
        def __init__(self, *_: object, **__: object) -> None: ...
        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None: ...
        def write(self, part: bytes) -> int:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(image_bodies.tempfile, "SpooledTemporaryFile", Full)

    async def go() -> None:
        async with ImageBodies(tmp_path).received(parts(100)):
            pass

    with pytest.raises(kind):
        asyncio.run(go())


def test_twenty_at_once_all_get_through(me: Visitor) -> None:
    picture = png((64, 64))

    async def go() -> list[Any]:
        def one() -> int:
            return me.post("/api/v1/uploads", content=picture).status_code

        return await asyncio.gather(*(asyncio.to_thread(one) for _ in range(20)))

    assert asyncio.run(go()) == [200] * 20


def test_memory_can_be_given_back() -> None:
    give_back()
