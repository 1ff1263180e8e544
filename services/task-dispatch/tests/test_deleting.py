"""A deleted project leaves task-dispatch, late events of it make nothing anew, and its neighbours keep everything."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
import pytest_asyncio

from cairn.annotation.v1 import annotation_store_pb2 as store_pb
from cairn.annotation.v1 import annotation_store_pb2_grpc as store_api
from cairn.dispatch.v1 import task_dispatch_pb2 as pb
from cairn.dispatch.v1 import task_dispatch_pb2_grpc as api
from cairn.events.v1.annotation_store_events_pb2 import ProjectDeleted
from cairn_kit.errors import from_rpc_error
from cairn_kit.events import Event
from cairn_kit.testing import eventually
from cairn_task_dispatch.__main__ import SERVICE

TABLES = ("project", "item", "task", "slot", "lease")


class AnnotationStore(store_api.AnnotationStoreServiceServicer):
    """annotation-store while it deletes the project: it still tells of it."""

    async def GetProject(self, request: Any, context: Any) -> store_pb.Project:
        return store_pb.Project(name=request.name, state=store_pb.PROJECT_STATE_DELETING, revision=9)


@pytest_asyncio.fixture
async def dispatch(world: Any) -> Any:
    await world.fake_peer(
        "annotation-store", AnnotationStore(), store_api.add_AnnotationStoreServiceServicer_to_server
    )
    async with world.run(SERVICE) as running:
        yield running


async def rows_of(dispatch: Any, project: str, tenant: str = "acme") -> dict[str, int]:
    counts = {
        table: await dispatch.database.fetchval(
            f"SELECT count(*) FROM {table} WHERE tenant = $1 AND project = $2",
            tenant,
            project,
        )
        for table in TABLES
    }
    return {table: count for table, count in counts.items() if count}


async def test_all_of_it_goes_and_nothing_of_its_neighbours(world: Any, dispatch: Any, kit: Any) -> None:
    places = [("acme", "birds"), ("acme", "birds2"), ("rival", "birds")]
    for tenant, project in places:
        words = kit.Words(project)
        said = (words.created(min_answers=2), words.imported("a", "b", gold=["g"]), words.routed("a", "b"))
        await world.publish(*(Event(message, tenant, project, words.name, 1) for message in said))
        ann = dispatch.stub(api.TaskDispatchServiceStub, tenant=tenant, subject="ann", roles=["labeler"])

        async def leased(ann: Any = ann, name: str = words.name) -> bool:
            return bool((await ann.LeaseTasks(pb.LeaseTasksRequest(parent=name, max_tasks=1))).leases)

        await eventually(leased)
    full = {"project": 1, "item": 3, "task": 3, "slot": 4, "lease": 1}
    assert [await rows_of(dispatch, project, tenant) for tenant, project in places] == [full] * 3

    words = kit.Words("birds")
    await world.publish(Event(ProjectDeleted(project=words.name), "acme", "birds", words.name, 9))
    await eventually(
        lambda: dispatch.database.fetchval("SELECT count(*) FROM deleted_project WHERE gone_at IS NOT NULL"),
        1,
    )
    late = (
        words.created(), words.imported("c"), words.routed("a", "c", revision=2), words.wanted("a", 5, 7),
        words.corrected("b"),
    )  # fmt: skip
    await world.publish(*(Event(message, "acme", "birds", words.name, 1) for message in late))
    await eventually(lambda: dispatch.database.fetchval("SELECT count(*) FROM inbox"), 3 * 3 + 1 + len(late))
    assert await rows_of(dispatch, "birds") == {}
    assert [await rows_of(dispatch, project, tenant) for tenant, project in places[1:]] == [full] * 2

    ann = dispatch.stub(api.TaskDispatchServiceStub, subject="ann", roles=["labeler"])
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await ann.LeaseTasks(pb.LeaseTasksRequest(parent=words.name, max_tasks=1))
    assert from_rpc_error(error.value).reason == "PROJECT_NOT_FOUND"
    assert await rows_of(dispatch, "birds") == {}  # it was asked for, and is not known again
    assert await dispatch.database.fetchval("SELECT count(*) FROM dead_letter") == 0
