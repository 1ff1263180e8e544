"""The process that makes an export's lines: started at the first export that is worth it, and kept for the next.

Reading labels and making JSON of them hold Python's interpreter for most of an export's time, and every other call of
the service would wait for it again and again. So the process gets what the database sends, as it comes, and makes lines
of that while more is read. It ends with this one, however that ends, for then nobody holds the pipe that it reads.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from struct import Struct
from types import TracebackType
from typing import BinaryIO, NamedTuple

from cairn_annotation_store.domain.export_copy import CopiedLabels
from cairn_annotation_store.domain.export_rows import Shown, lines

_MESSAGE = Struct(">cQ")
"""What a message is, and its bytes, which follow. The process is told how a page is shown, then rows as often as there are,
then that all have come, or that they were cut off; it answers rows with lines, and the end with lines and what there was.
"""
_SHOWN, _ROWS, _ALL, _CUT_OFF, _LINES, _READ = b"S", b"R", b"A", b"C", b"L", b"D"
_BUFFER_BYTES = 8 << 20
_AT_ONCE = 256 << 10
"""Bytes of rows handed on together; of a page with less, lines are made here, in milliseconds."""
_GONE = (BrokenPipeError, ConnectionResetError, asyncio.IncompleteReadError)


class ExportProcessDied(Exception):
    """The process ended before it had answered; its last words are in this one's standard error."""


class Lines(NamedTuple):
    """The lines made of a page."""

    labels: int
    """How many labels they hold."""
    read: int
    """How many were read, those too that stood for nothing."""
    last: tuple[str, str] | None
    """Item and question of the last one that was read; None if none was."""
    content: bytes


class _Making:
    """Makes lines of a page's rows as they come."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._copied = CopiedLabels(with_annotations=shown.with_annotations)
        self._labels = 0

    def add(self, rows: bytes) -> bytes:
        """The lines of the labels that are whole now."""
        whole = self._copied.add(rows)
        self._labels += len(whole)
        return lines(self._shown, whole)

    def end(self, *, cut_off: bool) -> Lines:
        """The lines that are left, and what there was. A label whose rows may have been cut off is left out."""
        whole = [] if cut_off else self._copied.end()
        content = lines(self._shown, whole)
        return Lines(self._labels + len(whole), self._copied.read, self._copied.last, content)


class Page:
    """A page of labels of which lines are made: add what the database sends, then take them."""

    def __init__(self, shown: Shown, process: Callable[[], Awaitable[Process]]) -> None:
        self._shown = shown
        self._process = process
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._asking: asyncio.StreamWriter | None = None
        self._answers: asyncio.Task[Lines] | None = None

    async def add(self, rows: bytes) -> None:
        """Add rows, any whole number of them. Raises ExportProcessDied."""
        self._kept.append(rows)
        self._kept_bytes += len(rows)
        if self._kept_bytes >= _AT_ONCE:
            asking = self._asking or await self._begin()
            await self._ask(asking, _ROWS, *self._taken())

    async def lines(self, *, cut_off: bool = False) -> Lines:
        """What was made of all rows, or of those that came before they were cut off. Raises ExportProcessDied."""
        if self._asking is None or self._answers is None:
            making = _Making(self._shown)
            made = [making.add(rows) for rows in self._kept]
            end = making.end(cut_off=cut_off)
            return end._replace(content=b"".join([*made, end.content]))
        if self._kept:
            await self._ask(self._asking, _ROWS, *self._taken())
        await self._ask(self._asking, _CUT_OFF if cut_off else _ALL)
        with _death_told():
            # Whoever gives up waiting has the process ended, and its end is read behind all that it has written.
            return await asyncio.shield(self._answers)

    async def give_up(self) -> None:
        """Want no lines any more."""
        if self._answers is not None:
            self._answers.cancel()
            await asyncio.gather(self._answers, return_exceptions=True)

    async def _begin(self) -> asyncio.StreamWriter:
        process = await self._process()
        if process.stdin is None or process.stdout is None:
            raise ExportProcessDied("it was started without pipes")
        self._asking, self._answers = process.stdin, asyncio.create_task(_read(process.stdout))
        await self._ask(self._asking, _SHOWN, json.dumps(self._shown).encode())
        return self._asking

    def _taken(self) -> list[bytes]:
        kept, self._kept, self._kept_bytes = self._kept, [], 0
        return kept

    async def _ask(self, asking: asyncio.StreamWriter, kind: bytes, *parts: bytes) -> None:
        asking.writelines([_MESSAGE.pack(kind, sum(map(len, parts))), *parts])
        with _death_told():
            await asking.drain()


class ExportProcess:
    """Makes lines of labels, a page at a time."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> ExportProcess:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    @property
    def pid(self) -> int | None:
        """The process's id, while there is one."""
        return self._process.pid if self._process else None

    @asynccontextmanager
    async def page(self, shown: Shown) -> AsyncIterator[Page]:
        """A page, when those before it are done. After one that was not, the next starts another process."""
        async with self._turn:
            page = Page(shown, self._started)
            try:
                yield page
            except BaseException:  # of a page that was given up, too, no answer may pass for the next one's
                await self._end()
                await page.give_up()
                raise

    async def _started(self) -> Process:
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", __name__, stdin=PIPE, stdout=PIPE, limit=_BUFFER_BYTES
            )
        return self._process

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@contextmanager
def _death_told() -> Iterator[None]:
    try:
        yield
    except _GONE as error:
        raise ExportProcessDied(repr(error)) from error


async def _read(answers: asyncio.StreamReader) -> Lines:
    """Read what was made of one page."""
    made: list[bytes] = []
    while True:
        kind, size = _MESSAGE.unpack(await answers.readexactly(_MESSAGE.size))
        said = await answers.readexactly(size)
        if kind == _READ:
            labels, read, last = json.loads(said)
            return Lines(labels, read, tuple(last) if last else None, b"".join(made))
        made.append(said)


def answer_all(asked: BinaryIO, answers: BinaryIO) -> None:
    """What the process does, until nobody can ask it any more."""

    def answer(kind: bytes, said: bytes) -> None:
        answers.write(_MESSAGE.pack(kind, len(said)) + said)
        answers.flush()

    while head := asked.read(_MESSAGE.size):
        kind, size = _MESSAGE.unpack(head)
        said = asked.read(size)
        if kind == _SHOWN:
            making = _Making(Shown(*json.loads(said)))
        elif kind == _ROWS:
            answer(_LINES, making.add(said))
        else:
            end = making.end(cut_off=kind == _CUT_OFF)
            answer(_LINES, end.content)
            answer(_READ, json.dumps([end.labels, end.read, end.last]).encode())


if __name__ == "__main__":
    answer_all(sys.stdin.buffer, sys.stdout.buffer)
