"""Two replicas on one database and bus: each project is worked on by one of them, and both can be asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from cairn.consensus.v1 import consensus_pb2 as pb
from cairn.consensus.v1.consensus_pb2_grpc import ConsensusServiceStub
from cairn.events.v1.consensus_events_pb2 import ConsensusReached
from cairn_consensus.__main__ import SERVICE
from cairn_consensus.shares import Shares
from cairn_consensus.store import ConsensusStore, ProjectKey
from cairn_kit.database import Database
from cairn_kit.shares import SHARES, Elsewhere, Lines, fair_number, share_of
from cairn_kit.testing import World, eventually

PROJECTS = [f"birds-{n}" for n in range(12)]


async def settled(database: Database) -> None:
    """Wait until every share is kept, half of them by each of two sessions."""
    held = """
    SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND mode = 'ExclusiveLock'
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) GROUP BY pid
    """

    async def numbers() -> list[int]:
        return sorted(row["count"] for row in await database.fetch(held))

    await eventually(numbers, [SHARES // 2, SHARES // 2])


async def test_each_project_has_one_keeper_and_every_replica_answers_for_all(
    world: World, run: Any, words: Any
) -> None:
    told = [type(words)(name=name) for name in PROJECTS]
    reached = await world.listen(ConsensusReached)
    async with run() as one, run() as other:
        await settled(one.database)
        apis = [service.stub(ConsensusServiceStub) for service in (one, other)]
        for project in told:
            await world.publish(
                project.created(), *(project.answer(f"i{n}", w, "wren") for n in range(3) for w in "abc")
            )
        for project in told:
            request = pb.ConcludeProjectRequest(project=f"projects/{project.name}", expected_annotations=9)
            await eventually(lambda request=request: apis[0].ConcludeProject(request))
            asked = pb.BatchGetPosteriorsRequest(
                parent=f"projects/{project.name}",
                question="species",
                items=[project.item(f"i{n}") for n in range(3)],
            )
            said = [await api.BatchGetPosteriors(asked) for api in apis]
            assert said[0] == said[1]
            assert [found.votes for found in said[0].posteriors] == [3, 3, 3]
        heard = await reached.count(3 * len(told))
        revisions = [(e.project, e.message.item, e.message.revision) for e in heard]
        assert len(revisions) == len(set(revisions))
        work = [await s.database.fetchval("SELECT count(*) FROM vote") for s in (one, other)]
        assert work == [9 * len(told)] * 2


async def test_a_refusal_by_the_keeper_is_the_answer_of_whoever_was_asked(run: Any) -> None:
    async with run() as one, run() as other:
        await settled(one.database)
        for service in (one, other):
            for name in PROJECTS:
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await service.stub(ConsensusServiceStub).RefitProject(
                        pb.RefitProjectRequest(project=f"projects/{name}")
                    )
                assert refused.value.code() is grpc.StatusCode.NOT_FOUND
                assert f"projects/{name}" in (refused.value.details() or "")


async def test_a_request_is_known_again_by_every_replica_and_is_its_subjects_own(
    world: World, run: Any, words: Any
) -> None:
    told = [type(words)(name=name) for name in PROJECTS]
    async with run() as one, run() as other:
        await settled(one.database)
        for project in told:
            await world.publish(project.created(), project.answer("a", "ann", "wren"))
            request = pb.ConcludeProjectRequest(
                project=f"projects/{project.name}", expected_annotations=1, request_id=f"end-{project.name}"
            )
            concluded = one.stub(ConsensusServiceStub, subject="ann").ConcludeProject
            first = await eventually(lambda concluded=concluded, request=request: concluded(request))
            for service in (other, one):
                api = service.stub(ConsensusServiceStub, subject="ann")
                assert await api.ConcludeProject(request) == first
            by_bob = await other.stub(ConsensusServiceStub, subject="bob").ConcludeProject(request)
            assert (first.refit, by_bob.refit) == (1, 2)


async def test_a_list_goes_on_at_any_replica(world: World, run: Any, words: Any) -> None:
    told = [type(words)(name=name) for name in PROJECTS]
    async with run() as one, run() as other:
        await settled(one.database)
        apis = [service.stub(ConsensusServiceStub) for service in (one, other)]
        for project in told:
            await world.publish(project.created(), *(project.answer("a", who, "wren") for who in "ab"))
        await eventually(lambda: one.database.fetchval("SELECT count(*) FROM vote"), 2 * len(told))
        for project in told:
            page = pb.ListReliabilitiesRequest(parent=f"projects/{project.name}", page_size=1)
            first = await apis[0].ListReliabilities(page)
            page.page_token = first.next_page_token
            rest = [await api.ListReliabilities(page) for api in apis]
            assert rest[0] == rest[1]
            labelers = [known.labeler for known in (*first.reliabilities, *rest[0].reliabilities)]
            assert labelers == ["labelers/a", "labelers/b"]


async def test_what_one_replica_leaves_another_goes_on_with(world: World, run: Any, words: Any) -> None:
    told = [type(words)(name=name) for name in PROJECTS]

    async def votes(api: Any, project: Any) -> int:
        get = pb.GetPosteriorRequest(item=project.item("a"), question="species")
        return int((await api.GetPosterior(get)).votes)

    async with run() as staying:
        api = staying.stub(ConsensusServiceStub)
        async with run() as leaving:
            await settled(leaving.database)
            for project in told:
                await world.publish(project.created(), project.answer("a", "ann", "wren"))
            for project in told:
                await eventually(lambda project=project: votes(api, project), 1)
        for project in told:
            await world.publish(project.answer("a", "bob", "wren"))
        for project in told:
            await eventually(lambda project=project: votes(api, project), 2)
        async with run() as joining:  # takes shares back, with what was said meanwhile
            await settled(joining.database)
            for project in told:
                assert await votes(joining.stub(ConsensusServiceStub), project) == 2


@asynccontextmanager
async def keeping(shares: Shares) -> AsyncIterator[None]:
    task = asyncio.create_task(shares.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def database(world: World) -> Database:
    return await world.database("consensus", SERVICE.migrations)


async def shares_on(world: World, database: Database) -> Shares:
    return Shares(database, ConsensusStore(), Lines(await world.connection(), "consensus"))


async def end_lock_sessions(database: Database) -> None:
    """What a broken line does to a replica: its locks are free."""
    await database.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) GROUP BY pid"
    )


async def test_a_replica_that_was_superseded_cannot_go_on(world: World, database: Database) -> None:
    key, store, shares = ProjectKey("acme", "birds"), ConsensusStore(), await shares_on(world, database)
    async with keeping(shares):
        await eventually(lambda: len(shares.kept), SHARES)
        async with database.transaction() as tx:
            before = await shares.epoch(tx, key)
            assert await store.begin_share(database, key.share) is None, (
                "what is under way was not waited for"
            )
        assert await store.begin_share(database, key.share) == before + 1
        async with database.transaction() as tx:
            assert key.share in shares.kept, "nobody has told it"
            with pytest.raises(Elsewhere):
                await shares.epoch(tx, key)


async def test_replicas_keep_equal_numbers_and_take_what_another_leaves(
    world: World, database: Database
) -> None:
    first, second = await shares_on(world, database), await shares_on(world, database)
    async with keeping(first):
        await eventually(lambda: len(first.kept), SHARES)
        async with keeping(second):
            await eventually(lambda: (len(first.kept), len(second.kept)), (SHARES // 2, SHARES // 2))
            assert not first.kept & second.kept
        await eventually(lambda: len(first.kept), SHARES)


async def test_a_replica_whose_session_ended_keeps_nothing_and_begins_again(
    world: World, database: Database
) -> None:
    shares, ended = await shares_on(world, database), []
    shares.ended = ended.append
    async with keeping(shares):
        await eventually(lambda: len(shares.kept), SHARES)
        await end_lock_sessions(database)
        await eventually(lambda: len(ended), SHARES)
        await eventually(lambda: len(shares.kept), SHARES)


async def test_beside_a_release_that_keeps_everything_nothing_is_kept(
    world: World, database: Database, run: Any, words: Any
) -> None:
    """A release from before shares holds the lock `state` alone for as long as it runs."""
    get = pb.GetPosteriorRequest(item=words.item("a"), question="species")
    async with database.locks() as release_before:
        assert await release_before.take("state")
        async with run() as service:
            await world.publish(words.created(), words.answer("a", "ann", "wren"))
            api = service.stub(ConsensusServiceStub)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await api.GetPosterior(get, timeout=2)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert await database.fetchval("SELECT count(*) FROM vote") == 0
            await release_before.give_back("state")
            assert (await eventually(lambda: api.GetPosterior(get))).votes == 1


def test_the_share_of_a_project_never_changes() -> None:
    """Replicas of two releases run side by side, and must agree on who keeps a project."""
    assert [share_of("acme", name) for name in PROJECTS] == [15, 9, 3, 5, 6, 0, 10, 12, 13, 11, 0, 6]
    assert {share_of("acme", f"project-{n}") for n in range(200)} == set(range(SHARES))


@pytest.mark.parametrize("replicas", range(1, 20))
def test_all_shares_are_due_to_somebody(replicas: int) -> None:
    due = [fair_number(rank, replicas) for rank in range(replicas)]
    assert sum(due) == SHARES
    assert max(due) - min(due) <= 1
