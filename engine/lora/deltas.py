"""What one layer of a LoRA file adds to a weight, by its kind. All in float32; knows no names and no models.

LoRA        W + s·B·A                    Hu et al. 2021 (arXiv 2106.09685); for a convolution with a middle: B·M·A
LoHa        W + s·(B₁A₁ ⊙ B₂A₂)          Yeh et al. 2023 (LyCORIS, arXiv 2309.14859), FedPara's product
LoKr        W + s·(W₁ ⊗ W₂)              the same
DoRA        m·(W + s·B·A) / ‖W + s·B·A‖  Liu et al. 2024 (arXiv 2402.09353), of any of these
(IA)³       W ⊙ w                        Liu et al. 2022 (arXiv 2205.05638)
diff        W + D
OFT, BOFT   R·W                          `rotations.py`
s is alpha / rank. Strength weighs the whole change: W + strength·(W' − W).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.lora.mismatch import ShapeMismatch
from engine.lora.rotations import ROTATIONS, Rotation, rotation_of
from engine.weights.reading import TensorSlice, shape_text

Tensors = Mapping[str, Tensor]
Shape = tuple[int, ...]

_NUMBERS = frozenset({"alpha", "on_input", "neumann_terms"})  # roles of tensors that are read as numbers
_TILE_ELEMENTS = 2**21  # of a weight at a time: 8 MiB of float32


@dataclass(frozen=True, slots=True)
class LowRank:
    """scale · up · down: (out, rank) times (rank, in · kernel)."""

    up: Tensor
    down: Tensor
    scale: float

    def add_to(self, total: Tensor, base: Tensor, strength: float) -> None:
        """Add to a contiguous total, in place."""
        _as_matrix(total).addmm_(self.up, self.down, alpha=self.scale * strength)

    def write_sum(self, base: Tensor, strength: float, out: Tensor) -> None:
        """Write base and this delta into a contiguous tensor of any precision.

        On a CPU a few rows at a time, so that the float32 intermediate stays in the cache: in bfloat16 half the time
        of a whole weight, in float32 the same. Smaller tiles lose that to waiting threads.
        """
        source, target, alpha = _as_matrix(base), _as_matrix(out), self.scale * strength
        tiles: Iterable[tuple[Tensor, ...]] = [(source, self.up, target)]
        row_count = max(1, _TILE_ELEMENTS // source.shape[1])
        if source.device.type == "cpu" and row_count < source.shape[0]:
            tiles = zip(source.split(row_count), self.up.split(row_count), target.split(row_count), strict=True)
        for base_rows, up_rows, out_rows in tiles:
            if out_rows.dtype == torch.float32:
                torch.addmm(base_rows.float(), up_rows, self.down, alpha=alpha, out=out_rows)
            else:
                out_rows.copy_(torch.addmm(base_rows.float(), up_rows, self.down, alpha=alpha))


@dataclass(frozen=True, slots=True)
class FullDelta:
    """A delta as large as the weight, or one that depends on it: computed when it is needed, never kept."""

    delta: Callable[[Tensor], Tensor]  # from the weight (float32) to what is added to it

    def add_to(self, total: Tensor, base: Tensor, strength: float) -> None:
        """Add to a total, in place."""
        total.add_(self.delta(base).reshape(total.shape), alpha=strength)


Delta = LowRank | FullDelta | Rotation


def deltas_of(tensors: Tensors, shape: Shape, device: torch.device, cut: TensorSlice | None = None) -> dict[str, Delta]:
    """What a layer adds to its weight, its bias or both, by these names.

    Args:
        tensors: By role, as of `keys.Layer`.
        shape: Of the layer's weight.
        device: Where it is computed.
        cut: As of `keys.Layer`.
    Raises:
        ShapeMismatch: a tensor is missing, or the shapes make no such weight.
    """
    roles = {}
    for role, tensor in tensors.items():
        roles[role] = tensor if role in _NUMBERS else tensor.to(device=device, dtype=torch.float32)
    deltas: dict[str, Delta] = {}
    weight: Delta | None = None
    if "down" in roles or "up" in roles:
        weight = _low_rank(roles, shape)
    elif any(role.startswith("hada_") for role in roles):
        weight = _full(_hadamard(roles), shape)
    elif any(role.startswith("lokr_") for role in roles):
        product = _kronecker(roles)
        weight = _full(product if cut is None else cut.of(product), shape)
    elif roles.keys() & ROTATIONS.keys():
        weight = rotation_of(roles, shape, cut)
    elif "diff" in roles:
        weight = _full(roles["diff"], shape)
    elif "factor" in roles:
        factor, axis = roles["factor"], 1 if _required(roles, "on_input") else 0
        if len(shape) < 2 or factor.numel() != shape[axis]:
            raise ShapeMismatch(f"it scales {factor.numel()} channels and the model’s layer is {shape_text(shape)}")
        broadcast = [1] * len(shape)
        broadcast[axis] = -1
        weight = FullDelta(lambda base: base * factor.reshape(broadcast))
    if weight is not None:
        lengths = roles.get("magnitude", roles.get("dora_scale"))
        if lengths is not None:
            weight = _dora(weight, lengths, "magnitude" in roles, shape)
        deltas["weight"] = weight
    if "diff_b" in roles:
        bias = roles["diff_b"]
        if bias.numel() != shape[0]:
            raise ShapeMismatch(f"its bias has {bias.numel()} numbers and the model’s {shape[0]}")
        deltas["bias"] = FullDelta(lambda base: bias)
    return deltas


def merged(base: Tensor, deltas: list[tuple[Delta, float]], out: Tensor | None = None) -> Tensor:
    """A weight with all its deltas, contiguous; added up in float32, rounded once.

    Args:
        base: The weight, of any precision; it stays as it is.
        deltas: Each with its strength; at least one.
        out: Where the result may be written, in its precision; contiguous, sharing no memory with base. None makes
            float32.
    """
    (first, strength), *others = deltas
    if isinstance(first, LowRank) and not others:
        result = torch.empty(base.shape, dtype=torch.float32, device=base.device) if out is None else out
        first.write_sum(base, strength, result)
        return result
    base = base.float()
    if out is not None and out.dtype == torch.float32:
        total = out
    else:
        total = torch.empty(base.shape, dtype=torch.float32, device=base.device)
    if isinstance(first, LowRank):
        first.write_sum(base, strength, total)
    else:
        total.copy_(base)
        first.add_to(total, base, strength)
    for delta, strength in others:
        delta.add_to(total, base, strength)
    if out is None or out is total:
        return total
    return out.copy_(total)


def _low_rank(roles: Tensors, shape: Shape) -> Delta:
    up, down = _required(roles, "up"), _required(roles, "down")
    if min(up.dim(), down.dim()) < 2:
        raise ShapeMismatch(f"its matrices are {shape_text(up.shape)} and {shape_text(down.shape)}")
    scale = _scale(roles, down.shape[0])
    if "mid" in roles:
        return _full(_tucker(roles["mid"], up.flatten(1).T, down.flatten(1)) * scale, shape)
    up, down = up.flatten(1), down.flatten(1)
    theirs = (up.shape[0], down.shape[1])
    ours = (shape[0], torch.Size(shape[1:]).numel())
    if up.shape[1] != down.shape[0] or theirs != ours:
        raise ShapeMismatch(f"it is made for {shape_text(theirs)} and the model’s is {shape_text(ours)}")
    return LowRank(up, down, scale)


def _hadamard(roles: Tensors) -> Tensor:
    """LoHa."""
    halves = []
    for half in ("1", "2"):
        a, b = _required(roles, f"hada_w{half}_a"), _required(roles, f"hada_w{half}_b")
        core = roles.get(f"hada_t{half}")
        halves.append(_product(a, b) if core is None else _tucker(core, a, b))
    first, second = halves
    if first.shape != second.shape:
        raise ShapeMismatch(f"its halves are {shape_text(first.shape)} and {shape_text(second.shape)}")
    return first * second * _scale(roles, _required(roles, "hada_w1_b").shape[0])


def _kronecker(roles: Tensors) -> Tensor:
    """LoKr; each factor is whole, or a product, or (for kernels) a Tucker product."""
    factors = []
    for name in ("lokr_w1", "lokr_w2"):
        if name in roles:
            factors.append(roles[name])
            continue
        a, b = _required(roles, f"{name}_a"), _required(roles, f"{name}_b")
        if name == "lokr_w2" and "lokr_t2" in roles:
            factors.append(_tucker(roles["lokr_t2"], a, b))
        else:
            factors.append(_product(a, b))
    first, second = factors
    if min(first.dim(), second.dim()) < 2:
        raise ShapeMismatch(f"its factors are {shape_text(first.shape)} and {shape_text(second.shape)}")
    product = torch.kron(first.flatten(1), second.flatten(1))
    for role in ("lokr_w1_b", "lokr_w2_b"):
        if role in roles:
            return product * _scale(roles, roles[role].shape[0])
    return product  # whole factors have no rank, and no alpha


def _product(a: Tensor, b: Tensor) -> Tensor:
    if a.dim() != 2 or b.dim() < 2 or a.shape[1] != b.shape[0]:
        raise ShapeMismatch(f"its matrices are {shape_text(a.shape)} and {shape_text(b.shape)}")
    return a @ b.flatten(1)


def _tucker(core: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """core (rank, rank, kh, kw), a (rank, out), b (rank, in) -> (out, in, kh, kw)."""
    if (core.dim(), a.dim(), b.dim()) != (4, 2, 2) or core.shape[:2] != (a.shape[0], b.shape[0]):
        shapes = f"{shape_text(a.shape)}, {shape_text(core.shape)} and {shape_text(b.shape)}"
        raise ShapeMismatch(f"its matrices are {shapes}")
    return torch.einsum("ijkl,io,jn->onkl", core, a, b)


def _dora(delta: Delta, magnitude: Tensor, is_by_rows: bool, shape: Shape) -> Delta:
    """The changed weight's rows get lengths of their own; in older files of LyCORIS its columns."""
    on_rows = is_by_rows or magnitude.dim() < 2 or magnitude.shape[0] == magnitude.numel()
    kept_axis = 0 if on_rows else 1
    if len(shape) < 2 or magnitude.numel() != shape[kept_axis]:
        raise ShapeMismatch(f"it has {magnitude.numel()} lengths and the model’s layer is {shape_text(shape)}")
    norm_axes = [axis for axis in range(len(shape)) if axis != kept_axis]
    broadcast = [1] * len(shape)
    broadcast[kept_axis] = -1

    def decomposed(base: Tensor) -> Tensor:
        whole = merged(base, [(delta, 1.0)])
        lengths = torch.linalg.vector_norm(whole, dim=norm_axes, keepdim=True)
        scaled: Tensor = whole * (magnitude.reshape(broadcast) / lengths.clamp_min(torch.finfo(torch.float32).eps))
        return scaled - base

    return FullDelta(decomposed)


def _full(delta: Tensor, shape: Shape) -> Delta:
    if delta.numel() != torch.Size(shape).numel() or delta.shape[0] != shape[0]:
        raise ShapeMismatch(f"it is made for {shape_text(delta.shape)} and the model’s is {shape_text(shape)}")
    return FullDelta(lambda base: delta)


def _scale(roles: Tensors, rank: int) -> float:
    if not rank:
        raise ShapeMismatch("its rank is 0")
    return float(roles["alpha"].flatten()[0]) / rank if "alpha" in roles else 1.0


def _required(roles: Tensors, role: str) -> Tensor:
    if role not in roles:
        raise ShapeMismatch(f"“{role}” is missing")
    return roles[role]


def _as_matrix(tensor: Tensor) -> Tensor:
    return tensor.reshape(tensor.shape[0], -1)
