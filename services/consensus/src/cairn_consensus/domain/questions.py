"""What the answers to one question say: one state for each kind of answer that can be joined."""

# ruff: noqa: D102 - QuestionState says what each method is for
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cairn.consensus.v1.consensus_pb2 import ClassProbability, Posterior, Reliability
from cairn.label.v1.label_schema_pb2 import Question
from cairn.label.v1.label_value_pb2 import Answer, Choices
from cairn_consensus.domain.ids import ItemKey, LabelerName, QuestionId, is_model, model_labeler
from cairn_truth import (
    ChosenSet,
    LiveChoices,
    LiveClasses,
    LiveNumbers,
    StopDecision,
    StopPolicy,
    Weighed,
)
from cairn_truth.classes.blocks import ALGORITHM, VERSION
from cairn_truth.routing.stop_rule import decide
from cairn_truth.values import numbers, transcripts
from cairn_truth.values.transcripts import LiveTranscripts

_SHOWN = 0.001
"""Classes less probable than this are left out of a posterior."""

_MOST_CONFUSION = 50
"""Confusion matrices of more classes than this are not sent."""


@dataclass(frozen=True, slots=True)
class Leading:
    """The answer that would stand now, and the probability that it is right."""

    answer: Answer
    confidence: float


@dataclass(frozen=True, slots=True)
class Part:
    """One vote's part in the leading answer: `weight` in nats (for numbers, its share of the estimate).

    `agrees` when it is the leading answer itself: one who errs predictably weighs for what they did not say.
    """

    labeler: LabelerName
    said: str
    weight: float
    agrees: bool


class QuestionState(ABC):
    """The votes on one question of a project, what they say, and who is how reliable."""

    algorithm: str
    algorithm_version = "1"
    """Changes whenever the same answers may give another label."""
    fitted = True
    """Whether answers of this kind can be joined at all."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.id = QuestionId(question.id)

    @abstractmethod
    def vote(self, item: ItemKey, labeler: LabelerName, answer: Answer) -> None:
        """Add a labeler's answer, or replace it."""

    def score(
        self, item: ItemKey, model: str, probabilities: Sequence[float], class_ids: Sequence[str]
    ) -> None:
        """Hear what a model says; kinds that models do not answer ignore it."""
        return

    @abstractmethod
    def know(self, item: ItemKey, truth: Answer) -> None:
        """Clamp an item to a known truth."""

    @abstractmethod
    def leading(self, item: ItemKey) -> Leading | None:
        """The answer that would stand now; None while nobody has answered."""

    @abstractmethod
    def parts(self, item: ItemKey) -> list[Part]:
        """What weighed, heaviest first."""

    @abstractmethod
    def fill(self, posterior: Posterior, item: ItemKey) -> None:
        """Write the posterior's numbers."""

    @abstractmethod
    def reliabilities(self) -> list[Reliability]:
        """What is known of each labeler who voted, by name; item counts and times are the caller's."""

    def stop(self, item: ItemKey, answers: int, policy: StopPolicy) -> StopDecision:
        """Whether one more answer is worth its cost, after `answers` by people."""
        leading = self.leading(item)
        confidence = leading.confidence if leading else 0.0
        return decide(np.array([confidence]), answers, policy, correlation=0.0)

    @abstractmethod
    def refit(self) -> None:
        """Fit everybody's reliability to all votes, whatever the order in which they came."""

    @abstractmethod
    def save(self) -> bytes:
        """The fitted state."""

    @abstractmethod
    def restore(self, saved: bytes) -> None:
        """Adopt a fitted state, after the votes were added."""

    @abstractmethod
    def digest(self) -> bytes:
        """SHA-256 of the fitted state."""


class FittedState(QuestionState):
    """A kind of answer that can be joined: what one of truth's live states knows of it."""

    _live: LiveChoices | LiveClasses | LiveNumbers | LiveTranscripts

    def refit(self) -> None:
        self._live.refit()

    def save(self) -> bytes:
        return self._live.save()

    def restore(self, saved: bytes) -> None:
        self._live.restore(saved)

    def digest(self) -> bytes:
        return self._live.digest()


