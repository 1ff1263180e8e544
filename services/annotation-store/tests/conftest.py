from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
import pytest_asyncio
from nats.aio.msg import Msg

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.annotation.v1 import annotation_store_pb2_grpc as api
from cairn.events.v1 import audit_events_pb2, consensus_events_pb2, inference_events_pb2
from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as value_pb
from cairn_annotation_store.__main__ import SERVICE
from cairn_annotation_store.export_process import ExportProcesses, Reached
from cairn_annotation_store.handlers.export_parts import ExportParts
from cairn_annotation_store.handlers.export_worker import ExportWorker
from cairn_annotation_store.storage import Storage
from cairn_annotation_store.store import ExportedStore, ExportRow, ExportStore
from cairn_kit.auth import LeaseClaims
from cairn_kit.errors import CairnError, from_rpc_error
from cairn_kit.events import Event, Received, Subscription
from cairn_kit.events.delivery import Delivery, Parcel, Reader, fault_of
from cairn_kit.testing import World, eventually
from cairn_kit.testing.fixtures import *  # noqa: F403

PROJECT = "projects/birds"


def choice_schema(*class_ids: str, question: str = "species") -> schema_pb.LabelSchema:
    """One required choice question."""
    classes = [schema_pb.LabelClass(id=class_id) for class_id in class_ids or ("robin", "wren", "owl")]
    return schema_pb.LabelSchema(
        questions=[
            schema_pb.Question(id=question, required=True, choice=schema_pb.ChoiceQuestion(classes=classes))
        ]
    )


def chose(class_id: str, question: str = "species") -> value_pb.Answer:
    return value_pb.Answer(question=question, choice=class_id)


