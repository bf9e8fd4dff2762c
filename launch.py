"""Start Darkroom: make .venv, install the pinned packages, then run the app or the tests.

    python3 launch.py [arguments of app.py]
    python3 launch.py test [arguments of pytest]

With --openvino it installs OpenVINO too, which makes pictures faster on a CPU; later starts keep it.
Standard library only, and no syntax newer than Python 3.6, so that an old Python gets a sentence and not
a traceback. It knows nothing of the app: it ends where app.py or pytest begins.
"""

import contextlib
import errno
import hashlib
import importlib.util
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple  # noqa: F401

ROOT = Path(__file__).resolve().parent
OLDEST, NEWEST = (3, 11), (3, 13)
OPENVINO = "requirements-openvino.txt"
BARE = "requirements-test-bare.txt"  # of which pip gets nothing but what it names
TESTS = ["requirements.txt", "requirements-test.txt", BARE]
CUDA_INDEX = "https://download.pytorch.org/whl/cu128"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
LOOK_S = 3.0  # how long it may take to look whether that index answers
CHOICE = "DARKROOM_TORCH"  # which PyTorch, cpu or cuda; unset: by what is found
GB = 10**9
# C0 but tab and newline, DEL, C1, and what turns the direction of writing around.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
QUIET_S = 5.0  # the longest silence while pip works

# What pip says -> what it means, and what to do. The first that matches counts.
FAILURES = (
    (r"No space left|Errno 28|not enough space|WinError 112|Disk quota", "the disk is full",
     "Free some space and run the same command again: what is complete is kept."),
    (r"Long Path", "a file's path is longer than Windows allows",
     r"Move the folder to a short path such as C:\darkroom, or turn on Windows' long paths."),
    (r"CERTIFICATE_VERIFY_FAILED|SSLError|ProxyError|407 Proxy", "the package index refused a secure connection",
     "Behind a company's proxy, set HTTPS_PROXY and PIP_CERT to what its administrators give you."),
    (r"Retrying \(|ConnectionError|Connection (?:aborted|reset)|ConnectionReset|getaddrinfo|Name or service not known"
     r"|name resolution|[Tt]imed out|IncompleteRead|ProtocolError|HTTP error 5\d\d",
     "the package index can't be reached",
     "Check the network (or your PIP_INDEX_URL) and run the same command again: it goes on where it stopped."),
    (r"ResolutionImpossible|conflicting dependencies", "the pinned packages contradict a pip setting of yours",
     "Look for a constraint in PIP_CONSTRAINT or in `pip config list`."),
    (r"No matching distribution found for (\S+)", "there is no build of {} for this computer's Python and processor",
     "Use Python 3.12 on Linux (glibc), Windows or an Apple-chip Mac, 64-bit."),
    (r"Permission denied|Access is denied|WinError 5\b|WinError 32|Read-only", "a file in .venv can't be written",
     "Stop Darkroom if it is running, check who owns the folder, and run the same command again."),
)  # fmt: skip

Say = Callable[[str], None]


class Problem(Exception):
    """Why Darkroom can't start: a sentence, and what to do about it."""

    def __init__(self, sentence: str, remedy: str) -> None:
        super().__init__(sentence)
        self.sentence, self.remedy = sentence, remedy


class Machine(NamedTuple):
    """All that the decisions below depend on."""

    python: Tuple[int, ...]
    system: str  # linux, win32, darwin
    processor: str  # lower case: x86_64, amd64, arm64, aarch64
    is_64_bit: bool
    has_nvidia: bool
    torch: str = ""  # asked for by DARKROOM_TORCH: cpu, cuda, or nothing