class ChoiceState(FittedState):
    """Exactly one of the classes."""

    algorithm = ALGORITHM
    algorithm_version = VERSION

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        self.class_ids = [one.id for one in question.choice.classes]
        self._place = {class_id: place for place, class_id in enumerate(self.class_ids)}
        self._live: LiveClasses = LiveClasses(len(self.class_ids), is_model=is_model)
        self._model_vote: dict[ItemKey, LabelerName] = {}

    def vote(self, item: ItemKey, labeler: LabelerName, answer: Answer) -> None:
        self._live.update(item, labeler, self._place[answer.choice])

    def score(
        self, item: ItemKey, model: str, probabilities: Sequence[float], class_ids: Sequence[str]
    ) -> None:
        best = int(np.argmax(probabilities))
        if class_ids[best] not in self._place:
            return
        labeler = model_labeler(model, float(probabilities[best]))
        before = self._model_vote.get(item)
        if before is not None and before != labeler:
            self._live.withdraw(item, before)
        self._model_vote[item] = labeler
        self._live.update(item, labeler, self._place[class_ids[best]])

    def know(self, item: ItemKey, truth: Answer) -> None:
        if truth.WhichOneof("value") == "choice":
            self._live.know(item, self._place.get(truth.choice))

    def leading(self, item: ItemKey) -> Leading | None:
        if not self._live.votes_on(item):
            return None
        posterior = self._live.posterior(item)
        best = int(posterior.argmax())
        return Leading(Answer(question=self.id, choice=self.class_ids[best]), float(posterior[best]))

    def stop(self, item: ItemKey, answers: int, policy: StopPolicy) -> StopDecision:
        return decide(self._live.posterior(item), answers, policy, correlation=self._live.model.correlation)

    def parts(self, item: ItemKey) -> list[Part]:
        lead = int(self._live.posterior(item).argmax())
        return [
            Part(LabelerName(part.labeler), self.class_ids[part.choice], part.weight, part.choice == lead)
            for part in self._live.weigh(item)
        ]

    def fill(self, posterior: Posterior, item: ItemKey) -> None:
        said = self._live.posterior(item)
        for place in np.argsort(-said, kind="stable"):
            if said[place] < _SHOWN:
                break
            posterior.classes.add(class_id=self.class_ids[place], probability=float(said[place]))

    def reliabilities(self) -> list[Reliability]:
        found = []
        for labeler in self._live.labelers():
            known = self._live.reliability(labeler)
            few = len(self.class_ids) <= _MOST_CONFUSION
            found.append(
                Reliability(
                    labeler=labeler,
                    question=self.id,
                    votes=known.votes,
                    accuracy=known.accuracy,
                    accuracy_low=known.low,
                    accuracy_high=known.high,
                    class_ids=self.class_ids if few else [],
                    confusion=known.confusion.ravel().tolist() if few else [],
                )
            )
        return found


