"""An item at consensus: its votes, where it stands, and what can be announced of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import accumulate
from typing import NamedTuple

from cairn.events.v1.consensus_events_pb2 import Decision, DisputeReason
from cairn.label.v1.label_value_pb2 import AbstentionKind, Answer
from cairn_consensus.domain.ids import ItemKey, LabelerName, QuestionId


class State(IntEnum):
    """Where an item stands, as in `cairn.consensus.v1.DecisionState`."""

    COLLECTING = 1
    DECIDED = 2
    DISPUTED = 3


@dataclass(frozen=True, slots=True)
class Vote:
    """One labeler's answer to one question of one item."""

    item: ItemKey
    question: QuestionId
    labeler: LabelerName
    annotation: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class Score:
    """What a model says of one item: `probabilities` (classes,) in the order of `class_ids`."""

    item: ItemKey
    question: QuestionId
    model: str
    probabilities: tuple[float, ...]
    class_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known to be true of one question of one item."""

    item: ItemKey
    question: QuestionId
    answer: Answer


class Sized(NamedTuple):
    """An item, and the bytes that all answers to it have on the wire."""

    item: ItemKey
    bytes: int


def in_one_go(items: Sequence[Sized], room: int) -> list[ItemKey]:
    """The first of the items, whose answers have so many bytes at most together; one at least, of whatever size."""
    taken = accumulate(one.bytes for one in items)
    return [
        one.item
        for place, (one, sum_) in enumerate(zip(items, taken, strict=True))
        if not place or sum_ <= room
    ]


@dataclass(slots=True)
class Item:
    """Where one item stands; `said` counts people's answers to each question, abstentions included, and
    `announced` is what was last announced of it."""

    state: State = State.COLLECTING
    revision: int = 0
    answers_wanted: int = 0
    auto: bool = False
    concluded: bool = False
    annotations: dict[str, LabelerName] = field(default_factory=dict)
    said: dict[QuestionId, int] = field(default_factory=dict)
    abstentions: dict[QuestionId, list[AbstentionKind.ValueType]] = field(default_factory=dict)
    announced: dict[QuestionId, bytes] = field(default_factory=dict)
    known: set[QuestionId] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Reached:
    """The answers agree well enough."""

    item: ItemKey
    decisions: tuple[Decision, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """More answers are worth their cost: so many in all."""

    item: ItemKey
    answers: int


@dataclass(frozen=True, slots=True)
class Disputed:
    """No further answer by labelers would settle it."""

    item: ItemKey
    reason: DisputeReason.ValueType
    leading: tuple[Decision, ...]


Announcement = Reached | Wanted | Disputed
