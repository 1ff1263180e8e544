"""What a call asked for goes on whatever becomes of the call, and whoever asks again is told what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from cairn.consensus.v1 import consensus_pb2 as pb
from cairn.consensus.v1.consensus_pb2_grpc import ConsensusServiceStub
from cairn.events.v1.annotation_store_events_pb2 import ProjectDeleted
from cairn.events.v1.consensus_events_pb2 import ConsensusReached, ReliabilitiesRefitted
from cairn.label.v1 import label_value_pb2 as label_pb
from cairn_consensus import deciding, refits
from cairn_consensus.__main__ import SERVICE
from cairn_consensus.domain.project_state import ProjectState
from cairn_consensus.domain.whole import Whole
from cairn_consensus.store import ConsensusStore
from cairn_kit.auth.caller import make_caller, set_caller
from cairn_kit.errors import Unavailable, from_rpc_error
from cairn_kit.events import Event
from cairn_kit.rpc import once
from cairn_kit.testing import World, eventually
from services.consensus.tests.holding import Held, HeldItem
from services.consensus.tests.test_replicas import PROJECTS, settled

CANNOT_TELL = label_pb.Answer(
    question="species", abstention=label_pb.Abstention(kind=label_pb.ABSTENTION_KIND_CANNOT_TELL)
)


def conclude(request_id: str = "", project: str = "birds", **options: Any) -> pb.ConcludeProjectRequest:
    return pb.ConcludeProjectRequest(project=f"projects/{project}", request_id=request_id, **options)


async def taken(service: Any, votes: int) -> None:
    await eventually(lambda: service.database.fetchval("SELECT count(*) FROM vote"), votes)


async def refused(call: Awaitable[Any]) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return from_rpc_error(error.value)


async def test_a_call_that_breaks_off_takes_nothing_with_it(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    refitted = await world.listen(ReliabilitiesRefitted)
    async with run() as service:
        api = service.stub(ConsensusServiceStub)
        await world.publish(words.created(), *(words.answer(key, "ann", "wren") for key in "abc"))
        await taken(service, 3)
        broken = api.ConcludeProject(conclude("end"))
        await eventually(held.begun.is_set)
        broken.cancel()
        again = asyncio.ensure_future(api.ConcludeProject(conclude("end")))
        held.go_on.set()
        answer = await again
        assert (answer.refit, answer.votes, answer.announced_labels) == (1, 3, 3)
        assert await api.ConcludeProject(conclude("end")) == answer
        assert held.times == 1
        assert [event.message.refit for event in await refitted.count(1)] == [1]
        reused = await refused(api.ConcludeProject(conclude("end", expected_annotations=1)))
        assert reused.reason == "REQUEST_ID_REUSED"


@asynccontextmanager
async def left_at_e(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[HeldItem]:
    """A conclusion of items from a to g whose process has died at e; yields what tells which are concluded from now on."""
    monkeypatch.setattr(deciding, "AT_ONCE", 2)
    dying = HeldItem(monkeypatch, "e")
    async with run() as service:
        await world.publish(
            words.created(),
            *(words.answer(k, "ann", CANNOT_TELL if k in "af" else "wren") for k in "abcdefg"),
        )
        await taken(service, 7)
        asking = asyncio.ensure_future(service.stub(ConsensusServiceStub).ConcludeProject(conclude("end")))
        await eventually(dying.begun.is_set)
    await asyncio.gather(asking, return_exceptions=True)
    dying.die()
    yield dying


async def test_a_conclusion_goes_on_where_its_replica_was_killed(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    refitted = await world.listen(ReliabilitiesRefitted)
    async with left_at_e(world, run, words, monkeypatch) as rest, run() as service:
        await service.database.execute("UPDATE asked_refit SET not_before = now()")
        answer = await service.stub(ConsensusServiceStub).ConcludeProject(conclude("end"))
    assert rest.concluded == ["e", "f", "g"]
    assert (answer.refit, answer.votes, answer.announced_labels) == (1, 7, 5)
    assert [one.item for one in answer.undecided] == [words.item("a"), words.item("f")]
    told = [(e.message.refit, e.message.changed_items) for e in await refitted.count(1)]
    assert told == [(1, 5)]


async def test_a_conclusion_rests_on_one_fit_from_its_first_item_to_its_last(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica of a release before, which keeps the project in between, fits it without looking whether it is concluded."""
    async with left_at_e(world, run, words, monkeypatch) as anew:
        database = await world.database("consensus")
        await database.execute("UPDATE refit SET refit = refit + 1")
        async with run() as service:
            await service.database.execute("UPDATE asked_refit SET not_before = now()")
            answer = await service.stub(ConsensusServiceStub).ConcludeProject(conclude("end"))
    assert anew.concluded == list("abcdefg")
    assert (answer.refit, answer.votes, answer.announced_labels) == (3, 7, 5)
    assert [one.item for one in answer.undecided] == [words.item("a"), words.item("f")]


