"""What is kept of a few items is found without a look at the rest of the project, be it known to the planner or new."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cairn_consensus.__main__ import SERVICE
from cairn_consensus.config import ConsensusSettings
from cairn_consensus.store import items, said
from cairn_kit.database import Database
from cairn_kit.testing import World

ITEMS = 5_000
FILL = (
    "INSERT INTO vote SELECT $1, $2, n, 'q', 'labelers/' || who, n || who, '' FROM {items}, generate_series(1, 3) who",
    "INSERT INTO score SELECT $1, $2, n, 'q', 'm', 1, '{{1}}', '{{a}}' FROM {items}",
    "INSERT INTO truth SELECT $1, $2, n, 'q', '', 1, now() FROM {items}",
    "INSERT INTO item (tenant, project, item) SELECT $1, $2, n FROM {items}",
    "INSERT INTO decision SELECT $1, $2, n, 'q', '', 1.0 FROM {items}",
)
OF_ITEMS = (
    *(said.SQL.votes_on, said.SQL.scores_of, said.SQL.truths_of, said.SQL.answered_among),
    *(items.SQL.items, items.SQL.decisions_of),
)
PAGES = (said.SQL.answered_items, said.SQL.items_with_truth)


async def fill(database: Database, project: str, items: int) -> None:
    numbers = f"(SELECT 'item-' || n FROM generate_series(1, {items}) n) AS numbered (n)"
    for statement in FILL:
        await database.execute(statement.format(items=numbers), "acme", project)


@pytest.fixture
async def database(world: World) -> Database:
    default = ConsensusSettings.model_fields["plan_cache_mode"].default
    return await world.database("consensus", SERVICE.migrations, plan_cache_mode=default)


def nodes(plan: Any) -> Iterator[Any]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


async def test_it_is_found_by_index(database: Database) -> None:
    await fill(database, "known", ITEMS)
    await database.execute("ANALYZE")
    await fill(database, "new", ITEMS)
    for project in ("known", "new"):
        some = [f"item-{n}" for n in range(0, ITEMS, ITEMS // 100)]
        for statement, values in (
            *((statement, (some,)) for statement in OF_ITEMS),
            *((statement, ("item-2", 100)) for statement in PAGES),
        ):
            said = await database.fetchval(
                f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", "acme", project, *values
            )
            for node in nodes(json.loads(said)[0]["Plan"]):
                assert "Seq Scan" not in node["Node Type"], (project, statement)
                assert node["Actual Rows"] <= 400, (project, statement)
