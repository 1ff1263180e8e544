"""A backlog of events drained: by the relay from the outbox to the bus, and by a consumer from the bus to its inbox.

Beside them nats-py alone, with as many messages of the same size. It is the chassis that is measured: the handler does
nothing.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from nats.js.api import ConsumerConfig

from cairn.events.v1.annotation_store_events_pb2 import AnnotationSubmitted
from cairn_kit.database import Database, Transaction, migrate
from cairn_kit.embedded import EmbeddedNats, EmbeddedPostgres
from cairn_kit.events import Received, Subscription
from cairn_kit.events.bus import Bus, BusAddress
from cairn_kit.events.consumer import Consumer
from cairn_kit.events.envelope import Stored, batched
from cairn_kit.events.relay import Relay
from cairn_kit.events.subjects import subject_of
from cairn_kit.events.topology import STREAM, ensure_stream
from cairn_kit.ids import uuid7
from cairn_kit.telemetry.metrics import Metrics
from cairn_kit.telemetry.tracing import SilentTracer
from tests.benchmarks.rows import Row, Rows
from tests.benchmarks.volume.load import until
from tests.benchmarks.volume.machine import resident_mb

_EVENTS, _MORE_EVENTS = 20_000, 1_000_000
_TOGETHER = (1, 10)
_CHUNK = 10_000
_FETCH = 500
_PATIENCE = 3600.0
_DAYS = 7.0
_MOST_GROWTH = 64.0
_TRACE = (
    "00-0000000000000000000000000000000a-000000000000000a-00"  # of a trace that nobody keeps, as most are
)
_TYPE = AnnotationSubmitted.DESCRIPTOR
_SUBJECT = subject_of(_TYPE.name, "acme", "birds")
_COLUMNS = (
    "event_id", "event_type", "nats_subject", "tenant", "project", "resource", "revision", "traceparent",
    "occurred_at", "body", "republished", "events",
)  # fmt: skip


def rows(full: bool) -> Rows:
    """Yield events a second. ``full``: a million of them."""
    for together in _TOGETHER:
        yield from asyncio.run(_measure(_MORE_EVENTS if full else _EVENTS, together))


async def _measure(events: int, together: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        postgres, nats = EmbeddedPostgres(Path(name) / "postgres"), EmbeddedNats(Path(name) / "nats")
        await asyncio.to_thread(postgres.start)
        await asyncio.to_thread(nats.start)
        bus = Bus(BusAddress(nats.url, token=nats.token), "bench")
        await bus.open()
        await migrate(postgres.dsn(), "bench")
        database = Database(postgres.dsn(), "bench")
        await database.open()
        try:
            return await _drained(database, bus, events, together)
        finally:
            await database.close()
            await bus.close()
            await asyncio.to_thread(nats.stop)
            await asyncio.to_thread(postgres.stop)


async def _drained(database: Database, bus: Bus, events: int, together: int) -> list[Row]:
    for stored in _announced(events, together):
        async with database.transaction() as tx:
            await tx.copy_records_to_table(
                "outbox", columns=_COLUMNS, records=[astuple(one) for one in stored]
            )
    held = resident_mb(os.getpid())
    relaying = await _relay(database, bus)
    consuming = await _consume(database, bus, events)
    grown = resident_mb(os.getpid()) - held
    publishing, fetching = await _nats_alone(bus, events // together)
    how = "announced alone" if together == 1 else f"announced {together} at a time"
    what = f"backlog of {events:,} events {how}"
    return [
        Row(f"{what}: relayed", "/s", events / relaying, events / publishing, "nats-py alone"),
        Row(f"{what}: handled", "/s", events / consuming, events / fetching, "nats-py alone"),
        Row(f"{what}: memory that draining it took", "MB", grown, most=_MOST_GROWTH),
    ]


def _announced(events: int, together: int) -> Iterator[list[Stored]]:
    """What so many transactions of so many events each leave in the outbox, some thousands at a time."""
    for start in range(0, events, _CHUNK):
        rows: list[Stored] = []
        for _ in range(start, min(start + _CHUNK, events), together):
            now = datetime.now(UTC)
            rows += batched([_event(now) for _ in range(together)])
        yield rows


def _event(now: datetime) -> Stored:
    message = AnnotationSubmitted()
    message.annotation.name = f"projects/birds/items/one/annotations/{uuid7()}"
    message.annotation.labeler = "labelers/somebody"
    return Stored(
        uuid7(), _TYPE.full_name, _SUBJECT, "acme", "birds", message.annotation.name, 1, _TRACE, now,
        message.SerializeToString(),
    )  # fmt: skip


async def _relay(database: Database, bus: Bus) -> float:
    await ensure_stream(bus.jetstream, retention_days=_DAYS)
    relay = Relay(database, bus, "bench", Metrics(), SilentTracer(), retention_days=_DAYS)
    began = perf_counter()
    await relay.drain()
    return perf_counter() - began


async def _consume(database: Database, bus: Bus, events: int) -> float:
    consumer = Consumer(
        database, bus, "bench", [Subscription(AnnotationSubmitted, _nothing)], Metrics(), SilentTracer()
    )

    async def handled() -> int:
        return int(await database.fetchval("SELECT count(*) FROM inbox"))

    began = perf_counter()
    running = asyncio.create_task(consumer.run())
    await until(handled, events, every=0.1, patience=_PATIENCE)
    taken = perf_counter() - began
    consumer.stop()
    await running
    return taken


async def _nothing(tx: Transaction, events: Sequence[Received[AnnotationSubmitted]]) -> None:
    """A handler whose effect is none."""


async def _nats_alone(bus: Bus, messages: int) -> tuple[float, float]:
    """Seconds that nats-py takes to publish so many messages, a few hundred in flight, and to fetch and acknowledge them."""
    js = bus.jetstream
    await js.purge_stream(STREAM)
    body, subject = bytes(400), "cairn.v1.acme.birds.other.alone"
    began = perf_counter()
    for start in range(0, messages, _FETCH):
        pending = [
            await js.publish_async(subject, body, headers={"Nats-Msg-Id": str(uuid7())})
            for _ in range(start, min(start + _FETCH, messages))
        ]
        await asyncio.gather(*pending)
    publishing = perf_counter() - began
    await js.add_consumer(
        STREAM, ConsumerConfig(durable_name="alone", filter_subject=subject, max_ack_pending=10_000)
    )
    pull = await js.pull_subscribe_bind("alone", STREAM)
    began = perf_counter()
    left = messages
    while left:
        for message in await pull.fetch(min(_FETCH, left), timeout=10):
            await message.ack()
            left -= 1
    return publishing, perf_counter() - began
