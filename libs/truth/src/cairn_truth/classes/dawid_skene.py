"""The classics: majority vote, and Dawid & Skene's maximum-likelihood estimate of truth and observer error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .class_fit import ClassFit, ConfusionFit, log_sum, reliability_of, shares, voted_mean
from .votes import Floats, Votes, checked_gold

_COUNT_FLOOR = 1e-6
"""Keeps a confusion never seen from being impossible; small enough to leave posteriors alone to 1e-6."""


@dataclass(frozen=True)
class MajorityVote:
    """The share of votes on each class. Items without votes are uniform; ties are the lower class's."""

    def fit(self, votes: Votes, *, gold: ArrayLike | None = None) -> ClassFit:
        """Count; ``gold`` ``(items,)`` holds known classes, -1 elsewhere. Cost: one pass over the votes."""
        posterior = clamp(shares(votes.tally()), checked_gold(gold, votes.items, votes.classes))
        return ClassFit(
            posterior, reliability_of(votes, posterior), voted_mean(votes, posterior), float("nan"), 1
        )


@dataclass(frozen=True)
class DawidSkene:
    """Maximum likelihood by expectation-maximisation (Dawid & Skene, Applied Statistics 28, 1979).

    Truth j of an item is drawn from the class prior p_j; labeler l answers k with probability pi_l[j, k],
    independently given the truth. No priors: with few answers a labeler, prefer `HierarchicalDawidSkene`.
    Cost: ``iterations * votes * classes``.
    """

    iterations: int = 100
    tolerance: float = 1e-5

    def fit(self, votes: Votes, *, gold: ArrayLike | None = None) -> ConfusionFit:
        """Fit from majority vote; ``gold`` ``(items,)`` holds known classes, -1 elsewhere."""
        known = checked_gold(gold, votes.items, votes.classes)
        incidence = votes.incidence()
        by_item = incidence.T.tocsr()
        shape = (votes.labelers, votes.classes, votes.classes)
        posterior = clamp(shares(votes.tally()), known)
        confusion, prior, likely, done = np.zeros(shape), np.zeros(votes.classes), 0.0, 0
        voted = votes.per_item() > 0
        for done in range(1, self.iterations + 1):  # noqa: B007 - the count is reported
            counts = (incidence @ posterior).reshape(shape) + _COUNT_FLOOR  # labeler, answer, truth
            likelihood = counts / counts.sum(axis=1, keepdims=True)
            confusion = likelihood.transpose(0, 2, 1)
            prior = posterior[voted].sum(axis=0) + _COUNT_FLOOR
            prior = prior / prior.sum()
            evidence = by_item @ np.log(likelihood).reshape(-1, votes.classes)
            logits = np.log(prior) + evidence
            fresh, likely = clamp(softmax(logits), known), log_sum(logits, known)
            moved = float(np.abs(fresh - posterior).max(initial=0.0))
            posterior = fresh
            if moved < self.tolerance:
                break
        return ConfusionFit(posterior, reliability_of(votes, posterior), prior, likely, done, confusion)


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
