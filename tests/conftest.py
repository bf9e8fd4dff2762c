"""For the whole suite, before anything imports torch."""

import gc
import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

# As the engine's own process does: threads that spin starve each other on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_collection_finish() -> None:
    """Take what the imports made out of every later garbage collection: half a million objects that stay.

    The engine collects whenever it lets go of a model; each time cost half of a second.
    """
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a card run where there is one: `python -m benchmarks.cuda` runs them too."""
    of_cards = [item for item in items if item.get_closest_marker("gpu")]
    if of_cards:
        import torch

        if not torch.cuda.is_available():
            for item in of_cards:
                item.add_marker(pytest.mark.skip(reason="no CUDA card"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """In one of several processes (`-n`), let a test that is marked `alone` run while no other test does.

    Two locks, which the system lets go of when a process dies: one that every test holds while it runs, and before it
    a turn, so that no test begins while one waits to be alone.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ or sys.platform == "win32":
        return (yield)
    import fcntl

    kind = fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH
    with open(__file__, "rb") as turn, open(Path(__file__).with_name("__init__.py"), "rb") as running:
        fcntl.flock(turn, fcntl.LOCK_EX)
        fcntl.flock(running, kind)
        fcntl.flock(turn, fcntl.LOCK_UN)
        try:
            return (yield)
        finally:
            fcntl.flock(running, fcntl.LOCK_UN)  # a process that the test forked has the file open, too
