"""What takes longer to compute than a session may be idle in a transaction is computed all the same."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from cairn.consensus.v1 import consensus_pb2 as pb
from cairn.consensus.v1.consensus_pb2_grpc import ConsensusServiceStub
from cairn.events.v1.consensus_events_pb2 import ConsensusReached
from cairn_consensus import deciding, states
from cairn_consensus.domain.project_state import ProjectState
from cairn_kit.testing import World, eventually

SHORT = 0.5
"""Seconds for a statement: a session may be idle for twice that."""

OUTLASTING = """
SELECT count(*) > 0 FROM pg_stat_activity
WHERE datname = current_database()
  AND xact_start < clock_timestamp() - 2 * current_setting('idle_in_transaction_session_timeout')::interval
"""


class Slowed:
    """A function that goes on only when it is told to."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

        def slowly(*arguments: Any, **options: Any) -> Any:
            self.begun.set()
            assert self.go_on.wait(30)
            return function(*arguments, **options)

        self.function = slowly


@pytest.mark.parametrize(("owner", "name"), [(states, "begun"), (ProjectState, "judge_again")])
async def test_a_transaction_outlasts_its_computing(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    slowed = Slowed(getattr(owner, name))
    monkeypatch.setattr(owner, name, slowed.function)
    async with run(statement_timeout=SHORT) as service:
        api = service.stub(ConsensusServiceStub)
        await world.publish(words.created())
        await eventually(lambda: service.database.fetchval("SELECT count(*) FROM project"), 1)
        await world.publish(words.answer("a", "ann", "wren"))
        if name != "begun":
            await eventually(lambda: service.database.fetchval("SELECT count(*) FROM vote"), 1)

        refitting = api.RefitProject(pb.RefitProjectRequest(project="projects/birds"))
        try:
            await eventually(slowed.begun.is_set)
            await eventually(lambda: service.database.fetchval(OUTLASTING))
        finally:
            slowed.go_on.set()

        assert (await refitting).refit == 1


async def test_what_is_written_in_several_goes_is_written_whole(
    world: World, run: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "AT_ONCE", 2)
    said = await world.listen(ConsensusReached)
    async with run() as service:
        api = service.stub(ConsensusServiceStub)
        await world.publish(words.created(), *(words.answer(key, "ann", "wren") for key in "abcde"))
        request = pb.ConcludeProjectRequest(project="projects/birds", expected_annotations=5)
        concluded = await eventually(lambda: api.ConcludeProject(request))
        concluded_items = (
            "SELECT count(*) FROM item JOIN decision USING (tenant, project, item) WHERE concluded"
        )
        assert await service.database.fetchval(concluded_items) == 5
    assert concluded.announced_labels == 5
    assert [event.message.item for event in await said.count(5)] == [words.item(key) for key in "abcde"]
