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
  of cluster samples (Kish 1965). n counts votes by what they may tell: with w by how much a labeler is right more often
  than by chance, it is (sum w)^2 / sum w^2, so that guessers do not thin what those who know say. A model finds other
  things hard than people do: its vote is added whole.
* **The posterior is pooled** with the majority, each vote counting w, both with half their evidence: a logarithmic opinion
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
from scipy import sparse

from ..columns import Floats, Ints
from .block_learning import HALF_A_VOTE, learner_of, over_kinds, voted_shares
from .class_fit import ClassFit, mass, moved, normalise, reliability_of, weighted_tally
from .dawid_skene import clamp
from .reliabilities import PEOPLE, Reliabilities, checked_population, vote_weights
from .settings import check_finite, check_rounds
from .votes import Votes, checked_gold

ALGORITHM = "BlockDawidSkene"
VERSION = "2"
"""Changes whenever the same votes may give another posterior; it is written into every label's provenance."""

_LEAST = float(np.finfo(np.float64).tiny)

_BLOCK = 1 << 16
"""Items times classes that are made into posteriors at a time: half a megabyte, of which there are a dozen on the way."""


class Heard(NamedTuple):
    """What votes on items say, summed: what a posterior is made of.

    ``by_people`` and ``by_models`` (items, kinds, classes) log-likelihoods, the latter None if no model voted; ``tally``
    (items, classes) people's votes, each counting its labeler's `Reliabilities.weight`; ``squares`` (items,) the sum of
    these weights' squares, 0 where nobody but models voted.
    """

    by_people: Floats
    by_models: Floats | None
    tally: Floats
    squares: Floats

    def of(self, items: slice) -> Heard:
        """Return what was heard of these items."""
        by_models = None if self.by_models is None else self.by_models[items]
        return Heard(self.by_people[items], by_models, self.tally[items], self.squares[items])


