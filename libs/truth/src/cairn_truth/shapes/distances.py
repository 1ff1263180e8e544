"""Signed distances from outlines, finer than the grid that they are told on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from ..columns import Floats
from .raster import Bools, Grid, Ints, all_filled

_SAMPLES = 2.0
"""Points looked at along an edge to a step of the grid, so that no square of it that the edge is long in is missed."""

_NEAR = 4.0
"""Steps from an edge up to which the edges beside it are looked at too: an outline is made of what is near."""


def signed_distances(regions: Sequence[Sequence[Floats]], grid: Grid) -> Floats:
    """Return each point's distance in steps ``(n, rows, columns)`` from the edges of each region, above 0 inside.

    Distances from the squares of the grid that an outline runs through would be off by up to half a step, one way
    for all who draw along the grid. So each point is told the edge in the nearest of those squares, and measured to
    it and to those beside it: exact but where several corners share a square, or far away, by a fraction of a step.
    """
    inside = all_filled(regions, grid)
    return np.stack([_signed(rings, region, grid) for rings, region in zip(regions, inside, strict=True)])


def _signed(rings: Sequence[Floats], inside: Bools, grid: Grid) -> Floats:
    scaled = [(ring - (grid.x, grid.y)) / grid.step for ring in rings]
    start = np.concatenate(scaled)
    along = np.concatenate([np.roll(ring, -1, axis=0) for ring in scaled]) - start
    before, after = _neighbours([len(ring) for ring in rings])
    edge = _nearest_edge(start, along, inside.shape).ravel()
    point = np.indices(inside.shape).reshape(2, -1)
    square = _squared(start, along, edge, point)
    near = np.flatnonzero(square < _NEAR**2)
    for beside in (before[edge[near]], after[edge[near]]):
        square[near] = np.minimum(square[near], _squared(start, along, beside, point[:, near]))
    return np.where(inside, 1.0, -1.0) * np.sqrt(square).reshape(inside.shape)


def _squared(start: Floats, along: Floats, edge: Ints, point: Ints) -> Floats:
    """Return the squared distance ``(n,)`` of each point ``(2, n)``, row and column, from the edge beside it."""
    (x, y), (ax, ay) = (np.take(np.ascontiguousarray(ends.T), edge, axis=1) for ends in (start, along))
    dx, dy = point[1] - x, point[0] - y
    length = np.maximum(np.square(along).sum(axis=1), np.finfo(float).tiny)[edge]
    share = np.clip((dx * ax + dy * ay) / length, 0.0, 1.0)
    return np.asarray(np.square(dx - share * ax) + np.square(dy - share * ay))


def _neighbours(sizes: Sequence[int]) -> tuple[Ints, Ints]:
    """Return the edges before and after each edge of rings of so many."""
    first = np.cumsum(sizes) - sizes
    before, after = (
        np.concatenate([low + np.roll(np.arange(n), by) for low, n in zip(first, sizes, strict=True)])
        for by in (1, -1)
    )
    return before, after


def _nearest_edge(start: Floats, along: Floats, shape: tuple[int, ...]) -> Ints:
    """Return for each point of a grid which edge runs through the nearest square that any runs through."""
    steps = np.ceil(_SAMPLES * np.abs(along).max(axis=1)).astype(np.int64) + 1
    edge = np.repeat(np.arange(steps.size), steps)
    share = (np.arange(edge.size) - np.repeat(np.cumsum(steps) - steps, steps)) / steps[edge]
    at = start[edge] + share[:, None] * along[edge]
    square = np.rint(at)
    column, row = np.clip(square.astype(np.int64), 0, np.array([shape[1] - 1, shape[0] - 1])).T
    # The last one written stays: of edges in one square the one nearest to its middle.
    order = np.argsort(-np.square(at - square).sum(axis=1), kind="stable")
    through = np.full(shape, -1, dtype=np.int64)
    through[row[order], column[order]] = edge[order]
    nearest = ndimage.distance_transform_edt(through < 0, return_distances=False, return_indices=True)
    return np.asarray(through[tuple(nearest)])
