"""Where training runs, and in which precision: on one CUDA device, or as several CPU processes.

The CPU processes have one thread each and average their parameters. That is faster than one process of several threads,
and it suffers less from busy neighbors.
"""

import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor, distributed, multiprocessing
from torch.nn.attention import SDPBackend, sdpa_kernel


def best_device() -> torch.device:
    """A CUDA device where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fast_dtype(device_type: str) -> torch.dtype:
    """bfloat16, or float32 on a CPU that was found to be no faster in bfloat16 (torch's own setting keeps it)."""
    return torch.get_autocast_dtype("cpu") if device_type == "cpu" else torch.bfloat16


def choose_cpu_dtype() -> None:
    """Set the dtype of autocast on the CPU to that in which a convolution and its backward are faster.

    An Intel Xeon without AMX needs 1.5 times as long in bfloat16, an AMD EPYC saves a quarter. The test takes less than
    a second.
    """
    layer, picture = torch.nn.Conv2d(128, 128, 3, padding=1), torch.randn(32, 128, 8, 8)
    spent: dict[torch.dtype, float] = {}
    for dtype in (torch.float32, torch.bfloat16) * 3:
        begin = perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            layer(picture).float().square().mean().backward()
        spent[dtype] = min(perf_counter() - begin, spent.get(dtype, math.inf))
    torch.set_autocast_dtype("cpu", min(spent, key=lambda dtype: spent[dtype]))


@contextmanager
def bfloat(device: torch.device) -> Iterator[None]:
    """Mixed precision by bfloat16 on a device, where that is faster.

    On a CPU attention is plain matrix products: over so few tokens the fused kernel's backward is several times slower.
    """
    kernel = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast_dtype(device.type) == torch.bfloat16), kernel:
        yield


def meet(parameters: Iterable[Tensor], spent_s: float, world: int) -> float:
    """Average parameters over the processes, in place.

    Returns:
        Seconds trained by the clock of rank 0, so that all end at the same step.
    """
    if world == 1:
        return spent_s
    kept = list(parameters)
    flat = torch.cat([p.detach().reshape(-1) for p in kept] + [torch.zeros(1)])
    distributed.all_reduce(flat)
    with torch.no_grad():
        for parameter, part in zip(kept, (flat[:-1] / world).split([p.numel() for p in kept]), strict=True):
            parameter.copy_(part.view(parameter.shape))  # in place: it keeps channels_last
    clock = torch.tensor([spent_s], dtype=torch.float64)
    distributed.broadcast(clock, 0)
    return float(clock)


def _worker(rank: int, work: Callable[[int], None], world: int, rendezvous: Path) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    torch.set_num_threads(1)
    choose_cpu_dtype()
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous.resolve()}", rank=rank, world_size=world)
    work(rank)
    distributed.destroy_process_group()


def run_together(work: Callable[[int], None], world: int, folder: Path) -> None:
    """Call work(rank) in `world` processes, or here where world is 1.

    Args:
        work: A picklable function of the rank.
        folder: Where the processes find each other; it must exist.
    """
    if world == 1:
        torch.set_num_threads(os.cpu_count() or 1)
        choose_cpu_dtype()
        work(0)
        return
    rendezvous = folder / "rendezvous"
    rendezvous.unlink(missing_ok=True)
    multiprocessing.spawn(_worker, (work, world, rendezvous), nprocs=world)
