"""No hot statement reads or sorts the queue: each reads what its rows ask for, in projects of any size, beside many."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import md5
from typing import Any
from uuid import UUID

import pytest

from cairn_kit.testing.plans import (
    FEW_AND_MORE,
    INSTALLATIONS,
    PROJECTS,
    TENANT,
    ManyTenants,
    Some,
)
from cairn_task_dispatch.__main__ import SERVICE
from cairn_task_dispatch.config import PLAN_CACHE_MODE
from cairn_task_dispatch.domain.gold import draw_gold
from cairn_task_dispatch.domain.names import new_lease_id
from cairn_task_dispatch.handlers import deleting
from cairn_task_dispatch.store import ScanStart, facts, granting, leases, tasks

SPREAD, STEADY = "(n * 7919 % 1000) / 1000.0", "0.5"
"""Priorities of tasks: of all sorts, or all the same."""
REVIEWED = 20
"""Each so many'th item has a review beside its label. The first has, and with it all that are asked for."""
FILL = """
WITH i AS (
  INSERT INTO item (tenant, project, item, imported, route)
  SELECT tenant, project, 'item-' || n, true, 'HUMAN' FROM number),
t AS (
  INSERT INTO task (tenant, project, task, item, kind, state, priority, place)
  SELECT tenant, project, md5(tenant || project || n || kind)::uuid, 'item-' || n, kind, 'OPEN', {priority},
         nextval('task_place')
  FROM number CROSS JOIN unnest(ARRAY['LABEL', 'REVIEW']) AS kind
  WHERE kind = 'LABEL' OR n % {reviewed} = 1 RETURNING *),
s AS (
  INSERT INTO slot
  SELECT tenant, project, task, number, item, kind, skill, -priority, place, CASE number WHEN 1 THEN 'LEASED' ELSE 'OPEN' END
  FROM t CROSS JOIN generate_series(1, 2) AS number RETURNING *)
INSERT INTO lease (tenant, project, lease, task, slot, item, kind, labeler, state, expires_at, check_at)
SELECT tenant, project, task, task, number, item, kind, 'labelers/' || split_part(item, '-', 2)::int % 200, 'LIVE',
       now() + interval '1 hour', now() + interval '1 hour' * (random() - 0.1)
FROM s WHERE number = 1
"""
GIVE_BACK = """
INSERT INTO lease (tenant, project, lease, task, slot, item, kind, labeler, state, expires_at, check_at, ended_at)
SELECT tenant, project, gen_random_uuid(), md5(tenant || project || n || 'LABEL')::uuid, 2, 'item-' || n, 'LABEL',
       'labelers/gave-' || many, 'RELEASED', now() + interval '1 hour', now(), now()
FROM number JOIN unnest(ARRAY[{counts}]) AS many ON n <= many
"""
"""Labelers who gave back as many leases as are asked for, named by how many."""
LEASE_FRONT = """
UPDATE slot SET state = 'LEASED' WHERE (tenant, project, task, number) IN (
  SELECT tenant, project, task, number FROM slot
  WHERE tenant = $1 AND project = $2 AND state = 'OPEN' ORDER BY urgency, place LIMIT $3)
"""


def fill(priority: str) -> list[str]:
    """Statements that make items with their tasks, slots and leases."""
    counts = ", ".join(map(str, FEW_AND_MORE))
    return [FILL.format(priority=priority, reviewed=REVIEWED), GIVE_BACK.format(counts=counts)]


def _tasks(some: Some, kind: str = "LABEL") -> list[UUID]:
    """Tasks of the items. The leases on their first slots have the same ids."""
    return [UUID(md5(f"{TENANT}{some.project}{n}{kind}".encode()).hexdigest()) for n in some.numbers]


def _holders(some: Some) -> list[str]:
    return [f"labelers/{n % 200}" for n in some.numbers]


def _new_leases(some: Some) -> list[UUID]:
    return [new_lease_id() for _ in some.numbers]


def _lock_front(some: Some) -> list[Any]:
    return [TENANT, some.project, [""], some.count, [f"labelers/{n}" for n in range(16)]]


def _lease_labels(some: Some) -> list[Any]:
    draw = draw_gold(0.1, some.count, b"entropy")
    wanted = [some.count, _new_leases(some), draw.nth, draw.start, 600, 10]
    return [TENANT, some.project, "labelers/bob", [""], *wanted, *ScanStart()]


def _lease_given_back(some: Some) -> list[Any]:
    labeler = f"labelers/gave-{some.count}"
    return [TENANT, some.project, labeler, [""], some.count, _new_leases(some), 600, 10]


def _lease_reviews(some: Some) -> list[Any]:
    return [TENANT, some.project, "labelers/bob", some.count, _new_leases(some), 600, 10]


def _grants(some: Some) -> list[Any]:
    each = [some.times(value) for value in ("LABEL", "", "labelers/bob", 600, 10)]
    return [TENANT, some.project, _new_leases(some), _tasks(some), some.times(2), some.items, *each]


def _siblings(some: Some, kind: str) -> list[Any]:
    """Other leases of those who hold a lease of this kind."""
    others = _new_leases(some)
    return [*some.whose, _holders(some), some.items, some.times(kind), _tasks(some, kind), others]


def _facts(some: Some) -> list[Any]:
    values = (True, False, "HUMAN", 1, 0.5, "NONE", 0, 0, "", False, 0, 0, 0, "", 0, 0.0)
    return [*some.whose, some.items, *map(some.times, values)]


