"""IP-Adapter: images as prompts, by further attention in the U-Net that is attached for one lease.

diffusers' own classes do the work; the weights of adapter and image encoder are leased (`models/manager.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers.models.embeddings import (
    ImageProjection,
    IPAdapterFaceIDImageProjection,
    IPAdapterFaceIDPlusImageProjection,
    MultiIPAdapterImageProjection,
)
from PIL.Image import Image
from torch import Tensor, nn
from transformers import CLIPImageProcessor

from contract.errors import InvalidRecipe
from contract.recipe import IpAdapter, Recipe
from engine.adapters.face_id import face_of, face_tokens, is_version_2
from engine.images.image_io import open_input
from engine.models.bundle import Bundle
from engine.sampling.denoise import Conditions, ControlResiduals, Controls, Span

_OF_FACES = (IPAdapterFaceIDImageProjection, IPAdapterFaceIDPlusImageProjection)


@dataclass(frozen=True, slots=True)
class LoadedIpAdapter:
    """An IP-Adapter's tensors and its image encoder, both leased. FaceID alone has no encoder.

    Attributes:
        face_root: As of `face_id.face_of`.
    """

    tensors: nn.Module
    encoder: nn.Module | None
    face_root: Path | None = None


@dataclass(frozen=True, slots=True)
class ImagePrompt:
    """An image prompt, encoded: the embeds of the image and of no image, (1, 1, …) each."""

    ip_adapter: IpAdapter
    image_embeds: Tensor
    uncond_image_embeds: Tensor


@contextmanager
def image_prompts(
    recipe: Recipe, loaded: Sequence[LoadedIpAdapter], images: Mapping[str, bytes], bundle: Bundle
) -> Iterator[tuple[ImagePrompt, ...]]:
    """Attach a recipe's IP-Adapters to the U-Net, and encode its image prompts.

    Raises:
        InvalidRecipe: an adapter doesn't fit the checkpoint.
        InvalidInput: an image is missing.
    """
    if not recipe.ip_adapters:
        yield ()
        return
    unet: Any = bundle.modules["unet"]
    for ip_adapter, adapter in zip(recipe.ip_adapters, loaded, strict=True):
        check_ip_adapter_fits(ip_adapter, adapter, bundle)
    processors = unet.attn_processors
    try:
        # As diffusers' `_load_ip_adapter_weights`, but that nothing of the U-Net itself is moved: its tensors stay
        # where the weight buffer or the card's storage has them.
        tables = [_tables_of(adapter) for adapter in loaded]
        unet.set_attn_processor(unet._convert_ip_adapter_attn_to_diffusers(tables, low_cpu_mem_usage=True))
        projections = []
        for table in tables:
            image_proj = table["image_proj"]
            projections.append(unet._convert_ip_adapter_image_proj_to_diffusers(image_proj, low_cpu_mem_usage=True))
        # Of a face the tokens are made once, outside of the U-Net.
        inside = [nn.Identity() if isinstance(one, _OF_FACES) else one for one in projections]
        unet.encoder_hid_proj = MultiIPAdapterImageProjection(inside)
        unet.config.encoder_hid_dim_type = "ip_image_proj"
        prompts = []
        for ip_adapter, adapter, projection in zip(recipe.ip_adapters, loaded, projections, strict=True):
            prompts.append(_encode_image(ip_adapter, adapter, projection, images, bundle))
        yield tuple(prompts)
    finally:
        unet.encoder_hid_proj = None
        unet.config.encoder_hid_dim_type = None
        unet.set_attn_processor(processors)


def check_ip_adapter_fits(ip_adapter: IpAdapter, adapter: LoadedIpAdapter, bundle: Bundle) -> None:
    """An adapter must have one pair of layers for each cross-attention, of its shape.

    Raises:
        InvalidRecipe: names both.
    """
    ours, theirs = [], []
    for name, module in bundle.modules["unet"].named_modules():
        if name.endswith("attn2.to_k"):
            ours.append((module.out_features, module.in_features))
    for name, tensor in _tables_of(adapter)["ip_adapter"].items():
        if name.endswith("to_k_ip.weight"):
            theirs.append(tuple(tensor.shape))
    if sorted(ours) != sorted(theirs):
        raise InvalidRecipe(
            f"IP-Adapter “{ip_adapter.model.name}” does not fit “{bundle.ref.name}”: it has "
            f"{len(theirs)} layers of other sizes than the model's {len(ours)}.",
            "Use an IP-Adapter that was trained for this model.",
            field="ip_adapters.model",
        )


def _tables_of(adapter: LoadedIpAdapter) -> dict[str, dict[str, Tensor]]:
    """As diffusers takes an IP-Adapter: the projection's tensors and the attention layers'."""
    tables: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in adapter.tensors.state_dict().items():
        table, _, rest = name.partition(".")
        if table in tables:
            tables[table][rest] = tensor
    return tables


@torch.inference_mode()
def _encode_image(
    ip_adapter: IpAdapter, adapter: LoadedIpAdapter, projection: nn.Module, images: Mapping[str, bytes], bundle: Bundle
) -> ImagePrompt:
    encoder: Any = adapter.encoder
    image = open_input(ip_adapter.image, images)
    where: Any = {"device": bundle.device.torch_device, "dtype": bundle.device.dtype}
    if isinstance(projection, _OF_FACES):
        face = face_of(image, adapter.face_root)
        vector, patches, no_patches = torch.from_numpy(face.vector).to(**where)[None], None, None
        if encoder is not None:
            pixels = _pixels(face.crop, encoder).to(**where)
            patches = encoder(pixels, output_hidden_states=True).hidden_states[-2]
            no_patches = encoder(torch.zeros_like(pixels), output_hidden_states=True).hidden_states[-2]
        has_shortcut = is_version_2(ip_adapter.model.name)
        tokens = face_tokens(projection, vector, patches, has_shortcut=has_shortcut)
        uncond = face_tokens(projection, torch.zeros_like(vector), no_patches, has_shortcut=has_shortcut)
        return ImagePrompt(ip_adapter, tokens[None], uncond[None])
    pixels = _pixels(image, encoder).to(**where)
    if isinstance(projection, ImageProjection):
        embeds = encoder(pixels).image_embeds
        uncond = torch.zeros_like(embeds)
    else:
        embeds = encoder(pixels, output_hidden_states=True).hidden_states[-2]
        uncond = encoder(torch.zeros_like(pixels), output_hidden_states=True).hidden_states[-2]
    return ImagePrompt(ip_adapter, embeds[None], uncond[None])


def _pixels(image: Image, encoder: Any) -> Tensor:
    side = encoder.config.image_size
    pixels: Tensor = CLIPImageProcessor(size=side, crop_size=side)(image, return_tensors="pt").pixel_values
    return pixels


def with_image_prompts(controls: Controls | None, prompts: Sequence[ImagePrompt], bundle: Bundle) -> Controls | None:
    """The loop's controls, and image prompts with them.

    Args:
        controls: Of ControlNets and T2I-Adapters.
        prompts: Of the adapters that are attached to the U-Net, in their order.
    """
    if not prompts:
        return controls
    scales = []
    unet: Any = bundle.modules["unet"]
    for processor in unet.attn_processors.values():
        if isinstance(getattr(processor, "scale", None), list):
            scales.append(processor.scale)

    def controls_with_images(batch: Tensor, t: Tensor, conditions: Conditions, span: Span) -> ControlResiduals:
        for number, prompt in enumerate(prompts):
            ip_adapter = prompt.ip_adapter
            is_active = span[0] >= ip_adapter.start and span[1] <= ip_adapter.end
            for scale in scales:
                scale[number] = ip_adapter.weight if is_active else 0.0
        residuals = controls(batch, t, conditions, span) if controls else None
        cond_count = len(conditions.weights)
        uncond_count = batch.shape[0] - cond_count
        image_embeds = []
        for prompt in prompts:
            parts = [prompt.uncond_image_embeds] * uncond_count + [prompt.image_embeds] * cond_count
            image_embeds.append(torch.cat(parts))
        return replace(residuals or ControlResiduals(), image_embeds=tuple(image_embeds))

    return controls_with_images
