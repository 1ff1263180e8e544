"""Another question is routed than before: its own labels count, and no others."""

import pytest

from cairn.annotation.v1.annotation_store_pb2 import (
    Item,
)
from cairn.events.v1.inference_events_pb2 import (
    ModelPromoted,
    TrainingRunFinished,
)
from cairn.inference.v1 import inference_pb2 as api
from cairn.label.v1.label_value_pb2 import Answer
from cairn_kit.testing import eventually
from services.inference.tests.stage import (
    PROJECT,
    Stage,
    asking,
    created,
    head,
    imported,
    labeled,
    project,
    texts,
    upload,
)


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
