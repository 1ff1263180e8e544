"""Rectangles turned about their centres; likeness is the exact intersection over union."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..columns import Floats
from .attributes import Attributes
from .convex import shared_polygon_area
from .fields import turned
from .turned import LiveTurned, half_turn_degrees

VERSION = "1"
"""Changes whenever the same answers may give another value."""

ALGORITHM = "LeanCrowdsourcingRotatedBoxes"


@dataclass(frozen=True, slots=True)
class RotatedBox:
    """A rectangle by its centre, its width and height before the rotation, in pixels, and the rotation clockwise."""

    class_id: str
    center_x: float
    center_y: float
    width: float
    height: float
    rotation_degrees: float
    attributes: Attributes = ()


class LiveRotatedBoxes(LiveTurned[RotatedBox]):
    """Live state of a question answered with rotated boxes.

    That a box may be written in two ways, sides swapped and a quarter turned, makes no difference.
    """

    drawn = RotatedBox

    def _checked_object(self, given: RotatedBox) -> RotatedBox:
        sizes = (("width", given.width), ("height", given.height))
        kept = turned(given.center_x, given.center_y, sizes, given.rotation_degrees)
        return RotatedBox(given.class_id, *kept, given.attributes)

    def _similarity(self, left: Sequence[RotatedBox], right: Sequence[RotatedBox]) -> Floats:
        return rotated_iou(left, right)

    def _vectors(self, objects: Sequence[RotatedBox]) -> Floats:
        vector = np.array(
            [(b.center_x, b.center_y, b.width, b.height, b.rotation_degrees % 180.0) for b in objects]
        ).reshape(-1, 5)
        vector[:, 2:4], vector[:, 4] = np.log(vector[:, 2:4]), np.radians(vector[:, 4])
        return vector

    def _shape(self, vector: Floats, like: RotatedBox) -> RotatedBox:
        x, y, width, height, angle = vector.tolist()
        return replace(
            like,
            center_x=x,
            center_y=y,
            width=float(np.exp(width)),
            height=float(np.exp(height)),
            rotation_degrees=half_turn_degrees(angle),
        )


def corners(boxes: Sequence[RotatedBox]) -> Floats:
    """Return the corners ``(n, 4, 2)`` in order, clockwise as seen on the image."""
    given = np.array(
        [(b.center_x, b.center_y, b.width / 2.0, b.height / 2.0, b.rotation_degrees) for b in boxes]
    ).reshape(-1, 5)
    angle = np.radians(given[:, 4])
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    along, down = given[:, 2:3] * [-1.0, 1.0, 1.0, -1.0], given[:, 3:4] * [-1.0, -1.0, 1.0, 1.0]
    x, y = given[:, 0:1] + cos * along - sin * down, given[:, 1:2] + sin * along + cos * down
    return np.stack([x, y], axis=2)


def rotated_iou(left: Sequence[RotatedBox], right: Sequence[RotatedBox]) -> Floats:
    """Return the intersection over union ``(n,)`` of boxes beside each other, by clipping one with the other."""
    shared = shared_polygon_area(corners(left), corners(right))
    sizes = np.array([a.width * a.height + b.width * b.height for a, b in zip(left, right, strict=True)])
    return np.clip(shared / np.maximum(sizes - shared, np.finfo(float).tiny), 0.0, 1.0)
