"""A project whose event is still on its way is worth another try; one that nobody made is not there."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn.annotation.v1.annotation_store_pb2_grpc import (
    AnnotationStoreServiceStub,
    add_AnnotationStoreServiceServicer_to_server,
)
from cairn.dispatch.v1 import task_dispatch_pb2 as api
from cairn.dispatch.v1 import task_dispatch_pb2_grpc as api_grpc
from cairn_kit import errors
from cairn_kit.lifecycle import Chassis
from cairn_kit.testing import ProjectsOfAll, World

BIRDS = "projects/birds"


class Unknowing(api_grpc.TaskDispatchServiceServicer):
    """Has heard of no project."""

    async def GetTask(self, request: api.GetTaskRequest, context: Any) -> api.Task:
        if request.name.endswith("none"):
            raise errors.NotFound("TASK_NOT_FOUND", "There is no such task.")
        raise errors.project_not_found(request.name.split("/")[1])


class Annotations(ProjectsOfAll):
    away = False
    asked = 0

    async def GetProject(self, request: store.GetProjectRequest, context: Any) -> store.Project:
        self.asked += 1
        if self.away:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        return await super().GetProject(request, context)


@pytest.fixture
async def annotations(world: World) -> Annotations:
    made = Annotations()
    await world.fake_peer("annotation-store", made, add_AnnotationStoreServiceServicer_to_server)
    return made


@pytest.fixture
async def service(world: World, sample: Any, annotations: Annotations) -> AsyncIterator[Any]:
    async def wire(chassis: Chassis[Any]) -> None:
        chassis.serve(
            Unknowing(),  # type: ignore[abstract]  # only what is asked for
            api_grpc.add_TaskDispatchServiceServicer_to_server,
            projects=chassis.peers.stub(AnnotationStoreServiceStub, "annotation-store"),
        )

    async with world.run(dataclasses.replace(sample.service, wire=wire)) as running:
        yield running


async def told(service: Any, name: str = f"{BIRDS}/tasks/1", **token: Any) -> errors.CairnError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await service.stub(api_grpc.TaskDispatchServiceStub, **token).GetTask(api.GetTaskRequest(name=name))
    return errors.from_rpc_error(refused.value)


async def test_a_project_that_is_made_is_worth_another_try(service: Any, annotations: Annotations) -> None:
    annotations.projects[BIRDS] = store.Project(name=BIRDS, state=store.PROJECT_STATE_ACTIVE)
    error = await told(service)
    assert isinstance(error, errors.Unavailable)
    assert (error.reason, error.metadata) == ("PROJECT_NOT_HERE_YET", {"resource": BIRDS})
    assert error.retry_after == 0.1


async def test_a_project_that_nobody_made_or_that_is_being_deleted_is_not_there(
    service: Any, annotations: Annotations
) -> None:
    assert (await told(service)).reason == "PROJECT_NOT_FOUND"
    annotations.projects[BIRDS] = store.Project(name=BIRDS, state=store.PROJECT_STATE_DELETING)
    assert (await told(service)).reason == "PROJECT_NOT_FOUND"


async def test_who_cannot_tell_says_so(service: Any, annotations: Annotations) -> None:
    annotations.away = True
    assert isinstance(await told(service), errors.Unavailable)


async def test_nobody_is_asked_of_anything_else_or_for_whom_the_project_is_none_of_theirs(
    service: Any, annotations: Annotations
) -> None:
    annotations.projects[BIRDS] = store.Project(name=BIRDS, state=store.PROJECT_STATE_ACTIVE)
    assert (await told(service, f"{BIRDS}/tasks/none")).reason == "TASK_NOT_FOUND"
    assert (await told(service, projects=["fish"])).reason == "PROJECT_NOT_FOUND"
    assert annotations.asked == 0
