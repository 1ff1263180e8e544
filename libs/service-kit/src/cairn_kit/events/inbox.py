"""What a consumer has handled: a row for each message, and of a batch that was handled in parts, which of its events."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from cairn_kit.database.transaction import Transaction
from cairn_kit.events.envelope import Received

_REMEMBER = """
WITH fresh AS (
  INSERT INTO inbox (consumer, event_id, done) SELECT $1, * FROM unnest($2::uuid[], $3::bytea[])
  ON CONFLICT DO NOTHING RETURNING event_id)
SELECT m.event_id, fresh.event_id IS NOT NULL AS fresh,
       EXISTS (SELECT FROM deleted_project d WHERE d.tenant = m.tenant AND d.project = m.project) AS too_late
FROM unnest($2::uuid[], $4::text[], $5::text[]) AS m (event_id, tenant, project) LEFT JOIN fresh USING (event_id)
"""
_KNOWN = "SELECT event_id, done FROM inbox WHERE consumer = $1 AND event_id = ANY($2::uuid[]) ORDER BY event_id FOR UPDATE"
# By whole keys that come from one side: of a day that PostgreSQL never counted all that the consumer heard would be read.
_ADD = """
UPDATE inbox i SET done = k.done
FROM (SELECT $1::text AS consumer, m.* FROM unnest($2::uuid[], $3::bytea[]) AS m (event_id, done) OFFSET 0) AS k
WHERE (i.consumer, i.event_id) = (k.consumer, k.event_id)
"""

_Messages = dict[UUID, list[Received[Any]]]


async def remember(tx: Transaction, consumer: str, events: Sequence[Received[Any]]) -> list[Received[Any]]:
    """Write down that the events are handled; returns those that were not before, those of deleted projects marked."""
    messages: _Messages = defaultdict(list)
    # Ids go in ascending: two replicas with overlapping batches must not wait for each other.
    for event in sorted(events, key=lambda event: event.place.message):
        messages[event.place.message].append(event)
    rows = await tx.fetch(
        _REMEMBER,
        consumer,
        list(messages),
        [_all_or_some(brought) for brought in messages.values()],
        [brought[0].tenant for brought in messages.values()],
        [brought[0].project for brought in messages.values()],
    )
    for row in rows:
        for event in messages[row["event_id"]]:
            event.too_late = row["too_late"]
    met = {row["event_id"]: messages[row["event_id"]] for row in rows if not row["fresh"]}
    known = await _handled_before(tx, consumer, met) if met else frozenset()
    return [event for event in events if event.id not in known]


async def _handled_before(tx: Transaction, consumer: str, messages: _Messages) -> set[UUID]:
    """Of messages that have a row already: the events that are done; the others are added to the row."""
    known: set[UUID] = set()
    grown: dict[UUID, bytes] = {}
    for row in await tx.fetch(_KNOWN, consumer, list(messages)):
        message, done = row["event_id"], row["done"]
        before = -1 if done is None else int.from_bytes(done)
        old = [event for event in messages[message] if before >> event.place.number & 1]
        known.update(event.id for event in old)
        if len(old) < len(messages[message]):
            grown[message] = (before | _bits(messages[message])).to_bytes(len(done))
    if grown:
        await tx.execute(_ADD, consumer, list(grown), list(grown.values()))
    return known


def _all_or_some(brought: Sequence[Received[Any]]) -> bytes | None:
    of = brought[0].place.of
    return None if len(brought) == of else _bits(brought).to_bytes((of + 7) // 8)


def _bits(events: Iterable[Received[Any]]) -> int:
    return sum(1 << number for number in {event.place.number for event in events})
