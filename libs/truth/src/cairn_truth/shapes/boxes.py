"""Upright rectangles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..classes.votes import Floats
from .attributes import Attributes
from .objects import LiveObjects

VERSION = "1"
"""Changes whenever the same answers may give another value."""

ALGORITHM = "LeanCrowdsourcingBoxes"


@dataclass(frozen=True, slots=True)
class Box:
    """An upright rectangle: left edge ``x``, top edge ``y``, ``width`` and ``height`` above 0, in pixels."""

    class_id: str
    x: float
    y: float
    width: float
    height: float
    attributes: Attributes = ()


class LiveBoxes(LiveObjects[Box]):
    """Live state of a question answered with upright rectangles; likeness is intersection over union."""

    def _checked_object(self, given: Box) -> Box:
        corner = [given.x, given.y, given.width, given.height]
        if not np.isfinite(corner).all():
            raise ValueError(f"the box is {corner}; expected finite x, y, width, height")
        if not (given.width > 0.0 and given.height > 0.0):
            raise ValueError(f"the box is {given.width} wide and {given.height} high; expected above 0")
        return given

    def _bounds(self, objects: Sequence[Box]) -> Floats:
        return edges(objects)

    def _similarity(self, left: Sequence[Box], right: Sequence[Box]) -> Floats:
        return iou(edges(left), edges(right))

    def _place(
        self, objects: Sequence[Box], precision: Floats, corpus: Mapping[str, Floats]
    ) -> tuple[Box, Floats]:
        share = precision / precision.sum()
        x0, y0, x1, y1 = (float(v) for v in share @ edges(objects))
        return Box("", x0, y0, x1 - x0, y1 - y0), share


def edges(boxes: Sequence[Box]) -> Floats:
    """Return left, top, right and bottom edges ``(n, 4)``."""
    corner = np.array([(b.x, b.y, b.width, b.height) for b in boxes], dtype=np.float64).reshape(-1, 4)
    corner[:, 2:] += corner[:, :2]
    return corner


def iou(left: Floats, right: Floats) -> Floats:
    """Return the intersection over union ``(n,)`` of the edges ``(n, 4)`` beside each other."""
    low, high = np.maximum(left[:, :2], right[:, :2]), np.minimum(left[:, 2:], right[:, 2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=1)
    sizes = np.prod(left[:, 2:] - left[:, :2], axis=1) + np.prod(right[:, 2:] - right[:, :2], axis=1)
    return np.asarray(shared / (sizes - shared), dtype=np.float64)
