"""A running audit service in a fresh world, neighbours that answer its calls, and a birds project."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.protobuf.message import Message

from cairn.annotation.v1 import annotation_store_pb2 as store_pb
from cairn.annotation.v1.annotation_store_pb2 import LABEL_SOURCE_AUTO
from cairn.annotation.v1.annotation_store_pb2_grpc import add_AnnotationStoreServiceServicer_to_server
from cairn.audit.v1.audit_pb2_grpc import AuditServiceStub
from cairn.dispatch.v1 import task_dispatch_pb2 as dispatch_pb
from cairn.dispatch.v1.task_dispatch_pb2_grpc import (
    TaskDispatchServiceServicer,
    add_TaskDispatchServiceServicer_to_server,
)
from cairn.events.v1 import annotation_store_events_pb2 as store_events
from cairn.events.v1 import task_dispatch_events_pb2 as dispatch_events
from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1.label_value_pb2 import Answer
from cairn_audit.__main__ import SERVICE
from cairn_audit.config import AuditSettings
from cairn_kit.errors import NotFound, to_status
from cairn_kit.events import Event
from cairn_kit.ids import uuid7
from cairn_kit.testing import ProjectsOfAll, RunningService, World, eventually
from cairn_kit.testing.fixtures import *  # noqa: F403

Run = Callable[..., AbstractAsyncContextManager[RunningService[AuditSettings]]]


class FakeDispatch(TaskDispatchServiceServicer):
    """task-dispatch as far as audit calls it: one review task an item and audit, wishes are absolute."""

    def __init__(self) -> None:
        self.wanted: dict[tuple[str, str], int] = {}
        """(audit, item) -> answers wanted."""
        self.calls = 0
        self.cancelled: list[str] = []
        self.unknown: set[str] = set()
        """Items that are refused."""
        self.broken: set[str] = set()
        """Items about which every call fails."""
        self.hold: asyncio.Event | None = None
        """When set, wishes are taken and not answered: the caller is killed meanwhile, or waits."""
        self.hold_cancelling: asyncio.Event | None = None
        """When set, nothing is cancelled before."""

    async def CreateTasks(self, request: dispatch_pb.CreateTasksRequest, context: Any) -> Any:
        self.calls += 1
        if self.broken & {wish.item for wish in request.wishes}:
            await context.abort(grpc.StatusCode.INTERNAL, "broken")
        results = []
        for wish in request.wishes:
            if wish.item in self.unknown:
                error = NotFound("ITEM_NOT_FOUND", f"There is no {wish.item}.")
                results.append(dispatch_pb.TaskResult(error=to_status(error)))
                continue
            key = (wish.audit, wish.item)
            self.wanted[key] = max(self.wanted.get(key, 0), wish.answers_wanted)
            name = f"{request.parent}/tasks/{wish.item.rsplit('/', 1)[1]}"
            results.append(
                dispatch_pb.TaskResult(task=dispatch_pb.Task(name=name, item=wish.item, audit=wish.audit))
            )
        if self.hold is not None:
            await self.hold.wait()
        return dispatch_pb.CreateTasksResponse(results=results)

    async def CancelTask(self, request: dispatch_pb.CancelTaskRequest, context: Any) -> Any:
        if request.name.replace("/tasks/", "/items/") in self.broken:
            await context.abort(grpc.StatusCode.INTERNAL, "broken")
        if self.hold_cancelling is not None:
            await self.hold_cancelling.wait()
        self.cancelled.append(request.name)
        return dispatch_pb.Task(name=request.name)


class FakeStore(ProjectsOfAll):
    """annotation-store as far as audit calls it: it keeps the answers that no event could carry."""

    def __init__(self) -> None:
        super().__init__()
        self.annotations: dict[str, store_pb.Annotation] = {}
        self.labels: dict[str, store_pb.Label] = {}
        """By the name with the revision."""
        self.away = False
        self.hold: asyncio.Event | None = None
        """When set, calls wait for it."""
        self.waiting = 0

    def keep(self, event: Event) -> Event:
        """Keep what an event tells of; the event as the store announces it then, without the answers."""
        told = type(event.message)()
        told.CopyFrom(event.message)
        if isinstance(told, store_events.LabelFinalized):
            kept = store_pb.Label()
            kept.CopyFrom(told.label)
            self.labels[f"{kept.name}@{kept.revision}"] = kept
            told.label.ClearField("answer")
            told.answer_omitted = True
        else:
            assert isinstance(told, store_events.AnnotationSubmitted)
            annotation = store_pb.Annotation()
            annotation.CopyFrom(told.annotation)
            self.annotations[annotation.name] = annotation
            told.annotation.ClearField("answers")
            told.answers_omitted = True
        return replace(event, message=told)

    async def GetAnnotation(self, request: store_pb.GetAnnotationRequest, context: Any) -> Any:
        return await self._kept(self.annotations, request.name, context)

    async def GetLabel(self, request: store_pb.GetLabelRequest, context: Any) -> Any:
        return await self._kept(self.labels, request.name, context)

    async def _kept(self, kept: dict[str, Any], name: str, context: Any) -> Any:
        if self.away:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        if self.hold is not None:
            self.waiting += 1
            try:
                await self.hold.wait()
            finally:
                self.waiting -= 1
        if name not in kept:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"There is no {name}.")
        return kept[name]


@pytest.fixture
def ledger_key(tmp_path: Path) -> Path:
    return _write_key(tmp_path / "ledger.pem")


@pytest.fixture
def another_ledger_key(tmp_path: Path) -> Path:
    return _write_key(tmp_path / "ledger-2.pem")


def _write_key(path: Path) -> Path:
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(pem)
    path.chmod(0o600)
    return path


@pytest.fixture
async def dispatch(world: World) -> FakeDispatch:
    fake = FakeDispatch()  # type: ignore[abstract]  # only what audit calls
    await world.fake_peer("task-dispatch", fake, add_TaskDispatchServiceServicer_to_server)
    return fake


@pytest.fixture
async def store(world: World) -> FakeStore:
    fake = FakeStore()  # type: ignore[abstract]  # only what audit calls
    await world.fake_peer("annotation-store", fake, add_AnnotationStoreServiceServicer_to_server)
    return fake


@pytest.fixture
def run(world: World, ledger_key: Path, dispatch: FakeDispatch, store: FakeStore) -> Run:
    """Run the service; checkpoints and reviews are looked after at once instead of every few seconds."""

    def start(**overrides: Any) -> AbstractAsyncContextManager[RunningService[AuditSettings]]:
        settings = {"ledger_key_file": ledger_key, "checkpoint_seconds": 0.1, "audit_seconds": 0.05}
        return world.run(SERVICE, **(settings | overrides))

    return start


@pytest.fixture
async def audit(run: Run) -> AsyncIterator[RunningService[AuditSettings]]:
    async with run() as service:
        yield service


@pytest.fixture
def api(audit: RunningService[AuditSettings]) -> Any:
    return audit.stub(AuditServiceStub)


# --- what other services say


BIRD = schema_pb.Question(
    id="species",
    required=True,
    choice=schema_pb.ChoiceQuestion(
        classes=[schema_pb.LabelClass(id="robin"), schema_pb.LabelClass(id="wren")]
    ),
)
WEIGHT = schema_pb.Question(id="weight", number=schema_pb.NumberQuestion(minimum=0, maximum=100))
NOTE = schema_pb.Question(id="note", text=schema_pb.TextQuestion(max_length=1_000_000))


class Elsewhere:
    """What other services announce."""

    @staticmethod
    def project_created(tenant: str = "acme", project: str = "birds", alpha: float = 0.0) -> Event:
        message = store_pb.Project(
            name=f"projects/{project}",
            schema=schema_pb.LabelSchema(questions=[BIRD, WEIGHT, NOTE]),
            routing=store_pb.RoutingPolicy(alpha=alpha),
            revision=1,
        )
        return _event(store_events.ProjectCreated(project=message), message.name, tenant, project)

    @staticmethod
    def label(
        item: int | str,
        choice: str = "robin",
        *,
        revision: int = 1,
        source: store_pb.LabelSource.ValueType = store_pb.LABEL_SOURCE_CONSENSUS,
        confidence: float = 0.97,
        tenant: str = "acme",
        project: str = "birds",
        answer: Answer | None = None,
    ) -> Event:
        """`answer`, where it is about something else than the species."""
        name = f"projects/{project}/items/{item}"
        answer = answer or Answer(question="species", choice=choice)
        message = store_events.LabelFinalized(
            label=store_pb.Label(
                name=f"{name}/labels/{answer.question}",
                revision=revision,
                answer=answer,
                confidence=confidence,
                source=source,
            ),
            item=name,
            question=answer.question,
        )
        return _event(message, message.label.name, tenant, project, revision)

    @staticmethod
    def review(
        item: str,
        answers: Sequence[Answer],
        *,
        audit: str = "",
        reviewer: str = "rita",
        tenant: str = "acme",
        kind: store_pb.AnnotationKind.ValueType = store_pb.ANNOTATION_KIND_REVIEW,
    ) -> Event:
        annotation = store_pb.Annotation(
            name=f"{item}/annotations/{uuid7()}",
            labeler=f"labelers/{reviewer}",
            kind=kind,
            answers=answers,
            schema_version=1,
        )
        message = store_events.AnnotationSubmitted(annotation=annotation, item=item, audit=audit)
        return _event(message, annotation.name, tenant, item.split("/")[1])

    @staticmethod
    def tasks_closed(item: str, *, audit: str, tenant: str = "acme") -> Event:
        project = item.split("/")[1]
        task = dispatch_pb.Task(
            name=f"projects/{project}/tasks/{uuid7()}",
            item=item,
            kind=dispatch_pb.TASK_KIND_REVIEW,
            state=dispatch_pb.TASK_STATE_CLOSED,
            audit=audit,
        )
        message = dispatch_events.TasksClosed(project=f"projects/{project}", tasks=[task])
        return _event(message, task.name, tenant, project)

    @staticmethod
    def says(choice: str) -> list[Answer]:
        return [Answer(question="species", choice=choice)]


@pytest.fixture
def elsewhere() -> Elsewhere:
    return Elsewhere()


def _event(message: Message, resource: str, tenant: str, project: str, revision: int = 1) -> Event:
    return Event(message, tenant=tenant, project=project, resource=resource, revision=revision)


@pytest.fixture
async def birds(world: World, audit: RunningService[AuditSettings], elsewhere: Elsewhere) -> None:
    """A project with 300 labels: 200 by people, 100 by a model."""
    await world.publish(
        elsewhere.project_created(),
        *(elsewhere.label(i, confidence=0.99) for i in range(200)),
        *(elsewhere.label(i, source=LABEL_SOURCE_AUTO, confidence=0.98) for i in range(200, 300)),
    )
    await eventually(lambda: audit.database.fetchval("SELECT count(*) FROM label"), 300)
