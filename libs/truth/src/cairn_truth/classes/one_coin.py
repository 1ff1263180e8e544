"""Dawid & Skene with one number a labeler: how often they are right, whatever the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .class_fit import SkillFit, expected_right, normalise, reliability_of, shares, voted_mean, weighted_tally
from .dawid_skene import clamp
from .settings import check_rounds
from .votes import Votes, checked_gold

_LEAST = 1e-10
"""Nobody is taken to be always right or always wrong, or one vote could outlaw a class; the bound is Crowd-Kit's."""


@dataclass(frozen=True)
class OneCoinDawidSkene:
    """The one-coin model, by expectation-maximisation (Zhang, Chen, Zhou & Jordan, JMLR 17, 2016).

    Truth z of an item is drawn from the class prior p (classes,); labeler l is right with probability s_l
    and else chooses any of the K - 1 wrong classes alike. E-step: log q(k) = log p_k + the sum of log s_l -
    log((1 - s_l)/(K - 1)) over those who chose k. M-step: s_l is the expected share of right votes, p the
    mean of q. Starts from majority vote and ends when the log-likelihood grows by less than ``tolerance`` a
    vote. ``skill`` (labelers,) is s_l, nan without votes. For few answers a labeler; wrong where some
    classes are much harder than others. Cost: ``iterations * votes``.
    """

    iterations: int = 100
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        check_rounds(self)

    def fit(self, votes: Votes, *, gold: ArrayLike | None = None) -> SkillFit:
        """Fit from majority vote; ``gold`` ``(items,)`` holds known classes, -1 elsewhere."""
        known = checked_gold(gold, votes)
        posterior = clamp(shares(votes.tally()), known)
        cast = np.maximum(votes.per_labeler(), 1)
        wrong_ways = max(votes.classes - 1, 1)
        skill, prior = np.zeros(votes.labelers), np.zeros(votes.classes)
        likely, done = -np.inf, 0
        for done in range(1, self.iterations + 1):  # noqa: B007 - the count is reported
            skill = expected_right(votes, posterior) / cast
            prior = np.maximum(voted_mean(votes, posterior), _LEAST)
            wrong = np.log(np.clip((1.0 - skill) / wrong_ways, _LEAST, 1.0 - _LEAST))
            right = np.log(np.clip(skill, _LEAST, 1.0 - _LEAST))
            logits = weighted_tally(votes, (right - wrong)[votes.labeler])
            posterior, log_sum = normalise(logits, known, log_prior=np.log(prior), out=logits)
            before, likely = likely, float(log_sum.sum() + wrong @ votes.per_labeler())
            if likely - before < self.tolerance * len(votes):
                break
        skill = np.where(votes.per_labeler() > 0, skill, np.nan)
        return SkillFit(posterior, reliability_of(votes, posterior), prior, likely, done, skill)
