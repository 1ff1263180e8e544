"""Answers that no event can carry: read from the store, and never announced in an event that nobody could read."""

from __future__ import annotations

from typing import Any

import pytest

from cairn.consensus.v1 import consensus_pb2 as pb
from cairn.events.v1.consensus_events_pb2 import (
    DISPUTE_REASON_KIND_NOT_AGGREGATED,
    ConsensusDisputed,
    ConsensusReached,
)
from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as label_pb
from cairn_consensus.config import ConsensusSettings
from cairn_kit.rpc import invalid
from cairn_kit.testing import RunningService, World, eventually

NOTE = schema_pb.Question(id="note", required=True, text=schema_pb.TextQuestion(max_length=1_000_000))
MORE = schema_pb.Question(id="more", required=True, text=schema_pb.TextQuestion(max_length=1_000_000))
COUNT = schema_pb.Question(
    id="count", required=True, number=schema_pb.NumberQuestion(minimum=0, maximum=9, whole=True)
)


def text(size: int, question: str = "note") -> label_pb.Answer:
    return label_pb.Answer(question=question, text="x" * size)


async def dead_letters(service: RunningService[ConsensusSettings]) -> int:
    return int(await service.database.fetchval("SELECT count(*) FROM dead_letter"))


async def test_answers_that_were_left_out_of_the_event_are_read_from_the_store(
    world: World, words: Any, annotations: Any, consensus: RunningService[ConsensusSettings], api: Any
) -> None:
    """A long remark beside them must not turn a class, a number or a text into an empty answer."""
    answers = [words.choice("wren"), label_pb.Answer(question="count", number=7), text(10)]
    remark = text(300_000, "remark")
    note_at_will = schema_pb.Question(id="remark", text=schema_pb.TextQuestion(max_length=1_000_000))
    await world.publish(
        words.created(words.question(), COUNT, NOTE, note_at_will),
        *(annotations.keep(words.answer("a", who, *answers, remark)) for who in ("ann", "bob", "cid")),
    )
    request = pb.BatchGetPosteriorsRequest(parent="projects/birds", items=[words.item("a")])

    async def leading(question: str) -> label_pb.Answer:
        request.question = question
        [found] = (await api.BatchGetPosteriors(request)).posteriors
        assert found.votes == 3
        return label_pb.Answer.FromString(found.answer.SerializeToString())

    for answer in (*answers, remark):
        await eventually(lambda one=answer: leading(one.question), answer)  # type: ignore[misc]
    assert await dead_letters(consensus) == 0


async def test_a_correction_that_was_left_out_of_its_event_is_the_truth_all_the_same(
    world: World, words: Any, annotations: Any, consensus: RunningService[ConsensusSettings], api: Any
) -> None:
    truth = text(300_000)
    await world.publish(
        words.created(NOTE),
        annotations.keep_correction(words.corrected("a", truth)),
        *(words.answer("a", who, text(3)) for who in ("ann", "bob")),
    )
    get = pb.GetPosteriorRequest(item=words.item("a"), question="note")

    async def standing() -> tuple[bytes, float]:
        found = await api.GetPosterior(get)
        return found.answer.SerializeToString(), found.confidence

    await eventually(standing, (truth.SerializeToString(), 1.0))
    assert await dead_letters(consensus) == 0


async def test_answers_wait_for_a_store_that_is_away_and_hold_up_nobody_else(
    world: World, words: Any, annotations: Any, consensus: RunningService[ConsensusSettings]
) -> None:
    said = await world.listen(ConsensusReached)
    annotations.away = True
    await world.publish(
        words.created(),
        *(annotations.keep(words.answer("a", who, "wren")) for who in ("ann", "bob")),
        *(words.answer("b", who, "tit") for who in ("ann", "bob")),
    )
    [other] = await said.count(1)
    assert other.message.item == words.item("b")

    annotations.away = False
    [_, event] = await said.count(2, timeout=30)
    assert (event.message.item, event.message.decisions[0].answer) == (words.item("a"), words.choice("wren"))
    assert await dead_letters(consensus) == 0


@pytest.mark.usefixtures("consensus")
async def test_decisions_that_do_not_fit_into_one_event_come_in_several_of_one_revision(
    world: World, words: Any, annotations: Any
) -> None:
    said = await world.listen(ConsensusReached)
    answers = [text(150_000), text(150_000, "more")]
    await world.publish(
        words.created(NOTE, MORE),
        *(annotations.keep(words.answer("a", who, *answers)) for who in ("ann", "bob")),
    )
    events = await said.count(2)
    assert {event.message.revision for event in events} == {1}
    assert [d.answer for event in events for d in event.message.decisions] == sorted(
        answers, key=lambda answer: answer.question
    )
    assert [invalid(event.message) for event in events] == [None, None]


async def test_an_answer_that_no_event_can_carry_goes_to_a_reviewer(
    world: World, words: Any, annotations: Any, consensus: RunningService[ConsensusSettings], api: Any
) -> None:
    said = await world.listen(ConsensusReached, ConsensusDisputed)
    await world.publish(
        words.created(words.question(), NOTE),
        *(
            annotations.keep(words.answer("a", who, words.choice("wren"), text(300_000)))
            for who in ("ann", "bob")
        ),
    )
    [event] = await said.count(1)
    assert event.message.reason == DISPUTE_REASON_KIND_NOT_AGGREGATED
    assert [one.answer for one in event.message.leading] == [words.choice("wren")]
    assert invalid(event.message) is None

    concluded = await api.ConcludeProject(pb.ConcludeProjectRequest(project="projects/birds"))

    assert concluded.announced_labels == 0
    assert [one.item for one in concluded.undecided] == [words.item("a")]
    assert len(said.events) == 1, "it is with the reviewer already"
    assert await dead_letters(consensus) == 0
