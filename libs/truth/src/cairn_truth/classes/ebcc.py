"""Enhanced Bayesian classifier combination: labelers who err together on the same kinds of item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..columns import Floats
from .bayes import divergence, expected_log
from .class_fit import ConfusionFit, mass, moved, normalise, reliability_of, shares
from .dawid_skene import clamp
from .settings import check_finite, check_restarts, check_rounds, check_whole
from .votes import Votes, checked_gold


@dataclass(frozen=True)
class EBCC:
    """Li, Rubinstein & Cohn, Exploiting Worker Correlation for Label Aggregation (ICML 2019).

    An item has a true class z ~ tau and, within it, one of M subtypes g ~ pi_z; labeler l answers with row z
    of a confusion that depends on the subtype: v_l[z, g]. Labelers are independent given (z, g), but
    correlated given z alone. Priors: tau ~ Dirichlet(``prior_votes``), pi_k ~ Dirichlet(``subtype_votes`` /
    M), v_l[k, m] ~ Dirichlet(beta_k) with ``right_votes`` on the diagonal and ``wrong_votes`` off it.
    Mean-field updates: q(z=k, g=m) in proportion to exp(E log tau_k + E log pi_km + sum over votes of E log
    v), Dirichlets of prior plus expected counts. ``posterior`` is q summed over g; ``confusion`` (labelers,
    truth, answer) the posterior mean with subtypes weighed by their share; ``log_likelihood`` the lower
    bound on the log evidence, by which the best of ``restarts`` is chosen.

    Subtypes must start unequal, and where they start may decide where they end. The first start is a fixed
    mixture without randomness; further restarts draw from the given generator. For ten answers an item and
    more; with fewer, subtypes are guesses, a higher bound need not be a better label (`web` in the README),
    and with one answer an item whole classes may merge. Memory: ``items * classes * M + labelers * classes^2
    * M``; cost: ``restarts * iterations * M * (votes * classes + labelers * classes^2)``.
    """

    subtypes: int = 10
    subtype_votes: float = 0.1
    right_votes: float = 4.0
    wrong_votes: float = 1.0
    prior_votes: float = 1.0
    restarts: int = 1
    iterations: int = 500
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        check_whole(self, "subtypes", "restarts")
        check_finite(self, "subtype_votes", "right_votes", "wrong_votes", "prior_votes", above=0.0)
        check_rounds(self)

    def fit(
        self, votes: Votes, *, gold: ArrayLike | None = None, rng: np.random.Generator | None = None
    ) -> ConfusionFit:
        """Fit; ``gold`` ``(items,)`` holds known classes, -1 elsewhere. ``rng`` draws the starts after the first.

        Raises ValueError for more than one start without ``rng``.
        """
        check_restarts(self, rng)
        known = checked_gold(gold, votes)
        size = (votes.items, votes.classes, self.subtypes)
        fits = [self._fit(votes, known, _spread(size))]
        if rng is not None:
            starts = (rng.standard_exponential(size) for _ in range(self.restarts - 1))
            fits += [self._fit(votes, known, start / start.sum(axis=2, keepdims=True)) for start in starts]
        return max(fits, key=lambda fit: fit.log_likelihood)

    def _fit(self, votes: Votes, known: NDArray[np.int64], split: Floats) -> ConfusionFit:
        items, classes, subtypes = split.shape
        incidence = votes.incidence()
        by_item = incidence.T
        voted = votes.per_item() > 0
        states = classes * subtypes
        class_of_state = np.repeat(np.arange(classes), subtypes)
        beta = (self.wrong_votes + (self.right_votes - self.wrong_votes) * np.eye(classes))[:, class_of_state]
        given = np.flatnonzero(known >= 0)
        impossible = known[given, None] != class_of_state
        posterior = clamp(shares(votes.tally()), known)
        joint = (split * posterior[:, :, None]).reshape(items, states)
        eta, nu, mu = np.zeros((classes, subtypes)), np.zeros(classes), np.zeros((0, classes, states))
        log_sum, done = np.zeros(items), 0
        for done in range(1, self.iterations + 1):  # noqa: B007 - the count is reported
            eta = self.subtype_votes / subtypes + mass(joint, voted).reshape(classes, subtypes)
            nu = self.prior_votes + mass(posterior, voted)
            mu = beta + (incidence @ joint).reshape(votes.labelers, classes, states)  # labeler, answer, state
            logits = by_item @ expected_log(mu, axis=1).reshape(-1, states)
            logits[given] = np.where(impossible, -np.inf, logits[given])
            log_prior = (expected_log(nu)[:, None] + expected_log(eta)).ravel()
            joint, log_sum = normalise(logits, log_prior=log_prior, out=logits)
            fresh = np.einsum("ikm->ik", joint.reshape(items, classes, subtypes))
            still = moved(posterior, fresh) < self.tolerance
            posterior = fresh
            if still:
                break
        bound = float(log_sum[voted].sum()) - divergence(mu, beta, axis=1)
        bound -= divergence(eta, np.full_like(eta, self.subtype_votes / subtypes))
        bound -= divergence(nu, np.full_like(nu, self.prior_votes))
        share = (eta / eta.sum(axis=1, keepdims=True)).reshape(states)
        by_state = mu / mu.sum(axis=1, keepdims=True) * share
        confusion = (
            by_state.reshape(votes.labelers, classes, classes, subtypes).sum(axis=3).transpose(0, 2, 1)
        )
        return ConfusionFit(
            posterior, reliability_of(votes, posterior), nu / nu.sum(), bound, done, confusion
        )


def _spread(size: tuple[int, int, int]) -> Floats:
    """Return each item's and class's first shares of the subtypes: as uneven as a flat Dirichlet's, but not drawn.

    Each place is numbered, the number mixed bit by bit (the finaliser of SplitMix64; Steele, Lea & Flood 2014) and
    read as a uniform variable, that as an exponential one, and those are scaled to one.
    """
    place = np.arange(1, np.prod(size) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    place = (place ^ (place >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    place = (place ^ (place >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    place ^= place >> np.uint64(31)
    uniform = ((place >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    waiting = -np.log(uniform).reshape(size)
    return np.asarray(waiting / waiting.sum(axis=2, keepdims=True))
