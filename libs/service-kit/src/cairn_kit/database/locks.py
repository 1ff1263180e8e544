"""Session advisory locks: held while one connection lives, so that whoever dies lets go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

# What the server is to think of a line on which nothing is heard: after some fifteen seconds the session is over, and
# its locks are free. (A process that dies on a living machine is noticed at once.)
SHORT_OF_PATIENCE = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "2",
    "tcp_user_timeout": "15000",
}

_ANSWER = 5.0
"""Seconds that the server may take to answer. No statement here waits for a lock, so silence means that it is gone."""
_HEARTBEAT = 3.0
"""Seconds between two signs of life. With the time for an answer less than the server's patience: who has lost the
line knows it before others can hold the locks."""

_TAKE = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))"
_SHARE = "SELECT pg_try_advisory_lock_shared(hashtextextended($1, 0))"
_GIVE_BACK = "SELECT pg_advisory_unlock(hashtextextended($1, 0))"
# A lock on a bigint is shown as its two halves, with objsubid 1.
_HOLDERS = """
SELECT pid FROM pg_locks
WHERE locktype = 'advisory' AND granted AND objsubid = 1
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (classid::bigint << 32) | objid::bigint = hashtextextended($1, 0)
ORDER BY pid
"""


class Locks:
    """The locks of one session, by name within the service's schema.

    Each call raises one of `OUTAGES` when the server is away or silent for five seconds; then all locks are `lost`.
    """

    def __init__(self, connection: Any, schema: str) -> None:
        self._connection = connection
        self._schema = schema
        self._turn = asyncio.Lock()
        self.session = int(connection.get_server_pid())
        """What `holders` calls this session."""
        self.lost = asyncio.Event()
        """Set when the connection died: others may hold the locks now."""
        connection.add_termination_listener(lambda _: self.lost.set())

    async def take(self, name: str, *, shared: bool = False) -> bool:
        """Take a lock if it is free now; a shared one is held by as many as like, and by none beside an unshared."""
        [row] = await self._ask(_SHARE if shared else _TAKE, self._full(name))
        return bool(row[0])

    async def give_back(self, name: str) -> None:
        """Let go of a lock that is not shared."""
        await self._ask(_GIVE_BACK, self._full(name))

    async def holders(self, name: str) -> list[int]:
        """The sessions that hold a lock, in an order that is the same for all of them."""
        return [row["pid"] for row in await self._ask(_HOLDERS, self._full(name))]

    async def watch(self) -> None:
        """Ask the server for a sign of life now and then, until the locks are lost."""
        while not self.lost.is_set():
            await asyncio.sleep(_HEARTBEAT)
            with suppress(Exception):  # `lost` tells of it
                await self._ask("SELECT 1")

    async def _ask(self, statement: str, *values: str) -> Any:
        async with self._turn:
            try:
                return await self._connection.fetch(statement, *values, timeout=_ANSWER)
            except asyncpg.PostgresError:
                raise  # an answer, too
            except BaseException:
                # Whether a lock was taken is not known, and another statement might wait for this one's end for ever.
                self._connection.terminate()
                self.lost.set()
                raise

    def _full(self, name: str) -> str:
        return f"{self._schema}:{name}"


@asynccontextmanager
async def locks_on(connection: Any, schema: str) -> AsyncIterator[Locks]:
    """The locks of a connection that is used for nothing else; all are let go at the end of the block."""
    locks = Locks(connection, schema)
    watching = asyncio.create_task(locks.watch())
    try:
        yield locks
    finally:
        watching.cancel()
        with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            async with asyncio.timeout(2):
                await asyncio.wait([watching])
                await connection.close()
        connection.terminate()
