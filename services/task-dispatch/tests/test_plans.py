"""No hot statement reads or sorts the queue: each reads what its rows ask for, in a project of any size, old or new."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from cairn_kit.database import Database
from cairn_kit.testing.servers import drop_database, fresh_database, postgres
from cairn_task_dispatch.config import PLAN_CACHE_MODE
from cairn_task_dispatch.domain.gold import draw_gold
from cairn_task_dispatch.domain.names import new_lease_id
from cairn_task_dispatch.store import ScanStart, facts, granting, leases, tasks

TENANT = "acme"
ROWS = 10  # tasks, leases or items that a statement is given
OLD, NEW = {"small": 2_000, "large": 20_000}, {"new": 3_000}
"""Tasks of projects that the planner's statistics know, and of one that was made since."""
OTHERS = 100
"""Tenants with five small projects each: by them the planner believes of each project that it is small."""
SPREAD, STEADY = "(n * 7919 % 1000) / 1000.0", "0.5"

FILL = """
WITH i AS (
  INSERT INTO item (tenant, project, item, imported, route)
  SELECT $1, $2, 'item-' || n, true, 'HUMAN' FROM generate_series(1, $3::int) AS n),
t AS (
  INSERT INTO task (tenant, project, task, item, kind, state, priority, place)
  SELECT $1, $2, gen_random_uuid(), 'item-' || n, CASE WHEN n % 50 = 0 THEN 'REVIEW' ELSE 'LABEL' END, 'OPEN',
         {priority}, nextval('task_place')
  FROM generate_series(1, $3::int) AS n RETURNING *),
s AS (
  INSERT INTO slot
  SELECT tenant, project, task, number, item, kind, skill, -priority, place, CASE number WHEN 1 THEN 'LEASED' ELSE 'OPEN' END
  FROM t CROSS JOIN generate_series(1, 2) AS number RETURNING *)
INSERT INTO lease (tenant, project, lease, task, slot, item, kind, labeler, state, expires_at, check_at)
SELECT tenant, project, gen_random_uuid(), task, number, item, kind, 'labelers/' || place % 200, 'LIVE',
       now() + interval '1 hour', now() + interval '1 hour' * random()
FROM s WHERE number = 1
"""
LEASE_FRONT = """
UPDATE slot SET state = 'LEASED' WHERE (tenant, project, task, number) IN (
  SELECT tenant, project, task, number FROM slot
  WHERE tenant = $1 AND project = $2 AND state = 'OPEN' ORDER BY urgency, place LIMIT $3)
"""


@dataclass(frozen=True, slots=True)
class Some:
    """Rows of one project, for statements to be asked of."""

    project: str
    tasks: list[UUID]
    items: list[str]
    leases: list[UUID]

    @property
    def keys(self) -> list[list[str]]:
        return [[TENANT] * ROWS, [self.project] * ROWS]


@dataclass(slots=True)
class Plan:
    """A plan that was carried out."""

    root: dict[str, Any]

    @property
    def nodes(self) -> list[dict[str, Any]]:
        found, left = [], [self.root]
        while left:
            node = left.pop()
            found.append(node)
            left += node.get("Plans", [])
        return found

    @property
    def pages(self) -> int:
        return int(self.root["Shared Hit Blocks"] + self.root["Shared Read Blocks"])

    @property
    def whole_tables(self) -> list[str]:
        return [
            n["Relation Name"] for n in self.nodes if n["Node Type"] == "Seq Scan" and "Relation Name" in n
        ]

    @property
    def sorted_rows(self) -> float:
        sorts = [n for n in self.nodes if n["Node Type"] in ("Sort", "Incremental Sort")]
        return max((child["Actual Rows"] for n in sorts for child in n["Plans"]), default=0)


def _lease_labels(some: Some) -> list[Any]:
    draw = draw_gold(0.1, ROWS, b"entropy")
    ids = [new_lease_id() for _ in range(ROWS)]
    return [
        TENANT,
        some.project,
        "labelers/bob",
        [""],
        ROWS,
        ids,
        draw.nth,
        draw.start,
        600,
        10,
        *ScanStart(),
    ]


def _grants(some: Some) -> list[Any]:
    ids = [new_lease_id() for _ in range(ROWS)]
    each = [["LABEL"] * ROWS, [""] * ROWS, ["labelers/bob"] * ROWS, [600] * ROWS, [10] * ROWS]
    return [TENANT, some.project, ids, some.tasks, [2] * ROWS, some.items, *each]


