"""Labelers are fitted beside the votes that go on coming, and items judged by it in parts, through whatever breaks off."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cairn.consensus.v1 import consensus_pb2 as pb
from cairn.consensus.v1.consensus_pb2_grpc import ConsensusServiceStub
from cairn.events.v1.consensus_events_pb2 import ConsensusReached, ReliabilitiesRefitted
from cairn_consensus import deciding, refits
from cairn_consensus.domain.project_state import ProjectState
from cairn_consensus.fitting import Fitting
from cairn_consensus.store import ConsensusStore
from cairn_kit.testing import World, eventually
from services.consensus.tests.holding import Held


async def under_way(service: Any) -> int:
    return int(await service.database.fetchval("SELECT count(*) FROM refitting"))


async def test_votes_are_taken_and_items_decided_while_labelers_are_fitted(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    decided = await world.listen(ConsensusReached)
    refitted = await world.listen(ReliabilitiesRefitted)
    async with run(refit_min_votes=4, refit_growth=1.0) as service:
        await world.publish(words.created())
        await world.publish(*(words.answer(key, who, "wren") for key in "ab" for who in ("ann", "bob")))
        await eventually(held.begun.is_set)
        await world.publish(*(words.answer(key, who, "tit") for key in "cd" for who in ("ann", "bob")))
        await decided.until(lambda events: {e.message.item for e in events} >= {words.item("d")})
        held.go_on.set()
        # It is told of when all are judged by it; what came meanwhile was enough for another.
        told = await refitted.count(2)
        assert [(event.message.refit, event.message.votes) for event in told] == [(1, 4), (2, 8)]
        await eventually(lambda: under_way(service), 0)


async def test_a_refit_that_another_overtook_is_not_taken_into_use(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    refitted = await world.listen(ReliabilitiesRefitted)
    async with run(refit_min_votes=2, refit_growth=10.0) as service:
        api = service.stub(ConsensusServiceStub)
        await world.publish(
            words.created(), words.answer("a", "ann", "wren"), words.answer("a", "bob", "wren")
        )
        await eventually(held.begun.is_set)
        held.begun.clear()
        asked = asyncio.ensure_future(api.RefitProject(pb.RefitProjectRequest(project="projects/birds")))
        await eventually(held.begun.is_set)
        held.go_on.set()
        await asked
        await eventually(lambda: under_way(service), 0)
        again = await api.RefitProject(pb.RefitProjectRequest(project="projects/birds"))
        told = await refitted.until(lambda events: any(e.message.refit == again.refit for e in events))
        assert [event.message.refit for event in told] == list(range(1, again.refit + 1))


async def test_a_fit_by_an_earlier_schema_is_not_taken_into_use(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    refitted = await world.listen(ReliabilitiesRefitted)
    async with run(refit_min_votes=2, refit_growth=10.0) as service:
        await world.publish(
            words.created(), words.answer("a", "ann", "wren"), words.answer("a", "bob", "wren")
        )
        await eventually(held.begun.is_set)
        await world.publish(words.extended(words.question("call")))
        await eventually(lambda: service.database.fetchval("SELECT revision FROM project"), 2)
        await world.publish(
            *(words.answer("a", who, words.choice("tit", "call"), again=True) for who in ("ann", "bob"))
        )
        await eventually(lambda: service.database.fetchval("SELECT count(*) FROM vote"), 4)
        held.go_on.set()
        assert [event.message.refit for event in await refitted.count(1)] == [1]
        listed = await service.stub(ConsensusServiceStub).ListReliabilities(
            pb.ListReliabilitiesRequest(parent="projects/birds")
        )
        assert {(one.question, one.votes) for one in listed.reliabilities} == {("call", 1)}


async def test_one_class_more_has_everything_fitted_again_with_the_next_vote(
    world: World, run: Any, words: Any
) -> None:
    refitted = await world.listen(ReliabilitiesRefitted)
    async with run(refit_min_votes=6, refit_growth=1e9) as service:
        await world.publish(
            words.created(), *(words.answer(k, w, "wren") for k in "abc" for w in ("ann", "bob"))
        )
        await refitted.count(1)
        question = words.question()
        question.choice.classes.add(id="owl")
        await world.publish(words.extended(question))
        await eventually(lambda: service.database.fetchval("SELECT revision FROM project"), 2)
        await world.publish(words.answer("d", "ann", "owl", schema_version=2))
        assert [(e.message.refit, e.message.votes) for e in await refitted.count(2)] == [(1, 6), (2, 7)]


async def test_judging_goes_on_where_it_was_broken_off(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given items judged two by two, and a process that ends in the middle of it
    monkeypatch.setattr(deciding, "AT_ONCE", 2)
    judge_again = ProjectState.judge_again
    judged: list[str] = []
    broken = True

    def breaking_off(state: ProjectState, key: Any) -> Any:
        if broken and key == "e":
            raise RuntimeError("the process dies here")
        judged.append(key)
        return judge_again(state, key)

    monkeypatch.setattr(ProjectState, "judge_again", breaking_off)
    refitted = await world.listen(ReliabilitiesRefitted)
    until = "SELECT judged_until FROM refitting"
    waiting = "SELECT count(*) FROM refitting WHERE tries > 0 AND not_before > now()"
    async with run(refit_min_votes=7, refit_growth=10.0) as service:
        await world.publish(words.created(), *(words.answer(key, "ann", "wren") for key in "abcdefg"))
        await eventually(lambda: service.database.fetchval(until), "d")
        assert "c" in judged
        assert await service.database.fetchval(waiting) == 1
    # when another takes over, once it is time
    broken, judged[:] = False, []
    async with run(refit_min_votes=7, refit_growth=10.0) as service:
        await service.database.execute("UPDATE refitting SET not_before = now()")
        await eventually(lambda: under_way(service), 0)
    # then only the rest is judged, and it is told of once
    assert judged == ["e", "f", "g"]
    assert [(e.message.refit, e.message.votes) for e in await refitted.count(1)] == [(1, 7)]


async def test_items_whose_judging_takes_the_process_down_are_left_alone_for_longer_each_time(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is killed says nothing any more: what was noted before is all that the next one knows."""

    def killed(state: ProjectState, items: Any) -> Any:
        raise asyncio.CancelledError

    async def silent(store: ConsensusStore, rows: Any, which: Any) -> None: ...

    monkeypatch.setattr(ProjectState, "judge_each_again", killed)
    monkeypatch.setattr(ConsensusStore, "note_left", silent)
    noted = "SELECT tries, not_before - now() FROM refitting"

    async def delay(service: Any, tries: int) -> float:
        row = await service.database.fetchrow(noted)
        assert row["tries"] == tries
        return float(row[1].total_seconds())

    async with run(refit_min_votes=2, refit_growth=10.0) as service:
        await world.publish(words.created(), *(words.answer("a", who, "wren") for who in ("ann", "bob")))
        assert 0.0 < await eventually(lambda: delay(service, 1)) <= 10.0
    async with run(refit_min_votes=2, refit_growth=10.0) as service:
        await service.database.execute("UPDATE refitting SET not_before = now() WHERE tries = 1")
        assert 10.0 < await eventually(lambda: delay(service, 2)) <= 20.0


