"""Where training runs: on one CUDA device, or as several CPU processes of one thread that average their parameters.

On a CPU that is faster than one process of several threads, and it suffers less from busy neighbors.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch import Tensor, distributed, multiprocessing
from torch.nn.attention import SDPBackend, sdpa_kernel


def best_device() -> torch.device:
    """A CUDA device where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def bfloat(device: torch.device) -> Iterator[None]:
    """Mixed precision by bfloat16 on a device.

    On a CPU attention is plain matrix products: over so few tokens the fused kernel's backward is several times slower.
    """
    kernel = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    with torch.autocast(device.type, dtype=torch.bfloat16), kernel:
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
        work(0)
        return
    rendezvous = folder / "rendezvous"
    rendezvous.unlink(missing_ok=True)
    multiprocessing.spawn(_worker, (work, world, rendezvous), nprocs=world)