def _facts(some: Some) -> list[Any]:
    values = (True, False, "HUMAN", 1, 0.5, "NONE", 0, 0, "", False, 0, 0, 0, "", 0, 0.0)
    return [*some.keys, some.items, *([value] * ROWS for value in values)]


STATEMENTS = {
    "lock_front": (granting, lambda s: [TENANT, s.project, [""], ROWS, [f"labelers/{n}" for n in range(16)]]),
    "lease_labels": (granting, _lease_labels),
    "lease_given_back": (
        granting,
        lambda s: [TENANT, s.project, "labelers/bob", [""], ROWS, [new_lease_id() for _ in range(ROWS)], 600, 10],
    ),
    "queue_end": (granting, lambda s: [TENANT, s.project, [""]]),
    "lease_reviews": (
        granting,
        lambda s: [TENANT, s.project, "labelers/bob", ROWS, [new_lease_id() for _ in range(ROWS)], 600, 10],
    ),
    "claimed_tasks": (granting, lambda s: [TENANT, s.project, s.items, [False] * ROWS, [1] * ROWS]),
    "held_leases": (
        granting,
        lambda s: [TENANT, s.project, s.items, ["labelers/7"] * ROWS, s.items, ["labelers/7"] * ROWS],
    ),
    "grant_leases": (granting, _grants),
    "leases": (leases, lambda s: [*s.keys, s.leases]),
    "extend_leases": (leases, lambda s: [*s.keys, s.leases, [60] * ROWS, [10] * ROWS]),
    "siblings": (
        leases,
        lambda s: [*s.keys, ["labelers/7"] * ROWS, s.items, ["LABEL"] * ROWS, s.tasks, s.leases],
    ),
    "change_leases": (
        leases,
        lambda s: [*s.keys, s.leases, ["LIVE"] * ROWS, ["ANSWERED"] * ROWS, [""] * ROWS],
    ),
    "free_slots": (leases, lambda s: [*s.keys, s.tasks, [1] * ROWS]),
    "answer_slots": (leases, lambda s: [*s.keys, s.tasks, [1] * ROWS]),
    "fill_tasks": (leases, lambda s: [*s.keys, s.tasks]),
    "take_due_leases": (leases, lambda s: [ROWS, 5.0]),
    "lock_tasks": (tasks, lambda s: [*s.keys, s.tasks]),
    "lock_tasks_of_items": (tasks, lambda s: [*s.keys, s.items]),
    "count_slots": (tasks, lambda s: [*s.keys, s.tasks]),
    "change_tasks": (
        tasks,
        lambda s: [*s.keys, s.tasks, ["OPEN"] * ROWS, [""] * ROWS, [0.7] * ROWS, [""] * ROWS],
    ),
    "withdraw_slots": (tasks, lambda s: [*s.keys, s.tasks]),
    "offer_slots": (tasks, lambda s: [*s.keys, s.tasks, [0.7] * ROWS, [""] * ROWS]),
    "list_tasks": (tasks, lambda s: [TENANT, s.project, "", "OPEN", 0.3, 0, ROWS]),
    "list_tasks_of_item": (tasks, lambda s: [TENANT, s.project, "", "~", "infinity", 0, ROWS, s.items[0]]),
    "known_items": (facts, lambda s: [*s.keys, s.items]),
    "items": (facts, lambda s: [TENANT, s.project, s.items]),
    "route_items": (facts, lambda s: [*s.keys, s.items, ["HUMAN"] * ROWS, [2] * ROWS, [0.7] * ROWS]),
    "save_items": (facts, _facts),
}  # fmt: skip
MOST_PAGES = 600
"""What a statement may touch for ten rows: some thirty index and table pages each, of writes and foreign keys too."""


