"""When a project's state in memory is begun anew, and what it is begun from."""

from __future__ import annotations

import asyncio
import threading
import tracemalloc
from dataclasses import replace
from typing import Any

import grpc
import pytest

from cairn.consensus.v1 import consensus_pb2 as pb
from cairn.consensus.v1.consensus_pb2_grpc import ConsensusServiceStub
from cairn.events.v1.consensus_events_pb2 import AnswersWanted
from cairn.label.v1.label_schema_pb2 import LabelClass, MaskQuestion, Question, TextQuestion
from cairn.label.v1.label_value_pb2 import Answer, Mask, Runs
from cairn_consensus import deciding, hearing, states
from cairn_consensus.domain.ids import ItemKey, LabelerName, QuestionId
from cairn_consensus.domain.items import Sized, Vote, in_one_go
from cairn_consensus.domain.project_state import ProjectState
from cairn_kit.errors import from_rpc_error
from cairn_kit.testing import World, eventually

RELIABILITIES = pb.ListReliabilitiesRequest(parent="projects/birds")


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The projects whose states are begun, in turn."""
    projects: list[str] = []
    begin = states.begun

    def noted(project: Any, *arguments: Any) -> Any:
        projects.append(project.name)
        return begin(project, *arguments)

    monkeypatch.setattr(states, "begun", noted)
    return projects


async def test_a_refusal_leaves_the_state_in_memory_as_it_is(
    world: World, words: Any, api: Any, begun: list[str]
) -> None:
    """Anybody may ask for what is not there: it must not cost the items at hand."""
    await world.publish(words.created(), words.answer("a", "ann", "wren"))
    get = pb.GetPosteriorRequest(item=words.item("a"), question="species")
    await eventually(lambda: api.GetPosterior(get))
    before = list(begun)

    for refused in (
        api.GetPosterior(pb.GetPosteriorRequest(item=words.item("a"), question="bogus")),
        api.ConcludeProject(pb.ConcludeProjectRequest(project="projects/birds", expected_annotations=2)),
    ):
        with pytest.raises(grpc.aio.AioRpcError):
            await refused

    assert (await api.GetPosterior(get)).votes == 1
    assert begun == before


async def test_states_that_were_not_used_for_longest_make_room(
    world: World, words: Any, run: Any, begun: list[str]
) -> None:
    told = [words, type(words)("acme", "fish"), type(words)("acme", "frogs")]
    async with run(room_for_items=2 * 15_000) as service:  # for two of the three projects with an item each
        api = service.stub(ConsensusServiceStub)

        async def ask(project: Any) -> None:
            get = pb.GetPosteriorRequest(item=project.item("a"), question="species")
            assert (await eventually(lambda: api.GetPosterior(get))).votes == 1

        for project in told:
            await world.publish(project.created(), project.answer("a", "ann", "wren"))
            await ask(project)
        begun.clear()
        for project in (told[2], told[0], told[2], told[1], told[2], told[0]):  # the third is always there
            await ask(project)
    assert begun == [f"projects/{project.name}" for project in (told[0], told[1], told[0])]


async def test_many_items_are_looked_at_in_parts_and_refused_where_no_response_holds_them(
    world: World, words: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "AT_ONCE", 2)
    brought, recall = list[list[str]](), states.recall

    def noted(state: Any, items: Any, kept: Any) -> None:
        brought.append(list(items))
        recall(state, items, kept)

    async with run() as service:
        await world.publish(words.created(), *(words.answer(key, "ann", "wren") for key in "abcde"))
        await eventually(lambda: service.database.fetchval("SELECT count(*) FROM vote"), 5)
    monkeypatch.setattr(states, "recall", noted)
    asked = pb.BatchGetPosteriorsRequest(
        parent="projects/birds",
        question="species",
        items=map(words.item, ["e", "nobody", "a", "b", "c", "d"]),
    )
    async with run(room_for_items=0) as service:  # with nothing at hand, nor for longer than it is looked at
        api = service.stub(ConsensusServiceStub)
        found = (await api.BatchGetPosteriors(asked)).posteriors
        assert [one.item for one in found] == [words.item(key) for key in "eabcd"]
        assert brought == [["a", "b"], ["c", "d"], ["e"]]


async def test_what_comes_of_many_items_is_worked_on_with_few_of_them_at_hand(
    world: World, words: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica that was away hears of a whole project's scores and routes in one batch."""
    monkeypatch.setattr(deciding, "AT_ONCE", 2)
    wanted, decide, at_hand = await world.listen(AnswersWanted), deciding.Deciding.decide, list[int]()

    async def noted(self: Any, tx: Any, key: Any, state: Any, *arguments: Any) -> Any:
        at_hand.append(len(state.items))
        return await decide(self, tx, key, state, *arguments)

    keys, doubtful = [f"i{n}" for n in range(8)], (("ann", "wren"), ("bob", "tit"))
    routed = [words.routed("i0", auto=auto, revision=revision) for revision, auto in ((1, True), (2, False))]
    for event in routed:
        [route] = event.message.routes
        del event.message.routes[:]
        for key in keys:
            event.message.routes.add(item=words.item(key), route=route.route, revision=route.revision)
    async with run() as service:
        await world.publish(words.created(), routed[0])
        await eventually(lambda: service.database.fetchval("SELECT count(*) FROM item WHERE auto"), 8)
        await world.publish(*(words.answer(key, *said) for key in keys for said in doubtful))
        await eventually(lambda: service.database.fetchval("SELECT count(*) FROM vote"), 16)
    monkeypatch.setattr(deciding.Deciding, "decide", noted)
    await world.publish(*(words.scored({key: (0.4, 0.3, 0.3)}) for key in keys), routed[1])
    async with run(room_for_items=0):
        heard = await wanted.count(8)
    assert {event.message.item for event in heard} == {words.item(key) for key in keys}
    assert len(at_hand) >= 8 + 4
    assert max(at_hand) <= 2


