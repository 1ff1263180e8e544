"""Events are neither lost nor doubled, whatever the bus, the database or the handlers do."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cairn.events.v1 import annotation_store_events_pb2 as events_pb2
from cairn.events.v1 import task_dispatch_events_pb2 as announced_pb2
from cairn_kit.events import Event, EventTooLarge, Subscription, announce, relay
from cairn_kit.events.bus import Publisher, StreamMissing
from cairn_kit.events.dead_letters import list_dead_letters, request_replay
from cairn_kit.events.relay import republish
from cairn_kit.events.topology import stream_config
from cairn_kit.telemetry.metrics import Metrics
from cairn_kit.telemetry.tracing import SilentTracer
from cairn_kit.testing import World, eventually

UNPUBLISHED = "SELECT count(*) FROM outbox WHERE published_at IS NULL"
EFFECTS = "SELECT what FROM effect ORDER BY place"
HEADERS = {
    "ce-id": "0192f0c0-0000-7000-8000-000000000001",
    "ce-type": "cairn.events.v1.AnnotationSubmitted",
    "ce-source": "/services/test",
    "ce-subject": "x",
    "ce-time": "2026-01-01T00:00:00+00:00",
    "cairn-tenant": "acme",
    "cairn-project": "birds",
    "cairn-revision": "1",
}


async def effects(service: Any) -> list[str]:
    return [row["what"] for row in await service.database.fetch(EFFECTS)]


async def test_an_event_is_handled_and_what_it_announces_is_published(
    world: World, sample: Any, make_annotation: Any
) -> None:
    async with world.run(sample.service) as service:
        heard = await world.listen(announced_pb2.TasksClosed)

        await world.publish(make_annotation("one"))

        [event] = await heard.count(1)
        assert event.resource == "one"
        assert event.source == "/services/sample"
        assert event.subject == "cairn.v1.acme.birds.task.tasks-closed"
        assert await effects(service) == ["one"]


async def test_deliveries_in_any_number_and_order_act_once_each(
    world: World, sample: Any, make_annotation: Any
) -> None:
    names = [f"item-{number}" for number in range(60)]
    async with world.run(sample.service, consumer_batch=7) as service:
        heard = await world.listen(announced_pb2.TasksClosed)

        await world.publish(*(make_annotation(name) for name in names), copies=3)

        await heard.count(60)
        await eventually(lambda: unsettled(world), 0)
        assert sorted(await effects(service)) == sorted(names)
        assert sorted(event.resource for event in heard.events) == sorted(names)


async def unsettled(world: World) -> int:
    info = await (await world.connection()).jetstream.consumer_info("CAIRN", "sample")
    return int(info.num_pending + info.num_ack_pending)


async def test_consecutive_events_of_one_type_come_in_one_call_and_in_order(
    world: World, sample: Any, make_annotation: Any, make_project: Any
) -> None:
    await world.connection()
    await world.publish(
        make_annotation("a"), make_annotation("b"), make_project("p"), make_project("q"), make_annotation("c")
    )
    async with world.run(sample.service) as service:
        await eventually(lambda: effects(service), ["a", "b", "p", "q", "c"])
        assert sample.batches == [["a", "b"], ["p", "q"], ["c"]]


async def test_no_more_is_taken_at_once_than_two_megabytes(
    world: World, sample: Any, make_annotation: Any
) -> None:
    await world.connection()
    names = [f"{n:02d}" for n in range(40)]
    events = [make_annotation(name) for name in names]
    for event in events:
        event.message.annotation.answers.add(question="q", text="x" * 200 * 1024)
        await world.publish(event)
    async with world.run(sample.service) as service:
        await eventually(lambda: effects(service), names)
        assert [name for batch in sample.batches for name in batch] == names
        # What comes while a batch is handled is another two megabytes.
        assert max(map(len, sample.batches)) <= 2 * 2 * 1024 // 200


async def test_where_order_does_not_matter_each_type_comes_whole(
    world: World, sample: Any, make_annotation: Any, make_project: Any
) -> None:
    sample.in_order = False
    await world.publish(make_annotation("a"), make_project("p"), make_annotation("b"), make_project("q"))
    async with world.run(sample.service) as service:
        await eventually(lambda: effects(service), ["p", "q", "a", "b"])


async def test_one_bad_event_does_not_hold_up_its_neighbours_and_leaves_no_trace(
    world: World, sample: Any, make_annotation: Any
) -> None:
    sample.fail_on = {"item-3"}
    await world.publish(*(make_annotation(f"item-{number}") for number in range(8)))
    async with world.run(sample.service) as service:
        heard = await world.listen(announced_pb2.TasksClosed)
        good = [f"item-{number}" for number in range(8) if number != 3]
        await eventually(lambda: effects(service), good)
        await eventually(lambda: failures(service), [1])

        sample.fail_on = set()  # the defect is mended: the next delivery succeeds

        await eventually(lambda: effects(service), [*good, "item-3"])
        assert await failures(service) == []
        assert [event.resource for event in await heard.count(8)] == [*good, "item-3"]


async def failures(service: Any) -> list[int]:
    rows = await service.database.fetch("SELECT failures FROM delivery_failure ORDER BY event_id")
    return [row["failures"] for row in rows]


async def test_an_event_out_of_tries_is_a_dead_letter_and_can_be_replayed(
    world: World, sample: Any, make_annotation: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("cairn_kit.events.consumer._RETRY_DELAYS", (0.01,))
    monkeypatch.setattr("cairn_kit.events.consumer._REPLAY_EVERY", 0.05)
    sample.fail_on = {"poison"}
    async with world.run(sample.service) as service:
        await world.publish(make_annotation("poison"), make_annotation("good"))

        await eventually(lambda: dead_letters(service), [("out_of_tries", "ValueError: cannot stand poison")])
        assert await effects(service) == ["good"]

        await request_replay(service.database)
        await eventually(lambda: replays_open(service), 0)
        assert len(await dead_letters(service)) == 1, "it still fails, and stays where it can be seen"

        sample.fail_on = set()
        await request_replay(service.database)
        await eventually(lambda: effects(service), ["good", "poison"])
        assert await dead_letters(service) == []


async def dead_letters(service: Any) -> list[tuple[str, str]]:
    return [(letter.reason.value, letter.error) for letter in await list_dead_letters(service.database)]


async def reasons(service: Any) -> list[str]:
    return [reason for reason, _ in await dead_letters(service)]


async def replays_open(service: Any) -> int:
    return sum(letter.replay_requested for letter in await list_dead_letters(service.database))


async def test_what_is_no_event_becomes_a_dead_letter_once(
    world: World, sample: Any, make_annotation: Any
) -> None:
    subject = "cairn.v1.acme.birds.annotation.annotation-submitted"
    async with world.run(sample.service) as service:
        await world.publish_raw([(subject, {}, b"hello"), (subject, HEADERS, b"\xff\xff\xff")])
        other = HEADERS | {
            "ce-type": "cairn.events.v1.Unheard",
            "ce-id": "0192f0c0-0000-7000-8000-000000000002",
        }
        await world.publish_raw([(subject, other, b"")])
        await world.publish(make_annotation("good"))

        await eventually(lambda: effects(service), ["good"])
        assert sorted(await reasons(service)) == ["undecodable", "undecodable", "unknown_type"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ce-subject": "x\0y"}, "undecodable"),
        ({"ce-type": "cairn.events.v1.\0"}, "undecodable"),
        ({"ce-time": "2026-01-01T00:00:00"}, "undecodable"),
        ({"ce-type": "cairn.events.v1.Unheard", "x-note": "a\0b"}, "unknown_type"),
        ({"subject": "cairn.v1.ac\0me.birds.annotation.annotation-submitted"}, "undecodable"),
        ({"item": "projects/birds/items/o\0ne"}, "invalid"),
    ],
)
async def test_what_the_database_cannot_keep_is_a_dead_letter_and_does_not_block_the_next_event(
    world: World, sample: Any, make_annotation: Any, monkeypatch: Any, changes: dict[str, str], reason: str
) -> None:
    monkeypatch.setattr("cairn_kit.events.consumer._REPLAY_EVERY", 0.05)
    subject = changes.get("subject", "cairn.v1.acme.birds.annotation.annotation-submitted")
    body = make_annotation("one").message
    body.item = changes.get("item", body.item)
    async with world.run(sample.service) as service:
        await world.publish_raw([(subject, HEADERS | changes, body.SerializeToString())])
        await world.publish(make_annotation("good"))

        await eventually(lambda: effects(service), ["good"])
        await eventually(lambda: reasons(service), [reason])

        await request_replay(service.database)
        await eventually(lambda: replays_open(service), 0)
        assert await reasons(service) == [reason], (
            "what was written out to be kept is never taken for an event"
        )
        assert await effects(service) == ["good"]


async def test_a_subject_that_is_no_text_does_not_end_the_connection(
    world: World, sample: Any, make_annotation: Any
) -> None:
    await world.connection()
    async with world.run(sample.service) as service:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", world.bus.port
        )  # nats-py would not send it
        writer.write(b'CONNECT {"verbose":false,"auth_token":"%s"}\r\n' % world.bus.token.encode())
        writer.write(b"PUB cairn.v1.\xff.birds.annotation.annotation-submitted 5\r\nhello\r\nPING\r\n")
        await reader.readuntil(b"PONG")
        writer.close()
        await world.publish(make_annotation("good"))

        await eventually(lambda: effects(service), ["good"])
        await eventually(lambda: reasons(service), ["undecodable"])


async def test_an_error_that_quotes_nul_is_kept_like_any_other(
    world: World, sample: Any, make_annotation: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("cairn_kit.events.consumer._RETRY_DELAYS", (0.01,))

    async def on_annotations(tx: Any, events: Any) -> None:
        raise ValueError("cannot stand \0 and \udc80")

    sample.on_annotations = on_annotations
    async with world.run(sample.service) as service:
        await world.publish(make_annotation("poison"))
        kept = [("out_of_tries", "ValueError: cannot stand \\x00 and \\udc80")]
        await eventually(lambda: dead_letters(service), kept)


async def test_an_event_that_comes_too_early_waits_without_failing_or_blocking(
    world: World, sample: Any, make_annotation: Any
) -> None:
    sample.not_yet = {"early"}
    async with world.run(sample.service) as service:
        await world.publish(make_annotation("early"), make_annotation("ripe"))
        await eventually(lambda: effects(service), ["ripe"])

        sample.not_yet = set()

        await eventually(lambda: effects(service), ["ripe", "early"])
        assert await failures(service) == []


async def test_how_old_the_events_in_hand_are_is_a_metric_and_nothing_once_all_are_handled(
    world: World, sample: Any, make_annotation: Any
) -> None:
    async with world.run(sample.service) as service:
        lag = service.chassis.metrics.consumer_lag
        old = HEADERS | {"ce-time": (datetime.now(UTC) - timedelta(minutes=10)).isoformat()}
        body = make_annotation("old").message.SerializeToString()
        subject = "cairn.v1.acme.birds.annotation.annotation-submitted"
        await world.publish_raw([(subject, old, body)])

        await eventually(lambda: lag._value.get() >= 600)
        await eventually(lag._value.get, 0.0)


async def test_an_event_that_another_replica_is_to_handle_waits_however_old_it_is(
    world: World, sample: Any, make_annotation: Any
) -> None:
    sample.elsewhere = {"moved"}
    old = HEADERS | {"ce-time": "2020-01-01T00:00:00+00:00", "ce-subject": "moved"}
    subject = "cairn.v1.acme.birds.annotation.annotation-submitted"
    async with world.run(sample.service) as service:
        await world.connection()
        await world.publish_raw([(subject, old, make_annotation("moved").message.SerializeToString())])
        await world.publish(make_annotation("here"))
        await eventually(lambda: effects(service), ["here"])

        sample.elsewhere = set()

        await eventually(lambda: effects(service), ["here", "moved"])
        assert await list_dead_letters(service.database) == []


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


async def test_who_hears_everything_gets_whole_batches_beside_the_typed_handlers(
    world: World, sample: Any, make_annotation: Any, make_project: Any
) -> None:
    ledger: list[list[str]] = []

    async def on_events(tx: Any, events: Any) -> None:
        ledger.append([f"{event.type.rpartition('.')[2]} {event.resource}" for event in events])

    async def wire(chassis: Any) -> None:
        chassis.consume(
            [
                Subscription.everything(on_events),
                Subscription(events_pb2.AnnotationSubmitted, sample.on_annotations),
            ]
        )

    closed = Event(announced_pb2.TasksClosed(), tenant="acme", project="", resource="t")
    await world.publish(make_annotation("a"), make_project("p"), closed, make_annotation("b"))
    async with world.run(dataclasses.replace(sample.service, wire=wire)) as service:
        await eventually(lambda: effects(service), ["a", "b"])
        assert ledger[0] == [
            "AnnotationSubmitted a",
            "ProjectCreated p",
            "TasksClosed t",
            "AnnotationSubmitted b",
        ]
        assert sample.batches == [["a"], ["b"]]


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
