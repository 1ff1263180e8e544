"""Long computing inside a transaction: beside the event loop, and without the session's being ended as idle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cairn_consensus.store import ConsensusStore
from cairn_kit.database import Transaction

T = TypeVar("T")

_SHARE_OF_TIME_OUT = 0.5
"""Of the time that a statement may take. A session may be idle for twice that (`cairn_kit.database.pool`)."""


class Computing:
    """Lets a transaction wait for what takes longer than its session may be idle."""

    def __init__(self, store: ConsensusStore, statement_timeout: float) -> None:
        self._store = store
        self._pause = statement_timeout * _SHARE_OF_TIME_OUT

    async def result(self, tx: Transaction, work: Callable[[], T]) -> T:
        """What `work` returns; it runs in a thread. Where this is cancelled it runs on to its end, for nobody: what it
        changes must be dropped when the transaction fails."""
        computed = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            while not (await asyncio.wait([computed], timeout=self._pause))[0]:
                await self._store.stay(tx)
        finally:
            computed.cancel()
        return computed.result()

    async def waiting(self, tx: Transaction, wait: Callable[[], Awaitable[T]]) -> T:
        """What `wait` comes to, which is broken off and begun anew now and then: so the session stays in use."""
        while True:
            try:
                async with asyncio.timeout(self._pause):
                    return await wait()
            except TimeoutError:
                await self._store.stay(tx)
