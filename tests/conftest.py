"""For the whole suite, before anything imports torch."""

import gc
import os

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
