"""How much memory there is."""

from pathlib import Path

from engine.device.memory import Memory, memory, read_meminfo, within_container

MACHINE = Memory(16_000_000_000, 9_000_000_000)


def test_this_machine_has_memory() -> None:
    found = memory()
    assert 0 < found.free <= found.total


def test_meminfo_is_read_in_bytes() -> None:
    text = "MemTotal:       24000 kB\nMemFree:  100 kB\nMemAvailable:   12000 kB\nHugePages_Total:  0\n"
    assert read_meminfo(text) == Memory(24_576_000, 12_288_000)


def write(folder: Path, limit: str) -> Path:
    (folder / "memory.max").write_text(limit)
    (folder / "memory.current").write_text("3000000000\n")
    (folder / "memory.stat").write_text("anon 5\ninactive_file 1000000000\n")
    return folder


def test_container_has_what_its_limit_leaves(tmp_path: Path) -> None:
    assert within_container(MACHINE, write(tmp_path, "4000000000\n")) == Memory(4_000_000_000, 2_000_000_000)


def test_container_without_a_limit_has_the_machines(tmp_path: Path) -> None:
    assert within_container(MACHINE, write(tmp_path, "max\n")) == MACHINE
    assert within_container(MACHINE, tmp_path / "none") == MACHINE