class ChoicesState(FittedState):
    """A set of the classes."""

    algorithm = f"{ALGORITHM} per class"
    algorithm_version = f"{VERSION}.1"
    """The second number is of what is made here of the classes' probabilities."""

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        self._fewest = question.choices.min_choices
        self._most = question.choices.max_choices or len(question.choices.classes)
        self._live: LiveChoices = LiveChoices()

    def vote(self, item: ItemKey, labeler: LabelerName, answer: Answer) -> None:
        self._live.update(item, labeler, answer.choices.class_ids)

    def know(self, item: ItemKey, truth: Answer) -> None:
        if truth.WhichOneof("value") == "choices":
            self._live.know(item, truth.choices.class_ids)

    def leading(self, item: ItemKey) -> Leading | None:
        if not self._live.votes_on(item):
            return None
        classes, confidence = self._allowed(self._live.posterior(item))
        return Leading(Answer(question=self.id, choices=Choices(class_ids=classes)), confidence)

    def _allowed(self, chosen: ChosenSet) -> tuple[Sequence[str], float]:
        """The most probable set that an answer may be, and how sure it is. Each class is judged by itself: together
        they may be more or fewer than the question allows."""
        size = min(max(len(chosen.classes), self._fewest), self._most)
        if size == len(chosen.classes):
            return chosen.classes, chosen.confidence
        p = chosen.probabilities
        allowed = set(sorted(p, key=lambda name: (-p[name], name))[:size])
        confidence = chosen.confidence
        for name in sorted(allowed ^ set(chosen.classes)):
            # What is left out is likelier than not, what is taken in is not: neither divides by nothing.
            confidence *= p[name] / (1.0 - p[name]) if name in allowed else (1.0 - p[name]) / p[name]
        return sorted(allowed), confidence

    def parts(self, item: ItemKey) -> list[Part]:
        lead, votes = set(self._allowed(self._live.posterior(item))[0]), self._live.votes_on(item)
        said = {who: (",".join(sorted(chosen)), set(chosen) == lead) for who, chosen in votes}
        return _parts(self._live.weigh(item), said)

    def fill(self, posterior: Posterior, item: ItemKey) -> None:
        probabilities = self._live.posterior(item).probabilities
        posterior.classes.extend(
            ClassProbability(class_id=name, probability=p)
            for name, p in sorted(probabilities.items(), key=lambda pair: (-pair[1], pair[0]))
        )

    def reliabilities(self) -> list[Reliability]:
        known = [self._live.reliability(labeler) for labeler in self._live.labelers()]
        return [
            Reliability(
                labeler=one.labeler,
                question=self.id,
                votes=one.votes,
                accuracy=one.accuracy,
                accuracy_low=one.low,
                accuracy_high=one.high,
            )
            for one in known
        ]


class NumberState(FittedState):
    """A number in a range, or a step of a scale."""

    algorithm = numbers.ALGORITHM
    algorithm_version = numbers.VERSION

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        self._rating = question.WhichOneof("kind") == "rating"
        self._whole = self._rating or question.number.whole
        self._low, self._high = _range(question)
        if self._low is not None and self._high is not None and not self._low < self._high:
            self._low = self._high = None
        # Right means: the very step of a scale, or within half of what tells one item from another.
        tolerance = 0.5 if self._whole else None
        self._live: LiveNumbers = LiveNumbers(self._low, self._high, tolerance)

    def vote(self, item: ItemKey, labeler: LabelerName, answer: Answer) -> None:
        self._live.update(item, labeler, self._inside(_number(answer)))

    def know(self, item: ItemKey, truth: Answer) -> None:
        if truth.WhichOneof("value") in ("number", "rating"):
            self._live.know(item, self._inside(_number(truth)))

    def _inside(self, value: float) -> float:
        """A value of an answer that was given while the range was another."""
        value = value if self._low is None else max(value, self._low)
        return value if self._high is None else min(value, self._high)

    def leading(self, item: ItemKey) -> Leading | None:
        if not self._live.votes_on(item):
            return None
        measured = self._live.posterior(item)
        if not self._whole:
            return Leading(Answer(question=self.id, number=measured.value), measured.confidence)
        step = round(measured.value)
        low, high = (None if end is None else round(end) for end in (self._low, self._high))
        confidence = numbers.probability_of_step(measured, step, low, high)
        if self._rating:
            return Leading(Answer(question=self.id, rating=step), confidence)
        return Leading(Answer(question=self.id, number=float(step)), confidence)

    def parts(self, item: ItemKey) -> list[Part]:
        measured, near = self._live.posterior(item), self._live.tolerance
        said = dict(self._live.votes_on(item))
        return [
            Part(
                LabelerName(part.labeler),
                f"{said[part.labeler]:g}",
                part.weight,
                abs(said[part.labeler] - measured.value) <= near,
            )
            for part in measured.evidence
        ]

    def fill(self, posterior: Posterior, item: ItemKey) -> None:
        measured = self._live.posterior(item)
        posterior.estimate = measured.value
        posterior.standard_deviation = measured.truth_sd

    def reliabilities(self) -> list[Reliability]:
        known = [self._live.reliability(labeler) for labeler in self._live.labelers()]
        return [
            Reliability(
                labeler=one.labeler, question=self.id, votes=one.votes, bias=one.bias, spread=one.spread
            )
            for one in known
        ]


