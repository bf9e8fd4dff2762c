"""Preprocessors by the names people use: what each makes of a picture, its options, and the files it needs.

Names are the field's (A1111's ControlNet extension, Forge). Those without files work at once; the others once
their files are in a folder `annotators` below a model folder. How each works is in `engine/images/preprocessors.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from contract.errors import InvalidInput, InvalidRecipe, ModelProblem

FOLDER = "annotators"
RESOLUTION = 512  # of the shorter side, where nothing else is asked for
MAX_PIXELS = 16 * 2**20  # of the picture that a preprocessor works on
NONE = "none"
INPAINT = "inpaint_only"
_ANNOTATORS = "lllyasviel/Annotators"


@dataclass(frozen=True, slots=True)
class Option:
    """A threshold of a preprocessor, under the name it has there; `least` to `most` make sense."""

    label: str
    default: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class AnnotatorFile:
    """A file that a preprocessor needs.

    Attributes:
        repository: Where it comes from on huggingface.co.
        megabytes: About its size.
        sha256: Of its bytes; empty where it is not known.
    """

    name: str
    repository: str
    megabytes: int
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Preprocessor:
    """A way to make a control map.

    Attributes:
        makes: What the map shows, for people.
        control_type: The same as one of `catalog.detect.control_models.UNION_CONTROL_TYPES`; empty for none of them.
        low, high: Its thresholds; None where it has none.
        has_resolution: Whether the resolution that it works at may be chosen.
        needs_mask: It cuts the mask out of the start picture, so it has no preview of its own.
        needs_model: A control model reads its map. False of those that show the picture itself to the checkpoint.
    """

    id: str
    label: str
    makes: str
    control_type: str = ""
    aliases: tuple[str, ...] = ()
    low: Option | None = None
    high: Option | None = None
    has_resolution: bool = True
    needs_mask: bool = False
    needs_model: bool = True
    files: tuple[AnnotatorFile, ...] = ()

    @property
    def megabytes(self) -> int:
        """About the size of its files."""
        return sum(file.megabytes for file in self.files)


def _from_annotators(name: str, megabytes: int, sha256: str = "") -> AnnotatorFile:
    return AnnotatorFile(name, _ANNOTATORS, megabytes, sha256)


_HED = (_from_annotators("ControlNetHED.pth", 29, "5ca93762ffd68a29fee1af9d495bf6aab80ae86f08905fb35472a083a4c7a8fa"),)
_PIDI = (_from_annotators("table5_pidinet.pth", 3, "80860ac267258b5f27486e0ef152a211d0b08120f62aeb185a050acc30da486c"),)
_LINEART = (
    _from_annotators("sk_model.pth", 17, "c686ced2a666b4850b4bb6ccf0748031c3eda9f822de73a34b8979970d90f0c6"),
    _from_annotators("sk_model2.pth", 17, "30a534781061f34e83bb9406b4335da4ff2616c95d22a585c1245aa8363e74e0"),
)
_ANIME = (_from_annotators("netG.pth", 218, "ccabdcc3f5cf3c07cf65d58776acb21df7dfda825cdc70c9766a93fd62bfc488"),)
_MLSD = (
    _from_annotators("mlsd_large_512_fp32.pth", 6, "5696f168eb2c30d4374bbfd45436f7415bb4d88da29bea97eea0101520fba082"),
)
_MIDAS = (
    _from_annotators(
        "dpt_hybrid-midas-501f0c75.pt", 493, "501f0c75b3bca7daec6b3682c5054c09b366765aef6fa3a09d03a5cb4b230853"
    ),
)
_ZOE = (_from_annotators("ZoeD_M12_N.pt", 1443),)
_LERES = (
    _from_annotators("res101.pth", 531, "1d696b2ef3e8336b057d0c15bc82d2fecef821bfebe5ef9d7671a5ec5dde520b"),
    _from_annotators("latest_net_G.pth", 318, "50ec735d74ed6499562d898f41b49343e521808b8dae589aa3c2f5c9ac9f7462"),
)
_BAE = (_from_annotators("scannet.pt", 291, "03dbf1600c51ee3d45c29f77b77bf1a3b7a24c3452dba62a4ae658f37330c209"),)
_POSE = (
    _from_annotators("body_pose_model.pth", 209, "25a948c16078b0f08e236bda51a385d855ef4c153598947c28c0d47ed94bb746"),
    _from_annotators("hand_pose_model.pth", 147, "b76b00d1750901abd07b9f9d8c98cc3385b8fe834a26d4b4f0aad439e75fc600"),
    _from_annotators("facenet.pth", 154, "8beb52e548624ffcc4aed12af7aee7dcbfaeea420c75609fee999fe7add79d43"),
)
_TEED = (
    AnnotatorFile(
        "7_model.pth",
        "bdsqlsz/qinglong_controlnet-lllite",
        1,
        "b9037964149c55156c6adbffdfbd7e8ca7d2ef2a4d90573520efa7f3a1aacf06",
    ),
)
_ANYLINE = (AnnotatorFile("MTEED.pth", "TheMistoAI/MistoLine", 1),)
_SAM = (AnnotatorFile("sam_vit_h_4b8939.pth", "ybelkada/segment-anything", 2565),)

_STYLE_FIDELITY = Option("Style fidelity", 0.5, 0, 1)
_PREPROCESSORS = (
    Preprocessor(NONE, "None", "the picture as it is: it is a map already", has_resolution=False),
    Preprocessor(
        "canny",
        "Canny",
        "thin edges",
        "lines",
        low=Option("Low threshold", 100, 1, 255),
        high=Option("High threshold", 200, 1, 255),
    ),
    Preprocessor(
        "lineart_standard",
        "Lineart, standard",
        "lines",
        "lines",
        ("lineart_standard (from white bg & black line)",),
    ),
    Preprocessor("lineart_realistic", "Lineart, realistic", "lines as drawn", "lines", ("lineart",), files=_LINEART),
    Preprocessor("lineart_coarse", "Lineart, coarse", "few bold lines", "lines", files=_LINEART),
    Preprocessor("lineart_anime", "Lineart, anime", "lines as inked", "lines", files=_ANIME),
    Preprocessor(
        "mlsd",
        "MLSD",
        "straight lines",
        "lines",
        low=Option("Value threshold", 0.1, 0.01, 2),
        high=Option("Distance threshold", 0.1, 0.01, 20),
        files=_MLSD,
    ),
    Preprocessor(
        "softedge_anyline",
        "Soft edges, AnyLine",
        "soft edges and fine lines",
        "lines",
        ("anyline",),
        files=_ANYLINE,
    ),
    Preprocessor("scribble_xdog", "Scribble, XDoG", "broad strokes", "soft_edges", low=Option("Threshold", 32, 1, 64)),
    Preprocessor("scribble_hed", "Scribble, HED", "broad strokes", "soft_edges", ("scribble",), files=_HED),
    Preprocessor("scribble_pidinet", "Scribble, PiDiNet", "broad strokes", "soft_edges", files=_PIDI),
    Preprocessor("softedge_hed", "Soft edges, HED", "soft edges", "soft_edges", ("hed", "softedge"), files=_HED),
    Preprocessor(
        "softedge_hedsafe",
        "Soft edges, HED safe",
        "soft edges in few steps",
        "soft_edges",
        ("hed_safe",),
        files=_HED,
    ),
    Preprocessor("softedge_pidinet", "Soft edges, PiDiNet", "soft edges", "soft_edges", ("pidinet",), files=_PIDI),
    Preprocessor(
        "softedge_pidisafe",
        "Soft edges, PiDiNet safe",
        "soft edges in few steps",
        "soft_edges",
        ("pidinet_safe", "softedge_pidsafe"),
        files=_PIDI,
    ),
    Preprocessor("softedge_teed", "Soft edges, TEED", "soft edges", "soft_edges", ("teed",), files=_TEED),
    Preprocessor("depth_midas", "Depth, MiDaS", "depth, near is white", "depth", ("depth", "midas"), files=_MIDAS),
    Preprocessor("depth_zoe", "Depth, ZoeDepth", "depth, near is white", "depth", ("zoe",), files=_ZOE),
    Preprocessor(
        "depth_leres",
        "Depth, LeReS",
        "depth, near is white",
        "depth",
        ("leres",),
        low=Option("Near cut away, %", 0, 0, 100),
        high=Option("Background cut away, %", 0, 0, 100),
        files=_LERES,
    ),
    Preprocessor(
        "depth_leres_boost",
        "Depth, LeReS++",
        "depth in fine detail, near is white",
        "depth",
        ("depth_leres++",),
        low=Option("Near cut away, %", 0, 0, 100),
        high=Option("Background cut away, %", 0, 0, 100),
        files=_LERES,
    ),
    Preprocessor("normal_bae", "Normals, BAE", "how surfaces lie", "normals", ("normalbae",), files=_BAE),
    Preprocessor("normal_midas", "Normals, MiDaS", "how surfaces lie", "normals", ("normal_map",), files=_MIDAS),
    Preprocessor("openpose", "OpenPose", "poses of bodies", "pose", files=_POSE),
    Preprocessor("openpose_hand", "OpenPose, hands", "poses of bodies and hands", "pose", files=_POSE),
    Preprocessor("openpose_face", "OpenPose, face", "poses of bodies and faces", "pose", files=_POSE),
    Preprocessor("openpose_faceonly", "OpenPose, face only", "poses of faces", "pose", files=_POSE),
    Preprocessor("openpose_full", "OpenPose, full", "poses of bodies, hands and faces", "pose", files=_POSE),
    Preprocessor("segment_anything", "Segment Anything", "areas, each in a color", "segments", ("sam",), files=_SAM),
    Preprocessor(
        INPAINT,
        "Inpaint",
        "the start picture with the masked part cut out",
        "inpaint",
        ("inpaint",),
        has_resolution=False,
        needs_mask=True,
    ),
    Preprocessor("shuffle", "Shuffle", "the colors and textures, out of place"),
    Preprocessor(
        "tile_resample",
        "Tile",
        "the picture without its detail",
        "tile",
        low=Option("Made smaller by", 1, 1, 8),
    ),
    Preprocessor("blur_gaussian", "Blur", "the picture, blurred", "tile", low=Option("Radius", 9, 0.01, 64)),
    Preprocessor(
        "recolor_luminance",
        "Recolor, luminance",
        "the picture in gray, as bright as it looks",
        "",
        low=Option("Gamma", 1, 0.1, 2),
    ),
    Preprocessor(
        "recolor_intensity",
        "Recolor, intensity",
        "the picture in gray, by its strongest color",
        "",
        low=Option("Gamma", 1, 0.1, 2),
    ),
    Preprocessor(
        "color_grid",
        "Color grid",
        "the colors in squares",
        "",
        ("t2ia_color_grid", "color"),
        low=Option("Side of a square", 64, 8, 255),
    ),
    Preprocessor(
        "threshold",
        "Threshold",
        "black and white",
        "soft_edges",
        ("binary",),
        low=Option("Threshold", 127, 0, 255),
    ),
    Preprocessor(
        "invert",
        "Invert",
        "the negative, for black lines on white",
        "lines",
        ("invert (from white bg & black line)", "scribble_invert"),
    ),
    Preprocessor(
        "reference_only",
        "Reference",
        "the result take after the picture, without a control model",
        low=_STYLE_FIDELITY,
        has_resolution=False,
        needs_model=False,
    ),
    Preprocessor(
        "reference_adain",
        "Reference, colors",
        "the result take over colors and contrasts of the picture, without a control model",
        low=_STYLE_FIDELITY,
        has_resolution=False,
        needs_model=False,
    ),
    Preprocessor(
        "reference_adain+attn",
        "Reference, both",
        "the result take after the picture and its colors, without a control model",
        low=_STYLE_FIDELITY,
        has_resolution=False,
        needs_model=False,
    ),
)
PREPROCESSORS: Mapping[str, Preprocessor] = MappingProxyType(
    {preprocessor.id: preprocessor for preprocessor in _PREPROCESSORS}
)


def find_preprocessor(name: str) -> Preprocessor | None:
    """A preprocessor by id, label or alias, in any case."""
    wanted = name.strip().casefold()
    for preprocessor in PREPROCESSORS.values():
        for text in (preprocessor.id, preprocessor.label, *preprocessor.aliases):
            if text.casefold() == wanted:
                return preprocessor
    return None


def get_preprocessor(name: str, field: str = "preprocessor") -> Preprocessor:
    """As `find_preprocessor`.

    Raises:
        InvalidRecipe: there is none of that name.
    """
    found = find_preprocessor(name)
    if found is None:
        raise InvalidRecipe(
            f"Preprocessor is “{name[:60]}”, which is not known.",
            "Choose one of the list of preprocessors.",
            code="invalid_preprocessor",
            field=field,
        )
    return found


def annotator_folders(model_folders: Sequence[Path]) -> tuple[Path, ...]:
    """The folders where files of preprocessors are looked for."""
    return tuple(folder / FOLDER for folder in model_folders)


def missing_files(preprocessor: Preprocessor, folders: Sequence[Path]) -> tuple[AnnotatorFile, ...]:
    """The files that the first folder lacks; none when one folder has them all."""
    if home_of(preprocessor, folders) is not None:
        return ()
    if not folders:
        return preprocessor.files
    return tuple(file for file in preprocessor.files if not (folders[0] / file.name).is_file())


def home_of(preprocessor: Preprocessor, folders: Sequence[Path]) -> Path | None:
    """The first folder that has all of its files; None when there is none, or it needs none."""
    if not preprocessor.files:
        return None
    for folder in folders:
        if all((folder / file.name).is_file() for file in preprocessor.files):
            return folder
    return None


def is_installed(preprocessor: Preprocessor, folders: Sequence[Path]) -> bool:
    """Whether it can be used."""
    return not preprocessor.files or home_of(preprocessor, folders) is not None


def instructions(preprocessor: Preprocessor, folders: Sequence[Path]) -> str:
    """What to put where, as a sentence; empty when nothing has to be done."""
    named = []
    for file in missing_files(preprocessor, folders):
        named.append(f"{file.name} ({file.megabytes:,} MB, huggingface.co/{file.repository})")
    if not named:
        return ""
    return f"Put {' and '.join(named)} into models/{FOLDER}/."


def refuse_missing(preprocessor: Preprocessor, folders: Sequence[Path], field: str = "preprocessor") -> None:
    """Check that a preprocessor has its files.

    Raises:
        ModelProblem: says what to put where.
    """
    if not is_installed(preprocessor, folders):
        raise ModelProblem(
            f"The preprocessor “{preprocessor.label}” is not installed.",
            instructions(preprocessor, folders),
            code="preprocessor_not_installed",
            field=field,
        )


def refuse_shape(
    preprocessor: Preprocessor, size: tuple[int, int], resolution: int | None, field: str = "controls.image"
) -> None:
    """A long and narrow picture would become enormous at the resolution of its shorter side.

    Args:
        size: Of the picture, width and height.
        resolution: None: the preprocessor's own.
    Raises:
        InvalidInput: names the size.
    """
    resolution = resolution or RESOLUTION
    ratio = resolution / min(size)
    if preprocessor.has_resolution and size[0] * ratio * size[1] * ratio > MAX_PIXELS:
        raise InvalidInput(
            f"The control picture is {size[0]} × {size[1]}: too long and narrow for "
            f"“{preprocessor.label}” at {resolution} pixels.",
            "Crop it, or use a lower resolution.",
            code="invalid_controls_image",
            field=field,
        )


def refuse_thresholds(
    preprocessor: Preprocessor, low: float | None, high: float | None, part: str = "controls"
) -> None:
    """Thresholds must lie in the preprocessor's ranges; one that it hasn't is not looked at.

    Args:
        part: Of the request, that holds them; empty: the request itself.
    Raises:
        InvalidRecipe: names the threshold and its range.
    """
    for name, value, option in (("low", low, preprocessor.low), ("high", high, preprocessor.high)):
        if value is not None and option and not option.least <= value <= option.most:
            raise InvalidRecipe(
                f"{option.label} of “{preprocessor.label}” is {value:g}.",
                f"Use {option.least:g} to {option.most:g}.",
                code=f"invalid_controls_{name}",
                field=f"{part}.{name}".lstrip("."),
            )
