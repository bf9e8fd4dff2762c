"""One thread for the tiny trainings, which are too small to share, in the dtype that this processor is fast in."""

from collections.abc import Iterator

import pytest
import torch

from training.loops.together import choose_cpu_dtype


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Run torch on one thread, autocast as a training would, and set back what was there."""
    before, dtype = torch.get_num_threads(), torch.get_autocast_dtype("cpu")
    torch.set_num_threads(1)
    choose_cpu_dtype()
    yield
    torch.set_num_threads(before)
    torch.set_autocast_dtype("cpu", dtype)
