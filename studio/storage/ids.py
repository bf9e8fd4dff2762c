"""Ids that sort by time, never repeat and never go back when the clock does.

22 hex digits: 12 of milliseconds since the epoch, 4 of a counter, 6 random (so that they can't be guessed
by counting). The first 16 are also the row number of an image: display order = row order.
"""

import re
import secrets
import threading
import time
from collections.abc import Callable

ID_PATTERN = re.compile(r"[0-9a-f]{22}")
_COUNTER_BITS = 16


class IdSource:
    """Hands out ids that only rise.

    Args:
        floor: The newest id handed out in earlier runs of the program, if any.
        clock: Seconds since the epoch.
    """

    def __init__(self, floor: str | None = None, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last = row_number(floor) if floor and is_id(floor) else 0

    def new(self) -> str:
        """A new id, greater than all before it."""
        with self._lock:
            now = int(self._clock() * 1000) << _COUNTER_BITS
            self._last = max(now, self._last + 1)
            return f"{self._last:016x}{secrets.token_hex(3)}"

    def raise_floor(self, identifier: str) -> None:
        """Never hand out an id at or below this one (met in a rebuilt index)."""
        with self._lock:
            self._last = max(self._last, row_number(identifier))


def is_id(text: str) -> bool:
    """Whether a text has the form of an id and fits a row number."""
    return bool(ID_PATTERN.fullmatch(text)) and text[0] < "8"


def row_number(identifier: str) -> int:
    """The first 16 digits as a number below 2^63."""
    return int(identifier[:16], 16)
