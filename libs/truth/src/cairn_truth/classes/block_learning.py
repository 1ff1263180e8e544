"""What the default learns of labelers from joint posteriors, and what their votes then say: the two steps of its EM."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..columns import Floats, Ints
from .class_fit import expected_right, weighted_tally
from .dawid_skene import softmax
from .leaning import inner, moved_by_skill, symmetric, with_slips
from .reliabilities import MODELS, PEOPLE, Coins, Confusions, Reliabilities
from .votes import Votes

_MOST_CONFUSED = 64
"""With more classes than this labelers have no confusion each but one accuracy: votes on most pairs of classes would be
none."""

_LARGE = 2**19
_MOST_A_VOTE = 64
"""So it is where labelers' confusions hold more than half a million numbers and more than so many for each vote: most
of what they held would be prior, at a cost far beyond that of the votes."""

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

HALF_A_VOTE = 0.5
"""Spread over all classes where votes are counted: one vote alone is not yet certainty."""


class Strengths(Protocol):
    """How many votes stand behind what is believed before anybody voted: see `BlockDawidSkene`."""

    @property
    def confusion_strength(self) -> float:
        """Behind each row of a labeler's confusion."""

    @property
    def skill_strength(self) -> float:
        """Behind a labeler's overall skill."""

    @property
    def community_strength(self) -> float:
        """Behind a row of a community's confusion."""

    @property
    def population_strength(self) -> float:
        """Behind the crowd's confusion, and behind a labeler's accuracy."""

    @property
    def prior_strength(self) -> float:
        """Behind a uniform class prior, per class."""


def learner_of(strengths: Strengths, votes: Votes, group: Ints) -> ConfusionLearner | CoinLearner:
    """Return what learns of each labeler as much as the votes can tell: a confusion, or one accuracy."""
    held = votes.labelers * votes.classes**2
    if votes.classes > _MOST_CONFUSED or held > max(_LARGE, _MOST_A_VOTE * len(votes)):
        return CoinLearner(strengths, votes, group)
    return ConfusionLearner(strengths, votes, group)


