"""launch.py without a network and without installing: what it decides, what it says, what it would run."""

import ast
import errno
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import launch
from launch import GB, Machine, Problem, Progress, Venv

LINUX = Machine((3, 11, 7), "linux", "x86_64", True, False)
WINDOWS = Machine((3, 12, 1), "win32", "amd64", True, False)
MAC = Machine((3, 13, 0), "darwin", "arm64", True, False)
WINDOWS_NVIDIA = WINDOWS._replace(has_nvidia=True)
SIDE_BY_SIDE = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
PINS = "# why\ntorch==2.10.0\ntorchvision==0.25.0\ntorchsde==0.2.6\nxformers==0.0.35; sys_platform == 'linux'\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "requirements.txt").write_text(PINS)
    (tmp_path / "requirements-test.txt").write_text("pytest==9.2.0\n")
    (tmp_path / "app.py").write_text("")
    return tmp_path


@pytest.fixture
def venv(project: Path, monkeypatch: pytest.MonkeyPatch) -> Venv:
    """A .venv as `python -m venv` leaves it, for Python 3.11."""
    made = Venv(project / ".venv", "linux")
    made.python.parent.mkdir(parents=True)
    made.python.write_text("")
    (made.folder / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.7\n")
    monkeypatch.setattr(Venv, "has_pip", lambda self: True)
    return made


def free_space(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=int(free)))


# The Python that runs it


def test_source_has_no_syntax_newer_than_python_3_6() -> None:
    ast.parse(Path(launch.__file__).read_text(encoding="utf-8"), feature_version=(3, 6))


def test_only_the_standard_library_is_imported() -> None:
    tree = ast.parse(Path(launch.__file__).read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


@pytest.mark.parametrize("machine", [LINUX, WINDOWS, WINDOWS_NVIDIA, MAC, LINUX._replace(processor="aarch64")])
def test_a_fitting_python_is_accepted(machine: Machine) -> None:
    launch.check_python(machine)


@pytest.mark.parametrize("version", [(3, 6, 15), (3, 10, 13), (3, 14, 0), (4, 0, 0)])
def test_a_python_too_old_or_too_new_is_named_with_the_remedy(version: tuple[int, int, int]) -> None:
    with pytest.raises(Problem) as raised:
        launch.check_python(LINUX._replace(python=version), lambda system: "")
    assert raised.value.sentence == f"it needs Python 3.11 to 3.13, and this is Python {launch.dotted(version)}"
    assert raised.value.remedy == "Install Python 3.12 and run launch.py with it."


def test_another_python_that_fits_is_offered() -> None:
    with pytest.raises(Problem) as raised:
        launch.check_python(LINUX._replace(python=(3, 9, 2)), lambda system: "python3.11")
    assert raised.value.remedy == "Another one is here. Run: python3.11 launch.py"


def test_another_python_must_run_to_be_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **options: object) -> None:
        if command[0] != "python3.11":
            raise subprocess.CalledProcessError(127, command)

    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(subprocess, "run", run)
    assert launch.other_python("linux") == "python3.11"
    assert launch.other_python("win32") == ""


def test_32_bit_python_and_intel_mac_are_refused() -> None:
    with pytest.raises(Problem, match="32-bit"):
        launch.check_python(WINDOWS._replace(is_64_bit=False))
    with pytest.raises(Problem, match="Intel"):
        launch.check_python(MAC._replace(processor="x86_64"))


# Room on the disk


def test_cuda_takes_most_of_the_room() -> None:
    windows, windows_cuda = launch.space_needed(WINDOWS, ""), launch.space_needed(WINDOWS, launch.CUDA_INDEX)
    assert launch.space_needed(LINUX, "") > windows_cuda > windows > launch.space_needed(LINUX, launch.CPU_INDEX)
    assert launch.space_needed(MAC, "") == launch.space_needed(LINUX._replace(processor="aarch64"), "") == (3 * GB, GB)


