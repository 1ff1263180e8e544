"""The processes that make an export's lines: started as there is work for them, and kept for the next export.

Reading labels and making JSON of them hold Python's interpreter for most of an export's time, and every other call of
the service would wait for it again and again. So a process gets an order, reads what that asks for from the database
by itself, and answers with lines; several of them work on an export at once. All calls go before them. They end with
this process, however that ends, for then nobody holds the pipes that they read.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from struct import Struct
from types import TracebackType
from typing import BinaryIO

from pydantic import TypeAdapter

from cairn_annotation_store.export_lines import Lines, Order, lines_of
from cairn_kit.database import Database, PlanCacheMode
from cairn_kit.settings import ChassisSettings

_SIZE = Struct(">Q")
"""The bytes of what follows: of a message's head, in JSON, and of its content, which only lines have."""
_UNREAD_BYTES = 1 << 20
_NICENESS = 10
_GARBAGE_AFTER = 200_000
"""Objects more than before: a page has a fifth of that, and to look for cycles among its labels took a tenth of the time."""
_STATEMENTS, _BEHIND_CALLS = 10, 30.0
"""More than an order has with those before it, and seconds for making lines of what one found, behind all calls."""


class ExportProcessDied(Exception):
    """The process ended before it had answered, by itself or for its silence; its last words are in our standard error."""


@dataclass(frozen=True, slots=True)
class Reached:
    """How the processes reach the database."""

    dsn: str = field(repr=False)
    schema: str
    statement_timeout: float
    plan_cache_mode: PlanCacheMode

    @classmethod
    def by(cls, settings: ChassisSettings) -> Reached:
        """As the service does."""
        return cls(
            settings.postgres_dsn.get_secret_value(),
            settings.schema_name,
            settings.statement_timeout,
            settings.plan_cache_mode,
        )


_REACHED, _ORDER, _LINES = TypeAdapter(Reached), TypeAdapter(Order), TypeAdapter(Lines)


class ExportProcesses:
    """Processes that fill orders, so many at most."""

    def __init__(self, reached: Reached, count: int) -> None:
        self._places = [_Place(reached) for _ in range(count)]

    async def __aenter__(self) -> ExportProcesses:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for place in self._places:
            await place.clear()

    @property
    def count(self) -> int:
        """How many there may be."""
        return len(self._places)

    @property
    def pids(self) -> list[int]:
        """Those that there are."""
        return [place.running.pid for place in self._places if place.running is not None]

    async def lines_of(self, order: Order) -> Lines:
        """Have an order filled by the one with the fewest. Raises ExportProcessDied."""
        return await min(self._places, key=lambda place: place.orders).lines_of(order)


class _Place:
    """A process once there was an order for it, and the next when that has died."""

    def __init__(self, reached: Reached) -> None:
        self._reached = reached
        self._starting = asyncio.Lock()
        self.running: _Running | None = None
        self.orders = 0
        """How many are not filled yet."""

    async def lines_of(self, order: Order) -> Lines:
        self.orders += 1
        try:
            async with self._starting:
                if self.running is None or self.running.dead:
                    await self.clear()
                    self.running = await _Running.start(self._reached)
            return await self.running.lines_of(order)
        finally:
            self.orders -= 1

    async def clear(self) -> None:
        running, self.running = self.running, None
        if running is not None:
            await running.end()


class _Running:
    """A process that runs. It fills orders one after the other, the next of which it has already."""

    def __init__(
        self, process: Process, orders: asyncio.StreamWriter, answers: asyncio.StreamReader, patience: float
    ) -> None:
        self._process = process
        self._orders = orders
        self._patience = patience
        """Seconds that an answer may take."""
        self._open: deque[asyncio.Future[Lines]] = deque()
        self._reading = asyncio.create_task(self._read(answers))

    @classmethod
    async def start(cls, reached: Reached) -> _Running:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __name__, stdin=PIPE, stdout=PIPE, limit=_UNREAD_BYTES
        )
        if process.stdin is None or process.stdout is None:
            raise ExportProcessDied("it was started without pipes")
        process.stdin.write(_message(_REACHED.dump_json(reached)))
        patience = _STATEMENTS * (reached.statement_timeout + _BEHIND_CALLS)
        return cls(process, process.stdin, process.stdout, patience)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def dead(self) -> bool:
        return self._reading.done()

    async def lines_of(self, order: Order) -> Lines:
        self._orders.write(_message(_ORDER.dump_json(order)))
        filled: asyncio.Future[Lines] = asyncio.get_running_loop().create_future()
        self._open.append(filled)
        try:
            async with asyncio.timeout(self._patience):
                return await filled
        except TimeoutError:  # it hangs, and so would whoever waits for it
            self._kill()
            raise ExportProcessDied(f"it was silent for {self._patience:g} seconds") from None

    async def end(self) -> None:
        self._kill()
        await self._process.wait()
        await self._reading

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()

    async def _read(self, answers: asyncio.StreamReader) -> None:
        """Read answers, which come in the order of the orders, until the process ends."""
        try:
            while True:
                (head_bytes,) = _SIZE.unpack(await answers.readexactly(_SIZE.size))
                lines = _LINES.validate_json(await answers.readexactly(head_bytes))
                (content_bytes,) = _SIZE.unpack(await answers.readexactly(_SIZE.size))
                content = await answers.readexactly(content_bytes)
                filled = self._open.popleft()
                if not filled.done():  # nobody may want it any more
                    filled.set_result(replace(lines, content=content))
        except Exception as error:  # it is gone, or says what is no answer
            for filled in self._open:
                if not filled.done():
                    filled.set_exception(ExportProcessDied(repr(error)))


def _message(content: bytes) -> bytes:
    return _SIZE.pack(len(content)) + content


async def fill_all(orders: BinaryIO, answers: BinaryIO) -> None:
    """What a process does, until nobody can order of it any more."""
    os.nice(_NICENESS)
    gc.set_threshold(_GARBAGE_AFTER)

    def next_one() -> bytes:
        size = orders.read(_SIZE.size)
        return orders.read(*_SIZE.unpack(size)) if size else b""

    if not (told := next_one()):
        return
    reached = _REACHED.validate_json(told)
    database = Database(
        reached.dsn,
        reached.schema,
        pool_min=0,
        pool_max=1,
        statement_timeout=reached.statement_timeout,
        plan_cache_mode=reached.plan_cache_mode,
    )
    await database.open()
    # Waits in a thread, so that the loop can let go of a connection that nobody has used for a while.
    while order := await asyncio.to_thread(next_one):
        lines = await lines_of(database, _ORDER.validate_json(order))
        answers.write(_message(_LINES.dump_json(replace(lines, content=b""))))
        answers.write(_message(lines.content))
        answers.flush()
    await database.close()


if __name__ == "__main__":
    # Where nobody reads answers any more, nobody has orders either.
    with suppress(BrokenPipeError), os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # whatever else is said must not pass for an answer
        asyncio.run(fill_all(sys.stdin.buffer, answers))
