"""Pictures made larger: by Pillow's filters, or by a model of kind "upscaler" in tiles that fade into each other.

Models are read by spandrel, which tells some forty architectures from their weights; imported when first needed. Its
answer is kept (`catalog/detect/upscaler_answers.py`), so that the list of models knows it, too.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from catalog.detect.upscaler_answers import Answer, UpscalerAnswers
from catalog.files.headers import UnreadableModel, read_header
from catalog.upscalers import unwrapped
from contract.errors import InvalidRecipe, ModelProblem, NoValidPicture
from contract.recipe import ModelRef
from engine.device.devices import Device
from engine.errors import is_out_of_memory

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
        answers: What was found of files before, which is not tried again.
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
        """Upscale a picture; yields (tiles done, of how many, None) and last the picture at `size`.

        Args:
            path: Where the model lies, if it is one.
            tile, overlap: Pixels of the source.
        Raises:
            InvalidRecipe: no such upscaler.
            ModelProblem: the model is none that upscales pictures.
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
            buffer.add(box, self._run(model, image.crop(box), upscaler.name))
            if number + 1 < len(boxes):
                yield number + 1, len(boxes), None
        made = buffer.picture()
        yield len(boxes), len(boxes), made if made.size == size else made.resize(size, Image.Resampling.LANCZOS)

    @torch.inference_mode()
    def _run(self, model: Any, patch: Image.Image, name: str) -> Tensor:
        """One tile -> (3, H, W), float32, 0..1, on the CPU."""
        pixels = torch.from_numpy(np.array(patch)).permute(2, 0, 1)[None].float() / 255
        if model.input_channels == 1:
            pixels = pixels.mean(1, keepdim=True)
        made = model(pixels.to(device=model.device, dtype=model.dtype))[0].float().cpu()
        if not made.isfinite().all():
            raise NoValidPicture(f"{name} gave numbers that are no picture.", "The model may be damaged.")
        return made.expand(3, -1, -1)

    def clear(self) -> None:
        """Let go of the model, after the memory ran out."""
        self._newest = None

    def _model(self, ref: ModelRef, path: str | None) -> Any:
        if path is None:
            raise InvalidRecipe(
                f"The work item names no file for the upscaler {ref.name}.", "Choose it again.", field="upscaler"
            )
        key = (path, ref.fingerprint)
        if self._newest is None or self._newest[0] != key:
            self._newest = None  # let go of the old one first
            self._newest = (key, self._load(ref, Path(path)))
        return self._newest[1]

    def _load(self, ref: ModelRef, path: Path) -> Any:
        """Read a model and remember what it is; a file that was found to be none before isn't tried again."""
        before = self.answers.of(path)
        if before is not None and before.problem:
            raise ModelProblem(f"{ref.name} {before.problem}", before.hint)
        try:
            found = _read(path, ref.name)
        except ModelProblem as error:
            if path.exists() and not isinstance(error, UnreadableModel):
                self.answers.keep(path, Answer(problem=error.message.removeprefix(f"{ref.name} "), hint=error.hint))
            raise
        self.answers.keep(path, Answer(detail=f"{found.architecture.name} ×{found.scale}"))
        half = self.device.dtype if self.device.dtype == torch.float16 and found.supports_half else torch.float32
        return found.to(self.device.torch_device, half).eval()


def _detected(path: Path, name: str) -> tuple[Any, str]:
    """The architecture that spandrel tells from the names of a file's tensors, and what stands before all of them.

    Raises:
        ModelProblem: it knows none; names the file.
    """
    from spandrel import MAIN_REGISTRY

    names = list(read_header(path))
    for prefix in unwrapped(names):
        state = {one.removeprefix(prefix): None for one in names}
        for support in MAIN_REGISTRY.architectures("detection"):
            if support.detect(state):
                return support.architecture, prefix
    raise ModelProblem(
        f"{name} is no upscaler that is known here.",
        "Use an ESRGAN, SwinIR, DAT, HAT or other model of OpenModelDB as .safetensors.",
    )


def _read(path: Path, name: str) -> Any:
    """A file as a network from pictures to pictures.

    Raises:
        ModelProblem: it is none, or needs more than a picture; names the file and the architecture.
    """
    from spandrel import ImageModelDescriptor

    architecture, prefix = _detected(path, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about how some of the networks are written
            found = architecture.load({one.removeprefix(prefix): tensor for one, tensor in load_file(path).items()})
    except (
        SafetensorError,
        LookupError,
        RuntimeError,
        ValueError,
        TypeError,
        AttributeError,
        AssertionError,
        ArithmeticError,
    ) as error:
        if is_out_of_memory(error):  # that says nothing of the file
            raise
        raise ModelProblem(
            f"{name} has the names of {architecture.name}, and weights that don't fit them.",
            "Download it again, or use another upscaler.",
        ) from None
    if not isinstance(found, ImageModelDescriptor):
        raise ModelProblem(
            f"{name} is {architecture.name}, which needs more than a picture to work on.", "Use another upscaler."
        )
    if found.purpose == "FaceSR":
        raise ModelProblem(f"{name} is {architecture.name}, which works on faces alone.", "Use another upscaler.")
    if found.input_channels not in _CHANNELS or found.output_channels not in _CHANNELS:
        raise ModelProblem(
            f"{name} is {architecture.name} for pictures of {found.input_channels} channels; 1 and 3 are supported.",
            "Use another upscaler.",
        )
    return found


def tiles(size: tuple[int, int], tile: int, overlap: int) -> Tiles:
    """Boxes that cover a picture, each of at most tile × tile, sharing at least `overlap` pixels."""
    return [
        (left, top, right, bottom)
        for top, bottom in _spans(size[1], tile, overlap)
        for left, right in _spans(size[0], tile, overlap)
    ]


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

    def add(self, box: tuple[int, int, int, int], made: Tensor) -> None:
        left, top, right, bottom = (side * self._scale for side in box)
        across = self._ramp(box[0] > 0, box[2] < self._size[0], right - left)
        down = self._ramp(box[1] > 0, box[3] < self._size[1], bottom - top)
        weight = (down[:, None] * across[None, :])[..., None]
        self._sum[top:bottom, left:right] += made.permute(1, 2, 0).numpy() * weight
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

    def picture(self) -> Image.Image:
        return Image.fromarray(np.rint(self._sum / self._weight * 255).clip(0, 255).astype(np.uint8))
