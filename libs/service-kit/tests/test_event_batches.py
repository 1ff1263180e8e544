"""Events of one transaction travel together, and are handled, put off and given up each for itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from cairn.events.v1 import annotation_store_events_pb2 as events_pb2
from cairn.events.v1.event_batch_pb2 import BatchedEvent, EventBatch
from cairn_kit.events import announce
from cairn_kit.events.dead_letters import list_dead_letters, request_replay
from cairn_kit.events.envelope import BATCH, LARGEST_BODY, Stored, batched, receive_all
from cairn_kit.events.relay import republish
from cairn_kit.ids import uuid7
from cairn_kit.telemetry.tracing import context_of
from cairn_kit.testing import World, announced, eventually

SUBJECT = "cairn.v1.acme.birds.annotation.annotation-submitted"
TRACES = [f"00-{n:032x}-{n:016x}-01" for n in (1, 2)]


async def effects(service: Any) -> list[str]:
    return [row["what"] for row in await service.database.fetch("SELECT what FROM effect ORDER BY place")]


async def dead_letters(service: Any) -> list[tuple[str, str]]:
    return [
        (letter.reason.value, str(letter.event_id)) for letter in await list_dead_letters(service.database)
    ]


async def settled(world: World) -> bool:
    info = await (await world.connection()).jetstream.consumer_info("CAIRN", "sample")
    return not (info.num_pending or info.num_ack_pending)


@pytest.mark.parametrize("bytes_a_statement", [16 << 20, 1])
async def test_what_one_transaction_announces_goes_as_one_message_a_type_and_arrives_in_order(
    world: World,
    sample: Any,
    make_annotation: Any,
    make_project: Any,
    monkeypatch: Any,
    bytes_a_statement: int,
) -> None:
    monkeypatch.setattr("cairn_kit.events.outbox._AT_ONCE", bytes_a_statement)
    async with world.run(sample.service) as service:
        heard = await world.listen(events_pb2.AnnotationSubmitted)
        async with service.database.transaction() as tx:
            announce(tx, make_annotation("a"), cause=context_of(TRACES[0]))
            announce(tx, make_project("p"))
            announce(tx, make_annotation("b"), cause=context_of(TRACES[1]))

        events = await heard.count(2)
        assert [(event.resource, event.headers["traceparent"]) for event in events] == [
            ("a", TRACES[0]),
            ("b", TRACES[1]),
        ]
        assert {event.source for event in events} == {"/services/sample"}
        await eventually(lambda: effects(service), ["a", "b", "p"])
        rows = await service.database.fetch("SELECT event_type, events FROM outbox WHERE resource <> 'p'")
        assert (BATCH, 2) in [(row["event_type"], row["events"]) for row in rows]
        assert [e.id for e in await announced(service.database) if e.type.endswith("Submitted")] == [
            event.id for event in events
        ]


async def test_a_bad_event_among_others_is_given_up_alone_and_can_be_replayed(
    world: World, sample: Any, make_annotation: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("cairn_kit.events.consumer._TRIES", 2)
    monkeypatch.setattr("cairn_kit.events.consumer._RETRY_DELAYS", (0.01,))
    monkeypatch.setattr("cairn_kit.events.consumer._REPLAY_EVERY", 0.05)
    sample.fail_on = {"poison"}
    async with world.run(sample.service) as service:
        async with service.database.transaction() as tx:
            announce(tx, *(make_annotation(name) for name in ("a", "poison", "b")))
        [poison] = [event for event in await announced(service.database) if event.resource == "poison"]

        await eventually(lambda: dead_letters(service), [("out_of_tries", str(poison.id))])
        assert await effects(service) == ["a", "b"]
        await eventually(lambda: settled(world))

        sample.fail_on = set()
        await request_replay(service.database)
        await eventually(lambda: effects(service), ["a", "b", "poison"])
        assert await dead_letters(service) == []

        # All of it is sent again, and nothing more happens.
        await republish(service.database)
        async with service.database.transaction() as tx:
            announce(tx, make_annotation("last"))
        await eventually(lambda: effects(service), ["a", "b", "poison", "last"])


async def test_an_event_that_is_too_early_has_its_message_come_again_and_the_others_act_once(
    world: World, sample: Any, make_annotation: Any
) -> None:
    sample.not_yet = {"early"}
    async with world.run(sample.service) as service:
        async with service.database.transaction() as tx:
            announce(tx, *(make_annotation(name) for name in ("a", "early", "b")))

        await eventually(lambda: effects(service), ["a", "b"])
        sample.not_yet = set()
        await eventually(lambda: effects(service), ["a", "b", "early"])
        await eventually(lambda: settled(world))
        assert await effects(service) == ["a", "b", "early"]


async def test_what_is_malformed_in_a_batch_is_a_dead_letter_and_the_rest_is_handled(
    world: World, sample: Any, make_annotation: Any
) -> None:
    body = make_annotation("good").message.SerializeToString()
    good, other = str(uuid7()), str(uuid7())
    batch = EventBatch(
        type="cairn.events.v1.AnnotationSubmitted",
        events=[
            BatchedEvent(id="no uuid", subject="x", data=body),
            BatchedEvent(id=good, subject="good", data=body),
            BatchedEvent(id=other, subject="bad", data=b"\xff\xff"),
        ],
    )
    async with world.run(sample.service) as service:
        await world.publish_raw([(SUBJECT, envelope(BATCH), batch.SerializeToString())])
        await world.publish_raw([(SUBJECT, envelope(BATCH), b"\xff\xff")])
        await world.publish_raw([(SUBJECT, envelope(BATCH), b"")])

        await eventually(lambda: effects(service), ["good"])
        await eventually(lambda: dead_letter_count(service), 4)
        letters = await dead_letters(service)
        assert [reason for reason, _ in letters] == ["undecodable"] * 4
        assert other in [event_id for _, event_id in letters]
        await eventually(lambda: settled(world))


async def dead_letter_count(service: Any) -> int:
    return len(await list_dead_letters(service.database))


def envelope(type_name: str) -> dict[str, str]:
    return stored("message", b"").headers("/services/test") | {"ce-type": type_name}


async def test_a_message_that_comes_twice_acts_once(world: World, sample: Any, make_annotation: Any) -> None:
    events = [stored(name, make_annotation(name).message.SerializeToString()) for name in ("a", "b")]
    [message] = batched(events)
    headers = message.headers("/services/test")
    async with world.run(sample.service) as service:
        await world.publish_raw(
            [(SUBJECT, headers | {"Nats-Msg-Id": str(copy)}, message.body) for copy in range(3)]
        )
        await eventually(lambda: effects(service), ["a", "b"])
        await eventually(lambda: settled(world))
        assert await effects(service) == ["a", "b"]


@pytest.mark.parametrize(("size", "count"), [(10, 1201), (100_000, 7)])
def test_a_batch_stays_below_the_size_of_an_event_and_loses_none(size: int, count: int) -> None:
    events = [stored(f"e{n}", bytes(size)) for n in range(count)]
    messages = list(batched(events))
    assert 1 < len(messages) < count
    assert all(len(message.body) <= LARGEST_BODY for message in messages)
    assert [message.events for message in messages if message.type == BATCH] == [
        len(EventBatch.FromString(message.body).events) for message in messages if message.type == BATCH
    ]
    read = [
        event
        for message in messages
        for event in receive_all(message.nats_subject, message.headers("/s"), message.body)
    ]
    assert [event.id for event in read if not isinstance(event, Exception)] == [event.id for event in events]


def stored(resource: str, body: bytes) -> Stored:
    return Stored(
        id=UUID(int=uuid7().int),
        type="cairn.events.v1.AnnotationSubmitted",
        nats_subject=SUBJECT,
        tenant="acme",
        project="birds",
        resource=resource,
        revision=1,
        traceparent="",
        time=datetime.now(UTC),
        body=body,
    )
