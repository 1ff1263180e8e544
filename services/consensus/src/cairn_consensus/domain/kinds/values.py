"""Numbers, ratings and texts."""

# ruff: noqa: D102 - QuestionState says what each method is for
from __future__ import annotations

from typing import Any

from cairn.consensus.v1.consensus_pb2 import Posterior, Reliability
from cairn.label.v1.label_schema_pb2 import Question, RatingQuestion
from cairn.label.v1.label_value_pb2 import Answer
from cairn_consensus.domain.ids import ItemKey
from cairn_consensus.domain.kinds.joined import JoinedState
from cairn_consensus.domain.kinds.question_state import Leading
from cairn_truth.live_answers import Evidence
from cairn_truth.values import numbers, ordinals, transcripts
from cairn_truth.values.numbers import LiveNumbers, Measured
from cairn_truth.values.ordinals import LiveRatings, Rated
from cairn_truth.values.transcripts import JoinedText, LiveTranscripts

_MOST_STEPS = 11
"""Steps of the longest rating that is judged step by step: 0 to 10. Of longer ones each step is too rare, and they are
numbers."""

_LONGEST_TEXT = 10_000
"""Code points that the contract allows where the question says nothing."""


class NumberState(JoinedState[float, Measured]):
    """A number in a range, or a step of a long scale."""

    algorithm = numbers.ALGORITHM
    algorithm_version = numbers.VERSION

    _live: LiveNumbers

    def __init__(self, question: Question) -> None:
        self._low, self._high = _range(question)
        if self._low is not None and self._high is not None and not self._low < self._high:
            self._low = self._high = None
        self._whole = question.WhichOneof("kind") == "rating" or question.number.whole
        super().__init__(question)

    def _empty(self) -> LiveNumbers:
        # Right means: the very step of a scale, or within half of what tells one item from another.
        return LiveNumbers(self._low, self._high, 0.5 if self._whole else None)

    def _read(self, answer: Answer) -> float:
        """Its value, which may have been given while the range was another."""
        value = float(getattr(answer, self.field))
        value = value if self._low is None else max(value, self._low)
        return value if self._high is None else min(value, self._high)

    def _written(self, item: ItemKey, joined: Measured) -> Leading:
        if not self._whole:
            return Leading(Answer(question=self.id, number=joined.value), joined.confidence)
        step = round(joined.value)
        low, high = (None if end is None else round(end) for end in (self._low, self._high))
        confidence = numbers.probability_of_step(joined, step, low, high)
        if self.field == "rating":
            return Leading(Answer(question=self.id, rating=step), confidence)
        return Leading(Answer(question=self.id, number=float(step)), confidence)

    def _said(self, answer: float) -> str:
        return f"{answer:g}"

    def fill(self, posterior: Posterior, item: ItemKey) -> None:
        measured = self._live.posterior(item)
        posterior.estimate = measured.value
        posterior.standard_deviation = measured.truth_sd

    def _reliability(self, known: Any) -> Reliability:
        return Reliability(bias=known.bias, spread=known.spread)


class RatingState(JoinedState[int, Rated]):
    """A step of a scale."""

    algorithm = ordinals.ALGORITHM
    algorithm_version = ordinals.VERSION

    near = 1.0  # the very step

    def _empty(self) -> LiveRatings:
        return LiveRatings(self.rules.minimum, self.rules.maximum)

    def _read(self, answer: Answer) -> int:
        rules: RatingQuestion = self.rules
        return min(max(answer.rating, rules.minimum), rules.maximum)

    def _written(self, item: ItemKey, joined: Rated) -> Leading:
        return Leading(Answer(question=self.id, rating=joined.value), joined.confidence)

    def _said(self, answer: int) -> str:
        return str(answer)

    def fill(self, posterior: Posterior, item: ItemKey) -> None:
        rated = self._live.posterior(item)
        posterior.estimate = rated.expected
        posterior.standard_deviation = rated.sd


def rating_state(question: Question) -> NumberState | RatingState:
    """A state for a rating, by the length of its scale."""
    steps = question.rating.maximum - question.rating.minimum + 1
    return RatingState(question) if 2 <= steps <= _MOST_STEPS else NumberState(question)


class TextState(JoinedState[str, JoinedText]):
    """A string: right or wrong as a whole where people agree word for word, else voted on word by word.

    Sure means, then, a low expected word error rate.
    """

    algorithm = transcripts.ALGORITHM
    algorithm_version = transcripts.VERSION

    near = 1.0  # word for word

    def _empty(self) -> LiveTranscripts:
        # What must match a pattern is one of the answers: put together of several it need not match.
        return LiveTranscripts(
            fold_case_and_space=self.rules.fold_case_and_space, whole=bool(self.rules.pattern)
        )

    def _read(self, answer: Answer) -> str:
        return answer.text

    def _written(self, item: ItemKey, joined: JoinedText) -> Leading:
        # Put together of several answers a text may be longer than any of them; those are among the candidates.
        most = self.rules.max_length or _LONGEST_TEXT
        fitting = [(text, sure) for text, sure in joined.candidates if len(text) <= most]
        text, sure = (joined.text, joined.confidence)
        if len(text) > most and fitting:
            text, sure = fitting[0]
        return Leading(Answer(question=self.id, text=text), sure)

    def _said(self, answer: str) -> str:
        return answer

    def _agrees(self, part: Evidence, said: str) -> bool:
        return part.agreement == self.near


def _range(question: Question) -> tuple[float | None, float | None]:
    if question.WhichOneof("kind") == "rating":
        return float(question.rating.minimum), float(question.rating.maximum)
    number = question.number
    return (
        number.minimum if number.HasField("minimum") else None,
        number.maximum if number.HasField("maximum") else None,
    )
