"""What is driven: a whole stack of Cairn, and the straight line on the same PostgreSQL and the same bus."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
import grpc
from google.protobuf.message import Message

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn.annotation.v1.annotation_store_pb2_grpc import AnnotationStoreServiceStub
from cairn.dispatch.v1 import task_dispatch_pb2 as dispatch
from cairn.dispatch.v1.task_dispatch_pb2_grpc import TaskDispatchServiceStub
from cairn.inference.v1.inference_pb2_grpc import InferenceServiceStub
from cairn.label.v1.label_schema_pb2 import ChoiceQuestion, LabelClass, LabelSchema, Question
from cairn.label.v1.label_value_pb2 import Answer
from cairn_client.tokens import Issuer
from cairn_kit.embedded import EmbeddedNats, EmbeddedPostgres
from cairn_kit.embedded.ports import hold_any
from cairn_stack import catalog
from cairn_stack.home import Home
from cairn_stack.private import PrivateStack
from cairn_stack.provision import DATABASE, SUPERUSER, dsn, passwords
from tests.benchmarks.volume import straight_line
from tests.benchmarks.volume.load import until

if TYPE_CHECKING:  # the stubs alone know of asynchronous clients
    from cairn.dispatch.v1.task_dispatch_pb2_grpc import TaskDispatchServiceAsyncStub
    from cairn.inference.v1.inference_pb2_grpc import InferenceServiceAsyncStub

M = TypeVar("M", bound=Message)
QUESTION, CLASSES = "sentiment", ("negative", "positive")
SERVICES = ("annotation-store", "task-dispatch", "consensus", "inference", "audit")
SERVERS = ("postgres", "nats")
_CHUNK = 1_000
_A_CALL = 200
_DEADLINE, _PATIENCE = 60.0, 600.0
_ANSWER = Answer(question=QUESTION, choice=CLASSES[1])


class CairnStack:
    """A running stack, its addresses and whoever may do everything in it."""

    def __init__(self, stack: PrivateStack) -> None:
        self.stack = stack
        profile = stack.profile
        addresses: dict[str, str] = profile["services"]
        issuer = Issuer(Path(profile["issuer_key_file"]))
        token = issuer.mint(tenant=profile["tenant"], subject="bench", roles=["admin"], lifetime=7200.0)
        self.auth = (("authorization", f"Bearer {token}"),)
        self._channels = {name: grpc.aio.insecure_channel(address) for name, address in addresses.items()}
        self.store = AnnotationStoreServiceStub(self._channels["annotation-store"])

    @cached_property
    def dispatch(self) -> TaskDispatchServiceAsyncStub:
        """The stub of task-dispatch, where it runs."""
        return TaskDispatchServiceStub(self._channels["task-dispatch"])

    @cached_property
    def inference(self) -> InferenceServiceAsyncStub:
        """The stub of inference, where it runs."""
        return InferenceServiceStub(self._channels["inference"])

    def channel(self, service: str) -> grpc.aio.Channel:
        """The channel to a service, for what has no stub."""
        return self._channels[service]

    @property
    def pids(self) -> list[int]:
        """Every process that does the work: services, database and bus."""
        return [pid for name in (*SERVICES, *SERVERS) if (pid := self.stack.pid(name)) is not None]

    async def project(self, items: int, answers: int = 1) -> CairnProject:
        """Make a project whose items want so many answers each, and wait until they have their tasks."""
        name = await self.empty_project(answers)
        await self.store.ImportItems(parts_of_an_import(name, items), metadata=self.auth)
        await self.routed(name, items)
        return CairnProject(self, name)

    async def labeled_project(self, items: int) -> CairnProject:
        """Make a project whose items have an answer and a label each."""
        project = await self.project(items)
        answered = 0
        while answered < items:
            answered += await project.cycle(0, min(_A_CALL, items - answered))
        await until(project.labeled, items, every=0.2, patience=_PATIENCE)
        return project

    async def empty_project(self, answers: int = 1) -> str:
        """Make a project whose items will want so many answers each; return its name."""
        question = Question(
            id=QUESTION, required=True, choice=ChoiceQuestion(classes=[LabelClass(id=c) for c in CLASSES])
        )
        made = await self.store.CreateProject(
            store.CreateProjectRequest(
                project_id=f"volume-{uuid.uuid4().hex[:8]}",
                project=store.Project(
                    schema=LabelSchema(questions=[question]),
                    quality=store.QualityPolicy(
                        min_answers=answers, max_answers=answers, stop_rule=store.STOP_RULE_FIXED
                    ),
                ),
            ),
            metadata=self.auth,
            timeout=_DEADLINE,
        )
        return str(made.name)

    async def routed(self, project: str, items: int) -> None:
        """Wait until so many of a project's items have their tasks."""
        await until(lambda: self._open_tasks(project), items, every=1.0, patience=_PATIENCE)

    async def _open_tasks(self, project: str) -> int:
        request = dispatch.GetQueueRequest(project=project)
        queue = await self.dispatch.GetQueue(request, metadata=self.auth, timeout=_DEADLINE)
        return int(queue.open_tasks)

    async def close(self) -> None:
        """Hang up."""
        await asyncio.gather(*(channel.close() for channel in self._channels.values()))


