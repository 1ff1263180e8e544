"""The default: Dawid & Skene with kinds of items, communities of labelers, and posteriors fit to be spent.

What plain Dawid-Skene lacks, and what is added here:

* **Items are easy or hard** (subtypes, as in EBCC, Li et al., ICML 2019). A labeler has a confusion for each kind, so
  that votes on an item on which everybody wavers are not taken for votes of people who know. The share of hard items is
  the same in every class: else hard items of all classes gather in one.
* **Labelers come in two communities** (Venanzi et al., WWW 2014): those who try and those who do not, say. A labeler
  with few votes leans on the community's confusion, moved on the log-odds scale by own skill; a community leans on the
  crowd. Somebody never seen before is the crowd. Models are a population of their own.
* **The class prior is learnt**, with a Dirichlet prior so that a rare class is not emptied.
* **Votes on one item are not independent**: the evidence of n people is divided by 1 + rho (n - 1), the design effect
  of cluster samples (Kish 1965). A model finds other things hard than people do: its vote is added whole.
* **The posterior is pooled** with the majority, each vote counting by its labeler's accuracy: a logarithmic opinion
  pool (Genest & Zidek 1986). Where the model is wrong about a crowd it is usually surer than the majority, and wrong. A
  little of each posterior is kept back for mistakes that a whole crowd shares; crowds that err more share more.
* **Gold is clamped.**

Fitted by expectation-maximisation to the penalised likelihood, always from majority vote, over votes in sorted order:
the same votes give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..columns import Floats, Ints
from .block_learning import HALF_A_VOTE, MOST_CONFUSED, CoinLearner, ConfusionLearner, voted_shares
from .class_fit import expected_right, mass, moved, normalise, weighted_tally
from .dawid_skene import clamp
from .reliabilities import PEOPLE, Reliabilities, checked_population
from .votes import Votes, checked_gold

ALGORITHM = "BlockDawidSkene"
VERSION = "1"
"""Changes whenever the same votes may give another posterior; it is written into every label's provenance."""

_LEAST = float(np.finfo(np.float64).tiny)


class Heard(NamedTuple):
    """What votes on items say, summed: what a posterior is made of.

    ``by_people`` and ``by_models`` (items, kinds, classes) log-likelihoods, the latter None if no model voted; ``tally``
    (items, classes) people's votes, each counting by its labeler's accuracy; ``people`` (items,) how many.
    """

    by_people: Floats
    by_models: Floats | None
    tally: Floats
    people: Ints


@dataclass(frozen=True)
class BlockFit:
    """``posterior`` (items, classes); ``reliability`` (labelers,) the expected share of right votes, nan without."""

    posterior: Floats
    reliability: Floats
    reliabilities: Reliabilities
    iterations: int

    @property
    def prior(self) -> Floats:
        """The class prior ``(classes,)``."""
        return self.reliabilities.prior


