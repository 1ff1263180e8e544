"""A place for one at a time, which those who wait get in turn: what one caller sends keeps nobody waiting for all of it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class Turns:
    """Lets in one of those who wait, of another caller each time, as long as there is another."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, caller: Hashable) -> AsyncIterator[None]:
        """The block is this caller's turn."""
        if self._taken:
            await self._wait(caller)
        self._taken = True
        try:
            yield
        finally:
            self._next()

    async def _wait(self, caller: Hashable) -> None:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():
                self._next()  # the turn had come, too late
            raise

    def _next(self) -> None:
        self._taken = False
        while self._waiting and not self._taken:
            caller, theirs = self._waiting.popitem(last=False)
            first = theirs.popleft()
            if theirs:
                self._waiting[caller] = theirs  # behind all others
            if not first.done():
                first.set_result(None)
                self._taken = True
