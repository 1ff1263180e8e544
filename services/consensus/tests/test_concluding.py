"""ConcludeProject waits for as many label annotations as its caller knows to have been kept."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from cairn.annotation.v1 import annotation_store_pb2 as store_pb
from cairn.consensus.v1 import consensus_pb2 as pb
from cairn.consensus.v1.consensus_pb2_grpc import ConsensusServiceStub
from cairn_kit.errors import FailedPrecondition, from_rpc_error
from cairn_kit.testing import World, eventually

GOLD = store_pb.ANNOTATION_KIND_GOLD


async def refused_for(api: Any, expected: int) -> str:
    """How many consensus says it has heard of, when it refuses to conclude before there are so many."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await api.ConcludeProject(
            pb.ConcludeProjectRequest(project="projects/birds", expected_annotations=expected)
        )
    error = from_rpc_error(refused.value)
    assert isinstance(error, FailedPrecondition)
    assert error.reason == "VOTES_NOT_IN"
    return str(error.metadata["heard"])


async def test_label_annotations_are_counted_and_no_others_and_a_restart_forgets_none(
    world: World, run: Any, words: Any
) -> None:
    """The store counts what it kept: answers to gold apart, a labeler's second one and one without answers too."""
    async with run() as service:
        api = service.stub(ConsensusServiceStub)
        await world.publish(
            words.created(),
            words.gold("g", words.choice("wren")),
            *(words.answer("g", who, "wren", kind=GOLD) for who in ("ann", "bob", "cid")),
            words.answer("a", "ann", "wren"),
            words.answer("a", "ann", "tit", again=True),
            words.answer("a", "bob"),
            copies=2,
        )
        await eventually(lambda: refused_for(api, 7), "3")
    async with run() as service:
        api = service.stub(ConsensusServiceStub)
        assert await refused_for(api, 4) == "3"
        await world.publish(words.answer("b", "bob", "wren"))
        ready = pb.ConcludeProjectRequest(project="projects/birds", expected_annotations=4)
        concluded = await eventually(lambda: api.ConcludeProject(ready))
        assert concluded.votes == 5  # with gold's three


async def test_votes_that_a_release_before_kept_alone_count_by_their_items(
    world: World, run: Any, words: Any
) -> None:
    async with run() as service:
        await world.publish(
            words.created(),
            words.gold("g", words.choice("wren")),
            words.answer("g", "ann", "wren", kind=GOLD),
            *(words.answer("a", who, "wren") for who in ("ann", "bob")),
        )
        await eventually(lambda: service.database.fetchval("SELECT count(*) FROM annotation"), 3)
        await service.database.execute("DELETE FROM annotation")
    async with run() as service:
        api = service.stub(ConsensusServiceStub)
        await world.publish(words.answer("b", "ann", "wren"))
        await eventually(lambda: refused_for(api, 9), "3")
