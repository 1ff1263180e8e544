"""Another question is routed than before: its own labels count, and no others."""

from typing import Any

import grpc
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
from cairn_inference.__main__ import SERVICE
from cairn_inference.messages import policy_of
from cairn_inference.question_moves import QuestionMoves
from cairn_inference.store import InferenceStore
from cairn_inference.store.projects import SQL
from cairn_kit.database import Database
from cairn_kit.errors import from_rpc_error
from cairn_kit.testing import World, eventually
from services.inference.tests.plans import fill, nodes, rows_read
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
    await eventually(lambda: stage.count("score IS NOT NULL"), 0)
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


async def test_labels_that_come_while_items_follow_are_taken_up_and_nothing_is_learned_before(
    stage: Stage,
) -> None:
    items = texts(60)
    execute, fetchval = stage.service.database.execute, stage.service.database.fetchval
    await stage.world.publish(created(asking("polarity")), *imported(items), *labeled(items[:10], revision=2))
    await eventually(lambda: stage.count("label_source = 2 AND feature_state = 1"), 10)
    async with stage.service.database.transaction() as older:  # nothing follows while it runs
        await older.fetchval("SELECT 1")
        await stage.world.publish(created(asking("tone", 2)))
        await eventually(lambda: fetchval("SELECT moving_since IS NOT NULL FROM project"), True)
        version = await upload(stage, head())
        await stage.api.PromoteModelVersion(api.PromoteModelVersionRequest(name=version.name))
        await stage.world.publish(*labeled(items, question="tone"), *labeled(items[:3], revision=3))
        await eventually(lambda: fetchval("SELECT count(*) FROM other_label"), 63)
        assert await stage.count("label_source = 2 AND label_revision = 2") == 10, (
            "each label is of one question"
        )
        await execute("UPDATE project SET labels_changed = true")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stage.api.StartTraining(api.StartTrainingRequest(parent=PROJECT))
        assert from_rpc_error(refused.value).reason == "TOO_FEW_LABELS"
        store, database = InferenceStore(), stage.service.database
        assert await store.projects_to_train(database, 0.0) == []
        assert await store.projects_with_work(database) == []
        assert await stage.count("score IS NOT NULL") == 0

    await eventually(lambda: fetchval("SELECT moving_from IS NULL FROM project"), True)
    assert await stage.count("label_source = 2 AND label_revision = 1 AND NOT open") == 60
    aside = "SELECT count(*) FROM other_label WHERE question = 'polarity' AND revision = $1"
    assert (await fetchval(aside, 3), await fetchval(aside, 2)) == (3, 7), "of each item the newest"
    await eventually(lambda: stage.count("score IS NOT NULL"), 60)


LABELED = {
    "label": "CASE n % 2 WHEN 0 THEN 'good' ELSE 'bad' END", "label_source": "2", "label_revision": "n + 1",
    "label_confidence": "0.9", "open": "false", "scored_round": "1", "score": "0.9",
}  # fmt: skip


async def moving(world: World, items: int) -> Database:
    """A project whose routed question was polarity, with labels, and is now tone, with one label."""
    database, store = await world.database("inference", SERVICE.migrations), InferenceStore()
    await fill(database, items, **LABELED)
    await database.execute(
        "INSERT INTO other_label VALUES ('acme', 'reviews', 'tone', '7', 'good', 2, 0.8, 3)"
    )
    async with database.transaction() as tx:
        await store.keep_project(tx, "acme", "reviews", 2, policy_of(asking("tone", 2)))
        found = await store.project_for_update(tx, "acme", "reviews")
        assert found is not None
        await store.begin_move(tx, found, "tone")
    return database


async def follow(database: Database) -> None:
    moves = QuestionMoves(database, InferenceStore())
    while await moves.step():
        pass


async def test_items_follow_in_chunks_and_whoever_comes_after_a_kill_goes_on(world: World) -> None:
    database = await moving(world, 1200)
    followed = "SELECT count(*) FROM item WHERE scored_round = 0"
    killed = QuestionMoves(database, InferenceStore())
    assert await killed.step() == 1, "it is seen"
    assert await killed.step() == 1
    assert await database.fetchval(followed) == 500, "a chunk is a transaction"
    assert await database.fetchval("SELECT moving_from FROM project") == "polarity"

    await follow(database)
    assert await database.fetchval(followed) == 1200
    assert await database.fetchval("SELECT moving_from IS NULL AND labels_changed FROM project")
    [kept] = await database.fetch("SELECT item, label, label_revision FROM item WHERE label_source > 0")
    assert tuple(kept) == ("7", "good", 3)
    assert await database.fetchval("SELECT count(*) FROM item WHERE open") == 1199
    assert await database.fetchval("SELECT count(*) FROM other_label WHERE question = 'polarity'") == 1200


async def test_a_question_that_is_chosen_while_items_follow_another_is_followed_next(world: World) -> None:
    database = await moving(world, 1200)
    before: list[Any] = await database.fetch("SELECT item, label, label_revision FROM item ORDER BY item")
    moves = QuestionMoves(database, InferenceStore())
    await moves.step()
    await moves.step()
    async with database.transaction() as tx:
        await InferenceStore().keep_project(tx, "acme", "reviews", 3, policy_of(asking("polarity", 3)))
    await follow(database)
    assert await database.fetchval("SELECT routed_question FROM project") == "polarity"
    assert await database.fetchval("SELECT moving_from IS NULL FROM project")
    assert await database.fetch("SELECT item, label, label_revision FROM item ORDER BY item") == before
    assert await database.fetchval("SELECT count(*) FROM other_label WHERE question = 'tone'") == 1


async def test_a_chunk_is_all_that_is_read_of_a_large_project(world: World) -> None:
    database = await moving(world, 100_000)
    async with database.transaction() as tx:
        steps = await nodes(tx, SQL.move_items, "acme", "reviews", "polarity", "tone", "", 500)
    assert rows_read(steps, "item") <= 2 * 500, "to find them, and to write them"
