"""Whether a reviewer's answer says that a label is wrong."""

from __future__ import annotations

import unicodedata
from enum import Enum

from cairn.label.v1.label_schema_pb2 import LabelSchema, NumberQuestion, Question, TextQuestion
from cairn.label.v1.label_value_pb2 import Answer, Ranking

_NUMBER_TOLERANCE = 0.01
"""Two readings of a number agree within 1 % of the question's range, or of the label where it has no range:
people who read the same scale differ by that much."""


class Judgement(Enum):
    """What one review says of one label. The values are what the schema keeps."""

    RIGHT = "right"
    WRONG = "wrong"
    NOT_JUDGED = "not_judged"
    """The reviewer could not tell, or did not answer the question."""


def question_named(schema: LabelSchema, question: str) -> Question | None:
    """The question of this id; the first when the id is empty; None when there is none of that name."""
    if not question:
        return schema.questions[0] if schema.questions else None
    return next((asked for asked in schema.questions if asked.id == question), None)


def class_of(answer: Answer) -> str:
    """The class by which labels are put into strata; empty where an answer is not a single class."""
    return answer.choice if answer.WhichOneof("value") == "choice" else ""


def judge(question: Question, label: Answer, review: Answer | None) -> Judgement:
    """Compare a review's answer with the label it judges.

    A review that abstains judges nothing, unless the label itself says that nothing can be told.
    """
    if review is None or review.WhichOneof("value") is None:
        return Judgement.NOT_JUDGED
    abstains = review.WhichOneof("value") == "abstention"
    if abstains and label.WhichOneof("value") != "abstention":
        return Judgement.NOT_JUDGED
    return Judgement.RIGHT if same_answer(question, label, review) else Judgement.WRONG


def same_answer(question: Question, one: Answer, other: Answer) -> bool:
    """Whether two answers to a question say the same.

    Sets of classes regardless of order, numbers within a tolerance, texts after Unicode normalisation; answers
    of kinds without a notion of closeness (shapes, spans, ...) when they are equal in every detail.
    """
    kind = one.WhichOneof("value")
    if kind != other.WhichOneof("value"):
        return False
    match kind:
        case "abstention":
            return one.abstention.kind == other.abstention.kind
        case "choices":
            return set(one.choices.class_ids) == set(other.choices.class_ids)
        case "number":
            return _same_number(question.number, one.number, other.number)
        case "text":
            return _normal(question.text, one.text) == _normal(question.text, other.text)
        case "ranking":
            return _tiers(one.ranking) == _tiers(other.ranking)
        case _:
            return _exact(one) == _exact(other)


def _same_number(question: NumberQuestion, one: float, other: float) -> bool:
    if question.whole:
        return one == other
    if question.HasField("minimum") and question.HasField("maximum"):
        scale = question.maximum - question.minimum
    else:
        scale = abs(one)
    return abs(one - other) <= _NUMBER_TOLERANCE * scale


def _normal(question: TextQuestion, text: str) -> str:
    composed = unicodedata.normalize("NFC", text).strip()
    return " ".join(composed.casefold().split()) if question.fold_case_and_space else composed


def _tiers(ranking: Ranking) -> list[frozenset[str]]:
    return [frozenset(tier.candidate_ids) for tier in ranking.tiers]


def _exact(answer: Answer) -> bytes:
    return answer.SerializeToString(deterministic=True)
