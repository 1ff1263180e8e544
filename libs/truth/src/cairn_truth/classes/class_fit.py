"""What every aggregation of class votes gives back, and the sums over votes that they share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..columns import Floats, Ints
from .votes import Votes

_BLOCK = 1 << 16
"""Numbers that are normalised at a time, half a megabyte."""


@dataclass(frozen=True, eq=False)
class ClassFit:
    """What a crowd's votes on classes come to, whichever method joined them.

    ``posterior`` (items, classes), rows sum to one; an item without votes has the method's class prior, or is
    uniform where there is none. ``reliability`` (labelers,): the expected share of a labeler's votes that are
    right, by that posterior, so that it means the same for every method; nan for a labeler without votes.
    ``prior`` (classes,). ``log_likelihood`` of the votes in nats, or what a method maximises in its place (its
    docstring says what); nan for a method without a model of how votes come about. ``iterations`` done.
    """

    posterior: Floats
    reliability: Floats
    prior: Floats
    log_likelihood: float
    iterations: int


@dataclass(frozen=True, eq=False)
class SkillFit(ClassFit):
    """``skill`` (labelers,): one number a labeler, in the method's own units."""

    skill: Floats


@dataclass(frozen=True, eq=False)
class ConfusionFit(ClassFit):
    """``confusion`` (labelers, truth, answer): chance of each answer given each truth."""

    confusion: Floats


def shares(tally: Floats) -> Floats:
    """Return each row of non-negative weights scaled to sum to one, ``(items, classes)``; uniform without any."""
    total = tally.sum(axis=1, keepdims=True)
    return np.where(total > 0, tally / np.where(total > 0, total, 1.0), 1.0 / tally.shape[1])


def weighted_tally(votes: Votes, weight: Floats) -> Floats:
    """Return the summed ``weight`` (one a vote) on each class of each item, ``(items, classes)``."""
    total = np.bincount(votes.cell(), weights=weight, minlength=votes.items * votes.classes)
    # Of no votes NumPy counts whole zeros.
    return np.asarray(total.reshape(votes.items, votes.classes), dtype=np.float64)


def expected_right(votes: Votes, posterior: Floats) -> Floats:
    """Return how many of each labeler's votes are right in expectation, ``(labelers,)``."""
    right = np.take(posterior, votes.cell())
    return np.asarray(np.bincount(votes.labeler, weights=right, minlength=votes.labelers))


def reliability_of(votes: Votes, posterior: Floats) -> Floats:
    """Return the expected share of each labeler's votes that are right, ``(labelers,)``; nan without votes."""
    cast = votes.per_labeler()
    right = expected_right(votes, posterior)
    return np.asarray(np.where(cast > 0, right / np.maximum(cast, 1), np.nan))


def voted_mean(votes: Votes, posterior: Floats) -> Floats:
    """Return the mean posterior of the items that have votes, ``(classes,)``; uniform if none has."""
    voted = votes.per_item() > 0
    if not voted.any():
        return np.full(votes.classes, 1.0 / votes.classes)
    return mass(posterior, voted) / np.count_nonzero(voted)


def mass(posterior: Floats, counted: NDArray[np.bool_]) -> Floats:
    """Return the summed posterior of the items ``counted`` (items,), ``(classes,)``.

    NumPy sums a tall narrow array along its length row by row, five times slower than `einsum` does.
    """
    return np.asarray(np.einsum("i,ik->k", counted.astype(np.float64), posterior))


def normalise(
    logits: Floats,
    known: Ints | None = None,
    *,
    log_prior: Floats | None = None,
    out: Floats | None = None,
) -> tuple[Floats, Floats]:
    """Return ``exp(logits + log_prior)``, rows scaled to sum to one, and the logs of their sums before, ``(items,)``.

    ``log_prior`` (classes,). Where ``known`` (items,) is a class, not -1, the row is certain of it and the log is that
    class's term. ``out`` may be ``logits``. Done in blocks that stay in cache, each transposed: along rows of a few
    classes NumPy spends most of its time between rows.
    """
    out = np.empty_like(logits) if out is None else out
    items, classes = logits.shape
    given = np.flatnonzero(known >= 0) if known is not None else np.zeros(0, dtype=np.int64)
    truth = known[given] if known is not None else given
    told = logits[given, truth] if log_prior is None else logits[given, truth] + log_prior[truth]
    log_sum = np.empty(items)
    step = max(1, _BLOCK // max(classes, 1))
    for start in range(0, items, step):
        rows = slice(start, start + step)
        block = logits[rows].T.copy()
        if log_prior is not None:
            block += log_prior[:, None]
        most = block.max(axis=0)
        block -= most
        np.exp(block, out=block)
        total = block.sum(axis=0)
        block /= total
        out[rows] = block.T
        log_sum[rows] = np.log(total) + most
    out[given] = 0.0
    out[given, truth] = 1.0
    log_sum[given] = told
    return out, log_sum


def moved(before: Floats, after: Floats) -> float:
    """Return the largest change of any element. ``before`` is overwritten: nobody needs it any more."""
    np.subtract(after, before, out=before)
    return max(float(before.max(initial=0.0)), -float(before.min(initial=0.0)))