class Birds:
    """A running store with one project, as its users see it."""

    def __init__(self, world: World, running: Any) -> None:
        self.world = world
        self.running = running
        self.stub = self.as_(roles=["manager"])
        self.operator = self.as_(subject="op", roles=["operator"])
        self.database = running.database
        self._signer = world.signer("task-dispatch")

    def as_(self, **bearer: Any) -> api.AnnotationStoreServiceStub:
        """A stub that carries another token."""
        return self.running.stub(api.AnnotationStoreServiceStub, **bearer)

    async def create(
        self, schema: schema_pb.LabelSchema | None = None, project_id: str = "birds", **fields: Any
    ) -> pb.Project:
        return await self.stub.CreateProject(
            pb.CreateProjectRequest(
                project_id=project_id, project=pb.Project(schema=schema or choice_schema(), **fields)
            )
        )

    async def take_in(
        self,
        items: Sequence[pb.Item],
        *,
        import_id: str = "first",
        offset: int = 0,
        last: bool = True,
        stub: Any = None,
        parent: str = PROJECT,
    ) -> pb.Import:
        """Import items as one chunk."""

        async def messages() -> AsyncIterator[pb.ImportItemsRequest]:
            yield pb.ImportItemsRequest(header=pb.ImportHeader(parent=parent, import_id=import_id))
            yield pb.ImportItemsRequest(chunk=pb.ImportChunk(offset=offset, items=items, last=last))

        return await (stub or self.stub).ImportItems(messages())

    async def texts(self, count: int, **options: Any) -> pb.Import:
        """Import so many small texts, `a0000`, `a0001`, ..."""
        return await self.take_in(
            [pb.Item(key=f"a{i:04d}", text=f"text {i}") for i in range(count)], **options
        )

    def lease(self, item: str, labeler: str = "ann", **claims: Any) -> str:
        """A lease token as task-dispatch signs it."""
        given: dict[str, Any] = {
            "tenant": "acme", "project": "birds", "item": item, "task": f"t-{item}", "lease": str(uuid4()),
            "labeler": f"labelers/{labeler}", "kind": "LABEL", "expires_at": time.time() + 60,
        }  # fmt: skip
        [token] = self._signer.sign_leases([LeaseClaims(**given | claims)])
        return token

    async def submit(
        self, token: str, *answers: value_pb.Answer, stub: Any = None, request_id: str = ""
    ) -> pb.Annotation:
        return await (stub or self.operator).SubmitAnnotation(
            pb.SubmitAnnotationRequest(lease_token=token, answers=answers, request_id=request_id)
        )

    async def decide(self, item: str, class_id: str, *, revision: int = 1, confidence: float = 0.97) -> None:
        """Consensus was reached on an item."""
        await self.world.publish(self.consensus(item, class_id, revision=revision, confidence=confidence))

    def consensus(self, item: str, class_id: str, *, revision: int = 1, confidence: float = 0.97) -> Event:
        name = f"{PROJECT}/items/{item}"
        decision = consensus_events_pb2.Decision(
            answer=chose(class_id),
            confidence=confidence,
            provenance=pb.ConsensusProvenance(algorithm="DawidSkene", vote_count=3),
        )
        message = consensus_events_pb2.ConsensusReached(
            item=name, decisions=[decision], revision=revision, schema_version=1
        )
        return Event(message, tenant="acme", project="birds", resource=name, revision=revision)

    def routed(self, *routes: tuple[str, str], revision: int = 1) -> Event:
        """A model answers these items alone."""
        message = inference_events_pb2.ItemsRouted(
            project=PROJECT,
            routes=[
                inference_events_pb2.ItemRoute(
                    item=f"{PROJECT}/items/{item}",
                    route=inference_events_pb2.ROUTE_AUTO,
                    answer=chose(class_id),
                    score=0.99,
                    model_version=f"{PROJECT}/models/m/versions/1",
                    threshold=0.9,
                    threshold_version=3,
                    alpha=0.05,
                    delta=0.1,
                    revision=revision,
                )
                for item, class_id in routes
            ],
        )
        return Event(message, tenant="acme", project="birds", resource=PROJECT, revision=revision)

    def corrected(self, item: str, class_id: str, *, judged: int = 1) -> Event:
        name = f"{PROJECT}/items/{item}"
        message = audit_events_pb2.LabelCorrected(
            item=name,
            answer=chose(class_id),
            reviewer="labelers/eve",
            reason=audit_events_pb2.CORRECTION_REASON_FOUND_WRONG,
            judged_revision=judged,
            schema_version=1,
        )
        return Event(message, tenant="acme", project="birds", resource=name, revision=1)

    async def label(self, item: str, revision: str = "") -> pb.Label:
        return await self.stub.GetLabel(
            pb.GetLabelRequest(name=f"{PROJECT}/items/{item}/labels/species{revision}")
        )

    async def progress(self) -> pb.ProjectProgress:
        return await self.stub.GetProjectProgress(pb.GetProjectProgressRequest(name=PROJECT))


