"""The memory of the machine or its container: how much there is, how much is free, what happens to freed memory.

Standard library only.
"""

import ctypes
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # malloc.h
_UNKNOWN_FREE_SHARE = 0.6  # where the system doesn't report what is free (macOS)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. `free` includes what the system would give up for a program, such as its file cache."""

    total: int
    free: int


class _WindowsStatus(ctypes.Structure):
    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total", ctypes.c_uint64),
        ("free", ctypes.c_uint64),
        *((f"rest{n}", ctypes.c_uint64) for n in range(5)),
    )


def hold_freed_memory() -> None:
    """Make glibc keep freed memory until `give_back_freed_memory`; does nothing with other C libraries.

    By default glibc maps every large tensor anew and the kernel clears its pages: a fifth of the time of a VAE on
    the CPU.
    """
    mallopt = _libc("mallopt")
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def give_back_freed_memory() -> None:
    """Return freed memory to the system; takes milliseconds, so call it after an eviction or when idle."""
    malloc_trim = _libc("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _libc(name: str) -> Callable[..., int] | None:
    """A function of glibc; None with another C library."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL("libc.so.6"), name)
    except (OSError, AttributeError):
        return None
    return found


def memory() -> Memory:
    """The memory now, within the container's limit if there is one."""
    if sys.platform == "win32":
        status = _WindowsStatus(length=ctypes.sizeof(_WindowsStatus))
        ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
        return Memory(status.total, status.free)
    if not _MEMINFO.is_file():
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return Memory(total, int(total * _UNKNOWN_FREE_SHARE))
    return within_container(read_meminfo(_MEMINFO.read_text("ascii")), _CGROUP)


def read_meminfo(text: str) -> Memory:
    """Memory from the text of /proc/meminfo."""
    size_bytes = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name in ("MemTotal", "MemAvailable"):
            size_bytes[name] = int(value.split()[0]) * 1024
    return Memory(size_bytes["MemTotal"], size_bytes["MemAvailable"])


def within_container(machine: Memory, cgroup: Path) -> Memory:
    """The machine's memory within a cgroup's limit (version 2)."""
    try:
        limit = (cgroup / "memory.max").read_text("ascii").strip()
        used = int((cgroup / "memory.current").read_text("ascii"))
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text("ascii").splitlines())
    except (OSError, ValueError):
        return machine
    if limit == "max":
        return machine
    free = int(limit) - used + int(stat.get("inactive_file", 0))
    return Memory(min(machine.total, int(limit)), max(0, min(machine.free, free)))
