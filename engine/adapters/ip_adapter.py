"""Pictures as prompt (IP-Adapter): further attention in the U-Net, put on for one lease and taken off again.

diffusers' own classes do the work; weights lie in the adapter's block (`models/manager.py`), the encoder's in another.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers.models.embeddings import ImageProjection, MultiIPAdapterImageProjection
from torch import Tensor, nn
from transformers import CLIPImageProcessor

from contract.errors import InvalidRecipe
from contract.recipe import IpAdapter, Recipe
from engine.images.image_io import open_input
from engine.models.manager import Bundle
from engine.sampling.denoise import Conditions, ControlResiduals, Controls, Span


@dataclass(frozen=True, slots=True)
class LoadedIpAdapter:
    """An IP-Adapter's tensors and the encoder of its pictures, both leased."""

    tensors: nn.Module
    encoder: nn.Module


@dataclass(frozen=True, slots=True)
class ImagePrompt:
    """A reference, encoded: picture and nothing, (1, 1, …) each."""

    reference: IpAdapter
    picture: Tensor
    nothing: Tensor


@contextmanager
def image_prompts(
    recipe: Recipe, loaded: Sequence[LoadedIpAdapter], images: Mapping[str, bytes], bundle: Bundle
) -> Iterator[tuple[ImagePrompt, ...]]:
    """Put a recipe's adapters on the U-Net, and its pictures through their encoders.

    Raises:
        InvalidRecipe: an adapter doesn't fit the checkpoint.
        InvalidInput: a picture is not there.
    """
    if not recipe.ip_adapters:
        yield ()
        return
    unet = bundle.modules["unet"]
    for reference, adapter in zip(recipe.ip_adapters, loaded, strict=True):
        check_fit(reference, adapter, bundle)
    plain = unet.attn_processors
    try:
        projections = _attach(unet, [_two_tables(adapter.tensors) for adapter in loaded])
        yield tuple(
            _encoded(reference, adapter.encoder, projection, images, bundle)
            for reference, adapter, projection in zip(recipe.ip_adapters, loaded, projections, strict=True)
        )
    finally:
        unet.encoder_hid_proj = None
        unet.config.encoder_hid_dim_type = None
        unet.set_attn_processor(plain)


def _attach(unet: nn.Module, tables: list[dict[str, dict[str, Tensor]]]) -> list[nn.Module]:
    """As diffusers' `_load_ip_adapter_weights`, but that nothing of the U-Net itself is moved: its tensors stay
    where the block or the card's storage has them. Returns the layers that pictures go through first."""
    unet.set_attn_processor(unet._convert_ip_adapter_attn_to_diffusers(tables, low_cpu_mem_usage=True))
    projections = [
        unet._convert_ip_adapter_image_proj_to_diffusers(table["image_proj"], low_cpu_mem_usage=True)
        for table in tables
    ]
    unet.encoder_hid_proj = MultiIPAdapterImageProjection(projections)
    unet.config.encoder_hid_dim_type = "ip_image_proj"
    return projections


def check_fit(reference: IpAdapter, adapter: LoadedIpAdapter, bundle: Bundle) -> None:
    """An adapter must have one pair of layers for each cross-attention, of its shape.

    Raises:
        InvalidRecipe: names both.
    """
    ours = [
        (module.out_features, module.in_features)
        for name, module in bundle.modules["unet"].named_modules()
        if name.endswith("attn2.to_k")
    ]
    tables = _two_tables(adapter.tensors)["ip_adapter"]
    theirs = [
        tuple(tensor.shape) for name, tensor in sorted(tables.items(), key=_place) if name.endswith("to_k_ip.weight")
    ]
    if sorted(ours) != sorted(theirs):
        raise InvalidRecipe(
            f"IP-Adapter “{reference.model.name}” does not fit “{bundle.ref.name}”: it has "
            f"{len(theirs)} layers of other sizes than the model's {len(ours)}.",
            "Use an IP-Adapter that was trained for this model.",
            field="ip_adapters.model",
        )


def _place(item: tuple[str, Tensor]) -> int:
    number = item[0].split(".")[0]
    return int(number) if number.isdigit() else 0


def _two_tables(tensors: nn.Module) -> dict[str, dict[str, Tensor]]:
    """As diffusers takes an IP-Adapter: the projection's tensors and the layers'."""
    tables: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in tensors.state_dict().items():
        table, _, rest = name.partition(".")
        if table in tables:
            tables[table][rest] = tensor
    return tables


@torch.inference_mode()
def _encoded(
    reference: IpAdapter, encoder: nn.Module, projection: nn.Module, images: Mapping[str, bytes], bundle: Bundle
) -> ImagePrompt:
    side = encoder.config.image_size
    picture = open_input(reference.image, images)
    pixels = CLIPImageProcessor(size=side, crop_size=side)(picture, return_tensors="pt").pixel_values
    pixels = pixels.to(device=bundle.device.torch_device, dtype=bundle.device.dtype)
    if isinstance(projection, ImageProjection):
        made = encoder(pixels).image_embeds
        return ImagePrompt(reference, made[None], torch.zeros_like(made)[None])
    made, nothing = (
        encoder(value, output_hidden_states=True).hidden_states[-2] for value in (pixels, torch.zeros_like(pixels))
    )
    return ImagePrompt(reference, made[None], nothing[None])


def with_image_prompts(controls: Controls | None, prompts: Sequence[ImagePrompt], bundle: Bundle) -> Controls | None:
    """The loop's controls, and pictures as prompt beside them.

    Args:
        controls: Of ControlNets and the like.
        prompts: Of adapters that are on the U-Net, in their order.
    """
    if not prompts:
        return controls
    processors = [
        processor
        for processor in bundle.modules["unet"].attn_processors.values()
        if isinstance(getattr(processor, "scale", None), list)
    ]

    def both(rows: Tensor, t: Tensor, conditions: Conditions, span: Span) -> ControlResiduals:
        _set_scales(processors, prompts, span)
        others = (controls(rows, t, conditions, span) if controls else None) or ControlResiduals()
        away, toward = rows.shape[0] - len(conditions.weights), len(conditions.weights)
        return replace(
            others,
            image_embeds=tuple(torch.cat([prompt.nothing] * away + [prompt.picture] * toward) for prompt in prompts),
        )

    return both


def _set_scales(processors: Sequence[Any], prompts: Sequence[ImagePrompt], span: Span) -> None:
    scales = [
        prompt.reference.weight if span[0] >= prompt.reference.start and span[1] <= prompt.reference.end else 0.0
        for prompt in prompts
    ]
    for processor in processors:
        processor.scale[:] = scales
