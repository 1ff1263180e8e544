"""How shapes move: what is between two keyframes, and how the shapes of a track are written so that one follows another.

A track knows nothing of its shape but this, and what the shape's own live state knows: how alike two are and where
several that are one should be.
"""

# ruff: noqa: D102 - Moving says what each method is for
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Generic, cast

import numpy as np

from ..columns import Floats
from .boxes import Box, LiveBoxes, edges
from .ellipses import Ellipse, LiveEllipses
from .joined import O
from .keypoints import Keypoint, LiveSkeletons, Skeleton, Visibility
from .objects import LiveObjects
from .polygons import LivePolygons, Polygon, rings
from .polylines import begun_alike, ring_walk
from .raster import area
from .rotated_boxes import LiveRotatedBoxes, RotatedBox
from .turned import LiveTurned

_RING = 64
"""Points that outlines with unlike numbers of points are walked on, to be paired."""


class Moving(ABC, Generic[O]):
    """How one kind of shape moves. ``kind`` is the shape's own live state: its checks, likeness and joining are used."""

    shape: ClassVar[type[Any]]
    """The class of the shapes."""

    frames: int = 32
    """Frames at which two tracks are compared at most: overlap in time is then told to a few hundredths."""

    def __init__(self, kind: LiveObjects[O]) -> None:
        self.kind = kind

    @abstractmethod
    def areas(self, shapes: Sequence[O]) -> Floats:
        """Return how much of the picture each takes up ``(n,)``, pixels squared, above 0."""

    @abstractmethod
    def between(self, one: Sequence[O], other: Sequence[O], share: Floats) -> Sequence[O]:
        """Return what is so large a ``share (n,)`` of the way from each of ``one`` to the ``other`` beside it."""

    @abstractmethod
    def numbers(self, shapes: Sequence[O]) -> Floats:
        """Return positions in pixels ``(n, d)`` that tell shapes apart which follow each other; nan where none is."""

    def following(self, shapes: Sequence[O]) -> Sequence[O]:
        """Return the same shapes written so that each goes on from the one before, number by number."""
        return shapes

    def held(self, shape: O) -> Hashable:
        """Return what a keyframe says that holds until the next and is not interpolated."""
        return ()


class MovingBoxes(Moving[Box]):
    """Upright rectangles: edges move evenly."""

    shape = Box

    def __init__(self, kind: LiveBoxes | None = None) -> None:
        super().__init__(kind or LiveBoxes())

    def areas(self, shapes: Sequence[Box]) -> Floats:
        return np.array([one.width * one.height for one in shapes], dtype=np.float64)

    def between(self, one: Sequence[Box], other: Sequence[Box], share: Floats) -> Sequence[Box]:
        numbers = np.array(
            [
                (a.x, a.y, a.width, a.height, b.x, b.y, b.width, b.height)
                for a, b in zip(one, other, strict=True)
            ]
        ).reshape(-1, 8)
        start = numbers[:, :4]
        moved = start + share[:, None] * (numbers[:, 4:] - start)
        return [Box(like.class_id, *row) for like, row in zip(one, moved.tolist(), strict=True)]

    def numbers(self, shapes: Sequence[Box]) -> Floats:
        return edges(shapes)