class Exports:
    """Exports of the project, and workers as other replicas run them; of more than 200 labels `processes` make lines."""

    def __init__(self, birds: Birds, processes: ExportProcesses) -> None:
        self.processes = processes
        self._birds = birds

    async def create(self, export_format: Any = pb.EXPORT_FORMAT_JSONL, **fields: Any) -> pb.Export:
        """An export that the running store's worker writes."""
        request = pb.CreateExportRequest(parent=PROJECT, format=export_format, **fields)
        return await self._birds.stub.CreateExport(request)

    async def begun(self, *, with_annotations: bool = False) -> ExportRow:
        """An export that a worker of the test works on, and no other."""
        export = uuid4()
        await self._birds.database.execute(
            "INSERT INTO export (tenant, project, export, format, include_annotations, state, worker, worker_until) "
            "VALUES ('acme', 'birds', $1, 1, $3, 2, $2, 'infinity')",
            export,
            uuid4(),
            with_annotations,
        )
        return await self.row(export)

    async def row(self, export: UUID) -> ExportRow:
        """What is kept of an export."""
        row = await ExportStore().get(self._birds.database, "acme", "birds", export)
        assert row is not None
        return row

    def parts(self, page: int = 4, exported: ExportedStore | None = None) -> ExportParts:
        """Parts of so many labels, in order."""
        return ExportParts(self._birds.database, exported or ExportedStore(), self.processes, page)

    def worker(
        self,
        storage: Any = None,
        *,
        claim_seconds: float = 60.0,
        page: int = 4,
        exported: ExportedStore | None = None,
    ) -> ExportWorker:
        return ExportWorker(
            self._birds.database,
            ExportStore(),
            self.parts(page, exported),
            storage or self.storage,
            claim_seconds=claim_seconds,
        )

    @property
    def storage(self) -> Storage:
        """Where the running store keeps parts, too."""
        return Storage.open(self._birds.running.settings.blob_url)

    def stored(self) -> list[Path]:
        """All parts that are in storage."""
        return sorted((self._birds.world.folder / "blobs" / "exports").rglob("part-*"))

    async def one_part(self, worker: ExportWorker, row: ExportRow) -> ExportRow:
        """Let a worker write the next part and no more."""
        file = await worker._so_far(row)
        async with aclosing(worker._parts.of(row)) as parts:
            advanced = await worker.write_part(row, await anext(parts), file)
        assert advanced is not None
        return advanced

    async def ended(self, export: pb.Export | ExportRow) -> pb.Export:
        """An export when it has ended."""

        async def look() -> pb.Export | None:
            found = await self._birds.stub.GetExport(pb.GetExportRequest(name=name_of(export)))
            return found if found.HasField("end_time") else None

        return await eventually(look)  # type: ignore[no-any-return]

    async def body(self, export: pb.Export | ExportRow, offset: int = 0) -> bytes:
        """An export's file, from an offset on."""
        parts = self._birds.stub.DownloadExport(pb.DownloadExportRequest(name=name_of(export), offset=offset))
        return b"".join([part.chunk async for part in parts])

    async def lines(self, export: pb.Export | ExportRow) -> list[dict[str, Any]]:
        """The lines of an export's file, when it has ended."""
        await self.ended(export)
        return jsonl(await self.body(export))


def name_of(export: pb.Export | ExportRow) -> str:
    """An export's name."""
    return f"{PROJECT}/exports/{export.export}" if isinstance(export, ExportRow) else export.name


def jsonl(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in body.splitlines()]


@asynccontextmanager
async def refused(*reasons: str) -> AsyncIterator[list[CairnError]]:
    """The block's call is refused with one of these reasons; the error is put into the list."""
    seen: list[CairnError] = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield seen
    error = from_rpc_error(caught.value)
    assert error.reason in reasons, f"{error.reason}: {error.message}"
    seen.append(error)


def as_consumers_read(event: Received[Any]) -> Any:
    """The event's message, through the door that it must pass to get to any consumer's handler, and within its rules."""

    async def unused(*_: object) -> None:
        """Only its decoder is wanted."""

    reader = Reader([Subscription(type(event.message), unused)])
    on_the_bus = Msg(_client=None, subject=event.subject, data=event.body, headers=dict(event.headers))
    [delivery] = reader.read(Parcel(on_the_bus))
    assert isinstance(delivery, Delivery)
    assert fault_of(delivery.event) is None
    return delivery.event.message


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Settings that a test file wants otherwise."""
    return {}


@pytest_asyncio.fixture
async def birds(world: World, overrides: dict[str, Any]) -> AsyncIterator[Birds]:
    url = (world.folder / "blobs").as_uri()
    async with world.run(SERVICE, **{"blob_url": url, "watch_poll_seconds": 0.2} | overrides) as running:
        yield Birds(world, running)


@pytest_asyncio.fixture
async def processes(birds: Birds) -> AsyncIterator[ExportProcesses]:
    async with ExportProcesses(Reached.by(birds.running.settings), 2) as running:
        yield running


@pytest.fixture
def exports(birds: Birds, processes: ExportProcesses) -> Exports:
    return Exports(birds, processes)


@pytest.fixture
def tools() -> Any:
    """What tests share besides the store: `refused`, `choice_schema`, `chose`, `as_consumers_read`, `birds`, `jsonl`."""

    class Tools:
        refused = staticmethod(refused)
        choice_schema = staticmethod(choice_schema)
        chose = staticmethod(chose)
        as_consumers_read = staticmethod(as_consumers_read)
        jsonl = staticmethod(jsonl)
        birds = Birds

    return Tools
