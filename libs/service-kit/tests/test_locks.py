"""Who holds a lock knows when it is lost, though nothing on the line tells of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cairn_kit.database import Database
from cairn_kit.database.locks import Locks
from cairn_kit.testing import World, eventually

MIGRATIONS = Path(__file__).parent / "migrations"


@pytest.fixture
async def database(world: World) -> Database:
    return await world.database("sample", MIGRATIONS)


@pytest.fixture
def short_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cairn_kit.database.locks._ANSWER", 2.0)
    monkeypatch.setattr("cairn_kit.database.locks._HEARTBEAT", 0.05)


@contextmanager
def silent(locks: Locks) -> Iterator[None]:
    """The server says nothing more to this session, and does not hang up: as a machine that is gone."""
    os.kill(locks.session, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(locks.session, signal.SIGCONT)


@pytest.mark.usefixtures("short_of_time")
async def test_who_asks_a_server_that_is_silent_is_told_and_has_lost_its_locks(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cairn_kit.database.locks._HEARTBEAT", 3600.0)
    async with database.locks() as locks:
        assert await locks.take("one")
        with silent(locks):
            asking = asyncio.create_task(locks.holders("one"))
            await asyncio.wait([asking], timeout=20)
            assert asking.done()
            assert isinstance(asking.exception(), TimeoutError)
            assert locks.lost.is_set()


@pytest.mark.usefixtures("short_of_time")
async def test_who_asks_nothing_is_told_as_well(database: Database) -> None:
    async with database.exclusively("refit") as locks:
        with silent(locks):
            await asyncio.wait_for(locks.lost.wait(), 20)


async def test_a_session_that_is_watched_is_used_by_one_at_a_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cairn_kit.database.locks._HEARTBEAT", 0.0)
    async with database.locks() as locks:
        taken = await asyncio.gather(*(locks.take(f"lock-{number}") for number in range(50)))
        assert all(taken)
        assert await locks.holders("lock-1") == [locks.session]
        assert not locks.lost.is_set()

    async with database.locks() as others:
        await eventually(lambda: others.take("lock-1"))
