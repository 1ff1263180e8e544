"""Rasters: masks as run lengths, polygons filled, fields cut at a level into outlines.

A point of a grid stands for the square around it. Outlines are lists of points, closed without repeating the first;
inside is where a ray to infinity crosses them an odd number of times, so holes are outlines like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..columns import Floats
from .fields import whole

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

LARGEST_SIDE = 65535
"""Pixels along a mask's side at most, as a mask on the wire has it."""


@dataclass(frozen=True, eq=False)
class Mask:
    """A class for each pixel as row-major run lengths; class 0 is no class, n is the question's n-th class.

    ``class_indices (runs,)`` and ``lengths (runs,)``, pixels above 0, adding up to ``width * height``. Any sequences
    may be given; `checked_mask` makes them arrays of the fewest runs.
    """

    width: int
    height: int
    class_indices: Sequence[int] | Ints
    lengths: Sequence[int] | Ints

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Mask)
            and (self.width, self.height) == (other.width, other.height)
            and np.array_equal(self.class_indices, other.class_indices)
            and np.array_equal(self.lengths, other.lengths)
        )

    def __hash__(self) -> int:
        return hash((self.width, self.height, tuple(self.class_indices), tuple(self.lengths)))


def checked_mask(given: Mask, classes: int) -> Mask:
    """Return the mask as read-only arrays of the fewest runs. Raises ValueError naming what is wrong with it."""
    width, height = (
        whole(name, side, least=1, most=LARGEST_SIDE)
        for name, side in (("width", given.width), ("height", given.height))
    )
    kind, length = _whole("class_indices", given.class_indices), _whole("lengths", given.lengths)
    if kind.size != length.size:
        raise ValueError(f"there are {kind.size} class_indices and {length.size} lengths; expected as many")
    for name, column, good, wanted in (
        ("class_indices", kind, (kind >= 0) & (kind <= classes), f"0 to {classes}"),
        # No run is longer than the raster, so that no sum of them overflows unseen.
        (
            "lengths",
            length,
            (length > 0) & (length <= width * height),
            "1 to the pixels there are",
        ),
    ):
        if not good.all():
            wrong = int(np.flatnonzero(~good)[0])
            raise ValueError(f"{name}[{wrong}] is {column[wrong]}; expected {wanted}")
    total, pixels = float(length.sum(dtype=np.float64)), width * height
    if total != pixels:
        raise ValueError(f"the lengths add up to {total:.0f}; expected {pixels} ({width} x {height})")
    return Mask(width, height, *merged_runs(kind, length))


def _whole(name: str, column: Sequence[int] | Ints) -> Ints:
    array = np.asarray(column)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}; expected a row of whole numbers")
    return array.astype(np.int64)


def merged_runs(kind: Ints, length: Ints) -> tuple[Ints, Ints]:
    """Return the runs with equal neighbours made one, as read-only arrays."""
    starts = np.flatnonzero(np.diff(kind, prepend=-1))
    kept, merged = kind[starts], np.add.reduceat(length, starts) if starts.size else length
    kept.flags.writeable = merged.flags.writeable = False
    return kept, merged


def encoded(raster: NDArray[np.integer] | Bools) -> Mask:
    """Return a raster ``(height, width)`` of class indices, 0 or above, as a mask. Raises ValueError for any other."""
    given = np.asarray(raster)
    if given.ndim != 2 or given.dtype.kind not in "iub":
        raise ValueError(
            f"the raster is {given.dtype} of shape {given.shape}; expected rows of columns of whole numbers"
        )
    height, width = given.shape
    if not 0 < min(height, width) <= max(height, width) <= LARGEST_SIDE:
        raise ValueError(f"the raster is {width} x {height}; expected 1 to {LARGEST_SIDE} pixels each way")
    if given.min() < 0:
        row, column = np.argwhere(given < 0)[0].tolist()
        raise ValueError(
            f"the raster has {given[row, column]} in row {row}, column {column}; expected 0 or above"
        )
    flat = given.astype(np.int64).ravel()
    return Mask(width, height, *merged_runs(flat, np.ones(flat.size, dtype=np.int64)))


