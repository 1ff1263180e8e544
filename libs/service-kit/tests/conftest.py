from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn.dispatch.v1 import task_dispatch_pb2 as api
from cairn.dispatch.v1 import task_dispatch_pb2_grpc as api_grpc
from cairn.events.v1 import annotation_store_events_pb2 as events_pb2
from cairn.events.v1 import task_dispatch_events_pb2 as announced_pb2
from cairn_kit.auth import caller
from cairn_kit.database import Transaction
from cairn_kit.errors import NotFound, to_status
from cairn_kit.events import Event, NotYet, Received, Subscription, announce
from cairn_kit.lifecycle import Chassis, Service
from cairn_kit.rpc import bad_elements, once, page_size, read_page_token, write_page_token
from cairn_kit.settings import ChassisSettings
from cairn_kit.shares import Elsewhere
from cairn_kit.testing.fixtures import *  # noqa: F403

MIGRATIONS = Path(__file__).parent / "migrations"
INSERT = "INSERT INTO effect (tenant, what, event_id) VALUES ($1, $2, $3)"


class SampleSettings(ChassisSettings):
    """Settings of the sample service."""

    service_name: str = "sample"


@dataclass
class Sample:
    """A small service on the chassis, whose behaviour a test may bend."""

    fail_on: set[str] = field(default_factory=set)
    not_yet: set[str] = field(default_factory=set)
    elsewhere: set[str] = field(default_factory=set)
    in_order: bool = True
    watch_for_ever: bool = False
    goes_on: asyncio.Event | None = None
    """What GetTask waits for."""
    batches: list[list[str]] = field(default_factory=list)
    chassis: Chassis[Any] | None = None

    @property
    def service(self) -> Service[SampleSettings]:
        return Service(SampleSettings, self.wire, MIGRATIONS)

    async def wire(self, chassis: Chassis[SampleSettings]) -> None:
        self.chassis = chassis
        chassis.serve(
            SampleRpc(self),  # type: ignore[abstract]  # the other methods are not asked for
            api_grpc.add_TaskDispatchServiceServicer_to_server,
            elements={"ClaimItems": "claims"},
        )
        chassis.consume(
            [
                Subscription(events_pb2.ProjectCreated, self.on_projects),
                Subscription(events_pb2.AnnotationSubmitted, self.on_annotations),
            ],
            in_order=self.in_order,
        )

    async def on_projects(
        self, tx: Transaction, events: Sequence[Received[events_pb2.ProjectCreated]]
    ) -> None:
        self.batches.append([event.resource for event in events])
        for event in events:
            await tx.execute(INSERT, event.tenant, event.resource, event.id)

    async def on_annotations(
        self, tx: Transaction, events: Sequence[Received[events_pb2.AnnotationSubmitted]]
    ) -> None:
        self.batches.append([event.resource for event in events])
        early = [event for event in events if event.resource in self.not_yet]
        if early:
            raise NotYet("unknown", *early)
        if kept_elsewhere := [event for event in events if event.resource in self.elsewhere]:
            raise Elsewhere("another replica keeps it", *kept_elsewhere)
        await tx.execute("SELECT unnest($1::text[])", [event.message.item for event in events])
        for event in events:
            await tx.execute(INSERT, event.tenant, event.resource, event.id)
            if event.resource in self.fail_on:
                raise ValueError(f"cannot stand {event.resource}")
            announce(tx, closed(event.tenant, event.resource), cause=event)


def closed(tenant: str, resource: str) -> Event:
    return Event(announced_pb2.TasksClosed(), tenant=tenant, project="birds", resource=resource)


class SampleRpc(api_grpc.TaskDispatchServiceServicer):
    def __init__(self, sample: Sample) -> None:
        self.sample = sample

    @property
    def database(self) -> Any:
        assert self.sample.chassis is not None
        return self.sample.chassis.database

    async def CancelTask(self, request: api.CancelTaskRequest, context: Any) -> api.Task:
        who = caller()
        async with self.database.transaction() as tx:

            async def effect() -> api.Task:
                await tx.execute(INSERT, who.tenant, request.name, None)
                if request.reason == "boom":
                    raise RuntimeError("a secret of the inside")
                announce(tx, closed(who.tenant, request.name))
                return api.Task(name=request.name, close_reason=request.reason)

            return await once(tx, who.tenant, request, api.Task, effect)

    async def GetTask(self, request: api.GetTaskRequest, context: Any) -> api.Task:
        if self.sample.goes_on:
            await self.sample.goes_on.wait()
        raise NotFound("TASK_NOT_FOUND", "There is no such task.", resource=request.name)

    async def ReleaseLease(self, request: api.ReleaseLeaseRequest, context: Any) -> api.Lease:
        return api.Lease(name=request.name)

    async def ListTasks(self, request: api.ListTasksRequest, context: Any) -> api.ListTasksResponse:
        after = (read_page_token(request) or (0,))[0]
        size = page_size(request.page_size)
        rows = await self.database.fetch(
            "SELECT place, what FROM effect WHERE tenant = $1 AND place > $2 ORDER BY place LIMIT $3",
            caller().tenant, after, size,
        )  # fmt: skip
        token = write_page_token(request, rows[-1]["place"]) if len(rows) == size else ""
        return api.ListTasksResponse(
            tasks=[api.Task(name=row["what"]) for row in rows], next_page_token=token
        )

    async def ClaimItems(self, request: api.ClaimItemsRequest, context: Any) -> api.ClaimItemsResponse:
        bad = bad_elements()
        return api.ClaimItemsResponse(
            results=[
                api.ClaimResult(error=to_status(bad[place]))
                if place in bad
                else api.ClaimResult(
                    lease=api.Lease(item=claim.item, labeler=caller().labeler(claim.labeler))
                )
                for place, claim in enumerate(request.claims)
            ]
        )

    async def WatchQueue(self, request: api.WatchQueueRequest, context: Any) -> AsyncIterator[api.Queue]:
        yield api.Queue(project=request.project, open_tasks=1)
        if request.project.endswith("broken"):
            raise RuntimeError("a secret of the inside")
        if self.sample.watch_for_ever:
            await asyncio.Event().wait()
        yield api.Queue(project=request.project, open_tasks=2)


def annotation(name: str, tenant: str = "acme") -> Event:
    """A well-formed AnnotationSubmitted."""
    resource = f"projects/birds/items/{name}/annotations/1"
    return Event(
        events_pb2.AnnotationSubmitted(
            annotation=store.Annotation(name=resource), item=f"projects/birds/items/{name}"
        ),
        tenant=tenant,
        project="birds",
        resource=name,
        revision=1,
    )


def project(name: str, tenant: str = "acme") -> Event:
    """A ProjectCreated."""
    return Event(events_pb2.ProjectCreated(), tenant=tenant, project=name, resource=name, revision=1)


@pytest.fixture
def sample() -> Sample:
    return Sample()


@pytest.fixture
def make_annotation() -> Any:
    return annotation


@pytest.fixture
def make_project() -> Any:
    return project
