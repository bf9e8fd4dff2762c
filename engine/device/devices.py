"""Which device runs the model, with which dtypes: chosen by its capabilities, never by its name."""

import gc
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from contract.errors import JobError
from engine.device.memory import memory

_WEIGHTS_SHARE = 0.85  # of a card's memory; the rest is for activations
_LARGE_CARD_BYTES = 40 * 10**9  # from here on the weights of several models lie on it
_COPIES_SHARE = 0.8  # of a card that may be full before a copy is kept on it
_AMPERE = 8  # major compute capability; from here on bfloat16 is native

DeviceChoice = Literal["auto", "cpu", "cuda", "mps"]


@dataclass(frozen=True, slots=True)
class Device:
    """A device and how weights live on it.

    Attributes:
        dtype: Of U-Net and text encoders.
        vae_dtype: Of the VAE; an image that overflows in it is decoded again in float32.
        copies_weights: Weights are copied into fixed storage on the device; else parameters point at host memory.
        pins_memory: Weight buffers are page-locked, so that copies run while the device computes.
        channels_last: Convolution weights use that memory format.
        attention: Which kernels compute it (`attention.py`).
        memory_bytes: Overrides the device's own memory size.
        records_graphs: Evaluations of a denoiser are recorded as CUDA graphs (`cuda_graphs.py`).
        compiles: They are compiled in idle time (`compiling.py`); what was compiled is kept in `compiled_dir`.
        keeps_copies: Weights of models that wait stay on the card while there is room.
        second: Another card, for half of every batch.
        storage_dtype: Of weights that are computed with in float32: cast layer by layer; None keeps them in float32.
    """

    torch_device: torch.device
    label: str
    dtype: torch.dtype = torch.float32
    vae_dtype: torch.dtype = torch.float32
    copies_weights: bool = False
    pins_memory: bool = False
    channels_last: bool = False
    attention: str = "auto"
    memory_bytes: int | None = None
    records_graphs: bool = False
    compiles: bool = False
    compiled_dir: Path | None = None
    keeps_copies: bool = False
    second: torch.device | None = None
    storage_dtype: torch.dtype | None = None

    @property
    def dtype_label(self) -> str:
        """For the provenance of an image: "float16", "float16, VAE float32" or "float32, weights float16"."""
        label = str(self.dtype)
        if self.channels_last and self.torch_device.type == "cpu":  # on a card it is always so
            label += " channels last"
        if self.vae_dtype != self.dtype:
            label += f", VAE {self.vae_dtype}"
        if self.storage_dtype is not None:
            label += f", weights {self.storage_dtype}"
        return label.replace("torch.", "")


def choose_device(choice: DeviceChoice = "auto", threads: int | None = None) -> Device:
    """The best device of this machine, or the one that was chosen.

    Args:
        threads: Of the CPU; None leaves torch's choice (one a core).
    Raises:
        JobError: the machine has no such device.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    if choice == "cuda" and not torch.cuda.is_available():
        raise JobError(
            "This machine has no CUDA card that PyTorch can use.",
            "Use --device cpu, or install the CUDA build of PyTorch.",
            code="no_device",
        )
    if choice == "mps" and not torch.backends.mps.is_available():
        raise JobError("This machine has no Apple GPU.", "Use --device cpu.", code="no_device")
    if choice == "cuda" or (choice == "auto" and torch.cuda.is_available()):
        major, _ = torch.cuda.get_device_capability()
        return Device(
            torch.device("cuda", torch.cuda.current_device()),
            torch.cuda.get_device_name(),
            torch.float16,
            # float16's short exponent overflows in many VAEs; bfloat16's does not.
            vae_dtype=torch.bfloat16 if major >= _AMPERE else torch.float32,
            copies_weights=True,
            pins_memory=True,
            channels_last=True,
            records_graphs=not is_lent(),
            keeps_copies=not is_lent()
            and torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory >= _LARGE_CARD_BYTES,
        )
    if choice == "mps" or (choice == "auto" and torch.backends.mps.is_available()):
        return Device(
            torch.device("mps"), f"Apple GPU ({platform.machine()})", torch.float16, torch.float32, copies_weights=True
        )
    count = torch.get_num_threads()
    return Device(torch.device("cpu"), f"CPU, {count} thread{'' if count == 1 else 's'}")


def cards(device: Device) -> int:
    """How many CUDA cards this process sees, where the device is one of them; else 0."""
    return torch.cuda.device_count() if device.torch_device.type == "cuda" else 0


def second_card(first: torch.device) -> torch.device | None:
    """Another card that computes like the first; None without one."""
    if first.type != "cuda":
        return None
    for number in range(torch.cuda.device_count()):
        is_like = torch.cuda.get_device_capability(number) == torch.cuda.get_device_capability(first)
        if number != first.index and is_like:
            return torch.device("cuda", number)
    return None


def is_lent() -> bool:
    """Whether the card comes and goes with each call (ZeroGPU): nothing that is made on it for later pays off."""
    return bool(os.environ.get("SPACES_ZERO_GPU"))


def device_bytes(device: Device) -> int | None:
    """Bytes that weights may take on the device; None where it has no memory of its own."""
    if device.memory_bytes is not None:
        return device.memory_bytes
    if device.torch_device.type != "cuda":
        return None
    return int(torch.cuda.get_device_properties(device.torch_device).total_memory * _WEIGHTS_SHARE)


def free_bytes(device: Device) -> int:
    """How many bytes new tensors can take now: on the card, torch's unused reserve included, or in the machine."""
    if device.torch_device.type != "cuda":
        return memory().free
    free, _ = torch.cuda.mem_get_info(device.torch_device)
    reserve = torch.cuda.memory_reserved(device.torch_device) - torch.cuda.memory_allocated(device.torch_device)
    return int(free + reserve)


def room_for_copies(device: Device, copied: int) -> int:
    """How many more bytes copies of weights may take on the card; 0 where none are kept.

    Args:
        copied: Bytes that they take.
    """
    if not device.keeps_copies:
        return 0
    if device.torch_device.type != "cuda":
        return (device.memory_bytes or 0) - copied
    total = torch.cuda.get_device_properties(device.torch_device).total_memory
    return max(0, free_bytes(device) - int(total * (1 - _COPIES_SHARE)))


def release() -> None:
    """Free unused memory. Takes up to a second, so only after a failure."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    give_back_pinned()


def give_back_pinned() -> None:
    """Return unused page-locked memory to the system; torch keeps it, and none of its other calls returns it."""
    empty = getattr(torch._C, "_host_emptyCache", None)
    if empty is not None and torch.cuda.is_available():
        torch.cuda.synchronize()  # until all copies out of it are done
        empty()
