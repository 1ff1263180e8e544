"""What a label costs, by process: processor time, write-ahead log, disk and commits. `deploy/capacity.md` reckons with it.

Labelers who take one task at a time, and machines that take ten, each for some seconds and until every label stands.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from cairn_kit.embedded import EmbeddedNats
from cairn_kit.events.bus import Bus, BusAddress
from cairn_kit.events.topology import STREAM
from cairn_stack.home import Home
from tests.benchmarks.rows import Row, Rows
from tests.benchmarks.volume.load import drive, until
from tests.benchmarks.volume.machine import processor_seconds, resident_mb
from tests.benchmarks.volume.targets import (
    SERVERS,
    SERVICES,
    CairnProject,
    CairnStack,
    admin_dsn,
    cairn_running,
)

_ITEMS = 30_000
_WARM, _PATIENCE = 3.0, 300.0
_WAYS = ((16, 1, "one at a time"), (16, 10, "ten at a time"))

_DATABASE = """
SELECT (SELECT wal_bytes FROM pg_stat_wal)::float8 AS wal,
       (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database())::float8 AS commits,
       (SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'r' AND n.nspname = ANY ($1))::float8 AS disk
"""


@dataclass(frozen=True, slots=True)
class _Used:
    """What was used so far: processor seconds by process, PostgreSQL's by service; bytes of log, tables, stream; commits."""

    processor: dict[str, float]
    backends: dict[str, float]
    wal: float
    disk: float
    commits: float
    stream: float


def rows(full: bool) -> Rows:
    """Yield costs a label. ``full``: half a minute a way instead of eight seconds."""
    yield from asyncio.run(_measure(30.0 if full else 8.0))


async def _measure(seconds: float) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        async with cairn_running(Path(folder)) as cairn:
            nats = EmbeddedNats(Home(cairn.stack.home).nats)
            bus = Bus(BusAddress(nats.url, token=nats.token), "bench")
            await bus.open()
            database = await asyncpg.connect(admin_dsn(cairn))
            try:
                project = await cairn.project(_ITEMS)
                found: list[Row] = []
                for callers, tasks, name in _WAYS:
                    await _labels(project, callers, tasks, _WARM)
                    before = await _used(cairn, database, bus)
                    labels = await _labels(project, callers, tasks, seconds)
                    found += _rows(name, before, await _used(cairn, database, bus), labels)
                held = {name: cairn.stack.pid(name) for name in SERVICES}
                labeled = await project.labeled()
                return found + [
                    Row(f"memory of {name} after {labeled:,} labels", "MB", resident_mb(pid))
                    for name, pid in held.items()
                    if pid is not None
                ]
            finally:
                await database.close()
                await bus.close()


async def _labels(project: CairnProject, callers: int, tasks: int, seconds: float) -> int:
    """Have tasks answered for so long, wait until their labels stand; return how many there were."""
    before = await project.labeled()
    measured = await drive(project, callers, tasks, seconds)
    await until(project.labeled, before + measured.tasks, every=0.05, patience=_PATIENCE)
    return measured.tasks


async def _used(cairn: CairnStack, database: asyncpg.Connection, bus: Bus) -> _Used:
    row = await database.fetchrow(_DATABASE, [name.replace("-", "_") for name in SERVICES])
    assert row is not None
    stream = await bus.jetstream.stream_info(STREAM)
    pids = {name: cairn.stack.pid(name) for name in (*SERVICES, *SERVERS)}
    return _Used(
        {name: processor_seconds([pid]) for name, pid in pids.items() if pid is not None},
        await _backends(database),
        row["wal"],
        row["disk"],
        row["commits"],
        float(stream.state.bytes),
    )


async def _backends(database: asyncpg.Connection) -> dict[str, float]:
    """Processor seconds of PostgreSQL's processes by the service that they work for."""
    used = dict.fromkeys(SERVICES, 0.0)
    for row in await database.fetch("SELECT pid, usename FROM pg_stat_activity WHERE usename IS NOT NULL"):
        name = row["usename"].replace("_", "-")
        if name in used:
            used[name] += processor_seconds([row["pid"]])
    return used


def _rows(name: str, before: _Used, after: _Used, labels: int) -> list[Row]:
    what = f"a label, {name}"
    spent = {process: after.processor[process] - before.processor[process] for process in after.processor}
    return [
        *(
            Row(f"{what}: processor time of {process}", "ms", 1e3 * spent[process] / labels)
            for process in spent
        ),
        *(
            Row(
                f"{what}: of PostgreSQL's for {service}",
                "ms",
                1e3 * (after.backends[service] - used) / labels,
            )
            for service, used in before.backends.items()
        ),
        Row(f"{what}: processor time in all", "ms", 1e3 * sum(spent.values()) / labels),
        Row(f"{what}: write-ahead log", "KB", (after.wal - before.wal) / labels / 1e3),
        Row(f"{what}: tables and indexes", "KB", (after.disk - before.disk) / labels / 1e3),
        Row(f"{what}: stream", "KB", (after.stream - before.stream) / labels / 1e3),
        Row(f"{what}: commits", "", (after.commits - before.commits) / labels),
    ]
