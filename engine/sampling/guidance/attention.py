"""Attention of the U-Net, replaced for some evaluations and then restored; and what the replacements share."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def attentions(module: Any, ending: str) -> list[Any]:
    """The self-attentions ("attn1") or cross-attentions ("attn2") of a U-Net or a block of it."""
    return [inner for name, inner in module.named_modules() if name.endswith(ending)]


@contextmanager
def replaced_attention(modules: Sequence[Any], processor: Callable[..., Tensor]) -> Iterator[None]:
    """While it lasts, these attentions are computed by another processor; their own are put back whatever happens."""
    originals = [module.processor for module in modules]
    try:
        for module in modules:
            module.set_processor(processor)
        yield
    finally:
        for module, original in zip(modules, originals, strict=True):
            module.set_processor(original)


def split_heads(attn: Any, x: Tensor) -> Tensor:
    """(B, tokens, width) -> (B, heads, tokens, width / heads)."""
    heads: Tensor = x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
    return heads


def attend(attn: Any, query: Tensor, context: Tensor) -> Tensor:
    """Plain attention before its last projection: query (B, heads, n, d), context (B, m, width) -> (B, n, width)."""
    key, value = split_heads(attn, attn.to_k(context)), split_heads(attn, attn.to_v(context))
    return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def project_out(attn: Any, x: Tensor) -> Tensor:
    """The last projection of an attention, and its dropout."""
    projection: nn.Module = attn.to_out[0]
    dropped: Tensor = attn.to_out[1](projection(x))
    return dropped


def grid_of(tokens: int, latents: Tensor) -> tuple[int, int]:
    """Height and width of a feature map with so many tokens, of latents (1, C, h, w) that were halved some times."""
    height, width = latents.shape[-2:]
    while height * width > tokens:
        height, width = -(-height // 2), -(-width // 2)
    return height, width


def gaussian_blur(x: Tensor, sigma: float, kernel_size: int) -> Tensor:
    """Blur (B, C, h, w), reflected at the edges; a kernel longer than a side is shortened to fit."""
    for dim in (-2, -1):
        side = x.shape[dim]
        size = min(kernel_size, side + 1 - side % 2)
        offsets = torch.arange(size, device=x.device, dtype=torch.float32) - (size - 1) / 2
        weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
        weights = (weights / weights.sum()).to(x.dtype)
        shape = (1, 1, size, 1) if dim == -2 else (1, 1, 1, size)
        padding = (0, 0, size // 2, size // 2) if dim == -2 else (size // 2, size // 2, 0, 0)
        padded = functional.pad(x, padding, mode="reflect")
        x = functional.conv2d(padded, weights.view(shape).expand(x.shape[1], 1, *shape[2:]), groups=x.shape[1])
    return x
