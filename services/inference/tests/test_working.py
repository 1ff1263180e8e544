"""One process at a time does the endless work; whoever loses the lock stops in the middle of it."""

from __future__ import annotations

import asyncio

from cairn_inference.__main__ import SERVICE
from cairn_inference.working import Worker
from cairn_kit.testing import World


async def test_a_worker_whose_lock_is_lost_breaks_off_what_it_does(world: World) -> None:
    database = await world.database("inference", SERVICE.migrations)
    began, broken_off = asyncio.Event(), asyncio.Event()

    async def endless() -> int:
        began.set()
        try:
            return await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            broken_off.set()
            raise

    working = asyncio.create_task(Worker(database, "routing", [endless]).run())
    await began.wait()
    await database.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    await asyncio.wait_for(working, 10)
    assert broken_off.is_set()


async def test_whoever_takes_the_lock_is_told_before_the_first_step(world: World) -> None:
    database = await world.database("inference", SERVICE.migrations)
    told: list[str] = []
    stepped = asyncio.Event()

    async def step() -> int:
        told.append("step")
        stepped.set()
        return 0

    working = asyncio.create_task(Worker(database, "routing", [step], lambda: told.append("begin")).run())
    await stepped.wait()
    working.cancel()
    await asyncio.wait([working])
    assert told == ["begin", "step"]
