"""Wakes those who wait for something of a project when it was committed here."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from weakref import WeakValueDictionary


class Wakes:
    """One bell a project. A hint within this process only: who waits also looks now and then, for others' commits.

    A bell is kept by who waits for it, and gone with the last of them: anybody may wait for a project that nobody made.
    """

    def __init__(self) -> None:
        self._bells: WeakValueDictionary[tuple[str, str], asyncio.Event] = WeakValueDictionary()

    def ring(self, tenant: str, project: str) -> None:
        """Wake everybody who waits for this project."""
        bell = self._bells.pop((tenant, project), None)
        if bell is not None:
            bell.set()

    def listen(self, tenant: str, project: str) -> asyncio.Event:
        """The bell that rings next. Take it before reading, wait after: then nothing is missed in between."""
        return self._bells.setdefault((tenant, project), asyncio.Event())


async def rung(bell: asyncio.Event, seconds: float) -> None:
    """Wait for the bell, or so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await bell.wait()
