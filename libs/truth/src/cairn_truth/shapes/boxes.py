"""Upright rectangles: each edge the centre of everybody's, robustly, on the pixel grid if everybody keeps to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast

import numpy as np

from ..columns import Floats
from .attributes import Attributes
from .fields import LEAST, corner_and_size
from .joined import AnObject
from .matching import Ints
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


class Upright(AnObject, Protocol):
    """What has a corner and a size."""

    @property
    def x(self) -> float:
        """Left edge."""

    @property
    def y(self) -> float:
        """Top edge."""

    @property
    def width(self) -> float:
        """Above 0."""

    @property
    def height(self) -> float:
        """Above 0."""


U = TypeVar("U", bound=Upright)
"""A box, or one with more to it."""


class LiveUpright(LiveVectors[U], Generic[U]):
    """Live state of upright rectangles by their edges; likeness is intersection over union (IoU).

    Edges given in whole pixels by everybody are joined in whole pixels: two careful people then often agree to the
    pixel, and an edge between pixels agrees with nobody.
    """

    per_coordinate: ClassVar[float] = EDGES
    pixels: ClassVar[bool] = True

    def _bounds(self, objects: Sequence[U]) -> Floats:
        return edges(objects)

    def _similarity(self, left: Sequence[U], right: Sequence[U]) -> Floats:
        return iou(edges(left), edges(right))

    def _pairwise(self, objects: Sequence[U], left: Ints, right: Ints) -> Floats:
        edge = edges(objects)
        return iou(edge[left], edge[right])

    def _vectors(self, objects: Sequence[U]) -> Floats:
        return edges(objects)

    def _units(self, vectors: Floats) -> Floats:
        size = vectors[..., 2:] - vectors[..., :2]
        return np.concatenate([size, size], axis=-1)

    def _shape(self, vector: Floats, like: U) -> U | None:
        x0, y0, x1, y1 = vector.tolist()
        if min(x1 - x0, y1 - y0) < LEAST:
            return None
        return cast(U, replace(cast(Any, like), x=x0, y=y0, width=x1 - x0, height=y1 - y0))


class LiveBoxes(LiveUpright[Box]):
    """Live state of a question answered with upright rectangles."""

    drawn = Box

    def _checked_object(self, given: Box) -> Box:
        corner = corner_and_size(given.x, given.y, given.width, given.height)
        return Box(given.class_id, *corner, given.attributes)


def edges(boxes: Sequence[Upright]) -> Floats:
    """Return left, top, right and bottom edges ``(n, 4)``."""
    corner = np.array([(b.x, b.y, b.width, b.height) for b in boxes], dtype=np.float64).reshape(-1, 4)
    corner[:, 2:] += corner[:, :2]
    return corner


def iou(left: Floats, right: Floats) -> Floats:
    """Return the intersection over union ``(n,)`` of the edges ``(n, 4)`` beside each other."""
    low, high = np.maximum(left[:, :2], right[:, :2]), np.minimum(left[:, 2:], right[:, 2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=1)
    sizes = np.prod(left[:, 2:] - left[:, :2], axis=1) + np.prod(right[:, 2:] - right[:, :2], axis=1)
    return np.asarray(np.minimum(shared / (sizes - shared), 1.0), dtype=np.float64)
