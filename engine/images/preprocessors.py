"""Makes control maps: an image and the name of a preprocessor. Keeps the last annotator in memory.

Which preprocessors there are and which files they need is in `catalog/preprocessors.py`; our own maps are in `maps.py`,
those of controlnet-aux in `annotators.py`, both imported at the first use.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
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
from engine.errors import mapped

_MULTIPLE = 64  # sides that annotators work at

log = logging.getLogger(__name__)


class Preprocessors:
    """Makes control maps. For one thread.

    Args:
        folders: Where the files of annotators are.
    """

    def __init__(self, folders: Sequence[Path], device: torch.device) -> None:
        self.folders = tuple(folders)
        self._device = device
        self._loaded: tuple[tuple[str, Path | None, str], Any] | None = None

    def clear(self) -> None:
        """Release the annotator in memory."""
        self._loaded = None

    def make(
        self,
        image: Image.Image,
        name: str,
        resolution: int | None = None,
        low: float | None = None,
        high: float | None = None,
    ) -> Image.Image:
        """A control map of an image.

        Args:
            image: RGB.
            resolution: Pixels of the shorter side that it works at; None: the preprocessor's own.
            low, high: Its thresholds; None: its own.
        Returns:
            RGB, of about the image's shape; the image itself where there is no map to make.
        Raises:
            InvalidRecipe: there is no such preprocessor.
            ModelProblem: its files are missing.
            InvalidInput: the image has a shape that it can't work on.
            JobError: it failed.
        """
        chosen = get_preprocessor(name)
        if chosen.id == NONE or chosen.needs_mask or not chosen.needs_model:
            return image
        refuse_missing(chosen, self.folders)
        resolution = resolution or RESOLUTION
        refuse_shape(chosen, image.size, resolution)
        if low is None:
            low = chosen.low.default if chosen.low else 0.0
        if high is None:
            high = chosen.high.default if chosen.high else 0.0

        def explain(error: Exception) -> Exception:
            if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
                return error
            log.warning("preprocessor %s failed", chosen.id, exc_info=error)
            return JobError(
                f"The preprocessor “{chosen.label}” failed on the control picture ({type(error).__name__}).",
                "Use another one, or another picture.",
                code="preprocessor_failed",
            )

        with mapped(explain):
            from engine.images.annotators import DETECTORS, annotate
            from engine.images.maps import MAPS

            if chosen.id in MAPS:
                # The shorter side at the resolution, both rounded as annotators do.
                ratio = resolution / min(image.size)
                width, height = (max(_MULTIPLE, round(side * ratio / _MULTIPLE) * _MULTIPLE) for side in image.size)
                if image.size != (width, height):
                    image = image.resize((width, height), Image.Resampling.LANCZOS)
                control_map = MAPS[chosen.id](np.array(image), low, high)
            else:
                annotator = self.annotator(chosen)
                control_map = annotate(DETECTORS[chosen.id], annotator, np.array(image), resolution, low, high)
        return Image.fromarray(control_map).convert("RGB")

    def annotator(self, chosen: Preprocessor) -> Any:
        """The annotator of a preprocessor; loaded again when it or its files changed."""
        from engine.images.annotators import DETECTORS, load

        detector, home = DETECTORS[chosen.id], home_of(chosen, self.folders)
        key = (detector.name, home, stamp_of(home) if home else "")
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None
            self._loaded = (key, load(detector, home, self._device))
        return self._loaded[1]


def pixel_perfect_resolution(image: Image.Image, size: tuple[int, int], resize: str) -> int:
    """The resolution at which a map needs no scaling to the result's size.

    Args:
        size: Of the result.
        resize: "fill" shows all of the image; "crop" and "stretch" cover the result.
    """
    ratios = (size[0] / image.width, size[1] / image.height)
    ratio = min(ratios) if resize == "fill" else max(ratios)
    least, most = CONTROL_RESOLUTION
    return min(most, max(least, round(ratio * min(image.size))))
