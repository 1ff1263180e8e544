"""What the tests of the running service share: its neighbours, the events it hears, models, and ears."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
from onnx import TensorProto, helper, numpy_helper
from scipy import sparse

from cairn.annotation.v1.annotation_store_pb2 import (
    LABEL_SOURCE_CONSENSUS,
    DownloadBlobResponse,
    Item,
    Label,
    Project,
    QualityPolicy,
    RoutingPolicy,
)
from cairn.consensus.v1.consensus_pb2 import BatchGetPosteriorsResponse, ClassProbability, Posterior
from cairn.consensus.v1.consensus_pb2_grpc import ConsensusServiceServicer
from cairn.dispatch.v1.task_dispatch_pb2 import CreateTasksResponse, Task, TaskResult
from cairn.dispatch.v1.task_dispatch_pb2_grpc import TaskDispatchServiceServicer
from cairn.events.v1.annotation_store_events_pb2 import (
    ItemsImported,
    LabelFinalized,
    ProjectCreated,
    ProjectUpdated,
)
from cairn.inference.v1 import inference_pb2 as api
from cairn.inference.v1.inference_pb2_grpc import InferenceServiceStub
from cairn.label.v1.label_schema_pb2 import ChoiceQuestion, LabelClass, LabelSchema, Question
from cairn.label.v1.label_value_pb2 import Answer, BlobRef
from cairn_inference.domain.features import TEXT_SPEC
from cairn_inference.training.exchange import TrainingRequest
from cairn_inference.training.head import train
from cairn_kit.events import Event
from cairn_kit.testing import ProjectsOfAll, World

PROJECT = "projects/reviews"
CLASSES = ("bad", "good")
GOOD = [
    "a wonderful and moving film",
    "superb acting, a delight",
    "brilliant, warm and funny",
    "a masterpiece",
]
BAD = ["a dull and tedious mess", "awful acting, a bore", "stupid, cold and unfunny", "a complete disaster"]


class Crowd(ConsensusServiceServicer):
    """Consensus as people see it: sure of the truth, which is in the item's key."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.votes = 3
        self.away = False
        self.truth_of = truth_of

    async def BatchGetPosteriors(self, request: Any, context: Any) -> BatchGetPosteriorsResponse:
        if self.away:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "away")
        self.asked += request.items
        return BatchGetPosteriorsResponse(
            posteriors=[
                Posterior(
                    item=item,
                    question=request.question,
                    classes=[ClassProbability(class_id=self.truth_of(item), probability=0.999)],
                    votes=self.votes,
                )
                for item in request.items
            ]
        )


class Dispatch(TaskDispatchServiceServicer):
    """Task-dispatch, which hears wishes."""

    def __init__(self) -> None:
        self.wishes: list[Any] = []
        self.away = 0

    async def CreateTasks(self, request: Any, context: Any) -> CreateTasksResponse:
        if self.away:
            self.away -= 1
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "away")
        self.wishes += request.wishes
        return CreateTasksResponse(results=[TaskResult(task=Task()) for _ in request.wishes])


