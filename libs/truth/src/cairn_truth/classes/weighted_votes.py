"""Votes weighed by how often their labeler agrees with the others: no model, hardly any cost, hard to break."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..columns import Floats
from .class_fit import SkillFit, reliability_of, shares, voted_mean, weighted_tally
from .dawid_skene import clamp
from .settings import check_finite, check_whole
from .votes import Votes, checked_gold


@dataclass(frozen=True)
class Wawa:
    """Worker agreement with aggregate: one majority vote, then one weighted by agreement with the first.

    ``skill`` s_l (labelers,) is the share of labeler l's votes that are the majority's class; the posterior of
    class k is the sum of s_l over those who chose k, scaled to one. A share of weight, not a probability.
    Known from Appen's worker evaluation; written down by Ustalov, Pavlichenko & Tseitlin, Learning from Crowds
    with Crowd-Kit (JOSS 9(96), 2024). Cost: two passes over the votes. ``log_likelihood`` is nan: no model.
    """

    def fit(self, votes: Votes, *, gold: ArrayLike | None = None) -> SkillFit:
        """Weigh; ``gold`` ``(items,)`` holds known classes, -1 elsewhere: they are agreed with, and kept."""
        known = checked_gold(gold, votes)
        skill = _agreement(votes, clamp(shares(votes.tally()), known).argmax(axis=1))
        return _weighed(votes, skill, known, 1)


@dataclass(frozen=True)
class ZeroBasedSkill:
    """Weighted majority vote whose weights walk towards each labeler's agreement with it.

    Skills start equal, just above chance: s_l = 1/K + 1e-5. In round t, labels y are the weighted majority's and
    s_l += rate_t (share of l's votes equal to y - s_l); the rate starts at ``rate`` and is halved every
    ``halve_every`` rounds, so that a crowd that swings between two answers comes to rest. Ends early when no
    skill moves. Published with Toloka's Crowd-Kit (Ustalov et al., JOSS 9(96), 2024), whose defaults these are.
    Cost: ``iterations * votes``. ``log_likelihood`` is nan: no model.
    """

    iterations: int = 100
    rate: float = 1.0
    halve_every: int = 20

    def __post_init__(self) -> None:
        check_whole(self, "iterations", "halve_every")
        check_finite(self, "rate", above=0.0)

    def fit(self, votes: Votes, *, gold: ArrayLike | None = None) -> SkillFit:
        """Weigh; ``gold`` ``(items,)`` holds known classes, -1 elsewhere: they are agreed with, and kept."""
        known = checked_gold(gold, votes)
        skill = np.full(votes.labelers, 1.0 / votes.classes + 1e-5)
        rate, done = self.rate, 0
        for done in range(1, self.iterations + 1):
            if done % self.halve_every == 0:
                rate /= 2.0
            weighed = clamp(shares(weighted_tally(votes, skill[votes.labeler])), known)
            step = rate * (_agreement(votes, weighed.argmax(axis=1)) - skill)
            skill = skill + step
            if not step.any():
                break
        return _weighed(votes, skill, known, done)


def _agreement(votes: Votes, label: NDArray[np.int64]) -> Floats:
    """Return the share of each labeler's votes equal to ``label`` (items,); 0 without votes."""
    agrees = (label[votes.item] == votes.choice).astype(np.float64)
    total = np.bincount(votes.labeler, weights=agrees, minlength=votes.labelers)
    return np.asarray(total / np.maximum(votes.per_labeler(), 1))


def _weighed(votes: Votes, skill: Floats, known: NDArray[np.int64], iterations: int) -> SkillFit:
    posterior = clamp(shares(weighted_tally(votes, skill[votes.labeler])), known)
    return SkillFit(
        posterior,
        reliability_of(votes, posterior),
        voted_mean(votes, posterior),
        float("nan"),
        iterations,
        skill,
    )
