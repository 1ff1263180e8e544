"""The service among real servers: what it announces, when, and what it never does."""

import hashlib
import io
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from scipy import sparse

from cairn.annotation.v1.annotation_store_pb2 import (
    LABEL_SOURCE_AUTO,
    LABEL_SOURCE_CONSENSUS,
    DownloadBlobResponse,
    Item,
    Label,
    Project,
    QualityPolicy,
    RoutingPolicy,
)
from cairn.annotation.v1.annotation_store_pb2_grpc import (
    AnnotationStoreServiceServicer,
    add_AnnotationStoreServiceServicer_to_server,
)
from cairn.audit.v1.audit_pb2 import Audit
from cairn.consensus.v1.consensus_pb2 import BatchGetPosteriorsResponse, ClassProbability, Posterior
from cairn.consensus.v1.consensus_pb2_grpc import (
    ConsensusServiceServicer,
    add_ConsensusServiceServicer_to_server,
)
from cairn.dispatch.v1.task_dispatch_pb2 import CreateTasksResponse, Task, TaskResult
from cairn.dispatch.v1.task_dispatch_pb2_grpc import (
    TaskDispatchServiceServicer,
    add_TaskDispatchServiceServicer_to_server,
)
from cairn.events.v1.annotation_store_events_pb2 import (
    ItemsImported,
    LabelFinalized,
    ProjectCreated,
    ProjectUpdated,
)
from cairn.events.v1.audit_events_pb2 import AuditFailed
from cairn.events.v1.inference_events_pb2 import (
    ROUTE_AUTO,
    ROUTE_HUMAN,
    AutoLabelingResumed,
    AutoLabelingStopped,
    ItemsRouted,
    ItemsScored,
    ModelPromoted,
    ModelVersionCreated,
    ThresholdSet,
    TrainingRunFinished,
)
from cairn.inference.v1 import inference_pb2 as api
from cairn.inference.v1.inference_pb2_grpc import InferenceServiceStub
from cairn.label.v1.label_schema_pb2 import ChoiceQuestion, LabelClass, LabelSchema, NumberQuestion, Question
from cairn.label.v1.label_value_pb2 import Answer, BlobRef
from cairn_inference import validation_answers
from cairn_inference.__main__ import SERVICE
from cairn_inference.domain.features import TEXT_SPEC
from cairn_inference.messages import policy_of
from cairn_inference.model_store import ModelStore
from cairn_inference.scoring import Scorer
from cairn_inference.scoring_rounds import ScoringRounds
from cairn_inference.store import InferenceStore
from cairn_inference.training.exchange import TrainingRequest
from cairn_inference.training.head import train
from cairn_kit.database import Database
from cairn_kit.database.pool import OUTAGES
from cairn_kit.errors import from_rpc_error
from cairn_kit.events import Event
from cairn_kit.testing import World, eventually

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


class Blobs(AnnotationStoreServiceServicer):
    """The images of annotation-store."""

    def __init__(self) -> None:
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


@pytest.fixture(scope="session")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inference")


class Stage:
    """A running service with its neighbours, and ears for what it announces."""

    def __init__(self, world: World, service: Any, crowd: Crowd, blobs: Blobs) -> None:
        self.world, self.service, self.crowd, self.blobs = world, service, crowd, blobs
        self.api = service.stub(InferenceServiceStub)

    async def heard(self, kind: Any) -> Any:
        return await self.world.listen(kind)

    async def count(self, where: str) -> int:
        return int(await self.service.database.fetchval(f"SELECT count(*) FROM item WHERE {where}"))


@pytest.fixture
async def crowd(world: World) -> Crowd:
    servicer = Crowd()
    await world.fake_peer("consensus", servicer, add_ConsensusServiceServicer_to_server)
    return servicer


@pytest.fixture(autouse=True)
async def dispatch(world: World, monkeypatch: pytest.MonkeyPatch) -> Dispatch:
    monkeypatch.setattr(validation_answers, "_REST", 0.1)
    servicer = Dispatch()
    await world.fake_peer("task-dispatch", servicer, add_TaskDispatchServiceServicer_to_server)
    return servicer