def test_too_little_room_names_both_sizes(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free_space(monkeypatch, 2.5 * GB)
    with pytest.raises(Problem) as raised:
        launch.check_space(Venv(project / ".venv", "linux"), (9 * GB, 4 * GB), print)
    assert raised.value.sentence == f"the packages take 9 GB, and {project} has 2.5 GB for them"
    assert "Free 10 GB" in raised.value.remedy


def test_tight_room_is_only_a_warning(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    free_space(monkeypatch, 10 * GB)
    launch.check_space(Venv(project / ".venv", "linux"), (9 * GB, 4 * GB), said.append)
    assert said == ["Only 10.0 GB are free: 13 GB would be safe while installing."]


def test_what_is_installed_already_counts_as_room(venv: Venv, monkeypatch: pytest.MonkeyPatch) -> None:
    free_space(monkeypatch, 1 * GB)
    monkeypatch.setattr(launch, "size_of", lambda folder: 8 * GB)
    launch.check_space(venv, (9 * GB, 4 * GB), lambda line: None)


# Whether .venv can be trusted


def test_stamp_makes_it_ready_until_something_changes(project: Path, venv: Venv) -> None:
    names = ["requirements.txt", "requirements-test.txt"]
    both = launch.fingerprints(project, names, LINUX)
    only_app = launch.fingerprints(project, names[:1], LINUX)
    assert not venv.is_ready(only_app)
    venv.mark_whole(only_app)
    assert venv.is_ready(only_app) and not venv.is_ready(both)
    venv.mark_whole(both)
    assert venv.is_ready(only_app) and venv.is_ready(both)
    (project / "requirements.txt").write_text(PINS + "pluggy==1.7.0\n")
    assert not venv.is_ready(launch.fingerprints(project, names, LINUX))


def test_fingerprint_knows_the_processor_and_the_card(project: Path) -> None:
    machines = [LINUX, LINUX._replace(processor="aarch64"), WINDOWS, WINDOWS_NVIDIA, MAC]
    found = {launch.fingerprints(project, ["requirements.txt"], machine)["requirements.txt"] for machine in machines}
    assert len(found) == len(machines)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", '{"folder": ["x"]}'])
def test_a_damaged_stamp_is_no_stamp(project: Path, venv: Venv, text: str) -> None:
    venv.stamp.write_text(text)
    assert not venv.is_ready(launch.fingerprints(project, ["requirements.txt"], LINUX))


def test_a_half_unpacked_or_moved_or_gutted_venv_is_not_ready(project: Path, venv: Venv) -> None:
    wanted = launch.fingerprints(project, ["requirements.txt"], LINUX)
    venv.mark_whole(wanted)
    venv.unpacking.touch()
    assert not venv.is_ready(wanted)
    venv.mark_whole(wanted)
    assert venv.is_ready(wanted)
    venv.python.unlink()
    assert not venv.is_ready(wanted)
    venv.python.touch()
    venv.stamp.write_text(json.dumps(dict(wanted, folder="/elsewhere/.venv")))
    assert not venv.is_ready(wanted)


def test_missing_requirements_are_named(project: Path) -> None:
    with pytest.raises(Problem, match="requirements-gone.txt is missing"):
        launch.fingerprints(project, ["requirements-gone.txt"], LINUX)


def test_a_sound_venv_needs_no_mending(venv: Venv) -> None:
    assert launch.mending(venv, LINUX) == ("", "")


def test_a_new_venv_is_made(project: Path) -> None:
    assert launch.mending(Venv(project / ".venv", "linux"), LINUX) == ("Making .venv with Python 3.11.7.", "--clear")


def test_every_fault_makes_it_again_and_is_told(venv: Venv, monkeypatch: pytest.MonkeyPatch) -> None:
    def told() -> str:
        line, option = launch.mending(venv, LINUX)
        assert option == "--clear"
        return line

    venv.unpacking.touch()
    assert told() == "Making .venv again: the last installation was cut short while it unpacked."
    venv.unpacking.unlink()
    monkeypatch.setattr(Venv, "has_pip", lambda self: False)
    assert told() == "Making .venv again: its pip does not work."
    (venv.folder / "pyvenv.cfg").write_text("version_info = 3.12.1.final.0\n")
    assert told() == "Making .venv again: it was not made by Python 3.11."
    (venv.folder / "pyvenv.cfg").unlink()
    assert told() == "Making .venv again: it was not made by Python 3.11."
    venv.python.unlink()
    assert told() == "Making .venv again: it has no working Python."


def test_a_moved_venv_is_mended_and_a_file_in_its_place_is_named(project: Path, venv: Venv) -> None:
    venv.stamp.write_text(json.dumps({"folder": "/elsewhere/.venv"}))
    assert launch.mending(venv, LINUX) == ("This folder was moved: mending .venv.", "--without-pip")
    file = project / "file"
    file.touch()
    with pytest.raises(Problem, match="is a file"):
        launch.mending(Venv(file, "linux"), LINUX)


def test_a_python_without_venv_is_told_the_package(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Problem) as raised:
        launch.make_venv(Venv(project / ".venv", "linux"), LINUX, lambda line: None, io.StringIO())
    assert raised.value.remedy == "On Debian or Ubuntu: sudo apt install python3.11-venv"


def test_venv_is_made_by_the_base_python(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **options: object) -> SimpleNamespace:
        ran.append(command)
        return SimpleNamespace(returncode=0, stdout="")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "_base_executable", "/usr/bin/python3.11")
    with open(project / "lock", "w") as lock:
        launch.make_venv(Venv(project / ".venv", "linux"), LINUX, lambda line: None, lock)
    assert ran == [["/usr/bin/python3.11", "-m", "venv", "--clear", str(project / ".venv")]]


# What pip is asked


def test_one_ordinary_pip_step(project: Path, venv: Venv) -> None:
    assert launch.pip_steps(project, ["requirements.txt"], venv, "") == [["-r", str(project / "requirements.txt")]]


def test_windows_with_nvidia_takes_the_same_versions_from_the_cuda_index(project: Path, venv: Venv) -> None:
    names = ["requirements.txt", "requirements-test.txt"]
    first, second = launch.pip_steps(project, names, venv, launch.CUDA_INDEX)
    assert first == ["--no-deps", "--index-url", launch.CUDA_INDEX, "torch==2.10.0+cu128", "torchvision==0.25.0+cu128"]
    assert second == ["-r", str(project / "requirements.txt"), "-r", str(project / "requirements-test.txt")]


def test_without_cuda_both_come_from_one_index_and_xformers_stays_out(project: Path, venv: Venv) -> None:
    names = ["requirements.txt", "requirements-test.txt"]
    first, second = launch.pip_steps(project, names, venv, launch.CPU_INDEX)
    assert first == ["--no-deps", "--index-url", launch.CPU_INDEX, "torch==2.10.0+cpu", "torchvision==0.25.0+cpu"]
    read = [Path(path).read_text() for path in second[1::2]]
    assert read == [PINS.replace("xformers==0.0.35; sys_platform == 'linux'\n", ""), "pytest==9.2.0\n"]


@pytest.mark.parametrize("index", ["", launch.CPU_INDEX])
def test_what_is_wanted_bare_comes_last_and_alone(project: Path, venv: Venv, index: str) -> None:
    *before, last = launch.pip_steps(project, launch.TESTS, venv, index)
    assert last == ["--no-deps", "-r", str(project / launch.BARE)]
    assert not any(launch.BARE in word for step in before for word in step)


def test_the_real_pins_and_xformers_are_found(venv: Venv) -> None:
    first, second = launch.pip_steps(launch.ROOT, ["requirements.txt"], venv, launch.CPU_INDEX)
    assert [pin.split("==")[0] for pin in first[3:]] == ["torch", "torchvision"]
    whole = (launch.ROOT / "requirements.txt").read_text("utf-8").splitlines()
    read = Path(second[1]).read_text("utf-8").splitlines()
    assert [line.split("=")[0] for line in whole if line not in read] == ["xformers"]


def test_pip_keeps_the_callers_settings_but_for_those_that_install_elsewhere(tmp_path: Path) -> None:
    environ = {"PIP_INDEX_URL": "x", "PIP_TARGET": "/t", "PIP_QUIET": "2", "PIP_USER": "1", "TMPDIR": "/tmp", "A": "b"}
    made = launch.pip_environment(environ, tmp_path)
    assert made["PIP_INDEX_URL"] == "x" and made["A"] == "b" and made["PIP_USER"] == "0"
    assert not {"PIP_TARGET", "PIP_QUIET"} & set(made)
    assert made["TMPDIR"] == made["TEMP"] == made["TMP"] == str(tmp_path)


# What pip says


def listen(venv: Venv, clock: list[float]) -> tuple[Progress, list[str]]:
    said: list[str] = []
    return Progress(venv, said.append, lambda: clock[0]), said


def test_progress_tells_large_downloads_and_the_unpacking(venv: Venv) -> None:
    clock = [100.0]
    progress, said = listen(venv, clock)
    progress.read("Collecting torch==2.10.0 (from -r requirements.txt (line 9))\n")
    progress.read("  Downloading torch-2.10.0-cp311-cp311-manylinux_2_28_x86_64.whl (915.5 MB)\n")
    progress.read("  Downloading filelock-4.2.11-py3-none-any.whl (222 kB)\n")
    progress.read("  Using cached https://index/nvidia_cudnn_cu12-9.10.2.21-py3-none-any.whl (706.8 MB)\n")
    clock[0] += 65
    assert not venv.unpacking.exists()
    progress.read("Installing collected packages: filelock, nvidia-cudnn-cu12, torch\n")
    assert venv.unpacking.exists()
    assert said == [
        "  0:00  torch 2.10.0, 915.5 MB",
        "  0:00  nvidia_cudnn_cu12 9.10.2.21, 706.8 MB",
        "  1:05  unpacking 3 packages",
    ]


def test_progress_is_never_silent_for_long(venv: Venv) -> None:
    clock = [0.0]
    progress, said = listen(venv, clock)
    venv.downloads.mkdir()
    progress.read("Collecting numpy>=1.0 (from torch==2.10.0)\n")
    for clock[0] in (1.0, 4.9, 5.0, 6.0, 10.0):
        progress.tick()
    (venv.downloads / "part").write_bytes(b"x" * 3_000_000)
    clock[0] = 15.0
    progress.tick()
    assert said == ["  0:05  numpy>=1.0", "  0:10  numpy>=1.0", "  0:15  numpy>=1.0 (3 MB so far)"]


def test_progress_counts_what_is_unpacked(venv: Venv) -> None:
    clock = [0.0]
    progress, said = listen(venv, clock)
    site = venv.folder / "lib/python3.11/site-packages"
    (site / "pip-23.dist-info").mkdir(parents=True)
    progress.read("Installing collected packages: a, b, c\n")
    (site / "a-1.dist-info").mkdir()
    clock[0] = 6.0
    progress.tick()
    for name in "bcd":
        (site / f"{name}-1.dist-info").mkdir()
    clock[0] = 12.0
    progress.tick()
    assert said[1:] == ["  0:06  unpacking package 2 of 3", "  0:12  unpacking package 3 of 3"]


def test_progress_says_that_the_index_does_not_answer(venv: Venv) -> None:
    clock = [0.0]
    progress, said = listen(venv, clock)
    clock[0] = 2.0
    progress.read("WARNING: Retrying (Retry(total=4, connect=None)) after connection broken by ...\n")
    assert said == ["  0:02  the package index does not answer; trying again"]


@pytest.mark.parametrize(
    ("output", "code", "sentence"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", 1, "the disk is full"),
        ("WARNING: Retrying (Retry(total=0)) after ...\nERROR: No matching distribution found for a==1", 1, "can't be reached"),
        ("Caused by NewConnectionError: [Errno -3] Temporary failure in name resolution", 2, "can't be reached"),
        ("ERROR: No matching distribution found for torch==2.10.0", 1, "there is no build of torch==2.10.0 for"),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]", 1, "refused a secure connection"),
        ("ERROR: ResolutionImpossible: for help visit", 1, "contradict a pip setting"),
        ("OSError: [WinError 5] Access is denied: 'c:\\x.pyd'", 1, "can't be written"),
        ("HINT: This error might have occurred since this system does not have Windows Long Path support", 1, "longer than"),
        ("", -9, "want of memory"),
        ("one\nERROR: something new.\nthree\n", 1, "the installation failed: ERROR: something new"),
        ("", 3, "the installation failed: exit code 3"),
    ],
)  # fmt: skip
def test_a_failure_is_told_in_a_sentence(output: str, code: int, sentence: str) -> None:
    problem = launch.explain(output, code, "See the log.")
    assert sentence in problem.sentence and not problem.sentence.endswith(".")
    assert problem.remedy


