"""Builds the profile of an RGB space that a file describes by numbers alone: primaries, white and gamma.

Source: ICC.1:2001-04 (version 2 profiles); Bradford's adaptation as ICC.1:2010, annex E; IEC 61966-2-1 (sRGB's curve).
"""

import struct
from collections.abc import Sequence

Points = tuple[float, ...]
Vector = tuple[float, float, float]
SRGB: Points = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)  # white, red, green, blue: x and y of each
DISPLAY_P3: Points = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
REC_2020: Points = (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046)
_D50: Vector = (0.9642, 1.0, 0.8249)
_BRADFORD: tuple[Vector, Vector, Vector] = (
    (0.8951, 0.2664, -0.1614),
    (-0.7502, 1.7135, 0.0367),
    (0.0389, -0.0685, 1.0296),
)
_ENTRIES = 1024  # of a curve


def matrix_profile(points: Points, gamma: float | None) -> bytes:
    """A version 2 profile of an RGB space.

    Args:
        points: x and y of white, red, green and blue (CIE 1931).
        gamma: Of encoding (0.45455 for 2.2); None: sRGB's own curve.
    """
    columns = _adapted_primaries(points)
    curve = _curve(gamma)
    text = "RGB".encode("ascii") + b"\0"
    tags = {
        b"desc": (b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(8 + 3 + 67)),
        b"cprt": b"text\0\0\0\0None\0",
        b"wtpt": _xyz(_D50),
        **{name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)},
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    table, body, place = b"", b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += struct.pack(">4sII", name, place + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    size = place + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"\0\0\0\0", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _xyz(_D50)[8:] + bytes(48)
    return head + struct.pack(">I", len(tags)) + table + body


def _xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _curve(gamma: float | None) -> bytes:
    """A curve of 1024 entries, the same form for sRGB's piecewise curve and for any gamma."""
    levels = [place / (_ENTRIES - 1) for place in range(_ENTRIES)]
    linear = [
        (level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4)
        if gamma is None
        else level ** (1 / gamma)
        for level in levels
    ]
    return b"curv\0\0\0\0" + struct.pack(f">I{_ENTRIES}H", _ENTRIES, *(round(value * 65535) for value in linear))


def _adapted_primaries(points: Points) -> tuple[Vector, Vector, Vector]:
    """XYZ of red, green and blue that add up to white, seen under D50 (Bradford)."""

    def of(x: float, y: float) -> Vector:
        return x / max(y, 1e-6), 1.0, (1 - x - y) / max(y, 1e-6)

    white, *primaries = (of(*points[place : place + 2]) for place in range(0, 8, 2))
    shares = _solve(tuple(zip(*primaries, strict=True)), white)  # type: ignore[arg-type]
    from_cones, to_cones = _multiply(_BRADFORD, white), _multiply(_BRADFORD, _D50)
    adapted: list[Vector] = []
    for (x, y, z), share in zip(primaries, shares, strict=True):
        cones = _multiply(_BRADFORD, (x * share, y * share, z * share))
        moved = [cone * (to / start) for cone, to, start in zip(cones, to_cones, from_cones, strict=True)]
        adapted.append(_solve(_BRADFORD, (moved[0], moved[1], moved[2])))
    return adapted[0], adapted[1], adapted[2]


def _multiply(matrix: tuple[Vector, Vector, Vector], vector: Vector) -> Vector:
    products: list[float] = []
    for row in matrix:
        products.append(sum(a * b for a, b in zip(row, vector, strict=True)))
    return products[0], products[1], products[2]


def _solve(matrix: tuple[Vector, Vector, Vector], wanted: Vector) -> Vector:
    """The vector that a 3 × 3 matrix turns into the wanted one (Cramer's rule)."""

    def determinant(rows: Sequence[Sequence[float]]) -> float:
        (a, b, c), (d, e, f), (g, h, i) = rows
        return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)

    whole = determinant(matrix)
    solution: list[float] = []
    for column in range(3):
        rows = [list(row) for row in matrix]
        for row, value in zip(rows, wanted, strict=True):
            row[column] = value
        solution.append(determinant(rows) / whole)
    return solution[0], solution[1], solution[2]
