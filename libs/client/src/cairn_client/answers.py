"""Answers as plain Python values, both ways.

| kind | value |
|---|---|
| choice | the class id, a string |
| choices | a list of class ids |
| number, rating | a float, an int |
| text | a string |
| ranking | a list of places, each a list of candidate ids |
| preference | the better candidate's id, or None for a tie |
| all others | the contract's message, or its JSON as a dict |
| no value | an `Abstain` |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format

from cairn.label.v1 import label_value_pb2 as values
from cairn.label.v1.label_schema_pb2 import LabelSchema, Question
from cairn.label.v1.label_value_pb2 import (
    AbstentionKind,
    Answer,
    Choices,
    Preference,
    Ranking,
    RankingTier,
)
from cairn_client.errors import InputError
from cairn_client.words import quoted, shortened, shown

_FIELD_OF_KIND = {"keypoints": "skeletons"}
"""Where the answer's field is not named as its question's kind."""


@dataclass(frozen=True, slots=True)
class Abstain:
    """The labeler says why no value can be given."""

    reason: str = ""
    broken_item: bool = False

    def answer(self, question: str) -> Answer:
        """The message."""
        kind = (
            AbstentionKind.ABSTENTION_KIND_BROKEN_ITEM
            if self.broken_item
            else AbstentionKind.ABSTENTION_KIND_CANNOT_TELL
        )
        return Answer(question=question, abstention=values.Abstention(kind=kind, reason=self.reason))


def answer_of(question: Question, value: object) -> Answer:
    """The Answer message for a Python value. Raises InputError when the value cannot be of the question's
    kind.

    Whether it fits the question (a known class, a number in range) is the server's to say.
    """
    if isinstance(value, Answer):
        return value
    kind = question.WhichOneof("kind") or ""
    try:
        return value.answer(question.id) if isinstance(value, Abstain) else _answer(question.id, kind, value)
    except (TypeError, ValueError, OverflowError, AttributeError, json_format.ParseError):
        raise InputError(
            f"{shortened(repr(value))} is not an answer to {question.id!r}, which asks for {kind}."
        ) from None


def _answer(ident: str, kind: str, value: Any) -> Answer:
    match kind:
        case "choice":
            return Answer(question=ident, choice=_text(value))
        case "text":
            return Answer(question=ident, text=_text(value))
        case "choices":
            if isinstance(value, str):
                raise TypeError
            return Answer(question=ident, choices=Choices(class_ids=[_text(one) for one in value]))
        case "number":
            return Answer(question=ident, number=float(value))
        case "rating":
            if float(value) != int(float(value)):
                raise ValueError
            return Answer(question=ident, rating=int(float(value)))
        case "preference":
            return Answer(question=ident, preference=Preference(candidate_id=value or ""))
        case "ranking":
            tiers = [[place] if isinstance(place, str) else list(place) for place in value]
            return Answer(
                question=ident, ranking=Ranking(tiers=[RankingTier(candidate_ids=t) for t in tiers])
            )
    field = _FIELD_OF_KIND.get(kind, kind)
    if isinstance(value, Mapping):
        return json_format.ParseDict({"question": ident, field: dict(value)}, Answer())
    answer = Answer(question=ident)
    getattr(answer, field).CopyFrom(value)
    return answer


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def answers_of(
    schema: LabelSchema, values_by_question: Mapping[str, object] | Iterable[Answer]
) -> list[Answer]:
    """Answer messages from `{question id: value}`. Raises InputError for what is neither that nor messages, and for a
    question the schema does not have."""
    if not isinstance(values_by_question, Mapping):
        return answer_messages(values_by_question)
    questions = {question.id: question for question in schema.questions}
    for ident in values_by_question:
        if ident not in questions:
            raise InputError(
                f"The project has no question {quoted(str(ident))}; it has {', '.join(questions)}."
            )
    return [answer_of(questions[ident], value) for ident, value in values_by_question.items()]


def answer_messages(answers: Iterable[Answer]) -> list[Answer]:
    """The same, as a list. Raises InputError for anything else."""
    messages = list(answers) if isinstance(answers, Iterable) else []
    if not messages or not all(isinstance(one, Answer) for one in messages):
        raise InputError(
            f"{shown(answers)} are no answers; expected {{question id: value}}, or Answer messages."
        )
    return messages


def value_of(answer: Answer) -> Any:
    """The Python value of an answer; see the table above."""
    match answer.WhichOneof("value"):
        case "choice":
            return answer.choice
        case "text":
            return answer.text
        case "number":
            return answer.number
        case "rating":
            return answer.rating
        case "choices":
            return list(answer.choices.class_ids)
        case "preference":
            return answer.preference.candidate_id or None
        case "ranking":
            return [list(tier.candidate_ids) for tier in answer.ranking.tiers]
        case "abstention":
            broken = answer.abstention.kind == AbstentionKind.ABSTENTION_KIND_BROKEN_ITEM
            return Abstain(answer.abstention.reason, broken)
        case None:
            return None
        case kind:
            return json_format.MessageToDict(getattr(answer, kind), preserving_proto_field_name=True)


def short_text(answer: Answer, limit: int = 60) -> str:
    """An answer in one short line, for tables."""
    value = value_of(answer)
    if isinstance(value, Abstain):
        text = "broken item" if value.broken_item else "cannot tell"
    elif isinstance(value, list):
        text = ", ".join(map(str, value))
    elif isinstance(value, float):
        text = f"{value:g}"
    else:
        text = str(value)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
