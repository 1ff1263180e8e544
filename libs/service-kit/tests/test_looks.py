"""One look serves all who may see what it sees."""

from __future__ import annotations

import asyncio

from cairn_kit.auth.caller import acting_for, current_tenant
from cairn_kit.looks import Looks
from cairn_kit.rpc.deadline import remaining, set_deadline


async def test_a_look_that_began_too_long_ago_is_not_waited_for() -> None:
    now, begun = 0.0, 0
    ends = [asyncio.Event() for _ in range(2)]

    async def look(key: str) -> int:
        nonlocal begun
        mine, begun = begun, begun + 1
        await ends[mine].wait()
        return mine

    looks = Looks(look, clock=lambda: now)
    first = asyncio.create_task(looks.get("a", 0.2))
    await asyncio.sleep(0)
    now = 0.1
    beside = asyncio.create_task(looks.get("a", 0.2))
    await asyncio.sleep(0)
    now = 0.3
    later = asyncio.create_task(looks.get("a", 0.2))
    await asyncio.sleep(0)
    for end in ends:
        end.set()
    assert [await first, await beside, await later] == [0, 0, 1]


async def test_a_look_that_others_wait_for_as_well_is_not_made_in_the_time_of_who_came_first() -> None:
    async def look(key: str) -> tuple[str, float | None]:
        return current_tenant(), remaining()

    set_deadline(0.0)
    with acting_for("acme"):
        assert await Looks(look).get("a") == ("acme", None)
    assert remaining() is not None
