"""What control images add to each step: ControlNets, union ControlNets, T2I-Adapters.

A unit is one control of the recipe with its control map at the size of the pass. Units of one union ControlNet run in
one forward call, as it was trained; what all units add is summed. Image prompts are in `ip_adapter.py`, the making of
control maps is in `images/preprocessors.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetUnionModel, SD3ControlNetModel
from PIL import Image
from torch import Tensor, nn

from catalog.detect.control_models import LABELS, UNION_CONTROL_TYPES, union_type_index
from catalog.preprocessors import get_preprocessor
from contract.errors import InvalidRecipe
from contract.recipe import Control, ImageRef, Recipe
from engine.adapters.control_units import Unit, acts_on, pad_uncond, uncond_count
from engine.adapters.controlnet_xs import ControlNetXS, facts_of_xs
from engine.adapters.joint_controlnet import control_latents, joint_residuals
from engine.adapters.lllite import LLLite
from engine.adapters.reference import Reference
from engine.device.devices import Device
from engine.device.evaluations import Evaluate, Outputs
from engine.device.wrapped_padding import wrapped_padding
from engine.images.image_io import fit, open_input
from engine.images.inpaint_region import InpaintRegion
from engine.images.preprocessors import Preprocessors, pixel_perfect_resolution
from engine.images.vae import encode
from engine.models.bundle import Bundle
from engine.sampling.denoise import Conditions, ControlResiduals, Controls, Span

Size = tuple[int, int]  # width, height
# Mode "prompt" weakens early down blocks most, as A1111's extension does (12 residuals and the mid block's).
_FADE, _DEEPEST = 0.825, 12
_ADAPTER_FADE = (0.25, 0.62, 0.825, 1.0)
_OTHERS = (SD3ControlNetModel, LLLite, ControlNetXS, Reference)  # which have no residuals for the blocks of a U-Net
_HOLE, _UNION_HOLE = -1.0, 0.0  # what an inpainting ControlNet is shown under a mask; xinsir's union sees black
# What must be equal in a ControlNet and the U-Net for its residuals to fit.
_SAME_OF_TRANSFORMERS = ("num_attention_heads", "attention_head_dim", "patch_size", "in_channels")
_SAME = ("cross_attention_dim", "block_out_channels", "layers_per_block")


@dataclass(slots=True)
class ControlSet:
    """The models of a recipe's controls, and the control maps made for them.

    Attributes:
        nets: One a control, in the recipe's order.
        evaluate: By net.
        blank: Sentences about maps in which a preprocessor found nothing.
    """

    nets: tuple[nn.Module, ...]
    images: Mapping[str, bytes]
    preprocessors: Preprocessors
    evaluate: Mapping[nn.Module, Evaluate] = field(default_factory=dict)
    blank: list[str] = field(default_factory=list)
    _maps: dict[tuple[object, ...], Image.Image] = field(default_factory=dict)

    def units(self, recipe: Recipe, bundle: Bundle, region: InpaintRegion | None = None) -> tuple[Unit, ...]:
        """Every control, ready for the recipe's size.

        Args:
            region: Which part of the init image is generated.
        Raises:
            InvalidRecipe: a control model doesn't fit the checkpoint, or a union model's control type is unknown.
            StudioError: a map can't be made.
        """
        size = (recipe.width, recipe.height)
        units = []
        for control, net in zip(recipe.controls, self.nets, strict=True):
            if isinstance(net, Reference):
                image = open_input(ImageRef(sha256=control.image.sha256), self.images)
                hint = encode(fit(image, size, control.resize), bundle)
                units.append(Unit(control, net, hint, tiling=recipe.tiling))
                continue
            assert control.model is not None
            check_control_fits(control, net, bundle)
            if get_preprocessor(control.preprocessor).needs_mask:
                # The init image with -1 where the mask is: what inpainting ControlNets were trained on. A hires pass
                # has no region, so there would be nothing to show: a mask and a hires pass don't go together.
                if region is None or region.mask is None:
                    raise InvalidRecipe(
                        f"“{control.model.name}” is to be shown what a mask hides, and there is no mask.",
                        "Add one, or choose another preprocessor.",
                        field="controls.preprocessor",
                    )
                shown = fit(region.image, size, "stretch")
                hidden = torch.from_numpy(np.array(region.mask >= 0.5))
                if isinstance(net, SD3ControlNetModel):
                    hint = control_latents(control, net, shown, bundle, hidden)
                else:
                    hint = _as_hint(shown, bundle.device)
                    hole = _UNION_HOLE if isinstance(net, ControlNetUnionModel) else _HOLE
                    hint = hint.masked_fill(hidden.to(hint.device), hole)
                units.append(self._unit(control, net, hint, recipe))
                continue
            control_map = self._control_map(control, size)
            if region and region.crop_like:
                control_map = region.crop_like(control_map, control.resize)
            else:
                control_map = fit(control_map, size, control.resize)
            if control.model.kind == "t2i_adapter":
                with wrapped_padding(recipe.tiling):
                    units.append(_adapter_unit(control, net, control_map, bundle.device))
            elif isinstance(net, SD3ControlNetModel):
                units.append(self._unit(control, net, control_latents(control, net, control_map, bundle), recipe))
            else:
                units.append(self._unit(control, net, _as_hint(control_map, bundle.device), recipe))
        return tuple(units)

    def _unit(self, control: Control, net: nn.Module, hint: Tensor, recipe: Recipe) -> Unit:
        evaluate = self.evaluate.get(net)
        embeds = net.embed(hint) if isinstance(net, (LLLite, ControlNetXS)) else {}
        union_type = _union_type(control, net)
        return Unit(control, net, hint, union_type, embeds=embeds, evaluate=evaluate, tiling=recipe.tiling)

    def _control_map(self, control: Control, size: Size) -> Image.Image:
        """Made once for all passes and images of a job."""
        image = open_input(ImageRef(sha256=control.image.sha256), self.images)
        resolution = control.resolution
        if control.pixel_perfect:
            resolution = pixel_perfect_resolution(image, size, control.resize)
        key = (control.image.sha256, control.preprocessor, resolution, control.low, control.high)
        if key not in self._maps:
            control_map = self.preprocessors.make(image, control.preprocessor, resolution, control.low, control.high)
            self._maps[key] = control_map
            # A map that was uploaded as it is was checked before the job was queued.
            extrema = control_map.convert("RGB").getextrema()
            is_even = all(low == high for low, high in extrema)  # type: ignore[misc]
            if is_even and control.preprocessor != "none":
                self.blank.append(
                    f"“{get_preprocessor(control.preprocessor).label}” found nothing in the control picture: "
                    f"its map is one even color."
                )
        return self._maps[key]


def check_control_fits(control: Control, net: nn.Module, bundle: Bundle) -> None:
    """A control model must be made like the checkpoint's U-Net.

    Raises:
        InvalidRecipe: names both, and what differs.
    """
    unet: Any = bundle.modules[bundle.family.facts.denoiser].config
    config: Any = net.config
    assert control.model is not None
    facts: list[tuple[str, object, object]] = []
    if isinstance(net, SD3ControlNetModel):
        for name in _SAME_OF_TRANSFORMERS:
            facts.append((name, getattr(config, name), getattr(unet, name)))
    elif isinstance(net, ControlNetXS):
        facts += [(name, *pair) for name, pair in facts_of_xs(net.adapter, bundle.modules["unet"]).items()]
    elif control.model.kind == "controlnet" and not isinstance(net, LLLite):
        for name in _SAME:
            facts.append((name, getattr(config, name), getattr(unet, name)))
        # Blocks with attention and without make residuals of the same shapes, so either fits the other.
        control_blocks = [block.replace("CrossAttn", "") for block in config.down_block_types]
        unet_blocks = [block.replace("CrossAttn", "") for block in unet.down_block_types]
        facts.append(("down_block_types", control_blocks, unet_blocks))
    if control.model.kind == "t2i_adapter":
        facts.append(("channels", config.channels, unet.block_out_channels))
    for name, theirs, ours in facts:
        if _plain(theirs) != _plain(ours):
            label = LABELS[control.model.kind]
            raise InvalidRecipe(
                f"{label} “{control.model.name}” does not fit “{bundle.ref.name}”: its {name} is {_shown(theirs)} "
                f"and the model's {_shown(ours)}.",
                f"Use a {label} that was trained for this model.",
                field="controls.model",
            )


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, (list, tuple)) else value


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _union_type(control: Control, net: nn.Module) -> int | None:
    if not isinstance(net, ControlNetUnionModel):
        return None
    assert control.model is not None
    known = UNION_CONTROL_TYPES[: net.config.num_control_type]
    return union_type_index(f"{LABELS['controlnet']} “{control.model.name}”", known, control)


def _as_hint(image: Image.Image, device: Device) -> Tensor:
    pixels = np.array(image)
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return (torch.from_numpy(pixels)[None].float() / 255).to(device=device.torch_device, dtype=device.dtype)


@torch.inference_mode()
def _adapter_unit(control: Control, net: nn.Module, image: Image.Image, device: Device) -> Unit:
    """Features depend on the control map alone, so they are computed once."""
    config: Any = net.config
    multiple: int = config.downscale_factor
    width, height = (-(-side // multiple) * multiple for side in image.size)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    if config.in_channels == 1:
        image = image.convert("L")
    hint = _as_hint(image, device)
    features = []
    for depth, feature in enumerate(net(hint)):
        fade = 1.0
        if control.mode == "prompt":
            fade = _ADAPTER_FADE[min(depth, len(_ADAPTER_FADE) - 1)]
        features.append(feature * control.weight * fade)
    return Unit(control, net, hint, features=tuple(features))


def controls_of(units: Sequence[Unit], bundle: Bundle) -> Controls | None:
    """What the loop calls at each model evaluation; None where there is nothing to add."""
    if not units:
        return None
    # Units that share a union model and a mode go through it together; every other one alone.
    device = bundle.device
    calls: dict[object, list[Unit]] = {}
    joint = [unit for unit in units if isinstance(unit.net, SD3ControlNetModel)]
    adapters = [unit for unit in units if unit.features]
    within = [(unit, unit.net) for unit in units if isinstance(unit.net, (LLLite, ControlNetXS))]
    references = [unit for unit in units if isinstance(unit.net, Reference)]
    for number, unit in enumerate(units):
        if not (unit.features or isinstance(unit.net, _OTHERS)):
            key = number if unit.type is None else (id(unit.net), unit.control.mode)
            calls.setdefault(key, []).append(unit)

    def controls(batch: Tensor, t: Tensor, conditions: Conditions, span: Span) -> ControlResiduals | None:
        residuals: list[list[Tensor]] = []
        for sharing in calls.values():
            active = [unit for unit in sharing if unit.is_active(span) and acts_on(unit, batch, conditions)]
            if active:
                residuals.append(_controlnet_residuals(active, batch.to(device.dtype), t, conditions))
        features: list[list[Tensor]] = []
        for unit in adapters:
            if unit.is_active(span) and acts_on(unit, batch, conditions):
                skipped = uncond_count(unit, batch, conditions)
                padded = []
                for feature in unit.features:
                    padded.append(pad_uncond(feature.expand(batch.shape[0] - skipped, -1, -1, -1), skipped))
                features.append(padded)
        for _, net in within:
            net.rest()
        for unit in references:
            assert isinstance(unit.net, Reference)
            unit.net.forget()
            if unit.is_active(span):
                unit.net.look(unit, batch.to(device.dtype), t, conditions, bundle)
        for unit, net in within:
            if unit.is_active(span) and acts_on(unit, batch, conditions):
                net.act(unit, batch, conditions)
        in_joint = []
        for unit in joint:
            if unit.is_active(span) and acts_on(unit, batch, conditions):
                in_joint.append(joint_residuals(unit, batch.to(device.dtype), t, conditions, bundle))
        if in_joint:
            return ControlResiduals(joint_blocks=tuple(_sums(in_joint)))
        if not residuals and not features:
            return None
        adapter_features = tuple(_sums(features))
        if not residuals:
            return ControlResiduals(adapter_features=adapter_features)
        *down_block, mid_block = _sums(residuals)
        return ControlResiduals(tuple(down_block), mid_block, adapter_features)

    return controls


@dataclass(frozen=True, slots=True)
class ControlNetCall:
    """A ControlNet called with tensors alone, at weight 1.

    Attributes:
        added: Names of its further conditions.
    """

    added: tuple[str, ...] = ()

    def __call__(
        self, net: nn.Module, latents: Tensor, t: Tensor, prompt_embeds: Tensor, hint: Tensor, *added: Tensor
    ) -> Outputs:
        """Residuals of the down blocks, then of the mid block."""
        down_block, mid_block = net(
            latents,
            t,
            encoder_hidden_states=prompt_embeds,
            controlnet_cond=hint,
            added_cond_kwargs=dict(zip(self.added, added, strict=True)) or None,
            return_dict=False,
        )
        return (*down_block, mid_block)


def _controlnet_residuals(units: Sequence[Unit], batch: Tensor, t: Tensor, conditions: Conditions) -> list[Tensor]:
    """One call of a ControlNet: residuals of the down blocks, then of the mid block, for the whole batch."""
    first = units[0]
    skipped = uncond_count(first, batch, conditions)
    latents = batch[skipped:]
    count = latents.shape[0]
    inputs: dict[str, object]
    outputs: Sequence[Tensor]
    if first.type is None:
        inputs = {"controlnet_cond": first.hint.expand(count, -1, -1, -1), "conditioning_scale": first.control.weight}
    else:
        config: Any = first.net.config
        types = torch.zeros(1, config.num_control_type, device=first.hint.device, dtype=first.hint.dtype)
        hints, weights, indices = [], [], []
        for unit in units:
            hints.append(unit.hint.expand(count, -1, -1, -1))
            weights.append(unit.control.weight)
            indices.append(unit.type)
        types[:, indices] = 1
        inputs = {
            "controlnet_cond": hints,
            "conditioning_scale": weights,
            "control_type": types.repeat(count, 1),
            "control_type_idx": indices,
        }
    if conditions.added is not None:
        inputs["added_cond_kwargs"] = {name: value[skipped:] for name, value in conditions.added.items()}
    if first.evaluate is not None and first.type is None and not first.skips_uncond:
        added = conditions.added or {}
        tensors = (latents, t, conditions.prompt_embeds, first.hint.expand(count, -1, -1, -1), *added.values())
        evaluated = first.evaluate("controlnet", ControlNetCall(tuple(added)), *tensors)
        outputs = [residual * first.control.weight for residual in evaluated]
    else:
        with wrapped_padding(first.tiling):
            down_block, mid_block = first.net(
                latents,
                t,
                encoder_hidden_states=conditions.prompt_embeds[skipped:],
                guess_mode=first.control.mode == "control",
                return_dict=False,
                **inputs,
            )
        outputs = [*down_block, mid_block]
    residuals = []
    for depth, residual in enumerate(outputs):
        if first.control.mode == "prompt":
            residual = residual * _FADE ** (_DEEPEST - depth)
        residuals.append(pad_uncond(residual, skipped))
    return residuals


def _sums(of_units: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The tensors of several units, added up block by block."""
    return [sum(block[1:], start=block[0]) for block in zip(*of_units, strict=True)]
