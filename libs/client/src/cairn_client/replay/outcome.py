"""What a replay came to: the labels against the truth, beside majority vote on all the answers."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cairn_client.replay.question import Kind
from cairn_client.replay.recording import RecordedAnswer

_PUNCTUATION = re.compile(r"[^\w\s']|_")
SOURCE_ORDER = ("consensus", "auto", "audit", "gold")


@dataclass(frozen=True, slots=True)
class FinalLabel:
    """The label that stands for an item: its value in the recording's terms, its source (`auto`, `consensus`,
    `audit`, `gold`) and its confidence."""

    value: str | None
    source: str
    confidence: float = 0.0


@dataclass(frozen=True, slots=True)
class Grade:
    """Labels, those among them whose truth is known, and how many of those are right."""

    labels: int
    judged: int
    right: int

    @property
    def accuracy(self) -> float | None:
        """The share of right labels among those with known truth; None where there are none."""
        return self.right / self.judged if self.judged else None


def grade(kind: Kind, labels: Mapping[str, FinalLabel], truth: Mapping[str, str]) -> Grade:
    """Labels against the truth, by item key: what tables and reports call accuracy."""
    known = [(label.value, truth[item]) for item, label in labels.items() if item in truth]
    return Grade(len(labels), len(known), sum(same(kind, value, right) for value, right in known))


def grade_by_source(
    kind: Kind, labels: Mapping[str, FinalLabel], truth: Mapping[str, str]
) -> dict[str, Grade]:
    """The grades of the labels of each source that has any, in the order of SOURCE_ORDER."""
    by_source: dict[str, dict[str, FinalLabel]] = {source: {} for source in SOURCE_ORDER}
    for item, label in labels.items():
        by_source.setdefault(label.source, {})[item] = label
    return {source: grade(kind, part, truth) for source, part in by_source.items() if part}


def same(kind: Kind, label: str | None, truth: str) -> bool:
    """Whether a label is right: equal classes; numbers that round to the same; texts equal but for case,
    punctuation and white space."""
    if label is None:
        return False
    if kind in (Kind.NUMBER, Kind.RATING):
        try:
            return abs(float(label) - float(truth)) <= 0.5
        except ValueError:
            return False
    if kind is Kind.TEXT:
        return normal(label) == normal(truth)
    return label == truth


def normal(text: str) -> str:
    """A text without case, punctuation and superfluous white space."""
    return " ".join(_PUNCTUATION.sub(" ", text.casefold()).split())


def majority(kind: Kind, answers: Iterable[RecordedAnswer], seed: int) -> dict[str, str]:
    """What a vote over all answers says of each item: the most frequent answer, ties broken at random by the
    seed; for numbers the mean."""
    by_item: dict[str, list[str]] = {}
    for one in answers:
        by_item.setdefault(one.item, []).append(one.label)
    if kind in (Kind.NUMBER, Kind.RATING):
        return {item: repr(math.fsum(map(float, labels)) / len(labels)) for item, labels in by_item.items()}
    choose = random.Random(seed)
    winners: dict[str, str] = {}
    for item, labels in by_item.items():
        counts = Counter(normal(label) if kind is Kind.TEXT else label for label in labels)
        most = max(counts.values())
        winners[item] = choose.choice(sorted(label for label, count in counts.items() if count == most))
    return winners


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a replay. `accuracy` is over all items with a truth and at least one recorded answer or a
    label; those without a label count as wrong. None where there is nothing to measure."""

    accuracy: float | None
    accuracy_by_source: Mapping[str, float]
    majority_accuracy: float | None
    answers_used: int
    answers_recorded: int
    auto_labeled: int
    auto_error: float | None
    alpha: float
    items: int
    seconds: float
    seed: int
    labels_by_source: Mapping[str, int] = field(default_factory=dict)
    unlabeled: int = 0
    duplicates: int = 0
    refused: int = 0
    given_up: int = 0
    rmse: float | None = None
    majority_rmse: float | None = None
    kind: str = Kind.CHOICE.value
    project: str = ""
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` writes; what is not named there stands under `detail`."""
        named = (
            "accuracy",
            "accuracy_by_source",
            "majority_accuracy",
            "answers_used",
            "answers_recorded",
            "auto_labeled",
            "auto_error",
            "alpha",
            "items",
            "seconds",
            "seed",
        )
        others = (
            "labels_by_source",
            "unlabeled",
            "duplicates",
            "refused",
            "given_up",
            "rmse",
            "majority_rmse",
            "kind",
            "project",
            "notes",
        )
        told = {name: _plain(getattr(self, name)) for name in named}
        return {**told, "detail": {name: _plain(getattr(self, name)) for name in others}}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def score(
    *,
    kind: Kind,
    items: int,
    answers: Sequence[RecordedAnswer],
    truth: Mapping[str, str],
    labels: Mapping[str, FinalLabel],
    seed: int,
) -> dict[str, Any]:
    """The parts of an Outcome that follow from labels and truth."""
    answered = {one.item for one in answers}
    judged = [item for item in truth if item in answered or item in labels]
    sources = grade_by_source(kind, labels, truth)
    votes = majority(kind, answers, seed)
    measured = [item for item in truth if item in votes]
    by_source = {source: one.right / one.judged for source, one in sources.items() if one.judged}
    return {
        "accuracy": grade(kind, labels, truth).right / len(judged) if judged else None,
        "accuracy_by_source": by_source,
        "majority_accuracy": _share(same(kind, votes[item], truth[item]) for item in measured),
        "auto_labeled": sources["auto"].labels if "auto" in sources else 0,
        "auto_error": 1 - by_source["auto"] if "auto" in by_source else None,
        "items": items,
        "labels_by_source": {source: one.labels for source, one in sources.items()},
        "unlabeled": sum(1 for item in judged if item not in labels),
        "rmse": _rmse(kind, {item: label.value for item, label in labels.items()}, truth),
        "majority_rmse": _rmse(kind, dict(votes), truth),
    }


def _share(hits: Iterable[bool]) -> float | None:
    told = list(hits)
    return sum(told) / len(told) if told else None


def _rmse(kind: Kind, labels: Mapping[str, str | None], truth: Mapping[str, str]) -> float | None:
    if kind not in (Kind.NUMBER, Kind.RATING):
        return None
    squares = [
        (float(label) - float(truth[item])) ** 2
        for item, label in labels.items()
        if label is not None and item in truth
    ]
    return math.sqrt(math.fsum(squares) / len(squares)) if squares else None
