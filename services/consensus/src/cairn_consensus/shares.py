"""The shares of all projects that this replica keeps: taken, given back, and proven in each transaction.

A share is kept by whoever holds its session advisory lock, so that a replica which dies, or loses its database, lets go.
Every half second each replica counts those that live, gives back what is more than it is due and takes what is free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

from nats.errors import Error as NatsError

from cairn_consensus.store import ConsensusStore, ProjectKey
from cairn_kit.database import Database, Transaction
from cairn_kit.database.locks import Locks
from cairn_kit.database.pool import OUTAGES
from cairn_kit.shares import SHARES, Elsewhere, Lines, fair_number
from cairn_kit.telemetry.logs import get_logger

_log = get_logger(__name__)
_ROUND = 0.5
"""Seconds between two looks: how long the shares of a replica that died are nobody's, at most."""
_WAITED_FOR: tuple[type[BaseException], ...] = (*OUTAGES, NatsError)
_PRESENT = "state"
"""The lock that all replicas hold together. Releases before shares held it alone, with all projects: beside one of them
nobody is present, and nothing is kept."""


class Shares:
    """Which shares this replica keeps, and since which epoch."""

    def __init__(self, database: Database, store: ConsensusStore, lines: Lines) -> None:
        self._database = database
        self._store = store
        self._lines = lines
        self._epochs: dict[int, int] = {}
        self._held: dict[Transaction, dict[int, int]] = {}
        self.settled = asyncio.Event()
        """Set while this replica has what it is due: one that has lost its session may soon keep the same again."""
        self.ended: Callable[[int], object] = lambda _: None
        """Called with each share that this replica keeps no longer."""

    @property
    def kept(self) -> frozenset[int]:
        """The shares that this replica keeps, as far as it knows."""
        return frozenset(self._epochs)

    async def claim(self, tx: Transaction, keys: Iterable[ProjectKey]) -> set[ProjectKey]:
        """Those of the projects that this replica keeps: no other will begin to before the transaction ends."""
        wanted = set(keys)
        held = self._held.get(tx)
        if held is None:
            held = self._held[tx] = {}
            tx.after_commit(lambda: self._held.pop(tx))
            tx.on_rollback(lambda: self._held.pop(tx))
        unproven = {
            key.share: self._epochs[key.share]
            for key in wanted
            if key.share in self._epochs and key.share not in held
        }
        if unproven:
            for share in await self._store.hold_shares(tx, unproven):
                held[share] = unproven[share]
        return {key for key in wanted if key.share in held}

    async def epoch(self, tx: Transaction, key: ProjectKey) -> int:
        """Since which epoch this replica keeps a project. Raises Elsewhere when it does not."""
        if not await self.claim(tx, [key]):
            raise Elsewhere("another replica keeps the project")
        return self._held[tx][key.share]

    async def run(self) -> None:
        """Keep a fair number of shares, for ever; a lost database is waited for."""
        while True:
            try:
                async with self._database.locks() as locks:
                    try:
                        await self._keep(locks)
                    finally:
                        self.settled.clear()
                        for share in list(self._epochs):
                            await self._end(share)
            except _WAITED_FOR as error:
                _log.warning("shares.waiting", error=repr(error))
            await asyncio.sleep(_ROUND)

    async def _keep(self, locks: Locks) -> None:
        present = False
        while not locks.lost.is_set():
            present = present or await locks.take(_PRESENT, shared=True)
            if present:
                await self._look(locks)
                self.settled.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(_ROUND):
                    await locks.lost.wait()
        _log.warning("shares.lost", shares=sorted(self._epochs))

    async def _look(self, locks: Locks) -> None:
        """Give back what is more than this replica is due, take what it is due and is free."""
        replicas = await locks.holders(_PRESENT)
        due = fair_number(replicas.index(locks.session), len(replicas))
        before = self.kept
        for share in sorted(before)[due:]:
            await self._end(share)
            await locks.give_back(_lock_of(share))
        for share in range(SHARES):
            if len(self._epochs) >= due:
                break
            if share not in self._epochs and await locks.take(_lock_of(share)):
                await self._begin(share, locks)
        if self.kept != before:
            _log.info("shares.kept", shares=sorted(self.kept), replicas=len(replicas))

    async def _begin(self, share: int, locks: Locks) -> None:
        epoch = await self._store.begin_share(self._database, share)
        if epoch is None:
            await locks.give_back(_lock_of(share))
            return
        self._epochs[share] = epoch
        await self._lines.begin(share)

    async def _end(self, share: int) -> None:
        del self._epochs[share]
        await self._lines.end(share)
        self.ended(share)


def _lock_of(share: int) -> str:
    return f"share-{share}"
