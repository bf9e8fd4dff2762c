"""Which PyTorch launch.py installs, from a real index with tiny wheels, into a real .venv."""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import launch
from launch import GB, Machine, Problem, Venv
from tests.support.wheel_index import CPU, ORDINARY, WheelIndex, wheel_index

PINS = ["torch==2.10.0", "torchvision==0.25.0"]
LINUX = Machine(tuple(sys.version_info[:3]), "linux", launch.this_machine().processor, True, False)
CARD = LINUX._replace(has_nvidia=True)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[WheelIndex]:
    with wheel_index() as running:
        monkeypatch.setattr(launch, "CPU_INDEX", f"{running.base}{CPU}")
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("PIP_INDEX_URL", f"{running.base}{ORDINARY}")
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=20 * GB))
        yield running


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "requirements.txt").write_text(
        "\n".join(["# why", *PINS, "xformers==0.0.35; sys_platform == 'linux'\n"])
    )
    return tmp_path


def prepare(project: Path, machine: Machine) -> tuple[set[str], list[str]]:
    """What .venv holds afterwards, pip and setuptools aside, and what was said."""
    said: list[str] = []
    venv = launch.prepare(project, machine, ["requirements.txt"], said.append)
    names = {path.name.removesuffix(".dist-info") for path in venv.packages()}
    return {name for name in names if not name.startswith(("pip-", "setuptools-"))}, said


def test_the_index_has_them(index: WheelIndex) -> None:
    assert launch.cpu_index_has(PINS, LINUX)
    assert index.asked == [f"{CPU}/torch/", f"{CPU}/torchvision/"]
    assert not launch.cpu_index_has(PINS, LINUX._replace(processor="riscv64"))
    assert not launch.cpu_index_has(PINS, LINUX._replace(python=(3, 9, 1)))


@pytest.mark.parametrize("behavior", ["gone", "garbage", "old", "hung"])
def test_an_index_that_is_of_no_use_is_left_alone_soon(
    index: WheelIndex, behavior: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "LOOK_S", 0.5)
    index.behavior = behavior
    began = time.monotonic()
    assert not launch.cpu_index_has(PINS, LINUX)
    assert time.monotonic() - began < 2


def test_an_index_that_refuses_or_is_behind_a_proxy_that_does_is_left_alone(
    index: WheelIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    assert not launch.cpu_index_has(PINS, LINUX)
    assert index.asked == []
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert launch.cpu_index_has(PINS, LINUX)
    monkeypatch.setattr(launch, "CPU_INDEX", "http://127.0.0.1:1/whl/cpu")
    assert not launch.cpu_index_has(PINS, LINUX)


@pytest.mark.parametrize(
    ("machine", "installed", "found"),
    [
        (LINUX, "", "cpu"),
        (CARD, "", ""),
        (CARD._replace(torch="cpu"), "", "cpu"),
        (LINUX._replace(torch="cuda"), "", ""),
        # What is installed stays, of whatever kind, unless another is asked for.
        (LINUX, "2.10.0", ""),
        (LINUX, "2.9.1+rocm6.4", ""),
        (CARD, "2.10.0+cpu", "cpu"),
        (CARD._replace(torch="cuda"), "2.10.0+cpu", ""),
        (LINUX._replace(torch="cpu"), "2.10.0", "cpu"),
        (LINUX._replace(system="darwin"), "", ""),
        (LINUX._replace(system="win32"), "", ""),
        (CARD._replace(system="win32"), "", launch.CUDA_INDEX),
        (CARD._replace(system="win32", torch="cpu"), "", ""),
        (LINUX._replace(system="win32", torch="cuda"), "", launch.CUDA_INDEX),
    ],
)
def test_which_index_is_taken(index: WheelIndex, project: Path, machine: Machine, installed: str, found: str) -> None:
    if installed:
        (project / f".venv/lib/python3.11/site-packages/torch-{installed}.dist-info").mkdir(parents=True)
    venv = Venv(project / ".venv", machine.system)
    wanted = launch.CPU_INDEX if found == "cpu" else found
    assert launch.torch_index(project, ["requirements.txt"], venv, machine, lambda line: None) == wanted


def test_asked_for_and_out_of_reach_is_a_problem(index: WheelIndex, project: Path) -> None:
    index.behavior = "gone"
    with pytest.raises(Problem, match="has no answer for this computer"):
        prepare(project, LINUX._replace(torch="cpu"))


@pytest.mark.parametrize("choice", ["gpu", "rocm", "11"])
def test_a_choice_that_is_none_is_named(choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_TORCH", choice)
    with pytest.raises(Problem, match=f"DARKROOM_TORCH is “{choice}”"):
        launch.this_machine()
    monkeypatch.setenv("DARKROOM_TORCH", " CPU ")
    assert launch.this_machine().torch == "cpu"


def test_without_a_card_then_with_one_then_with_cuda(index: WheelIndex, project: Path) -> None:
    held, said = prepare(project, LINUX)
    assert held == {"torch-2.10.0+cpu", "torchvision-0.25.0+cpu"}
    assert said[0].startswith("No NVIDIA card was found. Taking PyTorch's build")
    assert "2 GB" in said[2] and said[-1].endswith("installed")

    index.asked.clear()
    assert prepare(project, LINUX) == (held, [])
    assert prepare(project, CARD) == (
        held,
        [
            "The card here is not used: .venv has a PyTorch without CUDA. To change: DARKROOM_TORCH=cuda python3 launch.py"
        ],
    )
    with (project / "requirements.txt").open("a") as pins:
        pins.write("# an update\n")
    assert prepare(project, LINUX)[0] == held
    assert index.asked == []

    held, said = prepare(project, CARD._replace(torch="cuda"))
    assert held == {"torch-2.10.0", "torchvision-0.25.0", "xformers-0.0.35"}
    assert said[0] == "Making .venv again: DARKROOM_TORCH asks for another PyTorch." and "9 GB" in said[1]
    with (project / "requirements.txt").open("a") as pins:
        pins.write("# another update, and the card is gone\n")
    assert prepare(project, LINUX)[0] == held
    assert not any(path.startswith(CPU) for path in index.asked)


def test_the_ordinary_ones_where_the_index_does_not_answer(index: WheelIndex, project: Path) -> None:
    index.behavior = "garbage"
    held, said = prepare(project, LINUX)
    assert held == {"torch-2.10.0", "torchvision-0.25.0", "xformers-0.0.35"}
    assert said[0] == "PyTorch's build without CUDA can't be had now: taking the ordinary one." and "9 GB" in said[2]