def this_machine() -> Machine:
    """Look at the machine, quickly (`platform` takes a tenth of a second on Windows).

    Raises:
        Problem: DARKROOM_TORCH asks for what there is not.
    """
    processor = os.uname().machine if hasattr(os, "uname") else os.environ.get("PROCESSOR_ARCHITECTURE", "")
    has_nvidia = shutil.which("nvidia-smi") is not None or os.path.exists("/dev/nvidiactl")
    torch = os.environ.get(CHOICE, "").strip().lower()
    if torch not in ("", "cpu", "cuda") or (torch == "cuda" and sys.platform == "darwin"):
        raise Problem(f"{CHOICE} is “{torch[:40]}”, which can't be had here", "Use cpu or cuda, or unset it.")
    return Machine(tuple(sys.version_info[:3]), sys.platform, processor.lower(), sys.maxsize > 2**32, has_nvidia, torch)


def dotted(version: Sequence[int]) -> str:
    """(3, 11, 7) -> '3.11.7'."""
    return ".".join(str(part) for part in version)


def other_python(system: str) -> str:
    """The command of another Python here that would do; empty when there is none."""
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        command = ["py", f"-3.{minor}"] if system == "win32" else [f"python3.{minor}"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            if shutil.which(command[0]):
                subprocess.run([*command, "-c", ""], check=True, timeout=10, stderr=subprocess.DEVNULL)
                return " ".join(command)
    return ""


def check_python(machine: Machine, find_other: Callable[[str], str] = other_python) -> None:
    """Refuse a Python for which the pinned packages have no wheels.

    Raises:
        Problem: too old, too new, 32-bit, or on an Intel Mac.
    """
    if not OLDEST <= machine.python[:2] <= NEWEST:
        other = find_other(machine.system)
        run_it = f"Another one is here. Run: {other} launch.py"
        raise Problem(
            f"it needs Python {dotted(OLDEST)} to {dotted(NEWEST)}, and this is Python {dotted(machine.python)}",
            run_it if other else "Install Python 3.12 and run launch.py with it.",
        )
    if not machine.is_64_bit:
        raise Problem("this Python is a 32-bit build, and PyTorch has none", "Install a 64-bit Python 3.12.")
    if machine.system == "darwin" and machine.processor == "x86_64":
        raise Problem(
            "PyTorch no longer has a build for Macs with an Intel processor",
            "On a Mac with an Apple chip, use a Python built for it (arm64) instead of this one.",
        )


def cuda_index(machine: Machine) -> str:
    """PyTorch's own index, where the ordinary index would give an NVIDIA card a CPU-only torch."""
    wants_cuda = machine.torch == "cuda" or (machine.has_nvidia and not machine.torch)
    return CUDA_INDEX if machine.system == "win32" and wants_cuda else ""


def torch_pins(root: Path, name: str) -> List[str]:
    """The pins of torch and torchvision in a requirements file."""
    return re.findall(r"^(?:torch|torchvision)==[\w.]+", (root / name).read_text(encoding="utf-8"), re.MULTILINE)


def cpu_index_has(pins: Sequence[str], machine: Machine) -> bool:
    """Whether PyTorch's CPU index has wheels of these pins for this machine; False where it is silent for LOOK_S."""
    import http.client  # these take a tenth of a second, and only an installation needs them
    import ssl
    from urllib.parse import unquote
    from urllib.request import urlopen

    found = []  # type: List[str]

    def look() -> None:
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            trust = ssl.create_default_context(cafile=os.environ.get("PIP_CERT"))
            for name, version in (pin.split("==") for pin in pins):
                with urlopen(f"{CPU_INDEX}/{name}/", timeout=LOOK_S, context=trust) as page:
                    text = unquote(page.read(10**7).decode("utf-8", "replace"))
                wheel = r"{}-{}\+cpu-cp{}{}-[\w.-]*{}\.whl"
                found.extend(re.findall(wheel.format(name, version, *machine.python[:2], machine.processor), text)[:1])

    thread = threading.Thread(target=look, daemon=True)  # to look a name up has no time limit of its own
    thread.start()
    thread.join(LOOK_S)
    return len(found) == len(pins)


def torch_index(root: Path, names: Sequence[str], venv: "Venv", machine: Machine, say: Say) -> str:
    """PyTorch's index that torch and torchvision come from, or "" for the ordinary one.

    The kind that is installed stays, so that no update fetches another.

    Raises:
        Problem: DARKROOM_TORCH=cpu, and PyTorch's CPU index can't be reached.
    """
    if machine.system != "linux":
        return cuda_index(machine)
    installed = venv.torch_kind()
    if installed and installed == (machine.torch or installed):
        return CPU_INDEX if installed == "cpu" else ""
    if machine.torch == "cuda" or (machine.has_nvidia and not machine.torch):
        return ""
    if cpu_index_has(torch_pins(root, names[0]), machine):
        found = "" if machine.torch else "No NVIDIA card was found. "
        say(f"{found}Taking PyTorch's build without CUDA; {CHOICE}=cuda takes the ordinary one.")
        return CPU_INDEX
    if machine.torch:
        raise Problem(f"{CPU_INDEX} has no answer for this computer", f"Check the network, or unset {CHOICE}.")
    say("PyTorch's build without CUDA can't be had now: taking the ordinary one.")
    return ""


def space_needed(machine: Machine, index: str) -> Tuple[int, int]:
    """Bytes that the installed packages take, and bytes of downloads beside them until they are unpacked."""
    if index == CPU_INDEX:
        return 2 * GB, 1 * GB  # measured without CUDA's parts: 1.8
    if machine.system == "linux" and machine.processor == "x86_64":
        return 9 * GB, 4 * GB  # measured: 8.6 and 4.1, most of it CUDA
    return (7 * GB, 3 * GB) if index else (3 * GB, 1 * GB)


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder; what disappears meanwhile counts as nothing."""
    total = 0
    for parent, _, names in os.walk(str(folder)):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def check_space(venv: "Venv", needed: Tuple[int, int], say: Say) -> None:
    """Refuse to start an installation that can't fit, and warn of one that may not.

    Raises:
        Problem: less free space than the installed packages take, counting what is there already.
    """
    installed, downloads = needed
    free = shutil.disk_usage(str(venv.folder if venv.folder.exists() else venv.folder.parent)).free
    if free >= installed + downloads:
        return
    free += size_of(venv.folder)
    if free < installed:
        raise Problem(
            f"the packages take {installed / GB:.0f} GB, and {venv.folder.parent} has {free / GB:.1f} GB for them",
            f"Free {(installed + downloads - free) / GB:.0f} GB there, or move this folder to a larger disk.",
        )
    if free < installed + downloads:
        say(f"Only {free / GB:.1f} GB are free: {(installed + downloads) / GB:.0f} GB would be safe while installing.")


class Venv:
    """The folder .venv: where its parts are, and whether it can be trusted."""

    def __init__(self, folder: Path, system: str) -> None:
        self.folder, self.system = folder, system
        self.python = folder / ("Scripts/python.exe" if system == "win32" else "bin/python")
        self.stamp = folder / "darkroom.json"  # what was installed, written last
        self.unpacking = folder / "unpacking"  # there while pip changes packages
        self.downloads = folder / "downloads"  # pip's temporary folder: so only one disk has to have room
        self.log = folder / "install.log"

    def read_stamp(self) -> Dict[str, str]:
        """What was installed, by file; empty when there is no whole stamp."""
        try:
            stamp = json.loads(self.stamp.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return stamp if isinstance(stamp, dict) else {}

    def mark_whole(self, wanted: Mapping[str, str]) -> None:
        """Say that `wanted` is installed to its end; half a stamp is never seen."""
        if self.unpacking.exists():
            self.unpacking.unlink()
        stamp = dict(self.read_stamp(), folder=str(self.folder), **wanted)
        part = self.stamp.with_suffix(".part")
        part.write_text(json.dumps(stamp, indent=1), encoding="utf-8")
        os.replace(str(part), str(self.stamp))

    def is_ready(self, wanted: Mapping[str, str]) -> bool:
        """Whether exactly `wanted` was installed, here, and to its end."""
        stamp = self.read_stamp()
        whole = dict(wanted, folder=str(self.folder)).items() <= stamp.items()
        return whole and self.python.exists() and not self.unpacking.exists()

    def packages(self, pattern: str = "*") -> List[Path]:
        """The folders of the installed packages' metadata."""
        places = ("lib/python*/site-packages", "Lib/site-packages")
        return [found for place in places for found in self.folder.glob(f"{place}/{pattern}.dist-info")]

    def torch_kind(self) -> str:
        """The kind of the installed PyTorch: cpu, cuda (which stands for any card), or "" for none."""
        for found in self.packages("torch-*"):
            is_plain = "+" not in found.name and self.system != "linux"
            return "cpu" if is_plain or "+cpu." in found.name else "cuda"
        return ""

    def fault(self, machine: Machine) -> str:
        """Why this folder has to be made again; empty when it can be used."""
        python = machine.python
        if not self.python.exists():
            return "it has no working Python"
        if self.torch_kind() not in ("", machine.torch or self.torch_kind()):
            return f"{CHOICE} asks for another PyTorch"
        with contextlib.suppress(OSError):
            config = (self.folder / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace")
            found = re.search(r"^version(?:_info)?\s*=\s*(\d+)\.(\d+)", config, re.MULTILINE)
            if found and (int(found.group(1)), int(found.group(2))) == tuple(python[:2]):
                if self.unpacking.exists():
                    return "the last installation was cut short while it unpacked"
                return "" if self.has_pip() else "its pip does not work"
        return f"it was not made by Python {dotted(python[:2])}"

    def has_pip(self) -> bool:
        """Whether its pip runs (takes half a second)."""
        command = [str(self.python), "-m", "pip", "--version"]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).returncode == 0


def mending(venv: Venv, machine: Machine) -> Tuple[str, str]:
    """What .venv needs: a line to say, and the option of `python -m venv` that does it; both empty when nothing.

    Raises:
        Problem: something else is in its place.
    """
    if not venv.folder.exists():
        return f"Making .venv with Python {dotted(machine.python)}.", "--clear"
    if not venv.folder.is_dir():
        raise Problem(f"{venv.folder} is a file", "Rename or delete it, and run the same command again.")
    fault = venv.fault(machine)
    if fault:
        return f"Making .venv again: {fault}.", "--clear"
    if venv.read_stamp().get("folder", str(venv.folder)) != str(venv.folder):
        return "This folder was moved: mending .venv.", "--without-pip"
    return "", ""


def heard(lock: IO[str]) -> Dict[str, Any]:
    """Options for a child process that we listen to, and that keeps the lock should it outlive us."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}  # type: Dict[str, Any]
    options.update(encoding="utf-8", errors="replace")
    if sys.platform != "win32":
        options["pass_fds"] = (lock.fileno(),)
    return options


def make_venv(venv: Venv, machine: Machine, say: Say, lock: IO[str]) -> None:
    """Make .venv, or make it again if it can't be trusted, or mend it if the folder was moved.

    Raises:
        Problem: this Python can't make one, or the folder refuses.
    """
    line, option = mending(venv, machine)
    if not option:
        return
    say(line)
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise Problem(
            "this Python can't make a virtual environment (its venv or ensurepip module is missing)",
            f"On Debian or Ubuntu: sudo apt install python{dotted(machine.python[:2])}-venv",
        )
    base = getattr(sys, "_base_executable", None) or sys.executable  # not the Python inside the .venv we replace
    command = [base, "-m", "venv", option, str(venv.folder)]
    made = subprocess.run(command, **heard(lock))
    if made.returncode != 0:
        raise explain(made.stdout, made.returncode, f"Try it by hand: {' '.join(command)}")


def explain(output: str, code: int, otherwise: str) -> Problem:
    """What a failed command's output and exit code mean; `otherwise` is what to do when nothing is known."""
    if code in (-9, 137):
        return Problem("the system ended the installation, perhaps for want of memory", "Close programs, run it again.")
    for pattern, cause, remedy in FAILURES:
        found = re.search(pattern, output)
        if found:
            return Problem(cause.format(*found.groups()), remedy)
    lines = [line.strip() for line in output.splitlines() if line.strip()] or [f"exit code {code}"]
    telling = [line for line in lines if line.lower().startswith("error")] or lines
    return Problem(f"the installation failed: {telling[-1].rstrip('.')}", otherwise)


def fingerprints(root: Path, names: Sequence[str], machine: Machine) -> Dict[str, str]:
    """One hash a requirements file, of its text and of what else decides which wheels go in."""
    about = f"{sys.implementation.cache_tag} {machine.system} {machine.processor} {cuda_index(machine)}\n"
    wanted = {}
    for name in names:
        if not (root / name).is_file():
            raise Problem(f"{name} is missing beside launch.py", "Get the whole project again.")
        wanted[name] = hashlib.sha256((about + (root / name).read_text(encoding="utf-8")).encode()).hexdigest()
    return wanted


def pip_steps(root: Path, names: Sequence[str], venv: Venv, index: str) -> List[List[str]]:
    """The arguments of each `pip install`, in order. With the CPU index, xformers is left out: it needs CUDA."""
    files, alone = [], []  # type: List[str], List[List[str]]
    for name in names:
        path = root / name
        if name == BARE:
            alone.append(["--no-deps", "-r", str(path)])
            continue
        if index == CPU_INDEX:
            text = path.read_text(encoding="utf-8")
            path = venv.folder / name
            path.write_text(re.sub(r"^xformers\b.*\n?", "", text, flags=re.MULTILINE), encoding="utf-8")
        files += ["-r", str(path)]
    if not index:
        return [files, *alone]
    label = index.rsplit("/", 1)[1]  # "+cu128", so that a CPU build of the same version does not count
    torch = ["--no-deps", "--index-url", index] + [f"{pin}+{label}" for pin in torch_pins(root, names[0])]
    return [torch, files, *alone]


def pip_environment(environ: Mapping[str, str], downloads: Path) -> Dict[str, str]:
    """The caller's environment and pip settings, less those that would install elsewhere or hide what is done."""
    dropped = ("PIP_QUIET", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")
    kept = {name: value for name, value in environ.items() if name not in dropped}
    folder = str(downloads)
    kept.update(PIP_USER="0", PYTHONUNBUFFERED="1", PYTHONIOENCODING="utf-8")
    return dict(kept, TMPDIR=folder, TEMP=folder, TMP=folder)


class Progress:
    """Makes a few plain lines of what pip says, and is never silent for long."""

    def __init__(self, venv: Venv, say: Say, clock: Callable[[], float] = time.monotonic) -> None:
        self.venv, self.say, self.clock = venv, say, clock
        self.began = self.spoke = clock()
        self.doing = "starting pip"
        self.total = self.before = 0  # packages to unpack; packages there before

    def read(self, line: str) -> None:
        """Take in one line of pip's."""
        fetched = re.match(r"\s*(?:Downloading|Using cached) (\S+) \(([\d.]+) (\w+)\)", line)
        if fetched:
            self.doing = " ".join(fetched.group(1).rsplit("/", 1)[-1].split("-")[:2])
            if fetched.group(3) == "GB" or (fetched.group(3) == "MB" and float(fetched.group(2)) >= 5):
                self.tell(f"{self.doing}, {fetched.group(2)} {fetched.group(3)}")
        elif line.startswith("Installing collected packages:"):
            self.venv.unpacking.touch()
            self.total, self.before = line.count(",") + 1, self.unpacked()
            self.tell(f"unpacking {self.total} packages")
        elif "Retrying (" in line:
            self.doing = "the package index does not answer; trying again"
            self.tick(after_s=1)
        elif line.startswith(("Collecting ", "Processing ")):
            self.doing = line.split()[1].rsplit("/", 1)[-1].split(";")[0]

    def tick(self, after_s: float = QUIET_S) -> None:
        """Say where it stands if nothing was said for a while."""
        if self.clock() - self.spoke < after_s:
            return
        if self.total:
            self.tell(f"unpacking package {min(self.unpacked() - self.before + 1, self.total)} of {self.total}")
        else:
            fetched = size_of(self.venv.downloads) // 10**6
            self.tell(f"{self.doing} ({fetched} MB so far)" if fetched else self.doing)

    def tell(self, text: str) -> None:
        """Say a line with the time since the start."""
        self.spoke = self.clock()
        minutes, seconds = divmod(int(self.spoke - self.began), 60)
        self.say(f"  {minutes}:{seconds:02d}  {text}")

    def unpacked(self) -> int:
        """Packages in .venv whose unpacking at least began."""
        return len(self.venv.packages())


def run_pip(command: List[str], environ: Mapping[str, str], progress: Progress, log: IO[str], lock: IO[str]) -> int:
    """Run pip, each line to the log and to `progress`; its exit code."""
    child = subprocess.Popen(command, env=dict(environ), **heard(lock))
    lines = queue.Queue()  # type: queue.Queue[Optional[str]]

    def pump(said: IO[str]) -> None:
        with said:
            for line in said:
                lines.put(line)
        lines.put(None)

    threading.Thread(target=pump, args=(child.stdout,), daemon=True).start()
    try:
        while True:
            try:
                line = lines.get(timeout=1)
            except queue.Empty:
                progress.tick()
                continue
            if line is None:
                return int(child.wait())
            log.write(line)
            progress.read(line)
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=10)  # after Ctrl-C, which pip got too
        if child.poll() is None:
            child.kill()


def install(root: Path, venv: Venv, index: str, names: Sequence[str], say: Say, lock: IO[str]) -> None:
    """Install the requirements files into .venv, torch and torchvision from `index` if there is one.

    Raises:
        Problem: pip failed; the sentence says why.
    """
    progress = Progress(venv, say)
    command = [str(venv.python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    command += ["--progress-bar", "off", "--only-binary", ":all:"]
    venv.downloads.mkdir(exist_ok=True)
    try:
        for step in pip_steps(root, names, venv, index):
            with open(str(venv.log), "w", encoding="utf-8") as log:
                code = run_pip(command + step, pip_environment(os.environ, venv.downloads), progress, log, lock)
            if code != 0:
                problem = explain(venv.log.read_text(encoding="utf-8"), code, f"All that pip said is in {venv.log}.")
                if CPU_INDEX in step:
                    problem.remedy += f" With {CHOICE}=cuda the ordinary PyTorch is taken, which is larger."
                raise problem
    finally:
        shutil.rmtree(str(venv.downloads), ignore_errors=True)
    progress.tell("installed")


def try_lock(handle: IO[str]) -> bool:
    """Take the file's lock if it is free; the system frees it when the holder dies."""
    try:
        if sys.platform == "win32":
            import msvcrt

            handle.seek(0)
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            raise
        return False
    return True


@contextlib.contextmanager
def install_lock(root: Path, say: Say, wait: Callable[[float], None] = time.sleep) -> Iterator[IO[str]]:
    """Let one launch install at a time; the others wait, and say so.

    Raises:
        Problem: the folder can't be written to.
    """
    try:
        handle = open(str(root / ".launch.lock"), "a", encoding="utf-8")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise Problem(
            f"the folder {root} can't be written to ({error.strerror})",
            "Move the project to a folder of your own, or ask its owner to run launch.py once.",
        ) from error
    with handle:
        waited = 0
        while not try_lock(handle):
            if waited % 20 == 0:
                say("Another launch is installing here; waiting for it to end.")
            waited += 1
            wait(0.5)
        yield handle


def prepare(root: Path, machine: Machine, names: Sequence[str], say: Say) -> Venv:
    """Make sure that .venv holds what `names` ask for; nothing is done where it does."""
    venv = Venv(root / ".venv", machine.system)
    wanted = fingerprints(root, names, machine)

    def is_ready() -> bool:
        return venv.is_ready(wanted) and venv.torch_kind() in ("", machine.torch or venv.torch_kind())

    if not is_ready():
        with install_lock(root, say) as lock:
            if not is_ready():  # it may be, after waiting
                index = torch_index(root, names, venv, machine, say)
                check_space(venv, space_needed(machine, index), say)
                make_venv(venv, machine, say, lock)
                size = space_needed(machine, index)[0] // GB
                say(f"Installing {' and '.join(names)} into .venv: {size} GB and minutes at first, seconds later.")
                install(root, venv, index, names, say, lock)
                venv.mark_whole(wanted)
    if machine.has_nvidia and not machine.torch and venv.torch_kind() == "cpu" and machine.system == "linux":
        say(f"The card here is not used: .venv has a PyTorch without CUDA. To change: {CHOICE}=cuda python3 launch.py")
    return venv


def app_requirements(root: Path, machine: Machine, is_openvino_wanted: bool) -> List[str]:
    """The requirements files of the app, with those extras that are wanted now or were installed before."""
    stamp = Venv(root / ".venv", machine.system).read_stamp()
    return ["requirements.txt"] + [OPENVINO] * (is_openvino_wanted or OPENVINO in stamp)


def side_by_side(arguments: Sequence[str], system: str) -> List[str]:
    """pytest's options for two processes, a file to each, where the whole suite is wanted; none where a part is named.

    They come before the caller's: `-n 0` is one process, and a larger number more.
    """
    names_a_part = any(Path(argument.split("::")[0]).exists() for argument in arguments)
    if names_a_part or system == "win32" or (os.cpu_count() or 1) < 2:
        return []
    return ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]


def hand_over(command: List[str], system: str) -> int:
    """Become the command; on Windows, which can't, run it and pass on how it ended."""
    sys.stdout.flush()
    if system != "win32":
        os.execv(command[0], command)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the child's to handle
    return subprocess.Popen(command).wait()


def plain(text: str) -> str:
    """The text with control characters spelled out: names of files and pip's words may hold a terminal's escapes."""
    return CONTROL.sub(lambda found: "\\x{:02x}".format(ord(found.group())), text)


def say_aloud(text: str) -> None:
    """A line to the terminal, at once."""
    print(plain(text), flush=True)


def complain(problem: Problem) -> None:
    """Say why it can't start, and what to do."""
    print(plain(f"Darkroom can't start: {problem.sentence}.\nWhat to do: {problem.remedy}"), file=sys.stderr)


def main(arguments: List[str]) -> int:
    """Prepare .venv and start the app, or the tests; the exit code where that can't be."""
    try:
        machine = this_machine()
        check_python(machine)
        if arguments[:1] == ["test"]:
            venv = prepare(ROOT, machine, TESTS, say_aloud)
            os.chdir(str(ROOT))
            options = [*side_by_side(arguments[1:], machine.system), *arguments[1:]]
            return hand_over([str(venv.python), "-m", "pytest", *options], machine.system)
        if not (ROOT / "app.py").is_file():
            raise Problem("app.py is missing beside launch.py", "Get the whole project again.")
        names = app_requirements(ROOT, machine, "--openvino" in arguments)
        venv = prepare(ROOT, machine, names, say_aloud)
        passed_on = [argument for argument in arguments if argument != "--openvino"]
        return hand_over([str(venv.python), str(ROOT / "app.py"), *passed_on], machine.system)
    except Problem as problem:
        complain(problem)
    except OSError as error:
        complain(Problem(f"the system refused ({error})", "See to that and run the same command again."))
    except KeyboardInterrupt:
        print("\nStopped. Run the same command to go on.", file=sys.stderr)
        return 130
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