class Planner:
    """A database with old projects and a new one."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._dsn = ""

    def __enter__(self) -> Planner:
        self._runner.__enter__()
        self._runner.run(self._open())
        return self

    def __exit__(self, *error: object) -> None:
        self._runner.run(self._close())
        self._runner.__exit__(*error)

    async def _open(self) -> None:
        migrations = files("cairn_task_dispatch") / "sql" / "migrations"
        self._dsn = await fresh_database("task-dispatch", migrations)
        name = self._dsn.partition("@/")[2].partition("?")[0]
        # The rows are made to keep their foreign keys; checking each of them would take most of the time.
        admin = await asyncpg.connect(
            postgres().dsn(name),
            server_settings={"search_path": "task_dispatch", "session_replication_role": "replica"},
        )
        for project, size in OLD.items():
            await admin.execute(FILL.format(priority=SPREAD), TENANT, project, size)
        await admin.execute(FILL.format(priority=STEADY), TENANT, "steady", 5_000)
        for tenant in range(OTHERS):
            for project in range(5):
                await admin.execute(FILL.format(priority=SPREAD), f"tenant-{tenant}", f"project-{project}", 2)
        await admin.execute("VACUUM ANALYZE")
        for project, size in NEW.items():
            await admin.execute(FILL.format(priority=SPREAD), TENANT, project, size)
        await admin.close()
        self._database = Database(
            self._dsn, "task_dispatch", pool_min=0, pool_max=2, plan_cache_mode=PLAN_CACHE_MODE
        )
        await self._database.open()

    async def _close(self) -> None:
        await self._database.close()
        await drop_database(self._dsn)

    def plan(self, name: str, project: str) -> Plan:
        """Carry a statement out, and undo it."""
        return self._runner.run(self._plan(name, project))

    def run(self, statement: str, *values: Any) -> None:
        """Run a statement for good."""
        self._runner.run(self._database.execute(statement, *values))

    async def _plan(self, name: str, project: str) -> Plan:
        statements, values = STATEMENTS[name]
        async with self._database._pool.acquire() as connection:
            some = await self._some(connection, project)
            undone = connection.transaction()
            await connection.execute(f"PREPARE hot AS {getattr(statements.SQL, name)}")
            await undone.start()
            try:
                written = ", ".join(_written(value) for value in values(some))
                explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE hot({written})"
                return Plan(json.loads(await connection.fetchval(explain))[0]["Plan"])
            finally:
                await undone.rollback()
                await connection.execute("DEALLOCATE hot")

    async def _some(self, connection: Any, project: str) -> Some:
        rows = await connection.fetch(
            """SELECT task, item, lease FROM lease WHERE tenant = $1 AND project = $2 AND kind = 'LABEL'
               ORDER BY task LIMIT $3""",
            TENANT, project, ROWS,
        )  # fmt: skip
        assert len(rows) == ROWS
        return Some(project, *(list(column) for column in zip(*rows, strict=True)))


def _written(value: Any) -> str:
    """A value as SQL, its type left to the statement."""
    if isinstance(value, list):
        return "'{" + ",".join(f'"{element}"' for element in value) + "}'"
    return f"'{value}'"


@pytest.fixture(scope="module")
def planner() -> Iterator[Planner]:
    with Planner() as planner:
        yield planner


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_reads_what_its_rows_ask_for_and_nothing_else(planner, name):
    plans = {project: planner.plan(name, project) for project in (*OLD, *NEW)}
    for project, plan in plans.items():
        assert not plan.whole_tables, f"{project}: {name} reads all of {plan.whole_tables}"
        assert plan.sorted_rows <= 5 * ROWS, f"{project}: {name} sorts {plan.sorted_rows} rows"
        assert plan.pages <= MOST_PAGES, f"{project}: {name} touches {plan.pages} pages"
    small, large = plans["small"].pages, plans["large"].pages
    assert large <= 1.5 * small + 30, f"{name} grows with the project: {small} pages, then {large}"


@pytest.mark.parametrize("project", ["small", "large", "new"])
def test_a_lease_takes_from_the_front_of_the_queue(planner, project):
    for name in ("lock_front", "lease_labels"):
        scans = [node for node in planner.plan(name, project).nodes if node.get("Index Name") == "slot_open"]
        assert [scan["Actual Rows"] for scan in scans] == [ROWS], f"{name} looks at more slots than it takes"


def test_the_dead_at_the_front_of_the_queue_are_buried_where_they_lie_on_few_pages_too(planner):
    def stepped_over() -> int:
        planner.plan("lock_front", "steady")  # whoever looks first finds out who is dead
        [queue] = [
            n for n in planner.plan("lock_front", "steady").nodes if n.get("Index Name") == "slot_open"
        ]
        return int(queue["Shared Hit Blocks"] + queue["Shared Read Blocks"])

    fresh = stepped_over()
    planner.run(LEASE_FRONT, TENANT, "steady", 600)
    assert stepped_over() > fresh + 2
    planner.run("VACUUM slot")
    assert stepped_over() <= fresh + 1
