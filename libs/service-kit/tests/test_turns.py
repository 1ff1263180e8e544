"""One at a time, callers in turn, whoever goes away meanwhile."""

from __future__ import annotations

import asyncio

from cairn_kit.rpc.turns import Turns


async def test_a_turn_that_comes_to_who_has_just_gone_is_the_next_ones() -> None:
    turns, had = Turns(), list[str]()

    async def take(caller: str) -> None:
        async with turns.turn(caller):
            had.append(caller)

    async with turns.turn("first"):
        leaves, stays = (asyncio.create_task(take(caller)) for caller in ("leaves", "stays"))
        await asyncio.sleep(0)
    leaves.cancel()  # let in, but not there yet
    await asyncio.wait([leaves, stays], timeout=60.0)
    assert had == ["stays"]
    await asyncio.wait_for(take("later"), 60.0)
    assert had == ["stays", "later"]
