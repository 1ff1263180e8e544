"""Spans of a text and segments of a recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from cairn.consensus.v1.consensus_pb2 import Reliability
from cairn.label.v1 import label_value_pb2 as pb
from cairn.label.v1.label_schema_pb2 import Question
from cairn_consensus.domain.ids import ItemKey, LabelerName
from cairn_consensus.domain.kinds.attributes import (
    Others,
    as_strings,
    of_strings,
    read_attributes,
    rules_of,
    written_attributes,
)
from cairn_consensus.domain.kinds.joined import ListState
from cairn_consensus.domain.kinds.question_state import Leading
from cairn_truth.live_answers import Evidence
from cairn_truth.shapes.attributes import Attributes, joined_attributes
from cairn_truth.stretches import segments, spans
from cairn_truth.stretches.live_stretches import JoinedStretches
from cairn_truth.stretches.segments import LiveSegments, Segment
from cairn_truth.stretches.spans import LiveSpans, Span

S = TypeVar("S", Span, Segment)

_LEAST_WEIGHT = 1e-9
"""Of a vote on attributes by one whose answer had no share in the value."""


class StretchesState(ListState[S, JoinedStretches[S]]):
    """What spans and segments share: classes by number."""

    numbered = True

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        self._number = {one.id: number for number, one in enumerate(self.classes)}
        self._attributes = rules_of(self.classes)

    def _class_id(self, number: int) -> str:
        return self.classes[number].id

    def _name(self, element: S) -> str:
        return self._class_id(element.class_id)

    def _reliability(self, known: Any) -> Reliability:
        return marking_reliability(known)


class SpansState(StretchesState[Span]):
    """Classified stretches of a text."""

    algorithm = spans.ALGORITHM
    algorithm_version = spans.VERSION

    def _empty(self) -> LiveSpans:
        return LiveSpans(len(self.classes), overlap=self.rules.overlaps_allowed)

    def _element(self, given: pb.Span) -> Span | None:
        number = self._number.get(given.class_id)
        if number is None:
            return None
        return Span(given.start, given.end, number, as_strings(read_attributes(given.attributes)))

    def _written(self, item: ItemKey, joined: JoinedStretches[Span]) -> Leading:
        others = self._others(item)
        elements, taken = [], set[str]()
        for span in joined.value:
            rules = self._attributes[self._class_id(span.class_id)]
            elements.append(
                pb.Span(
                    id=_own_id(span_id(span.start, span.end), taken),
                    start=span.start,
                    end=span.end,
                    class_id=self._class_id(span.class_id),
                    attributes=written_attributes(
                        of_strings(span.attributes, rules), rules, others.get(span.class_id)
                    ),
                )
            )
        return Leading(self._answer(elements), joined.confidence, joined.chances)

    def _others(self, item: ItemKey) -> Mapping[int, Others]:
        """What labelers say of an item's spans, by class."""
        said: dict[int, list[Attributes]] = {}
        for _, answer in self._live.votes_on(item):
            for one in answer:
                rules = self._attributes[self._class_id(one.class_id)]
                if rules:
                    said.setdefault(one.class_id, []).append(of_strings(one.attributes, rules))
        return {class_id: Others(theirs) for class_id, theirs in said.items()}


class SegmentsState(StretchesState[Segment]):
    """Classified stretches of time, with what is said or happens there."""

    algorithm = segments.ALGORITHM
    algorithm_version = segments.VERSION

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        self._facts: dict[ItemKey, dict[LabelerName, list[tuple[Segment, Attributes]]]] = {}

    def _empty(self) -> LiveSegments:
        return LiveSegments(len(self.classes), overlap=self.rules.overlaps_allowed)

    def _vote(self, item: ItemKey, labeler: LabelerName, answer: pb.Answer) -> None:
        super()._vote(item, labeler, answer)
        facts = [
            (segment, read_attributes(given.attributes))
            for given in answer.segments.segments
            if given.attributes and (segment := self._element(given)) is not None
        ]
        if facts or item in self._facts:
            self._facts.setdefault(item, {})[labeler] = facts

    def _element(self, given: pb.Segment) -> Segment | None:
        number = self._number.get(given.class_id)
        if number is None:
            return None
        return Segment(given.start_seconds, given.end_seconds, number, given.text)

    def _written(self, item: ItemKey, joined: JoinedStretches[Segment]) -> Leading:
        elements = [
            pb.Segment(
                start_seconds=one.start_seconds,
                end_seconds=one.end_seconds,
                class_id=self._class_id(one.class_id),
                text=one.text,
                attributes=self._attributes_of(item, one, joined.evidence),
            )
            for one in joined.value
        ]
        return Leading(self._answer(elements), joined.confidence, joined.chances)

    def _attributes_of(
        self, item: ItemKey, segment: Segment, evidence: Sequence[Evidence]
    ) -> list[pb.AttributeValue]:
        """What labelers say of the segment, each by the one of theirs that shares most time with it."""
        rules = self._attributes[self._class_id(segment.class_id)]
        if not rules:
            return []
        weight = {part.labeler: part.weight for part in evidence}
        stated: list[tuple[Attributes, float]] = []
        for labeler, answer in self._live.votes_on(item):
            own = [(_shared(one, segment), -k) for k, one in enumerate(answer)]
            if not own or max(own)[0] <= 0.0:
                continue
            nearest = answer[-max(own)[1]]
            facts = self._facts.get(item, {}).get(LabelerName(labeler), [])
            mine = next((attributes for one, attributes in facts if one == nearest), ())
            stated.append((mine, max(weight.get(labeler, 0.0), _LEAST_WEIGHT)))
        everybody = [attributes for attributes, _ in stated]
        joined = joined_attributes(everybody, np.array([w for _, w in stated])) if stated else ()
        return written_attributes(joined, rules, Others(everybody))


def marking_reliability(known: Any) -> Reliability:
    """What is known of a labeler who marks what is there and leaves out what is not."""
    return Reliability(
        accuracy=known.accuracy,
        accuracy_low=known.low,
        accuracy_high=known.high,
        recall=1.0 - known.miss_rate,
        false_alarms=known.false_alarm_rate,
    )


def span_id(start: int, end: int) -> str:
    """The name of a joined span: it says where the span is, and so is the same as long as it is there."""
    return f"s{start}-{end}"


def _own_id(name: str, taken: set[str]) -> str:
    """The name, with a number where spans of several classes are in one place."""
    own, number = name, 2
    while own in taken:
        own, number = f"{name}-{number}", number + 1
    taken.add(own)
    return own


def _shared(one: Segment, other: Segment) -> float:
    """How much time two segments of one class share; nothing if their classes differ."""
    if one.class_id != other.class_id:
        return 0.0
    return min(one.end_seconds, other.end_seconds) - max(one.start_seconds, other.start_seconds)
