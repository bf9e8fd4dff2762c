"""What the program was told: defaults < settings.toml < environment < arguments, read once, then frozen.

A damaged settings.toml is never overwritten: its .bak is used, or the defaults, with a notice in the log.
"""

import argparse
import ipaddress
import logging
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from contract.errors import StudioError
from studio.downloads.wire import HUB

logger = logging.getLogger(__name__)
_FOLDERS = ("outputs", "inputs", "tmp", "thumbnails", "logs")
_PASSWORD_VARIABLE = "DARKROOM_PASSWORD"


@dataclass(frozen=True)
class Settings:
    """Every choice of the person who runs the program.

    Attributes:
        data_dir: Everything the program writes goes under it.
        host: Where to listen: on this machine alone, but with --lan or in a Space everywhere.
        model_dirs: The project's models/ first, then those of --models: folders, and extra_model_paths.yaml files.
        password: From the environment only; others can read arguments.
        precision: Of U-Net and text encoders; "auto" is what the device is best at.
        offload: How a model's parts lie on a card; "auto" chooses by its memory.
        attention: Which code computes it.
        memory_gb: Of the machine's memory that models may take; None is half of it.
        max_pixels: The largest picture, in pixels.
        hub_endpoint: Where models are downloaded from; nobody can choose it but tests.
        hub_token, hub_offline: HF_TOKEN and HF_HUB_OFFLINE, as all programs of the hub have them.
        root_path: The path below which a reverse proxy shows the page, like "/darkroom"; empty for none.
        trusted_hosts: Public names of it, in lower case, without port for any port.
        trusted_proxies: Addresses or networks whose word on host, scheme and client counts; none: this machine's.
        notices: What was odd about the settings, as sentences.
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
    precision: str = "auto"
    offload: str = "auto"
    attention: str = "auto"
    memory_gb: int | None = None
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

    @property
    def models_dir(self) -> Path:
        """Where new models go: the first folder of models."""
        return self.model_dirs[0] if self.model_dirs else self.data_dir / "models"

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
        """Create what is missing.

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


_TYPES: Mapping[str, type] = {
    "host": str,
    "port": int,
    "lan": bool,
    "open_browser": bool,
    "worker": str,
    "device": str,
    "precision": str,
    "offload": str,
    "attention": str,
    "memory_gb": int,
    "max_jobs_per_owner": int,
    "max_jobs": int,
    "previews": bool,
    "threads": int,
    "max_pixels": int,
    "root_path": str,
    "trusted_hosts": str,
    "trusted_proxies": str,
}
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "worker": ("process", "inline"),
    "device": ("auto", "cpu", "cuda", "mps"),
    "precision": ("auto", "float32", "float16", "bfloat16"),
    "offload": ("auto", "none", "encoders", "model", "group"),
    "attention": ("auto", "sdpa", "xformers", "sliced"),
}
_FORMS: Mapping[str, tuple[re.Pattern[str], str]] = {
    "root_path": (re.compile(r"/?|(/[\w.~-]*\w[\w.~-]*)+/?", re.ASCII), "use a path like /darkroom"),
    "trusted_hosts": (re.compile(r"[\w.:\[\], -]*", re.ASCII), "use names like darkroom.example, with commas between"),
    "trusted_proxies": (re.compile(r"[0-9A-Fa-f.:/\[\], ]*", re.ASCII), "use addresses like 192.168.1.2 or 10.0.0.0/8"),
}
_LEAST: Mapping[str, int] = {
    "port": 0,
    "max_jobs_per_owner": 1,
    "max_jobs": 1,
    "threads": 1,
    "memory_gb": 1,
    "max_pixels": 64 * 64,
}


def load_settings(argv: Sequence[str], environ: Mapping[str, str], project_dir: Path) -> Settings:
    """Read all sources.

    Raises:
        StudioError: names the argument or variable, its value, and what to use.
        SystemExit: from argparse, for --help and for arguments it does not know.
    """
    arguments = _parse_arguments(argv)
    data_dir = Path(arguments.pop("data", None) or environ.get("DARKROOM_DATA") or project_dir).resolve()
    values: dict[str, Any] = {}
    notices: list[str] = []
    for name, value in _read_file(data_dir / "settings.toml", notices).items():
        if name in _TYPES and not _problem(name, value):
            values[name] = value
        elif name not in ("models", "data"):
            notices.append(f"settings.toml: “{str(name)[:40]}” is not used ({_problem(name, value)}).")
    values |= _from_environment(environ)
    models = [project_dir / "models", *_model_folders(data_dir, environ)]
    models += [Path(folder).resolve() for folder in arguments.pop("models", None) or ()]
    values |= arguments
    for name, value in values.items():
        if problem := _problem(name, value):
            raise StudioError(f"{name} is “{str(value)[:60]}”: {problem}.", code="settings")
    values |= {name: _listed(values[name]) for name in ("trusted_hosts", "trusted_proxies") if name in values}
    values["root_path"] = values.get("root_path", "").rstrip("/")
    _check_proxies(values.get("trusted_proxies", ()))
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
        model_dirs=tuple(dict.fromkeys(models)),
        password=environ.get(_PASSWORD_VARIABLE) or None,
        hub_token=environ.get("HF_TOKEN") or None,
        hub_offline=environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"),
        space_host=environ.get("SPACE_HOST") or None,
        extension_dirs=(project_dir / "extensions",),
        notices=tuple(notices),
        **values,
    )


