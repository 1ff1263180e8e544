"""What was announced reaches the bus: out of the outbox, whole, once, and again when the bus has lost it."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import suppress
from typing import Any

import pytest
from structlog.testing import capture_logs

from cairn.events.v1 import task_dispatch_events_pb2 as announced_pb2
from cairn_kit.events import Event, EventTooLarge, announce, relay
from cairn_kit.events.bus import Publisher, StreamMissing
from cairn_kit.events.relay import republish
from cairn_kit.events.topology import stream_config
from cairn_kit.telemetry.metrics import Metrics
from cairn_kit.telemetry.tracing import SilentTracer
from cairn_kit.testing import World, eventually

UNPUBLISHED = "SELECT count(*) FROM outbox WHERE published_at IS NULL"
EFFECTS = "SELECT what FROM effect ORDER BY place"


async def effects(service: Any) -> list[str]:
    return [row["what"] for row in await service.database.fetch(EFFECTS)]


async def test_killing_the_bus_loses_nothing(world: World, sample: Any, make_annotation: Any) -> None:
    async with world.run(sample.service) as service:
        await world.publish(*(make_annotation(f"before-{n}") for n in range(20)))
        await eventually(lambda: count(service), 20)

        await asyncio.to_thread(world.bus.kill)
        async with service.database.transaction() as tx:
            announce(tx, make_annotation("during"))  # OK to the caller while the bus is away
        await eventually(lambda: "bus" in service.chassis.missing() or None)
        await asyncio.to_thread(world.bus.start)

        await eventually(lambda: count(service), 21)
        await eventually(lambda: service.chassis.missing() == [])


async def test_the_loss_of_the_whole_bus_is_mended_from_the_outbox(
    world: World, sample: Any, make_annotation: Any
) -> None:
    sample.fail_on = {"later"}
    async with world.run(sample.service) as service:
        async with service.database.transaction() as tx:
            announce(tx, make_annotation("first"), make_annotation("later"))
        await eventually(lambda: effects(service), ["first"])

        await asyncio.to_thread(world.bus.kill)
        world.bus.wipe()
        sample.fail_on = set()
        await asyncio.to_thread(world.bus.start)

        await eventually(lambda: effects(service), ["first", "later"], timeout=30)
        heard = await world.listen(announced_pb2.TasksClosed)
        await heard.until(lambda events: {e.resource for e in events} == {"first", "later"})


async def test_a_refill_of_the_stream_that_was_broken_off_is_begun_again(
    world: World, sample: Any, make_annotation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.run(sample.service) as service:
        async with service.database.transaction() as tx:
            announce(tx, make_annotation("first"))
        await eventually(lambda: effects(service), ["first"])
        # From here on only a refill brings what was published before.
        await eventually(lambda: service.database.fetchval(UNPUBLISHED), 0)

        broken_off = []

        async def break_off(database: Any) -> int:
            monkeypatch.undo()
            broken_off.append(database)
            raise ConnectionError("the process was killed")

        monkeypatch.setattr(relay, "republish", break_off)
        connection = await world.connection()
        await connection.jetstream.delete_stream("CAIRN")

        heard = await world.listen(announced_pb2.TasksClosed)
        await heard.until(lambda events: {e.resource for e in events} == {"first"})
        assert broken_off


async def test_a_stream_deleted_under_running_services_comes_back_with_its_events(
    world: World, sample: Any, make_annotation: Any
) -> None:
    async with world.run(sample.service) as service:
        async with service.database.transaction() as tx:
            announce(tx, make_annotation("first"))
        await eventually(lambda: effects(service), ["first"])

        connection = await world.connection()
        await connection.jetstream.delete_stream("CAIRN")
        async with service.database.transaction() as tx:
            announce(tx, make_annotation("second"))

        await eventually(lambda: effects(service), ["first", "second"], timeout=30)


async def test_republishing_everything_changes_nothing(
    world: World, sample: Any, make_annotation: Any
) -> None:
    async with world.run(sample.service) as service:
        async with service.database.transaction() as tx:
            announce(tx, *(make_annotation(f"item-{n}") for n in range(10)))
        await eventually(lambda: count(service), 10)
        await eventually(lambda: waiting(service), 0)
        before = await effects(service)

        assert await republish(service.database) == 20  # the ten, and the ten announced in return

        await eventually(lambda: waiting(service), 0)
        await world.publish(make_annotation("last"))
        await eventually(lambda: effects(service), [*before, "last"])


async def count(service: Any) -> int:
    return int(await service.database.fetchval("SELECT count(*) FROM effect"))


async def waiting(service: Any) -> int:
    return int(await service.database.fetchval("SELECT count(*) FROM outbox WHERE published_at IS NULL"))


async def test_what_is_rolled_back_was_never_announced(
    world: World, sample: Any, make_annotation: Any
) -> None:
    async with world.run(sample.service) as service:
        hooks: list[str] = []
        with suppress(ZeroDivisionError):
            async with service.database.transaction() as tx:
                announce(tx, make_annotation("never"))
                tx.after_commit(lambda: hooks.append("commit"))
                tx.on_rollback(lambda: hooks.append("rollback"))
                raise ZeroDivisionError
        async with service.database.transaction() as tx:
            announce(tx, make_annotation("kept"))
            with suppress(ZeroDivisionError):
                async with tx.savepoint():
                    announce(tx, make_annotation("taken back"))
                    raise ZeroDivisionError
            tx.after_commit(lambda: hooks.append("commit"))

        await eventually(lambda: effects(service), ["kept"])
        assert hooks == ["rollback", "commit"]


async def test_an_event_too_large_for_the_bus_is_refused_before_it_is_written(
    world: World, sample: Any
) -> None:
    async with world.run(sample.service) as service, service.database.transaction() as tx:
        large = announced_pb2.TasksClosed(project="x" * 300_000)
        with pytest.raises(EventTooLarge, match="262144 are allowed"):
            announce(tx, Event(large, tenant="acme", project="birds", resource="x"))


async def test_ids_that_would_change_a_subject_are_refused(world: World, sample: Any) -> None:
    async with world.run(sample.service) as service, service.database.transaction() as tx:
        with pytest.raises(ValueError, match="subject"):
            announce(tx, Event(announced_pb2.TasksClosed(), tenant="acme.>", project="birds", resource="x"))


async def test_the_stream_is_known_again_after_a_restart(
    world: World, sample: Any, make_annotation: Any
) -> None:
    async with world.run(sample.service) as service, service.database.transaction() as tx:
        announce(tx, make_annotation("once"))
    async with world.run(sample.service) as service:
        await eventually(lambda: effects(service), ["once"])
        await eventually(lambda: waiting(service), 0)
        assert await service.database.fetchval("SELECT max(republished) FROM outbox") == 0


async def test_a_pass_of_the_relay_holds_no_more_bytes_than_it_may_whatever_the_size_of_rows(
    world: World, sample: Any, make_annotation: Any, make_project: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(relay, "_BYTES", 1_000_000)
    held: list[list[int]] = []
    publish = Publisher.publish

    async def noting(publisher: Publisher, events: Any, timeout: float = 5.0) -> list[bool]:
        held.append([len(body) for _, _, body in events])
        return await publish(publisher, events, timeout)

    monkeypatch.setattr(Publisher, "publish", noting)
    large = [make_annotation(f"large-{number}") for number in range(12)]
    for event in large:
        event.message.annotation.labeler = "x" * 200_000
    database = await world.database("sample", sample.service.migrations)
    async with database.transaction() as tx:
        announce(
            tx, *(dataclasses.replace(make_project(f"p{n}"), project=f"p{n}") for n in range(20)), *large
        )
    relaying = relay.Relay(
        database, await world.connection(), "sample", Metrics(), SilentTracer(), retention_days=1.0
    )

    await relaying.drain()

    assert await database.fetchval(UNPUBLISHED) == 0
    assert max(sum(sizes) for sizes in held) <= 1_000_000
    assert [len(sizes) for sizes in held] == [16, 4 + 4, 4, 4], (
        "small rows by number, large ones by their bytes"
    )


@pytest.mark.parametrize("error", ["disk_full", "out_of_memory", "deadlock_detected", "internal_error"])
async def test_what_the_database_refuses_the_relay_is_waited_for_and_logged_once(
    world: World, sample: Any, make_annotation: Any, error: str
) -> None:
    refuse = f"""
        CREATE SEQUENCE tries;
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN PERFORM nextval('tries'); RAISE EXCEPTION 'not now' USING ERRCODE = '{error}'; END $$;
        CREATE TRIGGER refusing BEFORE UPDATE ON outbox FOR EACH ROW EXECUTE FUNCTION refuse();
    """
    database = await world.database("sample", sample.service.migrations)
    await database.execute(refuse)
    async with database.transaction() as tx:
        announce(tx, make_annotation("one"))
    with capture_logs() as logged:
        async with world.run(sample.service) as service:
            await eventually(lambda: effects(service), ["one"])
            await eventually(lambda: database.fetchval("SELECT last_value > 3 FROM tries"))
            assert service.chassis.missing() == ["relay"]

            await database.execute("DROP TRIGGER refusing ON outbox")

            await eventually(lambda: waiting(service), 0)
            await eventually(service.chassis.missing, [])
    assert [line["event"] for line in logged if "not now" in line.get("error", "")] == ["relay.waiting"]


def many(number: int) -> list[tuple[str, dict[str, str], bytes]]:
    """Messages as the relay sends them, each with an id of its own."""
    return [("cairn.v1.acme.birds.test.many", {"Nats-Msg-Id": f"many-{n}"}, b"") for n in range(number)]


async def test_many_events_go_as_one_whole_and_twice_is_once(world: World) -> None:
    bus = await world.connection()
    publisher = Publisher(bus)
    assert await publisher.publish(many(30)) == [True] * 30
    last = await bus.jetstream.get_msg("CAIRN", seq=30, direct=True)
    assert last.headers is not None
    assert last.headers["Nats-Batch-Sequence"] == "30"

    assert await publisher.publish(many(40)) == [True] * 40, "a whole that was there in part goes one by one"
    assert await publisher.publish(many(30)) == [True] * 30
    assert (await bus.jetstream.stream_info("CAIRN")).state.messages == 40


async def test_a_stream_that_takes_no_wholes_gets_its_events_one_by_one(world: World) -> None:
    bus = await world.connection()
    await bus.jetstream.delete_stream("CAIRN")
    await bus.jetstream.add_stream(dataclasses.replace(stream_config(1.0), allow_atomic=False))
    publisher = Publisher(bus)
    for _ in range(2):
        assert await publisher.publish(many(30)) == [True] * 30
    assert (await bus.jetstream.stream_info("CAIRN")).state.messages == 30


async def test_without_a_stream_no_event_is_taken_for_published(world: World) -> None:
    bus = await world.connection()
    await bus.jetstream.delete_stream("CAIRN")
    for number in (2, 30):
        with pytest.raises(StreamMissing):
            await Publisher(bus).publish(many(number))
