"""What statements read in an installation of many tenants, whatever PostgreSQL believes of a project's size.

Where tenants and projects are many the planner takes each project for a small one: the rows of a table, divided by how
many tenants there are, and by how many projects. Any index that begins with tenant and project then looks as good as the
right one, and a statement for ten rows of a large project may read all of it, at every call.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from typing import Any

import asyncpg

from cairn_kit.testing.servers import drop_database, fresh_database, postgres

TENANT = "acme"
PROJECTS = {"small": 2_000, "large": 20_000, "new": 3_000}
"""Numbers that a project's rows are made of, 1 to so many. The statistics, where there are any, know nothing of the last."""
_NUMBERS = "INSERT INTO number SELECT $1, $2, generate_series(1, $3::int)"
_OTHERS = """
INSERT INTO number
SELECT 'tenant-' || tenant, 'project-' || project, n
FROM generate_series(1, $1::int) tenant, generate_series(1, $2::int) project, generate_series(1, $3::int) n
"""
FEW_AND_MORE = (5, 50)
"""Rows that a statement is asked for."""
MOST_ROWS, MOST_PAGES = 4, 30
"""What it may look at and touch for each of them: an item may have some annotations or revisions, and each its index."""
GROWTH, GROWTH_OF_ROW = 1.5, 3
"""So many times the pages that it touches in a small project it may touch in a large one, and so many more for each row:
those that are looked up lie there on pages of their own."""
LARGEST_WHOLE = 200
"""Pages of a table that may be read as a whole, whatever is asked for."""
PLANNINGS = ("force_generic_plan", "force_custom_plan")
"""For any values, and for those that are given: a statement that is left to PostgreSQL is planned in either way."""


@dataclass(frozen=True, slots=True)
class Some:
    """Some numbers of one project, spread over it."""

    project: str
    count: int

    @property
    def numbers(self) -> list[int]:
        """The numbers, ascending."""
        step = PROJECTS[self.project] // self.count
        return list(range(1, 1 + self.count * step, step))

    @property
    def items(self) -> list[str]:
        """Keys of items that are named by them."""
        return [f"item-{n}" for n in self.numbers]

    @property
    def whose(self) -> list[list[str]]:
        """The tenant and the project, once for each number."""
        return [[TENANT] * self.count, [self.project] * self.count]

    def times(self, value: Any) -> list[Any]:
        """A value, once for each number."""
        return [value] * self.count


@dataclass(frozen=True, slots=True)
class Walk:
    """What one step of a plan did along an index."""

    rows: float
    """Those that it found."""
    pages: int
    """Those that were touched for it, also by what was looked up for each row."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan that was carried out."""

    root: dict[str, Any]

    @property
    def pages(self) -> int:
        """Pages of tables and indexes that were touched, each as often as it was."""
        return _pages(self.root)

    @property
    def found(self) -> float:
        """The most rows of a table that one step found, be it as those that an insert met there."""
        met = (float(step.get("Conflicting Tuples", 0)) for step in _within(self.root))
        return max((*met, *(float(step["Actual Loops"] * step["Actual Rows"]) for step in self._reads())))

    @property
    def rows(self) -> float:
        """The most rows that one step looked at, those that it left out again among them.

        Not of a whole table: how large that is PostgreSQL knows, and `pages` tells it.
        """
        return max(
            (
                float(step["Actual Loops"] * (step["Actual Rows"] + step.get("Rows Removed by Filter", 0)))
                for step in _within(self.root)
                if step["Node Type"] != "Seq Scan"
            ),
            default=0.0,
        )

    @property
    def whole_tables(self) -> dict[str, int]:
        """The tables that were read from their first page on, whatever is there, and how many of their pages."""
        return {
            step["Relation Name"]: _pages(step) for step in self._reads() if step["Node Type"] == "Seq Scan"
        }

    def walks(self, index: str) -> list[Walk]:
        """What was done along this index."""
        return [
            Walk(float(step["Actual Loops"] * step["Actual Rows"]), _pages(step))
            for step in self._reads()
            if step.get("Index Name") == index
        ]

    def _reads(self) -> Iterator[dict[str, Any]]:
        return (
            step
            for step in _within(self.root)
            if step["Node Type"].endswith("Scan") and "Relation Name" in step
        )


@dataclass(frozen=True, slots=True)
class Others:
    """So many other tenants, the projects of each, and the numbers that are in each; whether PostgreSQL ever counted."""

    tenants: int
    projects: int
    numbers: int
    analyzed: bool = True


INSTALLATIONS = {
    "many projects": Others(1_000, 5, 2),
    "many tenants": Others(3_000, 2, 1),
    "never analyzed": Others(100, 5, 2, analyzed=False),
}