class _MovingTurned(Moving[O], Generic[O]):
    """Shapes with a rotation: centre and sizes move evenly, and it turns the shorter way to the same shape."""

    def between(self, one: Sequence[O], other: Sequence[O], share: Floats) -> Sequence[O]:
        kind = cast(LiveTurned[O], self.kind)
        start = kind._vectors(one)
        end = kind._aligned(kind._vectors(other)[:, None], start)[:, 0]
        moved = start + share[:, None] * (end - start)
        size, final = np.exp(start[:, 2:4]), np.exp(end[:, 2:4])
        moved[:, 2:4] = np.log(size + share[:, None] * (final - size))
        shapes = (kind._shape(vector, like) for vector, like in zip(moved, one, strict=True))
        return [like if shape is None else shape for shape, like in zip(shapes, one, strict=True)]

    def following(self, shapes: Sequence[O]) -> Sequence[O]:
        kind = cast(LiveTurned[O], self.kind)
        vectors = kind._vectors(shapes)
        for k in range(1, len(vectors)):
            vectors[k] = kind._aligned(vectors[k][None], vectors[k - 1])[0]
        return [self._written(vector, like) for vector, like in zip(vectors, shapes, strict=True)]

    def numbers(self, shapes: Sequence[O]) -> Floats:
        parts = np.array([self._parts(one) for one in shapes], dtype=np.float64).reshape(-1, 5)
        parts[:, 4] = np.radians(parts[:, 4]) * parts[:, 2:4].max(axis=1) / 2.0  # how far the ends go
        return parts

    @abstractmethod
    def _parts(self, shape: O) -> tuple[float, float, float, float, float]:
        """Return centre x and y, both sizes, and the rotation in degrees."""

    @abstractmethod
    def _written(self, vector: Floats, like: O) -> O:
        """Return the shape with these numbers, its rotation as it is."""


class MovingRotatedBoxes(_MovingTurned[RotatedBox]):
    """Rectangles with a rotation."""

    shape = RotatedBox

    def __init__(self, kind: LiveRotatedBoxes | None = None) -> None:
        super().__init__(kind or LiveRotatedBoxes())

    def areas(self, shapes: Sequence[RotatedBox]) -> Floats:
        return np.array([one.width * one.height for one in shapes], dtype=np.float64)

    def _parts(self, shape: RotatedBox) -> tuple[float, float, float, float, float]:
        return shape.center_x, shape.center_y, shape.width, shape.height, shape.rotation_degrees

    def _written(self, vector: Floats, like: RotatedBox) -> RotatedBox:
        x, y, *_, angle = vector.tolist()
        width, height = np.exp(vector[2:4]).tolist()
        return RotatedBox(like.class_id, x, y, width, height, float(np.degrees(angle)), like.attributes)


class MovingEllipses(_MovingTurned[Ellipse]):
    """Ellipses."""

    shape = Ellipse

    def __init__(self, kind: LiveEllipses | None = None) -> None:
        super().__init__(kind or LiveEllipses())

    def areas(self, shapes: Sequence[Ellipse]) -> Floats:
        return np.array([np.pi * one.radius_x * one.radius_y for one in shapes], dtype=np.float64)

    def _parts(self, shape: Ellipse) -> tuple[float, float, float, float, float]:
        across, down = 2.0 * shape.radius_x, 2.0 * shape.radius_y
        return shape.center_x, shape.center_y, across, down, shape.rotation_degrees

    def _written(self, vector: Floats, like: Ellipse) -> Ellipse:
        x, y, *_, angle = vector.tolist()
        across, down = (np.exp(vector[2:4]) / 2.0).tolist()
        return Ellipse(like.class_id, x, y, across, down, float(np.degrees(angle)), like.attributes)


class MovingSkeletons(Moving[Skeleton]):
    """Named points: those that both keyframes have move evenly, what only one has stays; visibility holds."""

    shape = Skeleton

    def __init__(self, kind: LiveSkeletons | None = None) -> None:
        super().__init__(kind or LiveSkeletons())

    def areas(self, shapes: Sequence[Skeleton]) -> Floats:
        return np.square(cast(LiveSkeletons, self.kind)._sizes(shapes))

    def between(
        self, one: Sequence[Skeleton], other: Sequence[Skeleton], share: Floats
    ) -> Sequence[Skeleton]:
        targets = {id(b): {p.point: p for p in b.keypoints} for b in other}
        return [
            replace(a, keypoints=tuple(_moved(p, targets[id(b)].get(p.point), s) for p in a.keypoints))
            for a, b, s in zip(one, other, share.tolist(), strict=True)
        ]

    def numbers(self, shapes: Sequence[Skeleton]) -> Floats:
        names = {name: k for k, name in enumerate(sorted({p.point for s in shapes for p in s.keypoints}))}
        xy = np.full((len(shapes), len(names), 2), np.nan)
        for row, one in enumerate(shapes):
            for p in one.keypoints:
                if p.visibility != Visibility.ABSENT:
                    xy[row, names[p.point]] = p.x, p.y
        return xy.reshape(len(shapes), -1)

    def held(self, shape: Skeleton) -> Hashable:
        return tuple((p.point, p.visibility) for p in shape.keypoints)


