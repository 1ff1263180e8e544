"""What fields of shapes may hold: checked alike for all kinds, and kept as plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import TypeGuard

import numpy as np

LARGEST = 1e12
"""Pixels: the square of more has no exact place in a double, and no image has them."""

LEAST = 1.0 / LARGEST
"""Pixels: areas of less are lost beside others, and divide nothing."""

_PIXELS = f"a finite number of pixels, at most {LARGEST:g}"

_MOST = 2**53
"""Up to here every whole number is a double."""


def pixels(name: str, value: object) -> float:
    """Return a coordinate. Raises ValueError for what is no finite number; text, truth values and arrays are none."""
    if not _is_number(value):
        raise ValueError(f"{name} is {value!r:.100}; expected {_PIXELS}")
    return float(value)


def _is_number(value: object) -> TypeGuard[float]:
    return _is_real(value) and abs(value) <= LARGEST


def _is_real(value: object) -> TypeGuard[float]:
    return type(value) is float or (isinstance(value, Real) and not isinstance(value, bool))


def extent(name: str, value: object) -> float:
    """Return a width, a radius or the like. Raises ValueError for one that is not above 0, or as good as 0."""
    size = pixels(name, value)
    if not size >= LEAST:
        raise ValueError(f"{name} is {value!r}; expected above 0, at least {LEAST:g} pixels")
    return size


def whole(name: str, value: object, least: int = 0, most: int = _MOST) -> int:
    """Return a count or a number of something. Raises ValueError for what is not whole, or outside least to most."""
    if not (_is_real(value) and least <= value <= most and value == int(value)):
        upto = "on" if most == _MOST else f"to {most}"
        raise ValueError(f"{name} is {value!r:.100}; expected a whole number from {least} {upto}")
    return int(value)


def share(name: str, value: object) -> float:
    """Return a number between 0 and 1. Raises ValueError for any other."""
    if not (_is_number(value) and 0.0 < value < 1.0):
        raise ValueError(f"{name} is {value!r:.100}; expected a likeness between 0 and 1")
    return float(value)


def corner_and_size(x: object, y: object, width: object, height: object) -> tuple[float, float, float, float]:
    """Return a rectangle. Raises ValueError unless it is one whose edges a double can tell apart."""
    named = zip(("x", "y", "width", "height"), (x, y, width, height), strict=True)
    left, top, across, down = (pixels(name, value) for name, value in named)
    if not (min(across, down) >= LEAST and left + across > left and top + down > top):
        raise ValueError(
            f"the box at {left}, {top} is {across} wide and {down} high; expected above 0, at least {LEAST:g} pixels"
        )
    return left, top, across, down


def turned(
    x: object, y: object, sizes: tuple[tuple[str, object], tuple[str, object]], rotation_degrees: object
) -> tuple[float, float, float, float, float]:
    """Return centre, both sizes and rotation. Raises ValueError unless all are finite, and the sizes above 0."""
    one, other = sizes
    return (
        pixels("center_x", x),
        pixels("center_y", y),
        extent(*one),
        extent(*other),
        pixels("rotation_degrees", rotation_degrees),
    )


def coordinates(name: str, given: Sequence[object], points: int) -> tuple[float, ...]:
    """Return x0, y0, x1, y1, ... Raises ValueError for fewer ``points``, half a point, or what is no number."""
    if isinstance(given, str) or len(given) % 2 or len(given) < 2 * points:
        raise ValueError(f"{name} is {len(given)} numbers; expected x and y of {points} points or more")
    kept = []
    for number, value in enumerate(given):
        if not _is_number(value):
            raise ValueError(f"{name} has {value!r:.100} at point {number // 2}; expected {_PIXELS}")
        kept.append(float(value))
    return tuple(kept)


def spread(points: Sequence[float]) -> tuple[float, float]:
    """Return how far points x0, y0, x1, ... reach along the line through them, and across: deviations, in pixels.

    The second is 0 where all points are on one line, to within the rounding of their coordinates.
    """
    xy = np.array(points, dtype=np.float64).reshape(-1, 2)
    rounding = np.finfo(float).eps * len(xy) * float(np.abs(xy).max())
    along, across = np.linalg.svd(xy - xy.mean(axis=0), compute_uv=False).tolist()
    return along, (across if across > rounding else 0.0)
