"""How far off shapes are: everybody's spread learnt from marks that were matched, and what it says of joined places."""

from __future__ import annotations

import numpy as np
from scipy import special

from ..columns import Floats
from .matching import Ints

_STRENGTH = 10.0
"""Objects of the crowd's spread that a labeler's own spread starts from, and of the first one that the crowd's does."""

_FREEDOM = 4.0
"""Degrees of freedom of an object's own difficulty: a spread twice the crowd's is nothing unusual."""

_LEAST = 0.01


def learnt(square: Floats, free: Floats, labeler: Ints, labelers: int, first: float) -> tuple[Floats, float]:
    """Return each labeler's spread ``(labelers,)`` and the crowd's, which starts from ``first``.

    ``square (marks,)``: squared distances of the marks of ``labeler (marks,)``, and ``free`` how many squared spreads
    each can be expected to be: less than one where the distance is from a shape that the mark has a share in.
    """
    usual = float(np.sqrt((square.sum() + _STRENGTH * first**2) / (free.sum() + _STRENGTH)))
    own = np.bincount(labeler, weights=square, minlength=labelers)
    seen = np.bincount(labeler, weights=free, minlength=labelers)
    spread = np.sqrt((own + _STRENGTH * usual**2) / (seen + _STRENGTH))
    return np.maximum(spread, _LEAST), max(usual, _LEAST)


def place_right(
    square: Floats, spread: Floats, first: Ints, dimensions: float, most: float
) -> tuple[Floats, Floats]:
    """Return the chance ``(clusters,)`` that each joined place is as near as ``most``, and its expected distance.

    ``square (marks,)``: each mark's squared distance from its joined shape, as `most`; ``spread`` of its labeler;
    ``first``: the first mark of each cluster. The squared distance of the joined shape from the truth is chi-squared
    with so many ``dimensions`` of freedom, its size one over the sum of precisions, times how hard the object has
    proved to be: an F distribution.
    """
    freedom = _FREEDOM + np.diff([*first, square.size]) - 1.0
    misfit = np.add.reduceat(square / spread**2, first)
    expected = (_FREEDOM + misfit) / freedom / np.add.reduceat(1.0 / spread**2, first)
    return special.fdtr(dimensions, freedom, most / expected), np.sqrt(expected)
