"""A refit that fails, or whose server is lost, keeps nothing else waiting, and is made good by what comes after it."""

from __future__ import annotations

import asyncio
from math import inf
from typing import Any

import asyncpg
import pytest

from cairn.consensus.v1 import consensus_pb2 as pb
from cairn.consensus.v1.consensus_pb2_grpc import ConsensusServiceStub
from cairn.events.v1.consensus_events_pb2 import ReliabilitiesRefitted
from cairn_consensus import deciding
from cairn_consensus.domain.project_state import ProjectState
from cairn_consensus.domain.whole import Whole
from cairn_consensus.refits import Refits
from cairn_consensus.store import ConsensusStore, ProjectKey
from cairn_kit.shares import SHARES
from cairn_kit.testing import World, eventually
from services.consensus.tests.holding import Held, HeldItem
from services.consensus.tests.test_asking import conclude, refused, taken
from services.consensus.tests.test_replicas import end_lock_sessions


def out_of_order(monkeypatch: pytest.MonkeyPatch, error: BaseException, times: float = inf) -> list[str]:
    """Have the first steps that judge items of birds after the first item end in an error; what they came to."""
    answered_items, failed = ConsensusStore.answered_items, list[str]()

    async def failing(store: ConsensusStore, tx: Any, key: ProjectKey, after: str, limit: int) -> Any:
        if key.project == "birds" and after and len(failed) < times:
            failed.append(after)
            raise error
        return await answered_items(store, tx, key, after, limit)

    monkeypatch.setattr(ConsensusStore, "answered_items", failing)
    monkeypatch.setattr(deciding, "AT_ONCE", 1)
    return failed


