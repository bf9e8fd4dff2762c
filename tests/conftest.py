"""For the whole suite, before anything imports torch."""

import os

# As the engine's own process does: threads that spin starve each other on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
