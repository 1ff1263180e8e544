"""The classics: majority vote, and Dawid & Skene's maximum-likelihood estimate of truth and observer error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..columns import Floats, Ints
from .class_fit import (
    ClassFit,
    ConfusionFit,
    mass,
    moved,
    normalise,
    reliability_of,
    shares,
    voted_mean,
)
from .settings import check_rounds
from .votes import Votes, checked_gold

_LEAST = 1e-10
"""The least expected count of an answer that a labeler gives: with none, two people could outlaw all classes. It is
Crowd-Kit's, so that both come to the same end: on `labelme`, posteriors where few have answered depend on it."""

_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class MajorityVote:
    """The share of votes on each class. Items without votes are uniform; ties are the lower class's."""

    def fit(self, votes: Votes, *, gold: ArrayLike | None = None) -> ClassFit:
        """Count; ``gold`` ``(items,)`` holds known classes, -1 elsewhere. Cost: one pass over the votes."""
        known = checked_gold(gold, votes)
        posterior = clamp(shares(votes.tally()), known)
        return ClassFit(
            posterior, reliability_of(votes, posterior), voted_mean(votes, posterior), float("nan"), 1
        )


@dataclass(frozen=True)
class DawidSkene:
    """Maximum likelihood by expectation-maximisation (Dawid & Skene, Applied Statistics 28, 1979).

    Truth j of an item is drawn from the class prior p_j; labeler l answers k with probability pi_l[j, k],
    independently given the truth. No priors: with few answers a labeler, prefer `BlockDawidSkene`.
    Cost: ``iterations * (votes * classes + labelers * classes^2)``.
    """

    iterations: int = 100
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        check_rounds(self)

    def fit(self, votes: Votes, *, gold: ArrayLike | None = None) -> ConfusionFit:
        """Fit from majority vote; ``gold`` ``(items,)`` holds known classes, -1 elsewhere."""
        known = checked_gold(gold, votes)
        incidence = votes.incidence()
        by_item = incidence.T
        shape = (votes.labelers, votes.classes, votes.classes)
        least = _least(incidence.indices, shape)
        posterior = clamp(shares(votes.tally()), known)
        likelihood, prior, likely, done = np.zeros(shape), np.zeros(votes.classes), np.zeros(0), 0
        voted = votes.per_item() > 0
        for done in range(1, self.iterations + 1):  # noqa: B007 - the count is reported
            counts = np.maximum((incidence @ posterior).reshape(shape), least)  # labeler, answer, truth
            likelihood = counts / counts.sum(axis=1, keepdims=True)
            prior = np.maximum(mass(posterior, voted), _LEAST)
            prior = prior / prior.sum()
            # The log of an answer that a labeler never gave is asked for by nobody.
            logits = by_item @ np.log(np.maximum(likelihood, _TINY)).reshape(-1, votes.classes)
            fresh, likely = normalise(logits, known, log_prior=np.log(prior), out=logits)
            still = moved(posterior, fresh) < self.tolerance
            posterior = fresh
            if still:
                break
        reliability = reliability_of(votes, posterior)
        confusion = likelihood.transpose(0, 2, 1)
        return ConfusionFit(posterior, reliability, prior, float(likely.sum()), done, confusion)


def _least(said: NDArray[np.integer], shape: tuple[int, int, int]) -> Floats:
    """Return the least count of each answer ``(labelers, answers, 1)``: 0 for one that a labeler never gave.

    A labeler without votes may give any.
    """
    labelers, answers, _ = shape
    gave = np.bincount(said, minlength=labelers * answers).reshape(labelers, answers) > 0
    possible = gave | ~gave.any(axis=1, keepdims=True)
    return np.where(possible, _LEAST, 0.0)[:, :, None]


def softmax(logits: Floats) -> Floats:
    """Return ``exp(logits)`` ``(..., n)`` with each row scaled to sum to one."""
    rows = logits.reshape(-1, logits.shape[-1])
    return normalise(rows)[0].reshape(logits.shape)


def clamp(posterior: Floats, gold: Ints) -> Floats:
    """Return the posterior with the known items made certain."""
    known = np.flatnonzero(gold >= 0)
    if known.size == 0:
        return posterior
    fixed = posterior.copy()
    fixed[known] = 0.0
    fixed[known, gold[known]] = 1.0
    return fixed