def _moved(point: Keypoint, to: Keypoint | None, share: float) -> Keypoint:
    if to is None or Visibility.ABSENT in (point.visibility, to.visibility):
        return point
    x, y = point.x + share * (to.x - point.x), point.y + share * (to.y - point.y)
    return Keypoint(point.point, x, y, point.visibility)


class MovingPolygons(Moving[Polygon]):
    """Outlines: of as many points each, point by point; else as they are walked, from the starts that are nearest.

    Holes move so where there are as many; else they move along with the middle of the outline.
    """

    shape = Polygon
    frames = 24

    def __init__(self, kind: LivePolygons | None = None) -> None:
        super().__init__(kind or LivePolygons())

    def areas(self, shapes: Sequence[Polygon]) -> Floats:
        inside = [
            abs(area(ring[0])) - sum(abs(area(hole)) for hole in ring[1:]) for ring in map(rings, shapes)
        ]
        return np.maximum(np.array(inside, dtype=np.float64), 1e-9)

    def between(self, one: Sequence[Polygon], other: Sequence[Polygon], share: Floats) -> Sequence[Polygon]:
        pairs: dict[tuple[int, int], list[tuple[Floats, Floats]]] = {}
        moved = []
        for a, b, s in zip(one, other, share.tolist(), strict=True):
            key = id(a), id(b)
            if key not in pairs:
                pairs[key] = _paired_rings(a, b)
            outline, *holes = ((x + s * (y - x)).ravel().tolist() for x, y in pairs[key])
            moved.append(Polygon(a.class_id, tuple(outline), tuple(map(tuple, holes)), a.attributes))
        return moved

    def following(self, shapes: Sequence[Polygon]) -> Sequence[Polygon]:
        if len({len(one.outline) for one in shapes}) == 1:
            return shapes
        ring = ring_walk(rings(shapes[0])[0], _RING)
        written = []
        for one in shapes:
            ring = begun_alike(ring_walk(rings(one)[0], _RING), ring)
            written.append(replace(one, outline=tuple(ring.ravel().tolist())))
        return written

    def numbers(self, shapes: Sequence[Polygon]) -> Floats:
        return np.array([one.outline for one in shapes], dtype=np.float64)

    def held(self, shape: Polygon) -> Hashable:
        return len(shape.holes)


def _paired_rings(one: Polygon, other: Polygon) -> list[tuple[Floats, Floats]]:
    """Return the outline and the holes of ``one``, each beside as many points of where it goes."""
    start, end = rings(one), rings(other)
    outline = _paired(start[0], end[0])
    if len(start) == len(end):
        return [outline, *(_paired(a, b) for a, b in zip(start[1:], end[1:], strict=True))]
    way = end[0].mean(axis=0) - start[0].mean(axis=0)
    return [outline, *((hole, hole + way) for hole in start[1:])]


def _paired(one: Floats, other: Floats) -> tuple[Floats, Floats]:
    if len(one) == len(other):
        return one, other
    start = ring_walk(one, _RING)
    return start, begun_alike(ring_walk(other, _RING), start)


_ALL: Sequence[type[Moving[Any]]] = (
    MovingBoxes,
    MovingRotatedBoxes,
    MovingEllipses,
    MovingPolygons,
    MovingSkeletons,
)


def moving(shape: type[Any]) -> Moving[Any]:
    """Return how a kind of shape moves. Raises ValueError for one that cannot be followed."""
    for kind in _ALL:
        if kind.shape is shape:
            return kind()  # type: ignore[call-arg]
    names = ", ".join(kind.shape.__name__ for kind in _ALL)
    raise ValueError(f"shape is {shape!r}; expected one of {names}")
