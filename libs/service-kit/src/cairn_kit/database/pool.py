"""The pool: every wait has an end, and every connection lives in the service's own schema."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import asyncpg

from cairn_kit.database.locks import SHORT_OF_PATIENCE, Locks, locks_on
from cairn_kit.database.transaction import Announced, Isolation, Record, Transaction, begin

T = TypeVar("T")

# What a lost or restarting server looks like from here: nobody's fault, worth another try.
OUTAGES: tuple[type[BaseException], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    asyncpg.QueryCanceledError,
    asyncpg.ReadOnlySQLTransactionError,
)
CONFLICTS = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
_NO_OUTAGES = (FileNotFoundError, PermissionError, ValueError)
"""Among `OUTAGES` by descent: files of ours, and values that asyncpg cannot encode, such as a number that is too large."""
_TRIES = 5
_LOCK_POLL = 0.25


def is_outage(error: BaseException | None) -> bool:
    """Whether this is what a lost server looks like."""
    return isinstance(error, OUTAGES) and not isinstance(error, _NO_OUTAGES)


async def _keep_nothing(_: object) -> None:
    """A connection goes back to the pool as it is.

    asyncpg's reset costs a round trip a use. We have nothing to reset: SET is forbidden (SET LOCAL ends with the
    transaction), session locks have connections of their own, and an open transaction is rolled back by asyncpg.
    """


def _nothing(_: object) -> None:
    """Nobody relays: the sweep of another process will find the events."""


async def _reach(*arguments: Any, **options: Any) -> Any:
    """asyncpg's connect; a Unix socket that is gone means a server that is away, not a file that somebody misses."""
    try:
        return await asyncpg.connect(*arguments, **options)
    except FileNotFoundError as error:
        raise ConnectionRefusedError(error.errno, "PostgreSQL is not listening") from error


