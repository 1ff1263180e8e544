"""Tables of events by day: what is old goes with its table, which costs nothing, and not row by row.

A table partitioned by ranges of UUIDv7, whose first 48 bits are the time. Nothing depends on a day being there in time:
the default partition takes what has none.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from cairn_kit.database.pool import Database
from cairn_kit.database.transaction import Transaction
from cairn_kit.ids import first_uuid7_at
from cairn_kit.telemetry.logs import get_logger

_log = get_logger(__name__)
_DAYS_AHEAD = 3
_DAY = timedelta(days=1)
_FIRST = UUID(int=0)
_PATIENCE = "2s"
"""How long a change of the partitions waits for those who use the table, who meanwhile wait behind it."""
_BOUNDS = re.compile(r"FROM \((MINVALUE|'[0-9a-f-]{36}')\) TO \('([0-9a-f-]{36})'\)")

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 2)), set_config('lock_timeout', $2, true)"
_PARTITIONS = """
SELECT child.relname AS name, pg_get_expr(child.relpartbound, child.oid) AS bounds
FROM pg_inherits
JOIN pg_class child ON child.oid = inhrelid
WHERE inhparent = to_regclass($1)
"""


class DayPartitions:
    """The partitions of one table of the service's schema: ``<table>_20260131`` holds what was made on that day (UTC)."""

    def __init__(self, database: Database, table: str, storage: str = "") -> None:
        self._database = database
        self._table = table
        self._storage = f" WITH ({storage})" if storage else ""

    async def make_ready(self, now: datetime) -> None:
        """Make the partitions of the days that come next. One that cannot be had now is made another time."""
        today = datetime(now.year, now.month, now.day, tzinfo=UTC)
        for ahead in range(_DAYS_AHEAD + 1):
            day = today + ahead * _DAY
            try:
                async with self._database.transaction() as tx:
                    await self._make(tx, day)
            except (asyncpg.LockNotAvailableError, asyncpg.CheckViolationError) as error:
                _log.info("partition.later", table=self._table, day=f"{day:%Y-%m-%d}", why=str(error))

    async def _make(self, tx: Transaction, day: datetime) -> None:
        await self._lock(tx)
        first, end = first_uuid7_at(day), first_uuid7_at(day + _DAY)
        if any(lower <= first and end <= upper for lower, upper in (await self._bounds(tx)).values()):
            return
        name = f"{self._table}_{day:%Y%m%d}"
        await tx.execute(
            f"CREATE TABLE {name} (LIKE {self._table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS){self._storage}"
        )
        await tx.execute(
            f"ALTER TABLE {self._table} ATTACH PARTITION {name} FOR VALUES FROM ('{first}') TO ('{end}')"
        )

    async def drop_before(self, moment: datetime, *, unless: str = "false") -> None:
        """Drop the partitions whose every row is older, unless one of their rows fulfils this condition."""
        async with self._database.transaction() as tx:
            bounds = await self._bounds(tx)
        for name in sorted(name for name, (_, upper) in bounds.items() if upper <= first_uuid7_at(moment)):
            try:
                async with self._database.transaction() as tx:
                    await self._drop(tx, name, unless)
            except asyncpg.LockNotAvailableError as error:
                _log.info("partition.later", table=name, why=str(error))

    async def _drop(self, tx: Transaction, name: str, unless: str) -> None:
        await self._lock(tx)
        if name not in await self._bounds(tx):
            return
        wanted = await tx.fetchval(f"SELECT EXISTS (SELECT FROM {name} WHERE {unless})")  # noqa: S608 - our own names
        if not wanted:
            await tx.execute(f"DROP TABLE {name}")

    async def _lock(self, tx: Transaction) -> None:
        await tx.execute(_LOCK, f"{self._database.schema}.{self._table}", _PATIENCE)

    async def _bounds(self, tx: Transaction) -> dict[str, tuple[UUID, UUID]]:
        """The first id of each partition and the first one after it; without the one that takes what has no day."""
        rows = await tx.fetch(_PARTITIONS, self._table)
        found = {row["name"]: _BOUNDS.search(row["bounds"]) for row in rows}
        return {
            name: (_FIRST if bounds[1] == "MINVALUE" else UUID(bounds[1].strip("'")), UUID(bounds[2]))
            for name, bounds in found.items()
            if bounds is not None
        }