class ConfusionLearner:
    """Learns a confusion for each labeler. Joint posteriors are ``(items, kinds * classes)``, kind by kind."""

    def __init__(self, strengths: Strengths, votes: Votes, group: Ints) -> None:
        self._strengths, self._votes, self._group = strengths, votes, group
        self._incidence = votes.incidence()
        self._people = group == PEOPLE
        self._models_vote = not self._people.all()
        self._heard = votes.per_labeler() > 0
        # Models are in no community, nor is who has not voted yet: nothing says in which.
        self._members_of_any = (self._people & self._heard)[:, None]
        self._membership = _first_communities(votes) * self._members_of_any
        self._assumed = np.concatenate(
            [symmetric(votes.classes, accuracy) for accuracy in _KIND_ACCURACY], axis=1
        )
        self._likelihood = self._strangers = np.zeros((0, 0, 0))

    def first(self, share: Floats) -> Floats:
        """Return the joint posterior to start from: the more votes agree, the more likely an item is easy."""
        most = share.max(axis=1, keepdims=True, initial=0.0)
        return np.concatenate([share * most, share * (1.0 - most)], axis=1)

    def log_prior(self, total: Floats) -> Floats:
        """Return the log-prior of each kind and class, ``(kinds * classes,)``."""
        prior, kinds = self._priors(total)
        return np.asarray(np.log(kinds[:, None] * prior).ravel())

    def learn(self, joint: Floats, tells: Floats) -> None:
        """M-step: joint posteriors to chances of answers. ``tells`` (votes,): how much each vote counts."""
        classes = self._votes.classes
        shape = (self._votes.labelers, classes, _KINDS * classes)
        counts = (self._counting(tells) @ joint).reshape(shape)
        crowds = [self._crowd(counts[self._group == g].sum(axis=0)) for g in (PEOPLE, MODELS)]
        communities = self._communities(counts, crowds[PEOPLE])
        self._membership = self._members(counts, communities)
        centre = np.tensordot(self._membership, communities, 1)
        centre[~self._heard] = crowds[PEOPLE]
        if self._models_vote:
            centre[~self._people] = crowds[MODELS]
        centre = moved_by_skill(counts, centre, self._strengths.skill_strength)
        weight = counts + self._strengths.confusion_strength * centre
        self._likelihood = with_slips(weight / weight.sum(axis=1, keepdims=True))
        self._strangers = with_slips(np.stack(crowds))

    def right(self, joint: Floats) -> Floats:
        """Return the expected share of right votes of each labeler, then of a stranger of each population."""
        return self._accuracies(over_kinds(joint, self._votes.classes))[0]

    def spoken(self) -> tuple[Floats, Floats | None]:
        """Return the summed log-likelihood of people's and of models' votes on each item, None without models."""
        by_people = self._people[self._votes.labeler]
        return self.evidence(by_people), self.evidence(~by_people) if self._models_vote else None

    def evidence(self, counted: NDArray[Any]) -> Floats:
        """E-step: the summed log-likelihood of the votes on each item, each counting so much (votes,)."""
        said = np.log(self._likelihood).reshape(-1, self._likelihood.shape[2])
        return np.asarray(self._counting(counted).T @ said)

    def _counting(self, counted: NDArray[Any]) -> sparse.csc_matrix:
        """Return the incidence with each vote counting so much; its indices are shared, not copied."""
        own = self._incidence
        weight = counted.astype(np.float64, copy=False)
        return sparse.csc_matrix((weight, own.indices, own.indptr), shape=own.shape, copy=False)

    def reliabilities(self, total: Floats, posterior: Floats) -> Reliabilities:
        """Return what was learnt; ``total`` sums the joint posteriors of the items with votes."""
        classes = self._votes.classes
        prior, kinds = self._priors(total)
        every = np.concatenate([self._likelihood.reshape(-1, classes, _KINDS * classes), self._strangers])
        errors = Confusions(every.reshape(-1, classes, _KINDS, classes))
        return Reliabilities(errors, *self._accuracies(posterior), prior, kinds)

    def _accuracies(self, posterior: Floats) -> tuple[Floats, Floats]:
        assumed = float(_KIND_SHARES @ _KIND_ACCURACY) if self._votes.classes > 1 else 1.0
        return _accuracies(self._votes, posterior, self._group, self._strengths, assumed)

    def _priors(self, total: Floats) -> tuple[Floats, Floats]:
        """Return the class prior ``(classes,)`` and the share of each kind ``(kinds,)``."""
        by_kind = total.reshape(_KINDS, -1)
        prior = by_kind.sum(axis=0) + self._strengths.prior_strength
        kinds = by_kind.sum(axis=1) + _KIND_PRIOR * _KIND_SHARES
        return prior / prior.sum(), kinds / kinds.sum()

    def _crowd(self, counts: Floats) -> Floats:
        pooled = counts + self._strengths.population_strength * self._assumed
        return np.asarray(pooled / pooled.sum(axis=0))

    def _communities(self, counts: Floats, crowd: Floats) -> Floats:
        """Return each community's confusion ``(communities, answer, kind * truth)``, leaning on the crowd's."""
        pooled = (self._membership.T @ counts.reshape(len(counts), crowd.size)).reshape(-1, *crowd.shape)
        moved = moved_by_skill(pooled, crowd[None], self._strengths.skill_strength)
        weight = pooled + self._strengths.community_strength * moved
        return np.asarray(weight / weight.sum(axis=1, keepdims=True))

    def _members(self, counts: Floats, communities: Floats) -> Floats:
        """Return how probably each labeler belongs to each community ``(labelers, communities)``.

        A labeler's votes on one truth are alike beyond the community's confusion: n of them tell as much as
        n (s + 1) / (s + n), with s the strength of a confusion (the design effect of a Dirichlet-multinomial).
        """
        strength = self._strengths.confusion_strength
        telling = counts * ((strength + 1.0) / (strength + counts.sum(axis=1)))[:, None, :]
        size = self._membership.sum(axis=0) + _COMMUNITY_PRIOR
        said = (
            telling.reshape(len(counts), communities[0].size)
            @ np.log(communities).reshape(len(communities), -1).T
        )
        return np.asarray(softmax(said + np.log(size / size.sum())) * self._members_of_any)


