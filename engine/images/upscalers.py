"""Upscales images: by Pillow's filters, or by a model of kind "upscaler" in tiles that fade into each other.

Models are read by spandrel, which detects some forty architectures from their weights; imported when first needed. What
it finds is kept (`catalog/detect/upscaler_answers.py`), so that the list of models knows it, too.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from catalog.detect.upscaler_answers import Answer, UpscalerAnswers
from catalog.files.headers import UnreadableModel, read_header
from catalog.upscalers import unwrapped
from contract.errors import InvalidRecipe, ModelProblem, NoValidPicture
from contract.recipe import ModelRef
from engine.device.devices import Device
from engine.errors import is_out_of_memory, mapped

_FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}
_CHANNELS = (1, 3)
Tiles = list[tuple[int, int, int, int]]  # left, top, right, bottom


@dataclass(slots=True)
class Upscalers:
    """Upscaling models on one device; the newest stays in memory.

    Attributes:
        answers: What was found in files before, which is not tried again.
    """

    device: Device
    answers: UpscalerAnswers = field(default_factory=lambda: UpscalerAnswers(None))
    _newest: tuple[tuple[str, str], Any] | None = field(default=None)

    def upscale(
        self,
        image: Image.Image,
        upscaler: str | ModelRef,
        size: tuple[int, int],
        path: str | None,
        *,
        tile: int,
        overlap: int,
    ) -> Iterator[tuple[int, int, Image.Image | None]]:
        """Upscale an image; yields (tiles done, of how many, None) and last the image at `size`.

        Args:
            path: Of the model, if it is one.
            tile, overlap: Pixels of the source.
        Raises:
            InvalidRecipe: no such upscaler.
            ModelProblem: the model is none that upscales images.
            NoValidPicture: the numbers are not finite.
        """
        if isinstance(upscaler, str):
            if upscaler not in _FILTERS:
                raise InvalidRecipe(
                    f"There is no upscaler “{upscaler}” for pictures.",
                    "Choose one of the list of upscalers.",
                    field="upscaler",
                )
            yield 1, 1, image.resize(size, _FILTERS[upscaler])
            return
        model = self._model(upscaler, path)
        boxes = tiles(image.size, tile, overlap)
        buffer = _TileBuffer(image.size, model.scale, overlap)
        for number, box in enumerate(boxes):
            pixels = torch.from_numpy(np.array(image.crop(box))).permute(2, 0, 1)[None].float() / 255
            if model.input_channels == 1:
                pixels = pixels.mean(1, keepdim=True)
            with torch.inference_mode():
                tile_made = model(pixels.to(device=model.device, dtype=model.dtype))[0].float().cpu()
            if not tile_made.isfinite().all():
                raise NoValidPicture(f"{upscaler.name} gave numbers that are no picture.", "The model may be damaged.")
            buffer.add(box, tile_made.expand(3, -1, -1))
            if number + 1 < len(boxes):
                yield number + 1, len(boxes), None
        upscaled = buffer.image()
        if upscaled.size != size:
            upscaled = upscaled.resize(size, Image.Resampling.LANCZOS)
        yield len(boxes), len(boxes), upscaled

    def clear(self) -> None:
        """Release the model, after memory ran out."""
        self._newest = None

    def _model(self, ref: ModelRef, path: str | None) -> Any:
        """The model, read at its first use; a file that was found to be none before isn't tried again."""
        if path is None:
            raise InvalidRecipe(
                f"The work item names no file for the upscaler {ref.name}.", "Choose it again.", field="upscaler"
            )
        key = (path, ref.fingerprint)
        if self._newest is not None and self._newest[0] == key:
            return self._newest[1]
        self._newest = None  # release the old one first
        file = Path(path)
        before = self.answers.of(file)
        if before is not None and before.problem:
            raise ModelProblem(f"{ref.name} {before.problem}", before.hint)
        try:
            model = read_upscaler(file, ref.name)
        except ModelProblem as error:
            if file.exists() and not isinstance(error, UnreadableModel):
                self.answers.keep(file, Answer(problem=error.message.removeprefix(f"{ref.name} "), hint=error.hint))
            raise
        self.answers.keep(file, Answer(detail=f"{model.architecture.name} ×{model.scale}"))
        dtype = torch.float32
        if self.device.dtype == torch.float16 and model.supports_half:
            dtype = torch.float16
        self._newest = (key, model.to(self.device.torch_device, dtype).eval())
        return self._newest[1]


