"""Whose turn it is at a project's state: one transaction's at a time, the others' in the order in which they came.

Whoever concludes a large project has its state for minutes, and connections to the database are few. So nobody holds one
for as long as that: a call waits before it takes one, and events that would wait come again later.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from cairn_consensus.computing import Computing
from cairn_consensus.store import ProjectKey
from cairn_kit.database import Database, Transaction
from cairn_kit.errors import Unavailable

SOON = 1.0
"""Seconds that others wait for whoever has said that it takes long: of most projects it is over by then."""
_RETRY_AFTER = 1.0


class Busy(Unavailable):
    """The project's state is somebody else's for long."""

    def __init__(self, project: str) -> None:
        super().__init__(
            "PROJECT_BUSY",
            f"projects/{project} is being concluded, or fitted again.",
            retry_after=_RETRY_AFTER,
        )


class _Turn:
    """The turn at one project's state."""

    def __init__(self) -> None:
        self.of: Transaction | None = None
        """Whose it is, as soon as that has begun."""
        self._lock = asyncio.Lock()
        self._until: float | None = None
        """When those in a hurry wait no longer for the one whose turn it is; None while it will be over soon."""
        self._limits: set[asyncio.Timeout] = set()

    async def begin(self) -> None:
        """Wait for the turn."""
        await self._lock.acquire()

    async def begin_soon(self) -> bool:
        """Wait for the turn unless that takes long; whether it has come."""
        try:
            async with asyncio.timeout_at(self._until) as limit:
                self._limits.add(limit)
                await self._lock.acquire()
        except TimeoutError:
            return False
        finally:
            self._limits.discard(limit)
        return True

    def takes_long(self) -> None:
        """Whose turn it is will need it for long."""
        self._wait_until(asyncio.get_running_loop().time() + SOON)

    def end(self) -> None:
        """It is the next one's."""
        self.of = None
        self._wait_until(None)
        self._lock.release()

    def _wait_until(self, when: float | None) -> None:
        self._until = when
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(when)


class Turns:
    """The turns at all projects' states."""

    def __init__(self, database: Database, computing: Computing) -> None:
        self._database = database
        self._computing = computing
        self._turns: WeakValueDictionary[ProjectKey, _Turn] = WeakValueDictionary()
        """As long as anybody has one, or waits for it: anybody may ask for a project that nobody made."""

    @asynccontextmanager
    async def transaction(self, key: ProjectKey, *, soon: bool = False) -> AsyncIterator[Transaction]:
        """A transaction whose turn it is at a project, which is waited for before it has a connection.

        ``soon``: raises Busy where that takes long.
        """
        turn = self._turn(key)
        if not soon:
            await turn.begin()
        elif not await turn.begin_soon():
            raise Busy(key.project)
        try:
            async with self._database.transaction() as tx:
                turn.of = tx
                yield tx
        finally:
            turn.end()

    async def soon(self, tx: Transaction, keys: Iterable[ProjectKey]) -> set[ProjectKey]:
        """Wait for this transaction's turn at all of the projects but those where it takes long, which are returned.

        The turns end with the transaction.
        """
        late = set()
        for key in keys:
            turn = self._turn(key)
            if turn.of is tx:
                continue
            if await self._computing.waiting(tx, turn.begin_soon):
                turn.of = tx
                tx.after_commit(turn.end)
                tx.on_rollback(turn.end)
            else:
                late.add(key)
        return late

    def takes_long(self, key: ProjectKey) -> None:
        """Say that whose turn it is at a project will need it for long."""
        self._turn(key).takes_long()

    def _turn(self, key: ProjectKey) -> _Turn:
        return self._turns.setdefault(key, _Turn())
