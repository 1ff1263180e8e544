"""A transaction with hooks: what is announced joins it, what must follow the commit waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal, TypeVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from asyncpg.transaction import Transaction as Savepoint

from cairn_kit.telemetry.logs import get_logger

_log = get_logger(__name__)
T = TypeVar("T")
Connection = asyncpg.Connection | PoolConnectionProxy
Record = asyncpg.Record
Isolation = Literal["read_committed", "repeatable_read", "serializable"]


Kind = tuple[str, str, str]
"""What an event is of: type, tenant, project."""
Announced = Callable[[Collection[Kind]], object]


class Transaction:
    """One open transaction: asyncpg's calls, and hooks around its end. Used by one task at a time."""

    __slots__ = (
        "_after_commit",
        "_before_commit",
        "_on_rollback",
        "announced",
        "connection",
        "pending_events",
    )

    def __init__(self, connection: Connection, announced: Announced) -> None:
        self.connection = connection
        self.announced = announced
        """Tells the relay, and whoever waits in this process; run after a commit, with what it announced."""
        self.pending_events: list[Any] = []
        """What `events.announce` has put down for the outbox, in order."""
        self._before_commit: list[Callable[[Transaction], Awaitable[None]]] = []
        self._after_commit: list[Callable[[], object]] = []
        self._on_rollback: list[Callable[[], object]] = []

    def before_commit(self, hook: Callable[[Transaction], Awaitable[None]]) -> None:
        """Run `hook(tx)` once as the last statements of the transaction; its error rolls back."""
        if hook not in self._before_commit:
            self._before_commit.append(hook)

    def after_commit(self, hook: Callable[[], object]) -> None:
        """Run a plain function once the commit is certain. It must not raise."""
        self._after_commit.append(hook)

    def on_rollback(self, hook: Callable[[], object]) -> None:
        """Run a plain function when nothing of this transaction stands, or that is unknown."""
        self._on_rollback.append(hook)

    async def fetch(self, statement: str, *values: Any) -> list[Record]:
        """All rows."""
        rows: list[Record] = await self.connection.fetch(statement, *values)
        return rows

    async def fetchrow(self, statement: str, *values: Any) -> Record | None:
        """The first row, or None."""
        return await self.connection.fetchrow(statement, *values)

    async def fetchval(self, statement: str, *values: Any) -> Any:
        """The first column of the first row, or None."""
        return await self.connection.fetchval(statement, *values)

    async def execute(self, statement: str, *values: Any) -> str:
        """Run a statement; returns its command tag, such as `UPDATE 3`."""
        tag: str = await self.connection.execute(statement, *values)
        return tag

    async def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run a statement for each row. One statement over `unnest` arrays is faster."""
        await self.connection.executemany(statement, rows)

    async def copy_records_to_table(
        self, table: str, *, records: Iterable[Sequence[Any]], columns: Sequence[str]
    ) -> str:
        """COPY rows into a table."""
        tag: str = await self.connection.copy_records_to_table(table, records=records, columns=list(columns))
        return tag

    def cursor(self, statement: str, *values: Any, prefetch: int = 1000) -> AsyncIterator[Record]:
        """Rows one after the other, fetched `prefetch` at a time: `async for row in tx.cursor(...)`."""
        return aiter(self.connection.cursor(statement, *values, prefetch=prefetch))

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A part that may fail alone: an exception undoes it, with its announcements and hooks, and is raised."""
        marks = [
            (hooks, len(hooks)) for hooks in (self.pending_events, self._before_commit, self._after_commit)
        ]
        undo = len(self._on_rollback)
        inner = self.connection.transaction()
        await inner.start()
        try:
            yield
        except BaseException:
            for hooks, length in marks:
                del hooks[length:]
            undone = self._on_rollback[undo:]
            del self._on_rollback[undo:]
            run_all(undone)
            await to_the_end(inner.rollback())
            raise
        else:
            await inner.commit()

    async def _commit(self, outer: Savepoint) -> None:
        try:
            for hook in self._before_commit:
                await hook(self)
        except BaseException:
            await self._roll_back(outer)
            raise
        try:
            await to_the_end(outer.commit())
        except asyncio.CancelledError:
            run_all(self._after_commit)  # the commit was finished before the cancellation came out
            raise
        except BaseException:
            run_all(self._on_rollback)  # the line broke in the commit: nobody knows, so trust no memory
            raise
        run_all(self._after_commit)

    async def _roll_back(self, outer: Savepoint) -> None:
        run_all(self._on_rollback)
        await to_the_end(outer.rollback())


@asynccontextmanager
async def begin(
    connection: Connection, isolation: Isolation, announced: Announced
) -> AsyncIterator[Transaction]:
    """Open a transaction on a connection that nobody else uses; commit at the end, roll back on any exception."""
    outer = connection.transaction(isolation=isolation)
    await outer.start()
    transaction = Transaction(connection, announced)
    try:
        yield transaction
    except BaseException:
        # When the connection is gone the transaction went with it; the first error is the one to tell.
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            await transaction._roll_back(outer)
        raise
    await transaction._commit(outer)


def run_all(hooks: Sequence[Callable[[], object]]) -> None:
    """Run plain functions in order. One that raises, which it must not, does not keep the others from running."""
    for hook in hooks:
        try:
            hook()
        except Exception:
            _log.exception("transaction.hook_failed")


async def to_the_end(step: Coroutine[Any, Any, T]) -> T:
    """Finish a step even when the caller is cancelled meanwhile; the cancellation comes out afterwards."""
    task = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error from None
        raise


async def meanwhile(statement: Coroutine[Any, Any, object], work: Callable[[], T]) -> T:
    """Do a piece of work while the server is busy with a statement, and return what came of it when both are done."""
    running = asyncio.ensure_future(statement)
    try:
        await asyncio.sleep(0)  # it is under way
        return work()
    finally:
        await running
