"""Control pictures -> what they add to each step: ControlNets, union ControlNets, T2I-Adapters.

A unit is one control of the recipe with its picture at the painted size. Units of one union ControlNet run in
one pass, as it was trained; what all units add is summed. Pictures as prompt are in `ip_adapter.py`, the making
of maps in `images/preprocessors.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from diffusers import ControlNetUnionModel
from PIL import Image
from torch import Tensor, nn

from catalog.detect.control_models import LABELS, UNION_SHOWS, union_place
from catalog.preprocessors import get_preprocessor
from contract.errors import InvalidRecipe
from contract.recipe import Control, ImageRef, Recipe
from engine.device.devices import Device
from engine.images.image_io import fit, open_input
from engine.images.inpaint_region import InpaintRegion
from engine.images.preprocessors import Preprocessors, pixel_perfect_resolution
from engine.models.manager import Bundle
from engine.sampling.denoise import Conditions, ControlResiduals, Controls, Span

Size = tuple[int, int]  # width, height
# Mode "prompt" weakens what comes early on the way down most, as A1111's extension does (12 places and a middle).
_FADE, _DEEPEST = 0.825, 12
_ADAPTER_FADE = (0.25, 0.62, 0.825, 1.0)
# What must be equal in a ControlNet and the U-Net for its residuals to fit.
_SAME = ("cross_attention_dim", "block_out_channels", "layers_per_block")


@dataclass(frozen=True, slots=True)
class Unit:
    """One control at one size.

    Attributes:
        hint: (1, 3 or 1, H, W), 0..1 (-1 where a mask cuts it out), in the device's precision.
        type: Of a union model: which of its types the map is.
        features: Of a T2I-Adapter, weighed: (1, C, h, w) for each block on the way down.
    """

    control: Control
    net: nn.Module
    hint: Tensor
    type: int | None = None
    features: tuple[Tensor, ...] = ()

    def applied(self, span: Span) -> bool:
        """Whether it is active in a part of the run, as the stock pipelines count."""
        return span[0] >= self.control.start and span[1] <= self.control.end

    @property
    def is_for_prompt_only(self) -> bool:
        """Whether it is kept from the negative prompt's rows."""
        return self.control.mode == "control" or bool(getattr(self.net.config, "global_pool_conditions", False))


@dataclass(slots=True)
class ControlSet:
    """The models of a recipe's controls, lent together, and the maps made for them.

    Attributes:
        nets: One a control, in the recipe's order.
        blank: Sentences about maps that a preprocessor left without anything to go by.
    """

    nets: tuple[nn.Module, ...]
    images: Mapping[str, bytes]
    preprocessors: Preprocessors
    blank: list[str] = field(default_factory=list)
    _maps: dict[tuple[object, ...], Image.Image] = field(default_factory=dict)

    def units(self, recipe: Recipe, bundle: Bundle, region: InpaintRegion | None = None) -> tuple[Unit, ...]:
        """Every control, ready for the recipe's size.

        Args:
            frame: What of the start picture is painted.
        Raises:
            InvalidRecipe: a control model doesn't fit the checkpoint, or a union model isn't told what a map shows.
            StudioError: a map can't be made.
        """
        return tuple(
            self._unit(control, net, (recipe.width, recipe.height), bundle, region)
            for control, net in zip(recipe.controls, self.nets, strict=True)
        )

    def _unit(self, control: Control, net: nn.Module, size: Size, bundle: Bundle, region: InpaintRegion | None) -> Unit:
        check_fit(control, net, bundle)
        if get_preprocessor(control.preprocessor).needs_mask:
            return Unit(control, net, _cut_out(control, region, size, bundle.device), _union_type(control, net))
        made = self._map(control, size)
        at_size = region.view(made, control.resize) if region and region.view else fit(made, size, control.resize)
        if control.model.kind == "t2i_adapter":
            return _adapter_unit(control, net, at_size, bundle.device)
        return Unit(control, net, _hint(at_size, bundle.device), _union_type(control, net))

    def _map(self, control: Control, size: Size) -> Image.Image:
        picture = open_input(ImageRef(sha256=control.image.sha256), self.images)
        resolution = control.resolution
        if control.pixel_perfect:
            resolution = pixel_perfect_resolution(picture, size, control.resize)
        key = (control.image.sha256, control.preprocessor, resolution, control.low, control.high)
        if key not in self._maps:
            self._maps[key] = self.preprocessors.make(
                picture, control.preprocessor, resolution, control.low, control.high
            )
            # A map that was brought as it is was looked at before the job was queued.
            is_even = all(low == high for low, high in self._maps[key].convert("RGB").getextrema())  # type: ignore[misc]
            if is_even and control.preprocessor != "none":
                self.blank.append(
                    f"“{get_preprocessor(control.preprocessor).label}” found nothing in the control picture: "
                    f"its map is one even color."
                )
        return self._maps[key]


