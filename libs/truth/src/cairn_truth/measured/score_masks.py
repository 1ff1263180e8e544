"""Polygons from recorded crowds, by our method and by simple and published ones, judged by true outlines as masks.

An outline is taken as the outermost pixels of what it is around, as drawing programs store it: a pixel belongs to it if
its centre is inside or its square is touched by the outline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..columns import Floats
from ..shapes.fields import coordinates
from ..shapes.masks import LiveMasks, mean_iou
from ..shapes.matching import assigned
from ..shapes.polygons import LivePolygons, Polygon, bounds, rings
from ..shapes.raster import Bools, Grid, area, decoded, encoded, filled, outlines
from .tables import from_json

KIND = "polygons"
"""What a folder holds that is scored here: a cell is "x,y x,y ..." for one polygon, [[x, y], ...] in JSON for one, or
[[[x, y], ...], ...] for several; empty for none."""

Answer = tuple[Polygon, ...]

Answers = Mapping[str, Mapping[str, Answer]]
"""Item to labeler to polygons."""

_SAME = 0.5
"""IoU from which on a polygon counts as found."""


def read(label: str) -> Answer:
    """Return the polygons of a csv cell. Raises ValueError naming the polygon that is none."""
    text = label.strip()
    if not text or text == "[]":
        return ()
    outlines = _from_json(text) if text.startswith("[") else [_from_pairs(text)]
    found = []
    for number, outline in enumerate(outlines):
        try:
            found.append(Polygon("", coordinates("the outline", outline, points=3)))
        except ValueError as wrong:
            raise ValueError(f"polygon {number}: {wrong}") from None
    return tuple(found)


def _from_pairs(text: str) -> list[float]:
    numbers: list[float] = []
    for number, pair in enumerate(text.split()):
        try:
            x, y = pair.split(",")
            numbers += [float(x), float(y)]
        except ValueError:
            raise ValueError(f"point {number} is {pair[:40]!r}; expected x,y") from None
    return numbers


def _from_json(text: str) -> list[list[float]]:
    try:
        cell = from_json(text)
        several = cell if isinstance(cell[0][0], list) else [cell]
        return [[float(v) for x, y in ring for v in (x, y)] for ring in several]
    except (TypeError, ValueError, IndexError, KeyError, OverflowError):
        raise ValueError(f"polygons are {text[:40]!r}; expected [[x, y], ...] in JSON") from None


def live_polygons(answers: Answers) -> dict[str, Answer]:
    """Return what `LivePolygons` says."""
    return {item: joined.value for item, joined in LivePolygons().fit(answers).items()}


def live_masks(answers: Answers) -> dict[str, Answer]:
    """Return what `LiveMasks` says of everybody's polygons taken together as one mask."""
    grids = {
        item: grid_around([p for answer in votes.values() for p in answer]) for item, votes in answers.items()
    }
    masks = {
        item: {who: encoded(region(answer, grids[item])) for who, answer in votes.items()}
        for item, votes in answers.items()
    }
    joined = LiveMasks(1).fit(masks)
    return {
        item: _outlined(decoded(found.value) > 0, grids[item])
        for item, found in joined.items()
        if found.value is not None
    }


def pixel_majority(answers: Answers) -> dict[str, Answer]:
    """Return the outline of the pixels that more than half of an item's labelers marked."""
    return {item: _voted(list(votes.values())) for item, votes in answers.items()}


def _voted(answers: Sequence[Answer]) -> Answer:
    grid = grid_around([p for answer in answers for p in answer])
    votes = np.sum([region(answer, grid) for answer in answers], axis=0)
    return _outlined(2 * votes > len(answers), grid)


def medoid_answer(answers: Answers) -> dict[str, Answer]:
    """Return the answer that is most like all others of its item."""
    chosen = {}
    for item, votes in answers.items():
        given = [votes[who] for who in sorted(votes)]
        worth = [sum(overlap(one, other) for other in given) for one in given]
        chosen[item] = given[int(np.argmax(worth))]
    return chosen