class CairnProject:
    """A project's tasks, leased and answered one call each, or several a call."""

    def __init__(self, cairn: CairnStack, name: str) -> None:
        self._cairn = cairn
        self.name = name

    async def cycle(self, caller: int, tasks: int) -> int:
        """Lease so many tasks as this caller, answer them, and return how many there were."""
        tokens = await self.lease(caller, tasks)
        await self.submit(tokens)
        return _never_none(len(tokens))

    async def lease(self, caller: int, tasks: int) -> list[str]:
        """Lease so many tasks as this caller; return the leases' tokens."""
        request = dispatch.LeaseTasksRequest(
            parent=self.name, labeler=f"labelers/l{caller}", max_tasks=tasks, request_id=uuid.uuid4().hex
        )
        leased = await self._cairn.dispatch.LeaseTasks(request, metadata=self._cairn.auth, timeout=_DEADLINE)
        return [lease.token for lease in leased.leases]

    async def submit(self, tokens: Sequence[str]) -> None:
        """Answer leases: one by the single call, several by one call."""
        answers = answers_to(tokens)
        if len(answers) == 1:
            await self._cairn.store.SubmitAnnotation(answers[0], metadata=self._cairn.auth, timeout=_DEADLINE)
        elif answers:
            kept = await self._cairn.store.SubmitAnnotations(
                store.SubmitAnnotationsRequest(requests=answers),
                metadata=self._cairn.auth,
                timeout=_DEADLINE,
            )
            _all_kept(kept)

    async def labeled(self) -> int:
        """Return how many items have their label."""
        request = store.GetProjectProgressRequest(name=self.name)
        progress = await self._cairn.store.GetProjectProgress(
            request, metadata=self._cairn.auth, timeout=_DEADLINE
        )
        return int(progress.labeled_items)

    async def exported(self, *, annotations: bool = False) -> int:
        """Export the labels as JSON lines and read them to the end; return how many bytes there were."""
        calls, auth = self._cairn.store, self._cairn.auth
        request = store.CreateExportRequest(
            parent=self.name, format=store.EXPORT_FORMAT_JSONL, include_annotations=annotations
        )
        made = await calls.CreateExport(request, metadata=auth)

        async def state() -> int:
            found = await calls.GetExport(store.GetExportRequest(name=made.name), metadata=auth)
            return int(found.state)

        await until(state, store.EXPORT_STATE_FINISHED, every=0.02, patience=_PATIENCE)
        parts = calls.DownloadExport(store.DownloadExportRequest(name=made.name), metadata=auth)
        return sum([len(part.chunk) async for part in parts])


class StraightLine:
    """The other side of the comparison."""

    def __init__(self, address: str, pids: Sequence[int]) -> None:
        self.pids = pids
        self._channel = grpc.aio.insecure_channel(address)
        self._lease = self._calling("Lease", dispatch.LeaseTasksResponse)
        self._submit = self._calling("Submit", store.Annotation)
        self._submit_many = self._calling("SubmitMany", store.SubmitAnnotationsResponse)

    def _calling(self, name: str, answer: type[M]) -> grpc.aio.UnaryUnaryMultiCallable[Any, M]:
        return self._channel.unary_unary(
            f"/{straight_line.SERVICE}/{name}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=answer.FromString,
        )

    async def cycle(self, caller: int, tasks: int) -> int:
        """Lease so many tasks as this caller, answer them, and return how many there were."""
        request = dispatch.LeaseTasksRequest(
            parent="projects/straight", labeler=f"labelers/l{caller}", max_tasks=tasks
        )
        leased = await self._lease(request, timeout=_DEADLINE)
        answers = answers_to([lease.token for lease in leased.leases])
        if len(answers) == 1:
            await self._submit(answers[0], timeout=_DEADLINE)
        elif answers:
            _all_kept(
                await self._submit_many(store.SubmitAnnotationsRequest(requests=answers), timeout=_DEADLINE)
            )
        return _never_none(len(answers))

    async def imported(self, items: int) -> None:
        """Import so many short texts, of which it has none yet."""
        calling: grpc.aio.StreamUnaryMultiCallable[Any, store.Import] = self._channel.stream_unary(
            f"/{straight_line.SERVICE}/Import",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=store.Import.FromString,
        )
        taken = await calling(parts_of_an_import("projects/straight", items))
        if taken.created_items != items:
            raise RuntimeError(f"the straight line took {taken.created_items} of {items} items")

    async def close(self) -> None:
        """Hang up."""
        await self._channel.close()


