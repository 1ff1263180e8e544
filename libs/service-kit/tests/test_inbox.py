"""What was handled is remembered by the message, and of a batch that was handled in parts by the event."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from cairn_kit.database import Database
from cairn_kit.events.envelope import Place, Received
from cairn_kit.events.inbox import remember
from cairn_kit.ids import uuid7
from cairn_kit.testing import World


@pytest.fixture
async def database(world: World) -> AsyncIterator[Database]:
    found = Database(await world.dsn("inbox"), "inbox")
    await found.open()
    yield found
    await found.close()


def message(events: int, project: str = "birds") -> list[Received[Any]]:
    """The events of one message."""
    ids = [uuid7() for _ in range(events)]
    return [
        Received(
            id=event_id,
            type="t",
            source="/s",
            tenant="acme",
            project=project,
            resource="r",
            revision=0,
            time=datetime.now(UTC),
            subject="",
            headers={},
            body=b"",
            place=Place(ids[0], number, events),
        )
        for number, event_id in enumerate(ids)
    ]


async def handled(database: Database, events: Sequence[Received[Any]], consumer: str = "c") -> list[UUID]:
    """Those that were not handled before."""
    async with database.transaction() as tx:
        return [event.id for event in await remember(tx, consumer, events)]


def ids(events: Sequence[Received[Any]]) -> list[UUID]:
    return [event.id for event in events]


async def test_a_message_is_one_row_however_many_events_it_brings(database: Database) -> None:
    events = [*message(1), *message(300), *message(2)]
    assert await handled(database, events) == ids(events)
    assert await database.fetchval("SELECT count(*) FROM inbox") == 3
    assert await handled(database, events) == []
    assert await handled(database, events, "another") == ids(events)


@pytest.mark.parametrize("seed", range(5))
async def test_each_event_is_new_once_in_whatever_parts_its_message_comes(
    database: Database, seed: int
) -> None:
    chance = random.Random(seed)
    messages = [message(size) for size in (1, 2, 7, 8, 9, 40)]
    every = [event for events in messages for event in events]
    seen: list[UUID] = []
    for _ in range(60):
        seen += await handled(database, chance.sample(every, chance.randint(1, 12)))
    seen += await handled(database, every)
    assert sorted(seen) == sorted(ids(every))
    assert await database.fetchval("SELECT count(*) FROM inbox") == len(messages)


async def test_what_is_taken_back_was_not_handled(database: Database) -> None:
    events = message(3)
    await handled(database, events[:1])

    async def fail() -> None:
        async with database.transaction() as tx:
            await remember(tx, "c", events)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert await handled(database, events) == ids(events[1:])


async def test_two_replicas_that_are_given_the_same_handle_it_once(database: Database) -> None:
    for _ in range(20):
        every = [event for size in (1, 3, 5) for event in message(size)]
        parts = [every[:5], every[2:], every, every[:1]]
        found = await asyncio.gather(*(handled(database, part) for part in parts))
        assert sorted(one for part in found for one in part) == sorted(ids(every))


async def test_what_tells_of_a_deleted_project_is_marked(database: Database) -> None:
    await database.execute(
        "INSERT INTO deleted_project (tenant, project, event_id) VALUES ('acme', 'gone', $1)", uuid7()
    )
    late, other = message(2, "gone"), message(2)
    async with database.transaction() as tx:
        await remember(tx, "c", [*late, *other])
    assert [event.too_late for event in (*late, *other)] == [True, True, False, False]