def decoded(mask: Mask) -> Ints:
    """Return a mask's class indices ``(height, width)``; costs memory by the pixel."""
    return np.repeat(np.asarray(mask.class_indices), np.asarray(mask.lengths)).reshape(
        mask.height, mask.width
    )


@dataclass(frozen=True, slots=True)
class Grid:
    """Points ``(rows, columns)`` of a square lattice: the first at ``(x, y)``, ``step`` apart, in pixels."""

    x: float
    y: float
    step: float
    rows: int
    columns: int

    @classmethod
    def over(cls, bounds: Floats, side: int, margin: int = 2) -> Grid:
        """Return a grid of about ``side`` points along the longer side of ``bounds`` (x0, y0, x1, y1), and a margin."""
        width, height = float(bounds[2] - bounds[0]), float(bounds[3] - bounds[1])
        step = max(width, height) / side or 1.0
        columns, rows = int(np.ceil(width / step)), int(np.ceil(height / step))
        # Half a step off, so that upright edges at the bounds do not run through points.
        first = (margin - 0.5) * step
        return cls(
            float(bounds[0]) - first,
            float(bounds[1]) - first,
            step,
            max(rows, 1) + 2 * margin,
            max(columns, 1) + 2 * margin,
        )


def filled(rings: Sequence[Floats], grid: Grid) -> Bools:
    """Return which points of a grid ``(rows, columns)`` are inside the rings ``(k, 2)`` (even-odd rule)."""
    return np.asarray(all_filled([rings], grid)[0])


def all_filled(regions: Sequence[Sequence[Floats]], grid: Grid) -> Bools:
    """Return which points of a grid ``(regions, rows, columns)`` are inside each region, given by its rings.

    A scan line by row: cost is rows crossed by edges plus the points of the grid.
    """
    start, end, owner = _edges(regions)
    low, high = (start[:, 1] - grid.y) / grid.step, (end[:, 1] - grid.y) / grid.step
    edge, row, share = _crossed_rows(low, high, grid.rows)
    crossing = (start[edge, 0] + share * (end[edge, 0] - start[edge, 0]) - grid.x) / grid.step
    column = np.clip(np.ceil(crossing), 0, grid.columns).astype(np.int64)
    shape = len(regions), grid.rows, grid.columns + 1
    place = (owner[edge] * grid.rows + row) * shape[2] + column
    crossed = np.bincount(place, minlength=shape[0] * shape[1] * shape[2]).astype(np.uint8).reshape(shape)
    return np.asarray(np.cumsum(crossed, axis=2, dtype=np.uint8)[..., :-1] & 1).astype(bool)


def _edges(regions: Sequence[Sequence[Floats]]) -> tuple[Floats, Floats, Ints]:
    """Return where the edges of all rings start and end ``(edges, 2)``, and the region of each."""
    none = np.zeros((0, 2))
    start = np.concatenate([none, *(ring for rings in regions for ring in rings)])
    end = np.concatenate(
        [none, *(part for rings in regions for ring in rings for part in (ring[1:], ring[:1]))]
    )
    points = np.array([sum(map(len, rings)) for rings in regions], dtype=np.int64)
    owner = np.repeat(np.arange(points.size), points)
    return start, end, owner


def _crossed_rows(start: Floats, end: Floats, rows: int) -> tuple[Ints, Ints, Floats]:
    """Return each row from 0 that an edge from ``start`` to ``end (edges,)`` crosses: edge, row, and how far along."""
    low, high = np.ceil(np.minimum(start, end)), np.ceil(np.maximum(start, end))  # rows low .. high - 1
    first = np.clip(low, 0, rows).astype(np.int64)
    count = np.maximum(np.clip(high, 0, rows).astype(np.int64) - first, 0)
    edge = np.repeat(np.arange(count.size), count)
    row = first[edge] + np.arange(edge.size) - np.repeat(np.cumsum(count) - count, count)
    return edge, row, (row - start[edge]) / (end[edge] - start[edge])


