"""What is looked up in a ledger or a sample is all that is read of it, also while the planner knows nothing of either."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from cairn_audit.__main__ import SERVICE
from cairn_audit.domain.names import AuditId, Project, Tenant
from cairn_audit.handlers import Handlers
from cairn_audit.store import AuditKey, AuditStore
from cairn_audit.store.deleting import PARTS
from cairn_audit.store.ledger import SQL
from cairn_kit.database import Database, DeletedProject
from cairn_kit.ids import uuid7
from cairn_kit.testing import World

ENTRIES, WANTED = 5_000, 50
FILL = """
WITH head AS (INSERT INTO ledger_head (tenant, size) VALUES ('acme', $1)),
nodes AS (INSERT INTO ledger_node SELECT 'acme', 1, n, sha256('n') FROM generate_series(0, $1 / 2) n)
INSERT INTO ledger_entry (tenant, index, event_id, record, leaf_hash)
SELECT 'acme', n, gen_random_uuid(), 'a record', sha256('n') FROM generate_series(0, $1 - 1) n
"""
DRAWN = 2_000
DRAW = """
WITH begun AS (
  INSERT INTO audit (tenant, project, audit, question, source, max_error, confidence, seed)
  VALUES ('acme', 'birds', 'a', 'species', 0, 0.05, 0.95, 1)),
s AS (INSERT INTO stratum VALUES ('acme', 'birds', 'a', 0, 1, '', 0.0, 1.0, $1)),
drawn AS (
  INSERT INTO sample (tenant, project, audit, item, stratum, label_revision, label_answer, task, reviews_asked, outcome)
  SELECT 'acme', 'birds', 'a', 'item-' || n, 0, 1, 'x', 'task-' || n, 1, CASE n WHEN 1 THEN 'open' ELSE 'right' END
  FROM generate_series(1, $1) n)
INSERT INTO finding (tenant, project, audit, finding, item, judgement, review_answer, reviewer, annotation)
SELECT 'acme', 'birds', 'a', 'finding-' || n, 'item-' || n, 'right', 'x', 'labelers/ann', 'an annotation'
FROM generate_series(2, $1) n
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


async def test_whether_an_audit_has_ended_is_told_by_one_of_its_samples(world: World) -> None:
    database, store = await world.database("audit", SERVICE.migrations), AuditStore()
    await database.execute(DRAW, DRAWN)
    async with database.transaction() as tx:
        audit = await store.lock_audit(tx, AuditKey(Tenant("acme"), Project("birds"), AuditId("a")))
        assert audit is not None
        await Handlers(database, store).conclude(tx, audit)
        read = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'sample'"
        assert await tx.fetchval(read) <= 1


async def test_samples_are_deleted_without_a_look_for_the_findings_that_were_deleted_before(
    world: World,
) -> None:
    database = await world.database("audit", SERVICE.migrations)
    await database.execute(DRAW, DRAWN)
    which = DeletedProject("acme", "birds", uuid7(), datetime.now(UTC))
    findings, samples = PARTS[:2]
    async with database.transaction() as tx:
        assert (await findings.delete(tx, which, "", DRAWN)).count == DRAWN - 1
    async with database.transaction() as tx:
        looks = "SELECT seq_scan + idx_scan FROM pg_stat_xact_user_tables WHERE relname = 'finding'"
        before = await tx.fetchval(looks)
        assert (await samples.delete(tx, which, "", DRAWN)).count == DRAWN
        assert await tx.fetchval(looks) == before


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