class CoinLearner:
    """Learns one accuracy for each labeler: `Coins`, for very many classes. Joint posteriors are of one kind."""

    def __init__(self, strengths: Strengths, votes: Votes, group: Ints) -> None:
        self._strengths, self._votes, self._group = strengths, votes, group
        self._coins = Coins(np.zeros(2), np.full(votes.classes, 1.0 / votes.classes))

    def first(self, share: Floats) -> Floats:
        """Return the posterior to start from."""
        return share

    def log_prior(self, total: Floats) -> Floats:
        """Return the log-prior of each class."""
        return np.asarray(np.log(self._prior(total)))

    def learn(self, joint: Floats, tells: Floats) -> None:
        """M-step: accuracies, and what is said by mistake."""
        joint = joint * self._told(tells)
        votes = self._votes
        right = self.right(joint)
        wrong = np.bincount(
            votes.choice, weights=1.0 - joint[votes.item, votes.choice], minlength=votes.classes
        )
        mistakes = wrong + 1.0
        self._coins = Coins(inner(right), mistakes / mistakes.sum())

    def right(self, joint: Floats) -> Floats:
        """Return the expected share of right votes of each labeler, then of a stranger of each population."""
        return self._accuracies(joint)[0]

    def evidence(self, counted: Floats) -> Floats:
        """E-step: the summed log-likelihood of the votes on each item, each counting so much (votes,).

        Only the classes that somebody chose on an item differ from the rest there.
        """
        votes = self._votes
        right = self._coins.accuracy[votes.labeler]
        mistakes = self._coins.mistakes
        wrong = np.log((1.0 - right) * mistakes[votes.choice])
        instead = counted * (np.log(right) - wrong + np.log1p(-mistakes)[votes.choice])
        wrong *= counted
        cast = np.bincount(votes.item, weights=counted, minlength=votes.items)
        common = np.bincount(votes.item, weights=wrong, minlength=votes.items)
        spoken: Floats = (
            common[:, None] - np.outer(cast, np.log1p(-mistakes)) + weighted_tally(votes, instead)
        )
        return np.asarray(spoken)

    def spoken(self) -> tuple[Floats, Floats | None]:
        """Return the summed log-likelihood of people's and of models' votes on each item, None without models."""
        by_model = (self._group[self._votes.labeler] == MODELS).astype(np.float64)
        return self.evidence(1.0 - by_model), self.evidence(by_model) if by_model.any() else None

    def _told(self, tells: Floats) -> Floats:
        """Return ``tells`` of each item ``(items, 1)``: it is the same for all votes on one."""
        found = np.zeros((self._votes.items, 1))
        found[self._votes.item, 0] = tells
        return found

    def reliabilities(self, total: Floats, posterior: Floats) -> Reliabilities:
        """Return what was learnt."""
        return Reliabilities(self._coins, *self._accuracies(posterior), self._prior(total), np.ones(1))

    def _accuracies(self, posterior: Floats) -> tuple[Floats, Floats]:
        assumed = float(_KIND_SHARES @ _KIND_ACCURACY)
        return _accuracies(self._votes, posterior, self._group, self._strengths, assumed)

    def _prior(self, total: Floats) -> Floats:
        weight = total + self._strengths.prior_strength
        return np.asarray(weight / weight.sum())


def over_kinds(joint: Floats, classes: int) -> Floats:
    """Return the sum ``(items, classes)`` of joint posteriors over kinds; slices add faster than a short axis sums."""
    total = joint[:, :classes].copy()
    for kind in range(classes, joint.shape[1], classes):
        total += joint[:, kind : kind + classes]
    return total


def _accuracies(
    votes: Votes, posterior: Floats, group: Ints, strengths: Strengths, assumed: float
) -> tuple[Floats, Floats]:
    """Return the accuracy of each labeler and of a stranger of each population, and the votes behind each."""
    right = expected_right(votes, posterior) if len(votes) else np.zeros(votes.labelers)
    cast = votes.per_labeler().astype(np.float64)
    strength = strengths.population_strength
    mean = np.array(
        [
            (right[group == g].sum() + strength * assumed) / (cast[group == g].sum() + strength)
            for g in (PEOPLE, MODELS)
        ]
    )
    own = (right + strength * mean[group]) / (cast + strength)
    return np.concatenate([own, mean]), np.concatenate([cast, np.zeros(2)])


def _first_communities(votes: Votes) -> Floats:
    """Return memberships by how often each labeler says what the others on the item say."""
    tally, voted = votes.tally(), votes.per_item()
    others = (tally[votes.item, votes.choice] - 1.0 + HALF_A_VOTE / votes.classes) / (
        voted[votes.item] - 1.0 + HALF_A_VOTE
    )
    counted = (voted >= 2)[votes.item].astype(np.float64)
    agreed = np.bincount(votes.labeler, weights=others * counted, minlength=votes.labelers)
    compared = np.bincount(votes.labeler, weights=counted, minlength=votes.labelers)
    mean = agreed.sum() / max(compared.sum(), 1.0)
    level = np.clip(mean + _COMMUNITY_OFFSETS, 0.05, 0.97)
    said = agreed[:, None] * np.log(level) + (compared - agreed)[:, None] * np.log1p(-level)
    return softmax(said)


def voted_shares(votes: Votes) -> Floats:
    """Return the share of each item's votes on each class ``(items, classes)``, with half a vote on all of them."""
    half = HALF_A_VOTE
    return np.asarray((votes.tally() + half / votes.classes) / (votes.per_item() + half)[:, None])
