"""What the rest of consensus knows of a question, whatever the kind of its answers."""

# ruff: noqa: D102 - QuestionState says what each method is for
from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from cairn.consensus.v1.consensus_pb2 import Posterior, Reliability
from cairn.label.v1.label_schema_pb2 import LabelClass, Question
from cairn.label.v1.label_value_pb2 import Answer
from cairn_consensus.domain.ids import ItemKey, LabelerName, QuestionId
from cairn_truth import StopDecision, StopPolicy
from cairn_truth.routing.stop_rule import decide

_FIELDS = {"keypoints": "skeletons"}
"""The fields of answers that are not named as their kind of question."""


@dataclass(frozen=True, slots=True)
class Leading:
    """The answer that would stand now, and its confidence: the chance that it is right, or its expected quality.

    ``parts``: of an answer that is a list, the chance of each part to be right.
    """

    answer: Answer
    confidence: float
    parts: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """One vote's part in the leading answer: `weight` in nats for classes, elsewhere its share of the answer.

    `agrees` when it is the leading answer itself, or as near to it as the question asks: one who errs predictably
    weighs for what they did not say.
    """

    labeler: LabelerName
    said: str
    weight: float
    agrees: bool


class QuestionState(ABC):
    """The votes on one question of a project, what they say, and who is how reliable."""

    algorithm: str
    algorithm_version: str
    """Changes whenever the same answers may give another label."""

    unpacked = 1
    """Bytes that an answer at hand takes in memory, for each that it has on the wire: measured, about."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.id = QuestionId(question.id)
        kind = question.WhichOneof("kind") or "choice"
        self.field = _FIELDS.get(kind, kind)
        """The field of an answer that holds its value."""
        self.heard: set[LabelerName] = set()
        """Labelers whose answers have come, or gone, since somebody last looked."""

    @property
    def rules(self) -> Any:
        """The message of the question's own kind."""
        return getattr(self.question, self.question.WhichOneof("kind") or "choice")

    @property
    def classes(self) -> Sequence[LabelClass]:
        """The question's classes; none where it has none."""
        return getattr(self.rules, "classes", ())

    def vote(self, item: ItemKey, labeler: LabelerName, answer: Answer) -> None:
        """Add a labeler's answer, or replace it. One of another kind is no vote: the question was another then."""
        if answer.WhichOneof("value") == self.field:
            self.heard.add(labeler)
            self._vote(item, labeler, answer)

    @abstractmethod
    def _vote(self, item: ItemKey, labeler: LabelerName, answer: Answer) -> None:
        """Add a labeler's answer of this kind, or replace it."""

    def score(
        self, item: ItemKey, model: str, probabilities: Sequence[float], class_ids: Sequence[str]
    ) -> None:
        """Hear what a model says; kinds that models do not answer ignore it."""
        return

    def know(self, item: ItemKey, truth: Answer) -> None:
        """Clamp an item to a known truth; one of another kind is none."""
        if truth.WhichOneof("value") == self.field:
            self._know(item, truth)

    @abstractmethod
    def _know(self, item: ItemKey, truth: Answer) -> None:
        """Clamp an item to a known truth of this kind."""

    def look_at(self, items: Sequence[ItemKey], *, evidence: bool) -> None:
        """Hear which items are asked about next: a kind may find out about many faster than about each.

        ``evidence``: for most of them `parts` will be asked, too.
        """
        return

    def joins(self, item: ItemKey) -> bool:
        """Whether the answers to this item can be joined, when there are several."""
        return True

    @abstractmethod
    def leading(self, item: ItemKey) -> Leading | None:
        """The answer that would stand now; None while nobody has answered."""

    @abstractmethod
    def parts(self, item: ItemKey) -> list[Part]:
        """What weighed, heaviest first."""

    def fill(self, posterior: Posterior, item: ItemKey) -> None:
        """Write what is known beside the leading answer and its confidence."""
        return

    @abstractmethod
    def reliabilities(self) -> list[Reliability]:
        """What is known of each labeler who voted, by name; item counts and times are the caller's."""

    @property
    @abstractmethod
    def answers(self) -> int:
        """How many answers were given, by people and models, whichever are at hand."""

    @abstractmethod
    def counts(self) -> Mapping[str, int]:
        """How many each labeler gave."""

    @abstractmethod
    def count_of(self, labeler: LabelerName) -> int:
        """How many this labeler gave."""

    @abstractmethod
    def count_as(self, counts: Mapping[str, int]) -> None:
        """Count answers as said."""

    @abstractmethod
    def uncounted(self) -> AbstractContextManager[None]:
        """What is heard meanwhile is counted already."""

    def stop(self, item: ItemKey, answers: int, policy: StopPolicy) -> StopDecision:
        """Whether one more answer is worth its cost, after `answers` by people."""
        leading = self.leading(item)
        confidence = leading.confidence if leading else 0.0
        return decide(np.array([confidence]), answers, policy, correlation=0.0)

    @abstractmethod
    def fitting(self) -> Callable[[], Any]:
        """A function that fits to the votes of now, in whatever order they came and whatever comes in while it runs."""

    @abstractmethod
    def adopt(self, learnt: Any) -> None:
        """Take into use what such a function returned."""

    @abstractmethod
    def save(self) -> bytes:
        """The fitted state."""

    @abstractmethod
    def restore(self, saved: bytes) -> None:
        """Adopt a fitted state. Raises ValueError where it is of another kind of fit."""

    @abstractmethod
    def digest(self) -> bytes:
        """SHA-256 of the fitted state."""


class Live(Protocol):
    """What every live state of truth can do."""

    @property
    def votes(self) -> int: ...

    def counts(self) -> Mapping[str, int]: ...

    def count_of(self, labeler: str) -> int: ...

    def count_as(self, counts: Mapping[str, int]) -> None: ...

    def uncounted(self) -> AbstractContextManager[None]: ...

    def fitting(self) -> Callable[[], Any]: ...

    def adopt(self, learnt: Any) -> None: ...

    def save(self) -> bytes: ...

    def restore(self, saved: bytes) -> None: ...

    def digest(self) -> bytes: ...


class FittedState(QuestionState):
    """A kind of answer of which one of truth's live states knows what is fitted."""

    _live: Live

    numbered = False
    """Whether the fit knows the question's classes by number: it is of no use once their order is another."""

    @property
    def answers(self) -> int:
        return self._live.votes

    def counts(self) -> Mapping[str, int]:
        return self._live.counts()

    def count_of(self, labeler: LabelerName) -> int:
        return self._live.count_of(labeler)

    def count_as(self, counts: Mapping[str, int]) -> None:
        self._live.count_as(counts)

    def uncounted(self) -> AbstractContextManager[None]:
        return self._live.uncounted()

    def fitting(self) -> Callable[[], Any]:
        return self._live.fitting()

    def adopt(self, learnt: Any) -> None:
        self._live.adopt(learnt)

    def save(self) -> bytes:
        return self._mark() + self._live.save()

    def restore(self, saved: bytes) -> None:
        mark = self._mark()
        if not saved.startswith(mark):
            raise ValueError(
                f"the kept fit is not one by {self.algorithm} {self.algorithm_version} of these classes"
            )
        self._live.restore(saved[len(mark) :])

    def digest(self) -> bytes:
        return self._live.digest()

    def _mark(self) -> bytes:
        """What a kept fit begins with: another version may mean other things by the same arrays."""
        named = [one.id for one in self.classes] if self.numbered else []
        return hashlib.sha256("\0".join([self.algorithm, self.algorithm_version, *named]).encode()).digest()
