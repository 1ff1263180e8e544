"""Boxes in space by their eight corners on the image; likeness falls with the corners' distances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ..columns import Floats
from .attributes import Attributes
from .fields import LEAST, coordinates
from .vectors import LiveVectors

VERSION = "1"
"""Changes whenever the same answers may give another value."""

ALGORITHM = "LeanCrowdsourcingCuboids"

FALLOFF = 0.2
"""Distance of corners, in sizes, at which likeness is exp(-1/2): about that of hips in COCO's keypoint similarity."""


@dataclass(frozen=True, slots=True)
class Cuboid:
    """A cuboid by its corners x0, y0, ..., x7, y7 in pixels: the front face clockwise from its top left, then the back.

    Corners may lie outside the image.
    """

    class_id: str
    corners: tuple[float, ...]
    attributes: Attributes = ()


class LiveCuboids(LiveVectors[Cuboid]):
    """Live state of a question answered with cuboids.

    Likeness is exp(-d² / 2 s² k²): d² the mean squared distance of corners, s the size of the cuboid on the image, k
    `FALLOFF`; as in COCO's object keypoint similarity, with the corners as one.
    """

    drawn = Cuboid
    dimensions: float = 8.0  # eight points that a cuboid's edges tie to each other
    per_coordinate: ClassVar[float] = float(np.sqrt(2.0))
    pixels: ClassVar[bool] = True
    first_spread: float = 0.4

    def _checked_object(self, given: Cuboid) -> Cuboid:
        corners = coordinates("the cuboid", given.corners, points=8)
        if len(corners) != 16:
            raise ValueError(f"corners are {len(corners)} numbers; expected 16, x and y of eight points")
        if max(np.ptp(corners[0::2]), np.ptp(corners[1::2])) < LEAST:
            raise ValueError(f"all corners are one point; expected a cuboid of {LEAST:g} pixels or more")
        return replace(given, corners=corners)

    def _bounds(self, objects: Sequence[Cuboid]) -> Floats:
        vector = self._vectors(objects)
        x, y = vector[:, 0::2], vector[:, 1::2]
        return np.stack([x.min(axis=1), y.min(axis=1), x.max(axis=1), y.max(axis=1)], axis=1)

    def _similarity(self, left: Sequence[Cuboid], right: Sequence[Cuboid]) -> Floats:
        one, other = self._vectors(left), self._vectors(right)
        size = (self._units(one)[:, 0] + self._units(other)[:, 0]) / 2.0
        return np.asarray(np.exp(-np.square(one - other).sum(axis=1) / 8.0 / (2.0 * size**2)))

    def _squared_distance(self, likeness: Floats) -> Floats:
        return -2.0 * np.log(np.maximum(likeness, np.finfo(float).tiny))

    def _vectors(self, objects: Sequence[Cuboid]) -> Floats:
        return np.array([one.corners for one in objects], dtype=np.float64).reshape(-1, 16)

    def _units(self, vectors: Floats) -> Floats:
        x, y = np.ptp(vectors[..., 0::2], axis=-1), np.ptp(vectors[..., 1::2], axis=-1)
        return np.repeat((FALLOFF * np.sqrt((x**2 + y**2) / 2.0))[..., None], 16, axis=-1)

    def _shape(self, vector: Floats, like: Cuboid) -> Cuboid:
        return replace(like, corners=tuple(vector.tolist()))
