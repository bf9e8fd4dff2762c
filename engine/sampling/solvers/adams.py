"""Weights of Adams methods: integrals of the polynomials that pass through the last evaluations."""

from collections.abc import Callable, Sequence

import numpy as np

_POINTS = 32  # of Gauss and Legendre's rule: exact for polynomials, 1e-12 for the densities that are used


def adams_weights(
    nodes: Sequence[float], start: float, end: float, density: Callable[[np.ndarray], np.ndarray] | None = None
) -> list[float]:
    """Integrate each Lagrange polynomial of some nodes.

    Args:
        nodes: Where the function was evaluated; all different.
        start, end: What is integrated over; rising or falling.
        density: What the polynomials are multiplied by; 1 without.
    Returns:
        A weight for each node.
    Source: Hairer, Nørsett and Wanner, Solving Ordinary Differential Equations I, section III.1.
    """
    points, weights = np.polynomial.legendre.leggauss(_POINTS)
    at = start + (end - start) * (points + 1) / 2
    weights = weights * (end - start) / 2
    if density is not None:
        weights = weights * density(at)
    found = []
    for node in nodes:
        others = [other for other in nodes if other != node]
        polynomial = np.prod([(at - other) / (node - other) for other in others], axis=0)
        found.append(float((weights * polynomial).sum()))
    return found