class Blobs(ProjectsOfAll):
    """annotation-store with its images."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, bytes] = {}
        self.away = 0

    def keep(self, data: bytes) -> BlobRef:
        digest = hashlib.sha256(data).hexdigest()
        self.kept[digest] = data
        return BlobRef(sha256=digest, size_bytes=len(data), media_type="image/png")

    async def DownloadBlob(self, request: Any, context: Any) -> AsyncIterator[DownloadBlobResponse]:
        if self.away:
            self.away -= 1
            await context.abort(grpc.StatusCode.INTERNAL, "the disk is full")
        yield DownloadBlobResponse(chunk=self.kept[request.name.rpartition("/")[2]])


def truth_of(item: str) -> str:
    return "good" if item.rpartition("/")[2].startswith("good") else "bad"


def texts(count: int, prefix: str = "") -> list[Item]:
    """Items whose truth is in their key and, to a reader, in their text."""
    items = []
    for number in range(count):
        good = number % 2 == 0
        phrase = (GOOD if good else BAD)[number // 2 % 4]
        items.append(
            Item(
                key=f"{'good' if good else 'bad'}-{prefix}{number}", text=f"{phrase}, says reviewer {number}."
            )
        )
    return items


def project(revision: int = 1, **routing: Any) -> Project:
    policy = {"enabled": True, "alpha": 0.1, "delta": 0.2, "validation_share": 0.4} | routing
    return Project(
        name=PROJECT,
        revision=revision,
        schema=LabelSchema(
            questions=[
                Question(
                    id="polarity",
                    required=True,
                    choice=ChoiceQuestion(classes=[LabelClass(id=c) for c in CLASSES]),
                )
            ]
        ),
        quality=QualityPolicy(min_answers=2),
        routing=RoutingPolicy(**policy),
    )


def asking(question: str, revision: int = 1, **routing: Any) -> Project:
    """The project with a second question of the same classes; one of the two is required, and routed."""
    message = project(revision, question=question, **routing)
    message.schema.questions.add(id="tone").CopyFrom(message.schema.questions[0])
    message.schema.questions[-1].id = "tone"
    for one in message.schema.questions:
        one.required = one.id == question
    return message


def created(message: Project | None = None, tenant: str = "acme") -> Event:
    message = message or project()
    kind = ProjectCreated if message.revision == 1 else ProjectUpdated
    return Event(kind(project=message), tenant, "reviews", PROJECT, revision=message.revision)


def imported(items: Sequence[Item], tenant: str = "acme") -> list[Event]:
    return [
        Event(
            ItemsImported(project=PROJECT, items=items[at : at + 100]),
            tenant,
            "reviews",
            f"{PROJECT}/imports/one",
        )
        for at in range(0, len(items), 100)
    ]


def labeled(
    items: Sequence[Item],
    source: Any = LABEL_SOURCE_CONSENSUS,
    revision: int = 1,
    tenant: str = "acme",
    question: str = "polarity",
) -> list[Event]:
    events = []
    for item in items:
        name = f"{PROJECT}/items/{item.key}/labels/{question}"
        label = Label(
            name=name,
            revision=revision,
            answer=Answer(question=question, choice=truth_of(item.key)),
            confidence=0.97,
            source=source,
        )
        message = LabelFinalized(label=label, item=f"{PROJECT}/items/{item.key}", question=question)
        events.append(Event(message, tenant, "reviews", name, revision=revision))
    return events


class Stage:
    """A running service with its neighbours, and ears for what it announces."""

    def __init__(self, world: World, service: Any, crowd: Crowd, blobs: Blobs) -> None:
        self.world, self.service, self.crowd, self.blobs = world, service, crowd, blobs
        self.api = service.stub(InferenceServiceStub)

    async def heard(self, kind: Any) -> Any:
        return await self.world.listen(kind)

    @asynccontextmanager
    async def no_training(self) -> AsyncIterator[None]:
        """Nothing is trained before the end: so that it learns from all labels, however they come in."""
        execute = self.service.database.execute
        await execute("UPDATE project SET trained_at = now() + interval '1 day'")
        yield
        await execute("UPDATE project SET trained_at = NULL")

    async def count(self, where: str) -> int:
        return int(await self.service.database.fetchval(f"SELECT count(*) FROM item WHERE {where}"))


def routes(events: Sequence[Any]) -> dict[str, Any]:
    """The newest route of each item, by key."""
    found: dict[str, Any] = {}
    for event in events:
        for route in event.message.routes:
            key = route.item.rpartition("/")[2]
            if key not in found or found[key].revision < route.revision:
                found[key] = route
    return found


def scores(events: Sequence[Any]) -> dict[str, Any]:
    return {score.item.rpartition("/")[2]: score for event in events for score in event.message.scores}


async def validation_keys(stage: Stage) -> set[str]:
    rows = await stage.service.database.fetch("SELECT item FROM item WHERE validation")
    return {row["item"] for row in rows}


async def answers_let_through(stage: Stage) -> dict[str, str]:
    rows = await stage.service.database.fetch("SELECT item, answer FROM let_through")
    return {row["item"]: row["answer"] for row in rows}


def head() -> bytes:
    """A model of the right shapes, that reads nothing."""
    generator = np.random.default_rng(0)
    features = sparse.csr_matrix(generator.random((60, TEXT_SPEC.dim)).astype(np.float32))
    labels = np.arange(60, dtype=np.int64) % 2
    return train(TrainingRequest(features, labels, np.ones(60), CLASSES, 1)).model


async def upload(stage: Stage, data: bytes, **header: Any) -> Any:
    fields = {"parent": f"{PROJECT}/models/mine", "features": TEXT_SPEC.name, "class_ids": CLASSES} | header

    async def parts() -> AsyncIterator[api.UploadModelVersionRequest]:
        yield api.UploadModelVersionRequest(header=api.ModelHeader(**fields))
        for start in range(0, len(data), 10_000):
            yield api.UploadModelVersionRequest(chunk=data[start : start + 10_000])

    return await stage.api.UploadModelVersion(parts())


def model_that_always_says(place: int, classes: int, sure: float = 0.9) -> bytes:
    """A model that reads nothing."""
    rest = (1.0 - sure) / (classes - 1)
    logits = np.log([sure if at == place else rest for at in range(classes)]).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "nothing"], ["zeros"]),
            helper.make_node("Add", ["zeros", "logits"], ["sum"]),
            helper.make_node("Softmax", ["sum"], ["p"]),
        ],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", TEXT_SPEC.dim])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", classes])],
        [
            numpy_helper.from_array(np.zeros((TEXT_SPEC.dim, classes), dtype=np.float32), "nothing"),
            numpy_helper.from_array(logits, "logits"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())
