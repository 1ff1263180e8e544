"""Whose turn it is at a project's state: one transaction's at a time, the others' in the order in which they came.

Connections to the database are few, and calls many: a call waits for its turn before it takes one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from cairn_consensus.computing import Computing
from cairn_consensus.store import ProjectKey
from cairn_kit.database import Database, Transaction


class _Turn:
    """The turn at one project's state."""

    def __init__(self) -> None:
        self.of: Transaction | None = None
        """Whose it is, as soon as that has begun."""
        self._lock = asyncio.Lock()

    async def begin(self) -> None:
        """Wait for the turn."""
        await self._lock.acquire()

    def end(self) -> None:
        """It is the next one's."""
        self.of = None
        self._lock.release()


class Turns:
    """The turns at all projects' states."""

    def __init__(self, database: Database, computing: Computing) -> None:
        self._database = database
        self._computing = computing
        self._turns: WeakValueDictionary[ProjectKey, _Turn] = WeakValueDictionary()
        """As long as anybody has one, or waits for it: anybody may ask for a project that nobody made."""

    @asynccontextmanager
    async def transaction(self, key: ProjectKey) -> AsyncIterator[Transaction]:
        """A transaction whose turn it is at a project, which is waited for before it has a connection."""
        turn = self._turn(key)
        await turn.begin()
        try:
            async with self._database.transaction() as tx:
                turn.of = tx
                yield tx
        finally:
            turn.end()

    async def take(self, tx: Transaction, keys: Iterable[ProjectKey]) -> None:
        """Wait for this transaction's turn at all of the projects, one after the other. The turns end with it."""
        for key in keys:
            turn = self._turn(key)
            if turn.of is tx:
                continue
            await self._computing.waiting(tx, turn.begin)
            turn.of = tx
            tx.after_commit(turn.end)
            tx.on_rollback(turn.end)

    def _turn(self, key: ProjectKey) -> _Turn:
        return self._turns.setdefault(key, _Turn())
