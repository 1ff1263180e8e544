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

from .class_fit import expected_right, weighted_tally
from .dawid_skene import clamp, softmax
from .reliabilities import MODELS, PEOPLE, Coins, Confusions, Reliabilities, checked_population
from .votes import Floats, Ints, Votes, checked_gold

ALGORITHM = "BlockDawidSkene"
VERSION = "1"
"""Changes whenever the same votes may give another posterior; it is written into every label's provenance."""

MOST_CONFUSED = 64
"""With more classes than this labelers have no confusion each but one accuracy: votes on most pairs of classes would be
none."""

_KINDS = 2
_KIND_SHARES = np.array([2.0, 1.0]) / 3.0
_KIND_ACCURACY = np.array([0.8, 0.5])
"""Easy and hard items, and how often a stranger is right on them, before anybody voted: 70 % of the time in all."""

_KIND_PRIOR = 2.0
"""Items behind the shares of the kinds."""

_COMMUNITY_OFFSETS = np.array([0.15, -0.3])
"""Communities start as those who agree with others more, and much less, than the crowd does on average."""

_COMMUNITY_PRIOR = 2.0
"""Labelers behind equal shares of the communities, each."""

_ODDS_FLOOR = 1e-3
"""No labeler's skill is taken to be more than 99.9 % right or wrong: nobody has shown that."""

_SLIP = 1e-3
"""Once in a thousand answers anybody presses any key: no single vote can rule a class out."""

_LEAST = float(np.finfo(np.float64).tiny)