@pytest.fixture
async def blobs(world: World) -> Blobs:
    servicer = Blobs()
    await world.fake_peer("annotation-store", servicer, add_AnnotationStoreServiceServicer_to_server)
    return servicer


@pytest.fixture
def settings(world: World, embeddings: Path) -> dict[str, Any]:
    return {
        "blob_url": f"file://{world.folder}/blobs",
        "work_dir": embeddings,
        "threads": 1,
        "training_interval": 0.1,
        "sampling_key": "a secret of this test",
    }


@pytest.fixture
async def stage(world: World, crowd: Crowd, blobs: Blobs, settings: dict[str, Any]) -> AsyncIterator[Stage]:
    async with world.run(SERVICE, **settings) as service:
        yield Stage(world, service, crowd, blobs)


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


# --- the start


@pytest.mark.parametrize(
    ("told", "words"), [({}, "is missing"), ({"CAIRN_SAMPLING_KEY": ""}, "anybody could tell")]
)
def test_it_does_not_start_without_a_sampling_key(
    told: dict[str, str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    needed = {"CAIRN_POSTGRES_DSN": "postgresql://a:b@c/d", "CAIRN_JWKS_FILE": "/jwks.json"}
    for name, value in (needed | told).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        SERVICE.main(["serve"])
    assert ended.value.code == 1
    [sentence] = capsys.readouterr().err.splitlines()
    assert "CAIRN_SAMPLING_KEY" in sentence
    assert words in sentence


# --- the whole loop


async def test_from_people_to_a_model_that_answers_alone(stage: Stage) -> None:
    """Labels train a version, it is promoted, scores, passes the bound, and labels the rest alone."""
    items = texts(400)
    routed, scored = await stage.heard(ItemsRouted), await stage.heard(ItemsScored)
    made, promoted = await stage.heard(ModelVersionCreated), await stage.heard(ModelPromoted)
    ended, thresholds = await stage.heard(TrainingRunFinished), await stage.heard(ThresholdSet)
    await stage.world.publish(created(), *imported(items))

    # Nobody waits for a model: every item goes to people at once, the validation sample first.
    await routed.until(lambda events: len(routes(events)) == 400)
    first = routes(routed.events)
    assert {route.route for route in first.values()} == {ROUTE_HUMAN}
    sample = await validation_keys(stage)
    assert 120 < len(sample) < 200
    assert {key for key, route in first.items() if route.priority == 1.0} == sample
    assert (
        await stage.api.GetRouting(api.GetRoutingRequest(project=PROJECT))
    ).state == api.ROUTING_STATE_LEARNING

    by_people = [item for item in items if item.key in sample or int(item.key.partition("-")[2]) < 200]
    await stage.world.publish(*labeled(by_people))
    await ended.count(1, timeout=60)
    await made.count(1)
    await promoted.count(1)
    [run] = [event.message.training_run for event in ended.events][:1]
    assert run.state == api.TRAINING_RUN_STATE_FINISHED
    version = promoted.events[0].message.model_version
    assert version.name == run.model_version == f"{PROJECT}/models/trained/versions/1"
    assert version.training_labels == run.labels == sum(1 for item in by_people if item.key not in sample)
    assert version.evaluation.accuracy > 0.9

    await thresholds.count(1, timeout=30)
    threshold = thresholds.events[0].message.threshold
    assert threshold.score <= 1.0, "the bound was passed"
    assert threshold.error_upper_bound <= 0.1
    assert threshold.round == 1
    assert threshold.validation_items == len(sample)

    through = await answers_let_through(stage)
    assert through, "the threshold lets a part of the sample through, on paper"
    assert set(through) <= sample
    assert all(answer == truth_of(key) for key, answer in through.items())

    left = {item.key for item in items} - {item.key for item in by_people}
    await routed.until(
        lambda events: {k for k, r in routes(events).items() if r.route == ROUTE_AUTO}, timeout=30
    )
    await eventually(lambda: stage.count("open AND NOT validation AND routed_round = 0"), 0)
    auto = {key: route for key, route in routes(routed.events).items() if route.route == ROUTE_AUTO}
    assert auto
    assert set(auto) <= left, "what people have labeled, and the validation sample, stays theirs"
    for key, route in auto.items():
        assert route.answer == Answer(question="polarity", choice=truth_of(key))
        assert route.score >= route.threshold == threshold.score
        assert (route.threshold_version, route.alpha, route.delta) == (1, 0.1, 0.2)
        assert route.revision > first[key].revision

    # The model is one more labeler on everything but the sample; what it was trained on is scored out of fold.
    await scored.until(lambda events: len(scores(events)) == 400 - len(sample))
    assert not set(scores(scored.events)) & sample
    trained_on = {item.key for item in by_people} - sample
    assert {key for key, score in scores(scored.events).items() if score.out_of_fold} == trained_on
    assert {event.message.revision for event in scored.events} == {1}

    routing = await stage.api.GetRouting(api.GetRoutingRequest(project=PROJECT))
    assert routing.state == api.ROUTING_STATE_AUTO
    assert (routing.model_version, routing.auto_items) == (version.name, len(auto))
    assert routing.threshold.version == 1

    # What comes later waits for its score, and then goes alone or to people.
    await stage.world.publish(*imported(texts(20, "late-")))
    await routed.until(lambda events: sum("late-" in key for key in routes(events)) == 20)
    late = {key: route for key, route in routes(routed.events).items() if "late-" in key}
    assert all(route.revision == 1 for route in late.values()), "routed once, not to people first"
    assert any(route.route == ROUTE_AUTO for route in late.values())
    surest = "validation AND score >= (SELECT score FROM threshold WHERE threshold = 1)"
    assert len(through := await answers_let_through(stage)) == await stage.count(surest)
    assert any("late-" in key for key in through), "what comes later goes the way of any other"

    # A failed audit ends it, until a person lets a fresh round decide.
    stopped, resumed = await stage.heard(AutoLabelingStopped), await stage.heard(AutoLabelingResumed)
    failed = AuditFailed(audit=Audit(name=f"{PROJECT}/audits/a1"), covers_auto_labels=True)
    await stage.world.publish(Event(failed, "acme", "reviews", f"{PROJECT}/audits/a1", revision=2))
    await stopped.count(1)
    assert "audits/a1" in stopped.events[0].message.reason
    routing = await stage.api.GetRouting(api.GetRoutingRequest(project=PROJECT))
    assert routing.state == api.ROUTING_STATE_STOPPED
    assert not routing.HasField("threshold")
    await stage.world.publish(*imported(texts(10, "after-")))
    await routed.until(lambda events: sum("after-" in key for key in routes(events)) == 10)
    assert {r.route for key, r in routes(routed.events).items() if "after-" in key} == {ROUTE_HUMAN}
    assert (
        await stage.api.ResumeAutoLabeling(api.ResumeAutoLabelingRequest(project=PROJECT))
    ).stop_reason == ""
    await resumed.count(1)
    await thresholds.count(2)
    assert thresholds.events[1].message.threshold.round == 2
    assert thresholds.events[1].message.threshold.round_delta == pytest.approx(threshold.round_delta / 4)
    assert through.items() <= (await answers_let_through(stage)).items()


# --- what it hears


async def test_events_in_any_order_and_number_change_nothing(stage: Stage) -> None:
    items = texts(30)
    routed = await stage.heard(ItemsRouted)
    await stage.world.publish(*labeled(items[:10], revision=2), *imported(items), copies=3)
    await stage.world.publish(created(project(revision=2, alpha=0.2)), created(), copies=2)
    await eventually(lambda: stage.count("label IS NOT NULL"), 10, timeout=30)
    await stage.world.publish(*labeled(items[:10], source=LABEL_SOURCE_AUTO, revision=1))
    await stage.world.publish(*labeled(items[10:11]))
    await eventually(lambda: stage.count("label IS NOT NULL"), 11)
    assert await stage.count("label_revision = 2 AND label_source = 2") == 10, "an older revision is ignored"
    assert await stage.service.database.fetchval("SELECT alpha FROM project") == 0.2
    assert sum(len(event.message.routes) for event in routed.events) == 30, "each item is announced once"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"enabled": False}, "not enabled"),
        ({"question": "nothing"}, "not a required choice question"),
    ],
)
async def test_a_project_that_cannot_be_routed_is_peoples(
    stage: Stage, change: dict[str, Any], words: str
) -> None:
    routed = await stage.heard(ItemsRouted)
    await stage.world.publish(created(project(**change)), *imported(texts(20)))
    await routed.until(lambda events: len(routes(events)) == 20)
    assert {route.route for route in routes(routed.events).values()} == {ROUTE_HUMAN}
    routing = await stage.api.GetRouting(api.GetRoutingRequest(project=PROJECT))
    assert routing.state == api.ROUTING_STATE_OFF
    assert words in routing.stop_reason


