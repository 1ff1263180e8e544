"""Truth while answers come in: one vote at a time now, everybody's reliability again at the next refit.

`LiveClasses` is the state behind one question of one project. It speaks of items and labelers by their names,
because names, unlike row numbers, do not depend on who came first: after `refit` the same votes, whatever their
order, give the same posteriors bit for bit, and so does a state rebuilt from `Reliabilities` and the votes.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from ..answer_counts import AnswerCounts
from ..columns import Floats, Ints, check_instance, check_sequence, checked_name
from ..labeler_accuracy import CrowdAccuracy, crowd_accuracy
from ..live_answers import Learnt, Saved, given_or, packed
from .blocks import BlockDawidSkene, Heard
from .reliabilities import MODELS, PEOPLE, Reliabilities
from .votes import Votes

ModelTest = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Weighed:
    """One vote's part in a posterior: by how much, in nats, the leading class's log-odds would fall without it."""

    labeler: str
    choice: int
    weight: float


@dataclass(frozen=True, slots=True)
class LabelerReliability:
    """How reliable a labeler has been: the expected share of votes that are right with its 95 % credible interval.

    ``confusion`` (truth, answer); rows sum to one.
    """

    labeler: str
    votes: int
    accuracy: float
    low: float
    high: float
    confusion: Floats


@dataclass(slots=True)
class _Item:
    """Votes on one item, by labeler in the order of their names: the order in which they are summed.

    ``rows`` are the votes' labelers in the fit numbered ``fit``. There are millions of these: what is empty is nothing.
    """

    votes: tuple[tuple[str, int], ...] = ()
    gold: int = -1
    rows: Sequence[int] = ()
    fit: int = -1


class LiveClasses(AnswerCounts):
    """Live posteriors of one question with ``classes`` classes.

    ``is_model`` tells models' labelers (each confidence bin is one) from people: they are another population.
    """

    def __init__(
        self,
        classes: int,
        model: BlockDawidSkene | None = None,
        is_model: ModelTest = lambda labeler: False,
    ) -> None:
        if not isinstance(classes, int | np.integer) or isinstance(classes, bool) or classes < 1:
            raise ValueError(f"classes is {classes!r}; expected a whole number, at least 1")
        check_instance("is_model", is_model, Callable, "a function that tells a model's name")  # type: ignore[arg-type]
        super().__init__()
        self.classes = int(classes)
        self.model = given_or("model", model, BlockDawidSkene())
        self.refits = 0
        self.refit_votes = 0
        self._is_model = is_model
        self._items: dict[str, _Item] = {}
        self._labelers: tuple[str, ...] = ()
        self._met: set[str] = set()
        self._models: set[str] = set()
        """Labelers whose votes are or were held, and those of them that are models."""
        self._votes: dict[tuple[str, int], tuple[str, int]] = {}
        """Each labeler's vote for each class, once, however many items hold it."""
        self._fits = 0
        self._adopt(self.model.cold(classes), ())

    # --- what came in

    def update(self, item: str, labeler: str, choice: int) -> Floats:
        """Add a vote, or replace this labeler's earlier one, and return the item's posterior ``(classes,)``.

        Takes well under a millisecond; reliabilities stay as they stand. Raises ValueError for an unknown class.
        """
        self.add(item, labeler, choice)
        return self._posterior(self._items[item])

    def add(self, item: str, labeler: str, choice: int) -> None:
        """Add a vote, or replace this labeler's earlier one. Raises ValueError for an unknown class."""
        checked_name("item", item)
        checked_name("labeler", labeler)
        choice = self._class("choice", choice)
        if labeler not in self._met:
            self._met.add(labeler)
            if self._is_model(labeler):
                self._models.add(labeler)
        vote = self._votes.setdefault((labeler, choice), (labeler, choice))
        at = self._items.setdefault(item, _Item())
        place = bisect_left(at.votes, (labeler, 0))
        after = place
        if place < len(at.votes) and at.votes[place][0] == labeler:
            after += 1
        else:
            at.fit = -1
            self._count_one(labeler)
        at.votes = (*at.votes[:place], vote, *at.votes[after:])

    def withdraw(self, item: str, labeler: str) -> None:
        """Take back a labeler's vote on an item, if there is one: a model that was trained anew speaks again."""
        checked_name("labeler", labeler)
        found = self._item(item)
        kept = tuple(vote for vote in found.votes if vote[0] != labeler) if found else ()
        if found is None or len(kept) == len(found.votes):
            return
        found.votes, found.fit = kept, -1
        self._forget_if_empty(item)
        self._count_one_less(labeler)

    def know(self, item: str, truth: int | None) -> None:
        """Clamp an item to a known class (gold, a correction), or free it again with None."""
        known = -1 if truth is None else self._class("truth", truth)
        self._items.setdefault(checked_name("item", item), _Item()).gold = known
        self._forget_if_empty(item)

    # --- what it says

    def items(self) -> Iterable[str]:
        """Return the items that have a vote or a known class."""
        return self._items.keys()

    def votes_on(self, item: str) -> Sequence[tuple[str, int]]:
        """Return ``(labeler, choice)`` of each vote on an item, by labeler."""
        found = self._item(item)
        return list(found.votes) if found else []

    def posterior(self, item: str) -> Floats:
        """Return the probability of each class ``(classes,)``; the class prior where nobody has voted."""
        return self._posterior(self._item(item))

    def posteriors(self, items: Sequence[str]) -> Floats:
        """Return what `posterior` says of each item, ``(items, classes)``: faster for many at once."""
        check_sequence("items", items, "names of items, one after the other")
        said = np.tile(self.reliabilities.prior, (len(items), 1))
        found = [self._item(item) or _Item() for item in items]
        voted = [place for place, item in enumerate(found) if item.votes]
        if voted:
            said[voted] = self._says(self._heard([found[place] for place in voted]))
        for place, item in enumerate(found):
            if item.gold >= 0:
                said[place] = np.arange(self.classes) == item.gold
        return said

    def weigh(self, item: str) -> list[Weighed]:
        """Return each vote's part in the item's posterior, heaviest first: the label's evidence."""
        return self.weigh_each([item])[0]

    def weigh_each(self, items: Sequence[str]) -> list[list[Weighed]]:
        """Return what `weigh` says of each item: faster for many at once."""
        check_sequence("items", items, "names of items, one after the other")
        found = [self._item(item) or _Item() for item in items]
        weight = iter(self._weights([one for one in found if one.votes]))
        return [
            sorted(
                (Weighed(labeler, choice, next(weight)) for labeler, choice in one.votes),
                key=lambda part: (-abs(part.weight), part.labeler),
            )
            for one in found
        ]

    def reliability(self, labeler: str) -> LabelerReliability:
        """Return what is known of a labeler; one who never voted is the population."""
        known, row = self.reliabilities, self._row(checked_name("labeler", labeler))
        crowd = self._crowd(MODELS if self._is_model(labeler) else PEOPLE)
        seen = float(known.seen[row])
        right = float(self._right(known.right[row], seen, crowd.mean))
        accuracy, low, high = crowd.of(right, seen)
        return LabelerReliability(
            labeler, self._counts.get(labeler, 0), accuracy, low, high, known.confusion(row)
        )

    # --- reconcile, save, restore

    def refit(self) -> None:
        """Fit all reliabilities to all votes; what follows no longer depends on the order they came in."""
        self.adopt(self.fitting()())

    def fitting(self) -> Callable[[], Learnt[Reliabilities]]:
        """Return a function that fits to the votes of now, wherever it runs and whatever comes in meanwhile; see `adopt`."""
        items = [self._items[name] for name in sorted(self._items)]
        labelers = tuple(sorted(self._counts))
        place = {labeler: i for i, labeler in enumerate(labelers)}
        voted = np.fromiter((len(item.votes) for item in items), np.int64, len(items))
        cast = [vote for item in items for vote in item.votes]
        votes = Votes.of(
            np.repeat(np.arange(len(items), dtype=np.int32), voted),
            np.fromiter((place[who] for who, _ in cast), np.int32, len(cast)),
            np.fromiter((what for _, what in cast), np.int16, len(cast)),
            classes=self.classes,
            items=len(items),
            labelers=len(labelers),
        )
        gold = np.fromiter((item.gold for item in items), np.int64, len(items))
        population = np.array([MODELS if who in self._models else PEOPLE for who in labelers], dtype=np.int64)
        held, model = self.votes, self.model  # and no more of this state, which may be let go of meanwhile

        def learn() -> Learnt[Reliabilities]:
            fit = model.fit(votes, gold=gold, population=population)
            return Learnt(labelers, fit.reliabilities, held)

        return learn

    def adopt(self, learnt: Learnt[Reliabilities]) -> None:
        """Take what `fitting` learnt into use, and go on: votes that came since are weighed by it, too."""
        self._adopt(learnt.fitted, learnt.labelers)
        self.refits += 1
        self.refit_votes = learnt.votes

    def save(self) -> bytes:
        """Return the fitted state as bytes (NumPy .npz, no pickle): all but votes and truths, which are the caller's."""
        arrays = self.reliabilities.arrays()
        return Saved(self._kind(), self._labelers, self.refits, self.refit_votes, arrays).written()

    def restore(self, saved: bytes) -> None:
        """Adopt a saved fit; the votes are added, and truths told, as ever, in any order.

        Raises ValueError if it is none, or was saved for another number of classes; the state stays as it was then.
        """
        found = Saved.read(saved, self._kind())
        known = Reliabilities.of(found.arrays)
        if known.classes != self.classes or known.errors.labelers != len(found.labelers):
            raise ValueError(
                f"the saved state has {known.errors.labelers} labelers' errors in {known.classes} classes; expected "
                f"{len(found.labelers)} in {self.classes}"
            )
        self._adopt(known, found.labelers)
        self.refits, self.refit_votes = found.refits, found.refit_votes

    def digest(self) -> bytes:
        """Return the SHA-256 of the fitted state: equal digests weigh every vote equally."""
        sha = hashlib.sha256(packed(self._labelers).tobytes())
        for name, array in sorted(self.reliabilities.arrays().items()):
            sha.update(name.encode())
            sha.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
        return sha.digest()

    def _kind(self) -> str:
        model = "" if self.model == BlockDawidSkene() else f", model={self.model}"
        return f"LiveClasses({self.classes}{model})"

    def _class(self, name: str, value: int) -> int:
        """Return a class as a whole number; a boolean is none."""
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or not 0 <= value < self.classes:
            raise ValueError(f"{name} is {value!r}; expected a class in 0..{self.classes - 1}")
        return int(value)

    def _item(self, name: str) -> _Item | None:
        """Return what is held of an item. Raises ValueError for what is no name."""
        return self._items.get(checked_name("item", name))

    def _posterior(self, found: _Item | None) -> Floats:
        if found is not None and found.gold >= 0:
            certain = np.zeros(self.classes)
            certain[found.gold] = 1.0
            return certain
        if found is None or not found.votes:
            return self.reliabilities.prior.copy()
        return np.asarray(self._says(self._heard([found]))[0])

    def _forget_if_empty(self, item: str) -> None:
        """Drop an item of which nothing is left: a refit must not tell whether there ever was a vote."""
        found = self._items.get(item)
        if found is not None and not found.votes and found.gold < 0:
            del self._items[item]

    def _adopt(self, known: Reliabilities, labelers: tuple[str, ...]) -> None:
        self.reliabilities = known
        self._labelers = labelers
        self._rows = {labeler: i for i, labeler in enumerate(labelers)}
        self._crowds: dict[int, CrowdAccuracy] = {}
        self._fits += 1

    def _crowd(self, population: int) -> CrowdAccuracy:
        """Return how the accuracies of a population's labelers are spread, by the last fit."""
        if population not in self._crowds:
            known = self.reliabilities
            own = [i for i, who in enumerate(self._labelers) if self._is_model(who) == (population == MODELS)]
            mean = float(known.right[known.stranger(population)])
            right = self._right(known.right[own], known.seen[own], mean)
            self._crowds[population] = crowd_accuracy(right, known.seen[own], mean)
        return self._crowds[population]

    def _right(self, accuracy: Any, seen: Any, mean: float) -> Any:
        """Return how many votes were right, expectedly: what the fit leaned on the crowd is taken out again."""
        strength = self.model.population_strength
        return np.clip(accuracy * (seen + strength) - strength * mean, 0.0, seen)

    def _row(self, labeler: str) -> int:
        row = self._rows.get(labeler)
        if row is not None:
            return row
        return self.reliabilities.stranger(MODELS if self._is_model(labeler) else PEOPLE)

    def _said(self, items: Sequence[_Item]) -> tuple[Ints, Floats, Floats | None, Floats]:
        """Return each vote's class, what it says as a person's and as a model's, and its weight, item by item.

        What is said (votes, kinds, classes) is nothing where the other cast the vote, and None if no model cast any;
        a model's vote weighs nothing.
        """
        for item in items:
            if item.fit != self._fits:
                item.rows, item.fit = [self._row(who) for who, _ in item.votes], self._fits
        rows = np.array([row for item in items for row in item.rows])
        choices = np.array([choice for item in items for _, choice in item.votes])
        said = self.reliabilities.errors.log_likelihood(rows, choices)
        weight = self.reliabilities.weight[rows]
        if not self._models:
            return choices, said, None, weight
        people = np.array([who not in self._models for item in items for who, _ in item.votes])
        if people.all():
            return choices, said, None, weight
        by_people = said * people[:, None, None]
        return choices, by_people, said - by_people, weight * people

    def _heard(self, items: Sequence[_Item]) -> Heard:
        """Return what the votes on each item say together. No item is without votes."""
        return self._sum(items, *self._said(items))

    def _sum(
        self,
        items: Sequence[_Item],
        choices: Ints,
        by_people: Floats,
        by_models: Floats | None,
        weight: Floats,
    ) -> Heard:
        counts = [len(item.votes) for item in items]
        cell = choices + np.repeat(np.arange(len(items)) * self.classes, counts)
        counted = np.bincount(cell, weight, len(items) * self.classes).astype(np.float64, copy=False)
        starts = list(accumulate(counts[:-1], initial=0))
        return Heard(
            np.add.reduceat(by_people, starts),
            None if by_models is None else np.add.reduceat(by_models, starts),
            counted.reshape(-1, self.classes),
            np.add.reduceat(weight * weight, starts),
        )

    def _weights(self, items: Sequence[_Item]) -> list[float]:
        """Return each vote's `Weighed.weight`, item by item. No item is without votes."""
        if not items:
            return []
        choices, by_people, by_models, weight = self._said(items)
        whole = self._sum(items, choices, by_people, by_models, weight)
        of = np.repeat(np.arange(len(items)), [len(item.votes) for item in items])
        each = np.arange(choices.size)
        own = np.zeros((choices.size, self.classes))
        own[each, choices] = weight
        # Nothing but rounding is left where a class had this vote alone.
        tally = np.where(own > 0.0, (whole.tally[of] - own).round(12), whole.tally[of])
        models = None if by_models is None or whole.by_models is None else whole.by_models[of] - by_models
        others = Heard(whole.by_people[of] - by_people, models, tally, whole.squares[of] - weight * weight)
        said = self._says(whole)
        lead = said.argmax(axis=1)
        without = self._says(others)[each, lead[of]]
        parts: list[float] = (_log_odds(said.max(axis=1))[of] - _log_odds(without)).tolist()
        return parts

    def _says(self, heard: Heard) -> Floats:
        return self.model.posterior(self.reliabilities, heard)


def _log_odds(probability: Floats) -> Floats:
    inner = np.clip(probability, 1e-12, 1.0 - 1e-12)
    return np.asarray(np.log(inner / (1.0 - inner)))
