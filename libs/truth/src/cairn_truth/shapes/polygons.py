"""Polygons: outlines with holes, joined as shapes and not point by point, as no two people set the same points.

The outlines of one object are filled on a grid of its own, each labeler's region made a signed distance from its edge
(above 0 inside), and the distances averaged with the labelers' weights; the joined outline is where the average is 0.
Distances count up to some usual deviations of an edge and no further, as in Huber's estimate: near the edge this is
the mean of where people saw it, and far from it a vote. The average of distances as such is Rohlfing & Maurer's
shape-based averaging (IEEE TIP 2007), which one gross outline pulls away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..columns import Floats
from .attributes import Attributes
from .fields import LEAST, coordinates, spread, whole
from .objects import LiveObjects
from .raster import Bools, Grid, all_filled, area, outlines, overlaps, simplified

VERSION = "2"
"""Changes whenever the same answers may give another value."""

ALGORITHM = "RobustShapeAveraging"

SIDE = 64
"""Points of an object's grid along its longer side, and scan lines over two:
an edge is placed to a few thousandths of the object."""

REACH = 3.0
"""Usual deviations of an edge up to which distances count: hardly any of a careful hand's are longer."""

_ACROSS = 2.0
"""Points of the grid to a thin outline's depth, which is half its width: its edges are then told apart."""

_FINEST = 512
"""Points of a grid along its longer side at most."""

_FRAGMENT = 0.5
"""Of two parts that hands do not join the larger is more than half; what is less is a fragment of what they drew."""

_CHUNK = 512
"""Pairs compared at once."""

_FREEDOM = 4.0
"""Degrees of freedom: an outline six spreads from the joined one weighs an eighth of a good one."""

_ROUNDS = 2
"""Rounds of joining and weighing by distance; the second moves an edge by less than a grid step."""


@dataclass(frozen=True, slots=True)
class Polygon:
    """A closed outline x0, y0, x1, y1, ... in pixels, of three points or more, with holes like it.

    The last point is joined to the first and not repeated. What is inside an odd number of outlines is inside.
    """

    class_id: str
    outline: tuple[float, ...]
    holes: tuple[tuple[float, ...], ...] = ()
    attributes: Attributes = ()


class LivePolygons(LiveObjects[Polygon]):
    """Live state of a question answered with polygons; likeness is intersection over union, holes being outside.

    An object has one outline. Where the joined region falls into several parts, at necks that hands do not agree on, the
    largest is the object: another polygon would be another object, in the count and in the F1 of the answer.
    """

    drawn = Polygon

    def _checked_object(self, given: Polygon) -> Polygon:
        outline = coordinates("the outline", given.outline, points=3)
        if spread(outline)[1] < LEAST:
            raise ValueError("the outline has no area; expected points that are not on one line")
        holes = tuple(coordinates(f"hole {k}", hole, points=3) for k, hole in enumerate(given.holes))
        return Polygon(given.class_id, outline, holes, given.attributes)

    def _bounds(self, objects: Sequence[Polygon]) -> Floats:
        return np.array([bounds(one) for one in objects], dtype=np.float64).reshape(-1, 4)

    def _similarity(self, left: Sequence[Polygon], right: Sequence[Polygon]) -> Floats:
        return np.concatenate(
            [
                np.zeros(0),
                *(_ious(left[k : k + _CHUNK], right[k : k + _CHUNK]) for k in range(0, len(left), _CHUNK)),
            ]
        )

    def _place(
        self, objects: Sequence[Polygon], precision: Floats, corpus: Mapping[str, Floats]
    ) -> tuple[Polygon, Floats]:
        share = precision / precision.sum()
        if all(_same_place(one, objects[0]) for one in objects):
            return objects[0], share
        side = _side(objects)
        grid = Grid.over(_around(objects), min(side, _FINEST))
        regions = all_filled([rings(one) for one in objects], grid)
        distance = np.stack([signed_distance(region) for region in regions])
        # Area over perimeter: an edge that is off by d all around changes the overlap by d over this.
        depth = np.array([(away > 0.0).sum() / max((away == 0.5).sum(), 1) for away in distance])
        for _ in range(_ROUNDS):
            deviation = float(share @ depth) * float(share @ precision) ** -0.5
            field = mean_distance(distance, share, deviation)
            off = np.array([1.0 - _region_iou(region, field > 0.0) for region in regions])
            weight = precision * (_FREEDOM + 1.0) / (_FREEDOM + off**2 * precision)
            share = weight / weight.sum()
        # On a grid too coarse for it no outline is worse than anybody's; on any, it is no fragment.
        least = 1.0 if side > _FINEST else _FRAGMENT
        return _unless_worse(traced(field, grid), objects, share, least), share


def _side(objects: Sequence[Polygon]) -> int:
    """Return how many points a grid needs along its longer side to have some across the thinnest, `SIDE` or more."""
    edges = _around(objects)
    longer = max(edges[2] - edges[0], edges[3] - edges[1])
    thin = min(_depth(one) for one in objects)
    return max(SIDE, int(np.ceil(longer * _ACROSS / max(thin, LEAST))))


