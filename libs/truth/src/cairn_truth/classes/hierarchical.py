"""Dawid & Skene with priors learnt from the whole crowd: a confusion for each labeler, to be read.

What plain Dawid-Skene lacks, and what is added here (`blocks` adds more, and is the default):

* **A labeler with few answers leans on the crowd.** A labeler's confusion has a Dirichlet prior whose mean is the
  population's confusion, moved on the log-odds scale by the labeler's own overall skill; that skill is in turn
  drawn towards the crowd's. A labeler never seen before *is* the population.
* **The class prior is learnt**, with a Dirichlet prior of its own so that a rare class is not emptied.
* **Answers to one item are not independent**: items differ in difficulty, so n answers tell less than n times
  one. The evidence of n people is divided by 1 + rho (n - 1), the design effect of cluster samples (Kish 1965)
  with rho the correlation within an item. The M-step uses the undivided evidence.
* **Gold is clamped.**

The model is fitted by expectation-maximisation to the penalised likelihood, always from majority vote, over votes
in sorted order: the same votes give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..columns import Floats, Ints
from .class_fit import ConfusionFit, mass, moved, normalise, reliability_of
from .dawid_skene import clamp, softmax
from .leaning import moved_by_skill, symmetric, with_slips
from .settings import check_finite, check_rounds
from .votes import Votes, checked_gold

ALGORITHM = "HierarchicalDawidSkene"
VERSION = "3"
"""Changes whenever the same votes may give another posterior; it is written into every label's provenance."""


@dataclass(frozen=True, eq=False)
class HierarchicalFit(ConfusionFit):
    """``posterior`` is of thinned evidence; ``log_likelihood`` of all of it, and of none of the priors.

    ``stranger`` (truth, answer): the confusion of a labeler never seen before. ``seen`` (labelers,): the votes that
    taught each labeler's. ``evidence`` (items, classes): summed log-likelihoods of the ``votes`` (items,) on each item,
    not thinned. ``settled``: whether it came to rest before the last of its rounds.
    """

    stranger: Floats
    seen: Floats
    evidence: Floats
    votes: Ints
    settled: bool


@dataclass(frozen=True)
class HierarchicalDawidSkene:
    """Dawid-Skene with a prior learnt from the crowd; its numbers are in units of votes, one set for all data.

    ``skill_strength``: how many votes a labeler needs before own skill weighs as much as the crowd's. It also
    keeps a young fit from praising labelers for agreeing with each other. ``confusion_strength``: the same for
    each row of the confusion. ``population_strength`` and ``population_accuracy``: the crowd before anybody
    voted. ``prior_strength``: votes behind a uniform class prior, per class. ``correlation``: rho above.
    """

    skill_strength: float = 80.0
    confusion_strength: float = 2.0
    population_strength: float = 20.0
    population_accuracy: float = 0.7
    prior_strength: float = 25.0
    correlation: float = 0.15
    iterations: int = 60
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        check_finite(
            self,
            *("skill_strength", "confusion_strength", "population_strength", "prior_strength"),
            above=0.0,
        )
        check_finite(self, "population_accuracy", "correlation", least=0.0, most=1.0)
        check_rounds(self)

    def fit(self, votes: Votes, *, gold: ArrayLike | None = None) -> HierarchicalFit:
        """Fit from majority vote; ``gold`` ``(items,)`` holds known classes, -1 elsewhere.

        Cost: ``iterations * (votes * classes + labelers * classes^2)``.
        """
        known = checked_gold(gold, votes)
        incidence = votes.incidence()
        by_item = incidence.T.tocsr()
        shape = (votes.labelers, votes.classes, votes.classes)  # labeler, answer, truth
        voted = votes.per_item()
        # Half a vote spread over all classes: one vote alone is not yet certainty.
        posterior = clamp((votes.tally() + 0.5 / votes.classes) / (voted + 0.5)[:, None], known)
        # A vote that stands alone agrees with itself whatever its labeler's skill: it says nothing of it.
        tells = ((voted >= 2) | (known >= 0))[:, None]
        likelihood, counts, prior = np.zeros(shape), np.zeros(shape), np.zeros(votes.classes)
        evidence, log_sum, settled, done = np.zeros_like(posterior), np.zeros(0), False, 0
        for done in range(1, self.iterations + 1):  # noqa: B007 - the count is reported
            counts = (incidence @ (posterior * tells)).reshape(shape)
            likelihood = self._likelihood(counts)
            prior = mass(posterior, voted > 0) + self.prior_strength
            prior = prior / prior.sum()
            evidence = by_item @ np.log(likelihood).reshape(-1, votes.classes)
            fresh, log_sum = normalise(evidence, known, log_prior=np.log(prior))
            settled = moved(posterior, fresh) < self.tolerance
            posterior = fresh
            if settled:
                break
        tempered = clamp(self.posterior(prior, evidence, voted), known)
        return HierarchicalFit(
            tempered,
            reliability_of(votes, tempered),
            prior,
            float(log_sum[voted > 0].sum()),
            done,
            likelihood.transpose(0, 2, 1),
            self.stranger(counts),
            counts.sum(axis=(1, 2)),
            evidence,
            voted,
            settled,
        )

    def posterior(self, prior: Floats, evidence: Floats, votes: Ints) -> Floats:
        """Return the posterior ``(items, classes)`` of summed log-likelihoods, thinned; ``votes`` (items,) counts them."""
        return softmax(np.log(prior) + evidence / self.design_effect(votes)[:, None])

    def design_effect(self, votes: Ints) -> Floats:
        """Return what the evidence of so many votes on one item is divided by; 1 for one vote."""
        return np.asarray(1.0 + self.correlation * np.maximum(votes - 1, 0))

    def stranger(self, counts: Floats) -> Floats:
        """Return the confusion ``(truth, answer)`` of a labeler never seen before.

        ``counts`` (labelers, answer, truth): everybody's expected votes; of no labelers it is what is assumed.
        """
        return np.asarray(with_slips(self._population(counts)[None])[0].T)

    def _likelihood(self, counts: Floats) -> Floats:
        """M-step: expected votes ``(labelers, answer, truth)`` to each labeler's chance of answers."""
        population = np.broadcast_to(self._population(counts), counts.shape)
        centre = moved_by_skill(counts, population, self.skill_strength)
        weight = counts + self.confusion_strength * centre
        return with_slips(weight / weight.sum(axis=1, keepdims=True))

    def _population(self, counts: Floats) -> Floats:
        """Return the confusion ``(answer, truth)`` of the crowd: pooled counts on a symmetric prior."""
        pooled = counts.sum(axis=0)
        right = float(np.trace(pooled)) + self.population_strength * self.population_accuracy
        accuracy = right / (float(pooled.sum()) + self.population_strength)
        weight = pooled + self.population_strength * symmetric(len(pooled), accuracy)
        return np.asarray(weight / weight.sum(axis=0))
