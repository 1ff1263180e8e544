"""Live states whose answers become marks: how each labeler marks is known alike for spans, segments and relations."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from scipy import special

from ..classes.votes import MOST_CLASSES
from ..columns import Floats, checked_name, whole_number
from ..live_answers import Answered, Joined, LiveAnswers
from .marking import IN, OUT, Marking, discernment, fit
from .marks import NONE, OTHER, OWN, Marks, Voters

A = TypeVar("A")
J = TypeVar("J", bound=Joined)


@dataclass(frozen=True, slots=True)
class LabelerMarks:
    """How a labeler marks, over ``votes`` answers.

    ``accuracy``: the F to expect of what this labeler alone marks, with its 95 % credible interval. ``miss_rate``: the
    share left out of what is true; ``false_alarm_rate``: the share marked of what is not.
    """

    labeler: str
    votes: int
    accuracy: float
    low: float
    high: float
    miss_rate: float
    false_alarm_rate: float


@dataclass(frozen=True, slots=True)
class Weighed:
    """One item's answers as marks: each slot's ``posterior``, each answer's ``weights``, and how many true things to
    expect that nobody marked, ``overlooked``."""

    marks: Marks
    posterior: Floats
    weights: Floats
    overlooked: float


class LiveMarks(LiveAnswers[A, J, LabelerMarks], Generic[A, J]):
    """Live state of a question with ``classes`` classes whose answers become marks.

    ``overlap``: may what is marked be of two classes at once? Where not, an answer that does so all the same (one given
    while it was allowed) is heard: it marks each of them, and they compete; the value never does.
    """

    def __init__(self, classes: int, *, overlap: bool) -> None:
        super().__init__()
        self.classes = whole_number("classes", classes, 1, MOST_CLASSES)
        self.overlap = overlap or self.classes == 1
        self._marking = Marking.cold(self.classes, overlap=self.overlap)

    def _settings(self) -> str:
        return f"classes={self.classes}, overlap={self.overlap}"

    @abstractmethod
    def _marks(self, answered: Sequence[Answered[A]], voters: Voters, rows: Mapping[str, int]) -> Marks:
        """Return who marked what; ``rows`` are the labelers' numbers, by name."""

    def reliability(self, labeler: str) -> LabelerMarks:
        """Return how a labeler marks; the crowd's way for one never fitted."""
        row, share = self._rows.get(checked_name("labeler", labeler), -1), self._marking.share
        rates = self._marking.rates(np.array([row]))[0]
        out = 1.0 - share if self.overlap else np.full(share.size, 1.0 - share.sum())
        inside, hits = float(share.sum()), float(share @ rates[:, IN, OWN])
        alarms, outside = float(out @ rates[:, OUT, OWN]), float(out.sum() if self.overlap else out[0])
        marked = hits + alarms + float(share @ rates[:, IN, OTHER])
        accuracy = 2.0 * hits / (inside + marked)
        seen = float(self._marking.seen[row]) if row >= 0 else 0.0
        low, high = special.betaincinv(accuracy * seen + 0.5, (1.0 - accuracy) * seen + 0.5, [0.025, 0.975])
        votes = self._counts.get(labeler, 0)
        return LabelerMarks(
            labeler, votes, accuracy, float(low), float(high), 1.0 - hits / inside, alarms / outside
        )

    def _learn(self, answered: Sequence[Answered[A]], labelers: tuple[str, ...]) -> Mapping[str, Floats]:
        if not answered:
            return {}
        marks = self._marked(answered, {who: row for row, who in enumerate(labelers)})
        return fit(marks, len(labelers), self.classes, overlap=self.overlap).arrays()

    def _adopt(self, labelers: tuple[str, ...], fitted: Mapping[str, Floats]) -> None:
        super()._adopt(labelers, fitted)
        self._marking = Marking.of(fitted) if fitted else Marking.cold(self.classes, overlap=self.overlap)

    def _weighed(self, votes: Sequence[tuple[str, A]], marks: Marks) -> Weighed:
        """Return what one item's answers, at least one, say together; ``marks`` are theirs, labelers counted by row."""
        marking = self._marking
        rates = marking.rates(np.array([self._rows.get(who, -1) for who, _ in votes]))
        share = marking.share / marking.share.sum()
        # A labeler who marks at random has no weight, yet is heard where there is nobody else.
        weights = np.maximum(discernment(rates), 1e-9) @ share
        miss = np.log(rates[:, :, IN, NONE] @ share).sum() / (1.0 + marking.correlation * (len(votes) - 1))
        return Weighed(
            marks,
            marking.posterior(marks, rates, overlap=self.overlap),
            weights / weights.sum(),
            marking.per_item * float(np.exp(miss)),
        )

    def _marked(self, answered: Sequence[Answered[A]], rows: Mapping[str, int]) -> Marks:
        return self._marks(answered, voters_of(answered, rows), rows)

    def _marks_of_item(self, votes: Sequence[tuple[str, A]]) -> Marks:
        return self._marked([Answered("", votes, None)], {who: row for row, (who, _) in enumerate(votes)})


def voters_of(answered: Sequence[Answered[A]], rows: Mapping[str, int]) -> Voters:
    """Return who answered which item; items are counted, labelers are by their rows."""
    pairs = sorted((item, rows[who]) for item, one in enumerate(answered) for who, _ in one.votes)
    columns = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return Voters(columns[:, 0], columns[:, 1], len(answered), max(len(rows), 1))
