"""Models of others, training runs, and what a version that serves is asked."""

import hashlib
from typing import Any

import grpc
import pytest

from cairn.annotation.v1.annotation_store_pb2 import (
    Item,
)
from cairn.events.v1.inference_events_pb2 import (
    ItemsScored,
    ThresholdSet,
    TrainingRunFinished,
)
from cairn.inference.v1 import inference_pb2 as api
from cairn.inference.v1.inference_pb2_grpc import InferenceServiceStub
from cairn_inference.__main__ import SERVICE
from cairn_kit.errors import from_rpc_error
from cairn_kit.testing import World, eventually
from services.inference.tests.stage import (
    CLASSES,
    PROJECT,
    Blobs,
    Crowd,
    Dispatch,
    Stage,
    answers_let_through,
    created,
    head,
    imported,
    labeled,
    model_that_always_says,
    project,
    scores,
    texts,
    upload,
    validation_keys,
)

# --- training runs


async def test_training_can_be_asked_for_and_called_off(stage: Stage) -> None:
    await stage.world.publish(created(), *imported(texts(8)))
    await eventually(lambda: stage.count("feature_state = 1"), 8)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stage.api.StartTraining(api.StartTrainingRequest(parent=PROJECT))
    assert from_rpc_error(refused.value).reason == "TOO_FEW_LABELS"
    await stage.world.publish(created(project(2, enabled=False)))
    await eventually(lambda: stage.service.database.fetchval("SELECT question FROM project"), "")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stage.api.StartTraining(api.StartTrainingRequest(parent=PROJECT))
    assert from_rpc_error(refused.value).reason == "ROUTING_OFF"
    assert "routing policy is not enabled" in str(refused.value.details())
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


async def test_an_attempt_that_another_process_has_superseded_makes_no_version(
    world: World, crowd: Crowd, blobs: Blobs, settings: dict[str, Any]
) -> None:
    """A process that lost the trainer's lock may not have heard of it yet; its successor begins the run again."""
    items = texts(200)
    async with world.run(SERVICE, **settings) as service:
        await world.publish(created(), *imported(items))
        await eventually(
            lambda: service.database.fetchval("SELECT count(*) = 200 FROM item WHERE feature_state = 1")
        )
        await world.publish(*labeled(items))
        superseded = "UPDATE training_run SET attempts = 2 WHERE state = 2 AND attempts = 1 RETURNING run"
        await eventually(lambda: service.database.fetchval(superseded))
        ended = await world.listen(TrainingRunFinished)
        await ended.count(1, timeout=60)
        assert await service.database.fetchval("SELECT attempts FROM training_run") == 3
        assert await service.database.fetchval("SELECT count(*) FROM model_version") == 1


# --- model versions from outside


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
