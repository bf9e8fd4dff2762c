"""Models that are one file without a configuration: which components are in it, and what each is.

`key_maps.py` finds a component's tensors, `infer_config.py` its configuration; here is what a family's file holds.
Tensors of no component (optimizer state, averaged copies) are not read.
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

Slices = Mapping[str, TensorSlice]
Header = Mapping[str, TensorInfo]
_PADDING_OPEN = "!"
_INCOMPLETE = "It holds a part of a model only. Use the whole checkpoint."


@dataclass(frozen=True, slots=True)
class _TextEncoder:
    """A text encoder of a family's files.

    Attributes:
        prefix: Of its keys, before `transformer.` (transformers' names) or `model.` (OpenCLIP's).
        is_open: Trained by OpenCLIP; else OpenAI's.
        is_projecting: Its pooled output is used.
    """

    component: str
    prefix: str
    is_open: bool = False
    is_projecting: bool = False


_TEXT_ENCODERS: Mapping[str, tuple[_TextEncoder, ...]] = {
    "sd1": (_TextEncoder("text_encoder", "cond_stage_model."),),
    "sd2": (_TextEncoder("text_encoder", "cond_stage_model.", is_open=True),),
    "sdxl": (
        _TextEncoder("text_encoder", "conditioner.embedders.0."),
        _TextEncoder("text_encoder_2", "conditioner.embedders.1.", is_open=True, is_projecting=True),
    ),
}

_CONTROLS: Mapping[ModelKind, tuple[Callable[[Header], Slices], Callable[[Shapes, str], dict[str, Any]]]] = {
    "controlnet": (controlnet_slices, controlnet_config),
    "t2i_adapter": (adapter_slices, adapter_config),
}


def checkpoint_components(file: Path, family: str) -> dict[str, Component]:
    """The components of a checkpoint; without a VAE where the file has none.

    Raises:
        ModelProblem: it lacks another component; names the file.
    """
    model_family = family_of(family)
    header = without_companions(read_header(file))
    slices = unet_slices(header)
    if not slices:
        raise ModelProblem(f"{file.name} has no U-Net, so it is no checkpoint.", _INCOMPLETE)
    if any(name.startswith("conditioner.embedders.0.model.") for name in header):
        raise ModelProblem(f"{file.name} is an SDXL refiner, which can't start a picture.", "Use an SDXL base.")
    if "edm_mean" in header:
        raise ModelProblem(
            f"{file.name} was trained on another kind of noise (EDM, as Playground v2.5).", "Use another SDXL model."
        )
    with _blame_shapes(file):
        found: dict[str, tuple[dict[str, Any], Slices]] = {}
        found["unet"] = (unet_config(_shapes(slices, header), family), slices)
        for encoder in _TEXT_ENCODERS[family]:
            found[encoder.component] = _text_encoder_of(encoder, header, file)
        vae = vae_slices(header)
        if vae:
            found["vae"] = (vae_config(_shapes(vae, header), family), vae)
        midas = midas_slices(header)
        if midas:
            found["depth_estimator"] = (midas_config(_shapes(midas, header)), midas)
    components = {}
    for name, (config, own_slices) in found.items():
        components[name] = Component(config, builder_of(model_family, name), lambda: (file,), own_slices)
    return components


def vae_component(file: Path, family: str) -> Component:
    """A VAE that is one file.

    Raises:
        ModelProblem: it is not one.
    """
    header = without_companions(read_header(file))
    slices = vae_slices(header, is_alone=True)
    if not slices:
        raise ModelProblem(f"{file.name} is no VAE.", "Choose another file.")
    with _blame_shapes(file):
        config = vae_config(_shapes(slices, header), family)
    return Component(config, builder_of(family_of(family), "vae"), lambda: (file,), slices)


def control_of(file: Path, kind: ModelKind, family: str) -> tuple[dict[str, Any], Slices]:
    """Configuration and tensors of a ControlNet or T2I-Adapter that is one file.

    Raises:
        ModelProblem: it is not one.
    """
    slices_of, config_of = _CONTROLS[kind]
    header = without_companions(read_header(file))
    slices = slices_of(header)
    with _blame_shapes(file):
        return config_of(_shapes(slices, header), family), slices


def padding_of(family: str) -> tuple[str, ...]:
    """The padding token of each text encoder's tokenizer."""
    return tuple(_PADDING_OPEN if encoder.is_open else END for encoder in _TEXT_ENCODERS[family])


def _text_encoder_of(encoder: _TextEncoder, header: Header, file: Path) -> tuple[dict[str, Any], Slices]:
    """Configuration and tensors, without layers and projections that the family does not read."""
    slices = clip_slices(header, f"{encoder.prefix}transformer.")
    is_original = not slices
    if is_original:
        slices = open_clip_slices(header, f"{encoder.prefix}model.")
    if not slices:
        raise ModelProblem(f"{file.name} has no {encoder.component.replace('_', ' ')}.", _INCOMPLETE)
    shapes = _shapes(slices, header)
    layers = text_layers(shapes)
    if encoder.is_open and not encoder.is_projecting and is_original:
        layers = layers_read(layers)
    skipped = [f"encoder.layers.{number}." for number in range(layers, text_layers(shapes))]
    if not encoder.is_projecting:
        skipped.append("text_projection.")
    kept = {name: found for name, found in slices.items() if not name.startswith(tuple(skipped))}
    return text_config(shapes, is_open=encoder.is_open, layers=layers), kept


def _shapes(slices: Slices, header: Header) -> Shapes:
    """By diffusers' name, as diffusers has them."""
    shapes = {}
    for name, found in slices.items():
        shape = found.cut(header[found.name]).shape
        shapes[name] = shape[::-1] if found.is_transposed else shape
    return shapes


@contextmanager
def _blame_shapes(file: Path) -> Iterator[None]:
    """Turn errors of inferring a configuration into a ModelProblem: a tensor is missing, or has too few dimensions."""
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