async def connect(
    dsn: str,
    schema: str,
    *,
    statement_timeout: float = 30.0,
    timeout: float = 10.0,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Any:
    """One connection outside any pool, in the schema, with the same time-outs and perhaps more of its own settings."""
    session = {**_session_settings(schema, statement_timeout), **settings}
    return await _reach(dsn, timeout=timeout, server_settings=session)


PlanCacheMode = Literal["auto", "force_generic_plan", "force_custom_plan"]
"""Whether a statement is planned once for all its values, or anew for each; `auto` leaves it to PostgreSQL."""


def _session_settings(
    schema: str, statement_timeout: float, plan_cache_mode: PlanCacheMode = "auto"
) -> dict[str, str]:
    milliseconds = round(statement_timeout * 1000)
    return {
        "search_path": schema,
        "application_name": f"cairn/{schema}",
        "statement_timeout": str(milliseconds),
        # An open transaction that does nothing holds locks against everybody.
        "idle_in_transaction_session_timeout": str(2 * milliseconds),
        "timezone": "UTC",
        "plan_cache_mode": plan_cache_mode,
    }


class Database:
    """A pool of connections in one schema."""

    def __init__(
        self,
        dsn: str,
        schema: str,
        *,
        pool_min: int = 2,
        pool_max: int = 10,
        acquire_timeout: float = 5.0,
        statement_timeout: float = 30.0,
        plan_cache_mode: PlanCacheMode = "auto",
    ) -> None:
        self.schema = schema
        self.announced: Announced = _nothing
        """Called after each commit that announced events, with their kinds; the chassis lets it wake the relay."""
        self._dsn = dsn
        self._acquire_timeout = acquire_timeout
        self._statement_timeout = statement_timeout
        self._pool = asyncpg.create_pool(
            dsn,
            connect=_reach,
            min_size=pool_min,
            max_size=pool_max,
            timeout=10.0,
            # The server's statement_timeout comes first; this one is for a server that says nothing at all.
            command_timeout=statement_timeout + 5.0,
            max_inactive_connection_lifetime=300.0,
            server_settings=_session_settings(schema, statement_timeout, plan_cache_mode),
            reset=_keep_nothing,
        )

    async def open(self) -> None:
        """Open the pool; raises OSError or asyncpg's error when the database cannot be reached."""
        await self._pool

    async def close(self, timeout: float = 5.0) -> None:
        """Wait for running statements, but not forever: asyncpg's own close has no end."""
        try:
            async with asyncio.timeout(timeout):
                await self._pool.close()
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self._pool.terminate()

    @asynccontextmanager
    async def transaction(self, isolation: Isolation = "read_committed") -> AsyncIterator[Transaction]:
        """A transaction that commits at the end of the block and rolls back on any exception."""
        async with (
            self._pool.acquire(timeout=self._acquire_timeout) as connection,
            begin(connection, isolation, self.announced) as transaction,
        ):
            yield transaction

    async def retrying(
        self, work: Callable[[Transaction], Awaitable[T]], isolation: Isolation = "read_committed"
    ) -> T:
        """Run `work(tx)` in a transaction, again after a serialization failure or a deadlock, five times at most."""
        for attempt in range(1, _TRIES + 1):
            try:
                async with self.transaction(isolation) as transaction:
                    return await work(transaction)
            except CONFLICTS:
                if attempt == _TRIES:
                    raise
                await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))
        raise AssertionError("unreachable")

    async def fetch(self, statement: str, *values: Any) -> list[Record]:
        """All rows of one statement on its own."""
        rows: list[Record]
        async with self._pool.acquire(timeout=self._acquire_timeout) as connection:
            rows = await connection.fetch(statement, *values)
        return rows

    async def fetchrow(self, statement: str, *values: Any) -> Record | None:
        """The first row of one statement on its own, or None."""
        async with self._pool.acquire(timeout=self._acquire_timeout) as connection:
            return await connection.fetchrow(statement, *values)

    async def fetchval(self, statement: str, *values: Any) -> Any:
        """The first column of the first row of one statement on its own, or None."""
        async with self._pool.acquire(timeout=self._acquire_timeout) as connection:
            return await connection.fetchval(statement, *values)

    async def execute(self, statement: str, *values: Any) -> str:
        """One statement on its own; returns its command tag."""
        tag: str
        async with self._pool.acquire(timeout=self._acquire_timeout) as connection:
            tag = await connection.execute(statement, *values)
        return tag

    async def copy_out(self, to: Callable[[bytes], Awaitable[None]], statement: str, *values: Any) -> None:
        """Pass on the rows of one statement as they come, in COPY's binary format, any whole number of them at once."""

        async def pass_on(rows: bytes) -> None:
            await to(bytes(rows))  # asyncpg says bytes, and gives a bytearray now and then

        async with self._pool.acquire(timeout=self._acquire_timeout) as connection:
            try:
                await connection.copy_from_query(statement, *values, output=pass_on, format="binary")
            except BaseException:
                # asyncpg asks the server to cancel, and waits for its word: which never comes where all was sent already.
                connection.terminate()
                raise

    @asynccontextmanager
    async def locks(self) -> AsyncIterator[Locks]:
        """Session advisory locks, on a connection of their own: they last until the block ends or that dies."""
        connection = await connect(
            self._dsn, self.schema, statement_timeout=self._statement_timeout, settings=SHORT_OF_PATIENCE
        )
        async with locks_on(connection, self.schema) as locks:
            yield locks

    @asynccontextmanager
    async def exclusively(self, name: str) -> AsyncIterator[Locks]:
        """Wait for the advisory lock of this name and hold it, on a connection of its own.

        When that connection dies the lock is free for others: watch `lost`.
        """
        async with self.locks() as locks:
            while not await locks.take(name):  # noqa: ASYNC110 - nothing here can tell when it is free
                # Waiting inside PostgreSQL would hold a snapshot open.
                await asyncio.sleep(_LOCK_POLL)
            yield locks
