"""Events are neither lost nor doubled, whatever the deliveries, the database or the handlers do."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cairn.events.v1 import annotation_store_events_pb2 as events_pb2
from cairn.events.v1 import task_dispatch_events_pb2 as announced_pb2
from cairn_kit.events import Event, Subscription
from cairn_kit.events.dead_letters import list_dead_letters, request_replay
from cairn_kit.testing import World, eventually

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


REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN RAISE EXCEPTION 'cannot stand %', NEW.what USING ERRCODE = TG_ARGV[0]; END $$;
"""
AT_COMMIT = """
CREATE CONSTRAINT TRIGGER refusing AFTER INSERT ON effect DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW WHEN (NEW.what = 'poison') EXECUTE FUNCTION refuse('check_violation');
"""


async def test_an_event_for_which_the_commit_fails_is_given_up_alone(
    world: World, sample: Any, make_annotation: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("cairn_kit.events.consumer._RETRY_DELAYS", (0.01,))
    async with world.run(sample.service) as service:
        await service.database.execute(REFUSE + AT_COMMIT)
        await world.publish(*(make_annotation(name) for name in ("a", "poison", "b")))

        given_up = [("out_of_tries", "CheckViolationError: cannot stand poison")]
        await eventually(lambda: dead_letters(service), given_up)
        await eventually(lambda: effects(service), ["a", "b"])


async def test_an_event_for_which_a_hook_before_the_commit_fails_is_given_up_alone(
    world: World, sample: Any, make_annotation: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("cairn_kit.events.consumer._RETRY_DELAYS", (0.01,))
    handle = sample.on_annotations

    async def on_annotations(tx: Any, events: Any) -> None:
        await handle(tx, events)
        if "poison" in [event.resource for event in events]:
            tx.before_commit(refuse)

    async def refuse(_: Any) -> None:
        raise ValueError("cannot stand poison")

    sample.on_annotations = on_annotations
    async with world.run(sample.service) as service:
        await world.publish(*(make_annotation(name) for name in ("a", "poison", "b")))

        given_up = [("out_of_tries", "ValueError: cannot stand poison")]
        await eventually(lambda: dead_letters(service), given_up)
        await eventually(lambda: effects(service), ["a", "b"])


async def test_a_full_disk_is_no_event_s_failure(
    world: World, sample: Any, make_annotation: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("cairn_kit.events.consumer._TRIES", 1)
    async with world.run(sample.service) as service:
        await service.database.execute(
            f"{REFUSE} CREATE TRIGGER refusing BEFORE INSERT ON effect FOR EACH ROW EXECUTE FUNCTION refuse('disk_full')"
        )
        await world.publish(make_annotation("one"))
        await eventually(lambda: len(sample.batches) > 2)

        await service.database.execute("DROP TRIGGER refusing ON effect")

        await eventually(lambda: effects(service), ["one"])
        assert await dead_letters(service) == []


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


OLD = HEADERS | {"ce-time": "2020-01-01T00:00:00+00:00", "ce-subject": "old"}
SUBJECT = "cairn.v1.acme.birds.annotation.annotation-submitted"
PUT_OFF = "SELECT put_off FROM delivery_failure"


async def test_an_event_that_is_first_heard_of_when_it_is_old_waits_like_any_other(
    world: World, sample: Any, make_annotation: Any
) -> None:
    sample.not_yet = {"old"}
    async with world.run(sample.service) as service:
        await world.connection()
        await world.publish_raw([(SUBJECT, OLD, make_annotation("old").message.SerializeToString())])
        await eventually(lambda: service.database.fetchval(PUT_OFF))

        sample.not_yet = set()

        await eventually(lambda: effects(service), ["old"])
        assert await list_dead_letters(service.database) == []
        assert await failures(service) == []


async def test_an_event_that_was_put_off_for_as_long_as_makes_sense_is_given_up(
    world: World, sample: Any, make_annotation: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("cairn_kit.events.consumer._PUT_OFF_LONGEST", timedelta(seconds=0.5))
    monkeypatch.setattr("cairn_kit.events.consumer._REPLAY_EVERY", 0.05)
    sample.not_yet = {"old"}
    async with world.run(sample.service) as service:
        await world.connection()
        await world.publish_raw([(SUBJECT, OLD, make_annotation("old").message.SerializeToString())])
        await eventually(lambda: reasons(service), ["not_yet_too_long"])
        assert await failures(service) == []

        await request_replay(service.database)
        await eventually(lambda: replays_open(service), 0)
        assert await reasons(service) == ["not_yet_too_long"], "it is still unknown"


async def test_a_time_in_which_nobody_was_there_to_try_does_not_count(
    world: World, sample: Any, make_annotation: Any
) -> None:
    sample.not_yet = {"old"}
    async with world.run(sample.service) as service:
        await world.connection()
        await world.publish_raw([(SUBJECT, OLD, make_annotation("old").message.SerializeToString())])
        await eventually(lambda: service.database.fetchval(PUT_OFF))
    away = "UPDATE delivery_failure SET failed_at = failed_at - interval '3 days'"
    database = await world.database("sample", sample.service.migrations)
    await database.execute(away)

    async with world.run(sample.service) as service:
        a_minute = timedelta(minutes=1)
        await eventually(lambda: service.database.fetchval(f"{PUT_OFF} WHERE put_off > $1", a_minute))
        assert await service.database.fetchval(PUT_OFF) < 2 * a_minute
        assert await list_dead_letters(service.database) == []


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
