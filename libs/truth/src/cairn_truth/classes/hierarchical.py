"""The default: Dawid & Skene with priors learnt from the whole crowd, and posteriors fit to be spent.

What plain Dawid-Skene lacks, and what is added here:

* **A labeler with few answers leans on the crowd.** A labeler's confusion has a Dirichlet prior whose mean is the
  population's confusion, moved on the log-odds scale by the labeler's own overall skill; that skill is in turn
  drawn towards the crowd's. A labeler never seen before *is* the population. People and models are two
  populations.
* **The class prior is learnt**, with a Dirichlet prior of its own so that a rare class is not emptied.
* **Answers to one item are not independent**: items differ in difficulty, so n answers tell less than n times
  one. The evidence of n people is divided by 1 + rho (n - 1), the design effect of cluster samples (Kish 1965)
  with rho the correlation within an item. A model finds other things hard than people do: its vote is added
  whole, and thins nobody's. The M-step uses the undivided evidence.
* **Gold is clamped.**

The model is fitted by expectation-maximisation to the penalised likelihood, always from majority vote, over votes
in sorted order: the same votes give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..columns import Floats
from .dawid_skene import clamp, softmax
from .reliabilities import checked_population
from .votes import Votes, checked_gold

ALGORITHM = "HierarchicalDawidSkene"
VERSION = "2"
"""Changes whenever the same votes may give another posterior; it is written into every label's provenance."""

_ODDS_FLOOR = 1e-3
"""No labeler's skill is taken to be more than 99.9 % right or wrong: nobody has shown that."""

_SLIP = 1e-3
"""Once in a thousand answers anybody presses any key: no single vote can rule a class out."""


class Skills(NamedTuple):
    """How a fit sees its labelers: ``expected`` (labelers, answer, truth) pseudo-counts behind ``likelihood``."""

    counts: Floats
    likelihood: Floats
    population: Floats


@dataclass(frozen=True)
class Reliabilities:
    """What is known of every labeler's errors: enough to weigh a vote, whoever casts it.

    ``likelihood`` (labelers, answer, truth): chance of each answer given each truth; columns over ``answer`` sum
    to one. ``counts`` (labelers, answer, truth): the expected votes behind it. ``population`` (populations,
    answer, truth): the confusion of a labeler of that population never seen before. ``prior`` (classes,).
    """

    likelihood: Floats
    counts: Floats
    population: Floats
    prior: Floats

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(self.prior.size)


@dataclass(frozen=True)
class HierarchicalFit:
    """``posterior`` (items, classes), tempered; ``evidence`` (items, classes) log-likelihoods, not tempered."""

    posterior: Floats
    evidence: Floats
    votes: NDArray[np.int64]
    reliabilities: Reliabilities
    iterations: int


