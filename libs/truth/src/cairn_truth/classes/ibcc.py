"""Independent Bayesian classifier combination: Dawid & Skene with priors on everything, integrated over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .bayes import divergence, expected_log
from .class_fit import ConfusionFit, mass, moved, normalise, reliability_of, shares
from .dawid_skene import clamp
from .settings import check_finite, check_rounds
from .votes import Votes, checked_gold


@dataclass(frozen=True)
class IBCC:
    """Kim & Ghahramani, Bayesian Classifier Combination (AISTATS 2012), by variational Bayes.

    Truth z of an item ~ p, p ~ Dirichlet(``prior_votes``) over the classes; labeler l answers with row z of
    their confusion, row k ~ Dirichlet(beta_k) where beta holds ``right_votes`` on the diagonal and
    ``wrong_votes`` off it. The paper samples with Gibbs; the mean-field updates here are those of Simpson,
    Roberts, Psorakis & Smith (2013): q(z=k) in proportion to exp(E log p_k + sum over votes of
    E log confusion), and Dirichlets of prior plus expected counts. ``confusion`` (labelers, truth, answer) and
    ``prior`` are posterior means; ``log_likelihood`` is the lower bound on the log evidence. Defaults and end
    (no posterior moved by ``tolerance``) are Li, Rubinstein & Cohn's. The priors keep a labeler with few votes
    near the mean, so it degrades more gently than `DawidSkene`. Cost: ``iterations *
    (votes * classes + labelers * classes^2)``.
    """

    right_votes: float = 4.0
    wrong_votes: float = 1.0
    prior_votes: float = 1.0
    iterations: int = 500
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        check_finite(self, "right_votes", "wrong_votes", "prior_votes", above=0.0)
        check_rounds(self)

    def fit(self, votes: Votes, *, gold: ArrayLike | None = None) -> ConfusionFit:
        """Fit from majority vote; ``gold`` ``(items,)`` holds known classes, -1 elsewhere."""
        known = checked_gold(gold, votes)
        incidence = votes.incidence()
        by_item = incidence.T
        shape = (votes.labelers, votes.classes, votes.classes)  # labeler, answer, truth
        beta = self.wrong_votes + (self.right_votes - self.wrong_votes) * np.eye(votes.classes)
        voted = votes.per_item() > 0
        posterior = clamp(shares(votes.tally()), known)
        nu, mu, log_sum, done = np.zeros(votes.classes), np.zeros(shape), np.zeros(votes.items), 0
        for done in range(1, self.iterations + 1):  # noqa: B007 - the count is reported
            nu = self.prior_votes + mass(posterior, voted)
            mu = beta + (incidence @ posterior).reshape(shape)
            logits = by_item @ expected_log(mu, axis=1).reshape(-1, votes.classes)
            fresh, log_sum = normalise(logits, known, log_prior=expected_log(nu), out=logits)
            still = moved(posterior, fresh) < self.tolerance
            posterior = fresh
            if still:
                break
        bound = float(log_sum[voted].sum()) - divergence(mu, beta, axis=1)
        bound -= divergence(nu, np.full_like(nu, self.prior_votes))
        confusion = (mu / mu.sum(axis=1, keepdims=True)).transpose(0, 2, 1)
        return ConfusionFit(
            posterior, reliability_of(votes, posterior), nu / nu.sum(), bound, done, confusion
        )
