"""The relay: takes what the outbox holds to the stream, and does not call it published before the stream does.

Per-row `published_at` with a partial index, claimed `FOR UPDATE SKIP LOCKED`: any replica may relay, none waits for
another. Never a cursor over ids: rows become visible out of order.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
from nats.errors import Error as NatsError
from opentelemetry.trace import SpanKind, Tracer

from cairn_kit.database.pool import OUTAGES, Database
from cairn_kit.database.transaction import Record
from cairn_kit.events.bus import Bus, BusError, Publisher, StreamMissing
from cairn_kit.events.envelope import LARGEST_BODY, Stored
from cairn_kit.events.topology import ensure_stream
from cairn_kit.ids import first_uuid7_at
from cairn_kit.pace import Pace
from cairn_kit.telemetry.logs import get_logger
from cairn_kit.telemetry.metrics import Metrics
from cairn_kit.telemetry.tracing import context_of, is_dropped

_log = get_logger(__name__)
_FEWEST, _MOST = 16, 500  # rows at once
_BYTES = 8 * 1024 * 1024
"""Bodies at once, whatever rows there are: those of an import have 200 KiB each, those of a label half a KiB."""
_SWEEP = 1.0  # seconds; finds what a crashed or cancelled process left behind
_LOOK_AT_STREAM = 10.0
_SLOWEST_RETRY = 2.0
_CHUNK = 10_000
_FIRST = UUID(int=0)
# A full disk passes, too; and a service that cannot publish can still answer: no error of the database ends it.
_WAITED_FOR: tuple[type[BaseException], ...] = (*OUTAGES, asyncpg.PostgresError, BusError, NatsError)

_CLAIM = """
SELECT event_id, event_type, nats_subject, tenant, project, resource, revision, traceparent, occurred_at, body,
       republished, events
FROM (
  SELECT *, sum(octet_length(body)) OVER (ROWS UNBOUNDED PRECEDING) AS bytes
  FROM (SELECT * FROM outbox WHERE published_at IS NULL ORDER BY event_id LIMIT $1 FOR UPDATE SKIP LOCKED) AS next
) AS measured
WHERE bytes <= $2
"""
"""So many rows at most, and of them as many as have so many bytes together. PostgreSQL knows the length of a large body
without reading it: the rest stays on its disk."""
_MARK = """
WITH commit AS (SELECT set_config('synchronous_commit', 'off', true))
UPDATE outbox SET published_at = now() FROM commit WHERE event_id = ANY($1::uuid[])
"""
"""Without waiting for the disk: a mark that the machine's crash undoes has events published twice, which consumers know."""
_REOPEN = """
WITH chunk AS (SELECT event_id FROM outbox WHERE event_id > $1 ORDER BY event_id LIMIT $2),
reopened AS (
  UPDATE outbox SET published_at = NULL, republished = republished + 1 FROM chunk
  WHERE outbox.event_id = chunk.event_id AND outbox.published_at IS NOT NULL RETURNING events)
SELECT (SELECT event_id FROM chunk ORDER BY event_id DESC LIMIT 1) AS last,
       (SELECT coalesce(sum(events), 0)::bigint FROM reopened) AS reopened
"""
_REMEMBER_STREAM = """
INSERT INTO relay_state (stream_created_at) VALUES ($1)
ON CONFLICT (singleton) DO UPDATE SET stream_created_at = excluded.stream_created_at
"""


