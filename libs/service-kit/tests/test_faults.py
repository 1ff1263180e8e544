"""Every line we have is cut in the middle of a message; nothing is lost and nothing happens twice."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from cairn.events.v1 import task_dispatch_events_pb2 as announced_pb2
from cairn_kit.database import migrate, provision
from cairn_kit.events import announce
from cairn_kit.events.relay import republish
from cairn_kit.testing import CutProxy, World, announced, eventually, own_postgres
from cairn_kit.testing.world import RunningService

EVENTS = 120


async def count(service: RunningService[Any]) -> int:
    return int(await service.database.fetchval("SELECT count(*) FROM effect"))


async def announced_once_each(service: RunningService[Any]) -> Counter[str]:
    events = await announced(service.database)
    return Counter(event.resource for event in events if event.type == "cairn.events.v1.TasksClosed")


async def unpublished(service: RunningService[Any]) -> int:
    return int(await service.database.fetchval("SELECT count(*) FROM outbox WHERE published_at IS NULL"))


def socket_of(dsn: str) -> Path:
    where = parse_qs(urlsplit(dsn).query)
    return Path(where["host"][0]) / f".s.PGSQL.{where['port'][0]}"


def through(proxy: CutProxy, dsn: str) -> str:
    parts = urlsplit(dsn)
    return f"postgresql://{parts.username}@127.0.0.1:{proxy.port}{parts.path}"


@pytest.mark.parametrize("seed", [1, 2])
async def test_cutting_the_lines_to_postgresql_and_nats_loses_and_doubles_nothing(
    world: World, sample: Any, make_annotation: Any, seed: int
) -> None:
    cuts = random.Random(seed)
    dsn = await world.dsn("sample", sample.service.migrations)
    async with (
        CutProxy(socket_of(dsn)) as database_line,
        CutProxy("127.0.0.1", world.bus.port) as bus_line,
        world.run(
            sample.service,
            postgres_dsn=through(database_line, dsn),
            nats_url=f"nats://127.0.0.1:{bus_line.port}",
            consumer_batch=16,
        ) as service,
    ):
        names = [f"item-{number}" for number in range(EVENTS)]
        for start in range(0, EVENTS, 20):
            await world.publish(*(make_annotation(name) for name in names[start : start + 20]), copies=2)
            for line in (database_line, bus_line):
                line.cut_after(cuts.randrange(1, 4000))

        heard = await world.listen(announced_pb2.TasksClosed)
        await heard.count(EVENTS)

        rows = await eventually(lambda: service.database.fetch("SELECT what FROM effect"))
        assert Counter(row["what"] for row in rows) == Counter(names)
        assert await announced_once_each(service) == Counter(names)
        assert database_line.cuts
        assert bus_line.cuts


async def test_a_restart_of_postgresql_is_waited_for(world: World, sample: Any, make_annotation: Any) -> None:
    with own_postgres() as server:
        dsn = server.dsn("postgres", "sample")
        await provision(server.dsn(), "sample")
        await migrate(dsn, "sample", sample.service.migrations)
        async with world.run(sample.service, postgres_dsn=dsn) as service:
            await world.publish(make_annotation("before"))
            await eventually(lambda: count(service), 1)

            await asyncio.to_thread(server.kill)
            await world.publish(make_annotation("during"))
            await eventually(lambda: "database" in service.chassis.missing())
            await asyncio.to_thread(server.start)

            await eventually(lambda: count(service), 2)
            await eventually(lambda: service.chassis.missing() == [])


async def test_a_replica_that_has_lost_its_database_gives_what_it_holds_to_one_that_has_not(
    world: World, sample: Any, make_annotation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cairn_kit.events.consumer._HELD_LONGEST", 0.2)
    names = {f"item-{number}" for number in range(40)}
    healthy, handle, lost = dataclasses.replace(sample, batches=[]), sample.on_annotations, asyncio.Event()

    async def in_the_middle(tx: Any, events: Any) -> None:
        if not lost.is_set():
            line.refuse()
            lost.set()
        await handle(tx, events)

    sample.on_annotations = in_the_middle
    dsn = await world.dsn("sample", sample.service.migrations)
    await world.publish(*(make_annotation(name) for name in names))
    async with (
        CutProxy(socket_of(dsn)) as line,
        world.run(sample.service, postgres_dsn=through(line, dsn), consumer_batch=10) as lonely,
    ):
        await lost.wait()
        async with world.run(healthy.service) as other:
            await eventually(lambda: count(other), len(names))
        assert {name for batch in healthy.batches for name in batch} == names

        line.refuse(False)
        await world.publish(make_annotation("last"))
        await eventually(lambda: count(lonely), len(names) + 1)


async def test_the_bus_wiped_again_and_again_while_events_flow(
    world: World, sample: Any, make_annotation: Any
) -> None:
    async with world.run(sample.service) as service:
        for number in range(3):
            async with service.database.transaction() as tx:
                announce(tx, *(make_annotation(f"{number}-{n}") for n in range(10)))
            await asyncio.to_thread(world.bus.kill)
            world.bus.wipe()
            await asyncio.to_thread(world.bus.start)
        await eventually(lambda: count(service), 30)
        assert set((await announced_once_each(service)).values()) == {1}


async def test_events_lost_by_the_bus_unnoticed_come_back_by_republishing(
    world: World, sample: Any, make_annotation: Any
) -> None:
    async with world.run(sample.service) as service:
        connection = await world.connection()
        sample.not_yet = {"lost"}
        async with service.database.transaction() as tx:
            announce(tx, make_annotation("lost"))
        await eventually(lambda: sample.batches)
        await eventually(lambda: unpublished(service), 0)
        await connection.jetstream.purge_stream("CAIRN")
        sample.not_yet = set()

        await republish(service.database)

        await eventually(lambda: count(service), 1)


async def test_two_replicas_share_the_work_and_do_nothing_twice(
    world: World, sample: Any, make_annotation: Any
) -> None:
    names = [f"item-{number}" for number in range(200)]
    async with (
        world.run(sample.service, consumer_batch=10) as one,
        world.run(sample.service, consumer_batch=10) as _,
    ):
        await world.publish(*(make_annotation(name) for name in names), copies=2)
        await eventually(lambda: count(one), 200)
        heard = await world.listen(announced_pb2.TasksClosed)
        await heard.count(200)
        assert await announced_once_each(one) == Counter(names)
