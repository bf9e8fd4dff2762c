"""Rotations of a weight, by the kind of their file: OFT and BOFT. All in float32; knows no names and no models.

OFT    W' = c ⊙ R·W                  Qiu et al. 2023 (arXiv 2306.07280); R = (I + Q)(I − Q)⁻¹, Cayley's transform of
                                     a skew Q, is block diagonal
BOFT   W' = c ⊙ B_m·…·B_1·W          Liu et al. 2024 (arXiv 2311.06243); B_i = P_i·R_i·P_iᵀ, a butterfly
Who writes what:
    kohya's sd-scripts, LyCORIS   oft_blocks (blocks, n, n): Q = A − Aᵀ, no longer than alpha × rows; R turned over
                                  (Rᵀ·W); with four dimensions BOFT, not turned over; rescale is c
    older LyCORIS                 oft_diag: R itself
    peft                          oft_R (blocks, n(n−1)/2): the upper triangle of Q; boft_R, and oft_r with oft_s:
                                  R = (I − S)(I + S)⁻¹, S = (A − Aᵀ)/2; they turn what goes into the layer (W·Rᵀ);
                                  older oft_r alone turns what comes out (Rᵀ·W)
Strength s as in LyCORIS: every factor is I + s·(R − I), so that one factor without c goes s of the way from W to W', as
all other kinds; c is 1 + s·(c − 1). peft has no strength but 1. A rotation is defined on the checkpoint's own weight:
with other LoRAs on the layer its change is added to theirs, and the order of LoRAs says nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from engine.lora.mismatch import ShapeMismatch
from engine.weights.reading import TensorSlice, shape_text

_TINY = 1e-8  # as kohya and LyCORIS add to a norm
# What makes a layer a rotation, and how many dimensions it may have.
ROTATIONS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {"oft_blocks": (3, 4), "oft_diag": (3, 4), "oft_R": (2,), "oft_r": (3,), "boft_R": (4,)}
)


@dataclass(frozen=True, slots=True)
class Factor:
    """Orthogonal blocks, (blocks, n, n), and the order in which rows are sorted into them; None: as they stand."""

    blocks: Tensor
    order: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Rotation:
    """A weight turned by factors, the first one first; computed when it is needed.

    Attributes:
        turns_input: The factors turn the weight's columns: what goes into the layer.
        rescale: One number a row, or None.
    """

    factors: tuple[Factor, ...]
    turns_input: bool
    rescale: Tensor | None = None

    def add_to(self, total: Tensor, base: Tensor, strength: float) -> None:
        """Add what the turned weight has more than the base to a total, in place."""
        matrix = base.float().flatten(1)
        rows = matrix.T if self.turns_input else matrix
        for factor in self.factors:
            count, size, _ = factor.blocks.shape
            sorted_rows = rows if factor.order is None else rows[factor.order]
            parts = sorted_rows.reshape(count, size, -1)
            parts = torch.baddbmm(parts, factor.blocks - torch.eye(size).to(parts), parts, alpha=strength)
            rows = parts.flatten(0, 1)
            if factor.order is not None:
                rows = rows[factor.order.argsort()]
        turned = rows.T if self.turns_input else rows
        if self.rescale is not None:
            turned = turned * (1 + strength * (self.rescale.reshape(-1, 1) - 1))
        total.add_((turned - matrix).reshape(total.shape))


def rotation_of(roles: Mapping[str, Tensor], shape: tuple[int, ...], cut: TensorSlice | None = None) -> Rotation:
    """The rotation that a layer's tensors make.

    Args:
        roles: The tensors, in float32; one of them in `ROTATIONS`. neumann_terms: of peft's series (0: none is made).
        shape: Of the layer's weight.
        cut: Of a layer that is only some rows of the file's: which.
    Raises:
        ShapeMismatch: the shapes make no such weight.
    """
    role = next(role for role in ROTATIONS if role in roles)
    tensor = roles[role]
    is_square = role == "oft_R" or tensor.shape[-1:] == tensor.shape[-2:-1]
    if tensor.dim() not in ROTATIONS[role] or not is_square or not tensor.numel():
        raise ShapeMismatch(f"its blocks are {shape_text(tensor.shape)}")
    rescale = roles.get("rescale", roles.get("out_scale"))
    turns_input = role in ("oft_R", "boft_R") or (role == "oft_r" and "out_scale" in roles)
    length = torch.Size(shape[1:]).numel() if turns_input else shape[0]
    if role == "oft_R":
        blocks = _of_triangles(tensor, int(roles["neumann_terms"]) if "neumann_terms" in roles else 0)
    elif role == "oft_diag":
        blocks = tensor
    elif role == "oft_blocks":
        blocks = _cayley(_constrained(tensor, roles.get("alpha")))
    else:
        blocks = _cayley((tensor.mT - tensor) / 2)
    if blocks.shape[0] == 1 and role in ("oft_R", "oft_r"):  # peft's block for all
        blocks = blocks.expand(max(1, length // blocks.shape[-1]), -1, -1)
    if blocks.dim() == 4:
        factors = _butterfly(blocks, is_of_peft=role == "boft_R")
    else:
        # The contraction in kohya's, LyCORIS' and the older peft's programs is with R turned over.
        factors = [Factor(blocks if turns_input else blocks.mT)]
    if cut is not None and not turns_input:
        factors = [_cut(factor, cut) for factor in factors]
    count, size, _ = factors[0].blocks.shape
    if count * size != length:
        turned = "columns" if turns_input else "rows"
        raise ShapeMismatch(f"it turns {count * size} {turned} and the model’s layer is {shape_text(shape)}")
    if rescale is not None and rescale.numel() != shape[0]:
        raise ShapeMismatch(f"it scales {rescale.numel()} rows and the model’s layer is {shape_text(shape)}")
    return Rotation(tuple(factors), turns_input, rescale)


def _cayley(skew: Tensor) -> Tensor:
    """(I + Q)(I − Q)⁻¹. A skew Q has no eigenvalue 1, so nothing has to be checked, which would wait for a card."""
    one = torch.eye(skew.shape[-1]).to(skew)
    rotation: Tensor = torch.linalg.solve_ex(one - skew, one + skew, left=False).result
    return rotation


def _constrained(blocks: Tensor, alpha: Tensor | None) -> Tensor:
    """A − Aᵀ, no longer than alpha times the rows; without an alpha, or with 0, as long as it is."""
    skew = blocks - blocks.mT
    limit = 0.0 if alpha is None else float(alpha.flatten()[0]) * blocks.shape[-3] * blocks.shape[-1]
    if limit <= 0:
        return skew
    length: Tensor = torch.linalg.vector_norm(skew) + _TINY
    return skew * (limit / length).clamp_max(1.0)


def _of_triangles(triangles: Tensor, terms: int) -> Tensor:
    """peft's oft_R: upper triangles, row by row. A series makes about (I + Q)(I − Q)⁻¹; without one: turned over."""
    count, numbers = triangles.shape
    size = int((1 + (1 + 8 * numbers) ** 0.5) / 2)
    if size * (size - 1) != 2 * numbers:
        raise ShapeMismatch(f"{numbers} numbers are no triangle")
    skew = triangles.new_zeros(count, size, size)
    skew[:, *torch.triu_indices(size, size, 1)] = triangles
    skew = skew - skew.mT
    if not terms:
        return _cayley(-skew)
    # I + 2Q + 2Q² + …, the last power once.
    total = torch.eye(size).to(skew).expand_as(skew).clone()
    if terms > 1:
        total += 2 * skew
    if terms <= 2:
        return total
    power = skew
    for _ in range(max(1, terms - 3)):  # peft makes three terms of four, too
        power = power @ skew
        total += 2 * power
    return total + power @ skew