async def test_another_required_question_keeps_items_with_people(stage: Stage) -> None:
    message = project()
    message.schema.questions.add(id="stars", required=True, number=NumberQuestion())
    await stage.world.publish(created(message), *imported(texts(2)))
    await eventually(lambda: stage.count("true"), 2)
    routing = await stage.api.GetRouting(api.GetRoutingRequest(project=PROJECT))
    assert "stars" in routing.stop_reason


async def test_items_without_features_are_peoples_and_say_why(stage: Stage) -> None:
    file = io.BytesIO()
    Image.new("RGB", (9, 9)).save(file, "PNG")
    whole = stage.blobs.keep(file.getvalue())
    broken = stage.blobs.keep(b"\x89PNG\r\n\x1a\nnothing more")
    items = [
        Item(key="text", text="some words"),
        Item(key="image", blob=whole),
        Item(key="broken", blob=broken),
        Item(key="sound", blob=BlobRef(sha256="0" * 64, media_type="audio/wav")),
        Item(key="empty"),
    ]
    stage.blobs.away = 1  # the first try fails, and is made again
    routed = await stage.heard(ItemsRouted)
    await stage.world.publish(created(), *imported(items))
    await routed.until(lambda events: len(routes(events)) == 5)
    await eventually(lambda: stage.count("feature_state = 1"), 2, timeout=20)
    await eventually(lambda: stage.count("feature_state = 2"), 3, timeout=20)
    rows = await stage.service.database.fetch("SELECT item, feature_error FROM item WHERE feature_state = 2")
    reasons = {row["item"]: row["feature_error"] for row in rows}
    assert "audio/wav" in reasons["sound"]
    assert "neither text nor an image" in reasons["empty"]
    assert "cannot be read" in reasons["broken"] or "neither a PNG" in reasons["broken"]
    assert await stage.count("body IS NOT NULL") == 0, "the text goes when its features are there"


