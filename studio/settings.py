"""Settings of the program: defaults < settings.toml < environment < arguments, read once, then frozen.

`OPTIONS` is the one table of the options: types, ranges, arguments and their help all come from it.
A damaged settings.toml is never overwritten: its .bak is used, or the defaults, with a notice in the log.
"""

import argparse
import importlib.util
import ipaddress
import logging
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract.errors import StudioError
from studio.downloads.wire import HUB

logger = logging.getLogger(__name__)
_FOLDERS = ("outputs", "inputs", "tmp", "thumbnails", "logs")
_PASSWORD_VARIABLE = "DARKROOM_PASSWORD"


@dataclass(frozen=True)
class Settings:
    """All settings of the program; `OPTIONS` has those that people can change.

    Attributes:
        data_dir: Everything the program writes goes under it.
        host: Where to listen: on this machine alone, but with --lan or in a Space everywhere.
        model_dirs: The project's models/ first, then those of --models: folders, and extra_model_paths.yaml files.
        password: From the environment only; others can read arguments.
        device: One for each worker, with commas between; "auto" is every card, else the CPU.
        workers: Where more than this machine's devices are: "ray", "ray:N" or "ray://host:port".
        precision: Of U-Net and text encoders; "auto" is what the device is best at.
        offload: Which components of a model leave the GPU between uses; "auto" chooses by its memory.
        attention: Which implementation computes attention.
        cuda_graphs: Whether a card's evaluations are recorded; equal bits, less time.
        compile: Whether models are compiled for the card in idle time; other bits.
        cfg_split: Whether a second card computes half of every step; other bits.
        backend: What evaluates models on a CPU; "auto" is OpenVINO where it is installed and faster.
        storage: How a CPU holds weights it computes with in float32; "auto": in half precision where memory is short.
        memory_gb: Of the machine's memory that models may take; None is half of it.
        batch_jobs: How many people's jobs may share a batch; None: as many as the card gains by.
        max_pixels: The largest image, in pixels.
        hub_endpoint: Where models are downloaded from; only tests change it.
        hub_token, hub_offline: HF_TOKEN and HF_HUB_OFFLINE, as all programs of the hub have them.
        root_path: The path below which a reverse proxy shows the page, like "/darkroom"; empty for none.
        trusted_hosts: Its public host names, in lower case; one without a port means any port.
        trusted_proxies: Addresses or networks whose forwarded headers are believed; none: this machine's.
        notices: Settings that could not be used, as sentences.
    """

    data_dir: Path
    model_dirs: tuple[Path, ...] = ()
    host: str = "127.0.0.1"
    port: int = 7860
    lan: bool = False
    open_browser: bool = True
    worker: str = "process"
    password: str | None = field(default=None, repr=False)
    device: str = "auto"
    workers: str = ""
    precision: str = "auto"
    offload: str = "auto"
    attention: str = "auto"
    cuda_graphs: bool = True
    compile: bool = False
    cfg_split: bool = False
    backend: str = "auto"
    storage: str = "auto"
    memory_gb: int | None = None
    batch_jobs: int | None = None
    max_jobs_per_owner: int = 20
    max_jobs: int = 200
    previews: bool = True
    space_host: str | None = None
    threads: int | None = None
    max_pixels: int = 2048 * 2048
    extension_dirs: tuple[Path, ...] = ()
    notices: tuple[str, ...] = ()
    hub_endpoint: str = HUB
    hub_token: str | None = field(default=None, repr=False)
    hub_offline: bool = False
    root_path: str = ""
    trusted_hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()

    def visitors_password(self) -> str | None:
        """What every visitor has to give; None lets everyone in.

        Raises:
            StudioError: --lan without a password.
        """
        if self.lan and not self.password:
            raise StudioError("--lan needs a password.", f"Set {_PASSWORD_VARIABLE} and start again.", code="settings")
        return self.password if self.lan or self.trusted_hosts else None

    @property
    def models_dir(self) -> Path:
        """Where new models go: the first folder of models."""
        if self.model_dirs:
            return self.model_dirs[0]
        return self.data_dir / "models"

    @property
    def outputs_dir(self) -> Path:
        return self.data_dir / "outputs"

    @property
    def uploads_dir(self) -> Path:
        return self.data_dir / "inputs"

    @property
    def thumbnails_dir(self) -> Path:
        return self.data_dir / "thumbnails"

    @property
    def tmp_dir(self) -> Path:
        return self.data_dir / "tmp"

    @property
    def database_path(self) -> Path:
        return self.data_dir / "darkroom.sqlite3"

    def make_folders(self) -> None:
        """Create the missing folders.

        Raises:
            StudioError: names the folder that can't be made.
        """
        for folder in (self.data_dir, *(self.data_dir / name for name in _FOLDERS)):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                if folder.name == "tmp":
                    folder.chmod(0o700)
            except OSError as error:
                if os.path.lexists(folder) and not folder.is_dir():
                    what = "a link that leads to no folder" if folder.is_symlink() else "a file, not a folder"
                    where = "The data folder" if folder == self.data_dir else f"{folder.name} in the data folder"
                    raise StudioError(
                        f"{where} is {what}.",
                        "Move it away, or choose another data folder with --data.",
                        code="data_folder",
                    ) from None
                raise StudioError(
                    f"The folder {folder.name}/ can't be made ({error.strerror}).",
                    "Correct its permissions, or choose another with --data.",
                    code="data_folder",
                ) from None


