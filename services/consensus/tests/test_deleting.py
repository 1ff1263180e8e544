"""A deleted project leaves consensus and its memory, late events of it make nothing anew."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from cairn.consensus.v1.consensus_pb2 import ConcludeProjectRequest, ListReliabilitiesRequest
from cairn.events.v1.annotation_store_events_pb2 import ProjectDeleted
from cairn_consensus import __main__ as wiring
from cairn_consensus.states import States
from cairn_consensus.store import ProjectKey
from cairn_kit.errors import from_rpc_error
from cairn_kit.events import Event
from cairn_kit.testing import eventually
from services.consensus.tests.test_asking import CANNOT_TELL

TABLES = (
    "project",
    "vote",
    "score",
    "truth",
    "item",
    "decision",
    "annotation",
    "refit",
    "asked_refit",
    "undecided_item",
)


async def rows_of(consensus: Any, project: str, tenant: str = "acme") -> dict[str, int]:
    counts = {
        table: await consensus.database.fetchval(
            f"SELECT count(*) FROM {table} WHERE tenant = $1 AND project = $2",
            tenant,
            project,
        )
        for table in TABLES
    }
    return {table: count for table, count in counts.items() if count}


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> list[States]:
    """What the services that run have in memory, in the order of their start."""
    found: list[States] = []

    class Watched(States):
        def __init__(self, *parts: Any) -> None:
            super().__init__(*parts)
            found.append(self)

    monkeypatch.setattr(wiring, "States", Watched)
    return found


async def test_all_of_it_goes_and_nothing_of_its_neighbours(
    world: Any, states: list[States], consensus: Any, api: Any, words: Any
) -> None:
    places = [("acme", "birds"), ("acme", "birds2"), ("rival", "birds")]
    for tenant, project in places:
        said = type(words)(tenant, project)
        await world.publish(
            said.created(),
            said.gold("g", said.choice("wren")),
            said.scored({"i000": (0.8, 0.1, 0.1)}),
            *said.crowd(6, 4, 3),
            said.answer("u", "eve", CANNOT_TELL),
        )

        async def heard(tenant: str = tenant, project: str = project) -> bool:
            kept = await rows_of(consensus, project, tenant)
            return kept.get("annotation") == 19 and {"decision", "score", "truth"} <= set(kept)

        await eventually(heard)
    await api.ConcludeProject(ConcludeProjectRequest(project="projects/birds"))
    assert set(await rows_of(consensus, "birds")) == set(TABLES)
    beside = [await rows_of(consensus, project, tenant) for tenant, project in places[1:]]
    handled = await consensus.database.fetchval("SELECT count(*) FROM inbox")

    await world.publish(Event(ProjectDeleted(project="projects/birds"), "acme", "birds", "projects/birds", 9))
    await eventually(
        lambda: consensus.database.fetchval("SELECT count(*) FROM deleted_project WHERE gone_at IS NOT NULL"),
        1,
    )
    await eventually(lambda: ProjectKey("acme", "birds") not in states[0].known)
    assert ProjectKey("acme", "birds2") in states[0].known
    late = [words.created(), words.answer("late", "ann", "wren"), words.gold("h", words.choice("tit"))]
    await world.publish(*late)
    await eventually(
        lambda: consensus.database.fetchval("SELECT count(*) FROM inbox"), handled + 1 + len(late)
    )
    assert await rows_of(consensus, "birds") == {}
    assert [await rows_of(consensus, project, tenant) for tenant, project in places[1:]] == beside
    assert ProjectKey("acme", "birds") not in states[0].known
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await api.ListReliabilities(ListReliabilitiesRequest(parent="projects/birds"))
    assert from_rpc_error(error.value).reason == "PROJECT_NOT_FOUND"
    assert await consensus.database.fetchval("SELECT count(*) FROM dead_letter") == 0