def check_fit(control: Control, net: nn.Module, bundle: Bundle) -> None:
    """A control model must be made like the checkpoint's U-Net.

    Raises:
        InvalidRecipe: names both, and what differs.
    """
    unet = bundle.modules["unet"].config
    names = _SAME if control.model.kind == "controlnet" else ()
    pairs = [(name, getattr(net.config, name), getattr(unet, name)) for name in names]
    if names:
        theirs, ours = (_without_attention(config.down_block_types) for config in (net.config, unet))
        pairs.append(("down_block_types", theirs, ours))
    if control.model.kind == "t2i_adapter":
        pairs.append(("channels", net.config.channels, unet.block_out_channels))
    for name, theirs, ours in pairs:
        if _plain(theirs) != _plain(ours):
            label = LABELS[control.model.kind]
            raise InvalidRecipe(
                f"{label} “{control.model.name}” does not fit “{bundle.ref.name}”: its {name} is {_shown(theirs)} "
                f"and the model's {_shown(ours)}.",
                f"Use a {label} that was trained for this model.",
                field="controls.model",
            )


def _without_attention(blocks: Sequence[str]) -> list[str]:
    """Blocks with attention and without make residuals of the same shapes, so either fits the other."""
    return [name.replace("CrossAttn", "") for name in blocks]


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, (list, tuple)) else value


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _union_type(control: Control, net: nn.Module) -> int | None:
    if not isinstance(net, ControlNetUnionModel):
        return None
    known = UNION_SHOWS[: net.config.num_control_type]
    return union_place(f"{LABELS['controlnet']} “{control.model.name}”", known, control)


def _hint(picture: Image.Image, device: Device) -> Tensor:
    pixels = np.array(picture)
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return (torch.from_numpy(pixels)[None].float() / 255).to(device=device.torch_device, dtype=device.dtype)


def _cut_out(control: Control, region: InpaintRegion | None, size: Size, device: Device) -> Tensor:
    """The start picture as it is painted, with -1 where the mask is: what inpainting ControlNets were trained on.

    In a hires pass, which has no frame, there would be nothing to show: a mask and a hires pass don't go together.
    """
    if region is None or region.mask is None:
        raise InvalidRecipe(
            f"“{control.model.name}” is to be shown what a mask hides, and there is no mask.",
            "Add one, or choose another preprocessor.",
            field="controls.preprocessor",
        )
    hint = _hint(fit(region.picture, size, "stretch"), device)
    hidden = torch.from_numpy(np.array(region.mask >= 0.5)).to(hint.device)
    return hint.masked_fill(hidden, -1.0)


