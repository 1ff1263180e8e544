"""Polygons: outlines with holes, joined as shapes and not point by point, as no two people set the same points.

The outlines of one object are filled on a grid of its own, each labeler's region made a signed distance from its edge
(above 0 inside), and the distances averaged with the labelers' weights; the joined outline is where the average is 0.
Distances count up to some usual deviations of an edge and no further, as in Huber's estimate: near the edge this is
the mean of where people saw it, and far from it a vote. The average of distances as such is Rohlfing & Maurer's
shape-based averaging (IEEE TIP 2007), which one gross outline pulls away. The average is smoothed by no more than hands
differ on this object, keeps what all have drawn, and takes in nothing that none has. Where hands set the same corners,
the outline is put through their means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from ..columns import Floats, check_sequence
from .attributes import Attributes
from .corners import shared_corners
from .distances import signed_distances
from .fields import LEAST, coordinates, spread, whole
from .objects import LiveObjects
from .raster import Bools, Grid, area, filled, meets_itself, outlines, overlaps, simplified
from .robust import weighted_median

VERSION = "4"
"""Changes whenever the same answers may give another value."""

ALGORITHM = "RobustShapeAveraging"

SIDE = 64
"""Points of an object's grid along its longer side, and scan lines over two:
an edge is placed to a few thousandths of the object."""

REACH = 3.0
"""Usual deviations of an edge up to which distances count: hardly any of a careful hand's are longer."""

_HAIR = 1e-3
"""Of likeness, below what scan lines tell: of two outlines as like everybody's the one on shared corners is taken."""

_FINE = 4
"""Times as many scan lines as else tell outlines apart that are nearly the same."""

_MARGIN = 0.125
"""Of the longer side around a grid, for distances to be smoothed over an edge at the bounds as over any other."""

_SHOWN = 0.25
"""Of a step, or of a hand's deviation where that is more, within which an outline's points show it; a step at most."""

_ACROSS = 2.0
"""Points of the grid to a thin outline's depth, which is half its width: its edges are then told apart."""

_FINEST = 512
"""Points of a grid along its longer side at most."""

_FRAGMENT = 0.5
"""Of two parts that hands do not join the larger is more than half; what is less is a fragment of what they drew."""

_MOST_CHECKED = 512
"""Points of a labeler's ring up to which it is looked at whether it meets itself, which costs their square."""

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
        check_sequence("holes", given.holes, "a tuple of outlines")
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
            return _untangled(objects[0]) if len(objects) > 1 else objects[0], share
        side = _side(objects)
        finest = min(side, _FINEST)
        grid = Grid.over(_around(objects), finest, margin=int(np.ceil(finest * _MARGIN)))
        outline = [rings(one) for one in objects]
        distance = signed_distances(outline, grid)
        depth = np.array([_depth_of(away) for away in distance])
        near_edge = distance[:, (distance.min(axis=0) <= 1.0) & (distance.max(axis=0) >= -1.0)]
        for _ in range(_ROUNDS):
            usual = float(share @ depth) * float(share @ precision) ** -0.5
            deviation = min(edge_deviation(near_edge, share), usual)
            field = mean_distance(distance, share, REACH * usual, deviation)
            off = np.array([1.0 - _region_iou(away > 0.0, field > 0.0) for away in distance])
            weight = precision * (_FREEDOM + 1.0) / (_FREEDOM + off**2 * precision)
            share = weight / weight.sum()
        tolerance = grid.step * min(_SHOWN * max(deviation, 1.0), 1.0)
        joined = traced(field, grid, tolerance)
        if joined is not None and not any(one.holes for one in (joined, *objects)):
            corners = shared_corners([ring for (ring,) in outline], share, grid.step * usual, tolerance)
            near = REACH * max(deviation, 1.0)
            if corners is not None and _shows(corners, joined, near, distance, grid):
                joined = _as_like(Polygon("", tuple(corners.ravel().tolist())), joined, objects, share)
        # On a grid too coarse for it no outline is worse than anybody's; on any, it is no fragment.
        least = 1.0 if side > _FINEST else _FRAGMENT
        return _untangled(_unless_worse(joined, objects, share, least)), share


def _depth_of(distance: Floats) -> float:
    """Return area over perimeter, in steps, from distances ``(rows, columns)``.

    An edge that is off by d all around changes the overlap by d over this.
    """
    return int((distance > 0.0).sum()) / max(int((np.abs(distance) <= 0.5).sum()), 1)


