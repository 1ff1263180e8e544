"""The process that makes an export's lines: started at the first export that is worth it, and kept for the next.

Reading labels and making JSON of them hold Python's interpreter for most of an export's time, and every other call of
the service would wait for it again and again. So the process gets what the database sends, as it comes, and makes lines
of that while more is read. It ends with this one, however that ends, for then nobody holds the pipe that it reads.
"""

from __future__ import annotations

import asyncio
import pickle
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from struct import Struct
from types import TracebackType
from typing import BinaryIO, NamedTuple

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn_annotation_store.domain.export_copy import labels_of
from cairn_annotation_store.domain.export_rows import lines

_ASKED = Struct(">Q")
"""Bytes of what follows: how a page is shown, then rows of it as often as there are, then nothing."""
_ANSWERED = Struct(">qQ")
"""Labels and bytes of the lines that follow; _ENDED labels when the page was."""
_ENDED = -1
_BUFFER_BYTES = 8 << 20
_WORTH_A_PROCESS = 256 << 10
"""Bytes of a page; of less, lines are made here, in milliseconds."""
_GONE = (BrokenPipeError, ConnectionResetError, asyncio.IncompleteReadError)


class ExportProcessDied(Exception):
    """The process ended before it had answered; its last words are in this one's standard error."""


class Shown(NamedTuple):
    """How an export shows the labels of its project."""

    export_format: pb.ExportFormat.ValueType
    project: str
    with_annotations: bool


class Lines(NamedTuple):
    """Lines of a file, and how many labels they hold."""

    labels: int
    content: bytes

    @classmethod
    def of(cls, rows: bytes, shown: Shown) -> Lines:
        """Read rows of a page, and make lines of them."""
        labels = [*labels_of(rows, shown.project, with_annotations=shown.with_annotations)]
        return cls(len(labels), lines(shown.export_format, labels))


class Page:
    """A page of labels of which lines are made: add what the database sends, then take them."""

    def __init__(self, shown: Shown, process: Callable[[], Awaitable[Process]]) -> None:
        self._shown = shown
        self._process = process
        self._kept: list[bytes] = []
        self._asking: asyncio.StreamWriter | None = None
        self._answers: asyncio.Task[list[Lines]] | None = None

    async def add(self, rows: bytes) -> None:
        """Add rows, any whole number of them. Raises ExportProcessDied."""
        if self._asking is not None:
            await self._ask(self._asking, rows)
            return
        self._kept.append(rows)
        if sum(map(len, self._kept)) > _WORTH_A_PROCESS:
            process = await self._process()
            if process.stdin is None or process.stdout is None:
                raise ExportProcessDied("it was started without pipes")
            self._asking, self._answers = process.stdin, asyncio.create_task(_read(process.stdout))
            await self._ask(self._asking, pickle.dumps(self._shown), *self._kept)

    async def lines(self) -> Lines:
        """What was made of all rows. Raises ExportProcessDied."""
        if self._asking is None or self._answers is None:
            made = [Lines.of(rows, self._shown) for rows in self._kept]
        else:
            await self._ask(self._asking, b"")
            with _death_told():
                # Whoever gives up waiting has the process ended, and its end is read behind all that it has written.
                made = await asyncio.shield(self._answers)
        return Lines(sum(part.labels for part in made), b"".join([part.content for part in made]))

    async def give_up(self) -> None:
        """Want no lines any more."""
        if self._answers is not None:
            self._answers.cancel()
            await asyncio.gather(self._answers, return_exceptions=True)

    async def _ask(self, asking: asyncio.StreamWriter, *messages: bytes) -> None:
        for message in messages:
            asking.writelines([_ASKED.pack(len(message)), message])
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


async def _read(answers: asyncio.StreamReader) -> list[Lines]:
    """Read what was made of one page."""
    made: list[Lines] = []
    while True:
        labels, size = _ANSWERED.unpack(await answers.readexactly(_ANSWERED.size))
        if labels == _ENDED:
            return made
        made.append(Lines(labels, await answers.readexactly(size)))


def answer_all(asked: BinaryIO, answers: BinaryIO) -> None:
    """What the process does, until nobody can ask it any more."""
    while message := _message(asked):
        shown = pickle.loads(message)  # noqa: S301 - the service's own, over its own pipe
        while rows := _message(asked):
            made = Lines.of(rows, shown)
            answers.write(_ANSWERED.pack(made.labels, len(made.content)) + made.content)
            answers.flush()
        answers.write(_ANSWERED.pack(_ENDED, 0))
        answers.flush()


def _message(asked: BinaryIO) -> bytes:
    """The next message; nothing at the end."""
    length = asked.read(_ASKED.size)
    return asked.read(*_ASKED.unpack(length)) if length else b""


if __name__ == "__main__":
    answer_all(sys.stdin.buffer, sys.stdout.buffer)
