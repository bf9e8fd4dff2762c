"""A request that is sent twice, since its answer was lost, begins one job.

Whoever sends it gives it a key of their own; what was begun under a key is known for as long as the program runs, for
the newest of them.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable

from contract.records import JobHandle

MOST_KEYS = 2000


class Once:
    """Job handles by owner and key. One request with a key is looked at after the other."""

    def __init__(self) -> None:
        self._begun: OrderedDict[tuple[str, str], JobHandle] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, owner: str, key: str | None, begin: Callable[[], JobHandle]) -> JobHandle:
        """What was begun under the key, or what `begin` begins now; without a key always the latter."""
        if not key:
            return begin()
        with self._lock:
            known = self._begun.get((owner, key))
            if known is None:
                known = self._begun[owner, key] = begin()
                if len(self._begun) > MOST_KEYS:
                    self._begun.popitem(last=False)
            return known
