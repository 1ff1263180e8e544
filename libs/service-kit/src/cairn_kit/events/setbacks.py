"""What has kept an event from being handled, across restarts and replicas; forgotten when it succeeds or is given up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from cairn_kit.database.pool import Database
from cairn_kit.database.transaction import Transaction

_COUNT_FAILURE = """
INSERT INTO delivery_failure (consumer, event_id, failures, last_error) VALUES ($1, $2, 1, $3)
ON CONFLICT (consumer, event_id) DO UPDATE
SET failures = delivery_failure.failures + 1, last_error = excluded.last_error, failed_at = now()
RETURNING failures
"""
# Of a longer time between two tries a minute counts: nobody was there to try, or the stream had much else to bring.
_PUT_OFF = """
INSERT INTO delivery_failure AS d (consumer, event_id, failures, last_error)
SELECT $1, event_id, 0, $3 FROM unnest($2::uuid[]) AS event_id ORDER BY event_id
ON CONFLICT (consumer, event_id) DO UPDATE
SET put_off = d.put_off + least(now() - d.failed_at, interval '1 minute'), last_error = excluded.last_error,
    failed_at = now()
RETURNING event_id, put_off
"""
_FORGIVE = "DELETE FROM delivery_failure WHERE consumer = $1 AND event_id = ANY($2::uuid[])"


async def count_failure(database: Database, consumer: str, event_id: UUID, error: str) -> int:
    """Write down that an event's handler failed; returns how often it has."""
    return int(await database.fetchval(_COUNT_FAILURE, consumer, event_id, error))


async def put_off(
    database: Database, consumer: str, event_ids: Sequence[UUID], why: str
) -> dict[UUID, timedelta]:
    """Write down that events are put off; returns for how long each has been, as far as somebody was there to try."""
    rows = await database.fetch(_PUT_OFF, consumer, sorted(set(event_ids)), why)
    return {row["event_id"]: row["put_off"] for row in rows}


async def forgive(tx: Transaction, consumer: str, event_ids: Sequence[UUID]) -> None:
    """Forget what stood in the way of events that have succeeded, or are given up."""
    await tx.execute(_FORGIVE, consumer, event_ids)
