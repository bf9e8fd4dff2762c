"""The marker `alone`: of two processes of the suite one waits while the other measures (`conftest.py`)."""

import os
import subprocess
import sys
from pathlib import Path

CONFIG = "[pytest]\nmarkers =\n    alone: as in pyproject.toml\n    gpu: too\n"
MEASURED = """
import os, time
from pathlib import Path
import pytest

def note(kind):
    began = time.monotonic()
    time.sleep(0.05)
    with open(Path(__file__).with_name("ran"), "a") as out:
        out.write(f"{kind} {os.environ['PYTEST_XDIST_WORKER']} {began} {time.monotonic()}\\n")
"""
BESIDE = """
@pytest.mark.parametrize("number", range(20))
def test_beside(number): note("beside")
"""
ALONE = """
def test_before(): note("beside")

@pytest.mark.alone
@pytest.mark.parametrize("number", range(3))
def test_alone(number): note("alone")
"""


def test_no_test_runs_beside_one_that_is_alone(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text(CONFIG)
    (tmp_path / "__init__.py").touch()
    (tmp_path / "conftest.py").write_text(Path(__file__).with_name("conftest.py").read_text("utf-8"))
    (tmp_path / "test_beside.py").write_text(MEASURED + BESIDE)
    (tmp_path / "test_some_alone.py").write_text(MEASURED + ALONE)
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "-p", "no:cacheprovider", "."]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    said = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert "24 passed" in said.stdout, said.stdout + said.stderr
    spans: dict[str, list[tuple[float, float]]] = {"alone": [], "beside": []}
    workers = set()
    for line in (tmp_path / "ran").read_text().splitlines():
        kind, worker, began, ended = line.split()
        spans[kind].append((float(began), float(ended)))
        workers.add(worker)
    assert workers == {"gw0", "gw1"} and len(spans["alone"]) == 3
    for began, ended in spans["alone"]:
        assert not [other for other in spans["beside"] if other[0] < ended and began < other[1]]
