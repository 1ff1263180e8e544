"""What is looked up in a ledger is all that is read of it, also while the planner knows nothing of its tables."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cairn_audit.__main__ import SERVICE
from cairn_audit.store.ledger import SQL
from cairn_kit.database import Database
from cairn_kit.ids import uuid7
from cairn_kit.testing import World

ENTRIES, WANTED = 5_000, 50
FILL = """
WITH head AS (INSERT INTO ledger_head (tenant, size) VALUES ('acme', $1)),
nodes AS (INSERT INTO ledger_node SELECT 'acme', 1, n, sha256('n') FROM generate_series(0, $1 / 2) n)
INSERT INTO ledger_entry (tenant, index, event_id, record, leaf_hash)
SELECT 'acme', n, gen_random_uuid(), 'a record', sha256('n') FROM generate_series(0, $1 - 1) n
"""
EVENTS = [uuid7() for _ in range(WANTED)]
PLACES = [37 * n for n in range(WANTED)]


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        (SQL.known_events, (EVENTS,)),
        (SQL.nodes, ([1] * WANTED, PLACES, PLACES)),
    ],
    ids=["known_events", "nodes"],
)
@pytest.mark.parametrize("analyzed", [True, False])
async def test_a_ledger_is_looked_up_by_its_keys(
    world: World, statement: str, values: tuple[Any, ...], analyzed: bool
) -> None:
    database = await world.database("audit", SERVICE.migrations)
    await database.execute("ALTER TABLE ledger_entry SET (autovacuum_enabled = false)")
    await database.execute(FILL, ENTRIES)
    if analyzed:
        await database.execute("ANALYZE")
    assert await rows_read(database, statement, "acme", *values) <= 2 * WANTED


async def test_a_ledger_grows_without_a_look_at_all_of_it(world: World) -> None:
    database = await world.database("audit", SERVICE.migrations)
    async with (
        database.transaction() as tx
    ):  # one session: what it planned when the ledger was empty it goes on with
        await tx.execute(SQL.open_ledgers, ["acme"])
        for start in range(0, 10 * WANTED, WANTED):
            events = [uuid7() for _ in range(WANTED)]
            same = ([b"a record"] * WANTED, [bytes(32)] * WANTED, ["birds"] * WANTED)
            await tx.execute(SQL.append_entries, "acme", start, events, *same)
        read = "SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'ledger_entry'"
        assert await tx.fetchval(read) == 0


async def rows_read(database: Database, statement: str, *values: Any) -> int:
    """How many rows of the ledger a statement looks at, those that it leaves out again among them."""
    explained = await database.fetchval(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}", *values)
    left, read = [json.loads(explained)[0]["Plan"]], 0
    while left:
        step = left.pop()
        left += step.get("Plans", [])
        if step.get("Relation Name") in ("ledger_entry", "ledger_node"):
            read += step["Actual Loops"] * (step["Actual Rows"] + step.get("Rows Removed by Filter", 0))
    return read
