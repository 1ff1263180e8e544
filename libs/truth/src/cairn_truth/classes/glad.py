"""GLAD: abilities of labelers and difficulties of items, on one scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import log_expit

from ..columns import Floats
from .class_fit import SkillFit, normalise, reliability_of, weighted_tally
from .settings import check_finite, check_rounds, check_whole
from .votes import Votes, checked_gold


@dataclass(frozen=True, eq=False)
class GLADFit(SkillFit):
    """``skill`` is the ability alpha (labelers,), below 0 for an adversary; ``easiness`` is beta > 0 (items,)."""

    easiness: Floats


@dataclass(frozen=True)
class GLAD:
    """Whitehill, Ruvolo, Wu, Bergsma & Movellan, Whose Vote Should Count More (NIPS 2009).

    Labeler l is right on item i with probability sigmoid(alpha_l beta_i) (their equation 1): ability
    alpha_l (labelers,), easiness beta_i = exp(b_i) (items,); a wrong vote takes any of the K - 1 other classes
    alike, as in their generalisation to many classes. Priors: alpha, b ~ Normal(``mean``, 1), a flat class prior.
    E-step: the class posterior; M-step: ascent of the expected log-likelihood in alpha and b by its gradient
    (theirs by conjugate gradients, ours by L-BFGS), at most ``ascent`` steps from where the last one ended. Ends
    when the log-likelihood and log prior together, reported as ``log_likelihood``, grow by less than
    ``tolerance`` a vote.

    For items of very different difficulty and a handful of classes. Cost: ``iterations * ascent * votes``,
    whatever the number of classes: the slowest of the list.
    """

    mean: float = 1.0
    ascent: int = 25
    iterations: int = 100
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        check_finite(self, "mean")
        check_whole(self, "ascent")
        check_rounds(self)

    def fit(self, votes: Votes, *, gold: ArrayLike | None = None) -> GLADFit:
        """Fit from equal abilities and easiness; ``gold`` ``(items,)`` holds known classes, -1 elsewhere."""
        known = checked_gold(gold, votes)
        point = np.full(votes.labelers + votes.items, self.mean)
        cell, done = votes.cell(), 0
        posterior, joint = self._posterior(votes, known, point)
        before = -np.inf
        for done in range(1, self.iterations + 1):  # noqa: B007 - the count is reported
            right = posterior.ravel()[cell]
            point = self._ascend(votes, right, point)
            posterior, joint = self._posterior(votes, known, point)
            if joint - before < self.tolerance * len(votes):
                break
            before = joint
        alpha, easiness = point[: votes.labelers], np.exp(point[votes.labelers :])
        prior = np.full(votes.classes, 1.0 / votes.classes)
        return GLADFit(posterior, reliability_of(votes, posterior), prior, joint, done, alpha, easiness)

    def _ascend(self, votes: Votes, right: Floats, start: Floats) -> Floats:
        """M-step: return the (alpha, b) that maximise Q given each vote's chance ``right`` (votes,)."""

        def loss(point: Floats) -> tuple[float, Floats]:
            alpha, easiness = _per_vote(votes, point)
            product = alpha * easiness
            # log sigmoid(-x) is log sigmoid(x) - x: one transcendental function of each vote, not three.
            log_right = log_expit(product)
            gap = right - np.exp(log_right)
            gain = float(log_right.sum() - (1.0 - right) @ product)
            slope = np.concatenate(
                [
                    np.bincount(votes.labeler, weights=gap * easiness, minlength=votes.labelers),
                    np.bincount(votes.item, weights=gap * product, minlength=votes.items),
                ]
            )
            off = point - self.mean
            return 0.5 * float(off @ off) - gain, off - slope

        found = minimize(
            loss, start, jac=True, method="L-BFGS-B", options={"maxiter": self.ascent, "ftol": 1e-9}
        )
        return np.asarray(found.x, dtype=np.float64)

    def _posterior(self, votes: Votes, known: NDArray[np.int64], point: Floats) -> tuple[Floats, float]:
        """E-step: return the posterior and the log-likelihood with the log-prior of ``point``."""
        posterior, log_sum = normalise(_logits(votes, point), known)
        off = point - self.mean
        normaliser = 0.5 * off.size * np.log(2.0 * np.pi)
        return posterior, float(log_sum.sum() - 0.5 * (off @ off) - normaliser)


def _per_vote(votes: Votes, point: Floats) -> tuple[Floats, Floats]:
    """Return each vote's labeler's ability and item's easiness; b is held where exp(b) cannot overflow."""
    b = np.minimum(point[votes.labelers :], 30.0)
    return point[votes.labeler], np.exp(b)[votes.item]


def _logits(votes: Votes, point: Floats) -> Floats:
    """Return the log of class and votes together, ``(items, classes)``."""
    alpha, easiness = _per_vote(votes, point)
    product = alpha * easiness
    right = log_expit(product)
    wrong = right - product - np.log(max(votes.classes - 1, 1))
    base = np.bincount(votes.item, weights=wrong, minlength=votes.items) - np.log(votes.classes)
    return np.asarray(base[:, None] + weighted_tally(votes, right - wrong))
