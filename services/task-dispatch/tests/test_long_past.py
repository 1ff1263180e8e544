"""Whoever has answered much of what is still open has all of it before them."""

from __future__ import annotations

import pytest

from cairn_task_dispatch.handlers.handing_out import ScanMemory
from cairn_task_dispatch.store import ScanStart

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

SKIP_ALL = """
INSERT INTO lease (tenant, project, lease, task, slot, item, kind, labeler, state, expires_at, check_at, ended_at)
SELECT tenant, project, gen_random_uuid(), task, 2, item, kind, $2, 'SKIPPED', now() + interval '1 hour', now(), now()
FROM task WHERE tenant = $1
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


async def test_a_labeler_who_has_answered_the_front_gets_what_lies_behind_it(crowded):
    leases = [*await crowded.lease("ann", 5), *await crowded.lease("ann", 5)]
    assert len({lease.item for lease in leases}) == 10
    behind = await crowded.database.fetchval(
        """SELECT count(*) FROM (
             SELECT item FROM task WHERE tenant = $1 ORDER BY priority DESC, place OFFSET 2000 LIMIT 10) AS next
           WHERE item = ANY ($2)""",
        crowded.tenant,
        [lease.item.rsplit("/", 1)[1] for lease in leases],
    )
    assert behind == 10


def test_a_long_search_is_not_repeated_for_twenty_times_as_long_as_it_took():
    now = [100.0]
    memory, key = ScanMemory(lambda: now[0]), ("acme", "birds", "labelers/ann")
    memory.took(key, 0.001, ScanStart(), ScanStart(-0.5, 7))
    assert memory.start(key) == ScanStart(), "a short search is cheap to repeat"
    memory.took(key, 0.5, ScanStart(), ScanStart(-0.5, 7))
    assert memory.start(key) == ScanStart(-0.5, 7)
    now[0] += 9
    memory.took(key, 0.001, ScanStart(-0.5, 7), ScanStart(-0.4, 2))
    assert memory.start(key) == ScanStart(-0.4, 2), "moved on, and the time from the long search runs on"
    now[0] += 2
    assert memory.start(key) == ScanStart(), "twenty times what it took are over"


def test_a_search_in_vain_is_not_repeated_either_but_soon_again_when_it_was_short():
    now = [100.0]
    memory, key, end = ScanMemory(lambda: now[0]), ("acme", "birds", "labelers/ann"), ScanStart(-0.1, 9)
    memory.took(key, 0.05, ScanStart(), end, in_vain=True)
    assert memory.start(key) == ScanStart()
    memory.took(key, 0.2, ScanStart(), end, in_vain=True)
    assert (memory.start(key), memory.in_vain(key)) == (end, True)
    memory.took(key, 0.001, end, ScanStart(-0.1, 12), in_vain=False)
    assert (memory.start(key), memory.in_vain(key)) == (ScanStart(-0.1, 12), True)
    now[0] += 5
    assert (memory.start(key), memory.in_vain(key)) == (ScanStart(), False)


async def test_who_has_seen_all_there_is_looks_at_its_end_alone_for_a_while(crowded, monkeypatch):
    monkeypatch.setattr(ScanMemory, "_LONG_IN_VAIN", 0.0)
    monkeypatch.setattr(ScanMemory, "_RESTS", 1e9)
    await crowded.database.execute(SKIP_ALL, crowded.tenant, "labelers/bob")
    looked = []
    look = crowded.store.lease_labels

    async def noted(*arguments):
        looked.append(arguments[-1])
        return await look(*arguments)

    monkeypatch.setattr(crowded.store, "lease_labels", noted)
    assert await crowded.lease("bob", 5) == []
    assert await crowded.lease("bob", 5) == []
    assert looked[0] == ScanStart()
    assert (
        looked[1:] == [crowded.handing_out._scans.start(("acme", "birds", "labelers/bob"))] != [ScanStart()]
    )
    await crowded.hear(crowded.words.imported("new"), crowded.words.routed("new", priority=0.0))
    [lease] = await crowded.lease("bob", 5)
    assert lease.item == crowded.words.item("new"), "what comes at the end is found at once"
    assert len(await crowded.lease("ann", 3)) == 3, "others search as ever"
