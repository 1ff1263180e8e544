"""Spans, relations between them, and segments: votes in, labels out."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from cairn.label.v1.label_schema_pb2 import (
    Attribute,
    AttributeFlag,
    AttributeOptions,
    LabelClass,
    NumberQuestion,
    Question,
    RelationsQuestion,
    SegmentsQuestion,
    SpansQuestion,
)
from cairn.label.v1.label_value_pb2 import (
    Answer,
    AttributeValue,
    Relation,
    Relations,
    Segment,
    Segments,
    Span,
    Spans,
)
from cairn_annotation_store.domain.answer_parts import ItemFacts
from cairn_consensus.domain.ids import ItemKey, QuestionId
from cairn_consensus.domain.items import Truth, Vote
from cairn_consensus.domain.kinds import RelationsState, state_of, stretches
from cairn_consensus.domain.kinds.attributes import of_strings
from cairn_consensus.domain.project_state import ProjectState
from services.consensus.tests.kind_contract import (
    TEXT,
    Answers,
    check_kind,
    labeler,
    leading,
    project,
    refit,
    voted,
)

CROWD = ("ann", "bob", "cid", "dan", "eve")
SOUND = ItemFacts(has_text=False, has_blob=True, duration_seconds=60.0)
FACTS = [
    Attribute(id="tone", required=True, options=AttributeOptions(values=["calm", "loud"])),
    Attribute(id="sure", flag=AttributeFlag()),
    Attribute(id="age", number=NumberQuestion(minimum=0)),
]
PEOPLE = [LabelClass(id="person", attributes=FACTS), LabelClass(id="place")]


def facts(tone: str, age: float = 3) -> list[AttributeValue]:
    return [
        AttributeValue(attribute="tone", option=tone),
        AttributeValue(attribute="sure", flag=True),
        AttributeValue(attribute="age", number=age),
    ]


def spans(*found: tuple[str, int, int, str]) -> Answer:
    """Spans by name, ends and class; a person is calm at odd places."""
    return Answer(
        question="spans",
        spans=Spans(
            spans=[
                Span(
                    id=name,
                    start=start,
                    end=end,
                    class_id=class_id,
                    attributes=facts("calm" if start % 2 else "loud") if class_id == "person" else [],
                )
                for name, start, end, class_id in found
            ]
        ),
    )


def span_crowd() -> Answers:
    """Two spans an item, which one labeler in turn misses or starts late."""
    answers: Answers = {
        f"i{i}": {
            who: [
                spans(
                    ("a", 11 + 2 * ((i + k) % 5 == 1), 20, "person"),
                    *([] if (i + k) % 5 == 2 else [("b", 30, 44, "place")]),
                )
            ]
            for k, who in enumerate(CROWD)
        }
        for i in range(10)
    }
    return answers


@pytest.mark.parametrize("overlaps", [False, True])
def test_spans_have_names_that_say_where_they_are(overlaps: bool) -> None:
    question = Question(
        id="spans",
        spans=SpansQuestion(classes=PEOPLE, overlaps_allowed=overlaps),
    )
    state = check_kind([question], span_crowd(), TEXT)
    found = leading(state, "i0", "spans")
    assert [(s.id, s.start, s.end, s.class_id) for s in found.answer.spans.spans] == [
        ("s11-20", 11, 20, "person"),
        ("s30-44", 30, 44, "place"),
    ]
    assert list(found.answer.spans.spans[0].attributes) == facts("calm")
    assert len(found.parts) == 2
    reliability = state.reliabilities(QuestionId("spans"), Counter())[0]
    assert 0.5 < reliability.recall <= 1.0
    assert reliability.accuracy_low < reliability.accuracy < reliability.accuracy_high


def test_spans_of_two_classes_in_one_place_have_names_of_their_own() -> None:
    question = Question(id="spans", spans=SpansQuestion(classes=PEOPLE, overlaps_allowed=True))
    both = spans(("a", 11, 20, "person"), ("b", 11, 20, "place"))
    state = check_kind([question], {f"i{i}": {who: [both] for who in CROWD} for i in range(3)}, TEXT)
    assert [s.id for s in leading(state, "i0", "spans").answer.spans.spans] == ["s11-20", "s11-20-2"]


def test_that_there_is_no_span_is_an_answer() -> None:
    question = Question(id="spans", spans=SpansQuestion(classes=PEOPLE))
    answers = {f"i{i}": {who: [spans()] for who in CROWD} for i in range(4)}
    state = check_kind([question], answers, TEXT)
    found = leading(state, "i0", "spans")
    assert found.answer == spans()
    assert found.confidence > 0.5


# --- relations


SPANS = Question(id="spans", spans=SpansQuestion(classes=PEOPLE, overlaps_allowed=True))
LINKS = Question(
    id="links",
    relations=RelationsQuestion(
        spans_question="spans", classes=[LabelClass(id="lives_in"), LabelClass(id="was_in")]
    ),
)


def links(*found: tuple[str, str, str]) -> Answer:
    relations = [Relation(from_span=a, to_span=b, class_id=class_id) for a, b, class_id in found]
    return Answer(question="links", relations=Relations(relations=relations))


def link_crowd() -> Answers:
    """Everybody names their spans in a way of their own, and one in turn draws the link the other way round."""
    return {
        f"i{i}": {
            who: [
                spans((f"{who}1", 11, 20, "person"), (f"{who}2", 30, 44 - (k == 1), "place")),
                links(
                    (f"{who}2", f"{who}1", "lives_in")
                    if (i + k) % 5 == 0
                    else (f"{who}1", f"{who}2", "lives_in")
                ),
            ]
            for k, who in enumerate(CROWD)
        }
        for i in range(10)
    }


def test_relations_link_the_spans_that_stand() -> None:
    state = check_kind([SPANS, LINKS], link_crowd(), TEXT)
    assert leading(state, "i1", "links").answer == links(("s11-20", "s30-44", "lives_in"))


def test_a_relation_to_a_span_that_does_not_stand_is_left_out() -> None:
    """One labeler alone saw the place that they linked to."""
    answers = {item: dict(votes) for item, votes in link_crowd().items()}
    nobody_else = [spans(("p", 11, 20, "person")), links()]
    answers["i1"] = dict.fromkeys(CROWD[1:], nobody_else) | {"ann": answers["i1"]["ann"]}
    state = check_kind([SPANS, LINKS], answers, TEXT)
    assert [s.id for s in leading(state, "i1", "spans").answer.spans.spans] == ["s11-20"]
    found = leading(state, "i1", "links")
    assert found.answer == links()
    assert 0.0 < found.confidence < 1.0


def test_relations_may_be_heard_before_their_spans() -> None:
    state = ProjectState(project(SPANS, LINKS))
    said, link = link_crowd()["i1"]["ann"]
    for answer in (link, said):
        vote = Vote(ItemKey("i1"), QuestionId(answer.question), labeler("ann"), "i1-ann", answer)
        state.vote(vote)
        if answer is link:
            assert state.posterior(ItemKey("i1"), QuestionId("links")) is None
    assert leading(state, "i1", "links").answer == links(("s11-20", "s30-44", "lives_in"))


def test_a_reviewer_may_link_the_spans_that_consensus_found() -> None:
    answers = link_crowd()
    state = voted([SPANS, LINKS], answers)
    truth = links(("s30-44", "s11-20", "was_in"))
    state.know(Truth(ItemKey("i1"), QuestionId("links"), truth))
    refit(state)
    assert leading(state, "i1", "links").answer == truth
    parts = {part.labeler: part.agrees for part in state.questions[QuestionId("links")].parts(ItemKey("i1"))}
    assert not any(parts.values())


def _relations_state() -> RelationsState:
    found = ProjectState(project(SPANS, LINKS)).questions[QuestionId("links")]
    assert isinstance(found, RelationsState)
    return found


HERE = spans(("1", 11, 20, "person"), ("2", 30, 44, "place"))
THERE = spans(("1", 51, 60, "person"), ("2", 70, 84, "place"))
ONE_TO_TWO = links(("1", "2", "lives_in"))


def test_what_is_linked_follows_the_last_spans_in_whatever_order_they_are_heard() -> None:
    item, ann, bob = ItemKey("i"), labeler("ann"), labeler("bob")
    orders = (
        (HERE, ONE_TO_TWO, THERE),
        (HERE, THERE, ONE_TO_TWO),
        (ONE_TO_TWO, HERE, THERE),
        (THERE, links(), ONE_TO_TWO),
        (THERE, ONE_TO_TWO),
    )
    digests, known = set(), set()
    for order in orders:
        state = _relations_state()
        state.hear_spans(item, bob, THERE)
        state.vote(item, bob, ONE_TO_TWO)
        for said in order:
            if said.WhichOneof("value") == "spans":
                state.hear_spans(item, ann, said)
                state.know_spans(item, said)
            else:
                state.vote(item, ann, said)
                state.know(item, said)
        state.adopt(state.fitting()())
        digests.add(state.digest())
        known.add(tuple((part.labeler, part.agrees) for part in state.parts(item)))
    assert known == {((ann, True), (bob, True))}
    assert len(digests) == 1


def test_until_their_spans_are_heard_links_say_nothing() -> None:
    item, ann = ItemKey("i"), labeler("ann")
    state = _relations_state()
    state.vote(item, ann, links(("s11-20", "s30-44", "lives_in")))
    assert len(state.parts(item)) == 1
    state.vote(item, ann, ONE_TO_TWO)
    assert state.parts(item) == []


def test_a_name_of_a_span_with_more_digits_than_any_place_has_is_none() -> None:
    item, ann = ItemKey("i"), labeler("ann")
    state = _relations_state()
    state.hear_spans(item, ann, HERE)
    state.vote(item, ann, links((f"s{'1' * 5000}-{'1' * 5001}", "2", "lives_in"), ("1", "2", "lives_in")))
    [part] = state.parts(item)
    assert part.said == "lives_in"


def test_what_is_missing_is_looked_for_once_however_many_spans_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = 0

    def counted(*given: Any) -> Any:
        nonlocal seen
        seen += 1
        return of_strings(*given)

    monkeypatch.setattr(stretches, "of_strings", counted)
    said = spans(*((str(k), 20 * k, 20 * k + 9, "person") for k in range(100)))
    for one in said.spans.spans:
        one.ClearField("attributes")
    state = voted([SPANS], {"i": {who: [said] for who in CROWD}})
    assert len(leading(state, "i", "spans").answer.spans.spans) == 100
    assert seen == 100 * (len(CROWD) + 1)


# --- segments


def segment(start: float, end: float, class_id: str, text: str, tone: str = "calm") -> Segment:
    attributes = facts(tone) if class_id == "person" else []
    return Segment(start_seconds=start, end_seconds=end, class_id=class_id, text=text, attributes=attributes)


@pytest.mark.parametrize("overlaps", [False, True])
def test_segments_carry_their_text_and_attributes(overlaps: bool) -> None:
    question = Question(
        id="q",
        segments=SegmentsQuestion(classes=PEOPLE, text_required=True, overlaps_allowed=overlaps),
    )
    chance = random.Random(0)

    def say(i: int, k: int) -> Answer:
        ends = [t + chance.uniform(-0.1, 0.1) for t in (2.0, 9.0, 12.0, 30.0)]
        text = "good morning everybody" if (i + k) % 5 else "good mourning"
        first = segment(ends[0], ends[1], "person", text, "calm" if (i + k) % 5 else "loud")
        return Answer(
            question="q",
            segments=Segments(segments=[first, segment(ends[2], ends[3], "place", "noise")]),
        )

    answers = {f"i{i}": {who: [say(i, k)] for k, who in enumerate(CROWD)} for i in range(8)}
    state = check_kind([question], answers, SOUND)
    first, second = leading(state, "i1").answer.segments.segments
    assert (first.start_seconds, first.end_seconds) == pytest.approx((2.0, 9.0), abs=0.1)
    assert (first.class_id, first.text, second.class_id) == ("person", "good morning everybody", "place")
    assert list(first.attributes) == facts("calm")


def test_attributes_are_those_of_the_last_answer() -> None:
    question = Question(id="q", segments=SegmentsQuestion(classes=PEOPLE))
    state = state_of(question)
    item, ann = ItemKey("i"), labeler("ann")

    def said(tone: str) -> Answer:
        return Answer(question="q", segments=Segments(segments=[segment(0.0, 5.0, "person", "", tone)]))

    def told() -> list[str]:
        found = state.leading(item)
        assert found is not None
        return [one.option for one in found.answer.segments.segments[0].attributes if one.option]

    state.vote(item, ann, said("loud"))
    assert told() == ["loud"]
    state.vote(item, ann, said("calm"))
    assert told() == ["calm"]
    bare = said("calm")
    bare.segments.segments[0].ClearField("attributes")
    state.vote(item, ann, bare)
    assert told() == []
