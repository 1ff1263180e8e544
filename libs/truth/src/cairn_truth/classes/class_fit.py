"""What every aggregation of class votes gives back, and the sums over votes that they share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .votes import Floats, Votes


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class SkillFit(ClassFit):
    """``skill`` (labelers,): one number a labeler, in the method's own units."""

    skill: Floats


@dataclass(frozen=True)
class ConfusionFit(ClassFit):
    """``confusion`` (labelers, truth, answer): chance of each answer given each truth."""

    confusion: Floats


def shares(tally: Floats) -> Floats:
    """Return each row of non-negative weights scaled to sum to one, ``(items, classes)``; uniform without any."""
    total = tally.sum(axis=1, keepdims=True)
    return np.where(total > 0, tally / np.where(total > 0, total, 1.0), 1.0 / tally.shape[1])


def weighted_tally(votes: Votes, weight: Floats) -> Floats:
    """Return the summed ``weight`` (one a vote) on each class of each item, ``(items, classes)``."""
    flat = votes.item.astype(np.int64) * votes.classes + votes.choice
    total = np.bincount(flat, weights=weight, minlength=votes.items * votes.classes)
    return np.asarray(total.reshape(votes.items, votes.classes))


def expected_right(votes: Votes, posterior: Floats) -> Floats:
    """Return how many of each labeler's votes are right in expectation, ``(labelers,)``."""
    right = posterior[votes.item, votes.choice]
    return np.asarray(np.bincount(votes.labeler, weights=right, minlength=votes.labelers))


def reliability_of(votes: Votes, posterior: Floats) -> Floats:
    """Return the expected share of each labeler's votes that are right, ``(labelers,)``; nan without votes."""
    cast = votes.per_labeler()
    right = expected_right(votes, posterior)
    return np.asarray(np.where(cast > 0, right / np.maximum(cast, 1), np.nan))


def voted_mean(votes: Votes, posterior: Floats) -> Floats:
    """Return the mean posterior of the items that have votes, ``(classes,)``; uniform if none has."""
    voted = posterior[votes.per_item() > 0]
    return voted.mean(axis=0) if voted.size else np.full(votes.classes, 1.0 / votes.classes)


def log_sum(logits: Floats, known: NDArray[np.int64] | None = None) -> float:
    """Return the summed log of each row's ``sum(exp(logits))``, or the known class's term where it is known."""
    most = logits.max(axis=1)
    total = most + np.log(np.exp(logits - most[:, None]).sum(axis=1))
    if known is not None:
        given = np.flatnonzero(known >= 0)
        total[given] = logits[given, known[given]]
    return float(total.sum())
