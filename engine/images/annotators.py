"""controlnet-aux: detectors by the names of `catalog/preprocessors.py`. Loaded at the first use; a second or more.

Their files are read from a folder, never fetched. Files of torch are read with weights only, so that they run
no code.
"""

import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from PIL import Image

Options = Mapping[str, Any]
Read = Callable[[int, float, float], dict[str, Any]]  # resolution, low, high -> arguments of the call


def _both(resolution: int, low: float, high: float) -> dict[str, Any]:
    return {"detect_resolution": resolution, "image_resolution": resolution}


def _detect_only(resolution: int, low: float, high: float) -> dict[str, Any]:
    return {"detect_resolution": resolution}


def _named(low_name: str, high_name: str, kind: type) -> Read:
    def read(resolution: int, low: float, high: float) -> dict[str, Any]:
        return {**_both(resolution, low, high), low_name: kind(low), high_name: kind(high)}

    return read


@dataclass(frozen=True, slots=True)
class Detector:
    """A class of controlnet-aux and how it is called.

    Attributes:
        load: Arguments of from_pretrained; None where it needs no files.
        takes: How resolution and thresholds are called there.
        choose: Of several results, the one that is meant.
    """

    name: str
    load: Options | None = None
    takes: Read = _both
    fixed: Options = field(default_factory=dict)
    choose: int | None = None


def _hed(**fixed: bool) -> Detector:
    return Detector("HEDdetector", {}, fixed=fixed)


def _pidi(**fixed: bool) -> Detector:
    return Detector("PidiNetDetector", {}, fixed=fixed)


def _pose(*, body: bool = True, hand: bool = False, face: bool = False) -> Detector:
    return Detector("OpenposeDetector", {}, fixed={"include_body": body, "include_hand": hand, "include_face": face})


_LERES = _named("thr_a", "thr_b", float)
DETECTORS: Mapping[str, Detector] = MappingProxyType(
    {
        "canny": Detector("CannyDetector", None, _named("low_threshold", "high_threshold", int)),
        "lineart_standard": Detector("LineartStandardDetector", None, _detect_only),
        "shuffle": Detector("ContentShuffleDetector"),
        "lineart_realistic": Detector("LineartDetector", {}),
        "lineart_coarse": Detector("LineartDetector", {}, fixed={"coarse": True}),
        "lineart_anime": Detector("LineartAnimeDetector", {}),
        "mlsd": Detector("MLSDdetector", {}, _named("thr_v", "thr_d", float)),
        "softedge_anyline": Detector("AnylineDetector", {"filename": "MTEED.pth"}, _detect_only),
        "softedge_teed": Detector("TEEDdetector", {"filename": "7_model.pth"}, _detect_only),
        "softedge_hed": _hed(),
        "softedge_hedsafe": _hed(safe=True),
        "scribble_hed": _hed(scribble=True),
        "softedge_pidinet": _pidi(),
        "softedge_pidisafe": _pidi(safe=True),
        "scribble_pidinet": _pidi(scribble=True),
        "depth_midas": Detector("MidasDetector", {}),
        "normal_midas": Detector("MidasDetector", {}, fixed={"depth_and_normal": True}, choose=1),
        "depth_zoe": Detector("ZoeDetector", {}),
        "depth_leres": Detector("LeresDetector", {}, _LERES),
        "depth_leres_boost": Detector("LeresDetector", {}, _LERES, {"boost": True}),
        "normal_bae": Detector("NormalBaeDetector", {}),
        "openpose": _pose(),
        "openpose_hand": _pose(hand=True),
        "openpose_face": _pose(face=True),
        "openpose_faceonly": _pose(body=False, face=True),
        "openpose_full": _pose(hand=True, face=True),
        "segment_anything": Detector("SamDetector", {}),
    }
)


def load(detector: Detector, folder: Path | None, device: torch.device) -> Any:
    """An annotator, on the device where it can go there.

    Args:
        folder: With its files; None where it needs none.
    """
    with _quietly():
        import controlnet_aux

        kind = getattr(controlnet_aux, detector.name)
        if detector.load is None or folder is None:
            return kind()
        made = kind.from_pretrained(str(folder), **detector.load)
        return made.to(device) if hasattr(made, "to") and device.type == "cuda" else made


def annotate(
    detector: Detector, annotator: Any, pixels: np.ndarray, resolution: int, low: float, high: float
) -> np.ndarray:
    """Run it. pixels: (H, W, 3), uint8. Chance is the same each time, so that a recipe makes its map again."""
    arguments = {**detector.takes(resolution, low, high), **detector.fixed}
    with _quietly(), _same_chance():
        made = annotator(pixels, output_type="np", **arguments)
    made = made if detector.choose is None else made[detector.choose]
    return np.asarray(made.convert("RGB") if isinstance(made, Image.Image) else made)


@contextmanager
def _quietly() -> Iterator[None]:
    """These libraries print, and warn of each other."""
    with warnings.catch_warnings(), redirect_stdout(StringIO()), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _same_chance() -> Iterator[None]:
    """Their chance comes from the libraries' own generators, which are given back as they were."""
    numbers, arrays = random.getstate(), np.random.get_state()
    random.seed(0)
    np.random.seed(0)
    try:
        yield
    finally:
        random.setstate(numbers)
        np.random.set_state(arrays)
