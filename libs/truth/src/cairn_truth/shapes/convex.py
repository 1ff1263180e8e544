"""Areas that convex shapes share: polygons exactly, ellipses by slices."""

from __future__ import annotations

import numpy as np

from ..columns import Floats

_CHUNK = 4096
"""Pairs at once."""

_PARALLEL = 1e-9
"""Sine of the angle below which edges count as parallel."""

_NODES = (np.arange(128) + 0.5) / 128.0 * np.pi
"""Slices of an ellipse, narrower towards its ends: areas are then within a part in ten thousand."""


def polygon_area(corners: Floats) -> Floats:
    """Return the area ``(n,)`` of polygons ``(n, corners, 2)`` (the shoelace formula)."""
    x, y = corners[..., 0] - corners[..., :1, 0], corners[..., 1] - corners[..., :1, 1]
    return np.asarray(np.abs((x * np.roll(y, -1, axis=-1) - np.roll(x, -1, axis=-1) * y).sum(axis=-1)) / 2.0)


def shared_polygon_area(left: Floats, right: Floats) -> Floats:
    """Return the area ``(n,)`` that convex polygons ``(n, a, 2)`` and ``(n, b, 2)`` beside each other share, exactly.

    Corners go around either way. The shared polygon's corners are the corners of each inside the other and the points
    where edges cross, put in order around their centre.
    """
    starts = range(0, len(left), _CHUNK)
    return np.concatenate(
        [np.zeros(0), *(_shared(left[k : k + _CHUNK], right[k : k + _CHUNK]) for k in starts)]
    )


def _shared(left: Floats, right: Floats) -> Floats:
    origin = left.mean(axis=1, keepdims=True)  # near zero, where a double is finest
    left, right = _one_way(left - origin), _one_way(right - origin)
    crossing, crosses = _crossings(left, right)
    points = np.concatenate([left, right, crossing], axis=1)
    kept = np.concatenate([_inside(left, right), _inside(right, left), crosses], axis=1)
    count = np.maximum(kept.sum(axis=1), 1)
    centre = np.where(kept[..., None], points, 0.0).sum(axis=1) / count[:, None]
    spoke = np.where(kept[..., None], points - centre[:, None], 0.0)
    angle = np.where(kept, np.arctan2(spoke[..., 1], spoke[..., 0]), np.inf)
    order = np.argsort(angle, axis=1, kind="stable")
    ring = np.take_along_axis(spoke, order[..., None], axis=1)
    # What is not kept stands last as the centre itself: a corner that adds no area beside it, but takes the last
    # wedge away, between the last kept corner and the first. So the first stands there in its place.
    ring = np.where(np.take_along_axis(kept, order, axis=1)[..., None], ring, ring[:, :1])
    x, y = ring[..., 0], ring[..., 1]
    area = (x * np.roll(y, -1, axis=1) - np.roll(x, -1, axis=1) * y).sum(axis=1) / 2.0
    return np.where(kept.sum(axis=1) > 2, np.maximum(area, 0.0), 0.0)


def _one_way(corners: Floats) -> Floats:
    """Return polygons with their corners in the direction of a positive area."""
    x, y = corners[..., 0], corners[..., 1]
    signed = (x * np.roll(y, -1, axis=1) - np.roll(x, -1, axis=1) * y).sum(axis=1)
    return np.where((signed < 0.0)[:, None, None], corners[:, ::-1], corners)


def _inside(points: Floats, polygon: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Return which points ``(n, a)`` are in the polygon or on its edge, to a part in a million million of its size."""
    edge = np.roll(polygon, -1, axis=1) - polygon
    to = points[:, :, None] - polygon[:, None]
    side = edge[:, None, :, 0] * to[..., 1] - edge[:, None, :, 1] * to[..., 0]
    scale = np.square(polygon).sum(axis=(1, 2)) + np.square(points).sum(axis=(1, 2))
    return np.asarray((side >= -1e-12 * scale[:, None, None]).all(axis=2))


def _crossings(left: Floats, right: Floats) -> tuple[Floats, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
    """Return where each edge of one meets each of the other ``(n, a b, 2)``, and which do."""
    a, b = left[:, :, None], right[:, None]
    along, across = np.roll(left, -1, axis=1)[:, :, None] - a, np.roll(right, -1, axis=1)[:, None] - b
    turn = along[..., 0] * across[..., 1] - along[..., 1] * across[..., 0]
    # Edges on one line meet anywhere and nowhere, as rounding will have it; their ends are corners inside, and enough.
    slanted = np.abs(turn) > _PARALLEL * np.hypot(*np.moveaxis(along, -1, 0)) * np.hypot(
        *np.moveaxis(across, -1, 0)
    )
    safe = np.where(slanted, turn, 1.0)
    gap = b - a
    t = (gap[..., 0] * across[..., 1] - gap[..., 1] * across[..., 0]) / safe
    u = (gap[..., 0] * along[..., 1] - gap[..., 1] * along[..., 0]) / safe
    meets = slanted & (t >= 0.0) & (t <= 1.0) & (u >= 0.0) & (u <= 1.0)
    points = a + np.where(meets, t, 0.0)[..., None] * along
    return points.reshape(len(left), -1, 2), meets.reshape(len(left), -1)


def shared_ellipse_area(left: Floats, right: Floats) -> Floats:
    """Return the area ``(n,)`` that ellipses ``(n, 5)`` (centre x, y, radii, angle in radians) share.

    The plane is turned and stretched so that the left one is the unit circle, and turned again so that the right one's
    longer axis lies along x; both are cut into slices along it. So the slices are across whichever is slim, and it is
    over most of them that the two meet.
    """
    cos, sin = np.cos(left[:, 4]), np.sin(left[:, 4])
    dx, dy = right[:, 0] - left[:, 0], right[:, 1] - left[:, 1]
    x, y = (cos * dx + sin * dy) / left[:, 2], (cos * dy - sin * dx) / left[:, 3]
    # Columns of the right one's axes in the left one's plane; A is their product with its transpose.
    turn = right[:, 4] - left[:, 4]
    c, s = np.cos(turn), np.sin(turn)
    ux, uy = right[:, 2] * c / left[:, 2], right[:, 2] * s / left[:, 3]
    vx, vy = -right[:, 3] * s / left[:, 2], right[:, 3] * c / left[:, 3]
    xx, xy, yy = ux * ux + vx * vx, ux * uy + vx * vy, uy * uy + vy * vy
    long = np.sqrt((xx + yy + np.hypot(xx - yy, 2.0 * xy)) / 2.0)
    short = np.abs(ux * vy - uy * vx) / long  # not from A, where a slim one's would be lost in rounding
    angle = np.arctan2(2.0 * xy, xx - yy) / 2.0
    c, s = np.cos(angle), np.sin(angle)
    along, across = (c * x + s * y)[:, None], c * y - s * x
    low, high = np.maximum(-1.0, across - short), np.minimum(1.0, across + short)
    half = np.maximum(high - low, 0.0) / 2.0
    at = (low + half)[:, None] - half[:, None] * np.cos(_NODES)
    width = half[:, None] * np.sin(_NODES) * (np.pi / _NODES.size)
    circle = np.sqrt(np.maximum(1.0 - at * at, 0.0))
    off = (at - across[:, None]) / short[:, None]
    reach = long[:, None] * np.sqrt(np.maximum(1.0 - off * off, 0.0))
    shared = np.minimum(circle, along + reach) - np.maximum(-circle, along - reach)
    return np.asarray((np.maximum(shared, 0.0) * width).sum(axis=1) * left[:, 2] * left[:, 3])
