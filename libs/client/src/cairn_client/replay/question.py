"""What a recorded crowd was asked, guessed from what it said or stated by a schema; and its labels as
answers."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from cairn.label.v1.label_schema_pb2 import (
    ChoiceQuestion,
    LabelClass,
    NumberQuestion,
    Question,
    TextQuestion,
)
from cairn.label.v1.label_value_pb2 import Answer
from cairn_client.answers import answer_of, value_of
from cairn_client.errors import InputError
from cairn_client.schema import classes_of
from cairn_client.words import quoted

QUESTION_ID = "label"
_CLASS_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MOST_NUMERIC_CLASSES = 30
_MOST_TEXT_CLASSES = 500
_USES_OF_A_CLASS = 5


class Kind(Enum):
    """The kinds of question that a replay can ask."""

    CHOICE = "choice"
    NUMBER = "number"
    RATING = "rating"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Asked:
    """The question, and how a recorded label becomes an answer and an answer a label again."""

    question: Question
    kind: Kind
    classes: Mapping[str, str]
    """Recorded label -> class id, for choices."""

    def answer(self, label: str) -> Answer:
        """The answer that a recorded label stands for. Raises InputError for one that is no answer."""
        match self.kind:
            case Kind.CHOICE:
                ident = self.classes.get(label)
                if ident is None:
                    raise InputError(
                        f"The label {quoted(label)} is none of the classes of {self.question.id!r}."
                    )
                return answer_of(self.question, ident)
            case Kind.TEXT:
                return answer_of(self.question, label)
            case _:
                return answer_of(self.question, _finite(label))

    def label(self, answer: Answer) -> str | None:
        """The label that an answer stands for; None for an abstention."""
        value = value_of(answer)
        if self.kind is Kind.CHOICE:
            return {ident: label for label, ident in self.classes.items()}.get(value)
        if self.kind in (Kind.NUMBER, Kind.RATING):
            return None if not isinstance(value, int | float) else repr(float(value))
        return value if isinstance(value, str) else None


def _finite(label: str) -> float:
    number = _number(label)
    if number is None:
        raise InputError(f"The label {quoted(label)} is not a number.")
    return number


def _number(label: str) -> float | None:
    try:
        number = float(label)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def asked_of(labels: Sequence[str], truth: Iterable[str], kind: Kind | None = None) -> Asked:
    """The question behind recorded labels.

    Few different labels, each used often, are classes; many numbers are measurements; all else is text.
    """
    counts = Counter(labels)
    known = list(dict.fromkeys([*counts, *truth]))
    kind = kind or _guess(counts)
    question = Question(id=QUESTION_ID, title="The recorded question", required=True)
    if kind is Kind.CHOICE:
        classes = class_ids(sorted(known, key=_natural))
        if len(classes) < 2:
            classes = {**classes, "(other)": "other"}
        question.choice.CopyFrom(
            ChoiceQuestion(classes=[LabelClass(id=i, title=label[:200]) for label, i in classes.items()])
        )
        return Asked(question, kind, classes)
    if kind is Kind.NUMBER:
        question.number.CopyFrom(NumberQuestion())
    elif kind is Kind.RATING:
        numbers = [int(_finite(label)) for label in known]
        question.rating.minimum, question.rating.maximum = min(numbers), max(*numbers, min(numbers) + 1)
    else:
        longest = max(map(len, known), default=0)
        question.text.CopyFrom(TextQuestion(fold_case_and_space=True, max_length=max(10_000, longest)))
    return Asked(question, kind, {})


def asked_by(question: Question, labels: Iterable[str]) -> Asked:
    """The question of a schema; recorded labels must be its class ids or titles."""
    kind = question.WhichOneof("kind") or ""
    if kind not in {one.value for one in Kind}:
        raise InputError(f"A replay can ask choice, number, rating and text questions, not {kind!r}.")
    classes: dict[str, str] = {}
    for one in classes_of(question):
        classes.setdefault(one.title or one.id, one.id)
        classes[one.id] = one.id
    if unknown := [label for label in dict.fromkeys(labels) if classes and label not in classes]:
        raise InputError(
            f"The recorded label {quoted(unknown[0])} is none of the classes of {question.id!r} in the schema."
        )
    return Asked(question, Kind(kind), classes)


def unanswered_classes(asked: Asked, labels: Iterable[str], truth: Iterable[str]) -> list[str]:
    """Classes that only the truth has, and nobody ever answered: a misspelling, perhaps."""
    given = set(labels)
    return [label for label in dict.fromkeys(truth) if asked.kind is Kind.CHOICE and label not in given]


def _guess(counts: Counter[str]) -> Kind:
    numbers = [_number(label) for label in counts]
    if all(number is not None for number in numbers):
        whole = all(number is not None and number == int(number) and number >= 0 for number in numbers)
        often = sum(counts.values()) >= _USES_OF_A_CLASS * len(counts)
        return Kind.CHOICE if whole and often and len(counts) <= _MOST_NUMERIC_CLASSES else Kind.NUMBER
    often = sum(counts.values()) >= _USES_OF_A_CLASS * len(counts)
    return Kind.CHOICE if often and len(counts) <= _MOST_TEXT_CLASSES else Kind.TEXT


def _natural(label: str) -> tuple[int, float, str]:
    number = _number(label)
    return (0, number, label) if number is not None else (1, 0.0, label)


def class_ids(labels: Iterable[str]) -> dict[str, str]:
    """A class id for each label: the label itself where it may be one, else a readable id that is unique."""
    ids: dict[str, str] = {}
    taken: set[str] = set()
    for label in labels:
        ident = label if _CLASS_ID.fullmatch(label) else _slug(label)
        while ident in taken:
            stem, _, number = ident.rpartition("_")
            ident = f"{stem}_{int(number) + 1}" if stem and number.isdigit() else f"{ident[:60]}_2"
        taken.add(ident)
        ids[label] = ident
    return ids


def _slug(label: str) -> str:
    plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_")[:60] or "class"