def overlaps(left: Sequence[Sequence[Floats]], right: Sequence[Sequence[Floats]], rows: int) -> Floats:
    """Return the intersection over union ``(n,)`` of regions beside each other, each given by its rings.

    Both are cut along ``rows`` scan lines, evenly over the two, and what lines share is measured exactly. Regions so
    flat that no line meets them have nothing in common. Cost: n log n of all crossings.
    """
    start, end, owner = _edges([*left, *right])
    pair, second = owner % max(len(left), 1), owner >= len(left)
    top, bottom = np.full(len(left), np.inf), np.full(len(left), -np.inf)
    np.minimum.at(top, pair, start[:, 1])
    np.maximum.at(bottom, pair, start[:, 1])
    step = np.maximum((bottom - top) / rows, np.finfo(float).tiny)
    low, high = ((y - top[pair]) / step[pair] - 0.5 for y in (start[:, 1], end[:, 1]))
    edge, row, share = _crossed_rows(low, high, rows)
    x = start[edge, 0] + share * (end[edge, 0] - start[edge, 0])
    order = np.lexsort((x, pair[edge] * rows + row))
    x, second = x[order], second[edge][order]
    # Every line leaves a region as often as it enters it, so that past its last crossing it is in neither.
    in_right = np.cumsum(second) & 1
    in_left = np.cumsum(~second) & 1
    width = np.diff(x, append=0.0)
    of = pair[edge][order]
    shared = np.bincount(of, weights=np.where(in_left & in_right, width, 0.0), minlength=len(left))
    either = np.bincount(of, weights=np.where(in_left | in_right, width, 0.0), minlength=len(left))
    return np.divide(shared, either, out=np.zeros(len(left)), where=either > 0.0)


def area(ring: Floats) -> float:
    """Return a ring's signed area, pixels squared: above 0 where it turns from x towards y."""
    centred = ring - ring[0]  # far from the origin the products would eat the digits
    after = np.roll(centred, -1, axis=0)
    return float(0.5 * np.sum(centred[:, 0] * after[:, 1] - after[:, 0] * centred[:, 1]))


def outlines(field: Floats, level: float, grid: Grid) -> list[Floats]:
    """Return the rings around where a field ``(rows, columns)`` is above a level, by marching squares.

    Lorensen & Cline (1987) in the plane, edges interpolated, saddles decided by their mean. What is above is on the
    same side of every ring: outer rings have an `area` above 0, holes one below. No ring meets itself or another.
    """
    height = np.pad(np.asarray(field, dtype=np.float64), 1, constant_values=-np.inf) - level
    start, end = _crossed_edges(height > 0.0, height)
    if not start.size:
        return []
    points = _crossing_points(height, start)
    by_start = np.argsort(start)
    following = by_start[np.searchsorted(start[by_start], end)].tolist()
    rings, seen = [], [False] * start.size
    for begin in range(start.size):
        ring, at = [], begin
        while not seen[at]:
            seen[at] = True
            ring.append(at)
            at = following[at]
        if len(ring) > 2:
            rings.append(np.array([grid.x, grid.y]) + (points[ring] - 1.0) * grid.step)
    return rings


# One square's corners, clockwise from the top left on an image, have bits 1, 2, 4, 8; its sides top, right, bottom,
# left have numbers 0, 1, 2, 3. A segment goes from side to side with what is above the level on its right hand as
# seen on an image (y down), so that outer rings turn from x towards y.
_SEGMENTS: dict[int, tuple[tuple[int, int], ...]] = {
    1: ((0, 3),),
    2: ((1, 0),),
    3: ((1, 3),),
    4: ((2, 1),),
    6: ((2, 0),),
    7: ((2, 3),),
    8: ((3, 2),),
    9: ((0, 2),),
    11: ((1, 2),),
    12: ((3, 1),),
    13: ((0, 1),),
    14: ((3, 0),),
}
_SADDLES = {
    (5, True): ((0, 1), (2, 3)),  # the two corners above the level are joined through the middle
    (5, False): ((0, 3), (2, 1)),
    (10, True): ((3, 0), (1, 2)),
    (10, False): ((1, 0), (3, 2)),
}