@torch.inference_mode()
def _adapter_unit(control: Control, net: nn.Module, picture: Image.Image, device: Device) -> Unit:
    """Features depend on the picture alone, so they are made once."""
    multiple = net.config.downscale_factor
    size = tuple(-(-side // multiple) * multiple for side in picture.size)
    picture = picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)
    hint = _hint(picture.convert("L") if net.config.in_channels == 1 else picture, device)
    fade = _ADAPTER_FADE if control.mode == "prompt" else ()
    features = tuple(feature * control.weight * _at(fade, number) for number, feature in enumerate(net(hint)))
    return Unit(control, net, hint, features=features)


def _at(fade: Sequence[float], number: int) -> float:
    return fade[min(number, len(fade) - 1)] if fade else 1.0


def controls_of(units: Sequence[Unit], device: Device) -> Controls | None:
    """What the loop calls at each evaluation; None where there is nothing to add."""
    nets = _in_passes([unit for unit in units if not unit.features])
    adapters = [unit for unit in units if unit.features]
    if not units:
        return None

    def controls(rows: Tensor, t: Tensor, conditions: Conditions, span: Span) -> ControlResiduals | None:
        added: list[list[Tensor]] = []
        for together in nets:
            active = [unit for unit in together if unit.applied(span)]
            if active:
                added.append(_residuals(active, rows.to(device.dtype), t, conditions))
        features = [_for_rows(unit.features, unit, rows, conditions) for unit in adapters if unit.applied(span)]
        residuals = ControlResiduals(adapter_features=tuple(_sum(features)))
        if added:
            *down, middle = _sum(added)
            residuals = replace(residuals, down_block=tuple(down), mid_block=middle)
        return residuals if added or features else None

    return controls


def _in_passes(units: Sequence[Unit]) -> list[list[Unit]]:
    """Units that share a union model and a mode go through it together; every other one alone."""
    passes: dict[object, list[Unit]] = {}
    for number, unit in enumerate(units):
        key = number if unit.type is None else (id(unit.net), unit.control.mode)
        passes.setdefault(key, []).append(unit)
    return list(passes.values())


def _residuals(units: Sequence[Unit], rows: Tensor, t: Tensor, conditions: Conditions) -> list[Tensor]:
    """One pass of a ControlNet: residuals for the way down, then the middle's; a row for each row."""
    first = units[0]
    left_out = rows.shape[0] - len(conditions.weights) if first.is_for_prompt_only else 0
    asked = rows[left_out:]
    more = (
        {}
        if conditions.added is None
        else {"added_cond_kwargs": {name: value[left_out:] for name, value in conditions.added.items()}}
    )
    down, middle = first.net(
        asked,
        t,
        encoder_hidden_states=conditions.context[left_out:],
        guess_mode=first.control.mode == "control",
        return_dict=False,
        **_told(units, asked.shape[0]),
        **more,
    )
    made = [*down, middle]
    if first.control.mode == "prompt":
        made = [residual * _FADE ** (_DEEPEST - depth) for depth, residual in enumerate(made)]
    return [_padded(residual, left_out) for residual in made]


def _told(units: Sequence[Unit], rows: int) -> dict[str, object]:
    """Pictures and weights, as the net's class takes them."""
    first = units[0]
    if first.type is None:
        return {"controlnet_cond": first.hint.expand(rows, -1, -1, -1), "conditioning_scale": first.control.weight}
    types = torch.zeros(1, first.net.config.num_control_type, device=first.hint.device, dtype=first.hint.dtype)
    types[:, [unit.type for unit in units]] = 1
    return {
        "controlnet_cond": [unit.hint.expand(rows, -1, -1, -1) for unit in units],
        "conditioning_scale": [unit.control.weight for unit in units],
        "control_type": types.repeat(rows, 1),
        "control_type_idx": [unit.type for unit in units],
    }


def _for_rows(features: Sequence[Tensor], unit: Unit, rows: Tensor, conditions: Conditions) -> list[Tensor]:
    left_out = rows.shape[0] - len(conditions.weights) if unit.is_for_prompt_only else 0
    return [_padded(feature.expand(rows.shape[0] - left_out, -1, -1, -1), left_out) for feature in features]


def _padded(rows: Tensor, left_out: int) -> Tensor:
    """Rows that are left out get zeros."""
    return torch.cat([torch.zeros_like(rows[:1]).expand(left_out, *rows.shape[1:]), rows]) if left_out else rows


def _sum(added: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Of several units, for each place."""
    return [sum(place[1:], start=place[0]) for place in zip(*added, strict=True)]
