"""What the tests of what statements read share: a project of many items, and plans as PostgreSQL ran them."""

import json
from collections.abc import Iterator
from typing import Any

from cairn_inference.messages import policy_of
from cairn_inference.store import InferenceStore
from cairn_kit.database import Database
from services.inference.tests.stage import project


async def fill(
    database: Database, items: int, tenant: str = "acme", *, analyzed: bool = True, **columns: str
) -> None:
    """A project with items `0` to `items - 1`; other columns of theirs by expressions over the number `n`.

    Not `analyzed`, as they are right after an import, the planner knows nothing of them.
    """
    async with database.transaction() as tx:
        await InferenceStore().keep_project(tx, tenant, "reviews", 1, policy_of(project()))
    row = {
        "tenant": f"'{tenant}'", "project": "'reviews'", "item": "n::text", "validation": "false", "gold": "false",
        "hint": "0", "content": "1", "feature_state": "1", "route": "2", "route_revision": "1", "priority": "0.5",
        "open": "true",
    } | columns  # fmt: skip
    await database.execute(
        f"INSERT INTO item ({', '.join(row)}) SELECT {', '.join(row.values())} FROM generate_series(0, $1 - 1) n",
        items,
    )
    if analyzed:
        await database.execute("ANALYZE item")


async def nodes(reader: Any, statement: str, *values: Any) -> list[dict[str, Any]]:
    """The steps of a statement, as they were run."""
    explained = await reader.fetchval(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}", *values)
    return list(_within(json.loads(explained)[0]["Plan"]))


def rows_read(steps: list[dict[str, Any]], table: str) -> float:
    """How many rows of a table the steps looked at, those that they left out again among them."""
    return sum(
        step["Actual Loops"] * (step["Actual Rows"] + step.get("Rows Removed by Filter", 0))
        for step in steps
        if step.get("Relation Name") == table
    )


def _within(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _within(child)
