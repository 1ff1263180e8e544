"""Relations between spans.

A relation names spans of its own annotation, so it is heard together with them: by where they are, which means the same
in everybody's answer. Joined relations name the spans of the joined answer to the spans question.
"""

# ruff: noqa: D102 - QuestionState says what each method is for
from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cairn.consensus.v1.consensus_pb2 import Reliability
from cairn.label.v1 import label_value_pb2 as pb
from cairn.label.v1.label_schema_pb2 import Question
from cairn_consensus.domain.ids import ItemKey, LabelerName
from cairn_consensus.domain.kinds.joined import ListState
from cairn_consensus.domain.kinds.question_state import Leading, QuestionState
from cairn_consensus.domain.kinds.stretches import marking_reliability
from cairn_truth.stretches import relations
from cairn_truth.stretches.relations import SAME, JoinedRelations, LiveRelations, Relation
from cairn_truth.stretches.spans import Span

Named = Mapping[str, Span]
"""Spans by the names that an answer gives them."""

_TRUTH = LabelerName("")
"""Stands among labelers for what is known to be true."""

_JOINED_ID = re.compile(r"s(\d{1,16})-(\d{1,16})(-\d+)?", re.ASCII)
"""What joined spans are called (`stretches.span_id`): a reviewer may link spans that consensus found. No place in a text
has more digits."""


class RelationsState(ListState[Relation, JoinedRelations]):
    """Directed links between the spans of another question."""

    algorithm = relations.ALGORITHM
    algorithm_version = relations.VERSION
    numbered = True

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        self.spans_question = question.relations.spans_question
        self._number = {one.id: number for number, one in enumerate(self.classes)}
        self._spans: QuestionState | None = None
        self._named: dict[tuple[ItemKey, LabelerName], Named] = {}
        self._linking: dict[tuple[ItemKey, LabelerName], pb.Answer] = {}
        """Everybody's last answer: what it links follows their spans, whichever were heard first."""
        self._last: tuple[JoinedRelations, Leading | None, Leading] | None = None

    def follow(self, spans: QuestionState) -> None:
        """Name the spans of this question's state."""
        self._spans = spans

    # --- what came in

    def hear_spans(self, item: ItemKey, labeler: LabelerName, answer: pb.Answer) -> None:
        """Hear a labeler's spans, which may come before their relations or after, and again."""
        if answer.WhichOneof("value") != "spans":
            return
        self._named[item, labeler] = {
            span.id: Span(span.start, span.end) for span in answer.spans.spans if span.id
        }
        if (item, labeler) in self._linking:
            if labeler != _TRUTH:
                self.heard.add(labeler)
            self._resolve(item, labeler, self._linking[item, labeler])

    def know_spans(self, item: ItemKey, answer: pb.Answer) -> None:
        """Hear the true spans of an item."""
        self.hear_spans(item, _TRUTH, answer)

    def _vote(self, item: ItemKey, labeler: LabelerName, answer: pb.Answer) -> None:
        self._linking[item, labeler] = answer
        self._resolve(item, labeler, answer)

    def _know(self, item: ItemKey, truth: pb.Answer) -> None:
        self._truths[item] = truth
        self._linking[item, _TRUTH] = truth
        self._resolve(item, _TRUTH, truth)

    def _resolve(self, item: ItemKey, labeler: LabelerName, answer: pb.Answer) -> None:
        """Take an answer in by where its spans are; until they are heard, it says nothing."""
        named = self._named.get((item, labeler))
        found = [self._relation(one, named or {}) for one in answer.relations.relations]
        links = tuple(one for one in found if one is not None)
        if named is None and len(links) < len(found):
            self._forget(item, labeler)
        elif labeler == _TRUTH:
            self._clamp(item, links)
        else:
            self._hear(item, labeler, links)

    def _forget(self, item: ItemKey, labeler: LabelerName) -> None:
        if labeler == _TRUTH:
            self._live.know(item, None)
        else:
            self._live.withdraw(item, labeler)

    def _relation(self, given: pb.Relation, named: Named) -> Relation | None:
        source, target = (_span(name, named) for name in (given.from_span, given.to_span))
        number = self._number.get(given.class_id)
        if source is None or target is None or number is None:
            return None
        return Relation(source, target, number)

    # --- what it says

    def leading(self, item: ItemKey) -> Leading | None:
        if not self._live.votes_on(item):
            return None
        if item in self._truths:
            return Leading(self._truths[item], 1.0)
        joined, spans = self._live.posterior(item), self._spans.leading(item) if self._spans else None
        if self._last is None or self._last[0] is not joined or self._last[1] != spans:
            self._last = joined, spans, self._linked(joined, spans)
        return self._last[2]

    def _linked(self, joined: JoinedRelations, spans: Leading | None) -> Leading:
        """The joined relations between the spans that stand; those to spans that do not are left out."""
        standing = [span for span in spans.answer.spans.spans if span.id] if spans else []
        kept: dict[tuple[str, str, str], float] = {}
        for relation, chance in zip(joined.value, joined.chances, strict=True):
            ends = [_standing(one, standing) for one in (relation.source, relation.target)]
            if ends[0] and ends[1]:
                link = (ends[0], ends[1], self.classes[relation.class_id].id)
                kept[link] = max(kept.get(link, 0.0), chance)
        elements = [
            pb.Relation(from_span=source, to_span=target, class_id=class_id)
            for source, target, class_id in kept
        ]
        return Leading(self._answer(elements), _quality(joined, list(kept.values())), tuple(kept.values()))

    def _written(self, item: ItemKey, joined: JoinedRelations) -> Leading:
        return self._linked(joined, self._spans.leading(item) if self._spans else None)

    def _empty(self) -> LiveRelations:
        return LiveRelations(len(self.classes))

    def _element(self, given: Any) -> Relation | None:
        return self._relation(given, {})

    def _name(self, element: Relation) -> str:
        return self.classes[element.class_id].id

    def _reliability(self, known: Any) -> Reliability:
        return marking_reliability(known)


def _span(name: str, named: Named) -> Span | None:
    """The span of a name: the answer's own, or one that consensus found."""
    if name in named:
        return named[name]
    joined = _JOINED_ID.fullmatch(name)
    if joined is None or not int(joined[1]) < int(joined[2]):
        return None
    return Span(int(joined[1]), int(joined[2]))


def _standing(span: Span, standing: list[pb.Span]) -> str:
    """The name of the span that stands for this one: the most alike, if they are the same thing."""
    best, name = 0.0, ""
    for other in standing:
        shared = min(span.end, other.end) - max(span.start, other.start)
        if shared < SAME * min(span.end - span.start, other.end - other.start):
            continue
        overlap = shared / (max(span.end, other.end) - min(span.start, other.start))
        if overlap > best:
            best, name = overlap, other.id
    return name


def _quality(joined: JoinedRelations, kept: list[float]) -> float:
    """The expected F of the relations kept: those left out are as likely there as before, and missed now."""
    if len(kept) == len(joined.value):
        return joined.confidence
    hits, lost = sum(joined.chances), sum(joined.chances) - sum(kept)
    if not kept:
        none = 1.0
        for chance in joined.chances:
            none *= 1.0 - chance
        return none
    both = 2.0 * hits / joined.confidence  # of the value and the truth
    return 2.0 * (hits - lost) / (both - (len(joined.value) - len(kept)))