async def test_a_label_that_a_conclusion_announced_by_two_fits_is_counted_once(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with left_at_e(world, run, words, monkeypatch) as anew:
        database = await world.database("consensus")
        await database.execute("UPDATE refit SET refit = refit + 1")
        tit = words.choice("tit").SerializeToString(deterministic=True)
        await database.execute("UPDATE decision SET answer = $1 WHERE item IN ('b', 'c')", tit)
        reached = await world.listen(ConsensusReached)
        async with run() as service:
            await service.database.execute("UPDATE asked_refit SET not_before = now()")
            answer = await service.stub(ConsensusServiceStub).ConcludeProject(conclude("end"))
    assert anew.concluded == list("abcdefg")
    assert answer.announced_labels == 5
    twice = await reached.until(lambda events: sum(e.message.item == words.item("b") for e in events) == 2)
    assert max(event.message.revision for event in twice if event.message.item == words.item("b")) == 2


async def test_whoever_asks_for_what_is_under_way_gets_the_answer_of_that(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    async with run() as service:
        api, say = service.stub(ConsensusServiceStub), service.database.fetchval
        await world.publish(words.created(), words.answer("a", "ann", "wren"))
        await taken(service, 1)
        first = asyncio.ensure_future(api.ConcludeProject(conclude("first")))
        await eventually(held.begun.is_set)
        # Who joins has it tried at once, should it have come to nothing.
        without_id = asyncio.ensure_future(api.ConcludeProject(conclude()))
        await eventually(lambda: say("SELECT tries FROM asked_refit"), 0)
        other = asyncio.ensure_future(api.ConcludeProject(conclude("other")))
        await eventually(lambda: say("SELECT cardinality(requests) FROM asked_refit"), 2)
        held.go_on.set()
        answers = await asyncio.gather(first, without_id, other)
        assert (answers[0].refit, answers[0].announced_labels) == (1, 1)
        assert answers == [answers[0]] * 3
        assert (await api.ConcludeProject(conclude())).refit == 2  # nothing was under way any more


async def test_who_asks_of_a_changed_project_is_not_answered_by_what_it_was(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    async with run() as service:
        api, say = service.stub(ConsensusServiceStub), service.database.fetchval
        await world.publish(words.created(), words.answer("a", "ann", "wren"))
        await taken(service, 1)
        first = asyncio.ensure_future(api.ConcludeProject(conclude()))
        await eventually(held.begun.is_set)
        await world.publish(words.updated(min_answers=2))
        await eventually(lambda: say("SELECT revision FROM project"), 2)
        then = asyncio.ensure_future(api.ConcludeProject(conclude()))
        await eventually(lambda: say("SELECT count(*) FROM asked_refit"), 2)
        held.go_on.set()
        assert ((await first).refit, (await then).refit) == (1, 2)


async def test_whoever_asks_when_more_votes_were_heard_of_has_them_counted(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    async with run() as service:
        api, say = service.stub(ConsensusServiceStub), service.database.fetchval
        await world.publish(words.created(), words.answer("a", "ann", "wren"))
        await taken(service, 1)
        first = asyncio.ensure_future(api.ConcludeProject(conclude(expected_annotations=1)))
        await eventually(held.begun.is_set)
        await world.publish(words.answer("b", "ann", "wren"))
        await taken(service, 2)
        then = [
            asyncio.ensure_future(api.ConcludeProject(conclude(name, expected_annotations=2)))
            for name in ("one", "two")
        ]
        refit = asyncio.ensure_future(api.RefitProject(pb.RefitProjectRequest(project="projects/birds")))
        await eventually(lambda: say("SELECT count(*) FROM asked_refit"), 3)
        await eventually(lambda: say("SELECT max(cardinality(requests)) FROM asked_refit"), 2)
        held.go_on.set()
        assert ((await first).refit, (await first).votes) == (1, 1)
        assert await then[0] == await then[1]
        assert {((await one).refit, (await one).votes) for one in (then[0], refit)} == {(2, 2), (3, 2)}


async def test_who_waits_for_a_project_that_is_deleted_is_told(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    async with run() as service:
        await world.publish(words.created(), words.answer("a", "ann", "wren"))
        await taken(service, 1)
        asking = asyncio.ensure_future(service.stub(ConsensusServiceStub).ConcludeProject(conclude("end")))
        await eventually(held.begun.is_set)
        await world.publish(
            Event(ProjectDeleted(project="projects/birds"), "acme", "birds", "projects/birds", 9)
        )
        assert (await refused(asking)).reason == "PROJECT_NOT_FOUND"
        held.go_on.set()
        await eventually(lambda: service.database.fetchval("SELECT count(*) FROM asked_refit"), 0)


async def test_who_waits_is_told_of_a_failure_and_who_asks_anew_has_it_tried_at_once(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, defect = Whole.fit, True

    def failing(everything: Whole, after: int) -> Any:
        if defect:
            raise ZeroDivisionError
        return fit(everything, after)

    monkeypatch.setattr(Whole, "fit", failing)
    async with run() as service:
        api = service.stub(ConsensusServiceStub)
        await world.publish(words.created(), words.answer("a", "ann", "wren"))
        await taken(service, 1)
        for _ in range(2):  # whoever repeats the request is told so, too
            told = await refused(api.ConcludeProject(conclude("end")))
            assert isinstance(told, Unavailable)
            assert told.reason == "REFIT_FAILED"
            assert told.retry_after
        assert await service.database.fetchval("SELECT failures FROM asked_refit") == 1
        defect = False
        assert (await api.ConcludeProject(conclude("anew"))).refit == 1
        assert (await api.ConcludeProject(conclude("end"))).refit == 1


async def test_who_waits_for_what_takes_its_process_down_again_and_again_is_told(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    async with run() as service:
        api = service.stub(ConsensusServiceStub)
        await world.publish(words.created(), words.answer("a", "ann", "wren"))
        await taken(service, 1)
        asking = asyncio.ensure_future(api.RefitProject(pb.RefitProjectRequest(project="projects/birds")))
        await eventually(held.begun.is_set)
        await service.database.execute(
            "UPDATE asked_refit SET tries = 3, not_before = now() + interval '1 h'"
        )
        told = await refused(asking)
        assert isinstance(told, Unavailable)
        assert told.retry_after is not None
        assert 3000 < told.retry_after <= 3600
        held.go_on.set()


async def test_what_one_replica_was_asked_for_another_goes_on_with(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [type(words)(name=name) for name in PROJECTS]
    held = Held(monkeypatch)
    async with run() as staying:
        api = staying.stub(ConsensusServiceStub)
        async with run() as leaving:
            await settled(leaving.database)
            for project in told:
                await world.publish(project.created(), project.answer("a", "ann", "wren"))
            await taken(staying, len(told))
            asking = [asyncio.ensure_future(api.ConcludeProject(conclude(p.name, p.name))) for p in told]
            asked = "SELECT count(project_revision) FROM asked_refit"
            await eventually(lambda: staying.database.fetchval(asked), len(told), timeout=60)
        await eventually(lambda: held.given_up and held.times - held.given_up, len(told))
        assert await staying.database.fetchval("SELECT count(*) FROM asked_refit WHERE tries > 1") == 0
        held.go_on.set()
        for answer in await asyncio.gather(*asking):
            assert (answer.refit, answer.announced_labels) == (1, 1)


async def test_a_small_project_does_not_wait_for_a_large_ones_fit(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch, "birds")
    fish = type(words)("acme", "fish")
    async with run() as service:
        api = service.stub(ConsensusServiceStub)
        for project in (words, fish):
            await world.publish(project.created(), project.answer("a", "ann", "wren"))
        await taken(service, 2)
        birds = asyncio.ensure_future(api.ConcludeProject(conclude()))
        await eventually(held.begun.is_set)
        assert (await api.ConcludeProject(conclude(project="fish"))).announced_labels == 1
        assert not birds.done()
        held.go_on.set()
        assert (await birds).announced_labels == 1


async def test_a_fit_that_a_call_has_overtaken_is_given_up(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of many votes would have the call's wait for it: they are made one at a time."""
    held = Held(monkeypatch)
    async with run(refit_min_votes=1, refit_growth=10.0) as service:
        await world.publish(words.created(), words.answer("a", "ann", "wren"))
        await eventually(held.begun.is_set)
        asking = asyncio.ensure_future(
            service.stub(ConsensusServiceStub).RefitProject(pb.RefitProjectRequest(project="projects/birds"))
        )
        await eventually(lambda: (held.times, held.given_up), (2, 1))
        held.go_on.set()
        assert ((await asking).refit, (await asking).votes) == (1, 1)
        await eventually(lambda: service.database.fetchval("SELECT count(*) FROM refitting"), 0)


async def test_a_refit_of_which_a_call_has_overtaken_the_judging_has_nothing_left_to_do(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "AT_ONCE", 1)
    held = HeldItem(monkeypatch, "b", "judge_again")
    refitted = await world.listen(ReliabilitiesRefitted)
    async with run(refit_min_votes=3, refit_growth=10.0) as service:
        await world.publish(words.created(), *(words.answer(key, "ann", "wren") for key in "abc"))
        await eventually(held.begun.is_set)
    held.die()
    async with run(refit_min_votes=3, refit_growth=10.0) as service:
        await service.database.execute("UPDATE refitting SET not_before = now() + interval '1 h'")
        answer = await service.stub(ConsensusServiceStub).ConcludeProject(conclude())
        assert (answer.refit, answer.votes) == (2, 3)
        assert await service.database.fetchval("SELECT count(*) FROM refitting") == 0
        assert [event.message.refit for event in await refitted.count(1)] == [2]


async def test_a_conclusion_that_comes_to_nothing_keeps_nothing_else_of_its_project_waiting(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(state: ProjectState, key: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(ProjectState, "conclude", failing)
    refitted = await world.listen(ReliabilitiesRefitted)
    async with run(refit_min_votes=2, refit_growth=1.0) as service:
        api = service.stub(ConsensusServiceStub)
        await world.publish(words.created(), words.answer("a", "ann", "wren"))
        await taken(service, 1)
        assert (await refused(api.ConcludeProject(conclude("end")))).reason == "REFIT_FAILED"
        await service.database.execute("UPDATE asked_refit SET not_before = now() + interval '1 h'")
        await world.publish(words.answer("a", "bob", "wren"))
        # Its fit is in use, and judged by and told of all the same.
        assert [event.message.votes for event in await refitted.count(2)] == [1, 2]
        asked = pb.RefitProjectRequest(project="projects/birds")
        assert (await api.RefitProject(asked)).votes == 2


async def test_no_rest_keeps_a_call_waiting(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refits, "REST", 1e9)
    refitted = await world.listen(ReliabilitiesRefitted)
    async with run(refit_min_votes=1, refit_growth=10.0) as service:
        await world.publish(words.created(), words.answer("a", "ann", "wren"))
        await refitted.count(1)
        answer = await service.stub(ConsensusServiceStub).RefitProject(
            pb.RefitProjectRequest(project="projects/birds")
        )
        assert (answer.refit, answer.votes) == (2, 1)


async def test_labels_are_announced_as_they_are_decided(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that a conclusion announces in one transaction would wait for its end, and take memory until then."""
    monkeypatch.setattr(deciding, "AT_ONCE", 2)
    held = HeldItem(monkeypatch, "e")
    said = await world.listen(ConsensusReached)
    async with run() as service:
        await world.publish(
            words.created(min_answers=2), *(words.answer(key, "ann", "wren") for key in "abcdef")
        )
        await taken(service, 6)
        asking = asyncio.ensure_future(service.stub(ConsensusServiceStub).ConcludeProject(conclude()))
        await eventually(held.begun.is_set)
        assert [event.message.item for event in await said.count(4)] == [words.item(key) for key in "abcd"]
        held.go_on.set()
        assert (await asking).announced_labels == 6


async def test_what_a_release_before_has_answered_is_the_answer(world: World, run: Any, words: Any) -> None:
    kept = pb.ConcludeProjectResponse(refit=7, votes=5, announced_labels=3)

    async def effect() -> pb.ConcludeProjectResponse:
        return kept

    set_caller(make_caller("acme", "ann", frozenset(), None))
    async with run() as service:
        await world.publish(words.created(), words.answer("a", "ann", "wren"))
        await taken(service, 1)
        async with service.database.transaction() as tx:
            await once(tx, "acme", conclude("end"), pb.ConcludeProjectResponse, effect)
        assert (
            await service.stub(ConsensusServiceStub, subject="ann").ConcludeProject(conclude("end")) == kept
        )
        assert await service.database.fetchval("SELECT count(*) FROM asked_refit") == 0


async def test_what_came_of_it_is_forgotten_with_the_requests(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cairn_consensus.asking._FORGOTTEN_AT_ONCE", 1)
    outcomes = "SELECT count(*), (SELECT count(*) FROM undecided_item) FROM asked_refit"
    async with run() as service:
        api = service.stub(ConsensusServiceStub)
        await world.publish(words.created(), *(words.answer(key, "ann", CANNOT_TELL) for key in "ab"))
        await taken(service, 2)
        for number in (1, 2, 3):
            answer = await api.ConcludeProject(conclude(f"{number}"))
            assert (answer.refit, len(answer.undecided)) == (number, 2)
        assert tuple(await service.database.fetchrow(outcomes)) == (3, 6)
        old = "UPDATE asked_refit SET ended_at = now() - interval '15 days' WHERE refit < 3"
        await service.database.execute(old)
    async with run() as service:
        await eventually(lambda: service.database.fetchrow(outcomes), (1, 2))


async def test_what_a_release_before_has_left_of_a_project_that_is_gone_is_forgotten_and_not_tried(
    world: World, run: Any
) -> None:
    database = await world.database("consensus", SERVICE.migrations)
    await database.execute(
        "INSERT INTO asked_refit (tenant, project, concludes, requests, refit, judged_until) "
        "VALUES ('acme', 'birds', true, '{}', 1, 'a'), ('acme', 'birds', false, '{}', 0, NULL)"
    )
    await database.execute(
        "INSERT INTO undecided_item SELECT tenant, project, number, 'a', 1 FROM asked_refit WHERE concludes"
    )
    await database.execute("INSERT INTO refitting (tenant, project) VALUES ('acme', 'birds')")
    async with run() as service:
        left = "SELECT (SELECT count(*) FROM asked_refit) + (SELECT count(*) FROM undecided_item)"
        await eventually(lambda: service.database.fetchval(left), 0)
        assert await service.database.fetchval("SELECT tries FROM refitting") == 0


async def test_those_who_wait_for_the_same_are_told_by_one_look(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, undecided, looks = Held(monkeypatch), ConsensusStore.undecided, list[int]()

    async def noting(store: ConsensusStore, rows: Any, which: Any, refit: int) -> Any:
        looks.append(refit)
        return await undecided(store, rows, which, refit)

    monkeypatch.setattr(ConsensusStore, "undecided", noting)
    async with run() as service:
        api, say = service.stub(ConsensusServiceStub), service.database.fetchval
        await world.publish(words.created(), words.answer("a", "ann", CANNOT_TELL))
        await taken(service, 1)
        asking = [asyncio.ensure_future(api.ConcludeProject(conclude(f"{n}"))) for n in range(20)]
        await eventually(lambda: say("SELECT cardinality(requests) FROM asked_refit"), 20)
        held.go_on.set()
        answers = await asyncio.gather(*asking)
        assert answers == [answers[0]] * 20
        assert [one.item for one in answers[0].undecided] == [words.item("a")]
        assert looks == [1]


async def test_calls_that_wait_take_no_room_from_others(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    async with run() as service:
        api, say = service.stub(ConsensusServiceStub), service.database.fetchval
        await world.publish(words.created(), words.answer("a", "ann", "wren"))
        await taken(service, 1)
        asking = [asyncio.ensure_future(api.ConcludeProject(conclude(f"{n}"))) for n in range(60)]
        await eventually(lambda: say("SELECT cardinality(requests) FROM asked_refit"), 60)
        in_flight = service.chassis.metrics.registry.get_sample_value
        await eventually(lambda: in_flight("cairn_rpcs_in_flight"), 0)
        held.go_on.set()
        await asyncio.gather(*asking)
