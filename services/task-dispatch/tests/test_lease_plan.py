"""The cost of a lease is that of the first rows of one index, however large the project and long the labeler's past."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from cairn_task_dispatch.domain.gold import draw_gold
from cairn_task_dispatch.domain.names import new_lease_id
from cairn_task_dispatch.handlers.handing_out import ScanMemory
from cairn_task_dispatch.store import ScanStart
from cairn_task_dispatch.store.granting import SQL

ITEMS = 6_000

FILL = """
WITH i AS (
  INSERT INTO item (tenant, project, item, imported, route)
  SELECT $1, 'birds', 'item-' || n, true, 'HUMAN' FROM generate_series(1, $2::int) AS n RETURNING item),
t AS (
  INSERT INTO task (tenant, project, task, item, kind, state, priority, place)
  SELECT $1, 'birds', gen_random_uuid(), 'item-' || n, 'LABEL', 'OPEN', (n % 100) / 100.0, nextval('task_place')
  FROM generate_series(1, $2::int) AS n RETURNING *)
INSERT INTO slot SELECT tenant, project, task, number, item, kind, skill, -priority, place, 'OPEN'
FROM t CROSS JOIN generate_series(1, 2) AS number
"""
ANSWER_MOST_URGENT = """
WITH taken AS (
  UPDATE slot SET state = 'ANSWERED' WHERE (tenant, project, task, number) IN (
    SELECT tenant, project, task, number FROM slot WHERE tenant = $1 AND number = 1 ORDER BY urgency, place LIMIT $3)
  RETURNING *)
INSERT INTO lease (tenant, project, lease, task, slot, item, kind, labeler, state, expires_at, check_at, ended_at)
SELECT tenant, project, gen_random_uuid(), task, number, item, kind, $2, 'ANSWERED', now() + interval '1 hour', now(), now()
FROM taken
"""


@pytest.fixture
async def crowded(desk):
    """A project of many open tasks; ann has answered the 2,000 most urgent, which want one more answer each."""
    await desk.hear(desk.words.created())
    await desk.database.execute(FILL, desk.tenant, ITEMS)
    await desk.database.execute("ANALYZE")
    await desk.database.execute(ANSWER_MOST_URGENT, desk.tenant, "labelers/ann", 2000)
    await desk.database.execute("ANALYZE")
    return desk


def nodes(plan: dict[str, Any]):
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


async def plan_of(desk, labeler: str, count: int = 10) -> dict[str, Any]:
    draw = draw_gold(0.1, count, labeler.encode())
    async with desk.database.transaction() as tx:
        rows = await tx.fetch(
            "EXPLAIN (ANALYZE, FORMAT JSON) " + SQL.lease_labels,
            desk.tenant, "birds", labeler, [""], count, [new_lease_id() for _ in range(count)],
            draw.nth, draw.start, 600.0, 10.0, *ScanStart(),
        )  # fmt: skip
        raise _Undo(json.loads(rows[0][0])[0]["Plan"])


class _Undo(Exception):
    pass


async def test_a_lease_reads_the_front_of_the_queue_and_nothing_else(crowded):
    with pytest.raises(_Undo) as plan:
        await plan_of(crowded, "labelers/bob")
    scans = [node for node in nodes(plan.value.args[0]) if node.get("Relation Name") == "slot"]
    queue = [node for node in scans if node.get("Index Name") == "slot_open"]
    assert len(queue) == 1
    assert queue[0]["Actual Rows"] <= 40, "20 slots for 10 tasks, not the 12,000 there are"
    assert not [
        node
        for node in nodes(plan.value.args[0])
        if node["Node Type"] == "Seq Scan" and node.get("Relation Name")
    ]


async def test_a_labeler_who_answered_much_does_not_search_it_all_each_time(crowded):
    began = time.perf_counter()
    first = await crowded.lease("ann", 5)
    middle = time.perf_counter()
    again = await crowded.lease("ann", 5)
    ended = time.perf_counter()
    assert len({lease.item for lease in (*first, *again)}) == 10
    print(f"first search {1000 * (middle - began):.1f} ms, next {1000 * (ended - middle):.1f} ms")


def test_a_long_search_is_remembered_for_a_few_seconds_only():
    now = [100.0]
    memory, key = ScanMemory(lambda: now[0]), ("acme", "birds", "labelers/ann")
    memory.took(key, 0.001, ScanStart(), ScanStart(-0.5, 7))
    assert memory.start(key) == ScanStart(), "a short search is cheap to repeat"
    memory.took(key, 0.5, ScanStart(), ScanStart(-0.5, 7))
    assert memory.start(key) == ScanStart(-0.5, 7)
    memory.took(key, 0.001, ScanStart(-0.5, 7), ScanStart(-0.4, 2))
    assert memory.start(key) == ScanStart(-0.4, 2)
    now[0] += 6
    assert memory.start(key) == ScanStart()
