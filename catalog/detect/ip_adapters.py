"""IP-Adapters: which kind a file is, which image encoder it takes, and where that is. By header and configuration.

The kinds are those of tencent-ailab/IP-Adapter (arXiv 2308.06721). A file for faces (“plus face”) has the shapes of one
for pictures, and its authors prepare its picture alike: it should show little more than the face. FaceID takes a vector
that the library insightface makes of a face; neither that nor its files come with Darkroom (their license is not free).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from catalog.families import OLDEST, family_of_width, family_with_size_inputs
from catalog.families.sniffed import Sniffed
from catalog.files.folders import read_json
from catalog.files.headers import TensorInfo, read_header
from catalog.files.tensor_names import has_prefix
from contract.errors import ModelProblem

IMAGE_ENCODER = "image_encoder"
_DEEP_LAYERS = 60  # SDXL has 70 cross-attentions, SD 1.x and 2.x 16
_FACE_VECTOR = 512  # insightface's
FACE_PACK = "buffalo_l"  # of insightface's models: what FaceID was trained with
_FACE_FILES = ("det_10g.onnx", "w600k_r50.onnx")  # that find a face and make its vector
Header = Mapping[str, TensorInfo]


@dataclass(frozen=True, slots=True)
class IpAdapterKind:
    """A projection of pictures.

    Attributes:
        label: As people call it; empty for the plain one.
        mark: A tensor that only this kind has.
        entry: The tensor that takes the encoder's output, (…, width).
        setting: Of the encoder's configuration: what that width is. The plain kind takes the picture as one vector,
            the others all its patches.
        is_of_face: It takes a face's vector, too, or alone.
    """

    label: str
    mark: str
    entry: str = ""
    setting: str = ""
    is_of_face: bool = False


# In the order in which they are told apart.
_KINDS = (
    IpAdapterKind("", "proj.weight", "proj.weight", "projection_dim"),
    IpAdapterKind("Full face", "proj.3.weight", "proj.0.weight", "hidden_size"),
    IpAdapterKind(
        "FaceID Plus",
        "perceiver_resampler.proj_in.weight",
        "perceiver_resampler.proj_in.weight",
        "hidden_size",
        is_of_face=True,
    ),
    IpAdapterKind("Plus", "latents", "proj_in.weight", "hidden_size"),
    IpAdapterKind("FaceID", "norm.weight", is_of_face=True),
)
# The encoders that adapters were trained with, by what is taken of them.
_ENCODERS: Mapping[tuple[str, int], str] = MappingProxyType(
    {
        ("projection_dim", 1024): "CLIP ViT-H/14 of LAION",
        ("hidden_size", 1280): "CLIP ViT-H/14 of LAION",
        ("projection_dim", 1280): "CLIP ViT-bigG/14 of LAION",
        ("hidden_size", 1664): "CLIP ViT-bigG/14 of LAION",
        ("projection_dim", 768): "CLIP ViT-L/14 of OpenAI",
        ("hidden_size", 1024): "CLIP ViT-L/14 of OpenAI",
    }
)


def ip_adapter_kind(header: Header) -> IpAdapterKind:
    """The kind of an IP-Adapter's file.

    Raises:
        ModelProblem: it is of none that is known.
    """
    for kind in _KINDS:
        if f"image_proj.{kind.mark}" in header:
            return kind
    raise ModelProblem("It is an IP-Adapter of a kind that is not known.", "Use a plain, plus or full-face one.")


def sniff_ip_adapter(header: Header) -> Sniffed:
    """Kind and family of an IP-Adapter's file.

    Raises:
        ModelProblem: it can't be used.
    """
    keys = [info.shape for name, info in header.items() if name.endswith(".to_k_ip.weight")]
    if not keys or not has_prefix(header, "image_proj."):
        raise ModelProblem("It lacks the layers of an IP-Adapter.", "Download it again.")
    kind = ip_adapter_kind(header)
    width = keys[0][1] if len(keys[0]) == 2 else 0
    family = family_of_width(width) or (family_with_size_inputs() if len(keys) >= _DEEP_LAYERS else OLDEST)
    if kind.label == "Plus" and _width_of(header, kind) == _FACE_VECTOR:
        raise ModelProblem(
            "It is InstantID's IP-Adapter, for face recognition vectors, which are not made here.",
            "Use an IP-Adapter Plus.",
        )
    return Sniffed("ip_adapter", family, detail=kind.label)


def is_of_face(label: str) -> bool:
    """Whether an IP-Adapter of the kind with this label takes a face's vector."""
    return any(kind.label == label and kind.is_of_face for kind in _KINDS)


def face_root(folders: Sequence[Path]) -> Path | None:
    """Where insightface finds its models, `models/buffalo_l/` in it; None where they are not.

    Args:
        folders: As `preprocessors.annotator_folders`.
    """
    for folder in folders:
        root = folder / "insightface"
        if all((root / "models" / FACE_PACK / name).is_file() for name in _FACE_FILES):
            return root
    return None


def _width_of(header: Header, kind: IpAdapterKind) -> int:
    info = header.get(f"image_proj.{kind.entry}")
    return info.shape[1] if info is not None and len(info.shape) == 2 else 0


def image_encoder_of(adapter: Path) -> Path | None:
    """The folder of the encoder that an IP-Adapter was trained with, found by the width of its input.

    Returns:
        None for one that takes no picture: a face's vector alone.
    Raises:
        ModelProblem: there is none, or none of that width.
    """
    header = read_header(adapter)
    kind = ip_adapter_kind(header)
    if not kind.entry:
        return None
    width = _width_of(header, kind)
    if not width:
        raise ModelProblem("It is an IP-Adapter of a kind that is not known.", "Use a plain, plus or full-face one.")
    candidates = [adapter.parent / IMAGE_ENCODER, *sorted(adapter.parent.parent.glob(f"*/{IMAGE_ENCODER}"))]
    encoders = [folder for folder in candidates if (folder / "config.json").is_file()]
    for folder in encoders:
        if read_json(folder / "config.json").get(kind.setting) == width:
            return folder
    name = _ENCODERS.get((kind.setting, width), "")
    named = f", {name}," if name else ""
    if encoders:
        raise ModelProblem(
            f"It takes pictures encoded {width} wide{f' ({name})' if name else ''}, which “{IMAGE_ENCODER}” does not.",
            "Put the encoder it came with beside it.",
        )
    raise ModelProblem(
        f"The encoder of its pictures{named} is missing: a folder “{IMAGE_ENCODER}” beside it.",
        f"Download “{IMAGE_ENCODER}” from where the adapter came from.",
    )
