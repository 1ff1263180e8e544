"""What a look for items without features costs: one is made every second, whatever the projects hold."""

import json
from collections.abc import Iterator
from typing import Any

from cairn_inference.store.features import SQL
from cairn_inference.store.projects import SQL as SQL_OF_PROJECTS
from cairn_kit.testing import eventually
from services.inference.tests.stage import Stage, asking, created, imported, labeled, texts


async def test_a_project_that_routes_no_question_costs_nothing_however_many_items_it_has(
    stage: Stage,
) -> None:
    await stage.world.publish(created(asking("polarity", enabled=False)), *imported(texts(300)))
    await eventually(lambda: stage.count("feature_state = 0"), 300)

    explained = await stage.service.database.fetchval(
        f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {SQL.items_to_featurise.replace('$1', '256')}"
    )
    scans = [node for node in _nodes(json.loads(explained)[0]["Plan"]) if node.get("Relation Name") == "item"]
    assert scans, "the look is at items"
    assert [scan["Actual Loops"] * scan["Actual Rows"] for scan in scans] == [0] * len(scans)
    assert [scan.get("Rows Removed by Filter", 0) for scan in scans] == [0] * len(scans)


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


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
