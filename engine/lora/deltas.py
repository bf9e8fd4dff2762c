"""What one layer of a LoRA file adds to a weight, by its kind. All in float32; knows no names and no models.

LoRA        W + s·B·A                    Hu et al. 2021 (arXiv 2106.09685); for a convolution with a middle: B·M·A
LoHa        W + s·(B₁A₁ ⊙ B₂A₂)          Yeh et al. 2023 (LyCORIS, arXiv 2309.14859), FedPara's product
LoKr        W + s·(W₁ ⊗ W₂)              the same
DoRA        m·(W + s·B·A) / ‖W + s·B·A‖  Liu et al. 2024 (arXiv 2402.09353), of any of these
(IA)³       W ⊙ w                        Liu et al. 2022 (arXiv 2205.05638)
diff        W + D
s is alpha / rank. Strength weighs the whole change: W + strength·(W' − W).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]
Shape = tuple[int, ...]

_TILE_NUMBERS = 2**21  # of a weight at a time: 8 MiB of float32


class ShapeMismatch(Exception):
    """A layer that is incomplete or of another shape; says what, without the file's name."""


@dataclass(frozen=True, slots=True)
class LowRank:
    """scale · up · down: (out, rank) times (rank, in · kernel)."""

    up: Tensor
    down: Tensor
    scale: float

    def add_to(self, total: Tensor, base: Tensor, strength: float) -> None:
        """Add to a contiguous total, in place."""
        _flat(total).addmm_(self.up, self.down, alpha=self.scale * strength)

    def lay_on(self, base: Tensor, strength: float, total: Tensor) -> None:
        """Write base and this into a contiguous total of any precision.

        On a CPU a few rows at a time, so that what lies between in float32 stays in its cache: in bfloat16 half
        the time of a whole weight, in float32 the same. Smaller tiles lose that to waiting threads.
        """
        source, target, alpha = _flat(base), _flat(total), self.scale * strength
        rows = max(1, _TILE_NUMBERS // source.shape[1]) if source.device.type == "cpu" else source.shape[0]
        for own, up, room in zip(source.split(rows), self.up.split(rows), target.split(rows), strict=True):
            if room.dtype == torch.float32:
                torch.addmm(own.float(), up, self.down, alpha=alpha, out=room)
            else:
                room.copy_(torch.addmm(own.float(), up, self.down, alpha=alpha))


@dataclass(frozen=True, slots=True)
class FullDelta:
    """A change as large as the weight, or one that depends on it: made when it is needed, so it is never kept."""

    change: Callable[[Tensor], Tensor]  # from the weight (float32) to what is added to it

    def add_to(self, total: Tensor, base: Tensor, strength: float) -> None:
        """Add to a total, in place."""
        total.add_(self.change(base).reshape(total.shape), alpha=strength)


Change = LowRank | FullDelta


def deltas_of(tensors: Tensors, shape: Shape, device: torch.device) -> dict[str, Change]:
    """What a layer changes: its weight, its bias or both, by these names.

    Args:
        tensors: By role, as of `lora_keys.Layer`.
        shape: Of the layer's weight.
        device: Where it is computed.
    Raises:
        Unfit: a tensor is missing, or the shapes make no such weight.
    """
    here = {role: tensor.to(device=device, dtype=torch.float32) for role, tensor in tensors.items()}
    found: dict[str, Change] = {}
    if weight := _weight_change(here, shape):
        lengths = here.get("magnitude", here.get("dora_scale"))
        found["weight"] = weight if lengths is None else _with_lengths(weight, lengths, "magnitude" in here, shape)
    if "diff_b" in here:
        bias = here["diff_b"]
        if bias.numel() != shape[0]:
            raise ShapeMismatch(f"its bias has {bias.numel()} numbers and the model’s {shape[0]}")
        found["bias"] = FullDelta(lambda base: bias)
    return found


def merged(base: Tensor, deltas: list[tuple[Change, float]], room: Tensor | None = None) -> Tensor:
    """A weight with all its changes, contiguous; added up in float32, rounded once.

    Args:
        base: The weight, of any precision; it stays as it is.
        changes: Each with its strength; at least one.
        room: Where the result may be written, in its precision; contiguous, none of base's memory. None makes
            float32.
    """
    (first, strength), *others = deltas
    if isinstance(first, LowRank) and not others:
        total = torch.empty(base.shape, dtype=torch.float32, device=base.device) if room is None else room
        first.lay_on(base, strength, total)
        return total
    base = base.float()
    total = (
        torch.empty(base.shape, dtype=torch.float32, device=base.device)
        if room is None or room.dtype != torch.float32
        else room
    )
    if isinstance(first, LowRank):
        first.lay_on(base, strength, total)
    else:
        total.copy_(base)
        first.add_to(total, base, strength)
    for change, strength in others:
        change.add_to(total, base, strength)
    return total if room is None or room is total else room.copy_(total)


def _weight_change(here: Tensors, shape: Shape) -> Change | None:
    if "down" in here or "up" in here:
        return _low_rank(here, shape)
    if any(role.startswith("hada_") for role in here):
        return _fitting(_hadamard(here), shape)
    if any(role.startswith("lokr_") for role in here):
        return _fitting(_kronecker(here), shape)
    if "diff" in here:
        return _fitting(here["diff"], shape)
    if "factor" in here:
        return _scaled_rows(_need(here, "factor"), bool(_need(here, "on_input")), shape)
    return None


def _low_rank(here: Tensors, shape: Shape) -> Change:
    up, down = _need(here, "up"), _need(here, "down")
    if min(up.dim(), down.dim()) < 2:
        raise ShapeMismatch(f"its matrices are {_by(up.shape)} and {_by(down.shape)}")
    scale = _scale(here, down.shape[0])
    if "mid" in here:
        return _fitting(_tucker(here["mid"], up.flatten(1).T, down.flatten(1)) * scale, shape)
    up, down = up.flatten(1), down.flatten(1)
    if up.shape[1] != down.shape[0] or (up.shape[0], down.shape[1]) != _matrix(shape):
        raise ShapeMismatch(
            f"it is made for {_by((up.shape[0], down.shape[1]))} and the model’s is {_by(_matrix(shape))}"
        )
    return LowRank(up, down, scale)


def _hadamard(here: Tensors) -> Tensor:
    halves = []
    for half in ("1", "2"):
        a, b = _need(here, f"hada_w{half}_a"), _need(here, f"hada_w{half}_b")
        core = here.get(f"hada_t{half}")
        halves.append(_product(a, b) if core is None else _tucker(core, a, b))
    if halves[0].shape != halves[1].shape:
        raise ShapeMismatch(f"its halves are {_by(halves[0].shape)} and {_by(halves[1].shape)}")
    return halves[0] * halves[1] * _scale(here, _need(here, "hada_w1_b").shape[0])


def _kronecker(here: Tensors) -> Tensor:
    rank = next((here[role].shape[0] for role in ("lokr_w1_b", "lokr_w2_b") if role in here), None)
    first, second = (_factor(here, half) for half in ("lokr_w1", "lokr_w2"))
    if min(first.dim(), second.dim()) < 2:
        raise ShapeMismatch(f"its factors are {_by(first.shape)} and {_by(second.shape)}")
    made = torch.kron(first.flatten(1), second.flatten(1))
    return made if rank is None else made * _scale(here, rank)


def _factor(here: Tensors, name: str) -> Tensor:
    if name in here:
        return here[name]
    a, b = _need(here, f"{name}_a"), _need(here, f"{name}_b")
    return _tucker(here["lokr_t2"], a, b) if name == "lokr_w2" and "lokr_t2" in here else _product(a, b)


def _product(a: Tensor, b: Tensor) -> Tensor:
    if a.dim() != 2 or b.dim() < 2 or a.shape[1] != b.shape[0]:
        raise ShapeMismatch(f"its matrices are {_by(a.shape)} and {_by(b.shape)}")
    return a @ b.flatten(1)


def _tucker(core: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """core (rank, rank, kh, kw), a (rank, out), b (rank, in) -> (out, in, kh, kw)."""
    if (core.dim(), a.dim(), b.dim()) != (4, 2, 2) or core.shape[:2] != (a.shape[0], b.shape[0]):
        raise ShapeMismatch(f"its matrices are {_by(a.shape)}, {_by(core.shape)} and {_by(b.shape)}")
    return torch.einsum("ijkl,io,jn->onkl", core, a, b)


def _scaled_rows(factor: Tensor, is_on_input: bool, shape: Shape) -> Change:
    if len(shape) < 2 or factor.numel() != shape[1 if is_on_input else 0]:
        raise ShapeMismatch(f"it scales {factor.numel()} channels and the model’s layer is {_by(shape)}")
    place = [1] * len(shape)
    place[1 if is_on_input else 0] = -1
    return FullDelta(lambda base: base * factor.reshape(place))


def _with_lengths(change: Change, magnitude: Tensor, is_by_rows: bool, shape: Shape) -> Change:
    """DoRA: the changed weight's rows get lengths of their own; in older files of LyCORIS its columns."""
    on_rows = is_by_rows or magnitude.dim() < 2 or magnitude.shape[0] == magnitude.numel()
    if len(shape) < 2 or magnitude.numel() != shape[0 if on_rows else 1]:
        raise ShapeMismatch(f"it has {magnitude.numel()} lengths and the model’s layer is {_by(shape)}")
    over = [axis for axis in range(len(shape)) if axis != (0 if on_rows else 1)]
    place = [1] * len(shape)
    place[0 if on_rows else 1] = -1

    def decomposed(base: Tensor) -> Tensor:
        whole = merged(base, [(change, 1.0)])
        lengths = torch.linalg.vector_norm(whole, dim=over, keepdim=True)
        return whole * (magnitude.reshape(place) / lengths.clamp_min(torch.finfo(torch.float32).eps)) - base

    return FullDelta(decomposed)


def _fitting(change: Tensor, shape: Shape) -> Change:
    if change.numel() != torch.Size(shape).numel() or change.shape[0] != shape[0]:
        raise ShapeMismatch(f"it is made for {_by(change.shape)} and the model’s is {_by(shape)}")
    return FullDelta(lambda base: change)


def _scale(here: Tensors, rank: int) -> float:
    if not rank:
        raise ShapeMismatch("its rank is 0")
    return float(here["alpha"].flatten()[0]) / rank if "alpha" in here else 1.0


def _need(here: Tensors, role: str) -> Tensor:
    if role not in here:
        raise ShapeMismatch(f"“{role}” is missing")
    return here[role]


def _matrix(shape: Shape) -> tuple[int, int]:
    return shape[0], torch.Size(shape[1:]).numel()


def _flat(tensor: Tensor) -> Tensor:
    return tensor.reshape(tensor.shape[0], -1)


def _by(shape: Shape) -> str:
    return "×".join(map(str, shape)) or "a single number"
