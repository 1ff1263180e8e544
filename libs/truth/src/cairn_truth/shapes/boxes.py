"""Upright rectangles: each edge the centre of everybody's, robustly, on the pixel grid if everybody keeps to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ..columns import Floats
from .attributes import Attributes
from .vectors import LiveVectors

VERSION = "1"
"""Changes whenever the same answers may give another value."""

ALGORITHM = "LeanCrowdsourcingBoxes"

EDGES = 3.2
"""Spread of 1 - IoU over the spread of an edge in widths: each of four edges costs its own error, 0.8 spreads mostly."""


@dataclass(frozen=True, slots=True)
class Box:
    """An upright rectangle: left edge ``x``, top edge ``y``, ``width`` and ``height`` above 0, in pixels."""

    class_id: str
    x: float
    y: float
    width: float
    height: float
    attributes: Attributes = ()


class LiveBoxes(LiveVectors[Box]):
    """Live state of a question answered with upright rectangles; likeness is intersection over union (IoU).

    Edges given in whole pixels by everybody are joined in whole pixels: two careful people then often agree to the
    pixel, and an edge between pixels agrees with nobody.
    """

    per_coordinate: ClassVar[float] = EDGES
    pixels: ClassVar[bool] = True

    def _checked_object(self, given: Box) -> Box:
        check_corner_and_size(given.x, given.y, given.width, given.height)
        return given

    def _bounds(self, objects: Sequence[Box]) -> Floats:
        return edges(objects)

    def _similarity(self, left: Sequence[Box], right: Sequence[Box]) -> Floats:
        return iou(edges(left), edges(right))

    def _vectors(self, objects: Sequence[Box]) -> Floats:
        return edges(objects)

    def _units(self, vectors: Floats) -> Floats:
        return width_and_height(vectors)

    def _shape(self, vector: Floats, like: Box) -> Box | None:
        x0, y0, x1, y1 = vector.tolist()
        if not (x1 > x0 and y1 > y0):
            return None
        return replace(like, x=x0, y=y0, width=x1 - x0, height=y1 - y0)


def check_corner_and_size(x: float, y: float, width: float, height: float) -> None:
    """Raise ValueError unless these are a rectangle whose edges a double can tell apart."""
    for name, value in (("x", x), ("y", y), ("width", width), ("height", height)):
        if not abs(value) <= LARGEST:
            raise ValueError(f"{name} is {value}; expected a finite number of pixels, at most {LARGEST:g}")
    if not (x + width > x and y + height > y):
        raise ValueError(f"the box at {x}, {y} is {width} wide and {height} high; expected above 0")


LARGEST = 1e12
"""Pixels: the square of more has no exact place in a double, and no image has them."""


def edges(boxes: Sequence[Box]) -> Floats:
    """Return left, top, right and bottom edges ``(n, 4)``."""
    corner = np.array([(b.x, b.y, b.width, b.height) for b in boxes], dtype=np.float64).reshape(-1, 4)
    corner[:, 2:] += corner[:, :2]
    return corner


def width_and_height(edge: Floats) -> Floats:
    """Return width and height of edges ``(..., 4)``, twice, so that each edge has its size beside it."""
    size = edge[..., 2:] - edge[..., :2]
    return np.concatenate([size, size], axis=-1)


def iou(left: Floats, right: Floats) -> Floats:
    """Return the intersection over union ``(n,)`` of the edges ``(n, 4)`` beside each other."""
    low, high = np.maximum(left[:, :2], right[:, :2]), np.minimum(left[:, 2:], right[:, 2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=1)
    sizes = np.prod(left[:, 2:] - left[:, :2], axis=1) + np.prod(right[:, 2:] - right[:, :2], axis=1)
    return np.asarray(np.minimum(shared / (sizes - shared), 1.0), dtype=np.float64)