def first_answer(answers: Answers) -> dict[str, Answer]:
    """Return the answer of the first labeler by name."""
    return {item: votes[min(votes)] for item, votes in answers.items()}


DEFAULT = "LivePolygons"

METHODS: Mapping[str, Callable[[Answers], Mapping[str, Answer]]] = {
    DEFAULT: live_polygons,
    "LiveMasks": live_masks,
    "PixelMajority": pixel_majority,
    "MedoidAnswer": medoid_answer,
    "FirstAnswer": first_answer,
}
"""Every method with its defaults. Ours first."""


def judge(values: Mapping[str, Answer], truths: Mapping[str, Answer]) -> dict[str, float]:
    """Return means over the items with a truth: ``iou`` of all pixels, ``f1`` of polygons found at IoU .5."""
    items = sorted(set(values) & set(truths))
    if not items:
        return {"iou": 0.0, "f1": 0.0}
    return {
        "iou": float(np.mean([overlap(values[item], truths[item]) for item in items])),
        "f1": float(np.mean([_object_f1(values[item], truths[item]) for item in items])),
    }


def overlap(value: Answer, truth: Answer) -> float:
    """Return the IoU of the pixels of all polygons; 1 if there are none in either."""
    if not value or not truth:
        return float(not value and not truth)
    grid = grid_around([*value, *truth])
    return mean_iou(encoded(region(value, grid)), encoded(region(truth, grid)))


def _object_f1(value: Answer, truth: Answer) -> float:
    if not value or not truth:
        return float(not value and not truth)
    alike: Floats = np.array([[float(overlap((v,), (t,)) >= _SAME) for t in truth] for v in value])
    return 2.0 * assigned(alike, 0.0)[0].size / (len(value) + len(truth))


def grid_around(polygons: Sequence[Polygon]) -> Grid:
    """Return the pixels around polygons, with a margin of two."""
    if not polygons:
        return Grid(0.0, 0.0, 1.0, 1, 1)
    edges = np.array([bounds(one) for one in polygons])
    low, high = np.floor(edges[:, :2].min(axis=0)) - 2.0, np.ceil(edges[:, 2:].max(axis=0)) + 2.0
    columns, rows = (high - low).astype(int) + 1
    return Grid(float(low[0]), float(low[1]), 1.0, int(rows), int(columns))


def region(answer: Answer, grid: Grid) -> Bools:
    """Return the pixels ``(rows, columns)`` of polygons."""
    marked = np.zeros((grid.rows, grid.columns), dtype=bool)
    for one in answer:
        marked |= filled(rings(one), grid)
        for ring in rings(one):
            along = np.concatenate([ring, ring[:1]]) - (grid.x, grid.y)
            steps = np.ceil(4.0 * np.abs(np.diff(along, axis=0)).max(axis=1)).astype(int) + 1
            edge = np.repeat(np.arange(steps.size), steps)
            share = (np.arange(edge.size) - np.repeat(np.cumsum(steps) - steps, steps)) / steps[edge]
            column, row = (
                np.rint(along[edge] + share[:, None] * (along[edge + 1] - along[edge])).astype(int).T
            )
            marked[row, column] = True
    return marked


def _outlined(marked: Bools, grid: Grid) -> Answer:
    """Return the outermost pixels of each region as a polygon, its holes with it."""
    # A level next to the centres of pixels, so that the outline, rounded, runs through them.
    found = [np.rint(ring) for ring in outlines(np.where(marked, 1e-3, -1.0), 0.0, grid)]
    outer = [ring for ring in found if area(ring) >= 0.0]
    holes = [ring for ring in found if area(ring) < 0.0]
    return tuple(
        Polygon(
            "",
            tuple(ring.ravel().tolist()),
            tuple(tuple(h.ravel().tolist()) for h in holes if _holds(ring, h)),
        )
        for ring in outer
    )


def _holds(outer: Floats, hole: Floats) -> bool:
    """Return whether a ring lies within another, from one of its points: no two of them cross."""
    point = Grid(float(hole[0, 0]), float(hole[0, 1]) + 1e-6, 1.0, 1, 1)
    return bool(filled([outer], point)[0, 0])
