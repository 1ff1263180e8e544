"""Corners that several outlines share: where hands set the same points, their outline is the one through the means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..columns import Floats
from .raster import area, simplified
from .robust import student_mean

_MOST = 32
"""Points of an outline with corners at most: those of hands that follow a curve are theirs and no one else's."""


def shared_corners(
    outlines: Sequence[Floats], share: Floats, deviation: float, tolerance: float
) -> Floats | None:
    """Return the mean corners ``(corners, 2)`` of outlines, or None where no more than half have as many.

    ``share (n,)`` of each outline, in sum 1; ``deviation`` of one hand's corner and the ``tolerance`` within which a
    point is on the line between its neighbours, in pixels. Corners are put beside each other, the outlines turned the
    same way, from whichever makes all of them nearest, and averaged robustly.
    """
    corners = [_corners(ring, tolerance) if len(ring) <= _MOST else ring[:0] for ring in outlines]
    count = np.array([len(ring) for ring in corners])
    support = np.bincount(count, weights=share)
    number = int(support.argmax())
    if support[number] <= 0.5 or not number:
        return None
    among = np.flatnonzero(count == number)
    first = corners[int(among[share[among].argmax()])]
    beside = np.stack([_turned(corners[k], first) for k in among.tolist()], axis=1)
    precision = share[among] / share[among].max() / max(deviation, np.finfo(float).tiny ** 0.25) ** 2
    return student_mean(beside, precision[None, :, None])[0]


def _corners(ring: Floats, tolerance: float) -> Floats:
    """Return a ring's corners, of an area above 0; the first is furthest from their middle, and so surely a corner."""
    ring = ring if area(ring) >= 0.0 else ring[::-1]
    begin = int(np.square(ring - ring.mean(axis=0)).sum(axis=1).argmax())
    return simplified(np.roll(ring, -begin, axis=0), tolerance)


def _turned(ring: Floats, beside: Floats) -> Floats:
    """Return a ring begun at the corner that puts its corners nearest to those of another ring of as many."""
    number = np.arange(len(ring))
    begun = ring[(number[:, None] + number) % len(ring)]
    return np.asarray(begun[int(np.square(begun - beside).sum(axis=(1, 2)).argmin())])
