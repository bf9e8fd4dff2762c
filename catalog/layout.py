"""Where models lie: the folders of A1111, Forge and ComfyUI, and ComfyUI's extra_model_paths.yaml.

A folder's name never says what a safetensors file in it is; it shortens the model's name, and says what a file may
be that isn't opened (a pickle) or can't be understood.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import yaml

from contract.values import ModelKind

logger = logging.getLogger(__name__)
EXTRA_PATHS = "extra_model_paths.yaml"
MAX_YAML_BYTES = 1_000_000
KIND_FOLDERS: Mapping[str, ModelKind] = MappingProxyType({
    "stable-diffusion": "checkpoint", "checkpoints": "checkpoint", "checkpoint": "checkpoint",
    "diffusion_models": "checkpoint", "unet": "checkpoint", "diffusers": "checkpoint",
    "lora": "lora", "loras": "lora", "lycoris": "lora",
    "vae": "vae",
    "controlnet": "controlnet", "t2i_adapter": "t2i_adapter", "t2iadapter": "t2i_adapter",
    "ipadapter": "ip_adapter", "ip_adapter": "ip_adapter", "ip-adapter": "ip_adapter",
    "embeddings": "embedding", "embedding": "embedding", "hypernetworks": "hypernetwork", "hypernetwork": "hypernetwork",
    "esrgan": "upscaler", "realesrgan": "upscaler", "swinir": "upscaler", "dat": "upscaler", "hat": "upscaler",
    "bsrgan": "upscaler", "scunet": "upscaler", "upscaler": "upscaler", "upscale_models": "upscaler", "latent_upscale_models": "upscaler",
})
# Holds no models that people choose: files of preprocessors, faces, parts of models; and what isn't a model.
OTHER_FOLDERS = frozenset({
    "annotators", "gfpgan", "codeformer", "vae-approx", "vae_approx", "ldsr", "deepbooru", "blip", "karlo",
    "text_encoder", "text_encoders", "clip", "clip_vision", "image_encoder", "gligen", "photomaker", "style_models",
    "configs", "venv", "__pycache__", "node_modules", "site-packages", "custom_nodes"})
_WEBUI_SIGNS = ("embeddings", "extensions", "custom_nodes", "webui.py", "webui.sh", "launch.py", "main.py", "comfy",
                "modules", "models")
_CONTROLNET_EXTENSION = Path("extensions", "sd-webui-controlnet", "models")


@dataclass(frozen=True, slots=True)
class Place:
    """A folder to look into.

    Attributes:
        kind: What its files are by convention; None where subfolders say it, or nothing does.
    """

    folder: Path
    kind: ModelKind | None = None


def kind_of_folder(name: str) -> ModelKind | None:
    """What a folder of this name holds by convention."""
    return KIND_FOLDERS.get(name.casefold())


def places_of(roots: Sequence[Path]) -> tuple[Place, ...]:
    """Where to look, in order.

    Args:
        roots: Folders of models, folders of a web UI (with a folder `models`), and extra_model_paths.yaml files.
    """
    found: dict[Path, Place] = {}
    for root in roots:
        for place in _places_of(root):
            found.setdefault(place.folder, place)
    return tuple(found.values())


def _places_of(root: Path) -> Iterator[Place]:
    if root.suffix in (".yaml", ".yml"):
        yield from read_extra_paths(root)
        return
    if _is_web_ui(root):
        yield Place(root / "models")
        for folder, kind in ((root / "embeddings", "embedding"), (root / _CONTROLNET_EXTENSION, "controlnet")):
            if folder.is_dir():
                yield Place(folder, kind_of_folder(kind + "s") or "controlnet")
        home = root
    else:
        yield Place(root, kind_of_folder(root.name))
        home = root.parent if root.name == "models" else root
    yield from read_extra_paths(home / EXTRA_PATHS)


def _is_web_ui(root: Path) -> bool:
    """Whether a folder is a web UI's own: a folder `models` with known folders in it, and some of its other things."""
    try:
        names = set(os.listdir(root))
        if "models" not in names or len(names & set(_WEBUI_SIGNS)) < 2:
            return False
        return any(kind_of_folder(name) for name in os.listdir(root / "models"))
    except OSError:
        return False


def read_extra_paths(path: Path) -> Iterator[Place]:
    """The folders that ComfyUI's file names: sections with `base_path`, and a line or several for each kind.

    A file that isn't there names none, one that can't be understood is logged.
    """
    try:
        if path.stat().st_size > MAX_YAML_BYTES:
            raise ValueError("it is too large")
        sections = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        logger.warning("%s can't be read (%s); the folders it names are left out", path, str(error).split("\n")[0])
        return
    for section in sections.values() if isinstance(sections, dict) else ():
        if isinstance(section, dict):
            yield from _section(section, path.parent)


def _section(section: Mapping[object, object], home: Path) -> Iterator[Place]:
    base = section.get("base_path")
    folder = home / _expanded(base) if isinstance(base, str) else home
    for key, lines in section.items():
        kind = kind_of_folder(str(key))
        if key in ("base_path", "is_default") or str(key).casefold() in OTHER_FOLDERS or not isinstance(lines, str):
            continue
        for line in lines.splitlines():
            if kind and line.strip():
                yield Place(Path(os.path.normpath(folder / _expanded(line.strip()))), kind)


def _expanded(text: str) -> Path:
    return Path(os.path.expandvars(text)).expanduser()
