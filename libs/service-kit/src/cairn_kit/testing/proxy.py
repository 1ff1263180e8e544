"""A TCP proxy that cuts the line in the middle of a message (after asyncpg's own fuzzer)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from types import TracebackType

_CHUNK = 4096


class CutProxy:
    """Listens on a free port and forwards to `host:port` or to a Unix socket, until told to cut.

    `async with CutProxy("127.0.0.1", 4222) as proxy:` then connect to `proxy.port`.
    """

    def __init__(self, host: str | Path, port: int = 0) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._lines: set[asyncio.StreamWriter] = set()
        self._left: int | None = None
        self._of_what_is_sent = False
        self._refusing = False
        self.port = 0
        self.cuts = 0
        """How many lines were cut so far."""

    async def __aenter__(self) -> CutProxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()

    def cut(self) -> None:
        """Cut every line now; new ones are accepted."""
        for line in list(self._lines):
            self.cuts += 1
            line.transport.abort()
        self._lines.clear()

    def cut_after(self, octets: int, *, sent: bool = False) -> None:
        """Cut every line once so many more bytes have come from the server, in the middle of an answer, or have been
        `sent` to it, in the middle of a request."""
        self._left, self._of_what_is_sent = octets, sent

    def refuse(self, refusing: bool = True) -> None:
        """Cut every line and accept no new ones, until told otherwise."""
        self._refusing = refusing
        if refusing:
            self.cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        host, port = self._target
        try:
            if isinstance(host, Path):
                there_reader, there = await asyncio.open_unix_connection(str(host))
            else:
                there_reader, there = await asyncio.open_connection(host, port)
        except OSError:
            writer.transport.abort()
            return
        self._lines |= {writer, there}
        await asyncio.gather(
            self._forward(reader, there, sent=True), self._forward(there_reader, writer, sent=False)
        )
        for line in (writer, there):
            self._lines.discard(line)
            line.transport.abort()

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, sent: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                if self._left is not None and sent == self._of_what_is_sent:
                    part, self._left = data[: self._left], self._left - len(data)
                    if self._left <= 0:
                        self._left = None
                        writer.write(part)
                        with suppress(OSError):
                            await writer.drain()
                        self.cut()
                        return
                writer.write(data)
                await writer.drain()
        with suppress(OSError):
            writer.close()
