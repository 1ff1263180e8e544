"""What is kept of events, and how long: the outbox as long as the stream, the inbox twice as long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from cairn_kit.database.partitions import DayPartitions
from cairn_kit.database.pool import Database
from cairn_kit.ids import first_uuid7_at

_CHUNK = 10_000
_OUTBOX_STORAGE = "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05"
_UNPUBLISHED = "published_at IS NULL"

# What belongs to no day of its own goes row by row: of before there were days, or with an id that tells no time.
_PRUNE_OUTBOX = """
DELETE FROM {table} WHERE event_id IN (
  SELECT event_id FROM {table} WHERE event_id < $1 AND published_at IS NOT NULL ORDER BY event_id LIMIT $2)
"""
_PRUNE_BY_AGE = (
    "DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE {age} < $1 LIMIT $2))"
)


class Retention:
    """Forgets what nobody can ask for again."""

    def __init__(self, database: Database, retention_days: float) -> None:
        self._database = database
        self._retention = timedelta(days=retention_days)
        self._outbox = DayPartitions(database, "outbox", _OUTBOX_STORAGE)
        self._inbox = DayPartitions(database, "inbox")

    async def keep(self) -> None:
        """Make room for the days to come, and let go of those that are over."""
        now = datetime.now(UTC)
        await self._outbox.make_ready(now)
        await self._inbox.make_ready(now)
        # The outbox's rows must outlive the stream's, or a lost stream could not be made again.
        forgotten = now - self._retention
        await self._outbox.drop_before(forgotten, unless=_UNPUBLISHED)
        # What was handled must be remembered for longer than it can be delivered again.
        handled = now - 2 * self._retention
        await self._inbox.drop_before(handled)
        for part in ("before", "other"):
            await self._prune(_PRUNE_OUTBOX, f"outbox_{part}", "", first_uuid7_at(forgotten))
            await self._prune(_PRUNE_BY_AGE, f"inbox_{part}", "received_at", handled)
        await self._prune(_PRUNE_BY_AGE, "request", "created_at", handled)
        await self._prune(_PRUNE_BY_AGE, "delivery_failure", "failed_at", handled)

    async def _prune(self, statement: str, table: str, age: str, before: UUID | datetime) -> None:
        if not await self._database.fetchval("SELECT to_regclass($1) IS NOT NULL", table):
            return  # the time before is over
        statement = statement.format(table=table, age=age)
        while await self._database.execute(statement, before, _CHUNK) == f"DELETE {_CHUNK}":
            pass
