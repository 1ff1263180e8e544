"""The process that makes an export's lines: started at the first export that is worth it, and kept for the next.

Making JSON holds Python's interpreter for most of an export's time, and every other call of the service would wait for
it again and again. The process ends with this one, however that ends, for then nobody holds the pipe that it reads.
"""

from __future__ import annotations

import asyncio
import pickle
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import BinaryIO

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn_annotation_store.domain.export_rows import ExportedLabel, lines

_LENGTH_BYTES = 8
_BUFFER_BYTES = 8 << 20
_GONE = (BrokenPipeError, ConnectionResetError, asyncio.IncompleteReadError)
_AT_ONCE = 500
"""Labels that are packed (or, if there are no more, made into lines here) before other calls get a turn: milliseconds."""


class ExportProcessDied(Exception):
    """The process ended before it had answered; its last words are in this one's standard error."""


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

    async def lines(self, export_format: pb.ExportFormat.ValueType, labels: Sequence[ExportedLabel]) -> bytes:
        """As `export_rows.lines`. Raises ExportProcessDied; the next call starts another process."""
        if len(labels) <= _AT_ONCE:
            return lines(export_format, labels)
        parts = [labels[first : first + _AT_ONCE] for first in range(0, len(labels), _AT_ONCE)]
        async with self._turn:
            try:
                process = self._process = self._process or await _started()
                asking, answers = _pipes(process)
                _, made = await asyncio.gather(_ask(asking, export_format, parts), _read(answers, len(parts)))
            except (
                BaseException
            ) as error:  # of a call that was given up, too, no answer may pass for the next one's
                await self._end()
                if isinstance(error, _GONE):
                    raise ExportProcessDied(repr(error)) from error
                raise
        return b"".join(made)

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _started() -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, stdin=PIPE, stdout=PIPE, limit=_BUFFER_BYTES
    )


def _pipes(process: Process) -> tuple[asyncio.StreamWriter, asyncio.StreamReader]:
    if process.stdin is None or process.stdout is None:
        raise ExportProcessDied("it was started without pipes")
    return process.stdin, process.stdout


async def _ask(
    asking: asyncio.StreamWriter,
    export_format: pb.ExportFormat.ValueType,
    parts: Iterable[Sequence[ExportedLabel]],
) -> None:
    """Send one part after the other; the next is packed while the process works on one."""
    for part in parts:
        # As plain tuples: a type of its own takes twice as long to pack.
        asked = pickle.dumps((export_format, [tuple(label) for label in part]))
        asking.writelines([len(asked).to_bytes(_LENGTH_BYTES), asked])
        await asking.drain()


async def _read(answers: asyncio.StreamReader, count: int) -> list[bytes]:
    """Read so many answers."""
    read = answers.readexactly
    return [await read(int.from_bytes(await read(_LENGTH_BYTES))) for _ in range(count)]


def answer_all(asked: BinaryIO, answers: BinaryIO) -> None:
    """What the process does, until nobody can ask it any more."""
    while length := int.from_bytes(asked.read(_LENGTH_BYTES)):
        export_format, part = pickle.loads(asked.read(length))  # noqa: S301 - the service's own, over its own pipe
        body = lines(export_format, map(ExportedLabel._make, part))
        answers.write(len(body).to_bytes(_LENGTH_BYTES) + body)
        answers.flush()


if __name__ == "__main__":
    answer_all(sys.stdin.buffer, sys.stdout.buffer)
