"""What is known of everybody's errors once a crowd was fitted: enough to weigh a vote, whoever casts it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..columns import Floats, Ints, whole_numbers

PEOPLE, MODELS = 0, 1
"""The two populations of labelers."""

_LEAST_PART = 0.1
_LEAST_SKILL = 1e-3
"""A crowd that is right no more often than by chance, or has but one class to choose, is taken for as much better."""


def checked_population(population: ArrayLike | None, labelers: int) -> Ints:
    """Return each labeler's population ``(labelers,)``. Raises ValueError naming the row that is neither 0 nor 1."""
    if population is None:
        return np.full(labelers, PEOPLE, dtype=np.int64)
    group = whole_numbers("population", population)
    if group.shape != (labelers,):
        raise ValueError(f"population has shape {group.shape}; expected ({labelers},)")
    bad = np.flatnonzero(group > MODELS)
    if bad.size:
        raise ValueError(f"population[{bad[0]}] is {group[bad[0]]}; expected 0 (people) or 1 (models)")
    return group


def vote_weights(right: Floats, typical: float, classes: int) -> Floats:
    """Return how much a vote of each labeler counts: by how much more often than by chance it is ``right``.

    Who is right no more often than somebody who presses any key counts a tenth of a ``typical`` person: with the full
    share of right votes, guessers enough would drown those who know.
    """
    chance = 1.0 / classes
    return np.asarray(np.maximum(right - chance, _LEAST_PART * max(typical - chance, _LEAST_SKILL)))


class Errors(Protocol):
    """How labelers err. Rows are labelers, then one stranger of each population."""

    @property
    def labelers(self) -> int:
        """Labelers, strangers not counted."""

    def log_likelihood(self, rows: Ints, choices: Ints) -> Floats:
        """Return the log-chance of each vote ``(n,)`` given each kind and truth, ``(n, kinds, classes)``."""

    def confusion(self, row: int) -> Floats:
        """Return the chance of each answer, ``(kind, truth, answer)``; rows over ``answer`` sum to one."""

    def arrays(self) -> Mapping[str, NDArray[np.float64]]:
        """Return all of it as named arrays."""


@dataclass(frozen=True, eq=False)
class Confusions:
    """A confusion for each labeler: ``likelihood`` (labelers + 2, answer, kind, truth)."""

    likelihood: Floats

    @property
    def labelers(self) -> int:
        """Labelers, strangers not counted."""
        return len(self.likelihood) - 2

    def log_likelihood(self, rows: Ints, choices: Ints) -> Floats:
        """Return the log-chance of each vote given each kind and truth, ``(n, kinds, classes)``."""
        return np.asarray(self._log[rows, choices])

    def confusion(self, row: int) -> Floats:
        """Return the chance of each answer, ``(kind, truth, answer)``."""
        return np.asarray(self.likelihood[row].transpose(1, 2, 0))

    def arrays(self) -> Mapping[str, Floats]:
        """Return all of it as named arrays."""
        return {"likelihood": self.likelihood}

    @cached_property
    def _log(self) -> Floats:
        return np.asarray(np.log(self.likelihood))


@dataclass(frozen=True, eq=False)
class Coins:
    """One accuracy for each labeler, and what is said by mistake: for more classes than a confusion has room for.

    A labeler right with chance ``accuracy`` (labelers + 2,) says the truth; a mistake is a class drawn by
    ``mistakes`` (classes,), which sums to one, among the others. One kind of items.
    """

    accuracy: Floats
    mistakes: Floats

    @property
    def labelers(self) -> int:
        """Labelers, strangers not counted."""
        return len(self.accuracy) - 2

    def log_likelihood(self, rows: Ints, choices: Ints) -> Floats:
        """Return the log-chance of each vote given each truth, ``(n, 1, classes)``."""
        right = self.accuracy[rows]
        said = np.log((1.0 - right) * self.mistakes[choices])[:, None] - np.log1p(-self.mistakes)
        said[np.arange(len(said)), choices] = np.log(right)
        return np.asarray(said[:, None, :])

    def confusion(self, row: int) -> Floats:
        """Return the chance of each answer, ``(1, truth, answer)``."""
        right = float(self.accuracy[row])
        chance = (1.0 - right) * self.mistakes / (1.0 - self.mistakes)[:, None]
        np.fill_diagonal(chance, right)
        return chance[None]

    def arrays(self) -> Mapping[str, Floats]:
        """Return all of it as named arrays."""
        return {"accuracy": self.accuracy, "mistakes": self.mistakes}


@dataclass(frozen=True, eq=False)
class Reliabilities:
    """A fitted crowd.

    ``errors`` of labelers and strangers. ``right`` (labelers + 2,): the expected share of their votes that are right;
    ``weight`` (labelers + 2,), made of it: how much a vote counts in the weighted majority (`vote_weights`). ``seen``
    (labelers + 2,): votes that taught it. ``prior`` (classes,); ``kinds`` (kinds,), the share of items of each kind,
    whatever their class.
    """

    errors: Errors
    right: Floats
    seen: Floats
    prior: Floats
    kinds: Floats
    log_prior: Floats = field(init=False)
    weight: Floats = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "log_prior", np.log(self.kinds)[:, None] + np.log(self.prior))
        typical = float(self.right[self.stranger(PEOPLE)])
        object.__setattr__(self, "weight", vote_weights(self.right, typical, self.classes))

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(self.prior.size)

    def stranger(self, population: int) -> int:
        """Return the row of a labeler of that population who was never seen before."""
        return self.errors.labelers + population

    def confusion(self, row: int) -> Floats:
        """Return the chance of each answer, ``(truth, answer)``, over all kinds of items."""
        return np.asarray(np.tensordot(self.kinds, self.errors.confusion(row), 1))

    def arrays(self) -> dict[str, Floats]:
        """Return all of it as named arrays, for `of`."""
        own = {"right": self.right, "seen": self.seen, "prior": self.prior, "kinds": self.kinds}
        return own | {f"errors.{name}": array for name, array in self.errors.arrays().items()}

    @classmethod
    def of(cls, arrays: Mapping[str, Floats]) -> Reliabilities:
        """Make it anew from `arrays`. Raises ValueError naming an array that is missing."""
        needed = {"right", "seen", "prior", "kinds"}
        if not needed <= set(arrays):
            raise ValueError(f"the saved state has no {', '.join(sorted(needed - set(arrays)))}")
        errors: Errors
        if "errors.likelihood" in arrays:
            errors = Confusions(arrays["errors.likelihood"])
        elif {"errors.accuracy", "errors.mistakes"} <= set(arrays):
            errors = Coins(arrays["errors.accuracy"], arrays["errors.mistakes"])
        else:
            raise ValueError("the saved state has neither confusions nor accuracies")
        return cls(errors, *(arrays[name] for name in ("right", "seen", "prior", "kinds")))
