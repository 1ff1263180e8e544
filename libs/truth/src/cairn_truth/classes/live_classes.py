"""Truth while answers come in: one vote at a time now, everybody's reliability again at the next refit.

`LiveClasses` is the state behind one question of one project. It speaks of items and labelers by their names,
because names, unlike row numbers, do not depend on who came first: after `refit` the same votes, whatever their
order, give the same posteriors bit for bit, and so does a state rebuilt from `Reliabilities` and the votes.
"""

from __future__ import annotations

import hashlib
import io
from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import special

from .dawid_skene import softmax
from .hierarchical import HierarchicalDawidSkene, Reliabilities
from .votes import Floats, Votes

ModelTest = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Weighed:
    """One vote's part in a posterior: ``weight`` is its log-likelihood ratio for the leading class, in nats.

    The ratio is against the other classes, averaged with their posterior probabilities.
    """

    labeler: str
    choice: int
    weight: float


@dataclass(frozen=True, slots=True)
class LabelerReliability:
    """How reliable a labeler has been: expected accuracy over the class prior with its 95 % credible interval.

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
    """Votes on one item, by labeler in the order of their names: the order in which they are summed."""

    votes: list[tuple[str, int]] = field(default_factory=list)
    gold: int = -1


class LiveClasses:
    """Live posteriors of one question with ``classes`` classes.

    ``is_model`` tells models' labelers (each confidence bin is one) from people: they are another population.
    """

    def __init__(
        self,
        classes: int,
        model: HierarchicalDawidSkene | None = None,
        is_model: ModelTest = lambda labeler: False,
    ) -> None:
        if classes < 1:
            raise ValueError(f"classes is {classes}; expected at least 1")
        self.classes = classes
        self.model = model or HierarchicalDawidSkene()
        self.refits = 0
        self.refit_votes = 0
        self.votes = 0
        self._is_model = is_model
        self._items: dict[str, _Item] = {}
        self._counts: dict[str, int] = {}
        self._labelers: tuple[str, ...] = ()
        self._adopt(self.model.cold(classes), ())

    # --- what came in

    def update(self, item: str, labeler: str, choice: int) -> Floats:
        """Add a vote, or replace this labeler's earlier one, and return the item's posterior ``(classes,)``.

        Takes well under a millisecond; reliabilities stay as they stand. Raises ValueError for an unknown class.
        """
        if not 0 <= choice < self.classes:
            raise ValueError(f"choice is {choice}; expected a class in 0..{self.classes - 1}")
        at = self._items.setdefault(item, _Item())
        for i, (other, _) in enumerate(at.votes):
            if other == labeler:
                at.votes[i] = (labeler, choice)
                break
        else:
            insort(at.votes, (labeler, choice))
            self.votes += 1
            self._counts[labeler] = self._counts.get(labeler, 0) + 1
        return self.posterior(item)

    def withdraw(self, item: str, labeler: str) -> None:
        """Take back a labeler's vote on an item, if there is one: a model that was trained anew speaks again."""
        found = self._items.get(item)
        kept = [vote for vote in found.votes if vote[0] != labeler] if found else []
        if found is None or len(kept) == len(found.votes):
            return
        found.votes = kept
        self.votes -= 1
        self._counts[labeler] -= 1
        if not self._counts[labeler]:
            del self._counts[labeler]

    def know(self, item: str, truth: int | None) -> None:
        """Clamp an item to a known class (gold, a correction), or free it again with None."""
        if truth is not None and not 0 <= truth < self.classes:
            raise ValueError(f"truth is {truth}; expected a class in 0..{self.classes - 1}")
        self._items.setdefault(item, _Item()).gold = -1 if truth is None else truth

    # --- what it says

    def items(self) -> Iterable[str]:
        """Return the items that have a vote or a known class."""
        return self._items.keys()

    def votes_on(self, item: str) -> Sequence[tuple[str, int]]:
        """Return ``(labeler, choice)`` of each vote on an item, by labeler."""
        found = self._items.get(item)
        return found.votes if found else ()

    def posterior(self, item: str) -> Floats:
        """Return the probability of each class ``(classes,)``; the class prior where nobody has voted."""
        found = self._items.get(item)
        if found is not None and found.gold >= 0:
            certain = np.zeros(self.classes)
            certain[found.gold] = 1.0
            return certain
        votes = found.votes if found else ()
        if not votes:
            return self.reliabilities.prior.copy()
        rows = [self._row(labeler) for labeler, _ in votes]
        spoken = self._log_likelihood[rows, [choice for _, choice in votes]]
        return softmax(self._log_prior + np.add.reduce(spoken / self._thinned(votes)[:, None], axis=0))

    def weigh(self, item: str) -> list[Weighed]:
        """Return each vote's part in the item's posterior, heaviest first: the label's evidence."""
        votes = self.votes_on(item)
        if not votes:
            return []
        posterior = self.posterior(item)
        lead = int(posterior.argmax())
        rest = posterior.copy()
        rest[lead] = 0.0
        rest = rest / rest.sum() if rest.sum() > 0 else np.full(self.classes, 1.0 / max(self.classes - 1, 1))
        rest[lead] = 0.0
        parts = []
        for (labeler, choice), thinned in zip(votes, self._thinned(votes), strict=True):
            spoken = self._speaks(labeler, choice) / thinned
            parts.append(Weighed(labeler, choice, float(spoken[lead] - rest @ spoken)))
        return sorted(parts, key=lambda part: (-abs(part.weight), part.labeler))

    def reliability(self, labeler: str) -> LabelerReliability:
        """Return what is known of a labeler; one who never voted is the population."""
        likelihood = self._likelihood_of(labeler)
        prior = self.reliabilities.prior
        accuracy = float(prior @ np.diagonal(likelihood))
        row = self._rows.get(labeler)
        seen = float(self.reliabilities.counts[row].sum()) if row is not None else 0.0
        # The skill's prior counts as votes seen: that is what its strength means.
        behind = seen + self.model.skill_strength
        low, high = special.betaincinv(
            accuracy * behind + 0.5, (1.0 - accuracy) * behind + 0.5, [0.025, 0.975]
        )
        return LabelerReliability(
            labeler, self._counts.get(labeler, 0), accuracy, float(low), float(high), likelihood.T.copy()
        )

    def labelers(self) -> list[str]:
        """Return the labelers who voted, by name."""
        return sorted(self._counts)

    # --- reconcile, save, restore

    def refit(self) -> None:
        """Fit all reliabilities to all votes; what follows no longer depends on the order they came in."""
        names = sorted(self._items)
        labelers = tuple(sorted(self._counts))
        place = {labeler: i for i, labeler in enumerate(labelers)}
        item, labeler, choice = [], [], []
        gold = np.full(len(names), -1, dtype=np.int64)
        for i, name in enumerate(names):
            found = self._items[name]
            gold[i] = found.gold
            for who, what in found.votes:
                item.append(i)
                labeler.append(place[who])
                choice.append(what)
        votes = Votes.of(
            item, labeler, choice, classes=self.classes, items=len(names), labelers=len(labelers)
        )
        population = np.array([int(self._is_model(who)) for who in labelers], dtype=np.int64)
        fit = self.model.fit(votes, gold=gold, population=population)
        self.refits += 1
        self.refit_votes = self.votes
        self._adopt(fit.reliabilities, labelers)

    def save(self) -> bytes:
        """Return the fitted state as bytes (NumPy .npz, no pickle): all but the votes, which are the caller's."""
        known = self.reliabilities
        buffer = io.BytesIO()
        np.savez(
            buffer,
            likelihood=known.likelihood,
            counts=known.counts,
            population=known.population,
            prior=known.prior,
            labelers=np.array(self._labelers, dtype=np.str_),
            refits=np.array([self.refits, self.refit_votes], dtype=np.int64),
        )
        return buffer.getvalue()

    def restore(self, saved: bytes) -> None:
        """Adopt a saved fit; the votes are added by `update` as ever, in any order.

        Raises ValueError if it was saved for another number of classes.
        """
        with np.load(io.BytesIO(saved), allow_pickle=False) as arrays:
            prior = arrays["prior"]
            if prior.shape != (self.classes,):
                raise ValueError(f"the saved state has {prior.size} classes; expected {self.classes}")
            known = Reliabilities(arrays["likelihood"], arrays["counts"], arrays["population"], prior)
            labelers = tuple(str(name) for name in arrays["labelers"])
            self.refits, self.refit_votes = (int(n) for n in arrays["refits"])
        self._adopt(known, labelers)

    def digest(self) -> bytes:
        """Return the SHA-256 of the fitted state: equal digests weigh every vote equally."""
        known = self.reliabilities
        sha = hashlib.sha256("\n".join(self._labelers).encode())
        for array in (known.likelihood, known.population, known.prior):
            sha.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
        return sha.digest()

    def _adopt(self, known: Reliabilities, labelers: tuple[str, ...]) -> None:
        self.reliabilities = known
        self._labelers = labelers
        self._rows = {labeler: i for i, labeler in enumerate(labelers)}
        # The populations follow the labelers: whoever is not known speaks as one of them.
        self._log_likelihood = np.log(np.concatenate([known.likelihood, known.population]))
        self._log_prior = np.log(known.prior)

    def _thinned(self, votes: Sequence[tuple[str, int]]) -> Floats:
        """Return what each vote's evidence is divided by: the design effect for people, one for models."""
        models = np.array([self._is_model(labeler) for labeler, _ in votes])
        effect = self.model.design_effect(np.array(len(votes) - np.count_nonzero(models)))
        return np.where(models, 1.0, effect)

    def _row(self, labeler: str) -> int:
        row = self._rows.get(labeler)
        return len(self._rows) + int(self._is_model(labeler)) if row is None else row

    def _speaks(self, labeler: str, choice: int) -> Floats:
        """Return the log-likelihood ``(classes,)`` of each truth, given this labeler's choice."""
        return np.asarray(self._log_likelihood[self._row(labeler), choice])

    def _likelihood_of(self, labeler: str) -> Floats:
        row = self._rows.get(labeler)
        if row is not None:
            return np.asarray(self.reliabilities.likelihood[row])
        return np.asarray(self.reliabilities.population[int(self._is_model(labeler))])