def _is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; a name that is not known to be so is not."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _listed(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))


def _check_proxies(proxies: Sequence[str]) -> None:
    for proxy in proxies:
        try:
            ipaddress.ip_network(proxy.strip("[]"), strict=False)
        except ValueError:
            raise StudioError(
                f"trusted_proxies names “{proxy[:60]}”, which is no address.",
                "Use addresses like 192.168.1.2 or 10.0.0.0/8.",
                code="settings",
            ) from None


def _parse_arguments(argv: Sequence[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(
        prog="darkroom", argument_default=argparse.SUPPRESS, description="A Stable Diffusion studio in the browser."
    )
    parser.add_argument("--port", type=int, help="port of the page (7860)")
    parser.add_argument("--host", help="address to listen on (127.0.0.1, with --lan 0.0.0.0)")
    parser.add_argument("--data", metavar="DIR", help="folder for everything that is written")
    parser.add_argument(
        "--models",
        metavar="DIR",
        action="append",
        help="a further folder of models, a web UI's folder, or an extra_model_paths.yaml",
    )
    parser.add_argument("--lan", action="store_true", help=f"let others on the network in; needs {_PASSWORD_VARIABLE}")
    parser.add_argument(
        "--root-path", metavar="PATH", help="path below which a reverse proxy shows the page, like /darkroom"
    )
    parser.add_argument("--trusted-hosts", metavar="NAMES", help="public names of it, with commas between")
    parser.add_argument("--trusted-proxies", metavar="ADDRESSES", help="proxies whose word counts (this machine's)")
    parser.add_argument("--no-browser", action="store_false", dest="open_browser", help="do not open the page")
    parser.add_argument("--worker", choices=_CHOICES["worker"], help="where the engine runs (process)")
    parser.add_argument("--device", choices=_CHOICES["device"], help="what it runs on (auto)")
    parser.add_argument(
        "--precision",
        choices=_CHOICES["precision"],
        help="compute dtype (auto: float16 on GPUs, bfloat16 on CPUs where it is faster)",
    )
    parser.add_argument(
        "--offload",
        choices=_CHOICES["offload"],
        help="which parts of a model leave a card that is short of memory (auto)",
    )
    parser.add_argument("--attention", choices=_CHOICES["attention"], help="how attention is computed (auto)")
    parser.add_argument("--memory-gb", type=int, metavar="GB", help="memory that models may take (half of it)")
    return vars(parser.parse_args(list(argv)))


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, kind in _TYPES.items():
        text = environ.get(f"DARKROOM_{name.upper()}")
        if text is None or text == "":
            continue
        try:
            values[name] = _read_text(text, kind)
        except ValueError:
            raise StudioError(
                f"DARKROOM_{name.upper()} is “{text[:60]}”, not {_KIND_WORDS[kind]}.", code="settings"
            ) from None
    return values


_KIND_WORDS: Mapping[type, str] = {int: "a whole number", bool: "true or false", str: "text"}


def _read_text(text: str, kind: type) -> object:
    if kind is bool:
        return (
            {
                "1": True,
                "true": True,
                "yes": True,
                "on": True,
                "0": False,
                "false": False,
                "no": False,
                "off": False,
            }.get(text.lower())
            if text.lower() in ("1", "true", "yes", "on", "0", "false", "no", "off")
            else _raise(text)
        )
    return kind(text)


def _raise(text: str) -> object:
    raise ValueError(text)


def _problem(name: object, value: object) -> str:
    """Why a value can't be used; empty when it can."""
    if not isinstance(name, str) or name not in _TYPES:
        return "there is no such setting"
    kind = _TYPES[name]
    if type(value) is not kind:
        return f"use {_KIND_WORDS[kind]}"
    if name in _CHOICES and value not in _CHOICES[name]:
        return f"use {' or '.join(_CHOICES[name])}"
    if isinstance(value, int) and name in _LEAST and value < _LEAST[name]:
        return f"use {_LEAST[name]} or more"
    if name in _FORMS and not _FORMS[name][0].fullmatch(str(value)):
        return _FORMS[name][1]
    if name == "port" and isinstance(value, int) and value > 65535:
        return "use 0 to 65535"
    return ""


def _model_folders(data_dir: Path, environ: Mapping[str, str]) -> list[Path]:
    folders = [Path(part).resolve() for part in environ.get("DARKROOM_MODELS", "").split(os.pathsep) if part]
    listed = _read_file(data_dir / "settings.toml", []).get("models", [])
    if isinstance(listed, list):
        folders += [(data_dir / part).resolve() for part in listed if isinstance(part, str)]
    return folders


def _read_file(path: Path, notices: list[str]) -> dict[str, Any]:
    for candidate in (path, path.with_name(path.name + ".bak")):
        try:
            text = candidate.read_text("utf-8-sig")  # Windows' editor marks its files
            table = tomllib.loads(text)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError) as error:
            cause = error.strerror if isinstance(error, OSError) else "it is not valid TOML"
            notices.append(f"{candidate.name} can't be read ({cause}); it was left as it is.")
            continue
        if candidate is path and not text.strip() and _has_backup(path):
            notices.append(f"{path.name} is empty; {path.name}.bak is used.")
            continue
        if candidate is not path:
            notices.append(f"{candidate.name} is used instead.")
        return table
    return {}


def _has_backup(path: Path) -> bool:
    return path.with_name(path.name + ".bak").is_file()


SETTING_NAMES = tuple(f.name for f in fields(Settings))
