"""A running consensus in a fresh world, a birds project, and what the other services say of it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from cairn.annotation.v1 import annotation_store_pb2 as store_pb
from cairn.annotation.v1.annotation_store_pb2_grpc import add_AnnotationStoreServiceServicer_to_server
from cairn.consensus.v1.consensus_pb2_grpc import ConsensusServiceStub
from cairn.events.v1 import annotation_store_events_pb2 as store_events
from cairn.events.v1 import audit_events_pb2 as audit_events
from cairn.events.v1 import inference_events_pb2 as inference_events
from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as label_pb
from cairn_consensus.__main__ import SERVICE
from cairn_consensus.config import ConsensusSettings
from cairn_kit.events import Event
from cairn_kit.testing import ProjectsOfAll, RunningService, World
from cairn_kit.testing.fixtures import *  # noqa: F403

Run = Callable[..., AbstractAsyncContextManager[RunningService[ConsensusSettings]]]
CLASSES = ("robin", "wren", "tit")


class Annotations(ProjectsOfAll):
    """annotation-store, as consensus sees it: it keeps the answers that no event could carry."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, store_pb.Annotation] = {}
        self.blobs: dict[str, bytes] = {}
        self.away = False

    def keep(self, event: Event) -> Event:
        """Keep what an event tells of; the event as the store announces it then, without the answers."""
        told = store_events.AnnotationSubmitted()
        told.CopyFrom(event.message)
        self.kept[told.annotation.name] = event.message.annotation
        told.annotation.ClearField("answers")
        told.answers_omitted = True
        return replace(event, message=told)

    def keep_correction(self, event: Event) -> Event:
        """The same for what a reviewer said."""
        told = audit_events.LabelCorrected()
        told.CopyFrom(event.message)
        told.annotation = f"{told.item}/annotations/review"
        told.question, told.answer_omitted = told.answer.question, True
        self.kept[told.annotation] = store_pb.Annotation(answers=[told.answer])
        told.ClearField("answer")
        return replace(event, message=told)

    def keep_blob(self, data: bytes, project: str = "birds") -> label_pb.BlobRef:
        """Keep bytes of a project."""
        sha256 = hashlib.sha256(data).hexdigest()
        self.blobs[f"projects/{project}/blobs/{sha256}"] = data
        return label_pb.BlobRef(sha256=sha256, size_bytes=len(data), media_type="image/png")

    async def DownloadBlob(self, request: Any, context: Any) -> AsyncIterator[store_pb.DownloadBlobResponse]:
        if self.away:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        data = self.blobs[request.name]
        for start in range(0, len(data), 64):
            yield store_pb.DownloadBlobResponse(chunk=data[start : start + 64])

    async def GetAnnotation(self, request: Any, context: Any) -> store_pb.Annotation:
        if self.away:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        return self.kept[request.name]


