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
    """The locks of one session, by name within the service's schema. Used by one task at a time."""

    def __init__(self, connection: Any, schema: str) -> None:
        self._connection = connection
        self._schema = schema
        self.lost = asyncio.Event()
        """Set when the connection died: others may hold the locks now."""
        connection.add_termination_listener(lambda _: self.lost.set())

    @property
    def session(self) -> int:
        """What `holders` calls this session."""
        return int(self._connection.get_server_pid())

    async def take(self, name: str, *, shared: bool = False) -> bool:
        """Take a lock if it is free now; a shared one is held by as many as like, and by none beside an unshared."""
        return bool(await self._connection.fetchval(_SHARE if shared else _TAKE, self._full(name)))

    async def give_back(self, name: str) -> None:
        """Let go of a lock that is not shared."""
        await self._connection.execute(_GIVE_BACK, self._full(name))

    async def holders(self, name: str) -> list[int]:
        """The sessions that hold a lock, in an order that is the same for all of them."""
        return [row["pid"] for row in await self._connection.fetch(_HOLDERS, self._full(name))]

    def _full(self, name: str) -> str:
        return f"{self._schema}:{name}"


@asynccontextmanager
async def locks_on(connection: Any, schema: str) -> AsyncIterator[Locks]:
    """The locks of a connection that is used for nothing else; all are let go at the end of the block."""
    try:
        yield Locks(connection, schema)
    finally:
        with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            async with asyncio.timeout(2):
                await connection.close()
        connection.terminate()