class TextState(FittedState):
    """A string: right or wrong as a whole where people agree word for word, else voted on word by word.

    Sure means, then, a low expected word error rate.
    """

    algorithm = transcripts.ALGORITHM
    algorithm_version = transcripts.VERSION

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        text = question.text
        # What must match a pattern is one of the answers: put together of several it need not match.
        self._live: LiveTranscripts = LiveTranscripts(
            fold_case_and_space=text.fold_case_and_space, whole=bool(text.pattern)
        )

    def vote(self, item: ItemKey, labeler: LabelerName, answer: Answer) -> None:
        self._live.add(item, labeler, answer.text)

    def know(self, item: ItemKey, truth: Answer) -> None:
        if truth.WhichOneof("value") == "text":
            self._live.know(item, truth.text)

    def leading(self, item: ItemKey) -> Leading | None:
        if not self._live.votes_on(item):
            return None
        joined = self._live.posterior(item)
        return Leading(Answer(question=self.id, text=joined.text), joined.confidence)

    def parts(self, item: ItemKey) -> list[Part]:
        said = dict(self._live.votes_on(item))
        return [
            Part(LabelerName(part.labeler), said[part.labeler], part.weight, part.agreement == 1.0)
            for part in self._live.posterior(item).evidence
        ]

    def fill(self, posterior: Posterior, item: ItemKey) -> None:
        return  # the leading answer and its confidence say it all

    def reliabilities(self) -> list[Reliability]:
        known = [self._live.reliability(labeler) for labeler in self._live.labelers()]
        return [
            Reliability(
                labeler=one.labeler,
                question=self.id,
                votes=one.votes,
                accuracy=one.accuracy,
                accuracy_low=one.low,
                accuracy_high=one.high,
            )
            for one in known
        ]


class UnjoinedState(QuestionState):
    """A kind of answer that cannot be joined yet: one answer stands alone, several are for a reviewer."""

    algorithm = "SingleAnswer"
    fitted = False

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        self._answers: dict[ItemKey, dict[LabelerName, Answer]] = {}

    def vote(self, item: ItemKey, labeler: LabelerName, answer: Answer) -> None:
        self._answers.setdefault(item, {})[labeler] = answer

    def know(self, item: ItemKey, truth: Answer) -> None:
        return

    def leading(self, item: ItemKey) -> Leading | None:
        answers = self._answers.get(item, {})
        return Leading(next(iter(answers.values())), 0.5) if len(answers) == 1 else None

    def parts(self, item: ItemKey) -> list[Part]:
        return [
            Part(labeler, self.question.WhichOneof("kind") or "", 0.0, True)
            for labeler in self._answers.get(item, {})
        ]

    def fill(self, posterior: Posterior, item: ItemKey) -> None:
        return

    def reliabilities(self) -> list[Reliability]:
        return []

    def refit(self) -> None:
        return

    def save(self) -> bytes:
        return b""

    def restore(self, saved: bytes) -> None:
        return

    def digest(self) -> bytes:
        return b""


_STATES: dict[str, type[QuestionState]] = {
    "choice": ChoiceState,
    "choices": ChoicesState,
    "number": NumberState,
    "rating": NumberState,
    "text": TextState,
}


def state_of(question: Question) -> QuestionState:
    """An empty state for a question of any kind."""
    return _STATES.get(question.WhichOneof("kind") or "", UnjoinedState)(question)


def _parts(weighed: Sequence[Weighed], said: dict[str, tuple[str, bool]]) -> list[Part]:
    return [
        Part(LabelerName(one.labeler), said[one.labeler][0], one.weight, said[one.labeler][1])
        for one in weighed
    ]


def _number(answer: Answer) -> float:
    return float(answer.rating) if answer.WhichOneof("value") == "rating" else answer.number


def _range(question: Question) -> tuple[float | None, float | None]:
    if question.WhichOneof("kind") == "rating":
        return float(question.rating.minimum), float(question.rating.maximum)
    number = question.number
    return (
        number.minimum if number.HasField("minimum") else None,
        number.maximum if number.HasField("maximum") else None,
    )