@dataclass(frozen=True)
class BlockDawidSkene:
    """The default aggregation of class votes; one set of numbers for all data, most of them in units of votes.

    ``confusion_strength``: votes behind each row of a labeler's confusion; ``skill_strength``: behind a labeler's
    overall skill; ``community_strength``: behind a row of a community's confusion; ``population_strength``: behind the
    crowd's, and behind a labeler's accuracy; ``prior_strength``: behind a uniform class prior, per class.
    ``correlation``: rho above. ``model_weight`` and ``majority_weight``: exponents of the pool. ``shared_mistakes``:
    how often a whole crowd is wrong together, as a share of how often its members err.
    """

    confusion_strength: float = 6.0
    skill_strength: float = 40.0
    community_strength: float = 30.0
    population_strength: float = 20.0
    prior_strength: float = 25.0
    correlation: float = 0.03
    model_weight: float = 0.55
    majority_weight: float = 0.5
    shared_mistakes: float = 0.03
    iterations: int = 60
    tolerance: float = 1e-4

    def fit(
        self,
        votes: Votes,
        *,
        gold: ArrayLike | None = None,
        population: ArrayLike | None = None,
    ) -> BlockFit:
        """Fit to all votes at once. Cost: ``iterations * votes * classes``.

        ``gold`` ``(items,)`` holds known classes, -1 elsewhere. ``population`` ``(labelers,)`` says which
        population each labeler is of (0 people, 1 models; None: all people).
        """
        known = checked_gold(gold, votes.items, votes.classes)
        group = checked_population(population, votes.labelers)
        if votes.classes > MOST_CONFUSED:
            learner: ConfusionLearner | CoinLearner = CoinLearner(self, votes, group)
        else:
            learner = ConfusionLearner(self, votes, group)
        voted = votes.per_item()
        people = np.bincount(votes.item[group[votes.labeler] == PEOPLE], minlength=votes.items)
        # How much each vote counts in the E-step, and in the M-step: a vote that stands alone agrees with itself whatever
        # its labeler's skill, and says nothing of it.
        heeded = np.where(group[votes.labeler] == PEOPLE, (1.0 / self.design_effect(people))[votes.item], 1.0)
        tells = ((voted >= 2) | (known >= 0)).astype(np.float64)[votes.item]
        counted = voted > 0
        joint = _clamped(learner.first(voted_shares(votes)), known, votes.classes)
        done = 0
        for done in range(1, self.iterations + 1):  # noqa: B007 - the count is reported
            learner.learn(joint, tells)
            log_prior = learner.log_prior(mass(joint, counted))
            said = learner.evidence(heeded)
            fresh = _clamped(normalise(said, log_prior=log_prior, out=said)[0], known, votes.classes)
            still = moved(joint, fresh) < self.tolerance
            joint = fresh
            if still:
                break
        by_people, by_models = learner.spoken()
        # The number of kinds is said, for of no items it cannot be told.
        shape = (votes.items, joint.shape[1] // votes.classes, votes.classes)
        posterior = joint.reshape(shape).sum(axis=1)
        reliabilities = learner.reliabilities(mass(joint, counted), posterior)
        weight = np.where(group == PEOPLE, reliabilities.right[: votes.labelers], 0.0)[votes.labeler]
        heard = Heard(
            by_people.reshape(shape),
            None if by_models is None else by_models.reshape(shape),
            weighted_tally(votes, weight),
            people,
        )
        label = clamp(self.posterior(reliabilities, heard), known)
        cast = votes.per_labeler()
        right = expected_right(votes, label)
        reliability = np.where(cast > 0, right / np.maximum(cast, 1), np.nan)
        return BlockFit(label, reliability, reliabilities, done)

    def cold(self, classes: int) -> Reliabilities:
        """Return what is believed before the first vote: no labelers, the assumed crowd, a flat prior."""
        nobody = Votes.of([], [], [], classes=classes, items=0, labelers=0)
        group = np.zeros(0, dtype=np.int64)
        learner = (CoinLearner if classes > MOST_CONFUSED else ConfusionLearner)(self, nobody, group)
        joint = learner.first(np.zeros((0, classes)))
        learner.learn(joint, np.zeros(0))
        return learner.reliabilities(joint.sum(axis=0), np.zeros((0, classes)))

    def posterior(self, known: Reliabilities, heard: Heard) -> Floats:
        """Return the pooled posterior ``(items, classes)`` of what was heard."""
        logits = known.log_prior + heard.by_people / self.design_effect(heard.people)[:, None, None]
        crowd = _over_kinds(logits)
        mean = float(known.right[known.stranger(PEOPLE)])
        doubt = self.shared_mistakes * (1.0 - mean)
        believed = (1.0 - doubt) * crowd + doubt / known.classes
        half = HALF_A_VOTE * mean
        share = (heard.tally + half / known.classes) / (np.add.reduce(heard.tally, 1)[:, None] + half)
        said = self._pool(believed, share, heard.tally > 0.0)
        if not heard.people.all():
            said = np.where(heard.people[:, None] > 0, said, np.log(crowd))
        if heard.by_models is not None:
            said = said + np.log(_over_kinds(logits + heard.by_models)) - np.log(crowd)
        return _over_kinds(said[:, None])

    def _pool(self, believed: Floats, share: Floats, voted: NDArray[np.bool_]) -> Floats:
        """Return the logs of the pool of posterior and share, not normalised.

        The classes that nobody chose are one in the pool, and share its part as the model has it: else, where there are
        hundreds of them, their sum would outweigh what was said.
        """
        unsaid = ~voted
        all_believed = np.where(voted, believed, np.add.reduce(believed * unsaid, 1)[:, None])
        all_share = np.where(voted, share, np.add.reduce(share * unsaid, 1)[:, None])
        # believed^a share^b of the one class, times the part of it.
        pooled = (self.model_weight - 1.0) * np.log(all_believed) + self.majority_weight * np.log(all_share)
        return np.asarray(pooled + np.log(believed))

    def design_effect(self, people: Ints) -> Floats:
        """Return what the evidence of so many people's votes on one item is divided by; 1 for one vote."""
        return np.asarray(1.0 + self.correlation * np.maximum(people - 1, 0))


def _clamped(joint: Floats, gold: Ints, classes: int) -> Floats:
    """Return joint posteriors with the classes of known items made certain; of which kind they are stays open."""
    known = np.flatnonzero(gold >= 0)
    if known.size == 0:
        return joint
    fixed = joint.copy().reshape(len(joint), -1, classes)
    own = fixed[known, :, gold[known]] + np.finfo(np.float64).tiny
    fixed[known] = 0.0
    fixed[known, :, gold[known]] = own / own.sum(axis=1, keepdims=True)
    return fixed.reshape(joint.shape)


def _over_kinds(logits: Floats) -> Floats:
    """Return the posterior ``(items, classes)`` of unnormalised ``(items, kinds, classes)``; none is quite 0."""
    most = np.maximum.reduce(logits, axis=(1, 2), keepdims=True)
    mass = np.add.reduce(np.exp(logits - most), 1) + _LEAST
    return np.asarray(mass / np.add.reduce(mass, 1)[:, None])