@asynccontextmanager
async def cairn_running(
    folder: Path, services: Sequence[str] = SERVICES, modules: Mapping[str, str] | None = None
) -> AsyncIterator[CairnStack]:
    """Run a stack of these services, with fsync, that keeps one trace of a hundred.

    ``modules``, service -> module, are run for what the service's own would be.
    """
    wanted = [
        replace(spec, module=(modules or {}).get(spec.name, spec.module))
        for spec in catalog.SERVICES
        if spec.name in services
    ]
    async with PrivateStack(folder, trace_ratio=0.01, services=wanted) as stack:
        cairn = CairnStack(stack)
        try:
            yield cairn
        finally:
            await cairn.close()


@asynccontextmanager
async def straight_line_running(cairn: CairnStack, tasks: int) -> AsyncIterator[StraightLine]:
    """Run the straight line in a database of its own on the stack's servers."""
    nats = EmbeddedNats(Home(cairn.stack.home).nats)
    database = f"straight_{uuid.uuid4().hex[:8]}"
    admin = await asyncpg.connect(admin_dsn(cairn, "postgres"))
    await admin.execute(f"CREATE DATABASE {database}")
    await admin.close()
    where = admin_dsn(cairn, database)
    await straight_line.prepare(where, tasks)
    port = hold_any()
    address = f"127.0.0.1:{port.number}"
    settings = {"dsn": where, "nats": nats.url, "token": nats.token, "address": address}
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", straight_line.__name__, stdin=PIPE, stdout=PIPE
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        server.stdin.write(json.dumps(settings).encode() + b"\n")
        if await server.stdout.readline() != b"ready\n":
            raise RuntimeError("the straight line did not start")
        servers = [pid for name in SERVERS if (pid := cairn.stack.pid(name)) is not None]
        line = StraightLine(address, [server.pid, *servers])
        try:
            yield line
        finally:
            await line.close()
    finally:
        server.terminate()
        await server.wait()


def admin_dsn(cairn: CairnStack, database: str = DATABASE) -> str:
    """Return where a database of the stack's server is, for whoever may do everything in it."""
    home = Home(cairn.stack.home)
    return dsn(EmbeddedPostgres(home.postgres), SUPERUSER, passwords(home, [])[SUPERUSER], database)


def parts_of_an_import(project: str, items: int) -> Iterator[store.ImportItemsRequest]:
    """Yield the messages of an import of short texts."""
    yield store.ImportItemsRequest(header=store.ImportHeader(parent=project, import_id="all"))
    for offset in range(0, items, _CHUNK):
        some = [text_item(n) for n in range(offset, min(offset + _CHUNK, items))]
        last = offset + _CHUNK >= items
        yield store.ImportItemsRequest(chunk=store.ImportChunk(offset=offset, items=some, last=last))


def text_item(number: int) -> store.Item:
    """Return an item with a text of a sentence's length."""
    return store.Item(
        key=f"item-{number}",
        text=f"Reviewer {number} says that this film is worth two hours of anybody's life.",
    )


def answers_to(tokens: Sequence[str]) -> list[store.SubmitAnnotationRequest]:
    """Return an answer under each lease token."""
    return [store.SubmitAnnotationRequest(lease_token=token, answers=[_ANSWER]) for token in tokens]


def _all_kept(response: Any) -> None:
    for result in response.results:
        if not result.HasField("annotation"):
            raise RuntimeError(f"an answer was refused: {result.error.message}")


def _never_none(tasks: int) -> int:
    if not tasks:
        raise RuntimeError("there are no tasks left: the measurement was given too few")
    return tasks
