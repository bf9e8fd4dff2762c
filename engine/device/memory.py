"""How much memory the machine (or its container) has, how much of it is free, and what becomes of freed memory.

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
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of malloc.h
_UNKNOWN_FREE_SHARE = 0.6  # where the system doesn't say what is free (macOS)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. `free` counts what the system would give up for a program, such as its file cache."""

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
    """Let the C library keep what is freed instead of handing it back at once, until `give_back_freed_memory`.

    glibc maps every large tensor anew and the kernel clears each of its pages: a fifth of the time of a VAE on the
    CPU. Elsewhere nothing is done.
    """
    mallopt = _libc("mallopt")
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def give_back_freed_memory() -> None:
    """Hand what is free back to the system; takes milliseconds, so it is for after an eviction or at rest."""
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
    """What there is now; within the container's limit if there is one."""
    if sys.platform == "win32":
        status = _WindowsStatus(length=ctypes.sizeof(_WindowsStatus))
        ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
        return Memory(status.total, status.free)
    if not _MEMINFO.is_file():
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return Memory(total, int(total * _UNKNOWN_FREE_SHARE))
    return within_container(read_meminfo(_MEMINFO.read_text("ascii")), _CGROUP)


def read_meminfo(text: str) -> Memory:
    """The two lines of /proc/meminfo that matter."""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    total, free = (int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    return Memory(total, free)


def within_container(machine: Memory, cgroup: Path) -> Memory:
    """The same, held to a cgroup's limit (version 2): on a shared host, what the machine has is not ours."""
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
