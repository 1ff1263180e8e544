"""What a look for items without features costs: one is made every second, whatever the projects hold."""

import json
from collections.abc import Iterator
from typing import Any

from cairn_inference.store.features import SQL
from cairn_kit.testing import eventually
from services.inference.tests.stage import Stage, asking, created, imported, texts


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


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