async def test_large_answers_are_taken_with_few_of_their_items_at_hand(
    world: World, words: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "_BYTES_AT_ONCE", 2 * words.choice("wren").ByteSize())
    decide, at_hand = deciding.Deciding.decide, list[int]()

    async def noted(self: Any, tx: Any, key: Any, state: Any, *arguments: Any) -> Any:
        at_hand.append(len(state.items))
        return await decide(self, tx, key, state, *arguments)

    async with run() as service:
        await world.publish(words.created())
        await eventually(lambda: service.database.fetchval("SELECT count(*) FROM project"), 1)
    monkeypatch.setattr(deciding.Deciding, "decide", noted)
    await world.publish(
        *(words.answer(key, "ann", "wren") for key in "abcdef"), words.answer("a", "bob", "wren")
    )
    async with run(room_for_items=0) as service:
        await eventually(lambda: service.database.fetchval("SELECT count(*) FROM vote"), 7)
        concluded = pb.ConcludeProjectRequest(project="projects/birds", expected_annotations=7)
        assert (await service.stub(ConsensusServiceStub).ConcludeProject(concluded)).votes == 7
    assert at_hand[:3] == [1, 2, 2], "one with two answers, and then two by two"
    assert max(at_hand) <= 2


async def test_more_than_a_response_holds_is_refused(world: World, words: Any, run: Any) -> None:
    question = Question(id="note", text=TextQuestion(max_length=100_000))
    said = Answer(question="note", text="wren " * 6_000)
    asked = pb.BatchGetPosteriorsRequest(
        parent="projects/birds", question="note", items=map(words.item, "abc")
    )
    async with run(max_message_bytes=64 * 1024) as service:
        api = service.stub(ConsensusServiceStub)
        await world.publish(words.created(question), *(words.answer(key, "ann", said) for key in "abc"))
        await eventually(lambda: service.database.fetchval("SELECT count(*) FROM vote"), 3)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await api.BatchGetPosteriors(asked)
        assert from_rpc_error(refused.value).reason == "RESPONSE_TOO_LARGE"
        del asked.items[2]
        assert len((await api.BatchGetPosteriors(asked)).posteriors) == 2


async def test_what_a_release_before_did_not_count_is_counted_once(
    world: World, run: Any, words: Any, begun: list[str]
) -> None:
    async def votes(service: Any) -> list[tuple[str, int]]:
        known = await service.stub(ConsensusServiceStub).ListReliabilities(RELIABILITIES)
        return [(one.labeler, one.votes) for one in known.reliabilities]

    said = [words.answer(key, who, "wren") for key in "abc" for who in ("ann", "bob")]
    async with run() as service:
        await world.publish(words.created(), *said[:-1], words.scored({"a": (0.9, 0.1, 0.0)}))
        expected = [("labelers/ann", 3), ("labelers/bob", 2), ("projects/birds/models/text#3", 1)]
        await eventually(lambda: votes(service), expected)
        for table in ("counted", "answers_given"):
            await service.database.execute(f"DELETE FROM {table}")
    async with run() as service:
        assert await votes(service) == expected
        await world.publish(said[-1])
        await eventually(lambda: votes(service), [expected[0], ("labelers/bob", 3), expected[2]])
    async with run() as service:
        concluded = pb.ConcludeProjectRequest(project="projects/birds", expected_annotations=6)
        assert (await service.stub(ConsensusServiceStub).ConcludeProject(concluded)).votes == 6