@dataclass(frozen=True)
class HierarchicalDawidSkene:
    """The default aggregation of class votes; the numbers are priors in units of votes, one set for all data.

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

    def fit(
        self,
        votes: Votes,
        *,
        gold: ArrayLike | None = None,
        population: ArrayLike | None = None,
    ) -> HierarchicalFit:
        """Fit to all votes at once. Cost: ``iterations * votes * classes``.

        ``gold`` ``(items,)`` holds known classes, -1 elsewhere. ``population`` ``(labelers,)`` says which
        population each labeler is of (0 people, 1 models; None: all people).
        """
        known = checked_gold(gold, votes.items, votes.classes)
        group = checked_population(population, votes.labelers)
        incidence = votes.incidence()
        by_item = incidence.T.tocsr()
        shape = (votes.labelers, votes.classes, votes.classes)
        voted = votes.per_item()
        # Half a vote spread over all classes: one vote alone is not yet certainty.
        posterior = clamp((votes.tally() + 0.5 / votes.classes) / (voted + 0.5)[:, None], known)
        # A vote that stands alone agrees with itself whatever its labeler's skill: it says nothing of it.
        tells = ((voted >= 2) | (known >= 0))[:, None]
        skills, prior, evidence, done = self._cold(votes.classes), np.zeros(0), np.zeros((0, 0)), 0
        for done in range(1, self.iterations + 1):  # noqa: B007 - the count is reported
            skills = self._skills((incidence @ (posterior * tells)).reshape(shape), group)
            prior = self._prior(posterior[voted > 0])
            evidence = by_item @ np.log(skills.likelihood).reshape(-1, votes.classes)
            fresh = clamp(softmax(np.log(prior) + evidence), known)
            moved = float(np.abs(fresh - posterior).max(initial=0.0))
            posterior = fresh
            if moved < self.tolerance:
                break
        reliabilities = Reliabilities(skills.likelihood, skills.counts, skills.population, prior)
        people = (group == 0)[:, None, None] * np.log(skills.likelihood)
        by_people = by_item @ people.reshape(-1, votes.classes)
        asked = np.bincount(votes.item[group[votes.labeler] == 0], minlength=votes.items)
        tempered = clamp(self.posterior(prior, by_people, asked, evidence - by_people), known)
        return HierarchicalFit(tempered, evidence, voted, reliabilities, done)

    def cold(self, classes: int) -> Reliabilities:
        """Return what is believed before the first vote: no labelers, the assumed population, a flat prior."""
        skills = self._cold(classes)
        return Reliabilities(
            skills.likelihood, skills.counts, skills.population, np.full(classes, 1.0 / classes)
        )

    def posterior(
        self, prior: Floats, by_people: Floats, people: NDArray[np.int64], by_models: Floats
    ) -> Floats:
        """Return the tempered posterior ``(items, classes)``.

        ``by_people`` and ``by_models`` are the summed log-likelihoods of their votes; ``people`` (items,) counts
        the former.
        """
        return softmax(np.log(prior) + by_people / self.design_effect(people)[:, None] + by_models)

    def design_effect(self, people: NDArray[np.int64]) -> Floats:
        """Return what the evidence of so many people's votes on one item is divided by; 1 for one vote."""
        return np.asarray(1.0 + self.correlation * np.maximum(people - 1, 0))

    def _prior(self, posterior: Floats) -> Floats:
        mass = posterior.sum(axis=0) + self.prior_strength
        return np.asarray(mass / mass.sum())

    def _cold(self, classes: int) -> Skills:
        nobody = np.zeros((0, classes, classes))
        return self._skills(nobody, np.zeros(0, np.int64))

    def _skills(self, counts: Floats, group: NDArray[np.int64]) -> Skills:
        """M-step: expected votes ``(labelers, answer, truth)`` to each labeler's chance of answers."""
        classes = counts.shape[1]
        populations = np.stack([self._population(counts[group == g].sum(axis=0)) for g in (0, 1)])
        centre = self._own_centre(counts, populations[group]) if counts.size else counts
        weight = counts + self.confusion_strength * centre
        likelihood = weight / weight.sum(axis=1, keepdims=True) if counts.size else weight
        return Skills(counts, _with_slips(likelihood.reshape(-1, classes, classes)), _with_slips(populations))

    def _population(self, counts: Floats) -> Floats:
        """Return the confusion ``(answer, truth)`` of a crowd: pooled counts on a symmetric prior."""
        classes = counts.shape[0]
        right = float(np.trace(counts)) + self.population_strength * self.population_accuracy
        accuracy = right / (float(counts.sum()) + self.population_strength)
        if classes == 1:
            return np.ones((1, 1))
        symmetric = np.full((classes, classes), (1.0 - accuracy) / (classes - 1))
        np.fill_diagonal(symmetric, accuracy)
        pooled = counts + self.population_strength * symmetric
        return np.asarray(pooled / pooled.sum(axis=0))

    def _own_centre(self, counts: Floats, population: Floats) -> Floats:
        """Return each labeler's prior mean: the population's confusion with the labeler's odds of being right.

        The labeler's share of right answers is compared with what the population would reach on the same truths;
        the ratio of the two odds moves every diagonal element, errors keep their proportions.
        """
        classes = counts.shape[1]
        if classes == 1:
            return population
        diagonal = np.arange(classes)
        votes = counts.sum(axis=(1, 2))
        right = counts[:, diagonal, diagonal].sum(axis=1)
        typical = population[:, diagonal, diagonal]
        expected = (counts.sum(axis=1) * typical).sum(axis=1)
        safe = np.maximum(votes, 1e-9)
        par = _inner(np.where(votes > 0, expected / safe, typical.mean(axis=1)))
        share = _inner((right + self.skill_strength * par) / (votes + self.skill_strength))
        ratio = (share / (1.0 - share)) / (par / (1.0 - par))
        typical = _inner(typical)
        odds = typical / (1.0 - typical) * ratio[:, None]
        own = odds / (1.0 + odds)
        centre = population * ((1.0 - own) / (1.0 - typical))[:, None, :]
        centre[:, diagonal, diagonal] = own
        return np.asarray(centre / centre.sum(axis=1, keepdims=True))


def _with_slips(likelihood: Floats) -> Floats:
    return np.asarray((1.0 - _SLIP) * likelihood + _SLIP / likelihood.shape[1])


def _inner(probability: Floats) -> Floats:
    return np.clip(probability, _ODDS_FLOOR, 1.0 - _ODDS_FLOOR)