# --- another question


@pytest.mark.parametrize("off_between", [False, True])
async def test_another_question_is_served_by_its_own_labels_alone(stage: Stage, off_between: bool) -> None:
    """Both questions have the same classes, so that nothing but the question tells their labels apart."""
    items = texts(20)
    await stage.world.publish(created(asking("polarity")), *imported(items))
    await stage.world.publish(
        *labeled(items[:10], revision=2), *labeled(items[5:12], question="tone", revision=1)
    )
    await eventually(lambda: stage.count("label_source = 2"), 10)
    await eventually(lambda: stage.count("feature_state = 1"), 20)
    version = await upload(stage, head())
    await stage.api.PromoteModelVersion(api.PromoteModelVersionRequest(name=version.name))
    await eventually(lambda: stage.count("score IS NOT NULL"), 20)

    if off_between:
        await stage.world.publish(created(asking("polarity", 2, enabled=False)))
        await eventually(lambda: stage.service.database.fetchval("SELECT question FROM project"), "")
    await stage.world.publish(created(asking("tone", 3)))
    await eventually(lambda: stage.service.database.fetchval("SELECT question FROM project"), "tone")
    routing = await stage.api.GetRouting(api.GetRoutingRequest(project=PROJECT))
    assert (routing.state, routing.model_version) == (api.ROUTING_STATE_LEARNING, "")
    assert await stage.count("score IS NOT NULL") == 0
    assert await stage.count("label_source = 2 AND NOT open") == 7, "what came before counts"

    await stage.world.publish(*labeled(items[:5], question="tone", revision=1))
    await eventually(lambda: stage.count("label_source = 2"), 12)

    await stage.world.publish(created(asking("polarity", 4)))
    await eventually(lambda: stage.count("label_source = 2 AND label_revision = 2"), 10)
    assert await stage.count("label IS NOT NULL") == 10


