"""Which keyframes a track needs: where what holds changes, and to bend in between."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import pairwise

import numpy as np

from ..columns import Floats
from .matching import Ints

_FINE = 0.01
"""How far a shape may be from a keyframe left out, in sizes of the shape: less than a hand sees."""


def needed(frames: Ints, numbers: Floats, size: Floats, held: Sequence[Hashable]) -> Ints:
    """Return which keyframes ``(kept,)`` of a run in sight are needed: where what holds changes, and to bend."""
    turns = [0, *(k for k in range(1, len(held)) if held[k] != held[k - 1]), len(held) - 1]
    kept = {0, len(held) - 1}
    for low, high in pairwise(turns):
        kept |= set(
            (bends(frames[low : high + 1], numbers[low : high + 1], size[low : high + 1]) + low).tolist()
        )
    return np.array(sorted(kept), dtype=np.int64)


def bends(frames: Ints, numbers: Floats, size: Floats | None = None) -> Ints:
    """Return which keyframes ``(kept,)`` show a run of shapes ``(n, d)``, interpolated, to within a share of their size.

    ``size (n,)`` in the unit of the numbers, from edges of boxes where it is not given; numbers that are nan count for
    nothing. Ramer (1972) with distances at equal times.
    """
    if size is None:
        size = np.sqrt(np.maximum(np.prod(numbers[:, 2:] - numbers[:, :2], axis=1), 0.0))
    kept = {0, frames.size - 1}
    pending = [(0, frames.size - 1)]
    while pending:
        low, high = pending.pop()
        if high - low < 2:
            continue
        inner = slice(low + 1, high)
        share = ((frames[inner] - frames[low]) / (frames[high] - frames[low]))[:, None]
        off = np.abs(numbers[inner] - (numbers[low] + share * (numbers[high] - numbers[low])))
        excess = np.where(np.isnan(off), 0.0, off).max(axis=1) - _FINE * size[inner]
        worst = int(excess.argmax())
        if excess[worst] > 0.0:
            at = low + 1 + worst
            kept.add(at)
            pending += [(low, at), (at, high)]
    return np.array(sorted(kept), dtype=np.int64)
