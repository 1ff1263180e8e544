"""Shapes that are a fixed number of coordinates: joined coordinate by coordinate, many at once."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import ClassVar, Generic

import numpy as np

from ..columns import Floats
from .joined import JoinedObject, O
from .objects import LiveObjects
from .robust import student_mean


class LiveVectors(LiveObjects[O], Generic[O]):
    """Live state of objects that are vectors of coordinates.

    A kind fills `_vectors`, `_units` and `_shape` beside what `LiveObjects` asks for; and `_aligned` where several
    vectors are one shape, as with angles.
    """

    per_coordinate: ClassVar[float] = 1.0
    """Spread of a likeness over the spread of one coordinate in its unit."""

    pixels: ClassVar[bool] = False
    """Whether coordinates are positions: given in whole pixels by everybody, they are joined in whole pixels."""

    def coordinate_sd(self, joined: JoinedObject[O]) -> Floats:
        """Return how far from the true one each coordinate of a joined object can be expected to be, in its own unit.

        For boxes: left, top, right and bottom edge, in pixels.
        """
        unit = self._units(self._vectors([joined.object]))[0]
        return np.asarray(joined.distance * unit / self.per_coordinate)

    @abstractmethod
    def _vectors(self, objects: Sequence[O]) -> Floats:
        """Return the coordinates ``(n, d)``."""

    @abstractmethod
    def _units(self, vectors: Floats) -> Floats:
        """Return in which unit each coordinate ``(..., n, d)`` errs, such as the width of a box for its left edge."""

    @abstractmethod
    def _shape(self, vector: Floats, like: O) -> O | None:
        """Return the shape with these coordinates, else like another; None where there is none, as a box inside out."""

    def _aligned(self, vectors: Floats, to: Floats) -> Floats:
        """Return vectors ``(..., n, d)`` of the same shapes, as near to others ``(..., d)`` as can be."""
        return vectors

    def _place(
        self, objects: Sequence[O], precision: Floats, corpus: Mapping[str, Floats]
    ) -> tuple[O, Floats]:
        return self._places([objects], [precision], corpus)[0]

    def _places(
        self, groups: Sequence[Sequence[O]], precision: Sequence[Floats], corpus: Mapping[str, Floats]
    ) -> Sequence[tuple[O, Floats]]:
        by_size: dict[int, list[int]] = defaultdict(list)
        for k, group in enumerate(groups):
            by_size[len(group)].append(k)
        placed: dict[int, tuple[O, Floats]] = {}
        for size, members in by_size.items():
            flat = self._vectors([one for k in members for one in groups[k]])
            centre, share = self._centre(
                flat.reshape(len(members), size, -1), np.array([precision[k] for k in members])
            )
            for k, at, part in zip(members, centre, share, strict=True):
                heaviest = groups[k][int(part.argmax())]
                placed[k] = self._shape(at, heaviest) or heaviest, part
        return [placed[k] for k in range(len(groups))]

    def _centre(self, vectors: Floats, precision: Floats) -> tuple[Floats, Floats]:
        """Return the centre ``(g, d)`` of vectors ``(g, n, d)`` and the shares ``(g, n)``; ``precision (g, n)``."""
        vectors = self._aligned(vectors, vectors[:, 0])
        unit = np.median(self._units(vectors), axis=1, keepdims=True)
        weight = precision[:, :, None] * np.square(self.per_coordinate / unit)
        centre, share = student_mean(vectors, weight)
        turned = self._aligned(vectors, centre)  # the first may have been the odd one
        if not np.array_equal(turned, vectors):
            vectors = turned
            centre, share = student_mean(vectors, weight)
        if self.pixels:
            whole = (vectors == np.floor(vectors)).all(axis=(1, 2))
            centre[whole] = np.round(centre[whole])
        return centre, share.mean(axis=-1)
