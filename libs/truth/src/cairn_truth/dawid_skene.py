"""The classics: majority vote, and Dawid & Skene's maximum-likelihood estimate of truth and observer error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .votes import Floats, Votes, checked_gold

_COUNT_FLOOR = 1e-6
"""Keeps a confusion never seen from being impossible; small enough to leave posteriors alone to 1e-6."""


@dataclass(frozen=True)
class MajorityVote:
    """The share of votes on each class. Items without votes are uniform; ties are the lower class's."""

    def fit(self, votes: Votes) -> Floats:
        """Return the share of votes, ``(items, classes)``."""
        tally = votes.tally()
        total = tally.sum(axis=1, keepdims=True)
        return np.where(total > 0, tally / np.maximum(total, 1.0), 1.0 / votes.classes)


@dataclass(frozen=True)
class DawidSkeneFit:
    """``posterior`` (items, classes); ``confusion`` (labelers, truth, answer); ``prior`` (classes,)."""

    posterior: Floats
    confusion: Floats
    prior: Floats
    iterations: int


@dataclass(frozen=True)
class DawidSkene:
    """Maximum likelihood by expectation-maximisation (Dawid & Skene, Applied Statistics 28, 1979).

    Truth j of an item is drawn from the class prior p_j; labeler l answers k with probability pi_l[j, k],
    independently given the truth. No priors: with few answers a labeler, prefer `HierarchicalDawidSkene`.
    Cost: ``iterations * votes * classes``.
    """

    iterations: int = 100
    tolerance: float = 1e-5

    def fit(self, votes: Votes, *, gold: ArrayLike | None = None) -> DawidSkeneFit:
        """Fit from majority vote; ``gold`` ``(items,)`` holds known classes, -1 elsewhere."""
        known = checked_gold(gold, votes.items, votes.classes)
        incidence = votes.incidence()
        by_item = incidence.T.tocsr()
        shape = (votes.labelers, votes.classes, votes.classes)
        posterior = clamp(MajorityVote().fit(votes), known)
        confusion, prior, done = np.zeros(shape), np.zeros(votes.classes), 0
        voted = votes.per_item() > 0
        for done in range(1, self.iterations + 1):  # noqa: B007 - the count is reported
            counts = (incidence @ posterior).reshape(shape) + _COUNT_FLOOR  # labeler, answer, truth
            likelihood = counts / counts.sum(axis=1, keepdims=True)
            confusion = likelihood.transpose(0, 2, 1)
            prior = posterior[voted].sum(axis=0) + _COUNT_FLOOR
            prior = prior / prior.sum()
            evidence = by_item @ np.log(likelihood).reshape(-1, votes.classes)
            fresh = clamp(softmax(np.log(prior) + evidence), known)
            moved = float(np.abs(fresh - posterior).max(initial=0.0))
            posterior = fresh
            if moved < self.tolerance:
                break
        return DawidSkeneFit(posterior, confusion, prior, done)


def softmax(logits: Floats) -> Floats:
    """Return ``exp(logits)`` with each row scaled to sum to one."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def clamp(posterior: Floats, gold: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Floats:
    """Return the posterior with the known items made certain."""
    known = np.flatnonzero(gold >= 0)
    if known.size == 0:
        return posterior
    fixed = posterior.copy()
    fixed[known] = 0.0
    fixed[known, gold[known]] = 1.0
    return fixed