class ManyTenants:
    """A service's database with a few projects of one tenant, beside many tenants of small ones."""

    def __init__(
        self, service: str, migrations: Traversable | None, fill: Sequence[str], others: Others
    ) -> None:
        """`fill` are statements that make rows of the table `number` (tenant, project, n).

        No trigger runs and no foreign key is checked: neither for them nor for what is carried out.
        """
        self._runner = asyncio.Runner()
        self._service = service
        self._migrations = migrations
        self._fill = fill
        self._others = others
        self._dsn = ""

    def __enter__(self) -> ManyTenants:
        self._runner.__enter__()
        self._runner.run(self._open())
        return self

    def __exit__(self, *error: object) -> None:
        self._runner.run(self._close())
        self._runner.__exit__(*error)

    def check(
        self,
        statement: str,
        values: Callable[[Some], Sequence[Any]],
        counts: Sequence[int] = FEW_AND_MORE,
        plannings: Sequence[str] = PLANNINGS,
        most_pages: int = MOST_PAGES,
    ) -> None:
        """Fail unless the statement finds what the values ask for, and looks at nothing else, however it is planned.

        `most_pages` are those that it may touch for each row, those of all indexes of what it writes among them.
        """
        for count in counts:
            for planning in plannings:
                plans = {
                    project: self.plan(statement, values(Some(project, count)), planning)
                    for project in PROJECTS
                }
                wrong = [
                    f"In project {project} it {fault}."
                    for project, plan in plans.items()
                    for fault in faults(plan, count, plans["small"], most_pages)
                ]
                if wrong:
                    raise AssertionError(" ".join([f"For {count}, {planning}:", *wrong]))

    def run(self, statement: str, values: Sequence[Any] = ()) -> None:
        """Run a statement for good."""
        self._runner.run(self._connection.execute(statement, *values))

    def plan(self, statement: str, values: Sequence[Any], planning: str) -> Plan:
        """Carry a statement out, planned in one of PLANNINGS, and undo it."""
        return self._runner.run(self._plan(statement, values, planning))

    async def _open(self) -> None:
        self._dsn = await fresh_database(self._service, self._migrations)
        self._connection = await asyncpg.connect(
            postgres().dsn(self._dsn.partition("@/")[2].partition("?")[0]),
            server_settings={
                "search_path": self._service.replace("-", "_"),
                "session_replication_role": "replica",
            },
        )
        *known, new = PROJECTS
        others = self._others
        await self._connection.execute("CREATE TEMPORARY TABLE number (tenant text, project text, n int)")
        await self._connection.execute(_OTHERS, others.tenants, others.projects, others.numbers)
        await self._write(known)
        if others.analyzed:
            await self._connection.execute("VACUUM ANALYZE")
        await self._write([new])

    async def _write(self, projects: Sequence[str]) -> None:
        for project in projects:
            await self._connection.execute(_NUMBERS, TENANT, project, PROJECTS[project])
        for statement in self._fill:
            await self._connection.execute(statement)
        await self._connection.execute("TRUNCATE number")

    async def _close(self) -> None:
        await self._connection.close()
        await drop_database(self._dsn)

    async def _plan(self, statement: str, values: Sequence[Any], planning: str) -> Plan:
        await self._connection.execute(f"PREPARE hot AS {statement}")
        undone = self._connection.transaction()
        await undone.start()
        try:
            await self._connection.execute(f"SET LOCAL plan_cache_mode = {planning}")
            written = f"({', '.join(_written(value) for value in values)})" if values else ""
            explain = f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE hot{written}"
            return Plan(json.loads(await self._connection.fetchval(explain))[0]["Plan"])
        finally:
            await undone.rollback()
            await self._connection.execute("DEALLOCATE hot")


def faults(plan: Plan, count: int, small: Plan, most_pages: int) -> Iterator[str]:
    """What is wrong with the plan for so many rows, beside that of the small project."""
    if plan.found < count:
        yield f"finds {plan.found}"
    if plan.rows > MOST_ROWS * count + 10:
        yield f"looks at {plan.rows} rows"
    if plan.pages > min(most_pages * count, GROWTH * small.pages + GROWTH_OF_ROW * count) + 30:
        yield f"touches {plan.pages} pages, and {small.pages} in the small one"
    for table, pages in plan.whole_tables.items():
        if pages > LARGEST_WHOLE:
            yield f"reads all of {table}, {pages} pages"


def _pages(step: dict[str, Any]) -> int:
    return int(step["Shared Hit Blocks"] + step["Shared Read Blocks"])


def _written(value: Any) -> str:
    """A value as SQL, its type left to the statement."""
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return "'{" + ",".join("NULL" if one is None else f'"{one}"' for one in value) + "}'"
    return f"'{value}'"


def _within(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _within(child)
