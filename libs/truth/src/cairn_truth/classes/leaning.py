"""How a labeler's confusion leans on the crowd's: the crowd's, moved by how often the labeler is right.

Confusions are ``(labelers, answer, truth)``; a truth may be of several kinds, one after the other: kind * truth.
"""

from __future__ import annotations

import numpy as np

from ..columns import Floats

_ODDS_FLOOR = 1e-3
"""No labeler's skill is taken to be more than 99.9 % right or wrong: nobody has shown that."""

_SLIP = 1e-3
"""Once in a thousand answers anybody presses any key: no single vote can rule a class out."""


def symmetric(classes: int, accuracy: float) -> Floats:
    """Return the confusion ``(answer, truth)`` of somebody so often right, and else wrong in any way alike."""
    if classes == 1:
        return np.ones((1, 1))
    confusion = np.full((classes, classes), (1.0 - accuracy) / (classes - 1))
    np.fill_diagonal(confusion, accuracy)
    return confusion


def moved_by_skill(counts: Floats, centre: Floats, strength: float) -> Floats:
    """Return confusions with the odds of being right that each one's own votes show.

    The share of right answers among ``counts``, with ``strength`` votes as ``centre`` would cast them, is compared with
    what the centre would reach on the same truths; the ratio of the two odds moves every diagonal element, errors keep
    their proportions.
    """
    classes = counts.shape[1]
    if classes == 1:
        return np.ones_like(counts)
    truths = np.arange(counts.shape[2])
    same = truths % classes
    votes = counts.sum(axis=(1, 2))
    right = counts[:, same, truths].sum(axis=1)
    typical = inner(centre[:, same, truths])
    expected = (counts.sum(axis=1) * typical).sum(axis=1)
    par = inner(np.where(votes > 0, expected / np.maximum(votes, 1e-9), typical.mean(axis=1)))
    share = inner((right + strength * par) / (votes + strength))
    ratio = (share / (1.0 - share)) / (par / (1.0 - par))
    odds = typical / (1.0 - typical) * ratio[:, None]
    own = odds / (1.0 + odds)
    moved = centre * ((1.0 - own) / (1.0 - typical))[:, None, :]
    moved[:, same, truths] = own
    return np.asarray(moved / moved.sum(axis=1, keepdims=True))


def with_slips(likelihood: Floats) -> Floats:
    """Return confusions in which no answer is impossible."""
    return np.asarray((1.0 - _SLIP) * likelihood + _SLIP / likelihood.shape[1])


def inner(probability: Floats) -> Floats:
    """Return probabilities kept off 0 and 1, so that their odds are finite."""
    return np.clip(probability, _ODDS_FLOOR, 1.0 - _ODDS_FLOOR)
