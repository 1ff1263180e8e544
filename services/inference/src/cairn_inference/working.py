"""The endless work of inference: one process of the service at a time, woken by what comes in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from cairn_kit.database import Database

_IDLE = 1.0
"""Seconds until the next look, when nothing wakes it: what another process wrote wakes nobody here."""


def _nothing() -> None:
    """Nothing is known from before."""


class Worker:
    """Runs steps again and again, as long as it holds the lock of its name."""

    def __init__(
        self,
        database: Database,
        name: str,
        steps: Sequence[Callable[[], Awaitable[int]]],
        begin: Callable[[], None] = _nothing,
    ) -> None:
        """`begin` is called when the lock was taken: until then others may have done the work."""
        self._database = database
        self._name = name
        self._steps = steps
        self._begin = begin
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """There may be something to do."""
        self._woken.set()

    async def run(self) -> None:
        """Work until the lock is lost, which breaks a step off, or a step fails; the chassis begins again."""
        async with self._database.exclusively(self._name) as lock:
            working, lost = asyncio.create_task(self._work()), asyncio.create_task(lock.lost.wait())
            try:
                await asyncio.wait([working, lost], return_when=asyncio.FIRST_COMPLETED)
            finally:
                lost.cancel()
                working.cancel()
                await asyncio.wait([working])
            if not working.cancelled():
                working.result()  # it ends by an error alone

    async def _work(self) -> None:
        self._begin()
        while True:
            self._woken.clear()
            done = 0
            for step in self._steps:
                done += await step()
            if not done:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_IDLE):
                        await self._woken.wait()
