"""Where models are kept: the folders of A1111, Forge and ComfyUI, and ComfyUI's extra_model_paths.yaml.

A folder's name never decides what a safetensors file in it is; it shortens the model's name, and gives the kind of a
file that isn't opened (a pickle) or can't be understood.
"""

import logging
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import yaml

from catalog.files.plain_text import printable
from contract.values import ModelKind

logger = logging.getLogger(__name__)
EXTRA_PATHS = "extra_model_paths.yaml"
MAX_YAML_BYTES = 200_000  # the parser needs seconds for a megabyte
# Folders by the kind of what is in them, in the words of A1111, Forge, SD.Next, ComfyUI, InvokeAI, Fooocus, Easy
# Diffusion, StabilityMatrix and our own. Compared without case, spaces, hyphens and underscores, in singular and
# plural.
_KIND_NAMES: Mapping[ModelKind, str] = MappingProxyType(
    {
        "checkpoint": "stable-diffusion sd checkpoint ckpt main diffusion unet diffuser onnx gguf transformer",
        "lora": "lora lycoris locon loha lokr dora animatediff_motion_lora lcm_lora",
        "vae": "vae autoencoder",
        "controlnet": (
            "controlnet control_net control control_lora controlnet_union controllora control_xs control_lite"
        ),
        "t2i_adapter": "t2i_adapter t2iadapter t2i",
        "ip_adapter": "ip_adapter invoke_ip_adapters15 invoke_ip_adapters_xl ip_adapter_plus",
        "embedding": "embedding textual_inversion ti negative_embedding",
        "hypernetwork": "hypernetwork hypernet",
        "upscaler": (
            "esrgan realesrgan real_esrgan swinir swin2sr dat hat bsrgan scunet omnisr span compact atd drct rgt plksr "
            "chainner upscaler upscale upscaling upscale_model latent_upscale_model latent_upscaler spandrel "
            "spandrel_image_to_image image_to_image super_resolution sr"
        ),
    }
)
# Holds no models that people choose: files of preprocessors, faces, parts of models; and what isn't a model.
_OTHER_NAMES = """
    annotators annotator controlnet_preprocessor gfpgan codeformer vae-approx approx_vae taesd ldsr deepbooru blip karlo
    text_encoder clip clip_vision invoke_clip_vision image_encoder gligen photomaker style_model configs
    venv __pycache__ node_modules site-packages custom_nodes"""
# The same, but inside the folder of a kind it may be anybody's word for a theme.
_OTHER_NAMES_OUTSIDE = """
    preprocessor facerestore face_restoration facedetection torch_deepdanbooru deepdanbooru clip_embed t5_encoder llm
    model_patches audio_encoder instantid pulid insightface ultralytics adetailer after_detailer yolo sam
    grounding-dino prompt_expansion safety_checker feature_extractor animatediff animatediff_models wildcards"""


def _squashed(name: str) -> str:
    """A folder's name without case, separators and plural, which programs spell differently."""
    return re.sub(r"[\s_.-]+", "", name.casefold()).removesuffix("s")


KIND_FOLDERS: Mapping[str, ModelKind] = MappingProxyType(
    {_squashed(name): kind for kind, names in _KIND_NAMES.items() for name in names.split()}
)
OTHER_FOLDERS = frozenset(map(_squashed, _OTHER_NAMES.split()))
_OTHER_FOLDERS_OUTSIDE = OTHER_FOLDERS | frozenset(map(_squashed, _OTHER_NAMES_OUTSIDE.split()))
_WEBUI_SIGNS = (
    "embeddings",
    "extensions",
    "custom_nodes",
    "webui.py",
    "webui.sh",
    "launch.py",
    "main.py",
    "comfy",
    "modules",
    "models",
)
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
    """The kind of the models in a folder of this name, by convention."""
    squashed = _squashed(name)
    return KIND_FOLDERS.get(squashed) or KIND_FOLDERS.get(squashed.removesuffix("model"))


def is_other_folder(name: str, inside: ModelKind | None = None) -> bool:
    """Whether a folder of this name holds no models that people choose. `inside`: of the folder it lies in."""
    return _squashed(name) in (OTHER_FOLDERS if inside else _OTHER_FOLDERS_OUTSIDE)


def places_of(roots: Sequence[Path]) -> tuple[Place, ...]:
    """List the folders to look into, in order.

    Args:
        roots: Folders of models, folders of a web UI (with a folder `models`), and extra_model_paths.yaml files.
    """
    found: dict[Path, Place] = {}
    for root in roots:
        if root.suffix in (".yaml", ".yml"):
            places = list(read_extra_paths(root))
        elif _is_web_ui(root):
            places = [Place(root / "models")]
            for place in (
                Place(root / "embeddings", "embedding"),
                Place(root / _CONTROLNET_EXTENSION, "controlnet"),
            ):
                if place.folder.is_dir():
                    places.append(place)
            places += read_extra_paths(root / EXTRA_PATHS)
        else:
            home = root.parent if root.name == "models" else root
            places = [Place(root, kind_of_folder(root.name)), *read_extra_paths(home / EXTRA_PATHS)]
        for place in places:
            found.setdefault(place.folder, place)
    return tuple(found.values())


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
    """The folders that ComfyUI's file names: sections with `base_path`, and one or more lines for each kind.

    A file that isn't there names none; one that can't be understood, and a line that names no place, is logged.
    """
    try:
        status = path.stat()
        if status.st_size > MAX_YAML_BYTES or not stat.S_ISREG(status.st_mode):
            raise ValueError("it is too large, or no regular file")
        sections = yaml.safe_load(path.read_bytes())
    except FileNotFoundError:
        return
    except (OSError, ValueError, OverflowError, RecursionError, yaml.YAMLError) as error:
        cause = error.strerror if isinstance(error, OSError) else str(error).split("\n")[0]
        logger.warning("%s can't be read (%s); the folders it names are left out", path, printable(str(cause), 200))
        return
    if sections is not None and not isinstance(sections, dict):
        logger.warning("%s has no sections; the folders it names are left out", path)
    for section in sections.values() if isinstance(sections, dict) else ():
        if isinstance(section, dict):
            yield from _places_in_section(section, path)


def _places_in_section(section: Mapping[object, object], file: Path) -> Iterator[Place]:
    base = section.get("base_path")
    folder: Path | None = file.parent
    if isinstance(base, str):
        folder = _place_at(file.parent, base, file)
    for key, lines in section.items():
        name = key if isinstance(key, str) else ""
        kind = kind_of_folder(name)
        if folder is None or kind is None or is_other_folder(name) or not isinstance(lines, str):
            continue
        for line in filter(None, map(str.strip, lines.splitlines())):
            place = _place_at(folder, line, file)
            if place is not None:
                yield Place(place, kind)


def _place_at(home: Path, text: str, file: Path) -> Path | None:
    """A folder that a file names; None, with a line in the log, for one that no file system could have."""
    expanded = os.path.expanduser(os.path.expandvars(text))
    if not expanded.isprintable():
        logger.warning("%s names a folder that can't be: %s", file, printable(text, 100))
        return None
    if expanded.startswith("~"):
        logger.warning("%s names a folder of a person this machine doesn't know: %s", file, printable(text, 100))
        return None
    return Path(os.path.normpath(home / expanded))
