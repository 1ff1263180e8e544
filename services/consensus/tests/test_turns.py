"""While a project is concluded or fitted again it is used as ever, and nobody waits for it with what others need."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cairn.consensus.v1 import consensus_pb2 as pb
from cairn.consensus.v1.consensus_pb2_grpc import ConsensusServiceStub
from cairn_consensus import deciding
from cairn_kit.testing import World, eventually
from services.consensus.tests.holding import Held, HeldItem

CONCLUDE = pb.ConcludeProjectRequest(project="projects/birds")


async def votes(api: Any, project: Any, item: str = "a") -> int:
    get = pb.GetPosteriorRequest(item=project.item(item), question="species")
    return int((await api.GetPosterior(get)).votes)


async def test_who_looks_at_it_while_it_is_fitted_is_answered_and_its_votes_are_taken(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    async with run() as service:
        api = service.stub(ConsensusServiceStub)
        await world.publish(words.created(), words.answer("a", "ann", "wren"))
        await eventually(lambda: votes(api, words), 1)
        concluding = asyncio.ensure_future(api.ConcludeProject(CONCLUDE))
        await eventually(held.begun.is_set)
        assert await votes(api, words) == 1
        await world.publish(words.answer("a", "bob", "wren"))
        await eventually(lambda: votes(api, words), 2)
        assert not concluding.done()
        held.go_on.set()
        assert (await concluding).votes == 1  # of which the fit was made


async def test_votes_that_come_between_two_parts_of_a_conclusion_count_as_ever(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "AT_ONCE", 2)
    held = HeldItem(monkeypatch, "c")
    async with run() as service:
        api = service.stub(ConsensusServiceStub)
        await world.publish(
            words.created(max_answers=5), *(words.answer(key, "ann", "wren") for key in "abcdef")
        )
        await eventually(lambda: service.database.fetchval("SELECT count(*) FROM vote"), 6)
        concluding = asyncio.ensure_future(api.ConcludeProject(CONCLUDE))
        await eventually(held.begun.is_set)
        await world.publish(*(words.answer(key, who, "tit") for key in "aef" for who in ("bob", "cid")))
        held.go_on.set()
        assert (await concluding).votes == 6  # of which the fit was made
        for key in "aef":
            await eventually(lambda key=key: votes(api, words, key), 3)
        asked = pb.BatchGetPosteriorsRequest(
            parent="projects/birds", question="species", items=[words.item(key) for key in "abcdef"]
        )
        known = (await api.BatchGetPosteriors(asked)).posteriors
        assert [one.state for one in known] == [pb.DECISION_STATE_DECIDED] * 6
        assert [one.answer.choice for one in known] == ["tit", "wren", "wren", "wren", "tit", "tit"]


async def test_who_waits_for_a_turn_takes_no_connection(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, fish = HeldItem(monkeypatch, "a"), type(words)("acme", "fish")
    async with run(pool_max=6) as service:
        api = service.stub(ConsensusServiceStub)
        for project in (words, fish):
            await world.publish(project.created(), project.answer("a", "ann", "wren"))
        for project in (words, fish):
            await eventually(lambda project=project: votes(api, project), 1)
        concluding = asyncio.ensure_future(api.ConcludeProject(CONCLUDE))
        await eventually(held.begun.is_set)
        looking = [asyncio.ensure_future(votes(api, words)) for _ in range(20)]
        assert [await votes(api, fish) for _ in range(3)] == [1, 1, 1]  # the first may have been sent before
        assert not any(look.done() for look in looking)
        held.go_on.set()
        assert await asyncio.gather(*looking) == [1] * 20
        await concluding
