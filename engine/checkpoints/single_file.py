"""Models that are one file with LDM keys and without a configuration: which components are in it, what each is.

`key_maps.py` finds a component's tensors, `infer_config.py` its configuration, by what the family declares.
Tensors of no component (optimizer state, averaged copies) are not read.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from catalog.families.family import Family, TextEncoder
from catalog.files.headers import TensorInfo
from contract.errors import ModelProblem
from engine.checkpoints import joint_blocks
from engine.checkpoints.component import Config
from engine.checkpoints.edm import latent_statistics
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
from engine.weights.reading import TensorSlice

Slices = Mapping[str, TensorSlice]
Header = Mapping[str, TensorInfo]
_INCOMPLETE = "It holds a part of a model only. Use the whole checkpoint."


def ldm_components(file: Path, header: Header, facts: Family) -> dict[str, tuple[Config, Slices]]:
    """Configuration and tensors of each component that a checkpoint with LDM keys has: always the U-Net.

    Raises:
        ModelProblem: it lacks the U-Net, or has a part of a component; names the file.
    """
    assert facts.unet is not None
    slices = unet_slices(header)
    if not slices:
        raise ModelProblem(f"{file.name} has no U-Net, so it is no checkpoint.", _INCOMPLETE)
    with blame_shapes(file):
        found: dict[str, tuple[Config, Slices]] = {}
        found["unet"] = (unet_config(shapes_of(slices, header), facts.unet), slices)
        for encoder in facts.text_encoders:
            component = text_encoder(encoder, header, encoder.prefixes)
            if component is not None:
                found[encoder.component] = component
        vae = vae_slices(header)
        if vae:
            config = vae_config(shapes_of(vae, header), facts.latents)
            found["vae"] = ({**config, **latent_statistics(file, header, facts.latents.channels)}, vae)
        midas = midas_slices(header)
        if midas:
            found["depth_estimator"] = (midas_config(shapes_of(midas, header)), midas)
    return found


def ldm_vae(file: Path, header: Header, facts: Family) -> tuple[Config, Slices]:
    """Configuration and tensors of a VAE that is one file.

    Raises:
        ModelProblem: it is not one.
    """
    slices = vae_slices(header, is_alone=True)
    if not slices:
        raise ModelProblem(f"{file.name} is no VAE.", "Choose another file.")
    with blame_shapes(file):
        return vae_config(shapes_of(slices, header), facts.latents), slices


def controlnet_file(file: Path, header: Header, facts: Family) -> tuple[Config, Slices]:
    """Configuration and tensors of a ControlNet that is one file.

    Raises:
        ModelProblem: it is not one.
    """
    if facts.unet is None:
        with blame_shapes(file):
            slices = joint_blocks.controlnet_slices(header)
            return joint_blocks.controlnet_config(shapes_of(slices, header)), slices
    slices = controlnet_slices(header)
    with blame_shapes(file):
        return controlnet_config(shapes_of(slices, header), facts.unet), slices


def t2i_adapter_file(file: Path, header: Header, facts: Family) -> tuple[Config, Slices]:
    """Configuration and tensors of a T2I-Adapter that is one file.

    Raises:
        ModelProblem: it is not one.
    """
    assert facts.t2i_adapter is not None
    slices = adapter_slices(header)
    with blame_shapes(file):
        return adapter_config(shapes_of(slices, header), facts.t2i_adapter), slices


def clip_component(encoder: TextEncoder, header: Header, prefix: str) -> tuple[Config, Slices] | None:
    """Configuration and tensors of a CLIP with transformers' keys below a prefix; None where there is none.

    Raises:
        KeyError, IndexError: a tensor is missing, or has too few dimensions.
    """
    slices = clip_slices(header, prefix)
    if not slices:
        return None
    shapes = shapes_of(slices, header)
    config = text_config(shapes, is_open=encoder.is_open, layers=text_layers(shapes))
    return ({**config, "projection_dim": 0} if "text_projection.weight" not in slices else config), slices


def text_encoder(encoder: TextEncoder, header: Header, prefixes: tuple[str, str]) -> tuple[Config, Slices] | None:
    """Configuration and tensors, without layers and projections that the family does not read; None where it has none.

    Args:
        prefixes: Of transformers' and of OpenCLIP's keys.
    Raises:
        KeyError, IndexError: a tensor is missing, or has too few dimensions.
    """
    slices = clip_slices(header, prefixes[0])
    is_original = not slices
    if is_original:
        slices = open_clip_slices(header, prefixes[1])
    if not slices:
        return None
    shapes = shapes_of(slices, header)
    layers = text_layers(shapes)
    if encoder.is_open and not encoder.is_projecting and is_original:
        layers = layers_read(layers)
    skipped = [f"encoder.layers.{number}." for number in range(layers, text_layers(shapes))]
    if not encoder.is_projecting:
        skipped.append("text_projection")
    kept = {name: found for name, found in slices.items() if not name.startswith(tuple(skipped))}
    return text_config(shapes, is_open=encoder.is_open, layers=layers), kept


def shapes_of(slices: Slices, header: Header) -> Shapes:
    """By diffusers' name, as diffusers has them."""
    shapes = {}
    for name, found in slices.items():
        shape = found.cut(header[found.name]).shape
        shapes[name] = shape[::-1] if found.is_transposed else shape
    return shapes


@contextmanager
def blame_shapes(file: Path) -> Iterator[None]:
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
