"""Models that are one file without a configuration: which parts are in it, and what each is.

A part's tensors are found by `key_maps.py`, its configuration by `infer_config.py`; here is what a family's file holds.
Whatever lies outside the places of its parts (training's leftovers, averaged copies) is not read.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalog.detect.quantized import without_companions
from catalog.files.headers import TensorInfo, read_header
from contract.errors import ModelProblem
from contract.values import ModelKind
from engine.checkpoints.component import Component
from engine.checkpoints.infer_config import (
    Shapes,
    adapter_config,
    controlnet_config,
    layers_read,
    text_config,
    text_layers,
    unet_config,
    vae_config,
)
from engine.checkpoints.key_maps import (
    adapter_slices,
    clip_slices,
    controlnet_slices,
    open_clip_slices,
    unet_slices,
    vae_slices,
)
from engine.checkpoints.midas import midas_config, midas_slices
from engine.checkpoints.tokenizers import END
from engine.families import builder_of, family_of
from engine.weights.reading import TensorSlice

Pieces = Mapping[str, TensorSlice]
Header = Mapping[str, TensorInfo]
_PADDING_OPEN = "!"
_HALF = "It holds a part of a model only. Use the whole checkpoint."


@dataclass(frozen=True, slots=True)
class _Encoder:
    """Where a family's text encoder lies.

    Attributes:
        place: Prefix, before `transformer.` (transformers' names) or `model.` (OpenCLIP's).
        is_open: Trained by OpenCLIP; else OpenAI's.
        is_projecting: Its pooled output is used.
    """

    part: str
    place: str
    is_open: bool = False
    is_projecting: bool = False


_ENCODERS: Mapping[str, tuple[_Encoder, ...]] = {
    "sd1": (_Encoder("text_encoder", "cond_stage_model."),),
    "sd2": (_Encoder("text_encoder", "cond_stage_model.", is_open=True),),
    "sdxl": (
        _Encoder("text_encoder", "conditioner.embedders.0."),
        _Encoder("text_encoder_2", "conditioner.embedders.1.", is_open=True, is_projecting=True),
    ),
}

_CONTROLS: Mapping[ModelKind, tuple[Callable[[Header], Pieces], Callable[[Shapes, str], dict[str, Any]]]] = {
    "controlnet": (controlnet_slices, controlnet_config),
    "t2i_adapter": (adapter_slices, adapter_config),
}


def checkpoint_components(file: Path, family: str) -> dict[str, Component]:
    """The parts of a checkpoint; without a VAE where the file has none.

    Raises:
        ModelProblem: it lacks another part; names the file.
    """
    builders = family_of(family)
    header = without_companions(read_header(file))
    slices = unet_slices(header)
    _refuse_other(file, header, slices)
    with _told(file):
        found = {"unet": (unet_config(_shapes(slices, header), family), slices)}
        for encoder in _ENCODERS[family]:
            found[encoder.part] = _text_encoder(encoder, header, file)
        if vae := vae_slices(header):
            found["vae"] = (vae_config(_shapes(vae, header), family), vae)
        if midas := midas_slices(header):
            found["depth_estimator"] = (midas_config(_shapes(midas, header)), midas)
    return {
        part: Component(config, builder_of(builders, part), lambda: (file,), slices)
        for part, (config, slices) in found.items()
    }


def vae_component(file: Path, family: str) -> Component:
    """A VAE that is one file.

    Raises:
        ModelProblem: it is none.
    """
    header = without_companions(read_header(file))
    slices = vae_slices(header, is_alone=True)
    if not slices:
        raise ModelProblem(f"{file.name} is no VAE.", "Choose another file.")
    with _told(file):
        config = vae_config(_shapes(slices, header), family)
    return Component(config, builder_of(family_of(family), "vae"), lambda: (file,), slices)


def control_of(file: Path, kind: ModelKind, family: str) -> tuple[dict[str, Any], Pieces]:
    """Configuration and tensors of a ControlNet or T2I-Adapter that is one file.

    Raises:
        ModelProblem: it is none.
    """
    pieces_of, config_of = _CONTROLS[kind]
    header = without_companions(read_header(file))
    slices = pieces_of(header)
    with _told(file):
        return config_of(_shapes(slices, header), family), slices


def padding_of(family: str) -> tuple[str, ...]:
    """What each encoder's tokenizer fills a prompt up with."""
    return tuple(_PADDING_OPEN if encoder.is_open else END for encoder in _ENCODERS[family])


def _refuse_other(file: Path, header: Header, unet: Pieces) -> None:
    """What has a U-Net's place in its file, or should have, and is no checkpoint that can begin a picture."""
    if not unet:
        raise ModelProblem(f"{file.name} has no U-Net, so it is no checkpoint.", _HALF)
    if any(name.startswith("conditioner.embedders.0.model.") for name in header):
        raise ModelProblem(f"{file.name} is an SDXL refiner, which can't start a picture.", "Use an SDXL base.")
    if "edm_mean" in header:
        raise ModelProblem(
            f"{file.name} was trained on another kind of noise (EDM, as Playground v2.5).", "Use another SDXL model."
        )


def _text_encoder(encoder: _Encoder, header: Header, file: Path) -> tuple[dict[str, Any], Pieces]:
    """Configuration and tensors, without layers and projections that the family does not read."""
    slices = clip_slices(header, f"{encoder.place}transformer.")
    is_original = not slices
    slices = slices or open_clip_slices(header, f"{encoder.place}model.")
    if not slices:
        raise ModelProblem(f"{file.name} has no {encoder.part.replace('_', ' ')}.", _HALF)
    shapes = _shapes(slices, header)
    layers = text_layers(shapes)
    if encoder.is_open and not encoder.is_projecting and is_original:
        layers = layers_read(layers)
    unread = tuple(f"encoder.layers.{number}." for number in range(layers, text_layers(shapes)))
    if not encoder.is_projecting:
        unread = (*unread, "text_projection.")
    return (
        text_config(shapes, is_open=encoder.is_open, layers=layers),
        {name: piece for name, piece in slices.items() if not name.startswith(unread)},
    )


def _shapes(slices: Pieces, header: Header) -> Shapes:
    shapes = {name: piece.cut(header[piece.name]).shape for name, piece in slices.items()}
    return {name: shape[::-1] if slices[name].is_transposed else shape for name, shape in shapes.items()}


@contextmanager
def _told(file: Path) -> Iterator[None]:
    """Where tensors that a shape is read from are missing or have none, the file is told of."""
    try:
        yield
    except KeyError as error:
        raise ModelProblem(
            f"{file.name} lacks the tensor “{str(error.args[0])[:80]}”.",
            "It is cut short or of a kind that Darkroom does not know.",
        ) from None
    except (IndexError, ValueError):
        raise ModelProblem(
            f"{file.name} has tensors of shapes that Darkroom does not know.", "Use another version of the model."
        ) from None
