"""Answers that are sets of classes: one two-class model per class, sharing each labeler's reliability.

Whether a class applies is a question with two answers. A labeler errs alike on all classes (one confusion, learnt
from all of them), but each class has its own prior. Only classes that somebody chose on an item are put to the
question there: the cost is that of what was said, not of how many classes there are. That nothing applies is a
class of its own, `NOTHING`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from .blocks import BlockDawidSkene
from .live_classes import LabelerReliability, LiveClasses, ModelTest, Weighed

NOTHING = ""
"""Stands for the empty set; no class id is empty."""

_BETWEEN = "\x1f"
_APPLIES = 1
_PRIOR_STRENGTH = 10.0
"""Judgements behind the prior that all classes share."""


@dataclass(frozen=True, slots=True)
class ChosenSet:
    """The most probable set, the chance that all of it is right, and each judged class's probability."""

    classes: tuple[str, ...]
    confidence: float
    probabilities: dict[str, float]


def _named(what: str, chosen: Collection[str]) -> frozenset[str]:
    """Return the classes chosen. Raises ValueError for a string, which is a collection of letters, and for no names."""
    if isinstance(chosen, str | bytes) or not isinstance(chosen, Collection):
        raise ValueError(f"{what} is {chosen!r}; expected a collection of classes' names")
    for place, name in enumerate(chosen):
        if not isinstance(name, str) or name == NOTHING or _BETWEEN in name:
            raise ValueError(f"{what}, class {place} is {name!r}; expected a name, not empty, without U+001F")
    return frozenset(chosen)