def _butterfly(blocks: Tensor, *, is_of_peft: bool) -> list[Factor]:
    """Factors from (factors, blocks, n, n): the i-th joins rows that lie 2^i half blocks apart.

    Raises:
        ShapeMismatch: the rows can't be sorted so.
    """
    depth, count, size, _ = blocks.shape
    half, length = size // 2, count * size
    if is_of_peft and depth == 1:
        return [Factor(blocks[0])]
    if size % 2 or length % (half * 2**depth):
        raise ShapeMismatch(f"{count} blocks of {size} make no butterfly of {depth} factors")
    factors = []
    rows = torch.arange(length, device=blocks.device)
    for number in range(depth):
        reach = 2**number
        if is_of_peft:
            # In groups of 2^i blocks the half blocks are taken apart, even ones first; that order is P.
            order = rows.reshape(-1, reach, 2, half).transpose(1, 2).flatten().argsort()
        else:
            order = rows.reshape(-1, 2, reach * half).transpose(1, 2).flatten()
        factors.append(Factor(blocks[number], order))
    return factors


def _cut(factor: Factor, cut: TensorSlice) -> Factor:
    """The blocks of a layer's own rows. Raises ShapeMismatch: some hold rows of other layers, too."""
    count = factor.blocks.shape[0]
    if factor.order is not None or count % cut.share[1] or (cut.is_swapped and count % 2):
        raise ShapeMismatch("its blocks lie across several of the model’s layers")
    return Factor(cut.of(factor.blocks))