_HALF_A_VOTE = 0.5
"""Spread over all classes where votes are counted: one vote alone is not yet certainty."""


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
    how often the whole crowd says a given wrong class, of how often its members err.
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
            learner: _Confusing | _Tossing = _Tossing(self, votes, group)
        else:
            learner = _Confusing(self, votes, group)
        voted = votes.per_item()
        people = np.bincount(votes.item[group[votes.labeler] == PEOPLE], minlength=votes.items)
        thinned = self.design_effect(people)[:, None]
        joint = _clamped(learner.first(_voted_shares(votes)), known, votes.classes)
        # A vote that stands alone agrees with itself whatever its labeler's skill: it says nothing of it.
        tells = ((voted >= 2) | (known >= 0))[:, None]
        by_people, by_models = np.zeros_like(joint), None
        done = 0
        for done in range(1, self.iterations + 1):  # noqa: B007 - the count is reported
            learner.learn(joint * tells)
            log_prior = learner.log_prior(joint[voted > 0])
            by_people, by_models = learner.evidence()
            said = log_prior + by_people / thinned
            said = said if by_models is None else said + by_models
            fresh = _clamped(softmax(said), known, votes.classes)
            moved = float(np.abs(fresh - joint).max(initial=0.0))
            joint = fresh
            if moved < self.tolerance:
                break
        # The number of kinds is said, for of no items it cannot be told.
        shape = (votes.items, joint.shape[1] // votes.classes, votes.classes)
        posterior = joint.reshape(shape).sum(axis=1)
        reliabilities = learner.reliabilities(joint[voted > 0], posterior)
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
        learner = (_Tossing if classes > MOST_CONFUSED else _Confusing)(self, nobody, group)
        joint = learner.first(np.zeros((0, classes)))
        learner.learn(joint)
        return learner.reliabilities(joint, np.zeros((0, classes)))

    def posterior(self, known: Reliabilities, heard: Heard) -> Floats:
        """Return the pooled posterior ``(items, classes)`` of what was heard."""
        logits = known.log_prior + heard.by_people / self.design_effect(heard.people)[:, None, None]
        crowd = _over_kinds(logits)
        mean = float(known.right[known.stranger(PEOPLE)])
        doubt = self.shared_mistakes * (1.0 - mean)
        believed = (1.0 - doubt) * crowd + doubt / known.classes
        half = _HALF_A_VOTE * mean
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


class _Confusing:
    """Learns a confusion for each labeler. Joint posteriors are ``(items, kinds * classes)``, kind by kind."""

    def __init__(self, model: BlockDawidSkene, votes: Votes, group: Ints) -> None:
        self._model, self._votes, self._group = model, votes, group
        self._incidence = votes.incidence()
        self._by_item = self._incidence.T.tocsr()
        self._people = group == PEOPLE
        self._models_vote = not self._people.all()
        self._right = np.tile(np.arange(votes.classes), _KINDS)
        self._membership = _first_communities(votes, self._people)
        self._assumed = np.concatenate(
            [_symmetric(votes.classes, accuracy) for accuracy in _KIND_ACCURACY], axis=1
        )
        self._likelihood = self._strangers = np.zeros((0, 0, 0))

    def first(self, share: Floats) -> Floats:
        """Return the joint posterior to start from: the more votes agree, the more likely an item is easy."""
        most = share.max(axis=1, keepdims=True, initial=0.0)
        return np.concatenate([share * most, share * (1.0 - most)], axis=1)

    def log_prior(self, joint: Floats) -> Floats:
        """Return the log-prior of each kind and class, ``(kinds * classes,)``."""
        prior, kinds = self._priors(joint)
        return np.asarray(np.log(kinds[:, None] * prior).ravel())

    def learn(self, joint: Floats) -> None:
        """M-step: joint posteriors to chances of answers."""
        model, classes = self._model, self._votes.classes
        shape = (self._votes.labelers, classes, _KINDS * classes)
        counts = (self._incidence @ joint).reshape(shape)
        crowds = [self._crowd(counts[self._group == g].sum(axis=0)) for g in (PEOPLE, MODELS)]
        communities = self._communities(counts, crowds[PEOPLE])
        self._membership = self._members(counts, communities)
        centre = np.tensordot(self._membership, communities, 1)
        if self._models_vote:
            centre = np.where(self._people[:, None, None], centre, crowds[MODELS])
        centre = self._moved_by_skill(counts, centre)
        weight = counts + model.confusion_strength * centre
        likelihood = weight / weight.sum(axis=1, keepdims=True)
        self._likelihood = (1.0 - _SLIP) * likelihood + _SLIP / classes
        self._strangers = (1.0 - _SLIP) * np.stack(crowds) + _SLIP / classes

    def evidence(self) -> tuple[Floats, Floats | None]:
        """E-step: the summed log-likelihood of people's and of models' votes on each item, None without models."""
        said = np.log(self._likelihood)
        columns = said.shape[2]
        if not self._models_vote:
            return self._by_item @ said.reshape(-1, columns), None
        people = np.where(self._people[:, None, None], said, 0.0)
        return (
            self._by_item @ people.reshape(-1, columns),
            self._by_item @ (said - people).reshape(-1, columns),
        )

    def reliabilities(self, joint: Floats, posterior: Floats) -> Reliabilities:
        """Return what was learnt. ``joint`` of the items with votes; ``posterior`` (items, classes)."""
        classes = self._votes.classes
        prior, kinds = self._priors(joint)
        every = np.concatenate([self._likelihood.reshape(-1, classes, _KINDS * classes), self._strangers])
        errors = Confusions(every.reshape(-1, classes, _KINDS, classes))
        assumed = float(_KIND_SHARES @ _KIND_ACCURACY) if classes > 1 else 1.0
        right, seen = _accuracies(self._votes, posterior, self._group, self._model, assumed)
        return Reliabilities(errors, right, seen, prior, kinds)

    def _priors(self, joint: Floats) -> tuple[Floats, Floats]:
        """Return the class prior ``(classes,)`` and the share of each kind ``(kinds,)``."""
        mass = joint.sum(axis=0).reshape(_KINDS, -1)
        prior = mass.sum(axis=0) + self._model.prior_strength
        kinds = mass.sum(axis=1) + _KIND_PRIOR * _KIND_SHARES
        return prior / prior.sum(), kinds / kinds.sum()

    def _crowd(self, counts: Floats) -> Floats:
        pooled = counts + self._model.population_strength * self._assumed
        return np.asarray(pooled / pooled.sum(axis=0))

    def _communities(self, counts: Floats, crowd: Floats) -> Floats:
        """Return each community's confusion ``(communities, answer, kind * truth)``, leaning on the crowd's."""
        pooled = (self._membership.T @ counts.reshape(len(counts), crowd.size)).reshape(-1, *crowd.shape)
        weight = pooled + self._model.community_strength * self._moved_by_skill(pooled, crowd[None])
        return np.asarray(weight / weight.sum(axis=1, keepdims=True))

    def _members(self, counts: Floats, communities: Floats) -> Floats:
        """Return how probably each labeler belongs to each community ``(labelers, communities)``; models to none.

        A labeler's votes on one truth are alike beyond the community's confusion: n of them tell as much as
        n (s + 1) / (s + n), with s the strength of a confusion (the design effect of a Dirichlet-multinomial).
        """
        strength = self._model.confusion_strength
        telling = counts * ((strength + 1.0) / (strength + counts.sum(axis=1)))[:, None, :]
        size = self._membership.sum(axis=0) + _COMMUNITY_PRIOR
        said = (
            telling.reshape(len(counts), communities[0].size)
            @ np.log(communities).reshape(len(communities), -1).T
        )
        return np.asarray(softmax(said + np.log(size / size.sum())) * self._people[:, None])

    def _moved_by_skill(self, counts: Floats, centre: Floats) -> Floats:
        """Return confusions with the odds of being right that each one's own votes show.

        The share of right answers is compared with what the centre would reach on the same truths; the ratio of the two
        odds moves every diagonal element, errors keep their proportions.
        """
        if self._votes.classes == 1:
            return np.ones_like(counts)
        truths = np.arange(counts.shape[2])
        votes = counts.sum(axis=(1, 2))
        right = counts[:, self._right, truths].sum(axis=1)
        typical = _inner(centre[:, self._right, truths])
        expected = (counts.sum(axis=1) * typical).sum(axis=1)
        par = _inner(np.where(votes > 0, expected / np.maximum(votes, 1e-9), typical.mean(axis=1)))
        strength = self._model.skill_strength
        share = _inner((right + strength * par) / (votes + strength))
        ratio = (share / (1.0 - share)) / (par / (1.0 - par))
        odds = typical / (1.0 - typical) * ratio[:, None]
        own = odds / (1.0 + odds)
        moved = centre * ((1.0 - own) / (1.0 - typical))[:, None, :]
        moved[:, self._right, truths] = own
        return np.asarray(moved / moved.sum(axis=1, keepdims=True))


class _Tossing:
    """Learns one accuracy for each labeler: `Coins`, for very many classes. Joint posteriors are of one kind."""

    def __init__(self, model: BlockDawidSkene, votes: Votes, group: Ints) -> None:
        self._model, self._votes, self._group = model, votes, group
        self._coins = Coins(np.zeros(2), np.full(votes.classes, 1.0 / votes.classes))

    def first(self, share: Floats) -> Floats:
        """Return the posterior to start from."""
        return share

    def log_prior(self, joint: Floats) -> Floats:
        """Return the log-prior of each class."""
        return np.asarray(np.log(self._prior(joint)))

    def learn(self, joint: Floats) -> None:
        """M-step: accuracies, and what is said by mistake."""
        votes = self._votes
        right, _ = _accuracies(votes, joint, self._group, self._model, float(_KIND_SHARES @ _KIND_ACCURACY))
        wrong = np.bincount(
            votes.choice, weights=1.0 - joint[votes.item, votes.choice], minlength=votes.classes
        )
        mistakes = wrong + 1.0
        self._coins = Coins(_inner(right), mistakes / mistakes.sum())

    def evidence(self) -> tuple[Floats, Floats | None]:
        """E-step: the summed log-likelihood of people's and of models' votes on each item, None without models."""
        by_model = self._group[self._votes.labeler] == MODELS
        return self._spoken(~by_model), self._spoken(by_model) if by_model.any() else None

    def reliabilities(self, joint: Floats, posterior: Floats) -> Reliabilities:
        """Return what was learnt."""
        assumed = float(_KIND_SHARES @ _KIND_ACCURACY)
        right, seen = _accuracies(self._votes, posterior, self._group, self._model, assumed)
        return Reliabilities(self._coins, right, seen, self._prior(joint), np.ones(1))

    def _spoken(self, counted: NDArray[np.bool_]) -> Floats:
        """Return the summed log-likelihood; only classes that somebody chose on an item differ from the rest there."""
        votes = self._votes
        right = self._coins.accuracy[votes.labeler]
        mistakes = self._coins.mistakes
        wrong = np.where(counted, np.log((1.0 - right) * mistakes[votes.choice]), 0.0)
        instead = np.where(counted, np.log(right) - wrong + np.log1p(-mistakes)[votes.choice], 0.0)
        cast = np.bincount(votes.item, weights=counted, minlength=votes.items)
        common = np.bincount(votes.item, weights=wrong, minlength=votes.items)
        spoken: Floats = (
            common[:, None] - np.outer(cast, np.log1p(-mistakes)) + weighted_tally(votes, instead)
        )
        return np.asarray(spoken)

    def _prior(self, joint: Floats) -> Floats:
        mass = joint.sum(axis=0) + self._model.prior_strength
        return np.asarray(mass / mass.sum())


def _accuracies(
    votes: Votes, posterior: Floats, group: Ints, model: BlockDawidSkene, assumed: float
) -> tuple[Floats, Floats]:
    """Return the accuracy of each labeler and of a stranger of each population, and the votes behind each."""
    right = expected_right(votes, posterior) if len(votes) else np.zeros(votes.labelers)
    cast = votes.per_labeler().astype(np.float64)
    strength = model.population_strength
    mean = np.array(
        [
            (right[group == g].sum() + strength * assumed) / (cast[group == g].sum() + strength)
            for g in (PEOPLE, MODELS)
        ]
    )
    own = (right + strength * mean[group]) / (cast + strength)
    return np.concatenate([own, mean]), np.concatenate([cast, np.zeros(2)])


def _first_communities(votes: Votes, people: NDArray[np.bool_]) -> Floats:
    """Return memberships by how often each labeler says what the others on the item say."""
    tally, voted = votes.tally(), votes.per_item()
    others = (tally[votes.item, votes.choice] - 1.0 + _HALF_A_VOTE / votes.classes) / (
        voted[votes.item] - 1.0 + _HALF_A_VOTE
    )
    counted = (voted >= 2)[votes.item].astype(np.float64)
    agreed = np.bincount(votes.labeler, weights=others * counted, minlength=votes.labelers)
    compared = np.bincount(votes.labeler, weights=counted, minlength=votes.labelers)
    mean = agreed.sum() / max(compared.sum(), 1.0)
    level = np.clip(mean + _COMMUNITY_OFFSETS, 0.05, 0.97)
    said = agreed[:, None] * np.log(level) + (compared - agreed)[:, None] * np.log1p(-level)
    return softmax(said) * people[:, None]


def _voted_shares(votes: Votes) -> Floats:
    half = _HALF_A_VOTE
    return np.asarray((votes.tally() + half / votes.classes) / (votes.per_item() + half)[:, None])


def _symmetric(classes: int, accuracy: float) -> Floats:
    if classes == 1:
        return np.ones((1, 1))
    confusion = np.full((classes, classes), (1.0 - accuracy) / (classes - 1))
    np.fill_diagonal(confusion, accuracy)
    return confusion


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


def _inner(probability: Floats) -> Floats:
    return np.clip(probability, _ODDS_FLOOR, 1.0 - _ODDS_FLOOR)
