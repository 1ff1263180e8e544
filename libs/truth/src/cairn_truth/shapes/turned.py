"""What rotated boxes and ellipses share: a centre, two sizes and a rotation that has no beginning and no end.

A box is the same turned by half a turn, and turned by a quarter with width and height swapped; so is an ellipse.
Vectors are centre x and y, the logarithms of both sizes, and the rotation in radians.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Generic

import numpy as np

from ..columns import Floats
from .boxes import EDGES
from .joined import O
from .vectors import LiveVectors

_QUARTER = np.pi / 2.0


class LiveTurned(LiveVectors[O], Generic[O]):
    """Live state of shapes with centre, two sizes (whole, not half) and a rotation."""

    per_coordinate: ClassVar[float] = EDGES
    dimensions: float = 5.0

    def _bounds(self, objects: Sequence[O]) -> Floats:
        vector = self._vectors(objects)
        reach = np.hypot(np.exp(vector[:, 2]), np.exp(vector[:, 3]))[:, None] / 2.0
        return np.concatenate([vector[:, :2] - reach, vector[:, :2] + reach], axis=1)

    def _units(self, vectors: Floats) -> Floats:
        width, height, angle = (np.exp(vectors[..., 2]), np.exp(vectors[..., 3]), vectors[..., 4])
        cos, sin = np.abs(np.cos(angle)), np.abs(np.sin(angle))
        # Along the image's axes a centre is off by a part of what the shape extends there; a turn shifts the ends of
        # a long shape by its length, and is weighed by what that is of its breadth.
        across, down = 1.0 / (cos / width + sin / height), 1.0 / (sin / width + cos / height)
        one = np.ones_like(width)
        turn = np.minimum(width, height) / np.maximum(width, height)
        return np.stack([across, down, one, one, np.maximum(turn, 1e-6)], axis=-1)

    def _aligned(self, vectors: Floats, to: Floats) -> Floats:
        """Return the same shapes, swapped and turned to be as near to others as can be.

        Near is in logarithms of sizes and in radians; with even sizes the rotation decides, else the sizes do.
        """
        to = to[..., None, :]
        swapped = vectors[..., [0, 1, 3, 2, 4]] + np.array([0.0, 0.0, 0.0, 0.0, _QUARTER])
        straight, swapped = (_half_turned(v, to) for v in (vectors, swapped))
        far = [np.square(v[..., 2:] - to[..., 2:]).sum(axis=-1) for v in (straight, swapped)]
        return np.where((far[0] <= far[1] + 1e-12)[..., None], straight, swapped)


def _half_turned(vectors: Floats, to: Floats) -> Floats:
    turned = vectors.copy()
    turned[..., 4] -= np.pi * np.round((vectors[..., 4] - to[..., 4]) / np.pi)
    return turned


def half_turn_degrees(radians: float) -> float:
    """Return a rotation in degrees from -90 on and below 90, which is all that such shapes can be turned."""
    return float((np.degrees(radians) + 90.0) % 180.0 - 90.0)
