"""Philox4x32-10, and from it the normal numbers that a CUDA card draws, on any machine.

Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3; Box and Muller 1958, in the
order in which NVIDIA's cuRAND takes the two uniform numbers.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_ROUNDS = 10
_SCALE = np.float32(2.0**-32)


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Ten rounds on counters of four words. counter: (4, n), uint64 below 2^32; returns the same shape."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        first, second = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (second >> _HALF) ^ c1 ^ np.uint64(k0),
            second & _MASK,
            (first >> _HALF) ^ c3 ^ np.uint64(k1),
            first & _MASK,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3])


class PhiloxGenerator:
    """Draws what `torch.randn` on a CUDA card draws, one call after another.

    Exact but for the last bits of the logarithm and the sine. A card goes through more numbers than it has threads,
    some 270,000, in another order; no latents up to 2048 pixels a side hold so many.
    """

    def __init__(self, seed: int) -> None:
        self._key = (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF)
        self._calls = 0

    def randn(self, shape: Sequence[int]) -> Tensor:
        """Unit noise, float32, on the CPU."""
        count = int(np.prod(shape))
        counter = np.zeros((4, count), np.uint64)
        counter[0] = self._calls
        counter[2] = np.arange(count, dtype=np.uint64)
        self._calls += 1
        bits = philox(counter, self._key)
        u = bits[0].astype(np.float32) * _SCALE + _SCALE / 2
        angle = bits[1].astype(np.float32) * (_SCALE * np.float32(2 * np.pi)) + _SCALE * np.float32(np.pi)
        noise: np.ndarray = np.sqrt(-2 * np.log(u)) * np.sin(angle)
        return torch.from_numpy(noise.reshape(tuple(shape)))
