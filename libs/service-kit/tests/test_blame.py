"""An error that rolled events back is told of an event, of a server that is away, or of who worked beside it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import asyncpg
import pytest
from asyncpg.exceptions._base import DataError as Unencodable

from cairn_kit.events import NotYet, Received
from cairn_kit.events.batch import HandlerFailed
from cairn_kit.events.blame import Outage, blame
from cairn_kit.events.envelope import Place
from cairn_kit.ids import uuid7

EVENT = Received(
    id=uuid7(),
    type="t",
    source="/s",
    tenant="acme",
    project="birds",
    resource="r",
    revision=0,
    time=datetime.now(UTC),
    subject="",
    headers={},
    body=b"",
    place=Place(uuid7()),
)


@pytest.mark.parametrize(
    ("error", "opened", "told"),
    [
        (ValueError(), True, HandlerFailed),
        (Unencodable("value out of int64 range"), True, HandlerFailed),
        (asyncpg.InterfaceError("connection is closed"), True, Outage),
        (asyncpg.CheckViolationError(), True, HandlerFailed),
        (asyncpg.InvalidPasswordError(), False, Outage),
        (asyncpg.DiskFullError(), True, Outage),
        (asyncpg.OutOfMemoryError("out of shared memory"), True, Outage),
        (asyncpg.PostgresIOError(), True, Outage),
        (TimeoutError(), True, Outage),
        (asyncpg.DeadlockDetectedError(), True, asyncpg.DeadlockDetectedError),
        (NotYet("unknown"), True, NotYet),
        (asyncio.CancelledError(), True, asyncio.CancelledError),
    ],
)
def test_what_is_raised_outside_of_handlers_is_blamed_on_whom_it_comes_from(
    error: BaseException, opened: bool, told: type[BaseException]
) -> None:
    blamed = blame(error, [EVENT], opened=opened)
    assert type(blamed) is told
    assert blamed is error or blamed.__cause__ is error


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (Unencodable("value out of int64 range"), HandlerFailed),
        (asyncpg.InterfaceError("connection is closed"), Outage),
        (ConnectionResetError(), Outage),
        (asyncpg.SerializationError(), asyncpg.SerializationError),
    ],
)
def test_what_a_handler_raised_is_the_events_unless_a_server_is_away(
    cause: BaseException, told: type[BaseException]
) -> None:
    failed = HandlerFailed([EVENT])
    failed.__cause__ = cause
    assert type(blame(failed, [EVENT], opened=True)) is told