def _crossed_edges(above: Bools, height: Floats) -> tuple[Ints, Ints]:
    """Return where each segment starts and ends, as the numbers of the lattice's edges."""
    rows, columns = above.shape
    case = (
        above[:-1, :-1] * 1 + above[:-1, 1:] * 2 + above[1:, 1:] * 4 + above[1:, :-1] * 8
    ).astype(np.int64)  # fmt: skip
    at = np.flatnonzero((case > 0) & (case < 15))
    row, column = np.divmod(at, columns - 1)
    kind = case.ravel()[at]
    with np.errstate(invalid="ignore"):
        middle = height[:-1, :-1] + height[:-1, 1:] + height[1:, 1:] + height[1:, :-1]
    joined = middle.ravel()[at] > 0.0
    corner = row * columns + column
    across = rows * columns  # edges down a column are numbered after those along a row
    sides = np.stack([corner, across + corner + 1, corner + columns, across + corner])
    start, end = [], []
    for which, segments in _SEGMENTS.items():
        here = np.flatnonzero(kind == which)
        for one, other in segments:
            start.append(sides[one, here])
            end.append(sides[other, here])
    for (which, through), segments in _SADDLES.items():
        here = np.flatnonzero((kind == which) & (joined == through))
        for one, other in segments:
            start.append(sides[one, here])
            end.append(sides[other, here])
    return np.concatenate(start), np.concatenate(end)


def _crossing_points(height: Floats, edge: Ints) -> Floats:
    """Return where on each lattice edge the field is at the level ``(n, 2)`` x, y, in steps."""
    rows, columns = height.shape
    down = edge >= rows * columns
    row, column = np.divmod(edge - np.where(down, rows * columns, 0), columns)
    one = height[row, column]
    other = height[row + down, column + ~down]
    # Beyond the field it is as far below as it is above here: the ring runs half a step outside.
    one, other = np.where(np.isinf(one), -other, one), np.where(np.isinf(other), -one, other)
    # Kept off the corners, so that rings that only touch there stay apart.
    share = np.clip(one / (one - other), 1e-3, 1.0 - 1e-3)
    return np.stack([column + np.where(down, 0.0, share), row + np.where(down, share, 0.0)], axis=1)


def simplified(ring: Floats, tolerance: float) -> Floats:
    """Return a ring on fewer of its points, none of the others further than ``tolerance`` from it.

    A ring that would then meet itself is left as it is.
    """
    middle = int(np.square(ring - ring[0]).sum(axis=1).argmax())
    closed = np.concatenate([ring, ring[:1]])
    halves = thinned(closed[: middle + 1], tolerance), thinned(closed[middle:], tolerance) + middle
    fewer = ring[np.concatenate([halves[0][:-1], halves[1][:-1]])]
    return fewer if len(fewer) > 2 and not meets_itself(fewer) else ring


def thinned(line: Floats, tolerance: float) -> Ints:
    """Return which points ``(kept,)`` of a line ``(n, 2)`` show it to within ``tolerance``, both ends among them.

    Ramer (1972), Douglas & Peucker (1973).
    """
    kept = {0, len(line) - 1}
    pending = [(0, len(line) - 1)]
    while pending:
        low, high = pending.pop()
        if high - low < 2:
            continue
        along = line[high] - line[low]
        off = line[low + 1 : high] - line[low]
        length = float(np.hypot(along[0], along[1]))
        if length:
            distance = np.abs(off[:, 0] * along[1] - off[:, 1] * along[0]) / length
        else:
            distance = np.hypot(off[:, 0], off[:, 1])
        furthest = int(distance.argmax())
        if distance[furthest] > tolerance:
            at = low + 1 + furthest
            kept.add(at)
            pending += [(low, at), (at, high)]
    return np.array(sorted(kept), dtype=np.int64)


def meets_itself(ring: Floats) -> bool:
    """Return whether two edges of a ring that are not neighbours cross; cost is the square of its points."""
    start, end = ring, np.roll(ring, -1, axis=0)

    def side(of: Floats) -> Floats:
        """On which side of each edge (row) each point (column) is."""
        along, off = (end - start)[:, None, :], of[None, :, :] - start[:, None, :]
        return np.asarray(np.sign(along[..., 0] * off[..., 1] - along[..., 1] * off[..., 0]))

    first, second = side(start), side(end)
    astride = first * second < 0.0
    return bool((astride & astride.T).any())
