"""The service among real servers: what it announces, when, and what it never does."""

import io
from typing import Any

import grpc
import pytest
from PIL import Image

from cairn.annotation.v1.annotation_store_pb2 import (
    LABEL_SOURCE_AUTO,
    PROJECT_STATE_ACTIVE,
    Item,
    Project,
)
from cairn.audit.v1.audit_pb2 import Audit
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
from cairn.label.v1.label_schema_pb2 import NumberQuestion
from cairn.label.v1.label_value_pb2 import Answer, BlobRef
from cairn_inference.__main__ import SERVICE
from cairn_kit.errors import from_rpc_error
from cairn_kit.events import Event
from cairn_kit.testing import eventually
from services.inference.tests.stage import (
    PROJECT,
    Stage,
    answers_let_through,
    created,
    head,
    imported,
    labeled,
    project,
    routes,
    scores,
    texts,
    truth_of,
    upload,
    validation_keys,
)

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


# --- items


async def test_an_item_is_routed_once_however_often_it_is_told_of(stage: Stage) -> None:
    items = texts(6)
    routed = await stage.heard(ItemsRouted)
    # given items that are known, one of them told of twice at once
    await stage.world.publish(created(), *imported([*items[:3], items[0]]))
    await routed.until(lambda events: len(routes(events)) == 3)
    # when other events tell of some of them again, beside new ones
    await stage.world.publish(*imported(items[2:5]), *imported(items[1:6]))
    await routed.until(lambda events: len(routes(events)) == 6)
    # then each has one route
    told = [route.item for event in routed.events for route in event.message.routes]
    assert sorted(told) == sorted(f"{PROJECT}/items/{item.key}" for item in items)
    assert await stage.count("true") == 6


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
    async with stage.no_training():
        await stage.world.publish(*labeled(by_people))
        await eventually(
            lambda: stage.count("label IS NOT NULL AND feature_state = 1"), len(by_people), timeout=30
        )
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


async def test_a_project_that_was_made_a_moment_ago_is_worth_another_try(stage: Stage, blobs: Any) -> None:
    blobs.projects[PROJECT] = Project(name=PROJECT, state=PROJECT_STATE_ACTIVE)
    for call in (
        stage.api.GetRouting(api.GetRoutingRequest(project=PROJECT)),
        stage.api.Predict(api.PredictRequest(parent=PROJECT, inputs=[api.PredictInput(text="x")])),
        stage.api.StartTraining(api.StartTrainingRequest(parent=PROJECT)),
        upload(stage, head()),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert from_rpc_error(refused.value).reason == "PROJECT_NOT_HERE_YET"
