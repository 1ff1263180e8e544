"""Calls to other services carry whose work it is, how long it may take and which trace it is."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import grpc
import pytest

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn.annotation.v1 import annotation_store_pb2_grpc as store_grpc
from cairn.dispatch.v1 import task_dispatch_pb2 as api
from cairn.dispatch.v1 import task_dispatch_pb2_grpc as api_grpc
from cairn_kit import errors
from cairn_kit.auth import PublicKeys, Role, Verifier, acting_for
from cairn_kit.lifecycle import Chassis
from cairn_kit.rpc.clients import UnknownPeer
from cairn_kit.testing import World


class Neighbour(store_grpc.AnnotationStoreServiceServicer):
    """Notes how it was called."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.failures: list[grpc.StatusCode] = []

    async def GetProject(self, request: store.GetProjectRequest, context: Any) -> store.Project:
        self.calls.append(dict(context.invocation_metadata()) | {"left": context.time_remaining()})
        if self.failures:
            await context.abort(self.failures.pop(), "coming")
        if request.name.endswith("missing"):
            error = errors.NotFound("PROJECT_NOT_FOUND", "There is none.", resource=request.name)
            await context.abort(error.code, error.message, errors.trailers(error))
        if request.name.endswith("slow"):
            await asyncio.Event().wait()
        return store.Project(name=request.name)


class Relaying(api_grpc.TaskDispatchServiceServicer):
    """Answers by asking the neighbour."""

    def __init__(self, neighbour: Any) -> None:
        self.neighbour = neighbour

    async def GetTask(self, request: api.GetTaskRequest, context: Any) -> api.Task:
        name = request.name.partition("/tasks/")[0]
        project = await self.neighbour.GetProject(store.GetProjectRequest(name=name))
        return api.Task(name=project.name)


@pytest.fixture
async def neighbour(world: World) -> Neighbour:
    made = Neighbour()  # type: ignore[abstract]  # the other methods are not asked for
    await world.fake_peer("annotation-store", made, store_grpc.add_AnnotationStoreServiceServicer_to_server)
    return made


@pytest.fixture
def relaying(sample: Any) -> Any:
    async def wire(chassis: Chassis[Any]) -> None:
        stub = chassis.peers.stub(store_grpc.AnnotationStoreServiceStub, "annotation-store")
        chassis.serve(
            Relaying(stub),  # type: ignore[abstract]
            api_grpc.add_TaskDispatchServiceServicer_to_server,
        )

    return dataclasses.replace(sample.service, wire=wire)


def get(project: str) -> api.GetTaskRequest:
    return api.GetTaskRequest(name=f"projects/{project}/tasks/1")


async def test_a_call_carries_the_tenant_the_time_and_the_trace(
    world: World, neighbour: Neighbour, relaying: Any
) -> None:
    incoming = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with world.run(relaying) as service:
        stub = service.stub(api_grpc.TaskDispatchServiceStub, tenant="umbrella", roles=["viewer"])
        await stub.GetTask(get("birds"), timeout=3.0, metadata=(("traceparent", incoming),))
    [call] = neighbour.calls
    who = Verifier(PublicKeys(world.keys.jwks_file)).verify(call["authorization"].removeprefix("Bearer "))
    assert (who.tenant, who.subject, who.roles) == ("umbrella", "services/sample", frozenset({Role.SERVICE}))
    assert 0 < call["left"] < 3.0
    assert call["traceparent"].split("-")[1] == incoming.split("-")[1]


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
async def test_a_neighbour_that_is_away_for_a_moment_or_has_too_much_to_do_is_asked_again(
    world: World, neighbour: Neighbour, relaying: Any, code: grpc.StatusCode
) -> None:
    neighbour.failures = [code, code]
    async with world.run(relaying) as service:
        assert await service.stub(api_grpc.TaskDispatchServiceStub).GetTask(get("birds"))
    assert len(neighbour.calls) == 3


async def test_a_neighbour_may_have_several_addresses_of_which_one_answers(
    world: World, neighbour: Neighbour, relaying: Any
) -> None:
    world.peers["annotation-store"] = f"127.0.0.1:1,{world.peers['annotation-store']}"
    async with world.run(relaying) as service:
        assert await service.stub(api_grpc.TaskDispatchServiceStub).GetTask(get("birds"))
    assert len(neighbour.calls) == 1


async def test_what_a_neighbour_refuses_reaches_the_caller_with_its_reason(
    world: World, neighbour: Neighbour, relaying: Any
) -> None:
    async with world.run(relaying) as service:
        stub = service.stub(api_grpc.TaskDispatchServiceStub)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetTask(get("missing"))
        error = errors.from_rpc_error(caught.value)
        assert isinstance(error, errors.NotFound)
        assert error.reason == "PROJECT_NOT_FOUND"

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetTask(get("slow"), timeout=0.5)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_outside_a_call_the_tenant_must_be_named(
    world: World, neighbour: Neighbour, relaying: Any
) -> None:
    async with world.run(relaying) as service:
        stub: Any = service.chassis.peers.stub(store_grpc.AnnotationStoreServiceStub, "annotation-store")
        request = store.GetProjectRequest(name="projects/birds")
        with pytest.raises(errors.Unauthenticated, match="acting_for"):
            await stub.GetProject(request)
        with acting_for("acme"):
            assert await stub.GetProject(request)
        with pytest.raises(UnknownPeer, match="CAIRN_PEERS__TASK_DISPATCH"):
            service.chassis.peers.stub(api_grpc.TaskDispatchServiceStub, "task-dispatch")