def _depth(polygon: Polygon) -> float:
    """Return area over perimeter: half of the width where a shape is thin, in pixels."""
    parts = rings(polygon)
    inside = abs(area(parts[0])) - sum(abs(area(hole)) for hole in parts[1:])
    around = sum(float(np.hypot(*(ring - np.roll(ring, 1, axis=0)).T).sum()) for ring in parts)
    return max(inside, 0.0) / around


def _unless_worse(joined: Polygon | None, objects: Sequence[Polygon], share: Floats, least: float) -> Polygon:
    """Return the joined outline if it is as like everybody's as ``least`` times the oddest of their own is.

    Else the one most like all others.
    """
    number = np.arange(len(objects))
    one, other = np.triu_indices(number.size, 1)
    alike = np.eye(number.size)
    alike[one, other] = alike[other, one] = _ious(
        [objects[k] for k in one.tolist()], [objects[k] for k in other.tolist()]
    )
    own = alike @ share
    if joined is not None and float(_ious([joined] * number.size, objects) @ share) >= least * own.min():
        return joined
    return objects[int(own.argmax())]


def rings(polygon: Polygon) -> list[Floats]:
    """Return the outline and the holes, each ``(points, 2)``."""
    return [np.array(ring, dtype=np.float64).reshape(-1, 2) for ring in (polygon.outline, *polygon.holes)]


def bounds(polygon: Polygon) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom edge of the outline."""
    x, y = polygon.outline[0::2], polygon.outline[1::2]
    return min(x), min(y), max(x), max(y)


def polygon_iou(one: Polygon, other: Polygon, side: int = SIDE) -> float:
    """Return the intersection over union of two polygons, along ``side`` scan lines over both.

    Polygons so flat that no line meets them are alike only if they are the same.
    """
    return float(_ious([one], [other], whole("side", side, least=1))[0])


def _ious(left: Sequence[Polygon], right: Sequence[Polygon], side: int = SIDE) -> Floats:
    alike = np.array([_same_place(a, b) for a, b in zip(left, right, strict=True)], dtype=np.float64)
    a, b = (np.array([bounds(one) for one in shapes]).reshape(-1, 4) for shapes in (left, right))
    meet = ((a[:, :2] < b[:, 2:]) & (b[:, :2] < a[:, 2:])).all(axis=1)
    open_ = np.flatnonzero(meet & (alike == 0.0)).tolist()
    if open_:
        alike[open_] = overlaps([rings(left[k]) for k in open_], [rings(right[k]) for k in open_], side)
    return alike


def signed_distance(region: Bools) -> Floats:
    """Return each point's distance from the region's edge, in steps: above 0 inside; edges run between points."""
    if region.all() or not region.any():
        return np.where(region, np.inf, -np.inf)
    inside = ndimage.distance_transform_edt(region)
    outside = ndimage.distance_transform_edt(~region)
    return np.asarray(np.where(region, inside - 0.5, 0.5 - outside), dtype=np.float64)


def mean_distance(distance: Floats, share: Floats, deviation: float) -> Floats:
    """Return the average ``(rows, columns)`` of distances ``(n, rows, columns)``, each counted up to `REACH` deviations.

    It is smoothed by one ``deviation`` (in steps), as finer turns of an edge than hands agree on are those of hands.
    """
    # Below a step the grid shows no distances, only sides.
    field = np.tensordot(share, np.tanh(distance / max(REACH * deviation, 1.0)), axes=1)
    return np.asarray(ndimage.gaussian_filter(field, deviation), dtype=np.float64)


def traced(field: Floats, grid: Grid) -> Polygon | None:
    """Return the outline of the largest region above 0, with its holes, on as few points as show it; None if none."""
    part, parts = ndimage.label(field > 0.0, structure=np.ones((3, 3)))
    if not parts:
        return None
    largest = int(np.bincount(part.ravel())[1:].argmax()) + 1
    found = outlines(np.where((part == largest) | (part == 0), field, -np.abs(field)), 0.0, grid)
    outer = max(found, key=area)
    holes = [ring for ring in found if area(ring) < 0.0]
    return Polygon("", _points(outer, grid), tuple(_points(ring, grid) for ring in holes))


def _points(ring: Floats, grid: Grid) -> tuple[float, ...]:
    return tuple(float(v) for v in simplified(ring, grid.step / 4.0).ravel())


def _region_iou(one: Bools, other: Bools) -> float:
    either = int((one | other).sum())
    return int((one & other).sum()) / either if either else 0.0


def _around(objects: Sequence[Polygon]) -> Floats:
    edges = np.array([bounds(one) for one in objects])
    return np.concatenate([edges[:, :2].min(axis=0), edges[:, 2:].max(axis=0)])


def _same_place(one: Polygon, other: Polygon) -> bool:
    return one.outline == other.outline and one.holes == other.holes