def read_upscaler(path: Path, name: str) -> Any:
    """A file as a network from images to images.

    Raises:
        ModelProblem: it is none, or needs more than an image; names the file and the architecture.
    """
    from spandrel import MAIN_REGISTRY, ImageModelDescriptor

    # spandrel detects the architecture from the names of the tensors, without their prefix.
    architecture = None
    names = list(read_header(path))
    for prefix in unwrapped(names):
        state = {one.removeprefix(prefix): None for one in names}
        for support in MAIN_REGISTRY.architectures("detection"):
            if architecture is None and support.detect(state):
                architecture = support.architecture
        if architecture is not None:
            break
    else:
        raise ModelProblem(
            f"{name} is no upscaler that is known here.",
            "Use an ESRGAN, SwinIR, DAT, HAT or other model of OpenModelDB as .safetensors.",
        )

    def explain(error: Exception) -> Exception:
        if isinstance(error, OSError) or is_out_of_memory(error):
            return error  # says nothing of the file's content
        return ModelProblem(
            f"{name} has the names of {architecture.name}, and weights that don't fit them.",
            "Download it again, or use another upscaler.",
        )

    with mapped(explain), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about how some of the networks are written
        tensors = {one.removeprefix(prefix): tensor for one, tensor in load_file(path).items()}
        model = architecture.load(tensors)
    if not isinstance(model, ImageModelDescriptor):
        raise ModelProblem(
            f"{name} is {architecture.name}, which needs more than a picture to work on.", "Use another upscaler."
        )
    if model.purpose == "FaceSR":
        raise ModelProblem(f"{name} is {architecture.name}, which works on faces alone.", "Use another upscaler.")
    if model.input_channels not in _CHANNELS or model.output_channels not in _CHANNELS:
        raise ModelProblem(
            f"{name} is {architecture.name} for pictures of {model.input_channels} channels; 1 and 3 are supported.",
            "Use another upscaler.",
        )
    return model


def tiles(size: tuple[int, int], tile: int, overlap: int) -> Tiles:
    """Boxes that cover an image, each of at most tile × tile, sharing at least `overlap` pixels."""
    boxes = []
    for top, bottom in _spans(size[1], tile, overlap):
        for left, right in _spans(size[0], tile, overlap):
            boxes.append((left, top, right, bottom))
    return boxes


def _spans(length: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    if length <= tile:
        return [(0, length)]
    overlap = min(overlap, tile // 2)
    count = -(-(length - overlap) // (tile - overlap))
    starts = [round(number * (length - tile) / (count - 1)) for number in range(count)]
    return [(start, start + tile) for start in starts]


class _TileBuffer:
    """Collects upscaled tiles, weighted less toward their inner edges, so that seams fade."""

    def __init__(self, size: tuple[int, int], scale: int, overlap: int) -> None:
        self._size, self._scale, self._overlap = size, scale, overlap
        self._sum = np.zeros((size[1] * scale, size[0] * scale, 3), np.float32)
        self._weight = np.zeros((size[1] * scale, size[0] * scale, 1), np.float32)

    def add(self, box: tuple[int, int, int, int], upscaled: Tensor) -> None:
        left, top, right, bottom = (side * self._scale for side in box)
        across = self._ramp(box[0] > 0, box[2] < self._size[0], right - left)
        down = self._ramp(box[1] > 0, box[3] < self._size[1], bottom - top)
        weight = (down[:, None] * across[None, :])[..., None]
        self._sum[top:bottom, left:right] += upscaled.permute(1, 2, 0).numpy() * weight
        self._weight[top:bottom, left:right] += weight

    def _ramp(self, fades_in: bool, fades_out: bool, length: int) -> np.ndarray:
        ramp = np.ones(length, np.float32)
        reach = min(max(1, self._overlap * self._scale), length)
        slope = (np.arange(reach, dtype=np.float32) + 0.5) / reach
        if fades_in:
            ramp[:reach] = slope
        if fades_out:
            ramp[-reach:] = np.minimum(ramp[-reach:], slope[::-1])
        return ramp

    def image(self) -> Image.Image:
        return Image.fromarray(np.rint(self._sum / self._weight * 255).clip(0, 255).astype(np.uint8))
