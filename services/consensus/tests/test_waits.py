"""Those who wait for the same wait together, and nothing goes on for nobody."""

from __future__ import annotations

import asyncio

import pytest

from cairn_consensus.waits import Waits
from cairn_kit.testing import eventually


class Wait:
    """What is waited for, and how often it was begun and given up."""

    def __init__(self) -> None:
        self.begun = self.given_up = 0
        self.comes: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> str:
        self.begun += 1
        try:
            return await asyncio.shield(self.comes)
        except asyncio.CancelledError:
            self.given_up += 1
            raise


async def waiting(waits: Waits[str, str], wait: Wait, number: int) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(waits.until("birds", wait)) for _ in range(number)]
    await eventually(lambda: wait.begun)
    return tasks


async def test_all_who_wait_for_the_same_are_told_by_one() -> None:
    waits, wait = Waits[str, str](), Wait()
    tasks = await waiting(waits, wait, 5)
    tasks.pop().cancel()
    wait.comes.set_result("wren")
    assert await asyncio.gather(*tasks) == ["wren"] * 4
    assert (wait.begun, wait.given_up) == (1, 0)
    assert await waits.until("birds", wait) == "wren"
    assert wait.begun == 2, "what was told once may be over"


async def test_an_error_is_told_to_all_of_them() -> None:
    waits, wait = Waits[str, str](), Wait()
    tasks = await waiting(waits, wait, 3)
    wait.comes.set_exception(ZeroDivisionError())
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in told] == [ZeroDivisionError] * 3


async def test_what_nobody_waits_for_any_more_is_given_up() -> None:
    waits, wait = Waits[str, str](), Wait()
    first, last = await waiting(waits, wait, 2)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert wait.given_up == 0
    last.cancel()
    await eventually(lambda: wait.given_up)
    [anew] = await waiting(waits, wait, 1)
    wait.comes.set_result("wren")
    assert await anew == "wren"