async def test_what_was_counted_stays_when_the_schema_grows(world: World, words: Any, api: Any) -> None:
    async def votes() -> set[tuple[str, int]]:
        known = (await api.ListReliabilities(RELIABILITIES)).reliabilities
        return {(one.question, one.votes) for one in known}

    await world.publish(words.created(), *(words.answer(key, "ann", "wren") for key in "ab"))
    await eventually(votes, {("species", 2)})
    await world.publish(words.extended(words.question(), words.question("call")))
    tit = words.choice("tit", "call")
    await world.publish(words.answer("c", "ann", "wren", tit, schema_version=2))
    await eventually(votes, {("species", 3), ("call", 1)})


@pytest.mark.parametrize("room", [0, 1 << 20])
async def test_more_are_asked_for_when_a_policy_is_raised_whose_items_have_their_tasks(
    world: World, words: Any, run: Any, room: int
) -> None:
    """Tasks keep the slots that they were made with, whether or not an item was spoken of since."""
    wanted = await world.listen(AnswersWanted)
    async with run(room_for_items=room) as service:
        say = service.database.fetchval
        await world.publish(words.created(min_answers=2), words.answer("a", "ann", "wren"))
        await eventually(lambda: say("SELECT count(*) FROM vote"), 1)
        await world.publish(words.updated(min_answers=3))
        await eventually(lambda: say("SELECT revision FROM project"), 2)
        await world.publish(
            words.answer("a", "bob", "tit"),
            *(words.answer("b", *said) for said in (("ann", "wren"), ("bob", "tit"))),
        )
        told = await wanted.count(2)
    assert {(event.message.item, event.message.answers_wanted) for event in told} == {
        (words.item(key), 3) for key in "ab"
    }


async def test_what_a_model_alone_says_is_no_consensus(
    world: World, words: Any, consensus: Any, api: Any
) -> None:
    await world.publish(words.created(), words.scored({"a": (0.9, 0.1, 0.0)}))
    await eventually(lambda: consensus.database.fetchval("SELECT count(*) FROM score"), 1)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await api.GetPosterior(pb.GetPosteriorRequest(item=words.item("a"), question="species"))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_of_a_read_that_was_given_up_half_way_nothing_stays_in_memory(
    world: World, words: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, hear = threading.Event(), threading.Event(), hearing.hear

    def half(state: Any, said: Any) -> None:
        if said.votes and not begun.is_set():  # one of its votes, and a long time nothing
            hear(state, replace(said, votes=said.votes[:1]))
            begun.set()
            assert go_on.wait(60)
        hear(state, said)

    get = pb.GetPosteriorRequest(item=words.item("a"), question="species")
    async with run() as service:
        await world.publish(words.created(), *(words.answer("a", who, "wren") for who in ("ann", "bob")))
        await eventually(lambda: service.database.fetchval("SELECT count(*) FROM vote"), 2)
    async with run() as service:  # with nothing at hand
        api = service.stub(ConsensusServiceStub)
        monkeypatch.setattr(hearing, "hear", half)
        given_up = asyncio.ensure_future(api.GetPosterior(get))
        await eventually(begun.is_set)
        given_up.cancel()
        await world.publish(words.answer("a", "cid", "wren"))
        await eventually(lambda: service.database.fetchval("SELECT count(*) FROM vote"), 3)
        go_on.set()
        assert (await api.GetPosterior(get)).votes == 3
        known = (await api.ListReliabilities(RELIABILITIES)).reliabilities
        assert {one.labeler: one.votes for one in known} == dict.fromkeys(
            ("labelers/ann", "labelers/bob", "labelers/cid"), 1
        )


def test_an_item_is_taken_in_one_go_whatever_its_size_and_more_as_far_as_they_fit() -> None:
    sized = [Sized(ItemKey(name), size) for name, size in (("a", 9), ("b", 3), ("c", 2), ("d", 1))]
    assert in_one_go(sized, 5) == ["a"]
    assert in_one_go(sized[1:], 5) == ["b", "c"]
    assert in_one_go(sized, 15) == ["a", "b", "c", "d"]
    assert in_one_go([], 5) == []


def test_what_a_state_takes_in_memory_is_reckoned_with_masks_as_arrays_and_with_nothing_at_hand(
    words: Any,
) -> None:
    question = Question(id="cover", mask=MaskQuestion(classes=[LabelClass(id="leaf")]))
    idle = ProjectState(words.project(question))
    assert idle.size > 10_000
    state, runs = ProjectState(words.project(question)), 20_000
    mask = Mask(width=runs, height=1, runs=Runs(class_indices=[0, 1] * (runs // 2), lengths=[1] * runs))
    answer = Answer(question="cover", mask=mask)
    tracemalloc.start()
    state.vote(Vote(ItemKey("a"), QuestionId("cover"), LabelerName("ann"), "a-ann", answer))
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert 0.8 * taken < state.size - idle.size < 1.3 * taken