@dataclass(frozen=True, slots=True)
class SettingOption:
    """One option of the program.

    Attributes:
        name: A field of Settings, and its key in settings.toml; DARKROOM_<NAME> in the environment.
        kind: int, bool or str; Path for folders, which `load_settings` reads by its own rules.
        help: Of its argument; "" for an option without one.
        argument: Its argument, where that is not --name.
        choices, least, most, form: Which values can be used; form_hint says it for a person.
    """

    name: str
    kind: type
    help: str = ""
    argument: str = ""
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    least: int | None = None
    most: int | None = None
    form: re.Pattern[str] | None = None
    form_hint: str = ""

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return f"DARKROOM_{self.name.upper()}"

    def problem(self, value: object) -> str:
        """Why a value can't be used; empty when it can."""
        if type(value) is not self.kind:
            return f"use {_KIND_WORDS[self.kind]}"
        if self.choices and value not in self.choices:
            return f"use {' or '.join(self.choices)}"
        if self.form is not None and not self.form.fullmatch(str(value)):
            return self.form_hint
        if isinstance(value, int) and self.least is not None and value < self.least:
            return f"use {self.least} or more"
        if isinstance(value, int) and self.most is not None and value > self.most:
            return f"use {self.least} to {self.most}"
        return ""

    def read(self, text: str) -> int | bool | str:
        """Parse a value from the environment. Raises ValueError."""
        if self.kind is int:
            return int(text)
        if self.kind is str:
            return text
        if text.lower() in _TRUE:
            return True
        if text.lower() in _FALSE:
            return False
        raise ValueError(text)

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Give the parser its argument, if it has one."""
        argument = self.argument or f"--{self.name.replace('_', '-')}"
        if not self.help:
            return
        if self.kind is bool:
            action = "store_false" if argument.startswith("--no-") else "store_true"
            parser.add_argument(argument, action=action, dest=self.name, help=self.help)
        elif self.name == "models":
            parser.add_argument(argument, metavar=self.metavar, action="append", help=self.help)
        else:
            kind = int if self.kind is int else str
            parser.add_argument(argument, type=kind, metavar=self.metavar, choices=self.choices or None, help=self.help)


_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")
_KIND_WORDS: Mapping[type, str] = {int: "a whole number", bool: "true or false", str: "text"}
OPTIONS = (
    SettingOption("port", int, "port of the page (7860)", least=0, most=65535),
    SettingOption("host", str, "address to listen on (127.0.0.1, with --lan 0.0.0.0)"),
    SettingOption("data", Path, "folder for everything that is written", metavar="DIR"),
    SettingOption(
        "models", Path, "a further folder of models, a web UI's folder, or an extra_model_paths.yaml", metavar="DIR"
    ),
    SettingOption("lan", bool, f"let others on the network in; needs {_PASSWORD_VARIABLE}"),
    SettingOption(
        "root_path",
        str,
        "path below which a reverse proxy shows the page, like /darkroom",
        metavar="PATH",
        form=re.compile(r"/?|(/[\w.~-]*\w[\w.~-]*)+/?", re.ASCII),
        form_hint="use a path like /darkroom",
    ),
    SettingOption(
        "trusted_hosts",
        str,
        "public names of it, with commas between",
        metavar="NAMES",
        form=re.compile(r"[\w.:\[\], -]*", re.ASCII),
        form_hint="use names like darkroom.example, with commas between",
    ),
    SettingOption(
        "trusted_proxies",
        str,
        "proxies whose word counts (this machine's)",
        metavar="ADDRESSES",
        form=re.compile(r"[0-9A-Fa-f.:/\[\], ]*", re.ASCII),
        form_hint="use addresses like 192.168.1.2 or 10.0.0.0/8",
    ),
    SettingOption("open_browser", bool, "do not open the page", argument="--no-browser"),
    SettingOption("worker", str, "where the engine runs (process)", choices=("process", "inline")),
    SettingOption(
        "device",
        str,
        "what it runs on, one worker for each (auto: all cards)",
        metavar="DEVICES",
        form=re.compile(r"auto|mps|cpu(,cpu)*|cuda|cuda:[0-9]{1,2}(,cuda:[0-9]{1,2})*", re.ASCII),
        form_hint="use auto, cpu, cuda or mps, or several like cuda:0,cuda:2 or cpu,cpu",
    ),
    SettingOption(
        "workers",
        str,
        "run on other machines: ray://HOST:PORT; ray or ray:N for a cluster here",
        metavar="WHERE",
        form=re.compile(r"|ray|ray:[1-9][0-9]?|ray://[\w.-]+:[0-9]{1,5}", re.ASCII),
        form_hint="use ray, ray:3 or ray://host:port",
    ),
    SettingOption(
        "precision",
        str,
        "compute dtype (auto: float16 on GPUs, bfloat16 on CPUs where it is faster)",
        choices=("auto", "float32", "float16", "bfloat16"),
    ),
    SettingOption(
        "offload",
        str,
        "which parts of a model leave a card that is short of memory (auto)",
        choices=("auto", "none", "encoders", "model", "group"),
    ),
    SettingOption("attention", str, "how attention is computed (auto)", choices=("auto", "sdpa", "xformers", "sliced")),
    SettingOption("cuda_graphs", bool, "do not record CUDA graphs", argument="--no-cuda-graphs"),
    SettingOption("compile", bool, "compile models for the card while nothing is to do: minutes once, then faster"),
    SettingOption("cfg_split", bool, "where there are two cards, compute half of every step on each"),
    SettingOption(
        "backend",
        str,
        "what computes on a CPU (auto: OpenVINO where it is installed and faster)",
        choices=("auto", "torch", "openvino"),
    ),
    SettingOption(
        "storage",
        str,
        "weights in a CPU's memory: full, or half and cast layer by layer (auto: half where memory is short)",
        choices=("auto", "full", "half"),
    ),
    SettingOption("memory_gb", int, "memory that models may take (half of it)", metavar="GB", least=1),
    SettingOption(
        "batch_jobs", int, "jobs that share a batch (as many as the card gains by)", metavar="N", least=1, most=16
    ),
    SettingOption("max_jobs_per_owner", int, least=1),
    SettingOption("max_jobs", int, least=1),
    SettingOption("previews", bool),
    SettingOption("threads", int, "threads of each worker on a CPU (its share of the cores)", metavar="N", least=1),
    SettingOption("max_pixels", int, least=64 * 64),
)
_SIMPLE: Mapping[str, SettingOption] = {option.name: option for option in OPTIONS if option.kind is not Path}


def load_settings(argv: Sequence[str], environ: Mapping[str, str], project_dir: Path) -> Settings:
    """Read all sources.

    Raises:
        StudioError: names the argument or variable, its value, and what to use.
        SystemExit: from argparse, for --help and for arguments it does not know.
    """
    parser = argparse.ArgumentParser(
        prog="darkroom", argument_default=argparse.SUPPRESS, description="A Stable Diffusion studio in the browser."
    )
    for option in OPTIONS:
        option.add_to(parser)
    arguments = vars(parser.parse_args(list(argv)))
    data_dir = Path(arguments.pop("data", None) or environ.get("DARKROOM_DATA") or project_dir).resolve()
    notices: list[str] = []
    file_values = _read_file(data_dir / "settings.toml", notices)
    folders = [
        project_dir / "models",
        *_model_folders(data_dir, environ.get("DARKROOM_MODELS", ""), file_values.pop("models", [])),
    ]
    for folder in arguments.pop("models", None) or ():
        folders.append(Path(folder).resolve())
    file_values.pop("data", None)
    values: dict[str, Any] = {}
    for name, value in file_values.items():
        known = _SIMPLE.get(name)
        problem = known.problem(value) if known else "there is no such setting"
        if problem:
            notices.append(f"settings.toml: “{name[:40]}” is not used ({problem}).")
        else:
            values[name] = value
    values |= _from_environment(environ)
    values |= arguments
    for name, value in values.items():
        problem = _SIMPLE[name].problem(value)
        if problem:
            raise StudioError(f"{name} is “{str(value)[:60]}”: {problem}.", code="settings")
    if values.get("backend") == "openvino" and importlib.util.find_spec("openvino") is None:
        raise StudioError(
            "The backend is to be OpenVINO, which is not installed.",
            "Install it with `python3 launch.py --openvino`, or use --backend auto.",
            code="settings",
        )
    for name in ("trusted_hosts", "trusted_proxies"):
        if name in values:
            text = values[name]
            parts = [part.strip().lower() for part in text.split(",")]
            values[name] = tuple(dict.fromkeys(filter(None, parts)))
    proxies = values.get("trusted_proxies", ())
    for proxy in proxies:
        try:
            ipaddress.ip_network(proxy.strip("[]"), strict=False)
        except ValueError:
            raise StudioError(
                f"trusted_proxies names “{proxy[:60]}”, which is not an address.",
                "Use addresses like 192.168.1.2 or 10.0.0.0/8.",
                code="settings",
            ) from None
    values["root_path"] = values.get("root_path", "").rstrip("/")
    is_open = bool(values.get("lan") or environ.get("SPACE_HOST"))
    values.setdefault("host", "0.0.0.0" if is_open else Settings.host)
    if not is_open and not _is_loopback(values["host"]):
        raise StudioError(
            f"--host {values['host'][:60]} lets the network in.",
            f"Add --lan and set {_PASSWORD_VARIABLE}, or leave --host out.",
            code="settings",
        )
    for notice in notices:
        logger.warning("%s", notice)
    return Settings(
        data_dir=data_dir,
        model_dirs=tuple(dict.fromkeys(folders)),
        password=environ.get(_PASSWORD_VARIABLE) or None,
        hub_token=environ.get("HF_TOKEN") or None,
        hub_offline=environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE,
        space_host=environ.get("SPACE_HOST") or None,
        extension_dirs=(project_dir / "extensions",),
        notices=tuple(notices),
        **values,
    )


def _model_folders(data_dir: Path, variable: str, listed: object) -> list[Path]:
    """The folders of DARKROOM_MODELS, then those that settings.toml lists, relative to the data folder."""
    folders: list[Path] = []
    for part in variable.split(os.pathsep):
        if part:
            folders.append(Path(part).resolve())
    if isinstance(listed, list):
        for part in listed:
            if isinstance(part, str):
                folders.append((data_dir / part).resolve())
    return folders


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for option in _SIMPLE.values():
        text = environ.get(option.variable)
        if not text:
            continue
        try:
            values[option.name] = option.read(text)
        except ValueError:
            raise StudioError(
                f"{option.variable} is “{text[:60]}”, not {_KIND_WORDS[option.kind]}.", code="settings"
            ) from None
    return values


def _is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; a name that is not known to be so is not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _read_file(path: Path, notices: list[str]) -> dict[str, Any]:
    """settings.toml as a table; its .bak if it is damaged or empty, with a notice."""
    backup = path.with_name(path.name + ".bak")
    for candidate in (path, backup):
        try:
            text = candidate.read_text("utf-8-sig")  # Windows' editor marks its files
            table = tomllib.loads(text)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError) as error:
            cause = error.strerror if isinstance(error, OSError) else "it is not valid TOML"
            notices.append(f"{candidate.name} can't be read ({cause}); it was left as it is.")
            continue
        if candidate is path and not text.strip() and backup.is_file():
            notices.append(f"{path.name} is empty; {backup.name} is used.")
            continue
        if candidate is backup:
            notices.append(f"{backup.name} is used instead.")
        return table
    return {}
