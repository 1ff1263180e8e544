"""Ellipses; likeness is intersection over union."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..columns import Floats
from .attributes import Attributes
from .convex import shared_ellipse_area
from .fields import turned
from .turned import LiveTurned, half_turn_degrees

VERSION = "2"
"""Changes whenever the same answers may give another value."""

ALGORITHM = "LeanCrowdsourcingEllipses"


@dataclass(frozen=True, slots=True)
class Ellipse:
    """An ellipse by its centre, its radii along its own axes, in pixels, and its rotation clockwise."""

    class_id: str
    center_x: float
    center_y: float
    radius_x: float
    radius_y: float
    rotation_degrees: float
    attributes: Attributes = ()


class LiveEllipses(LiveTurned[Ellipse]):
    """Live state of a question answered with ellipses; the rotation of a circle is nobody's mistake."""

    drawn = Ellipse

    def _checked_object(self, given: Ellipse) -> Ellipse:
        sizes = (("radius_x", given.radius_x), ("radius_y", given.radius_y))
        kept = turned(given.center_x, given.center_y, sizes, given.rotation_degrees)
        return Ellipse(given.class_id, *kept, given.attributes)

    def _similarity(self, left: Sequence[Ellipse], right: Sequence[Ellipse]) -> Floats:
        return ellipse_iou(left, right)

    def _vectors(self, objects: Sequence[Ellipse]) -> Floats:
        vector = _numbers(objects)
        vector[:, 2:4] = np.log(2.0 * vector[:, 2:4])
        return vector

    def _shape(self, vector: Floats, like: Ellipse) -> Ellipse:
        x, y, width, height, angle = vector.tolist()
        return replace(
            like,
            center_x=x,
            center_y=y,
            radius_x=float(np.exp(width) / 2.0),
            radius_y=float(np.exp(height) / 2.0),
            rotation_degrees=half_turn_degrees(angle),
        )


def ellipse_iou(left: Sequence[Ellipse], right: Sequence[Ellipse]) -> Floats:
    """Return the intersection over union ``(n,)`` of ellipses beside each other, within a few parts in 10,000."""
    one, other = _numbers(left), _numbers(right)
    shared = shared_ellipse_area(one, other)
    sizes = np.pi * (one[:, 2] * one[:, 3] + other[:, 2] * other[:, 3])
    shared = np.minimum(shared, np.pi * np.minimum(one[:, 2] * one[:, 3], other[:, 2] * other[:, 3]))
    return np.clip(shared / np.maximum(sizes - shared, np.finfo(float).tiny), 0.0, 1.0)


def _numbers(ellipses: Sequence[Ellipse]) -> Floats:
    given = [
        (e.center_x, e.center_y, e.radius_x, e.radius_y, np.radians(e.rotation_degrees % 180.0))
        for e in ellipses
    ]
    return np.array(given, dtype=np.float64).reshape(-1, 5)