ONE = {
    "queue_end": (granting, lambda s: [TENANT, s.project, [""]]),
    "list_tasks_of_item": (tasks, lambda s: [TENANT, s.project, "", "~", "infinity", 0, 10, s.items[0]]),
}
"""Statements that one thing is told to."""
SEVERAL = {
    "count_gold_leases": (tasks, lambda s: [*s.whose, _tasks(s)]),
    "lock_front": (granting, _lock_front),
    "lease_labels": (granting, _lease_labels),
    "lease_given_back": (granting, _lease_given_back),
    "lease_reviews": (granting, _lease_reviews),
    "claimed_tasks": (granting, lambda s: [TENANT, s.project, s.items, s.times(False), s.times(1)]),
    "held_leases": (granting, lambda s: [TENANT, s.project, *2 * [s.items, _holders(s)]]),
    "grant_leases": (granting, _grants),
    "leases": (leases, lambda s: [*s.whose, _tasks(s)]),
    "extend_leases": (leases, lambda s: [*s.whose, _tasks(s), s.times(60), s.times(10)]),
    "siblings": (leases, lambda s: _siblings(s, "LABEL")),
    "change_leases": (
        leases,
        lambda s: [*s.whose, _tasks(s), s.times("LIVE"), s.times("ANSWERED"), s.times("")],
    ),
    "free_slots": (leases, lambda s: [*s.whose, _tasks(s), s.times(1)]),
    "answer_slots": (leases, lambda s: [*s.whose, _tasks(s), s.times(1)]),
    "fill_tasks": (leases, lambda s: [*s.whose, _tasks(s)]),
    "take_due_leases": (leases, lambda s: [s.count, 5.0]),
    "lock_tasks": (tasks, lambda s: [*s.whose, _tasks(s)]),
    "lock_tasks_of_items": (tasks, lambda s: [*s.whose, s.items]),
    "count_slots": (tasks, lambda s: [*s.whose, _tasks(s)]),
    "change_tasks": (
        tasks,
        lambda s: [*s.whose, _tasks(s), s.times("OPEN"), s.times(""), s.times(0.7), s.times("")],
    ),
    "withdraw_slots": (tasks, lambda s: [*s.whose, _tasks(s)]),
    "offer_slots": (tasks, lambda s: [*s.whose, _tasks(s), s.times(0.7), s.times("")]),
    "list_tasks": (tasks, lambda s: [TENANT, s.project, "", "OPEN", 0.3, 0, s.count]),
    "known_items": (facts, lambda s: [*s.whose, s.items]),
    "items": (facts, lambda s: [TENANT, s.project, s.items]),
    "route_items": (facts, lambda s: [*s.whose, s.items, s.times("HUMAN"), s.times(2), s.times(0.7)]),
    "save_items": (facts, _facts),
}
"""Statements for some rows. The first looks also at what the others undid, were it not the first."""
AT_HAND = ("lease_labels", "lease_given_back", "lease_reviews")
"""Those that join what they have read already row by row: of many rows that counts for more than what is read for them."""
MOST_PAGES = 60
"""What is touched for a row: a lease is in eight indexes, and its slot in two."""
STATEMENTS = {name: (getattr(store.SQL, name), values) for name, (store, values) in (ONE | SEVERAL).items()}
STATEMENTS["siblings of reviews"] = leases.SQL.siblings, lambda s: _siblings(s, "REVIEW")
STATEMENTS |= {
    f"part {place} of a deletion": (
        part._statement,
        lambda s, part=part: [TENANT, s.project, part._first, s.count],
    )
    for place, part in enumerate(deleting.PARTS)
}


@pytest.fixture(scope="module", params=INSTALLATIONS)
def tables(request: pytest.FixtureRequest) -> Iterator[ManyTenants]:
    with ManyTenants(
        "task-dispatch", SERVICE.migrations, fill(SPREAD), INSTALLATIONS[request.param]
    ) as tables:
        yield tables


@pytest.fixture
def steady() -> Iterator[ManyTenants]:
    with ManyTenants(
        "task-dispatch", SERVICE.migrations, fill(STEADY), INSTALLATIONS["many projects"]
    ) as steady:
        yield steady


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_reads_what_its_rows_ask_for_and_nothing_else(tables: ManyTenants, name: str) -> None:
    counts = (1,) if name in ONE else FEW_AND_MORE[: 1 if name in AT_HAND else None]
    tables.check(*STATEMENTS[name], counts, plannings=[PLAN_CACHE_MODE], most_pages=MOST_PAGES)


@pytest.mark.parametrize("project", PROJECTS)
@pytest.mark.parametrize("name", ["lock_front", "lease_labels"])
def test_a_lease_takes_from_the_front_of_the_queue(tables: ManyTenants, name: str, project: str) -> None:
    statement, values = STATEMENTS[name]
    for count in FEW_AND_MORE:
        [walk] = tables.plan(statement, values(Some(project, count)), PLAN_CACHE_MODE).walks("slot_open")
        assert walk.rows == count, "it looks at more slots than it takes"


def test_the_dead_at_the_front_of_the_queue_are_buried_where_they_lie_on_few_pages_too(
    steady: ManyTenants,
) -> None:
    statement, values = STATEMENTS["lock_front"]

    def stepped_over() -> int:
        for _ in range(2):  # whoever looks first finds out who is dead
            [walk] = steady.plan(statement, values(Some("small", 10)), PLAN_CACHE_MODE).walks("slot_open")
        return walk.pages

    fresh = stepped_over()
    steady.run(LEASE_FRONT, [TENANT, "small", 600])
    assert stepped_over() > fresh + 2
    steady.run("VACUUM slot")
    assert stepped_over() <= fresh + 1