async def test_labels_that_came_while_routing_was_off_count_when_it_is_on(stage: Stage) -> None:
    items = texts(20)
    truth = Item(key="good-gold", text="superb", gold_answers=[Answer(question="polarity", choice="good")])
    await stage.world.publish(created(project(enabled=False)), *imported(items), *labeled(items[:10]))
    await eventually(lambda: stage.service.database.fetchval("SELECT count(*) FROM other_label"), 10)
    await stage.world.publish(created(project(2)))
    await eventually(lambda: stage.count("label_source = 2 AND NOT open"), 10)

    await stage.world.publish(created(project(3, enabled=False)))
    await eventually(lambda: stage.service.database.fetchval("SELECT question FROM project"), "")
    await stage.world.publish(*labeled(items[10:15]), *labeled(items[:1], revision=2), *imported([truth]))
    await eventually(lambda: stage.count("label_source = 2"), 15)
    await eventually(lambda: stage.count("label_source = 3 AND label = 'good'"), 1)
    await stage.world.publish(created(project(4)))
    await eventually(lambda: stage.service.database.fetchval("SELECT question FROM project"), "polarity")
    assert await stage.count("label IS NOT NULL") == 16
    assert await stage.count("label_revision = 2") == 1


async def test_a_training_on_the_old_questions_labels_is_cancelled(stage: Stage) -> None:
    items = texts(200)
    ended, promoted = await stage.heard(TrainingRunFinished), await stage.heard(ModelPromoted)
    await stage.world.publish(created(asking("polarity")), *imported(items), *labeled(items))
    await eventually(
        lambda: stage.service.database.fetchval("SELECT run FROM training_run WHERE state = 2"), timeout=30
    )
    await stage.world.publish(created(asking("tone", 2)))
    await ended.count(1)
    assert ended.events[0].message.training_run.state == api.TRAINING_RUN_STATE_CANCELLED
    active = "SELECT count(*) FROM training_run WHERE state IN (1, 2)"
    await eventually(lambda: stage.service.database.fetchval(active), 0)
    assert not promoted.events


# --- training runs


async def test_training_can_be_asked_for_and_called_off(stage: Stage) -> None:
    await stage.world.publish(created(), *imported(texts(8)))
    await eventually(lambda: stage.count("feature_state = 1"), 8)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stage.api.StartTraining(api.StartTrainingRequest(parent=PROJECT))
    assert from_rpc_error(refused.value).reason == "TOO_FEW_LABELS"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stage.api.GetTrainingRun(api.GetTrainingRunRequest(name=f"{PROJECT}/trainingRuns/none"))
    assert from_rpc_error(refused.value).reason == "TRAINING_RUN_NOT_FOUND"


async def test_a_run_that_lost_its_process_is_begun_again(
    world: World, crowd: Crowd, blobs: Blobs, settings: dict[str, Any]
) -> None:
    """The service goes away in the middle of a training; the row says RUNNING, and nobody runs it."""
    items = texts(200)
    running = "SELECT run FROM training_run WHERE state = 2"
    async with world.run(SERVICE, **settings) as service:
        await world.publish(created(), *imported(items))
        await eventually(
            lambda: service.database.fetchval("SELECT count(*) = 200 FROM item WHERE feature_state = 1")
        )
        await world.publish(*labeled(items))
        run = await eventually(lambda: service.database.fetchval(running))
    async with world.run(SERVICE, **settings) as service:
        assert await service.database.fetchval(running) == run
        ended = await world.listen(TrainingRunFinished)
        await ended.count(1, timeout=60)
        asked = api.GetTrainingRunRequest(name=f"{PROJECT}/trainingRuns/{run}")
        found = await service.stub(InferenceServiceStub).GetTrainingRun(asked)
        assert found.state == api.TRAINING_RUN_STATE_FINISHED
        assert await service.database.fetchval("SELECT attempts FROM training_run WHERE run = $1", run) == 2


