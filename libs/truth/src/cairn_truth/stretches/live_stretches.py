"""What live states of spans and of segments share: answers that are sets of stretches of one line.

Answers become marks (`marks`), marks teach how labelers mark (`marking`); a value is put together from the cells whose
posterior passes the learnt threshold (`joining`). Spans and segments differ in what else a stretch carries, and in how
its boundaries are voted on.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from ..live_answers import Answered, Evidence, heaviest_first
from .joining import Found, Supporter, best_expected, chosen, found_stretches, shared_f
from .live_marks import LiveMarks
from .marks import Marks, Stretches, Voters, mark_lines


class Stretch(Protocol):
    """A stretch of a line, of a class."""

    @property
    def class_id(self) -> int:
        """Its class, counted from 0."""


S = TypeVar("S", bound=Stretch)


@dataclass(frozen=True, slots=True)
class JoinedStretches(Generic[S]):
    """The ``value`` in order of start; ``chances``: of each, the share of it that is expected to be true.

    ``confidence`` is the expected F of the value: twice the length it shares with the truth over the length of both; of
    an empty one the chance that nothing is there.
    """

    value: tuple[S, ...]
    chances: tuple[float, ...]
    confidence: float
    evidence: tuple[Evidence, ...]


class LiveStretches(LiveMarks[tuple[S, ...], JoinedStretches[S]], Generic[S]):
    """Live state of a question answered with stretches of ``classes`` classes.

    ``overlap``: may stretches of different classes share a place? Stretches of one class that share a place are one.
    """

    def __init__(self, classes: int, *, overlap: bool = True) -> None:
        super().__init__(classes, overlap=overlap)

    @abstractmethod
    def _bounds(self, stretch: S) -> tuple[float, float]:
        """Return where the stretch starts and ends, in the line's unit."""

    @abstractmethod
    def _boundary(self, places: Sequence[float], weights: Sequence[float]) -> float:
        """Return where labelers of these weights, who propose these places, have a boundary."""

    @abstractmethod
    def _made(self, found: Found, supporters: Sequence[tuple[S, float]]) -> S:
        """Return a stretch of the value; ``supporters`` are the labelers' own stretches there, with their weights."""

    @abstractmethod
    def _checked(self, answer: tuple[S, ...]) -> tuple[S, ...]:
        """Return the stretches as they are kept, in `_order`."""

    def _order(self, stretch: S) -> tuple[float, float, int, str]:
        return (*self._bounds(stretch), stretch.class_id, repr(stretch))

    def _known(self, truth: tuple[S, ...], votes: Sequence[tuple[str, tuple[S, ...]]]) -> JoinedStretches[S]:
        evidence = self._evidence(truth, votes, [0.0] * len(votes))
        return JoinedStretches(truth, (1.0,) * len(truth), 1.0, evidence)

    def _join(self, votes: Sequence[tuple[str, tuple[S, ...]]]) -> JoinedStretches[S]:
        if not votes:
            return JoinedStretches((), (), 0.0, ())
        weighed = self._weighed(votes, self._marks_of_item(votes))
        marks, posterior = weighed.marks, weighed.posterior
        weights = [float(weight) for weight in weighed.weights]
        own = [(stretch, row) for row, (_, answer) in enumerate(votes) for stretch in answer]
        supporters = [Supporter(*self._bounds(one), one.class_id, weights[row], row) for one, row in own]
        inside = chosen(marks, posterior, self._marking.threshold, overlap=self.overlap)
        inside, confidence = best_expected(marks, posterior, inside, weighed.overlooked)
        found = found_stretches(marks, posterior, inside, supporters, self._boundary, overlap=self.overlap)
        value = tuple(
            self._made(one, [(own[i][0], supporters[i].weight) for i in one.supporters]) for one in found
        )
        return JoinedStretches(
            value,
            tuple(one.chance for one in found),
            confidence,
            self._evidence(value, votes, weights),
        )

    def _evidence(
        self, value: Sequence[S], votes: Sequence[tuple[str, tuple[S, ...]]], weights: Sequence[float]
    ) -> tuple[Evidence, ...]:
        lines = self._lines(value)
        return heaviest_first([
            Evidence(who, shared_f(self._lines(answer), lines), weight)
            for (who, answer), weight in zip(votes, weights, strict=True)
        ])  # fmt: skip

    def _lines(self, answer: Sequence[S]) -> Mapping[int, list[tuple[float, float]]]:
        lines: dict[int, list[tuple[float, float]]] = {}
        for stretch in answer:
            lines.setdefault(stretch.class_id, []).append(self._bounds(stretch))
        return lines

    def _marks(
        self, answered: Sequence[Answered[tuple[S, ...]]], voters: Voters, rows: Mapping[str, int]
    ) -> Marks:
        given = [
            (item, rows[who], stretch.class_id, *self._bounds(stretch))
            for item, one in enumerate(answered)
            for who, answer in one.votes
            for stretch in answer
        ]
        true = [
            (item, 0, stretch.class_id, *self._bounds(stretch))
            for item, one in enumerate(answered)
            for stretch in one.truth or ()
        ]
        known = np.array([one.truth is not None for one in answered], dtype=bool)
        return mark_lines(Stretches.of(given), voters, Stretches.of(true), known, overlap=self.overlap)
