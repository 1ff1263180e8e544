"""A program that runs beside us: a line to it, a line from it, and what it says on stderr, which goes on to ours.

All three are pipes of our own: of a program with pipes of asyncio's nobody hears that it has ended while a child of its
own holds one of them open. Half a second after its end nothing more is taken from either, whatever a child may say.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio import ReadTransport, StreamReader, StreamReaderProtocol, StreamWriter
from asyncio.subprocess import Process
from collections.abc import Iterable, Sequence
from contextlib import suppress

LONGEST_LINE = 16 * 1024 * 1024
"""Bytes of a line that a program may write."""
_AT_ONCE = 64 * 1024
_LAST_WORDS = 4096
"""Bytes of what it said last on stderr that are looked at when it ends."""
_GOODBYE = 5.0
"""Seconds that it has to end when its stdin is closed, and after a signal; and ours, to be read of what it said last."""
_LATE = 0.5
"""Seconds after its end in which what it said last arrives. What comes later is of a child that it left behind."""


class Program:
    """A program that runs; `ended` has its exit code, and `end` leaves nothing of it."""

    def __init__(
        self,
        process: Process,
        stdin: StreamWriter,
        stdout: tuple[StreamReader, ReadTransport],
        stderr: tuple[StreamReader, ReadTransport],
    ) -> None:
        self._process = process
        self._stdin = stdin
        self._stdout, self._stderr = stdout[0], stderr[0]
        self._from_it = stdout[1], stderr[1]
        self._last = b""
        self._over = asyncio.create_task(self._until_its_end())
        self._passing = asyncio.create_task(self._pass_on())

    @classmethod
    async def started(cls, command: Sequence[str]) -> Program:
        """Start it, in a session of its own: Ctrl-C ends the run, which lets the program finish what it has.

        Raises OSError when it cannot be run.
        """
        (its_stdin, stdin), (stdout, its_stdout), (stderr, its_stderr) = os.pipe(), os.pipe(), os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=its_stdin, stdout=its_stdout, stderr=its_stderr, start_new_session=True
            )
        except BaseException:
            _close(stdin, stdout, stderr)
            raise
        finally:
            _close(its_stdin, its_stdout, its_stderr)
        return cls(process, await _written_to(stdin), await _read_from(stdout), await _read_from(stderr))

    async def write(self, lines: Iterable[bytes]) -> None:
        """Write lines as fast as it reads them; when it has ended, none."""
        with suppress(ConnectionError):  # the reading side tells how
            for line in lines:
                self._stdin.write(line)
                await self._stdin.drain()

    async def line(self) -> bytes:
        """The next line that it writes; empty when there are no more. Raises ValueError for one above LONGEST_LINE."""
        return await self._stdout.readline()

    async def ended(self) -> int | None:
        """Its exit code, or minus the signal; None when it goes on for longer than it should."""
        await asyncio.wait([self._over], timeout=_GOODBYE)
        return self._process.returncode

    async def last_line(self) -> str:
        """What it has said last on stderr; empty for nothing. Once it has ended, that is all."""
        if self._over.done():
            await asyncio.wait([self._passing], timeout=_GOODBYE)
        lines = self._last.decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    async def end(self) -> None:
        """Close its stdin, and if need be end it by signals; what it said last is read, and of its stderr passed on."""
        if not self._stdin.transport.is_closing():  # as it is when the program has closed it
            self._stdin.transport.abort()
        draining = asyncio.create_task(self._drain())
        try:
            for end in (_nothing, self._process.terminate, self._process.kill):
                with suppress(ProcessLookupError):
                    end()
                if await self.ended() is not None:
                    break
            await asyncio.wait([self._passing], timeout=_GOODBYE)
        finally:
            for task in (draining, self._passing, self._over):
                task.cancel()
            self._hear_no_more()

    async def _until_its_end(self) -> None:
        await self._process.wait()
        asyncio.get_running_loop().call_later(_LATE, self._hear_no_more)

    def _hear_no_more(self) -> None:
        """What has arrived is read, and then nothing."""
        for transport in self._from_it:
            transport.close()

    async def _pass_on(self) -> None:
        while said := await self._stderr.read(_AT_ONCE):
            self._last = (self._last + said)[-_LAST_WORDS:]
            with suppress(OSError):  # whoever read ours has gone: no reason to hold the program up
                await asyncio.to_thread(_write_stderr, said)

    async def _drain(self) -> None:
        while await self._stdout.read(_AT_ONCE):
            pass


def _nothing() -> None:
    """A closed stdin is enough for most."""


def _write_stderr(said: bytes) -> None:
    sys.stderr.buffer.write(said)
    sys.stderr.buffer.flush()


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


async def _read_from(descriptor: int) -> tuple[StreamReader, ReadTransport]:
    reader = StreamReader(LONGEST_LINE)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    return reader, transport


async def _written_to(descriptor: int) -> StreamWriter:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        lambda: StreamReaderProtocol(StreamReader()), os.fdopen(descriptor, "wb", buffering=0)
    )
    return StreamWriter(transport, protocol, None, loop)
