"""MACE: who knows, and who only presses keys."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..columns import Floats
from .bayes import divergence, expected_log
from .class_fit import SkillFit, normalise, reliability_of, weighted_tally
from .settings import check_finite, check_restarts, check_rounds, check_whole
from .votes import Votes, checked_gold


@dataclass(frozen=True, eq=False)
class MACEFit(SkillFit):
    """``skill`` is the competence theta (labelers,); ``strategy`` xi (labelers, classes): answers when spamming."""

    strategy: Floats


@dataclass(frozen=True)
class MACE:
    """Hovy, Berg-Kirkpatrick, Vaswani & Hovy, Learning Whom to Trust with MACE (NAACL 2013).

    Truth T of an item is uniform over the K classes. On each vote, labeler l knows with probability theta_l and
    answers T, or spams and draws the answer from xi_l (classes,), whatever T is: the vote has probability
    theta_l [a = T] + (1 - theta_l) xi_l[a] (the terms of their equation 1). Fitted by variational Bayes
    with theta_l ~ Beta(``competence_votes``, ``competence_votes``) and
    xi_l ~ Dirichlet(``strategy_votes``): parameters are exp(E log) of prior plus expected counts.
    ``skill`` and ``strategy`` are posterior means; ``log_likelihood`` is the lower bound on the log evidence, by
    which the best of ``restarts`` is chosen. The first start (everybody knows half the time, strategies flat)
    is not random; further restarts draw from the given generator.

    For crowds with spammers, and few votes a labeler. Strategies lean on flat by ten votes a class, as Crowd-Kit's
    do; the paper leaves the number open. Cost: ``restarts * iterations * votes``.
    """

    competence_votes: float = 0.5
    strategy_votes: float = 10.0
    restarts: int = 1
    iterations: int = 50
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        check_finite(self, "competence_votes", "strategy_votes", above=0.0)
        check_whole(self, "restarts")
        # With none the start is told, which is no posterior yet.
        check_rounds(self, least=0)

    def fit(
        self, votes: Votes, *, gold: ArrayLike | None = None, rng: np.random.Generator | None = None
    ) -> MACEFit:
        """Fit; ``gold`` ``(items,)`` holds known classes, -1 elsewhere. ``rng`` draws the starts after the first.

        Raises ValueError for more than one start without ``rng``.
        """
        check_restarts(self, rng)
        known = checked_gold(gold, votes)
        flat = np.full((votes.labelers, votes.classes), 1.0 / votes.classes)
        fits = [self._fit(votes, known, np.full((votes.labelers, 2), 0.5), flat)]
        if rng is not None:
            # Between one and two and a half parts each, then scaled: near the middle, as the authors' code starts.
            for _ in range(self.restarts - 1):
                knows = rng.uniform(1.0, 2.5, (votes.labelers, 2))
                spams = rng.uniform(1.0, 2.5, flat.shape)
                fits.append(self._fit(votes, known, _scaled(knows), _scaled(spams)))
        return max(fits, key=lambda fit: fit.log_likelihood)

    def _fit(self, votes: Votes, known: NDArray[np.int64], knows: Floats, strategy: Floats) -> MACEFit:
        """Fit from ``knows`` (labelers, [spams, knows]) and ``strategy`` (labelers, classes)."""
        voted = votes.per_item() > 0
        cell, flat_vote = votes.cell(), votes.labeler.astype(np.int64) * votes.classes + votes.choice
        posterior, bound, prior_divergence, done = np.zeros((0, 0)), -np.inf, 0.0, 0
        behind_knows, behind_strategy = knows, strategy
        for done in range(1, self.iterations + 2):
            spam = knows[votes.labeler, 0] * np.take(strategy, flat_vote)
            known_right = knows[votes.labeler, 1]
            logits: Floats = weighted_tally(votes, np.log1p(known_right / spam)) - np.log(votes.classes)
            if_all_spam = np.bincount(votes.item, weights=np.log(spam), minlength=votes.items)
            logits = np.asarray(logits + if_all_spam[:, None])
            posterior, log_sum = normalise(logits, known, out=logits)
            before, bound = bound, float(log_sum[voted].sum()) - prior_divergence
            # The first bound is of the start, which is no posterior: nothing to compare with.
            if done > self.iterations or (done > 2 and abs(bound - before) < self.tolerance * len(votes)):
                break
            right = np.take(posterior, cell) * known_right / (spam + known_right)
            right_counts = np.bincount(votes.labeler, weights=right, minlength=votes.labelers)
            spam_counts = np.bincount(flat_vote, weights=1.0 - right, minlength=strategy.size)
            spam_counts = spam_counts.reshape(strategy.shape)
            behind_knows = self.competence_votes + np.stack([spam_counts.sum(axis=1), right_counts], axis=1)
            behind_strategy = np.asarray(self.strategy_votes + spam_counts, dtype=np.float64)
            knows = np.asarray(np.exp(expected_log(behind_knows)))
            strategy = np.asarray(np.exp(expected_log(behind_strategy)))
            prior_divergence = divergence(
                behind_knows, np.full_like(behind_knows, self.competence_votes)
            ) + divergence(behind_strategy, np.full_like(behind_strategy, self.strategy_votes))
        return MACEFit(
            posterior,
            reliability_of(votes, posterior),
            np.full(votes.classes, 1.0 / votes.classes),
            bound,
            done - 1,
            _scaled(behind_knows)[:, 1],
            _scaled(behind_strategy),
        )


def _scaled(weight: Floats) -> Floats:
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))
