"""A worker for each further CUDA card of this machine, once the first one's process has counted them.

Counted by the process that has torch: it knows what CUDA_VISIBLE_DEVICES, containers and its own build leave of them,
which the driver's tools don't.
"""

import logging
import threading
from collections.abc import Callable, Mapping

from contract.records import EngineStatus
from contract.work import Worker
from studio.workers.child import STARTING

logger = logging.getLogger(__name__)


class OtherCards:
    """Adds the workers of the cards after the first.

    Args:
        make_worker: Given a device ("cuda:1") and the number of cards.
    """

    replaces_lost = False

    def __init__(self, make_worker: Callable[[str, int], Worker]) -> None:
        self._make_worker = make_worker
        self._add: Callable[[Worker], None] | None = None
        self._lock = threading.Lock()

    def start(self, add: Callable[[Worker], None], remove: Callable[[Worker], None]) -> None:
        """Wait for the first worker's count."""
        self._add = add

    def status(self) -> EngineStatus:
        """As of a worker that starts."""
        return STARTING

    def on_statuses(self, statuses: Mapping[str, EngineStatus]) -> None:
        """The first count adds all others, at once and once."""
        count = max((status.cards for status in statuses.values()), default=0)
        with self._lock:
            add = self._add
            if count == 0 or add is None:
                return
            self._add = None
        if count > 1:
            logger.info("%d cards: one worker for each", count)
        for index in range(1, count):
            add(self._make_worker(f"cuda:{index}", count))

    def stop(self) -> None:
        """Add none any more."""
        self._add = None