class LiveChoices:
    """Live posteriors of a question answered with sets of classes; items, labelers and classes by name."""

    def __init__(
        self, model: BlockDawidSkene | None = None, is_model: ModelTest = lambda labeler: False
    ) -> None:
        self._judged = LiveClasses(2, model, is_model)
        self._answers: dict[str, dict[str, frozenset[str]]] = {}
        self._gold: dict[str, frozenset[str]] = {}
        self._prior: dict[str, float] = {}

    @property
    def votes(self) -> int:
        """Answers held."""
        return sum(len(answers) for answers in self._answers.values())

    @property
    def refits(self) -> int:
        """Refits so far."""
        return self._judged.refits

    def update(self, item: str, labeler: str, chosen: Collection[str]) -> ChosenSet:
        """Add an answer, or replace this labeler's earlier one, and return what the item's set now is.

        Raises ValueError naming the entry that is no class's name.
        """
        self.add(item, labeler, chosen)
        return self.posterior(item)

    def add(self, item: str, labeler: str, chosen: Collection[str]) -> None:
        """Add an answer, or replace this labeler's earlier one. Raises ValueError as `update` does."""
        said = _named("answer", chosen) or frozenset((NOTHING,))
        before = set(self._candidates(item))
        answers = self._answers.setdefault(item, {})
        answers[labeler] = said
        now = self._candidates(item)
        for name in now:
            for who, what in ((labeler, said),) if name in before else tuple(answers.items()):
                self._judged.add(item + _BETWEEN + name, who, _APPLIES if name in what else 0)
        for name in before - set(now):
            self._put_no_longer(item, name)

    def withdraw(self, item: str, labeler: str) -> None:
        """Take back a labeler's answer to an item, if there is one."""
        before = self._candidates(item)
        if self._answers.get(item, {}).pop(labeler, None) is None:
            return
        for name in before:
            self._judged.withdraw(item + _BETWEEN + name, labeler)
        for name in set(before) - set(self._candidates(item)):
            self._put_no_longer(item, name)
        if not self._answers[item]:
            del self._answers[item]

    def know(self, item: str, truth: Collection[str] | None) -> None:
        """Clamp an item to a known set, or free it again with None."""
        if truth is None:
            self._gold.pop(item, None)
        else:
            self._gold[item] = _named("truth", truth)
        for name in self._candidates(item):
            self._judged.know(item + _BETWEEN + name, self._truth_of(item, name))

    def posterior(self, item: str) -> ChosenSet:
        """Return the set of classes more probable than not, and how sure it is. No answers: empty, 0."""
        known = self._gold.get(item)
        if known is not None:
            return ChosenSet(tuple(sorted(known)), 1.0, dict.fromkeys(sorted(known), 1.0))
        if not self._answers.get(item):
            return ChosenSet((), 0.0, {})
        probabilities = {name: self._applies(item, name) for name in self._candidates(item)}
        chosen = tuple(n for n, p in probabilities.items() if n != NOTHING and p > 0.5)
        if not chosen and probabilities.get(NOTHING, 0.0) <= 0.5:
            named = [n for n in probabilities if n != NOTHING]
            chosen = (max(named, key=lambda n: probabilities[n]),) if named else ()
        sure = 1.0
        for name, p in probabilities.items():
            sure *= p if (name in chosen or (name == NOTHING and not chosen)) else 1.0 - p
        return ChosenSet(chosen, sure, {n: p for n, p in probabilities.items() if n != NOTHING})

    def votes_on(self, item: str) -> Sequence[tuple[str, frozenset[str]]]:
        """Return ``(labeler, classes)`` of each answer on an item, by labeler."""
        answers = self._answers.get(item, {})
        return [(who, answers[who] - {NOTHING}) for who in sorted(answers)]

    def weigh(self, item: str) -> list[Weighed]:
        """Return each answer's part in the item's set, heaviest first: its weight over all judged classes."""
        total: dict[str, float] = {}
        for name in self._candidates(item):
            for part in self._judged.weigh(item + _BETWEEN + name):
                total[part.labeler] = total.get(part.labeler, 0.0) + part.weight
        parts = [Weighed(who, 0, weight) for who, weight in total.items()]
        return sorted(parts, key=lambda part: (-abs(part.weight), part.labeler))

    def reliability(self, labeler: str) -> LabelerReliability:
        """Return how reliably a labeler says of a class that it applies or does not."""
        return self._judged.reliability(labeler)

    def labelers(self) -> list[str]:
        """Return the labelers who answered, by name."""
        return self._judged.labelers()

    def items(self) -> Sequence[str]:
        """Return the items that have an answer."""
        return list(self._answers)

    def refit(self) -> None:
        """Fit reliabilities and class priors to all answers; independent of the order they came in."""
        for item in sorted(self._answers):
            for name in self._candidates(item):
                self._judged.know(item + _BETWEEN + name, self._truth_of(item, name))
        self._judged.refit()
        self._prior = self._class_priors()

    def save(self) -> bytes:
        """Return the fitted state as bytes; class priors follow from it and the answers."""
        return self._judged.save()

    def restore(self, saved: bytes) -> None:
        """Adopt a saved fit; the answers must have been added by `update` before."""
        self._judged.restore(saved)
        self._prior = self._class_priors() if self._judged.refits else {}

    def digest(self) -> bytes:
        """Return the SHA-256 of the fitted state."""
        return self._judged.digest()

    def _truth_of(self, item: str, name: str) -> int | None:
        """Return whether a class is known to apply, None where it is not known."""
        known = self._gold.get(item)
        return None if known is None else int(name in known or (name == NOTHING and not known))

    def _put_no_longer(self, item: str, name: str) -> None:
        """Take back the question whether a class applies, which nobody's answer asks any more."""
        question = item + _BETWEEN + name
        self._judged.know(question, None)
        for who, _ in tuple(self._judged.votes_on(question)):
            self._judged.withdraw(question, who)

    def _candidates(self, item: str) -> list[str]:
        return sorted({name for chosen in self._answers.get(item, {}).values() for name in chosen})

    def _applies(self, item: str, name: str) -> float:
        """Return P(class applies), the shared prior exchanged for the class's own."""
        p = float(self._judged.posterior(item + _BETWEEN + name)[_APPLIES])
        shared = float(self._judged.reliabilities.prior[_APPLIES])
        own = self._prior.get(name, shared)
        # In the pool the prior has the model's weight.
        weight = self._judged.model.model_weight
        for_it = p * (own / shared) ** weight
        against = (1.0 - p) * ((1.0 - own) / (1.0 - shared)) ** weight
        return float(for_it / (for_it + against))

    def _class_priors(self) -> dict[str, float]:
        shared = float(self._judged.reliabilities.prior[_APPLIES])
        sums: dict[str, list[float]] = {}
        for item in sorted(self._answers):
            for name in self._candidates(item):
                p = float(self._judged.posterior(item + _BETWEEN + name)[_APPLIES])
                sums.setdefault(name, []).append(p)
        return {
            name: float((np.sum(ps) + _PRIOR_STRENGTH * shared) / (len(ps) + _PRIOR_STRENGTH))
            for name, ps in sums.items()
        }
