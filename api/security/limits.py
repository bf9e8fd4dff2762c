"""Limits the size of request bodies, by the bytes that arrive and not only by Content-Length; and open streams.

The body of a refused request is still read for a while, since many clients read no response before they have sent
everything.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope

from api.errors import error_response
from contract.errors import QueueFull, TooLarge

PICTURE_BYTES = 40_000_000
JSON_BYTES = 1_000_000
FORM_BYTES = 10_000
DRAINED_BYTES = 200_000_000
DRAIN_S = 20.0
_PICTURES = ("/api/v1/uploads", "/api/v1/recipes/read")


MOST_STREAMS = 200  # of one owner: a window has two, a program that follows all its jobs one for each


class Streams:
    """Counts the open event streams of each owner: nothing else limits them."""

    def __init__(self, most: int = MOST_STREAMS) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    def check(self, owner: str) -> None:
        """Refuse a stream above the limit. Raises QueueFull."""
        if self._open[owner] >= self._most:
            raise QueueFull(
                f"{self._most} streams of events are open already.",
                "Close windows, or end programs that follow jobs.",
                retry_after_s=5,
            )

    @contextmanager
    def counted(self, owner: str) -> Iterator[None]:
        """Count a stream as open for as long as the `with` lasts."""
        self._open[owner] += 1
        try:
            yield
        finally:
            self._open[owner] -= 1
            if self._open[owner] <= 0:
                del self._open[owner]


def body_limit(method: str, path: str) -> int:
    """The most bytes a request's body may have."""
    if path == "/login":
        return FORM_BYTES
    return PICTURE_BYTES if method == "POST" and path in _PICTURES else JSON_BYTES


class Body:
    """The body of one request, and the response to it.

    When more than `limit` arrives, the application is interrupted and its response replaced by 413.
    """

    def __init__(self, receive: Receive, send: Callable[[Message], Awaitable[None]], limit: int) -> None:
        self._receive = receive
        self._send = send
        self._limit = limit
        self._count = 0
        self._read: bytes | None = None
        self._ended = False
        self._answered = False

    @property
    def _is_too_large(self) -> bool:
        return self._count > self._limit

    def check_announced(self, headers: Headers) -> None:
        """Refuse by Content-Length, before anything is read.

        Raises:
            TooLarge: it says more than the limit, or is no number.
        """
        announced = headers.get("content-length", "0")
        if not announced.isascii() or not announced.isdigit() or int(announced[:20]) > self._limit:
            raise self._too_large()

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The request is larger than {self._limit / 1_000_000:g} MB.", "Send less.")

    async def receive(self) -> Message:
        """The next part, for the application.

        Raises:
            HTTPException: 413, when the limit is passed.
        """
        if self._read is not None:
            read, self._read = self._read, None
            return {"type": "http.request", "body": read, "more_body": False}
        message = await self._receive()
        if message["type"] == "http.request":
            self._count += len(message.get("body", b""))
            self._ended = not message.get("more_body", False)
            if self._is_too_large:
                raise HTTPException(413)
        return message

    async def read(self) -> bytes:
        """The whole body; the application will still receive it.

        Raises:
            TooLarge: it is larger than the limit.
        """
        parts: list[bytes] = []
        while not self._ended:
            try:
                message = await self.receive()
            except HTTPException:
                raise self._too_large() from None
            if message["type"] != "http.request":
                break
            parts.append(message.get("body", b""))
        self._read = b"".join(parts)
        return self._read

    async def send(self, message: Message) -> None:
        """Send a response on, unless the request proved too large before it began."""
        if self._is_too_large and not self._answered:
            return
        self._answered = True
        await self._send(message)

    async def finish(self, scope: Scope) -> None:
        """Send 413 in place of the response that was held back."""
        if self._is_too_large and not self._answered:
            await self.drain()
            self._answered = True
            await error_response(self._too_large())(scope, self._receive, self._send)

    async def drain(self) -> None:
        """Read and discard the rest, within limits."""
        drained = 0
        try:
            async with asyncio.timeout(DRAIN_S):
                while not self._ended and drained < DRAINED_BYTES:
                    message = await self._receive()
                    if message["type"] != "http.request":
                        return
                    drained += len(message.get("body", b""))
                    self._ended = not message.get("more_body", False)
        except TimeoutError:
            return
