"""For the whole suite, before anything imports torch."""

import gc
import os

# As the engine's own process does: threads that spin starve each other on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_collection_finish() -> None:
    """Take what the imports made out of every later garbage collection: half a million objects that stay.

    The engine collects whenever it lets go of a model; each time cost half of a second.
    """
    gc.collect()
    gc.freeze()
