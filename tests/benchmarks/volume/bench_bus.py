"""Events to a bus that syncs before it acknowledges: as one atomic batch, and one by one, in turns on one server."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from pathlib import Path
from statistics import median
from time import perf_counter

from cairn_kit.embedded import EmbeddedNats
from cairn_kit.events.bus import Bus, BusAddress, Publisher
from cairn_kit.events.topology import ensure_stream
from tests.benchmarks.rows import Row, Rows

_SIZES = (5, 20, 50, 500)
_ROUNDS = 5
_BODY = b"x" * 400


def rows(full: bool) -> Rows:
    """Yield milliseconds an event. ``full`` changes nothing."""
    yield from asyncio.run(_measure())


async def _measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedNats(Path(folder) / "nats")
        await asyncio.to_thread(server.start)
        try:
            bus = Bus(BusAddress(server.url, token=server.token), "bench")
            await bus.open()
            await ensure_stream(bus.jetstream, retention_days=1.0)
            publisher = Publisher(bus)
            found = [await _row(publisher, size) for size in _SIZES]
            await bus.close()
        finally:
            await asyncio.to_thread(server.stop)
    return found


async def _row(publisher: Publisher, size: int) -> Row:
    pairs = [
        (await _each(publisher, size, whole=True), await _each(publisher, size, whole=False))
        for _ in range(_ROUNDS)
    ]
    together = [a for a, _ in pairs]
    return Row(
        f"events to the bus, {size} as one",
        "ms an event",
        median(together),
        median(b for _, b in pairs),
        "one by one",
        spread=max(together) - min(together),
    )


async def _each(publisher: Publisher, size: int, *, whole: bool) -> float:
    """Return the milliseconds an event, when so many are published."""
    events = [
        ("cairn.v1.acme.birds.test.bench", {"Nats-Msg-Id": uuid.uuid4().hex}, _BODY) for _ in range(size)
    ]
    began = perf_counter()
    batch = await publisher._publish(events, 30.0, whole=whole)
    taken = perf_counter() - began
    if not all(batch.acknowledged):
        raise RuntimeError(f"the bus did not take all of {size}: {batch.refused}")
    return 1e3 * taken / size
