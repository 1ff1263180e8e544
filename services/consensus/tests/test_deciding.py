"""What consensus says of an item, and when."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from cairn.annotation.v1 import annotation_store_pb2 as store_pb
from cairn.consensus.v1 import consensus_pb2 as pb
from cairn.consensus.v1.consensus_pb2_grpc import ConsensusServiceStub
from cairn.events.v1.consensus_events_pb2 import (
    DISPUTE_REASON_BROKEN_ITEM,
    DISPUTE_REASON_CANNOT_TELL,
    DISPUTE_REASON_CAP_REACHED,
    DISPUTE_REASON_KIND_NOT_AGGREGATED,
    AnswersWanted,
    ConsensusDisputed,
    ConsensusReached,
)
from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as label_pb
from cairn_kit.errors import from_rpc_error
from cairn_kit.testing import World, eventually
from services.consensus.tests.test_rasters import png

pytestmark = pytest.mark.usefixtures("consensus")


async def heard(world: World) -> Any:
    return await world.listen(AnswersWanted, ConsensusReached, ConsensusDisputed)


async def test_answers_that_agree_become_a_label_with_its_evidence(world: World, words: Any) -> None:
    said = await heard(world)
    await world.publish(words.created(), words.answer("a", "ann", "wren"), words.answer("a", "bob", "wren"))

    [event] = await said.count(1)

    reached = event.message
    [decision] = reached.decisions
    assert (reached.item, reached.revision, reached.schema_version) == (words.item("a"), 1, 1)
    assert decision.answer == words.choice("wren")
    assert 0.85 <= decision.confidence < 1.0
    why = decision.provenance
    assert (why.algorithm, why.refit, why.vote_count, why.agreement) == ("BlockDawidSkene", 0, 2, 1.0)
    assert why.stop_reason == store_pb.STOP_REASON_TARGET_REACHED
    assert [(v.labeler, v.answer) for v in why.votes] == [("labelers/ann", "wren"), ("labelers/bob", "wren")]
    assert all(v.weight > 0 and v.annotation.startswith(words.item("a")) for v in why.votes)


async def test_answers_that_differ_ask_for_one_more_and_at_the_cap_for_a_reviewer(
    world: World, words: Any
) -> None:
    said = await heard(world)
    await world.publish(
        words.created(max_answers=3), words.answer("a", "ann", "wren"), words.answer("a", "bob", "tit")
    )
    [first] = await said.count(1)
    assert isinstance(first.message, AnswersWanted)
    assert (first.message.answers_wanted, first.message.revision) == (3, 1)

    await world.publish(words.answer("a", "cid", "robin"))
    [_, second] = await said.count(2)

    assert isinstance(second.message, ConsensusDisputed)
    assert (second.message.reason, second.message.revision) == (DISPUTE_REASON_CAP_REACHED, 2)
    assert second.message.leading[0].answer.choice in {"wren", "tit", "robin"}


async def test_the_best_answer_stands_at_the_cap_where_the_policy_says_so(world: World, words: Any) -> None:
    said = await heard(world)
    await world.publish(
        words.created(max_answers=2, on_dispute=store_pb.DISPUTE_POLICY_ACCEPT_BEST),
        words.answer("a", "ann", "wren"),
        words.answer("a", "bob", "tit"),
    )
    [event] = await said.count(1)
    [decision] = event.message.decisions
    assert decision.provenance.stop_reason == store_pb.STOP_REASON_CAP_REACHED
    assert decision.confidence < 0.85


async def test_a_fixed_number_is_asked_for_whatever_the_answers(world: World, words: Any) -> None:
    said = await heard(world)
    await world.publish(
        words.created(stop_rule=store_pb.STOP_RULE_FIXED, max_answers=3),
        *(words.answer("a", who, "wren") for who in ("ann", "bob")),
    )
    [wanted] = await said.count(1)
    assert wanted.message.answers_wanted == 3
    await world.publish(words.answer("a", "cid", "wren"))
    [_, reached] = await said.count(2)
    assert reached.message.decisions[0].provenance.stop_reason == store_pb.STOP_REASON_ALL_ANSWERS_IN


@pytest.mark.parametrize(
    ("abstention", "reason"),
    [
        (label_pb.ABSTENTION_KIND_CANNOT_TELL, DISPUTE_REASON_CANNOT_TELL),
        (label_pb.ABSTENTION_KIND_BROKEN_ITEM, DISPUTE_REASON_BROKEN_ITEM),
    ],
)
async def test_abstentions_that_prevail_go_to_a_reviewer_with_their_reason(
    world: World, words: Any, abstention: label_pb.AbstentionKind.ValueType, reason: int
) -> None:
    said = await heard(world)
    none = label_pb.Answer(question="species", abstention=label_pb.Abstention(kind=abstention))
    await world.publish(words.created(), words.answer("a", "ann", none), words.answer("a", "bob", none))
    [event] = await said.count(1)
    assert event.message.reason == reason


async def test_one_abstention_is_no_vote_and_no_obstacle(world: World, words: Any) -> None:
    said = await heard(world)
    none = label_pb.Answer(
        question="species", abstention=label_pb.Abstention(kind=label_pb.ABSTENTION_KIND_CANNOT_TELL)
    )
    await world.publish(
        words.created(),
        words.answer("a", "ann", none),
        words.answer("a", "bob", "tit"),
        words.answer("a", "cid", "tit"),
    )
    await said.until(lambda events: any(isinstance(e.message, ConsensusReached) for e in events))
    [reached] = [e.message for e in said.events if isinstance(e.message, ConsensusReached)]
    assert reached.decisions[0].provenance.vote_count == 2


async def test_an_item_is_decided_when_all_its_required_questions_are(world: World, words: Any) -> None:
    said = await heard(world)
    await world.publish(
        words.created(words.question(), words.question("sex")),
        words.answer("a", "ann", words.choice("wren"), words.choice("tit", "sex")),
        words.answer("a", "bob", words.choice("wren"), words.choice("robin", "sex")),
    )
    [wanted] = await said.count(1)
    assert wanted.message.answers_wanted == 3
    for who in ("cid", "dan", "eve"):
        await world.publish(words.answer("a", who, words.choice("wren"), words.choice("tit", "sex")))
    await said.until(lambda events: isinstance(events[-1].message, ConsensusReached))
    decisions = said.events[-1].message.decisions
    assert {d.answer.question: d.answer.choice for d in decisions} == {"species": "wren", "sex": "tit"}


@pytest.mark.parametrize(
    ("question", "answers", "expected"),
    [
        (
            schema_pb.Question(id="q", required=True, text=schema_pb.TextQuestion(fold_case_and_space=True)),
            [label_pb.Answer(question="q", text=t) for t in ("Zaunkönig", "zaunkönig ", "Zaunkönig")],
            label_pb.Answer(question="q", text="Zaunkönig"),
        ),
        (
            schema_pb.Question(id="q", required=True, rating=schema_pb.RatingQuestion(minimum=1, maximum=5)),
            [label_pb.Answer(question="q", rating=4)] * 3,
            label_pb.Answer(question="q", rating=4),
        ),
        (
            schema_pb.Question(
                id="q",
                required=True,
                choices=schema_pb.ChoicesQuestion(classes=[schema_pb.LabelClass(id=c) for c in "abc"]),
            ),
            [label_pb.Answer(question="q", choices=label_pb.Choices(class_ids=["a", "c"]))] * 3,
            label_pb.Answer(question="q", choices=label_pb.Choices(class_ids=["a", "c"])),
        ),
    ],
    ids=["text", "rating", "choices"],
)
async def test_other_kinds_are_joined_too(
    world: World,
    words: Any,
    question: schema_pb.Question,
    answers: list[label_pb.Answer],
    expected: label_pb.Answer,
) -> None:
    said = await heard(world)
    await world.publish(
        words.created(question, stop_rule=store_pb.STOP_RULE_FIXED, max_answers=3),
        *(words.answer("a", f"l{i}", answer) for i, answer in enumerate(answers)),
    )
    await said.until(lambda events: isinstance(events[-1].message, ConsensusReached) if events else False)
    assert said.events[-1].message.decisions[0].answer == expected


def box(x: float, width: float = 40.0) -> label_pb.Answer:
    shape = label_pb.Box(class_id="wren", x=x, y=20.0, width=width, height=30.0)
    return label_pb.Answer(question="q", boxes=label_pb.Boxes(boxes=[shape]))


def spans(start: int, end: int) -> label_pb.Answer:
    span = label_pb.Span(start=start, end=end, class_id="wren")
    return label_pb.Answer(question="q", spans=label_pb.Spans(spans=[span]))


WREN = [schema_pb.LabelClass(id="wren")]
BOXES = schema_pb.Question(id="q", required=True, boxes=schema_pb.ShapesQuestion(classes=WREN))
SPANS = schema_pb.Question(id="q", required=True, spans=schema_pb.SpansQuestion(classes=WREN))
LINE = schema_pb.Question(id="q", required=True, text=schema_pb.TextQuestion())
NO_BOXES = label_pb.Answer(question="q", boxes=label_pb.Boxes())


@pytest.mark.parametrize(
    ("question", "answers", "algorithm", "expected"),
    [
        (BOXES, [box(10), box(11), box(10, 41)], "LeanCrowdsourcingBoxes", box(10, 41)),
        (
            SPANS,
            [spans(3, 9), spans(3, 9), spans(3, 7)],
            "LiveSpans",
            label_pb.Answer(
                question="q",
                spans=label_pb.Spans(spans=[label_pb.Span(id="s3-9", start=3, end=9, class_id="wren")]),
            ),
        ),
        (
            LINE,
            [
                label_pb.Answer(question="q", text=t)
                for t in ("a wren in the old tree", "a wren at the old tree", "the wren in the old tree")
            ],
            "ROVER with learnt word errors, or exact match",
            label_pb.Answer(question="q", text="a wren in the old tree"),
        ),
    ],
    ids=["boxes", "spans", "text"],
)
async def test_answers_that_differ_in_part_are_joined_part_by_part(
    world: World,
    words: Any,
    api: Any,
    question: schema_pb.Question,
    answers: list[label_pb.Answer],
    algorithm: str,
    expected: label_pb.Answer,
) -> None:
    said = await heard(world)
    await world.publish(
        words.created(question, stop_rule=store_pb.STOP_RULE_FIXED, max_answers=3),
        *(words.answer("a", f"l{i}", answer) for i, answer in enumerate(answers)),
    )
    await said.until(lambda events: isinstance(events[-1].message, ConsensusReached) if events else False)
    [decision] = said.events[-1].message.decisions
    assert decision.answer == expected
    assert decision.provenance.algorithm == algorithm
    assert {vote.labeler for vote in decision.provenance.votes} == {
        "labelers/l0",
        "labelers/l1",
        "labelers/l2",
    }
    found = await api.GetPosterior(pb.GetPosteriorRequest(item=words.item("a"), question="q"))
    assert (found.answer, found.confidence) == (expected, decision.confidence)
    assert len(found.part_confidences) == (0 if question is LINE else 1)
    listed = await api.ListReliabilities(pb.ListReliabilitiesRequest(parent="projects/birds"))
    assert [one.votes for one in listed.reliabilities] == [1, 1, 1]


MASK = schema_pb.Question(id="q", required=True, mask=schema_pb.MaskQuestion(classes=WREN))
NO_MASK = label_pb.Answer(
    question="q",
    mask=label_pb.Mask(width=3, height=2, runs=label_pb.Runs(class_indices=[0], lengths=[6])),
)


NO_RASTER = b"nobody can read this"


def mask_of(annotations: Any, data: bytes) -> label_pb.Answer:
    """A mask kept as a blob."""
    mask = label_pb.Mask(width=3, height=2, blob=annotations.keep_blob(data))
    return label_pb.Answer(question="q", mask=mask)


async def test_masks_kept_as_blobs_are_read_and_joined(world: World, words: Any, annotations: Any) -> None:
    said = await heard(world)
    one, other = np.array([[0, 1, 1], [0, 1, 1]]), np.array([[0, 0, 1], [0, 1, 1]])
    await world.publish(
        words.created(MASK, stop_rule=store_pb.STOP_RULE_FIXED, max_answers=3),
        words.answer("a", "ann", mask_of(annotations, png(one, [0]))),
        words.answer("a", "bob", mask_of(annotations, png(one, [1, 4]))),
        words.answer("a", "cid", mask_of(annotations, png(other, [2]))),
    )
    await said.until(lambda events: isinstance(events[-1].message, ConsensusReached) if events else False)
    [decision] = said.events[-1].message.decisions
    runs = decision.answer.mask.runs
    assert (list(runs.class_indices), list(runs.lengths)) == ([0, 1, 0, 1], [1, 2, 1, 2])
    assert decision.provenance.algorithm == "HierarchicalSTAPLE"


async def test_masks_that_cannot_be_read_and_differ_go_to_a_reviewer(
    world: World, words: Any, annotations: Any
) -> None:
    said = await heard(world)
    await world.publish(
        words.created(MASK),
        words.answer("a", "ann", mask_of(annotations, NO_RASTER)),
        words.answer("a", "bob", mask_of(annotations, NO_RASTER * 2)),
    )
    [event] = await said.count(1)
    assert event.message.reason == DISPUTE_REASON_KIND_NOT_AGGREGATED


async def test_masks_wait_for_a_store_that_is_away(world: World, words: Any, annotations: Any) -> None:
    said = await heard(world)
    answer = mask_of(annotations, png(np.ones((2, 3), dtype=int), [0]))
    annotations.away = True
    await world.publish(
        words.created(MASK), words.answer("a", "ann", answer), words.answer("a", "bob", answer)
    )
    await world.publish(words.answer("b", "ann", NO_MASK), words.answer("b", "bob", NO_MASK))
    [other] = await said.count(1)
    assert other.message.item == words.item("b")
    annotations.away = False
    await said.until(lambda events: words.item("a") in {event.message.item for event in events}, timeout=30)


async def test_a_single_answer_of_any_kind_stands_where_only_one_is_wanted(
    world: World, words: Any, annotations: Any
) -> None:
    said = await heard(world)
    answer = mask_of(annotations, NO_RASTER)
    await world.publish(words.created(MASK, min_answers=1, max_answers=1), words.answer("a", "ann", answer))
    [event] = await said.count(1)
    assert event.message.decisions[0].answer == answer


async def test_a_review_is_no_vote_and_a_correction_is_the_last_word(
    world: World, words: Any, api: Any
) -> None:
    said = await heard(world)
    review = store_pb.ANNOTATION_KIND_REVIEW
    await world.publish(
        words.created(),
        words.answer("a", "rita", "tit", kind=review),
        words.corrected("a", words.choice("robin")),
        words.answer("a", "ann", "wren"),
        words.answer("a", "bob", "wren"),
        words.answer("b", "ann", "wren"),
        words.answer("b", "bob", "wren"),
    )
    [event] = await said.count(1)
    assert event.message.item == words.item("b")  # of `a` nothing more is said: its truth is known

    found = await api.GetPosterior(pb.GetPosteriorRequest(item=words.item("a"), question="species"))
    assert (found.answer, found.confidence, found.votes) == (words.choice("robin"), 1.0, 2)


async def test_gold_shows_who_is_reliable(world: World, words: Any, api: Any) -> None:
    gold = [words.gold(f"g{i}", words.choice("wren")) for i in range(6)]
    kind = store_pb.ANNOTATION_KIND_GOLD
    right = [words.answer(f"g{i}", "ann", "wren", kind=kind) for i in range(6)]
    wrong = [words.answer(f"g{i}", "bob", "tit", kind=kind) for i in range(6)]
    await world.publish(words.created(), *gold, *right, *wrong)
    request = pb.ConcludeProjectRequest(project="projects/birds")

    async def votes() -> int:
        return int((await api.ConcludeProject(request)).votes)

    await eventually(votes, 12)
    listed = await api.ListReliabilities(pb.ListReliabilitiesRequest(parent="projects/birds"))

    ann, bob = listed.reliabilities
    assert (ann.labeler, ann.gold_votes, ann.gold_correct) == ("labelers/ann", 6, 6)
    assert (bob.labeler, bob.gold_votes, bob.gold_correct) == ("labelers/bob", 6, 0)
    assert ann.accuracy_low < ann.accuracy < ann.accuracy_high
    assert ann.accuracy > bob.accuracy
    assert ann.confusion[0] == pytest.approx(1.0 - ann.confusion[1] - ann.confusion[2])


async def test_a_model_is_one_more_labeler_but_no_person(world: World, words: Any, api: Any) -> None:
    said = await heard(world)
    await world.publish(
        words.created(),
        words.scored({"a": [0.02, 0.96, 0.02]}),
        words.answer("a", "ann", "wren"),
    )
    get = pb.GetPosteriorRequest(item=words.item("a"), question="species")
    alone = await eventually(lambda: api.GetPosterior(get))
    assert alone.votes == 1  # one person: the floor of two is not reached, however sure both are
    await world.publish(words.answer("a", "bob", "wren"))
    [event] = await said.count(1)
    why = event.message.decisions[0].provenance
    assert why.vote_count == 2
    assert {v.labeler for v in why.votes} == {"labelers/ann", "labelers/bob", "projects/birds/models/text#4"}


async def test_nobody_is_asked_about_an_item_that_a_model_labeled_until_it_comes_back(
    world: World, words: Any
) -> None:
    said = await heard(world)
    await world.publish(words.created(), words.routed("a", auto=True))
    await world.publish(words.answer("a", "ann", "wren"), words.answer("a", "bob", "tit"))
    await world.publish(words.routed("a", auto=False, revision=2))
    [event] = await said.count(1)
    assert event.message.answers_wanted == 3


async def test_concluding_decides_whatever_has_a_vote_and_says_what_it_could_not(
    world: World, words: Any, api: Any
) -> None:
    said = await heard(world)
    await world.publish(
        words.created(words.question(), BOXES),
        words.answer("a", "ann", words.choice("wren"), NO_BOXES),
        words.answer("b", "ann", words.choice("tit")),
    )
    early = pb.ConcludeProjectRequest(project="projects/birds", expected_annotations=3)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await api.ConcludeProject(early)
    assert refused.value.code() in {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND}

    ready = pb.ConcludeProjectRequest(project="projects/birds", expected_annotations=2, request_id="once")
    concluded = await eventually(lambda: api.ConcludeProject(ready))

    assert concluded.votes == 2
    assert concluded.announced_labels == 2
    await said.until(lambda events: sum(isinstance(e.message, ConsensusReached) for e in events) == 2)
    reasons = {
        d.provenance.stop_reason
        for e in said.events
        if isinstance(e.message, ConsensusReached)
        for d in e.message.decisions
    }
    assert reasons == {store_pb.STOP_REASON_CONCLUDED}
    again = await api.ConcludeProject(ready)
    assert again == concluded


async def test_another_tenants_project_is_not_there(
    world: World, words: Any, consensus: Any, api: Any
) -> None:
    await world.publish(words.created(), words.answer("a", "ann", "wren"))
    get = pb.GetPosteriorRequest(item=words.item("a"), question="species")
    await eventually(lambda: api.GetPosterior(get))
    stranger = consensus.stub(ConsensusServiceStub, tenant="other")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stranger.GetPosterior(get)
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


async def test_a_project_that_was_made_a_moment_ago_is_worth_another_try(
    annotations: Any, words: Any, api: Any
) -> None:
    young = store_pb.Project(name="projects/birds", state=store_pb.PROJECT_STATE_ACTIVE)
    annotations.projects[young.name] = young
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await api.GetPosterior(pb.GetPosteriorRequest(item=words.item("a"), question="species"))
    assert from_rpc_error(refused.value).reason == "PROJECT_NOT_HERE_YET"