class Words:
    """What other services say of one project, as events; and short forms of what they speak of."""

    classes = CLASSES

    def __init__(self, tenant: str = "acme", name: str = "birds") -> None:
        self.tenant, self.name = tenant, name

    @staticmethod
    def question(name: str = "species") -> schema_pb.Question:
        """A choice between three birds."""
        classes = [schema_pb.LabelClass(id=one) for one in CLASSES]
        return schema_pb.Question(id=name, required=True, choice=schema_pb.ChoiceQuestion(classes=classes))

    @staticmethod
    def choice(value: str, question: str = "species") -> label_pb.Answer:
        return label_pb.Answer(question=question, choice=value)

    def project(self, *questions: schema_pb.Question, **quality: Any) -> store_pb.Project:
        """The project as the store knows it, all questions required; the target is low, for few votes suffice here."""
        return store_pb.Project(
            name=f"projects/{self.name}",
            schema=schema_pb.LabelSchema(questions=questions or [self.question()]),
            schema_version=1,
            quality=store_pb.QualityPolicy(**({"target_confidence": 0.85} | quality)),
            revision=1,
        )

    def item(self, key: str) -> str:
        return f"projects/{self.name}/items/{key}"

    def created(self, *questions: schema_pb.Question, **quality: Any) -> Event:
        body = self.project(*questions, **quality)
        return self._event(store_events.ProjectCreated(project=body), body.name)

    def extended(self, *questions: schema_pb.Question) -> Event:
        """The project after a change of its schema."""
        body = self.project(*questions)
        body.schema_version, body.revision = 2, 2
        return self._event(store_events.ProjectUpdated(project=body), body.name, 2)

    def updated(self, **quality: Any) -> Event:
        """The project after a change of its policy."""
        body = self.project(**quality)
        body.revision = 2
        return self._event(store_events.ProjectUpdated(project=body), body.name, 2)

    def gold(self, key: str, answer: label_pb.Answer) -> Event:
        items = [store_pb.Item(key=key, name=self.item(key), gold_answers=[answer])]
        message = store_events.ItemsImported(project=f"projects/{self.name}", items=items)
        return self._event(message, f"projects/{self.name}")

    def answer(
        self,
        key: str,
        labeler: str,
        *answers: label_pb.Answer | str,
        kind: store_pb.AnnotationKind.ValueType = store_pb.ANNOTATION_KIND_LABEL,
        late: bool = False,
        again: bool = False,
        schema_version: int = 1,
    ) -> Event:
        annotation = store_pb.Annotation(
            name=f"{self.item(key)}/annotations/{labeler}-{store_pb.AnnotationKind.Name(kind)}{'-again' * again}",
            labeler=f"labelers/{labeler}",
            kind=kind,
            answers=[self.choice(a) if isinstance(a, str) else a for a in answers],
            late=late,
            schema_version=schema_version,
        )
        message = store_events.AnnotationSubmitted(annotation=annotation, item=self.item(key))
        return self._event(message, annotation.name)

    def scored(self, scores: dict[str, Sequence[float]], revision: int = 1) -> Event:
        message = inference_events.ItemsScored(
            project=f"projects/{self.name}",
            question="species",
            model_version=f"projects/{self.name}/models/text/versions/{revision}",
            class_ids=CLASSES,
            scores=[
                inference_events.ItemScore(item=self.item(key), probabilities=p) for key, p in scores.items()
            ],
            revision=revision,
        )
        return self._event(message, f"projects/{self.name}", revision)

    def routed(self, key: str, *, auto: bool, revision: int = 1) -> Event:
        route = inference_events.ItemRoute(
            item=self.item(key),
            route=inference_events.ROUTE_AUTO if auto else inference_events.ROUTE_HUMAN,
            revision=revision,
        )
        message = inference_events.ItemsRouted(project=f"projects/{self.name}", routes=[route])
        return self._event(message, f"projects/{self.name}", revision)

    def corrected(self, key: str, answer: label_pb.Answer) -> Event:
        message = audit_events.LabelCorrected(item=self.item(key), answer=answer, reviewer="labelers/rita")
        return self._event(message, self.item(key))

    def crowd(self, items: int, labelers: int, each: int, seed: int = 0) -> list[Event]:
        """`each` answers an item by labelers who are right from 60 to 95 times in a hundred."""
        chance = random.Random(seed)
        events = []
        for i in range(items):
            truth = CLASSES[i % len(CLASSES)]
            for who in chance.sample(range(labelers), each):
                right = chance.random() < 0.6 + 0.35 * who / labelers
                said = truth if right else chance.choice([c for c in CLASSES if c != truth])
                events.append(self.answer(f"i{i:03d}", f"l{who:02d}", said))
        return events

    def _event(self, message: Message, resource: str, revision: int = 1) -> Event:
        return Event(message, tenant=self.tenant, project=self.name, resource=resource, revision=revision)


@pytest.fixture
def words() -> Words:
    return Words()


@pytest.fixture
async def annotations(world: World) -> Annotations:
    servicer = Annotations()
    await world.fake_peer("annotation-store", servicer, add_AnnotationStoreServiceServicer_to_server)
    return servicer


@pytest.fixture
def run(world: World, annotations: Annotations) -> Run:
    def start(**overrides: Any) -> AbstractAsyncContextManager[RunningService[ConsensusSettings]]:
        return world.run(SERVICE, **overrides)

    return start


@pytest.fixture
async def consensus(run: Run) -> AsyncIterator[RunningService[ConsensusSettings]]:
    async with run() as service:
        yield service


@pytest.fixture
def api(consensus: RunningService[ConsensusSettings]) -> Any:
    return consensus.stub(ConsensusServiceStub)
