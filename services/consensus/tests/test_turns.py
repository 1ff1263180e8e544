"""While a project is concluded or fitted again, nobody waits for it with what others need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from cairn.consensus.v1 import consensus_pb2 as pb
from cairn.consensus.v1.consensus_pb2_grpc import ConsensusServiceStub
from cairn_kit.errors import Unavailable, from_rpc_error
from cairn_kit.testing import World, eventually
from services.consensus.tests.holding import Held


@asynccontextmanager
async def refitting(api: Any, held: Held) -> AsyncIterator[None]:
    """Meanwhile the project of birds is fitted again."""
    fitting = asyncio.ensure_future(api.RefitProject(pb.RefitProjectRequest(project="projects/birds")))
    await eventually(held.begun.is_set)
    try:
        yield
    finally:
        held.go_on.set()
        await fitting


async def votes(api: Any, project: Any) -> int:
    get = pb.GetPosteriorRequest(item=project.item("a"), question="species")
    return int((await api.GetPosterior(get)).votes)


async def test_who_looks_at_it_is_told_to_come_again_and_takes_no_connection(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, fish = Held(monkeypatch), type(words)("acme", "fish")
    async with run(pool_max=6) as service:
        api = service.stub(ConsensusServiceStub)
        for project in (words, fish):
            await world.publish(project.created(), project.answer("a", "ann", "wren"))
        for project in (words, fish):
            await eventually(lambda project=project: votes(api, project), 1)
        async with refitting(api, held):
            looking = [asyncio.ensure_future(votes(api, words)) for _ in range(20)]
            assert await votes(api, fish) == 1
            for look in looking:
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await look
                told = from_rpc_error(refused.value)
                assert isinstance(told, Unavailable)
                assert told.reason == "PROJECT_BUSY"
                assert told.retry_after
        assert await votes(api, words) == 1


async def test_its_events_come_again_while_others_pass(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, fish = Held(monkeypatch), type(words)("acme", "fish")
    async with run() as service:
        api, say = service.stub(ConsensusServiceStub), service.database.fetchval
        await world.publish(words.created(), fish.created())
        await eventually(lambda: say("SELECT count(*) FROM project"), 2)
        await world.publish(words.answer("a", "ann", "wren"))
        await eventually(lambda: votes(api, words), 1)
        async with refitting(api, held):
            await world.publish(words.answer("a", "bob", "wren"), fish.answer("a", "ann", "wren"))
            await eventually(lambda: votes(api, fish), 1, timeout=20)
        await eventually(lambda: votes(api, words), 2)
