"""controlnet-aux: detectors by the names of `catalog/preprocessors.py`. Imported at the first use; a second or more.

Their files are read from a folder, never downloaded. Files of torch are read with weights only, so that they run no
code.
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
Arguments = Callable[[int, float, float], dict[str, Any]]  # resolution, low, high -> arguments of the call


def _both(resolution: int, low: float, high: float) -> dict[str, Any]:
    return {"detect_resolution": resolution, "image_resolution": resolution}


def _detect_only(resolution: int, low: float, high: float) -> dict[str, Any]:
    return {"detect_resolution": resolution}


def _with_thresholds(low_name: str, high_name: str, kind: type) -> Arguments:
    def arguments(resolution: int, low: float, high: float) -> dict[str, Any]:
        return {**_both(resolution, low, high), low_name: kind(low), high_name: kind(high)}

    return arguments


@dataclass(frozen=True, slots=True)
class Detector:
    """A class of controlnet-aux and how it is called.

    Attributes:
        load: Arguments of from_pretrained; None where it needs no files.
        arguments: Resolution and thresholds by its own parameter names.
        choose: Of several results, the one that is wanted.
    """

    name: str
    load: Options | None = None
    arguments: Arguments = _both
    fixed: Options = field(default_factory=dict)
    choose: int | None = None


def _hed(**fixed: bool) -> Detector:
    return Detector("HEDdetector", {}, fixed=fixed)


def _pidi(**fixed: bool) -> Detector:
    return Detector("PidiNetDetector", {}, fixed=fixed)


def _pose(*, body: bool = True, hand: bool = False, face: bool = False) -> Detector:
    return Detector("OpenposeDetector", {}, fixed={"include_body": body, "include_hand": hand, "include_face": face})


_LERES = _with_thresholds("thr_a", "thr_b", float)
DETECTORS: Mapping[str, Detector] = MappingProxyType(
    {
        "canny": Detector("CannyDetector", None, _with_thresholds("low_threshold", "high_threshold", int)),
        "lineart_standard": Detector("LineartStandardDetector", None, _detect_only),
        "shuffle": Detector("ContentShuffleDetector"),
        "lineart_realistic": Detector("LineartDetector", {}),
        "lineart_coarse": Detector("LineartDetector", {}, fixed={"coarse": True}),
        "lineart_anime": Detector("LineartAnimeDetector", {}),
        "mlsd": Detector("MLSDdetector", {}, _with_thresholds("thr_v", "thr_d", float)),
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
        annotator = kind.from_pretrained(str(folder), **detector.load)
        if hasattr(annotator, "to") and device.type == "cuda":
            return annotator.to(device)
        return annotator


def annotate(
    detector: Detector, annotator: Any, pixels: np.ndarray, resolution: int, low: float, high: float
) -> np.ndarray:
    """Run it. pixels: (H, W, 3), uint8. Random numbers are the same each time: a recipe repeats its control map."""
    arguments = {**detector.arguments(resolution, low, high), **detector.fixed}
    # Detectors draw from the global generators, whose states are restored.
    numbers, arrays = random.getstate(), np.random.get_state()
    random.seed(0)
    np.random.seed(0)
    try:
        with _quietly():
            found = annotator(pixels, output_type="np", **arguments)
    finally:
        random.setstate(numbers)
        np.random.set_state(arrays)
    if detector.choose is not None:
        found = found[detector.choose]
    if isinstance(found, Image.Image):
        found = found.convert("RGB")
    return np.asarray(found)


@contextmanager
def _quietly() -> Iterator[None]:
    """These libraries print, and warn about each other."""
    with warnings.catch_warnings(), redirect_stdout(StringIO()), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield
