"""What fields of shapes may hold: checked alike for all kinds, and kept as plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import TypeVar, cast

import numpy as np

from ..columns import check_instance, check_sequence

P = TypeVar("P")

LARGEST = 1e12
"""Pixels: the square of more has no exact place in a double, and no image has them."""

LEAST = 1.0 / LARGEST
"""Pixels: areas of less are lost beside others, and divide nothing."""

_PIXELS = f"a finite number of pixels, at most {LARGEST:g}"

_MOST = 2**53
"""Up to here every whole number is a double."""


def pixels(name: str, value: object) -> float:
    """Return a coordinate. Raises ValueError for what is no finite number; text, truth values and arrays are none."""
    number = _as_double(value)
    if not abs(number) <= LARGEST:
        raise ValueError(f"{name} is {value!r:.100}; expected {_PIXELS}")
    return number


def _as_double(value: object) -> float:
    """Return a number as a double, in which bounds can be compared with it: nan for what is none, infinite beyond."""
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def extent(name: str, value: object) -> float:
    """Return a width, a radius or the like. Raises ValueError for one that is not above 0, or as good as 0."""
    size = pixels(name, value)
    if not size >= LEAST:
        raise ValueError(f"{name} is {value!r}; expected above 0, at least {LEAST:g} pixels")
    return size


def whole(name: str, value: object, least: int = 0, most: int = _MOST) -> int:
    """Return a count or a number of something. Raises ValueError for what is not whole, or outside least to most."""
    number = _as_double(value)
    if not (least <= number <= most and number == value == int(number)):
        upto = "on" if most == _MOST else f"to {most}"
        raise ValueError(f"{name} is {value!r:.100}; expected a whole number from {least} {upto}")
    return int(number)


def share(name: str, value: object) -> float:
    """Return a number between 0 and 1. Raises ValueError for any other."""
    number = _as_double(value)
    if not 0.0 < number < 1.0:
        raise ValueError(f"{name} is {value!r:.100}; expected a likeness between 0 and 1")
    return number


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
    check_sequence(name, given, f"x and y of {points} points or more, one number after the other")
    kept = tuple(_as_double(value) for value in given)
    for place, number in enumerate(kept):
        if not abs(number) <= LARGEST:
            raise ValueError(f"{name} has {given[place]!r:.100} at point {place // 2}; expected {_PIXELS}")
    if len(kept) % 2 or len(kept) < 2 * points:
        raise ValueError(f"{name} is {len(kept)} numbers; expected x and y of {points} points or more")
    return kept


def parts(name: str, given: object, kind: type[P]) -> Sequence[P]:
    """Return what a shape is made of. Raises ValueError for what is no sequence, and for a part of another ``kind``."""
    check_sequence(name, given, f"a tuple of {kind.__name__}")
    held = cast(Sequence[P], given)
    for number, part in enumerate(held):
        check_instance(f"{name}[{number}]", part, kind, f"a {kind.__name__}")
    return held


def spread(points: Sequence[float]) -> tuple[float, float]:
    """Return how far points x0, y0, x1, ... reach along the line through them, and across: deviations, in pixels.

    The second is 0 where all points are on one line, to within the rounding of their coordinates.
    """
    xy = np.array(points, dtype=np.float64).reshape(-1, 2)
    rounding = np.finfo(float).eps * len(xy) * float(np.abs(xy).max())
    along, across = np.linalg.svd(xy - xy.mean(axis=0), compute_uv=False).tolist()
    return along, (across if across > rounding else 0.0)