class Relay:
    """Publishes one service's outbox."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        source: str,
        metrics: Metrics,
        tracer: Tracer,
        *,
        retention_days: float,
        replicas: int = 1,
    ) -> None:
        self._database = database
        self._bus = bus
        self._publisher = Publisher(bus)
        self._source = source
        self._metrics = metrics
        self._tracer = tracer
        self._retention_days = retention_days
        self._replicas = replicas
        self._wake = asyncio.Event()
        self._pace = Pace()
        self._rows = _FEWEST
        self._looked_at_stream = float("-inf")
        self._generation = -1
        self.waiting = 0
        """Events not yet published, when they were last counted."""
        self.alive = False
        """Whether the last pass went well: part of readiness."""

    def wake(self) -> None:
        """There is something new in the outbox."""
        self._wake.set()

    async def run(self) -> None:
        """Relay for ever; outages, and whatever else the database refuses, are waited for."""
        delay, known = 0.05, None
        while True:
            try:
                await self._bus.until_connected()
                await self._look_at_stream()
                await self._pace.keep()
                await self.drain()
                self._pace.end()
                self.alive, delay, known = True, 0.05, None
                with suppress(TimeoutError):
                    async with asyncio.timeout(_SWEEP):
                        await self._wake.wait()
            except _WAITED_FOR as error:
                if type(error) is not known:  # once for each kind, not with every try
                    _log.warning("relay.waiting", error=repr(error))
                self.alive, known = False, type(error)
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))
                delay = min(delay * 2, _SLOWEST_RETRY)

    async def drain(self) -> None:
        """Publish until the outbox is empty."""
        self._wake.clear()
        while await self._pass():
            pass

    async def _pass(self) -> bool:
        """Publish as many as go at once; whether there may be more."""
        asked = self._rows
        async with self._database.transaction() as tx:
            rows = await tx.fetch(_CLAIM, asked, _BYTES)
            if not rows:
                return False
            events = [stored(row) for row in rows]
            try:
                acknowledged = await self._publisher.publish(
                    [(event.nats_subject, event.headers(self._source), event.body) for event in events]
                )
            except StreamMissing:
                self._looked_at_stream = float("-inf")
                raise
            done = [event for event, accepted in zip(events, acknowledged, strict=True) if accepted]
            if done:
                await tx.execute(_MARK, [event.id for event in done])
        published = sum(row.events for row in done)
        self._metrics.published.inc(published)
        self.waiting = max(self.waiting - published, 0)
        self._trace(done)
        if len(done) < len(events):
            raise BusError(f"{len(events) - len(done)} of {len(events)} messages were not acknowledged")
        held = sum(len(event.body) for event in events)
        self._rows = min(max(_BYTES * len(events) // max(held, 1), _FEWEST), _MOST)
        return len(events) == asked or held > _BYTES - LARGEST_BODY

    def _trace(self, published: list[Stored]) -> None:
        for message in published:
            if is_dropped(message.traceparent):
                continue  # and so is every other of its batch
            for traceparent, type_name, event_id, resource in message.traced():
                if is_dropped(traceparent):
                    continue
                span = self._tracer.start_span(
                    f"publish {type_name.rpartition('.')[2]}",
                    context_of(traceparent),
                    SpanKind.PRODUCER,
                    start_time=int(message.time.timestamp() * 1e9),
                )
                if span.is_recording():
                    span.set_attributes({"messaging.message.id": event_id, "cairn.resource": resource})
                span.end()

    async def _look_at_stream(self) -> None:
        """Make the stream when it is gone; a stream younger than our events gets all of them again."""
        loop = asyncio.get_running_loop()
        if (
            self._generation == self._bus.generation
            and loop.time() - self._looked_at_stream < _LOOK_AT_STREAM
        ):
            return
        info = await ensure_stream(
            self._bus.jetstream, retention_days=self._retention_days, replicas=self._replicas
        )
        created = info.created or datetime.now(UTC)
        known = await self._database.fetchval("SELECT stream_created_at FROM relay_state")
        if known is not None and known != created:
            count = await republish(self._database)
            _log.warning("relay.stream_was_lost", republishing=count)
        if (
            known != created
        ):  # only now: whoever is killed before it is followed by one that refills the stream
            await self._database.execute(_REMEMBER_STREAM, created)
        self._looked_at_stream, self._generation = loop.time(), self._bus.generation

    async def measure(self) -> None:
        """Bring the gauges up to date."""
        row = await self._database.fetchrow(
            "SELECT coalesce(sum(events), 0)::bigint AS waiting, "
            "extract(epoch FROM now() - min(occurred_at))::float8 AS lag FROM outbox WHERE published_at IS NULL"
        )
        if row is not None:
            self.waiting = row["waiting"]
            self._metrics.outbox_waiting.set(row["waiting"])
            self._metrics.outbox_lag.set(max(row["lag"] or 0.0, 0.0))


async def republish(database: Database, since: datetime | None = None) -> int:
    """Have every event since then (by default all that the outbox keeps) published again; returns how many.

    Consumers know by their inbox what they have handled before.
    """
    last: UUID | None = _FIRST if since is None else first_uuid7_at(since)
    count = 0
    while last is not None:
        row = await database.fetchrow(_REOPEN, last, _CHUNK)
        last = row["last"] if row else None
        count += row["reopened"] if row else 0
    database.announced(())
    return count


def stored(row: Record) -> Stored:
    """A row of the outbox."""
    return Stored(
        row["event_id"],
        row["event_type"],
        row["nats_subject"],
        row["tenant"],
        row["project"],
        row["resource"],
        row["revision"],
        row["traceparent"],
        row["occurred_at"],
        row["body"],
        row["republished"],
        row["events"],
    )