@pytest.mark.parametrize("error", [asyncpg.QueryCanceledError("statement timeout"), TimeoutError()])
async def test_a_step_that_takes_too_long_keeps_no_other_project_waiting_and_its_callers_are_told(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    failed, fish = out_of_order(monkeypatch, error), type(words)("acme", "fish")
    async with run() as service:
        api = service.stub(ConsensusServiceStub)
        for project in (words, fish):
            await world.publish(project.created(), *(project.answer(key, "ann", "wren") for key in "ab"))
        await taken(service, 4)
        birds = asyncio.ensure_future(api.ConcludeProject(conclude("end")))
        await eventually(lambda: failed)
        assert (await api.ConcludeProject(conclude(project="fish"))).announced_labels == 2
        assert (await refused(birds)).reason == "REFIT_FAILED"
        assert (
            await service.database.fetchval("SELECT failures FROM asked_refit WHERE project = 'birds'") == 1
        )


async def test_a_lost_server_is_nobodys_failure(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = out_of_order(monkeypatch, asyncpg.ConnectionDoesNotExistError("connection was closed"), times=1)
    async with run() as service:
        await world.publish(words.created(), *(words.answer(key, "ann", "wren") for key in "ab"))
        await taken(service, 2)
        birds = asyncio.ensure_future(service.stub(ConsensusServiceStub).ConcludeProject(conclude("end")))
        await eventually(lambda: failed)
        assert (await birds).announced_labels == 2
        assert await service.database.fetchval("SELECT failures FROM asked_refit") == 0


async def test_a_lost_server_has_no_fit_made_anew_and_is_no_death(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, adopt, tries = Held(monkeypatch), deciding.Deciding.adopt, list[int]()
    held.go_on.set()

    async def lost_at_first(by: deciding.Deciding, tx: Any, *fit: Any) -> None:
        tries.append(await tx.fetchval("SELECT tries FROM asked_refit"))
        if len(tries) < 3:
            raise asyncpg.ConnectionDoesNotExistError("connection was closed")
        await adopt(by, tx, *fit)

    monkeypatch.setattr(deciding.Deciding, "adopt", lost_at_first)
    async with run() as service:
        await world.publish(words.created(), words.answer("a", "ann", "wren"))
        await taken(service, 1)
        answer = await service.stub(ConsensusServiceStub).ConcludeProject(conclude("end"))
        assert (answer.refit, answer.announced_labels) == (1, 1)
        assert (held.times, tries) == (1, [1, 1, 1])


async def test_a_step_that_loses_the_server_each_time_keeps_no_other_project_waiting(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = out_of_order(monkeypatch, asyncpg.ConnectionDoesNotExistError("connection was closed"))
    fish = type(words)("acme", "fish")
    async with run() as service:
        api = service.stub(ConsensusServiceStub)
        for project in (words, fish):
            await world.publish(project.created(), *(project.answer(key, "ann", "wren") for key in "ab"))
        await taken(service, 4)
        birds = asyncio.ensure_future(api.ConcludeProject(conclude("end")))
        await eventually(lambda: failed)
        assert (await api.ConcludeProject(conclude(project="fish"))).announced_labels == 2
        birds.cancel()


@pytest.mark.parametrize("made", [False, True], ids=["in making", "made"])
async def test_a_fit_outlives_the_session_by_which_its_project_is_kept(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch, made: bool
) -> None:
    begin_share, work, state = ConsensusStore.begin_share, Refits.work, Refits._state
    held, begun, rounds, lost = Held(monkeypatch), list[int](), list[None](), asyncio.Event()

    async def end_session() -> None:
        begun.clear()
        lost.set()
        await end_lock_sessions(service.database)

    async def begun_late(store: ConsensusStore, rows: Any, share: int) -> int | None:
        if lost.is_set() and not begun:
            seen = len(rounds)
            await eventually(lambda: len(rounds) > seen + 1)  # one at least began when nothing was kept
        begun.append(share)
        return await begin_share(store, rows, share)

    async def counted(refits: Refits) -> None:
        await work(refits)
        rounds.append(None)

    async def state_when_nothing_is_kept(refits: Refits, tx: Any, key: ProjectKey) -> Any:
        if held.go_on.is_set() and not lost.is_set():
            await end_session()
            await eventually(lambda: not refits._shares.kept)
        return await state(refits, tx, key)

    monkeypatch.setattr(ConsensusStore, "begin_share", begun_late)
    monkeypatch.setattr(Refits, "work", counted)
    monkeypatch.setattr(Refits, "_state", state_when_nothing_is_kept)
    async with run() as service:
        await world.publish(words.created(), words.answer("a", "ann", "wren"))
        await taken(service, 1)
        asking = asyncio.ensure_future(service.stub(ConsensusServiceStub).ConcludeProject(conclude("end")))
        await eventually(held.begun.is_set)
        if not made:
            await end_session()
            await eventually(lambda: len(begun), SHARES)
        held.go_on.set()
        ended = "SELECT refit, tries FROM asked_refit WHERE ended_at IS NOT NULL"
        assert tuple(await eventually(lambda: service.database.fetchrow(ended))) == (1, 1)
        assert (lost.is_set(), held.times, held.given_up) == (True, 1, 0)
        await asyncio.gather(asking, return_exceptions=True)


async def test_a_fit_that_could_not_be_made_for_a_lost_server_is_made_anew(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, lost = Whole.fit, [OSError("no memory")]

    def failing_once(everything: Whole, after: int) -> Any:
        if lost:
            raise lost.pop()
        return fit(everything, after)

    monkeypatch.setattr(Whole, "fit", failing_once)
    async with run() as service:
        await world.publish(words.created(), words.answer("a", "ann", "wren"))
        await taken(service, 1)
        answer = await service.stub(ConsensusServiceStub).ConcludeProject(conclude("end"))
        assert (answer.refit, answer.announced_labels) == (1, 1)


async def test_what_had_changed_when_a_conclusion_came_to_nothing_is_told_with_what_changed_then(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "AT_ONCE", 1)
    held, refitted = HeldItem(monkeypatch, "b"), await world.listen(ReliabilitiesRefitted)
    async with run() as service:
        await world.publish(
            words.created(min_answers=2), *(words.answer(key, "ann", "wren") for key in "abc")
        )
        await taken(service, 3)
        asking = asyncio.ensure_future(service.stub(ConsensusServiceStub).ConcludeProject(conclude()))
        await eventually(held.begun.is_set)
        owed = "UPDATE refitting SET judged_until = 'c'"
        await service.database.execute(
            f"WITH owed AS ({owed}) UPDATE refit SET changed_items = changed_items + 2"
        )
        held.go_on.set()
        assert (await asking).announced_labels == 3
        assert [event.message.changed_items for event in await refitted.count(1)] == [5]


async def test_what_had_changed_when_a_refit_came_to_nothing_is_told_with_what_changes_by_its_fit_then(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "AT_ONCE", 1)
    judge_again, defect, changed = ProjectState.judge_again, True, set[str]()

    def changing_each_once(state: ProjectState, key: Any) -> Any:
        if key == "b" and defect:
            raise ZeroDivisionError
        if key not in changed:
            changed.add(key)
            state.items[key].announced.clear()  # by the fit before it was another
        return judge_again(state, key)

    monkeypatch.setattr(ProjectState, "judge_again", changing_each_once)
    refitted = await world.listen(ReliabilitiesRefitted)
    asked = pb.RefitProjectRequest(project="projects/birds", request_id="again")
    async with run() as service:
        api, database = service.stub(ConsensusServiceStub), service.database
        await world.publish(
            words.created(), *(words.answer(key, who, "wren") for key in "abc" for who in ("ann", "bob"))
        )
        await eventually(lambda: database.fetchval("SELECT count(*) FROM decision"), 3)
        assert (await refused(api.RefitProject(asked))).reason == "REFIT_FAILED"
        await database.execute("UPDATE asked_refit SET not_before = now() + interval '1 h'")
        defect = False
        await database.execute("UPDATE refitting SET not_before = now()")
        assert [event.message.changed_items for event in await refitted.count(1)] == [3]
        await database.execute("UPDATE asked_refit SET not_before = now()")
        assert (await api.RefitProject(asked)).changed_items == 3


async def test_whoever_is_begun_takes_over_what_came_to_nothing_before(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else that would conclude, when it is tried again, what has come since, and nobody asked to conclude."""
    real, defect = ProjectState.conclude, True

    def failing(state: ProjectState, key: Any) -> Any:
        if defect:
            raise ZeroDivisionError
        return real(state, key)

    monkeypatch.setattr(ProjectState, "conclude", failing)
    async with run() as service:
        api, say = service.stub(ConsensusServiceStub), service.database.fetchval
        await world.publish(words.created(min_answers=3, max_answers=5))
        for votes, key in enumerate("abcd", start=1):
            await world.publish(words.answer(key, "ann", "wren"))
            await taken(service, votes)
            assert (await refused(api.ConcludeProject(conclude(key)))).reason == "REFIT_FAILED"
            assert await say("SELECT count(*) FROM asked_refit WHERE ended_at IS NULL") == 1
        await service.database.execute("UPDATE asked_refit SET not_before = now() + interval '1 h'")
        assert (await refused(api.ConcludeProject(conclude("a")))).reason == "REFIT_FAILED"
        defect = False
        answer = await api.ConcludeProject(conclude("e"))
        assert (answer.votes, answer.announced_labels) == (4, 4)
        for key in "abcde":
            assert await api.ConcludeProject(conclude(key)) == answer
        assert await say("SELECT count(*) FROM asked_refit WHERE ended_at IS NULL") == 0


@pytest.mark.parametrize(
    "came_to_nothing", ["not_before = now()", "failures = 0, tries = 3, not_before = now()"]
)
@pytest.mark.parametrize("asked_again", [False, True], ids=["forsaken", "asked again"])
async def test_a_conclusion_that_came_to_nothing_is_not_tried_again_when_nobody_wants_it_any_more(
    world: World,
    run: Any,
    words: Any,
    monkeypatch: pytest.MonkeyPatch,
    came_to_nothing: str,
    asked_again: bool,
) -> None:
    real, defect = ProjectState.conclude, True

    def failing(state: ProjectState, key: Any) -> Any:
        if defect:
            raise ZeroDivisionError
        return real(state, key)

    monkeypatch.setattr(ProjectState, "conclude", failing)
    async with run() as service:
        api, database = service.stub(ConsensusServiceStub), service.database
        await world.publish(words.created(min_answers=3, max_answers=5))
        for votes, key in enumerate("ab", start=1):
            await world.publish(words.answer(key, "ann", "wren"))
            await taken(service, votes)
            assert (await refused(api.ConcludeProject(conclude(key)))).reason == "REFIT_FAILED"
        await database.execute(
            "UPDATE asked_refit SET not_before = now() + interval '1 h', last_asked_at = now() - interval '61 min'"
        )
        await world.publish(words.answer("c", "ann", "wren"))
        await taken(service, 3)
        if asked_again:  # what has taken it over is wanted with it
            assert (await refused(api.ConcludeProject(conclude("a")))).reason == "REFIT_FAILED"
        defect = False
        await database.execute(f"UPDATE asked_refit SET {came_to_nothing} WHERE ended_at IS NULL")
        under_way = "SELECT count(*) FROM asked_refit WHERE ended_at IS NULL"
        await eventually(lambda: database.fetchval(under_way), 0)
        concluded = "SELECT count(*) FROM item WHERE concluded"
        assert await database.fetchval(concluded) == (3 if asked_again else 0)
        made = await database.fetchval("SELECT refit FROM refit")
        answers = [await api.ConcludeProject(conclude(key)) for key in "ab"]
        assert [answer.refit - made for answer in answers] == ([0, 0] if asked_again else [1, 2])
        assert await database.fetchval(concluded) == 3


async def test_a_conclusion_that_somebody_has_waited_for_all_the_time_is_tried_again_when_it_fails(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, fit, defects = Held(monkeypatch), Whole.fit, [ZeroDivisionError()]

    def failing_once(everything: Whole, after: int) -> Any:
        if defects:
            raise defects.pop()
        return fit(everything, after)

    monkeypatch.setattr(Whole, "fit", failing_once)
    async with run() as service:
        api, database = service.stub(ConsensusServiceStub), service.database
        await world.publish(words.created(), words.answer("a", "ann", "wren"))
        await taken(service, 1)
        waiting = asyncio.ensure_future(api.ConcludeProject(conclude("end")))
        await eventually(held.begun.is_set)
        await database.execute("UPDATE asked_refit SET last_asked_at = now() - interval '61 min'")
        held.go_on.set()
        assert (await refused(waiting)).reason == "REFIT_FAILED"
        await database.execute("UPDATE asked_refit SET not_before = now()")
        ended = "SELECT refit FROM asked_refit WHERE ended_at IS NOT NULL"
        assert await eventually(lambda: database.fetchval(ended)) == 1
        assert (await api.ConcludeProject(conclude("end"))).refit == 1


async def test_who_asks_again_for_a_conclusion_that_has_ended_keeps_no_later_one_wanted(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run() as service:
        api, database = service.stub(ConsensusServiceStub), service.database
        await world.publish(words.created(), words.answer("a", "ann", "wren"))
        await taken(service, 1)
        first = await api.ConcludeProject(conclude("first"))

        def failing(state: ProjectState, key: Any) -> Any:
            raise ZeroDivisionError

        monkeypatch.setattr(ProjectState, "conclude", failing)
        assert (await refused(api.ConcludeProject(conclude("later")))).reason == "REFIT_FAILED"
        await database.execute("UPDATE asked_refit SET last_asked_at = now() - interval '61 min'")
        assert await api.ConcludeProject(conclude("first")) == first
        await database.execute("UPDATE asked_refit SET not_before = now() WHERE ended_at IS NULL")
        given_up = "SELECT count(*) FROM asked_refit WHERE ended_at IS NOT NULL AND refit = 0"
        await eventually(lambda: database.fetchval(given_up), 1)


async def test_a_conclusion_takes_over_a_refit_that_came_to_nothing_before(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, defect = Whole.fit, True

    def failing(everything: Whole, after: int) -> Any:
        if defect:
            raise ZeroDivisionError
        return fit(everything, after)

    monkeypatch.setattr(Whole, "fit", failing)
    asked = pb.RefitProjectRequest(project="projects/birds", request_id="again")
    async with run() as service:
        api = service.stub(ConsensusServiceStub)
        await world.publish(words.created(), words.answer("a", "ann", "wren"))
        await taken(service, 1)
        assert (await refused(api.RefitProject(asked))).reason == "REFIT_FAILED"
        await service.database.execute("UPDATE asked_refit SET not_before = now() + interval '1 h'")
        defect = False
        concluded = await api.ConcludeProject(conclude("end"))
        answer = await api.RefitProject(asked)
        assert (answer.refit, answer.votes) == (concluded.refit, concluded.votes) == (1, 1)
        later = pb.RefitProjectRequest(project="projects/birds")
        assert (await api.RefitProject(later)).refit == 2


@pytest.mark.parametrize("taken_over", [False, True], ids=["by itself", "by the next of its kind"])
async def test_a_conclusion_that_comes_to_nothing_keeps_no_refit_before_it_from_being_made(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch, taken_over: bool
) -> None:
    fit, defects = Whole.fit, [ZeroDivisionError()]

    def failing_once(everything: Whole, after: int) -> Any:
        if defects:
            raise defects.pop()
        return fit(everything, after)

    def failing(state: ProjectState, key: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(Whole, "fit", failing_once)
    monkeypatch.setattr(ProjectState, "conclude", failing)
    asked = pb.RefitProjectRequest(project="projects/birds", request_id="again")
    async with run() as service:
        api, run_sql = service.stub(ConsensusServiceStub), service.database.execute
        await world.publish(words.created(), words.answer("a", "ann", "wren"))
        await taken(service, 1)
        for call, request in ((api.RefitProject, asked), (api.ConcludeProject, conclude("end"))):
            assert (await refused(call(request))).reason == "REFIT_FAILED"
            await run_sql("UPDATE asked_refit SET not_before = now() + interval '1 h'")
        if taken_over:
            answer = await api.RefitProject(pb.RefitProjectRequest(project="projects/birds"))
            assert await api.RefitProject(asked) == answer
        else:
            await run_sql("UPDATE asked_refit SET not_before = now() WHERE NOT concludes")
            answer = await api.RefitProject(asked)
        assert answer.refit == 2
        assert (await refused(api.ConcludeProject(conclude("end")))).reason == "REFIT_FAILED"


async def test_what_is_under_way_is_not_begun_anew_for_what_came_to_nothing_before(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, defect = ProjectState.conclude, True

    def failing(state: ProjectState, key: Any) -> Any:
        if defect:
            raise ZeroDivisionError
        return real(state, key)

    monkeypatch.setattr(ProjectState, "conclude", failing)
    monkeypatch.setattr(deciding, "AT_ONCE", 1)
    async with run() as service:
        api, say = service.stub(ConsensusServiceStub), service.database.fetchval
        await world.publish(words.created(), *(words.answer(key, "ann", "wren") for key in "abc"))
        await taken(service, 3)
        assert (await refused(api.ConcludeProject(conclude("end")))).reason == "REFIT_FAILED"
        await eventually(lambda: say("SELECT count(*) FROM refitting"), 0)  # by its fit all were judged
        defect, held = False, HeldItem(monkeypatch, "b", "judge_again")
        asked = pb.RefitProjectRequest(project="projects/birds")
        refitting = asyncio.ensure_future(api.RefitProject(asked))
        await eventually(held.begun.is_set)
        await service.database.execute("UPDATE asked_refit SET not_before = now() WHERE concludes")
        held.go_on.set()
        assert (await refitting).refit == 2
        assert (await api.ConcludeProject(conclude("end"))).refit == 3