def _shows(corners: Floats, joined: Polygon, near: float, distance: Floats, grid: Grid) -> bool:
    """Return whether an outline through corners is the joined one, to within ``near`` steps.

    It does not meet itself, and is between what all have drawn and what any has, by their ``distance (n, rows,
    columns)``, up to half a step: at its corners, which may be sharp, as on the grid.
    """
    if meets_itself(corners):
        return False
    inside = filled([corners], grid)
    least, most = distance.min(axis=0), distance.max(axis=0)
    at = ((corners - (grid.x, grid.y)) / grid.step).T[::-1]
    at_least, at_most = (
        ndimage.map_coordinates(bound, at, order=1, mode="nearest") for bound in (least, most)
    )
    missed = max(at_least.max(), least[~inside].max(initial=0.0))
    added = -min(at_most.min(), most[inside].min(initial=0.0))
    away = signed_distances([rings(joined)], grid)[0]
    moved = np.abs(away)[inside != (away > 0.0)].max(initial=0.0)
    return bool(missed <= 0.5 and added <= 0.5 and moved <= near)


def _as_like(pointed: Polygon, joined: Polygon, objects: Sequence[Polygon], share: Floats) -> Polygon:
    """Return the first of two outlines if it is as like everybody's as the second is."""
    one, other = (
        float(_ious([shape] * len(objects), objects, _FINE * SIDE) @ share) for shape in (pointed, joined)
    )
    return pointed if one >= other - _HAIR else joined


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


def _untangled(polygon: Polygon) -> Polygon:
    """Return a labeler's polygon as it is, or where it meets itself the traced outline of what is inside it."""
    parts = rings(polygon)
    if not any(len(ring) <= _MOST_CHECKED and meets_itself(ring) for ring in parts):
        return polygon
    side = min(_side([polygon]), _FINEST)
    grid = Grid.over(_around([polygon]), side, margin=int(np.ceil(side * _MARGIN)))
    simple = traced(signed_distances([parts], grid)[0], grid)
    if simple is None:  # too thin for any grid
        return polygon
    return replace(simple, class_id=polygon.class_id, attributes=polygon.attributes)


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


def edge_deviation(distance: Floats, share: Floats) -> float:
    """Return how far off a hand's edge usually is, in steps, from distances ``(n, points)``.

    It is that of the middle one of them, from the median edge, so that gross outlines do not count.
    """
    n = len(distance)
    middle = weighted_median(distance, share[:, None])
    near = np.abs(middle) <= 1.0
    if not near.any():
        return 0.0
    off = np.abs(distance[:, near] - middle[near]).mean(axis=1)
    usual = float(weighted_median(off[:, None], share[:, None])[0])
    # A normal deviate is off by sqrt(2 / pi) on average, and by less from a median that it has a share in.
    return usual * float(np.sqrt(np.pi / 2.0 * n / (n - 1.0)))


def mean_distance(distance: Floats, share: Floats, reach: float, deviation: float) -> Floats:
    """Return the average ``(rows, columns)`` of distances ``(n, rows, columns)``, each counted up to ``reach``.

    It is smoothed by one ``deviation``, as finer turns of an edge than hands agree on are those of hands; both in steps.
    What all have drawn stays inside, and what none has outside.
    """
    # Below a step the grid shows no distances, only sides.
    scale = max(reach, 1.0)
    field = np.tensordot(share, np.tanh(distance / scale), axes=1)
    smooth = ndimage.gaussian_filter(field, deviation, mode="nearest")
    least, most = (np.tanh(bound / scale) for bound in (distance.min(axis=0), distance.max(axis=0)))
    return np.asarray(np.clip(smooth, least, most), dtype=np.float64)


def traced(field: Floats, grid: Grid, tolerance: float | None = None) -> Polygon | None:
    """Return the outline of the largest region above 0, with its holes, on as few points as show it; None if none."""
    part, parts = ndimage.label(field > 0.0, structure=np.ones((3, 3)))
    if not parts:
        return None
    largest = int(np.bincount(part.ravel())[1:].argmax()) + 1
    found = outlines(np.where((part == largest) | (part == 0), field, -np.abs(field)), 0.0, grid)
    outer = max(found, key=area)
    holes = [ring for ring in found if area(ring) < 0.0]
    within = grid.step * _SHOWN if tolerance is None else tolerance
    return Polygon("", _points(outer, within), tuple(_points(ring, within) for ring in holes))


def _points(ring: Floats, tolerance: float) -> tuple[float, ...]:
    return tuple(float(v) for v in simplified(ring, tolerance).ravel())


def _region_iou(one: Bools, other: Bools) -> float:
    either = int((one | other).sum())
    return int((one & other).sum()) / either if either else 0.0


def _around(objects: Sequence[Polygon]) -> Floats:
    edges = np.array([bounds(one) for one in objects])
    return np.concatenate([edges[:, :2].min(axis=0), edges[:, 2:].max(axis=0)])


def _same_place(one: Polygon, other: Polygon) -> bool:
    return one.outline == other.outline and one.holes == other.holes