# --- model versions from outside


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


async def test_a_model_of_ones_own_is_checked_promoted_and_asked(stage: Stage) -> None:
    await stage.world.publish(created(), *imported(texts(40)))
    await eventually(lambda: stage.count("feature_state = 1"), 40)
    data = head()
    for bad, header, words in (
        (b"PK\x03\x04 a zip", {}, "not ONNX"),
        (data, {"features": "none-such"}, "no feature extraction"),
        (data, {"class_ids": ["bad", "good", "ugly"]}, "no class ugly"),
        (data, {"expected_sha256": "0" * 64}, "another SHA-256"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await upload(stage, bad, **header)
        error = from_rpc_error(refused.value)
        assert (error.reason, words in error.message) == ("MODEL_INVALID", True), error.message

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stage.api.Predict(api.PredictRequest(parent=PROJECT, inputs=[api.PredictInput(text="fine")]))
    assert from_rpc_error(refused.value).reason == "NO_MODEL"

    version = await upload(stage, data, expected_sha256=hashlib.sha256(data).hexdigest())
    assert version.name == f"{PROJECT}/models/mine/versions/1"
    assert version.state == api.MODEL_VERSION_STATE_CANDIDATE
    again = await upload(stage, data, request_id="mine")
    assert again.name.endswith("/2")
    assert await upload(stage, data, request_id="mine") == again, "a repeated call adds no version"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await upload(stage, data + b"\0", request_id="mine")
    assert from_rpc_error(refused.value).reason == "REQUEST_ID_REUSED"

    scored = await stage.heard(ItemsScored)
    request = api.PromoteModelVersionRequest(name=version.name, request_id="once")
    assert (await stage.api.PromoteModelVersion(request)).state == api.MODEL_VERSION_STATE_SERVING
    assert (await stage.api.PromoteModelVersion(request)).name == version.name
    asked = 40 - len(await validation_keys(stage))
    await scored.until(lambda events: len(scores(events)) == asked)
    listed = await stage.api.ListModelVersions(
        api.ListModelVersionsRequest(parent=f"{PROJECT}/models/-", page_size=1)
    )
    rest = await stage.api.ListModelVersions(
        api.ListModelVersionsRequest(
            parent=f"{PROJECT}/models/-", page_size=1, page_token=listed.next_page_token
        )
    )
    assert [v.name[-1] for v in (*listed.model_versions, *rest.model_versions)] == ["2", "1"]

    answer = await stage.api.Predict(
        api.PredictRequest(
            parent=PROJECT,
            inputs=[
                api.PredictInput(text="a wonderful film"),
                api.PredictInput(item=f"{PROJECT}/items/good-0"),
                api.PredictInput(item=f"{PROJECT}/items/none"),
                api.PredictInput(image=b"no image"),
            ],
        )
    )
    assert answer.model_version == version.name
    kinds = [result.WhichOneof("result") for result in answer.results]
    assert kinds == ["prediction", "prediction", "error", "error"]
    assert sum(answer.results[0].prediction.probabilities) == pytest.approx(1.0, abs=1e-4)


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


async def test_a_class_that_is_gone_is_no_automatic_answer_and_stops_nothing(stage: Stage) -> None:
    """The serving version says "ugly", which the question had when it was uploaded, and has no more."""
    wider = project()
    wider.schema.questions[0].choice.classes.add(id="ugly")
    items = texts(100)
    await stage.world.publish(created(wider), *imported(items))
    await eventually(lambda: stage.count("feature_state = 1"), 100)
    version = await upload(stage, model_that_always_says(2, 3), class_ids=[*CLASSES, "ugly"])
    sample = await validation_keys(stage)
    await stage.world.publish(created(project(revision=2)))
    await stage.world.publish(*labeled([item for item in items if item.key in sample]))
    await eventually(lambda: stage.count("validation AND label IS NOT NULL"), len(sample))

    # Enough of the sample is labeled for a validation round to be looked at; then the open items are routed.
    await stage.api.PromoteModelVersion(api.PromoteModelVersionRequest(name=version.name))
    still_to_route = "open AND NOT validation AND routed_round < (SELECT route_round FROM project)"
    await eventually(lambda: stage.service.database.fetchval("SELECT routed_scores FROM project"), 1)
    await eventually(lambda: stage.count(still_to_route), 0)
    assert stage.crowd.asked, "people were asked about the sample"

    # And where a threshold is in force, as one may be since before the class went:
    await stage.service.database.execute(
        """WITH set AS (INSERT INTO threshold SELECT tenant, project, 1, 0.5, 0.1, 0.2, 1, 0.1, 40, 0, 0.1, 1, $1, 1
                        FROM project)
           UPDATE project SET threshold = 1, route_round = route_round + 1""",
        "mine",
    )
    await eventually(lambda: stage.count(still_to_route), 0)
    assert await stage.count("route = 1") == 0


async def test_people_are_asked_for_more_about_the_sample_once_a_model_waits(
    stage: Stage, dispatch: Dispatch
) -> None:
    """Their doubt in it counts as the model's error, so it is worth all the answers that the project allows."""
    items = texts(60)
    dispatch.away = 1  # the first try fails, and is made again
    await stage.world.publish(created(), *imported(items))
    await eventually(lambda: stage.count("feature_state = 1"), 60)
    sample = await validation_keys(stage)
    await stage.world.publish(*labeled(items))
    await eventually(lambda: stage.count("label IS NOT NULL"), 60)
    version = await upload(stage, head())
    assert not dispatch.wishes, "nobody waits for them"
    await stage.api.PromoteModelVersion(api.PromoteModelVersionRequest(name=version.name))
    await eventually(lambda: stage.count("answers_wished"), len(sample))
    assert {wish.item.rpartition("/")[2] for wish in dispatch.wishes} == sample, "people were 97 % sure"
    assert {(wish.answers_wanted, wish.priority) for wish in dispatch.wishes} == {(10, 1.0)}
    assert len(dispatch.wishes) == len(sample), "each is wished for once"


async def test_what_was_let_through_is_judged_by_its_answer_ever_after(
    world: World, crowd: Crowd, blobs: Blobs, settings: dict[str, Any]
) -> None:
    """The first version says "good", and people agree. Then they find that all is bad, and so does the second version:
    by itself it would pass, but not with what the first has let through."""
    items = [Item(key=f"good-{number}", text=f"film {number}") for number in range(150)]
    set_ = await world.listen(ThresholdSet)
    async with world.run(SERVICE, **settings) as service:
        stage = Stage(world, service, crowd, blobs)
        await world.publish(created(), *imported(items), *labeled(items))
        await eventually(lambda: stage.count("feature_state = 1 AND label IS NOT NULL"), 150)
        first = await upload(stage, model_that_always_says(1, 2, 0.999))
        await stage.api.PromoteModelVersion(api.PromoteModelVersionRequest(name=first.name))
        await set_.count(1, timeout=30)
        assert set_.events[0].message.threshold.score <= 1.0
        through = await answers_let_through(stage)
        assert through == dict.fromkeys(await validation_keys(stage), "good")

    crowd.truth_of = lambda _: "bad"
    async with world.run(SERVICE, **settings) as service:
        stage = Stage(world, service, crowd, blobs)
        second = await upload(stage, model_that_always_says(0, 2, 0.999))
        await stage.api.PromoteModelVersion(api.PromoteModelVersionRequest(name=second.name))
        await eventually(lambda: stage.count("scored_round = 2 AND predicted = 'bad'"), 150)
        await eventually(lambda: service.database.fetchval("SELECT routed_scores FROM project"), 2)
        assert await service.database.fetchval("SELECT threshold IS NULL FROM project")
        assert await answers_let_through(stage) == through, "nothing is forgotten, and nothing told anew"


async def test_a_project_whose_model_is_gone_holds_up_nobody_else(stage: Stage) -> None:
    for tenant in ("acme", "globex"):
        await stage.world.publish(created(tenant=tenant), *imported(texts(6), tenant=tenant))
    await eventually(lambda: stage.count("feature_state = 1"), 12)
    scored = await stage.heard(ItemsScored)
    version = await upload(stage, head())
    for file in (stage.world.folder / "blobs").rglob("*.onnx"):
        file.unlink()
    await stage.api.PromoteModelVersion(api.PromoteModelVersionRequest(name=version.name))
    other = Stage(stage.world, stage.service, stage.crowd, stage.blobs)
    other.api = stage.service.stub(InferenceServiceStub, tenant="globex")
    theirs = await upload(other, head())
    await other.api.PromoteModelVersion(api.PromoteModelVersionRequest(name=theirs.name))
    await scored.count(1)
    assert {event.tenant for event in scored.events} == {"globex"}


async def test_a_project_whose_statements_take_too_long_holds_up_nobody_else(
    world: World, crowd: Crowd, blobs: Blobs, settings: dict[str, Any]
) -> None:
    async with world.run(SERVICE, statement_timeout=1.0, **settings) as service:
        scored = await world.listen(ItemsScored)
        for tenant in ("acme", "globex"):
            await world.publish(created(tenant=tenant), *imported(texts(6), tenant=tenant))
        await eventually(
            lambda: service.database.fetchval("SELECT count(*) FROM item WHERE feature_state = 1"), 12
        )
        await service.database.execute(
            """CREATE FUNCTION wait_for_ever() RETURNS trigger LANGUAGE plpgsql AS
               'BEGIN PERFORM pg_sleep(600); RETURN NEW; END';
               CREATE TRIGGER wait_for_ever BEFORE UPDATE OF score ON item FOR EACH ROW
               WHEN (NEW.tenant = 'acme') EXECUTE FUNCTION wait_for_ever()"""
        )
        for tenant in ("acme", "globex"):
            one = Stage(world, service, crowd, blobs)
            one.api = service.stub(InferenceServiceStub, tenant=tenant)
            version = await upload(one, head())
            await one.api.PromoteModelVersion(api.PromoteModelVersionRequest(name=version.name))
        await scored.count(1, timeout=30)
        assert {event.tenant for event in scored.events} == {"globex"}


async def test_a_database_that_is_lost_is_asked_about_no_further_project(world: World) -> None:
    database = Database(await world.dsn("inference", SERVICE.migrations), "inference")
    await database.open()
    asked: list[str] = []

    class LosesIt(InferenceStore):
        async def serving(self, reader: Any, project: Any) -> Any:
            asked.append(project.tenant)
            await database.close()
            return await super().serving(reader, project)

    store, scorer = LosesIt(), Scorer(ModelStore(f"file://{world.folder}/blobs").get, 1)
    async with database.transaction() as tx:
        for tenant in ("acme", "globex"):
            await store.keep_project(tx, tenant, "reviews", 1, policy_of(project()))
        await tx.execute("UPDATE project SET serving_model = 'mine', serving_version = 1")
    consensus: Any = None  # nothing comes so far
    rounds = ScoringRounds(database, store, scorer, consensus, b"key", route_patience=30.0)
    with pytest.raises(OUTAGES):
        await rounds.step()
    assert asked == ["acme"]


async def test_another_tenant_sees_nothing(stage: Stage) -> None:
    await stage.world.publish(created(), *imported(texts(4)))
    await eventually(lambda: stage.count("feature_state = 1"), 4)
    version = await upload(stage, head())
    stranger = stage.service.stub(InferenceServiceStub, tenant="globex")
    for call in (
        stranger.GetRouting(api.GetRoutingRequest(project=PROJECT)),
        stranger.GetModelVersion(api.GetModelVersionRequest(name=version.name)),
        stranger.ListModelVersions(api.ListModelVersionsRequest(parent=f"{PROJECT}/models/-")),
        stranger.PromoteModelVersion(api.PromoteModelVersionRequest(name=version.name)),
        stranger.Predict(api.PredictRequest(parent=PROJECT, inputs=[api.PredictInput(text="x")])),
        stranger.StartTraining(api.StartTrainingRequest(parent=PROJECT)),
        stranger.StopAutoLabeling(api.StopAutoLabelingRequest(project=PROJECT, reason="mine")),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() == grpc.StatusCode.NOT_FOUND
