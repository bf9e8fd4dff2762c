"""A picture and the name of a preprocessor -> a control map. Keeps the last annotator in memory.

What there is and which files it needs is in `catalog/preprocessors.py`; own maps are in `maps.py`, those of
controlnet-aux in `annotators.py`, both imported at the first use.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from PIL import Image

from catalog.files.folders import stamp_of
from catalog.preprocessors import (
    NONE,
    RESOLUTION,
    Preprocessor,
    get_preprocessor,
    home_of,
    refuse_missing,
    refuse_shape,
)
from contract.errors import JobError
from contract.parts import CONTROL_RESOLUTION

_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    TypeError,
    UnpicklingError,
    ValueError,
)
_MULTIPLE = 64  # sides that annotators work at

log = logging.getLogger(__name__)


class Preprocessors:
    """Makes control maps. For one thread.

    Args:
        folders: Where files of annotators lie.
    """

    def __init__(self, folders: Sequence[Path], device: torch.device) -> None:
        self._folders = tuple(folders)
        self._device = device
        self._loaded: tuple[tuple[str, Path | None, str], Any] | None = None

    def clear(self) -> None:
        """Let go of the annotator in memory."""
        self._loaded = None

    def make(
        self,
        picture: Image.Image,
        name: str,
        resolution: int | None = None,
        low: float | None = None,
        high: float | None = None,
    ) -> Image.Image:
        """A control map of a picture.

        Args:
            picture: RGB.
            resolution: Pixels of the shorter side that it works at; None: the preprocessor's own.
            low, high: Its thresholds; None: its own.
        Returns:
            RGB, of about the picture's shape; the picture itself where there is nothing to make of it alone.
        Raises:
            InvalidRecipe: there is no such preprocessor.
            ModelProblem: its files are not there.
            InvalidInput: the picture has a shape that it can't work on.
            JobError: it failed.
        """
        chosen = get_preprocessor(name)
        if chosen.id == NONE or chosen.needs_mask:
            return picture
        refuse_missing(chosen, self._folders)
        resolution = resolution or RESOLUTION
        refuse_shape(chosen, picture.size, resolution)
        thresholds = [
            given if given is not None else option.default if option else 0.0
            for given, option in ((low, chosen.low), (high, chosen.high))
        ]
        try:
            made = self._run(chosen, picture, resolution, *thresholds)
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except _FAILURES as error:
            log.warning("preprocessor %s failed", chosen.id, exc_info=error)
            raise JobError(
                f"The preprocessor “{chosen.label}” failed on the control picture ({type(error).__name__}).",
                "Use another one, or another picture.",
                code="preprocessor_failed",
            ) from None
        return Image.fromarray(made).convert("RGB")

    def _run(self, chosen: Preprocessor, picture: Image.Image, resolution: int, low: float, high: float) -> np.ndarray:
        from engine.images.annotators import DETECTORS, annotate
        from engine.images.maps import MAPS

        if chosen.id in MAPS:
            return MAPS[chosen.id](np.array(_at_resolution(picture, resolution)), low, high)
        detector = DETECTORS[chosen.id]
        return annotate(detector, self._annotator(chosen), np.array(picture), resolution, low, high)

    def _annotator(self, chosen: Preprocessor) -> Any:
        from engine.images.annotators import DETECTORS, load

        detector, home = DETECTORS[chosen.id], home_of(chosen, self._folders)
        key = (detector.name, home, stamp_of(home) if home else "")
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None
            self._loaded = (key, load(detector, home, self._device))
        return self._loaded[1]


def pixel_perfect_resolution(picture: Image.Image, size: tuple[int, int], resize: str) -> int:
    """The resolution at which a map needs no scaling to the result's size.

    Args:
        size: Of the result.
        resize: "fill" shows all of the picture; "crop" and "stretch" cover the result.
    """
    ratios = (size[0] / picture.width, size[1] / picture.height)
    ratio = min(ratios) if resize == "fill" else max(ratios)
    least, most = CONTROL_RESOLUTION
    return min(most, max(least, round(ratio * min(picture.size))))


def _at_resolution(picture: Image.Image, resolution: int) -> Image.Image:
    """The shorter side at the resolution, both rounded as annotators do."""
    ratio = resolution / min(picture.size)
    width, height = (max(_MULTIPLE, round(side * ratio / _MULTIPLE) * _MULTIPLE) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS) if picture.size != (width, height) else picture