def test_a_failed_pip_leaves_the_log_and_no_downloads(
    project: Path, venv: Venv, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(command: list[str], environ: object, progress: Progress, log: io.StringIO, lock: object) -> int:
        log.write("ERROR: No matching distribution found for torch==2.10.0\n")
        (venv.downloads / "part").touch()
        return 1

    monkeypatch.setattr(launch, "run_pip", fail)
    with pytest.raises(Problem, match="no build of torch==2.10.0"):
        launch.install(project, venv, "", ["requirements.txt"], lambda line: None, io.StringIO())
    assert not venv.downloads.exists() and venv.log.read_text().startswith("ERROR") and not venv.stamp.exists()


def test_every_line_of_a_child_is_logged_and_its_code_returned(venv: Venv) -> None:
    log = io.StringIO()
    said: list[str] = []
    progress = Progress(venv, said.append)
    script = "print('Collecting x'); print('  Downloading x-1-py3.whl (9 MB)'); raise SystemExit(4)"
    with open(venv.folder / "lock", "w") as lock:
        assert launch.run_pip([sys.executable, "-c", script], {}, progress, log, lock) == 4
    assert log.getvalue().splitlines() == ["Collecting x", "  Downloading x-1-py3.whl (9 MB)"]
    assert [line.split("  ")[-1] for line in said] == ["x 1, 9 MB"]


# One at a time, then the app


def test_a_second_launch_waits_for_the_first(project: Path) -> None:
    said: list[str] = []
    with launch.install_lock(project, said.append):

        def give_up(seconds: float) -> None:
            raise TimeoutError

        with pytest.raises(TimeoutError), launch.install_lock(project, said.append, give_up):
            pytest.fail("two launches installed at once")
    with launch.install_lock(project, said.append):
        assert said == ["Another launch is installing here; waiting for it to end."]


def test_a_folder_that_cannot_be_written_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(Problem, match=r"can't be written to \(Read-only file system\)"):
        with launch.install_lock(project, print):
            pytest.fail("took a lock that it can't write")


def test_prepare_works_once_and_then_only_reads(project: Path, venv: Venv, monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[list[str]] = []
    free_space(monkeypatch, 100 * GB)
    monkeypatch.setattr(launch, "install", lambda root, venv, index, names, say, lock: installed.append(names))
    monkeypatch.setattr(launch, "cpu_index_has", lambda pins, machine: False)
    for names in (["requirements.txt"], ["requirements.txt"], ["requirements.txt", "requirements-test.txt"]):
        launch.prepare(project, LINUX, names, lambda line: None)
    assert installed == [["requirements.txt"], ["requirements.txt", "requirements-test.txt"]]


def test_posix_becomes_the_app_and_windows_passes_its_code_on(monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda path, command: became.append(command))
    monkeypatch.setattr(signal, "signal", lambda number, action: None)
    monkeypatch.setattr(subprocess, "Popen", lambda command: SimpleNamespace(wait=lambda: 7))
    assert launch.hand_over(["python", "app.py", "--port", "1"], "win32") == 7
    assert became == []
    launch.hand_over(["python", "app.py", "--port", "1"], "linux")
    assert became == [["python", "app.py", "--port", "1"]]


@pytest.mark.parametrize(
    ("arguments", "files", "tail"),
    [
        ([], ["requirements.txt"], ["app.py"]),
        (["--port", "1", "test"], ["requirements.txt"], ["app.py", "--port", "1", "test"]),
        (["test"], launch.TESTS, ["-m", "pytest", *SIDE_BY_SIDE]),
        (["test", "-n", "0"], launch.TESTS, ["-m", "pytest", *SIDE_BY_SIDE, "-n", "0"]),
        (["--openvino", "--port", "1"], ["requirements.txt", launch.OPENVINO], ["app.py", "--port", "1"]),
    ],
)
def test_main_prepares_and_hands_over(
    project: Path, venv: Venv, monkeypatch: pytest.MonkeyPatch, arguments: list[str], files: list[str], tail: list[str]
) -> None:
    ran: list[list[str]] = []
    asked: list[list[str]] = []

    def prepare(root: Path, machine: Machine, names: list[str], say: launch.Say) -> Venv:
        asked.append(names)
        return venv

    def hand_over(command: list[str], system: str) -> int:
        ran.append(command)
        return 5

    monkeypatch.setattr(launch, "ROOT", project)
    monkeypatch.setattr(launch, "this_machine", lambda: LINUX)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.chdir(project)
    monkeypatch.setattr(launch, "prepare", prepare)
    monkeypatch.setattr(launch, "hand_over", hand_over)
    assert launch.main(arguments) == 5
    assert asked == [files]
    assert ran == [[str(venv.python)] + [str(project / part) if part == "app.py" else part for part in tail]]


@pytest.mark.parametrize(
    ("arguments", "system", "cores", "is_shared"),
    [
        ([], "linux", 2, True),
        (["-x", "-m", "not browser", "--durations=30"], "darwin", 8, True),
        (["app.py"], "linux", 2, False),
        (["-q", "app.py::test_one"], "linux", 2, False),
        ([], "linux", 1, False),
        ([], "linux", None, False),
        ([], "win32", 2, False),
    ],
)
def test_only_the_whole_suite_takes_two_processes(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    system: str,
    cores: int | None,
    is_shared: bool,
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert launch.side_by_side(arguments, system) == (SIDE_BY_SIDE if is_shared else [])


def test_openvino_stays_once_it_was_asked_for(project: Path, venv: Venv) -> None:
    assert launch.app_requirements(project, LINUX, False) == ["requirements.txt"]
    (project / launch.OPENVINO).write_text("openvino==2026.4.1\n")
    venv.folder.mkdir(exist_ok=True)
    venv.mark_whole(launch.fingerprints(project, launch.app_requirements(project, LINUX, True), LINUX))
    assert launch.app_requirements(project, LINUX, False) == ["requirements.txt", launch.OPENVINO]


def test_openvino_is_pinned_once() -> None:
    pins = [(launch.ROOT / name).read_text("utf-8") for name in (launch.OPENVINO, "requirements-test.txt")]
    assert len({re.findall(r"^openvino==\S+", pin, re.MULTILINE)[0] for pin in pins}) == 1


@pytest.mark.parametrize(
    ("trouble", "code", "said"),
    [
        (Problem("the disk is full", "Free some."), 1, "Darkroom can't start: the disk is full.\nWhat to do: Free some.\n"),
        (PermissionError(13, "Permission denied"), 1, "the system refused ([Errno 13] Permission denied)"),
        (KeyboardInterrupt(), 130, "Stopped."),
    ],
)  # fmt: skip
def test_main_ends_with_a_sentence_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], trouble: BaseException, code: int, said: str
) -> None:
    def fail(*arguments: object) -> None:
        raise trouble

    monkeypatch.setattr(launch, "prepare", fail)
    assert launch.main(["test"]) == code
    assert said in capsys.readouterr().err