async def test_projects_are_judged_again_in_turn_and_none_waits_for_anothers_last_item(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "AT_ONCE", 1)
    held, fish = Held(monkeypatch), type(words)("acme", "fish")
    judge_again, judged = ProjectState.judge_again, list[str]()

    def noting(state: ProjectState, key: Any) -> Any:
        judged.append(state.project.name)
        return judge_again(state, key)

    monkeypatch.setattr(ProjectState, "judge_again", noting)
    async with run(refit_min_votes=5, refit_growth=10.0) as service:
        for project in (words, fish):
            await world.publish(project.created(), *(project.answer(key, "ann", "wren") for key in "abcde"))
        await eventually(lambda: under_way(service), 2)
        held.go_on.set()
        await eventually(lambda: under_way(service), 0)
    assert len(judged) == 10
    one, other = ([n for n, name in enumerate(judged) if name == said] for said in sorted(set(judged)))
    assert max(one[0], other[0]) < min(one[-1], other[-1])


async def test_items_are_judged_together_as_far_as_their_answers_have_few_bytes(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 3 * words.choice("wren").ByteSize()
    monkeypatch.setattr(deciding, "_BYTES_AT_ONCE", 2 * size)
    judge_each_again, together = ProjectState.judge_each_again, list[list[str]]()

    def noting(state: ProjectState, items: Any) -> Any:
        together.append(list(items))
        return judge_each_again(state, items)

    monkeypatch.setattr(ProjectState, "judge_each_again", noting)
    async with run() as service:
        await world.publish(words.created(), *(words.answer(k, w, "wren") for k in "abcde" for w in "xyz"))
        await eventually(lambda: service.database.fetchval("SELECT count(*) FROM vote"), 15)
        api = service.stub(ConsensusServiceStub)
        await api.RefitProject(pb.RefitProjectRequest(project="projects/birds"))
    assert together == [["a", "b"], ["c", "d"], ["e"]]


async def test_a_project_rests_between_two_refits_and_keeps_no_other_waiting(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refits, "REST", 1e9)
    refitted = await world.listen(ReliabilitiesRefitted)
    fish = type(words)("acme", "fish")

    def answers(said: Any, item: str) -> list[Any]:
        return [said.answer(item, who, "wren") for who in ("ann", "bob")]

    async with run(refit_min_votes=2, refit_growth=0.5) as service:
        await world.publish(words.created(), *answers(words, "a"))
        await refitted.count(1)
        await world.publish(*answers(words, "b"))
        await eventually(lambda: under_way(service), 1)
        await world.publish(fish.created(), *answers(fish, "a"))  # asked for later, and done at once
        told = await refitted.count(2)
        assert [(event.project, event.message.refit) for event in told] == [("birds", 1), ("fish", 1)]
        await eventually(lambda: under_way(service), 1)


async def test_a_project_that_cannot_be_fitted_keeps_no_other_waiting(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Fitting.begin

    async def broken_for_birds(fitting: Fitting, tx: Any, key: Any, state: ProjectState) -> Any:
        if state.project.name == "projects/birds":
            raise RuntimeError("no fit for birds")
        return await begin(fitting, tx, key, state)

    monkeypatch.setattr(Fitting, "begin", broken_for_birds)
    refitted = await world.listen(ReliabilitiesRefitted)
    other = type(words)("acme", "fish")
    async with run(refit_min_votes=2, refit_growth=10.0) as service:
        for said in (words, other):
            await world.publish(
                said.created(), said.answer("a", "ann", "wren"), said.answer("a", "bob", "wren")
            )
        assert [event.message.project for event in await refitted.count(1)] == ["projects/fish"]
        # Nor is it tried again at once, by this process or by the next: a fit may be what took it down.
        waiting = "SELECT tries FROM refitting WHERE project = 'birds' AND not_before > now()"
        await eventually(lambda: service.database.fetchval(waiting), 1)
