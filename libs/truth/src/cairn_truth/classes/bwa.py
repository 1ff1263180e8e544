"""Bayesian weighted average: numbers for votes, Gaussian errors, a variance for each labeler."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from ..columns import Floats
from .class_fit import SkillFit, reliability_of, shares, voted_mean
from .dawid_skene import clamp
from .settings import check_finite, check_rounds
from .votes import Votes, checked_gold


@dataclass(frozen=True)
class BWA:
    """Li, Rubinstein & Cohn, Truth Inference at Scale (WWW 2019): Bayesian weighted averages.

    One problem a class: y_il is 1 where labeler l chose the class for item i and 0 where another; y_il ~
    Normal(z_i, 1 / v_l), z_i ~ Normal(mu, 1 / ``shrinkage``), v_l ~ Gamma(a/2, b/2). Expectation-maximisation:
    v_l = (a + n_l) / (b + sum over their votes of (z_i - y_il)^2), z_i = (shrinkage mu + sum of v_l y_il) /
    (shrinkage + sum of v_l), mu the mean of z. a is ``precision_votes``; b is a times the mean of the votes' variance
    z (1 - z) at majority vote, times 4 (1 - 1/K), which makes up for taking a choice among K classes for K
    choices between two. Ends when no z moved by a thousandth of itself.

    ``posterior`` is z scaled to sum to one: weights, not calibrated; ``skill`` (labelers,) is v_l averaged over
    the classes, nan without votes; ``log_likelihood`` is the log joint density of y and z with v integrated out,
    which every round raises but for the move of mu. For large redundant crowds; the fastest that learns. Cost:
    ``iterations * votes * classes``.
    """

    precision_votes: float = 15.0
    shrinkage: float = 1.0
    iterations: int = 500
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        check_finite(self, "precision_votes", "shrinkage", above=0.0)
        check_rounds(self)

    def fit(self, votes: Votes, *, gold: ArrayLike | None = None) -> SkillFit:
        """Fit from majority vote; ``gold`` ``(items,)`` holds known classes, -1 elsewhere."""
        known = checked_gold(gold, votes)
        parts = [self._one(votes, known, choice) for choice in range(votes.classes)]
        posterior = clamp(shares(np.stack([z for z, _, _, _ in parts], axis=1)), known)
        skill = np.mean([v for _, v, _, _ in parts], axis=0)
        return SkillFit(
            posterior,
            reliability_of(votes, posterior),
            voted_mean(votes, posterior),
            float(sum(part[2] for part in parts)),
            max(part[3] for part in parts),
            np.where(votes.per_labeler() > 0, skill, np.nan),
        )

    def _one(self, votes: Votes, known: NDArray[np.int64], choice: int) -> tuple[Floats, Floats, float, int]:
        """Return z (items,), v (labelers,), the log density and the rounds for one class against the others."""
        y = (votes.choice == choice).astype(np.float64)
        given = known >= 0
        each = np.maximum(votes.per_item(), 1)
        z = np.asarray(np.bincount(votes.item, weights=y, minlength=votes.items) / each)
        voted = votes.per_item() > 0
        spread = float((votes.per_item() * z * (1.0 - z)).sum()) / max(len(votes), 1)
        # Unanimous votes have no spread; a billionth keeps their precision finite.
        b = max(self.precision_votes * spread * 4.0 * (1.0 - 1.0 / votes.classes), 1e-9)
        z[given] = known[given] == choice
        n = votes.per_labeler()
        mu, v, done = 0.0, np.zeros(votes.labelers), 0
        for done in range(1, self.iterations + 1):  # noqa: B007 - the count is reported
            mu = float(z[voted].mean()) if voted.any() else 1.0 / votes.classes
            misses = np.bincount(votes.labeler, weights=(z[votes.item] - y) ** 2, minlength=votes.labelers)
            v = (self.precision_votes + n) / (b + misses)
            weight = v[votes.labeler]
            pull = self.shrinkage * mu + np.bincount(votes.item, weights=weight * y, minlength=votes.items)
            fresh = pull / (self.shrinkage + np.bincount(votes.item, weights=weight, minlength=votes.items))
            fresh[given] = known[given] == choice
            still = np.allclose(z, fresh, rtol=self.tolerance, atol=1e-8)
            z = fresh
            if still:
                break
        return z, v, self._density(votes, z, y, b, mu), done

    def _density(self, votes: Votes, z: Floats, y: Floats, b: float, mu: float) -> float:
        n, a = votes.per_labeler(), self.precision_votes
        misses = np.bincount(votes.labeler, weights=(z[votes.item] - y) ** 2, minlength=votes.labelers)
        labelers = gammaln((a + n) / 2.0) - gammaln(a / 2.0) + a / 2.0 * np.log(b / 2.0)
        labelers = labelers - (a + n) / 2.0 * np.log((b + misses) / 2.0) - n / 2.0 * np.log(2.0 * np.pi)
        items = 0.5 * np.log(self.shrinkage / (2.0 * np.pi)) - 0.5 * self.shrinkage * (z - mu) ** 2
        return float(labelers.sum() + items[votes.per_item() > 0].sum())
