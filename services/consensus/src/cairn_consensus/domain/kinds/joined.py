"""The kinds of answer that one of truth's `LiveAnswers` joins: answers read, the joined value written, evidence told."""

# ruff: noqa: D102 - QuestionState says what each method is for
from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

from cairn.consensus.v1.consensus_pb2 import Reliability
from cairn.label.v1.label_schema_pb2 import Question
from cairn.label.v1.label_value_pb2 import Answer
from cairn_consensus.domain.ids import ItemKey, LabelerName
from cairn_consensus.domain.kinds.question_state import FittedState, Leading, Part
from cairn_truth.live_answers import A, Evidence, J, LiveAnswers

E = TypeVar("E")
"""An element of a list."""

NEAR = 0.5
"""Agreement from which on a vote is as good as the leading answer: the overlap at which shapes are the same."""


class JoinedState(FittedState, Generic[A, J]):
    """A kind of answer that is joined: it says how an answer is read, and how a joined value is written."""

    _live: LiveAnswers[A, J, Any]

    near = NEAR

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        self._truths: dict[ItemKey, Answer] = {}
        self._told: tuple[J, Leading] | None = None
        self._live = self._empty()

    # --- what a kind says

    @abstractmethod
    def _empty(self) -> LiveAnswers[A, J, Any]:
        """A live state that has heard nothing."""

    @abstractmethod
    def _read(self, answer: Answer) -> A:
        """What truth takes an answer for."""

    @abstractmethod
    def _written(self, item: ItemKey, joined: J) -> Leading:
        """The joined value as an answer that the schema allows."""

    @abstractmethod
    def _said(self, answer: A) -> str:
        """A short form of an answer."""

    def _reliability(self, known: Any) -> Reliability:
        """What is known of a labeler; by default, the chance to be right."""
        return Reliability(accuracy=known.accuracy, accuracy_low=known.low, accuracy_high=known.high)

    def _mended(self, answer: A) -> A | None:
        """What is left of an answer that truth refuses; by default nothing.

        The store takes some that say nothing: a line of no length, say.
        """
        return None

    # --- what all do alike

    def _vote(self, item: ItemKey, labeler: LabelerName, answer: Answer) -> None:
        self._hear(item, labeler, self._read(answer))

    def _hear(self, item: ItemKey, labeler: LabelerName, said: A) -> None:
        try:
            self._live.add(item, labeler, said)
        except ValueError:
            mended = self._mended(said)
            if mended is None:
                self._live.withdraw(item, labeler)
            else:
                self._live.add(item, labeler, mended)

    def _know(self, item: ItemKey, truth: Answer) -> None:
        self._truths[item] = truth
        self._clamp(item, self._read(truth))

    def _clamp(self, item: ItemKey, truth: A) -> None:
        try:
            self._live.know(item, truth)
        except ValueError:
            self._live.know(item, self._mended(truth))

    def leading(self, item: ItemKey) -> Leading | None:
        if not self._live.votes_on(item):
            return None
        if item in self._truths:
            return Leading(self._truths[item], 1.0)
        joined = self._live.posterior(item)
        if self._told is None or self._told[0] is not joined:  # it is asked for several times an item
            self._told = joined, self._written(item, joined)
        return self._told[1]

    def parts(self, item: ItemKey) -> list[Part]:
        said = dict(self._live.votes_on(item))
        return [
            Part(
                LabelerName(part.labeler),
                self._said(said[part.labeler]),
                part.weight,
                self._agrees(part, said[part.labeler]),
            )
            for part in (self._live.posterior(item).evidence if said else ())
        ]

    def _agrees(self, part: Evidence, said: A) -> bool:
        return part.agreement >= self.near

    def reliabilities(self) -> list[Reliability]:
        found = []
        for labeler in self._live.labelers():
            known = self._live.reliability(labeler)
            one = self._reliability(known)
            one.labeler, one.question, one.votes = labeler, self.id, known.votes
            found.append(one)
        return found


class ListState(JoinedState[tuple[E, ...], J], Generic[E, J]):
    """A kind of answer that is a list; lists are alike when their overlap is the question's."""

    unpacked = 6

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        self.near = question.quality.match_overlap or NEAR

    @abstractmethod
    def _element(self, given: Any) -> E | None:
        """What truth takes an element of an answer for; None for one of no class that is asked for."""

    @abstractmethod
    def _name(self, element: E) -> str:
        """What an element is called in a short form of the answer."""

    def _given(self, answer: Answer) -> Iterable[Any]:
        """The elements of an answer: a list has the name of the field it is in."""
        found: Iterable[Any] = getattr(getattr(answer, self.field), self.field)
        return found

    def _read(self, answer: Answer) -> tuple[E, ...]:
        return tuple(
            one for one in (self._element(given) for given in self._given(answer)) if one is not None
        )

    def _mended(self, answer: tuple[E, ...]) -> tuple[E, ...] | None:
        return tuple(one for one in answer if self._is_sound(one))

    def _is_sound(self, element: E) -> bool:
        try:
            self._empty().add("", "", (element,))
        except ValueError:
            return False
        return True

    def _answer(self, elements: Sequence[Any]) -> Answer:
        """An answer of these elements, as messages."""
        answer = Answer(question=self.id)
        value = getattr(answer, self.field)
        value.SetInParent()  # an empty list is an answer, too
        getattr(value, self.field).extend(elements)
        return answer

    def _said(self, answer: tuple[E, ...]) -> str:
        count: dict[str, int] = {}
        for one in answer:
            count[self._name(one)] = count.get(self._name(one), 0) + 1
        return ", ".join(f"{n} x {name}" if n > 1 else name for name, n in count.items()) or "none"
