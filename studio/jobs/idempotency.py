"""Idempotency keys: a request that is sent again because its answer was lost starts one job.

The client chooses the key. The newest keys are remembered for as long as the program runs.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable

from contract.records import JobHandle

MOST_KEYS = 2000


class Once:
    """Job handles by owner and key. Requests with one key are looked at one after the other; others don't wait."""

    def __init__(self) -> None:
        self._begun: OrderedDict[tuple[str, str], JobHandle] = OrderedDict()
        self._beginning: set[tuple[str, str]] = set()
        self._changed = threading.Condition()

    def begin(self, owner: str, key: str | None, begin: Callable[[], JobHandle]) -> JobHandle:
        """The job that was started under the key, else the one that `begin` starts now; without a key always that."""
        if not key:
            return begin()
        place = (owner, key)
        with self._changed:
            self._changed.wait_for(lambda: place not in self._beginning)
            known = self._begun.get(place)
            if known is not None:
                return known
            self._beginning.add(place)
        try:
            handle = begin()
            with self._changed:
                self._begun[place] = handle
                if len(self._begun) > MOST_KEYS:
                    self._begun.popitem(last=False)
            return handle
        finally:
            with self._changed:
                self._beginning.discard(place)
                self._changed.notify_all()
