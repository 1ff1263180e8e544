"""What a look for items without features costs: one is made every second, whatever the projects hold."""

from cairn_inference.__main__ import SERVICE
from cairn_inference.store import InferenceStore
from cairn_inference.store.features import SQL
from cairn_inference.store.projects import SQL as SQL_OF_PROJECTS
from cairn_kit.testing import World, eventually
from services.inference.tests.plans import fill, nodes, rows_read
from services.inference.tests.stage import Stage, asking, created, imported, labeled, texts


async def test_a_project_that_routes_no_question_costs_nothing_however_many_items_it_has(
    stage: Stage,
) -> None:
    await stage.world.publish(created(asking("polarity", enabled=False)), *imported(texts(300)))
    await eventually(lambda: stage.count("feature_state = 0"), 300)

    steps = await nodes(stage.service.database, SQL.items_to_featurise, 256)
    assert any(step.get("Relation Name") == "item" for step in steps), "the look is at items"
    assert rows_read(steps, "item") == 0


async def test_whoever_comes_after_a_large_import_gets_features_beside_it(world: World) -> None:
    database = await world.database("inference", SERVICE.migrations)
    waiting = {"feature_state": "0", "body": "'a text'"}
    await fill(database, 20_000, feature_after="now() - interval '1 hour'", **waiting)
    await fill(database, 30, tenant="globex", **waiting)
    found = await InferenceStore().items_to_featurise(database, 256)
    assert len(found) == 256, "whoever waits alone has all of it"
    assert sum(item.ref.tenant == "globex" for item in found) == 30
    assert rows_read(await nodes(database, SQL.items_to_featurise, 256), "item") <= 256 + 30


async def test_features_wait_for_a_project_before_they_hold_items_that_its_labels_are_written_to(
    stage: Stage,
) -> None:
    items = texts(3)
    await stage.world.publish(created(), *imported(items))
    await eventually(lambda: stage.count("feature_state = 1"), 3)
    await stage.world.publish(*labeled(items))
    await eventually(lambda: stage.count("label IS NOT NULL"), 3)
    database = stage.service.database
    async with database.transaction() as tx:
        await tx.fetch(SQL_OF_PROJECTS.lock_projects, ["acme"], ["reviews"])
        await database.execute("UPDATE item SET feature_state = 0, body = 'once more'")
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        await eventually(lambda: tx.fetchval(waiting), 1)

        await tx.execute("SET LOCAL lock_timeout = '100ms'")
        await tx.execute("UPDATE item SET label_confidence = 0.5")
    await eventually(lambda: stage.count("feature_state = 1 AND label_confidence = 0.5"), 3)