@dataclass(frozen=True, eq=False)
class BlockFit(ClassFit):
    """``log_likelihood`` is that of votes thinned by the design effect, without priors, before the pool.

    ``reliabilities``: what was learnt of labelers, to weigh further votes by. ``settled``: whether it came to rest
    before the last of its rounds; most crowds do not, while what still moves matters little.
    """

    reliabilities: Reliabilities
    settled: bool


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
    correlation: float = 0.035
    model_weight: float = 0.5
    majority_weight: float = 0.5
    shared_mistakes: float = 0.03
    iterations: int = 60
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        strengths = [
            f"{part}_strength" for part in ("confusion", "skill", "community", "population", "prior")
        ]
        check_finite(self, *strengths, above=0.0)
        check_finite(self, "correlation", "shared_mistakes", least=0.0, most=1.0)
        check_finite(self, "model_weight", "majority_weight", least=0.0)
        check_rounds(self)

    def fit(
        self,
        votes: Votes,
        *,
        gold: ArrayLike | None = None,
        population: ArrayLike | None = None,
    ) -> BlockFit:
        """Fit to all votes at once. Cost: ``iterations * (votes * classes + labelers * classes^2)``.

        The second part is the labelers' confusions; where it would far exceed the first, and beyond 64 classes, labelers
        have one accuracy each (`learner_of`) and it is ``items * classes``. ``gold`` ``(items,)`` holds known classes, -1
        elsewhere. ``population`` ``(labelers,)`` says which population each labeler is of (0 people, 1 models; None: all
        people).
        """
        known = checked_gold(gold, votes)
        group = checked_population(population, votes.labelers)
        learner = learner_of(self, votes, group)
        voted = votes.per_item()
        # A vote that stands alone agrees with itself whatever its labeler's skill, and says nothing of it.
        tells = ((voted >= 2) | (known >= 0)).astype(np.float64)[votes.item]
        counted = voted > 0
        by_item = votes.labelers_by_item()
        joint, _ = _clamped(learner.first(voted_shares(votes)), known, votes.classes)
        likely, settled, done = 0.0, False, 0
        for done in range(1, self.iterations + 1):  # noqa: B007 - the count is reported
            learner.learn(joint, tells)
            log_prior = learner.log_prior(mass(joint, counted))
            said = learner.evidence(self._heeded(votes, group, by_item, learner.right(joint)))
            said, log_sum = normalise(said, log_prior=log_prior, out=said)
            fresh, log_known = _clamped(said, known, votes.classes)
            likely = float(log_sum.sum()) + log_known
            settled = moved(joint, fresh) < self.tolerance
            joint = fresh
            if settled:
                break
        by_people, by_models = learner.spoken()
        # The number of kinds is said, for of no items it cannot be told.
        shape = (votes.items, joint.shape[1] // votes.classes, votes.classes)
        posterior = over_kinds(joint, votes.classes)
        reliabilities = learner.reliabilities(mass(joint, counted), posterior)
        weight = np.where(group == PEOPLE, reliabilities.weight[: votes.labelers], 0.0)[votes.labeler]
        heard = Heard(
            by_people.reshape(shape),
            None if by_models is None else by_models.reshape(shape),
            weighted_tally(votes, weight),
            _summed(votes, weight * weight),
        )
        label = clamp(self.posterior(reliabilities, heard), known)
        return BlockFit(
            label,
            reliability_of(votes, label),
            reliabilities.prior,
            likely,
            done,
            reliabilities,
            settled,
        )

    def _heeded(self, votes: Votes, group: Ints, by_item: sparse.csr_matrix, right: Floats) -> Floats:
        """Return how much each vote counts in the E-step ``(votes,)``: a model's whole."""
        typical = float(right[votes.labelers + PEOPLE])
        weight = vote_weights(right[: votes.labelers], typical, votes.classes) * (group == PEOPLE)
        total, squares = (by_item @ np.stack([weight, weight * weight], axis=1)).T
        heeded = np.repeat(1.0 / self.design_effect(total, squares), np.diff(by_item.indptr))
        return heeded if (group == PEOPLE).all() else np.where((group == PEOPLE)[votes.labeler], heeded, 1.0)

    def cold(self, classes: int) -> Reliabilities:
        """Return what is believed before the first vote: no labelers, the assumed crowd, a flat prior."""
        nobody = Votes.of([], [], [], classes=classes, items=0, labelers=0)
        learner = learner_of(self, nobody, np.zeros(0, dtype=np.int64))
        joint = learner.first(np.zeros((0, classes)))
        learner.learn(joint, np.zeros(0))
        return learner.reliabilities(joint.sum(axis=0), np.zeros((0, classes)))

    def posterior(self, known: Reliabilities, heard: Heard) -> Floats:
        """Return the pooled posterior ``(items, classes)`` of what was heard."""
        said = np.empty(heard.tally.shape)
        step = max(1, _BLOCK // known.classes)
        for start in range(0, len(said), step):
            rows = slice(start, start + step)
            said[rows] = self._posterior(known, heard.of(rows))
        return said

    def _posterior(self, known: Reliabilities, heard: Heard) -> Floats:
        total = np.add.reduce(heard.tally, 1)
        logits = known.log_prior + heard.by_people / self.design_effect(total, heard.squares)[:, None, None]
        crowd = _over_kinds(logits)
        stranger = known.stranger(PEOPLE)
        doubt = self.shared_mistakes * (1.0 - float(known.right[stranger]))
        half = HALF_A_VOTE * float(known.weight[stranger])
        opinions = np.empty((2, *crowd.shape))
        np.add((1.0 - doubt) * crowd, doubt / known.classes, out=opinions[0])
        np.divide(heard.tally + half / known.classes, (total + half)[:, None], out=opinions[1])
        said = self._pool(opinions, heard.tally > 0.0)
        if not np.logical_and.reduce(heard.squares):
            said = np.where(heard.squares[:, None] > 0.0, said, np.log(crowd))
        if heard.by_models is not None:
            # Nothing, exactly, where no model voted: an item's posterior is the same beside whatever others.
            said = said + (np.log(_over_kinds(logits + heard.by_models)) - np.log(crowd))
        return _over_kinds(said[:, None])

    def _pool(self, opinions: Floats, voted: NDArray[np.bool_]) -> Floats:
        """Return the logs of the pool of two opinions ``(2, items, classes)``, posterior and share, not normalised.

        The classes that nobody chose are one in the pool, and share its part as the model has it: else, where there are
        hundreds of them, their sum would outweigh what was said.
        """
        unsaid = np.add.reduce(opinions * ~voted, 2)[:, :, None]
        believed, share = np.log(np.where(voted, opinions, unsaid))
        # believed^a share^b of the one class, times the part of it.
        pooled = (self.model_weight - 1.0) * believed + self.majority_weight * share
        return np.asarray(pooled + np.log(opinions[0]))

    def design_effect(self, total: Floats, squares: Floats) -> Floats:
        """Return what the evidence of people's votes on an item is divided by ``(items,)``; 1 for one vote or none.

        ``total`` and ``squares`` (items,): the sums of the votes' weights, and of their squares. n votes of one weight
        are n; one that weighs little adds little.
        """
        effective = total * total / np.maximum(squares, _LEAST)
        return np.asarray(1.0 + self.correlation * np.maximum(effective - 1.0, 0.0))


def _summed(votes: Votes, weight: Floats) -> Floats:
    """Return the votes' summed weights on each item, ``(items,)``."""
    return np.asarray(np.bincount(votes.item, weight, votes.items), dtype=np.float64)


def _clamped(joint: Floats, gold: Ints, classes: int) -> tuple[Floats, float]:
    """Return joint posteriors with the classes of known items made certain; of which kind they are stays open.

    And the sum of the logs of what these classes had before.
    """
    known = np.flatnonzero(gold >= 0)
    if known.size == 0:
        return joint, 0.0
    fixed = joint.copy().reshape(len(joint), -1, classes)
    own = fixed[known, :, gold[known]] + np.finfo(np.float64).tiny
    before = own.sum(axis=1, keepdims=True)
    fixed[known] = 0.0
    fixed[known, :, gold[known]] = own / before
    return fixed.reshape(joint.shape), float(np.log(before).sum())


def _over_kinds(logits: Floats) -> Floats:
    """Return the posterior ``(items, classes)`` of unnormalised ``(items, kinds, classes)``; none is quite 0."""
    most = np.maximum.reduce(logits, axis=(1, 2), keepdims=True)
    mass = np.add.reduce(np.exp(logits - most), 1) + _LEAST
    return np.asarray(mass / np.add.reduce(mass, 1)[:, None])
