"""Limits the server's connections in time and number, so that enough file handles stay free to save images.

uvicorn waits forever for a head, a body or a reader; here a head has a deadline, bodies and readers a minimum rate. At
the connection limit, a new connection replaces an idle one, or one whose reader is late, from the address that has the
most. Once a request has arrived it has no deadline, so event streams may last.
"""

import asyncio
import functools
import logging
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

logger = logging.getLogger(__name__)
KEPT_FILES = 256  # for pictures, the database, models, pipes of workers
_PULSE_S = 1.0
_ACCEPTED_AT_ONCE = 100  # asyncio accepts as many as its backlog before the first is counted
_TOO_LATE = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 5\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for the other end.

    Attributes:
        head_s: For the whole of a request's head, from the connection or its first byte on.
        idle_s: For the next request of a connection.
        late_s: How far behind its least rate a body or a reader may fall.
        stuck_s: How far behind a reader that may make room for others.
        body_rate, answer_rate: Least rates, bytes/s.
        look_s: How often connections are checked.
    """

    head_s: float = 20.0
    idle_s: float = 5.0
    late_s: float = 30.0
    stuck_s: float = 3.0
    body_rate: float = 20_000.0
    answer_rate: float = 10_000.0
    look_s: float = 1.0


class Connections:
    """All connections of one server.

    Args:
        most: How many there may be.
    """

    def __init__(self, most: int, patience: Patience) -> None:
        self.most = most
        self.patience = patience
        self._open: set[_Connection] = set()
        self._is_looking = False

    def add(self, new: "_Connection") -> bool:
        """Accept a connection; False if there are too many, and none that could be closed for it."""
        if len(self._open) >= self.most and not self._make_room():
            return False
        self._open.add(new)
        if not self._is_looking:
            self._is_looking = True
            new.loop.call_later(self.patience.look_s, self._look, new.loop)
        return True

    def remove(self, gone: "_Connection") -> None:
        """A connection has ended."""
        self._open.discard(gone)

    def __len__(self) -> int:
        return len(self._open)

    def _make_room(self) -> bool:
        shares = Counter(each.address for each in self._open)
        waiting = [each for each in self._open if each.only_waits] or [
            each for each in self._open if each.reader_late_s > self.patience.stuck_s
        ]
        if not waiting:
            logger.warning("There are %d connections and none is idle: new ones are refused.", self.most)
            return False
        worst = max(waiting, key=lambda each: (shares[each.address], each.waited_s))
        logger.warning("There are %d connections: an idle one of %s is closed for a new one.", self.most, worst.address)
        self._open.discard(worst)
        worst.transport.abort()
        return True

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        for each in tuple(self._open):
            each.look()
        self._is_looking = bool(self._open)
        if self._is_looking:
            loop.call_later(self.patience.look_s, self._look, loop)


class _Connection(H11Protocol):
    """uvicorn's connection, checked from time to time."""

    def __init__(self, among: Connections, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._among = among
        self._head_since: float | None = None
        self._received_bytes = 0  # bytes of a body since the last look
        self._unsent = 0
        self._body_late_s = self.reader_late_s = 0.0
        self._looked_at = self.loop.time()
        self._is_given_up = False
        self.address = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self._head_since = self._looked_at = self.loop.time()
        if not self._among.add(self):
            self.transport.write(_TOO_MANY)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._among.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received_bytes += len(data)
        if self._is_between and self._head_since is None:
            self._head_since = self.loop.time()
        super().data_received(data)
        if not self._is_between:
            self._head_since = None

    def on_response_complete(self) -> None:
        self._head_since = None
        super().on_response_complete()

    def resume_writing(self) -> None:
        self.reader_late_s = 0.0
        super().resume_writing()

    @property
    def _is_between(self) -> bool:
        """Whether no request is under way."""
        return self.cycle is None or (self.cycle.response_complete and self.conn.their_state is not h11.SEND_BODY)

    @property
    def only_waits(self) -> bool:
        """Whether closing it would lose nothing but a request that has not fully arrived."""
        return (
            self._is_between or self.conn.their_state is h11.SEND_BODY
        ) and not self.transport.get_write_buffer_size()

    @property
    def waited_s(self) -> float:
        """For how long it has kept the server waiting."""
        return (
            self._body_late_s
            + self.reader_late_s
            + (self.loop.time() - self._head_since if self._head_since is not None else 0.0)
        )

    def look(self) -> None:
        """Close the connection if its other end is too late."""
        if self._is_given_up:
            self.transport.abort()
            return
        patience, now = self._among.patience, self.loop.time()
        passed_s, self._looked_at = now - self._looked_at, now
        received, self._received_bytes = self._received_bytes, 0
        is_body_due = self.conn.their_state is h11.SEND_BODY
        if not is_body_due:
            self._body_late_s = 0.0
        elif not self.flow.read_paused:
            self._body_late_s = max(0.0, self._body_late_s + passed_s - received / patience.body_rate)
        unsent = self.transport.get_write_buffer_size()
        sent, self._unsent = max(0, self._unsent - unsent), unsent
        late_s = self.reader_late_s + passed_s - sent / patience.answer_rate
        self.reader_late_s = max(0.0, late_s) if unsent else 0.0
        is_head_late = self._head_since is not None and now - self._head_since > patience.head_s
        if is_head_late or self._body_late_s > patience.late_s:
            self._is_given_up = True
            if not self.transport.is_closing():
                has_answered = self.cycle is not None and self.cycle.response_started
                self.transport.write(b"" if has_answered else _TOO_LATE)
                self.transport.close()
        elif self.reader_late_s > patience.late_s:
            self.transport.abort()


class _Server(uvicorn.Server):
    """uvicorn's server without its polling: it checked ten times a second whether it should exit."""

    _loop: asyncio.AbstractEventLoop | None = None
    _shall_end = False

    @property
    def should_exit(self) -> bool:
        """Whether to exit; may be set from any thread or signal handler and takes effect at once."""
        return self._shall_end

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        self._shall_end = value
        if value and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._woken.set)

    async def main_loop(self) -> None:
        self._woken = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):  # which also sets the Date header of responses
            with suppress(TimeoutError):
                async with asyncio.timeout(_PULSE_S):
                    await self._woken.wait()


def http_server(
    app: ASGIApp,
    *,
    most_connections: int,
    patience: Patience | None = None,
    proxy_headers: bool = False,
    **choices: Any,
) -> uvicorn.Server:
    """A server for an application, bounded in connections and time.

    Args:
        choices: Further options of uvicorn.
    """
    patience = patience or Patience()
    protocol: Any = functools.partial(_Connection, Connections(most_connections, patience))
    config = uvicorn.Config(
        app,
        http=protocol,
        log_config=None,
        access_log=False,
        lifespan="on",
        ws="none",
        backlog=_ACCEPTED_AT_ONCE,
        timeout_keep_alive=patience.idle_s,  # type: ignore[arg-type]
        timeout_graceful_shutdown=1,
        proxy_headers=proxy_headers,
        server_header=False,
        **choices,
    )
    return _Server(config)


def raise_file_limit() -> int:
    """Let this process open as many files as it may; returns how many that are."""
    try:
        import resource
    except ImportError:  # Windows doesn't count sockets as files
        return 8192
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(hard, 8192)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # macOS reports a hard limit that it doesn't grant
            return soft
        return wanted
    return wanted if soft == resource.RLIM_INFINITY else soft


def most_connections(file_limit: int) -> int:
    """The most connections that leave enough file handles: each may have an image open beside its socket."""
    return max(32, min(1000, (file_limit - KEPT_FILES) // 2))
