"""The plaintext port for probes and Prometheus: /livez, /readyz, /metrics and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from cairn_kit.telemetry.metrics import Metrics

_PATIENCE = 5.0
_STATUS = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}


class HttpPort:
    """Answers GET; one request a connection."""

    def __init__(self, metrics: Metrics, missing: Callable[[], list[str]]) -> None:
        self._metrics = metrics
        self._missing = missing
        self._server: asyncio.Server | None = None
        self.port = 0
        """The port it listens on, once open."""

    async def open(self, host: str, port: int) -> None:
        """Listen; raises OSError when the port is taken."""
        self._server = await asyncio.start_server(self._serve, host, port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                request = await reader.readuntil(b"\r\n\r\n")
                path = request.split(b" ", 2)[1].decode("latin-1").split("?")[0]
                status, body = self._answer(path)
                head = (
                    f"HTTP/1.1 {status} {_STATUS[status]}\r\nContent-Type: text/plain; charset=utf-8\r\n"
                    f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                )
                writer.write(head.encode() + body)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, IndexError):
            pass  # a probe that went away, or something that is no HTTP
        finally:
            with suppress(OSError):
                writer.close()

    def _answer(self, path: str) -> tuple[int, bytes]:
        if path == "/livez":
            return 200, b"alive\n"
        if path == "/readyz":
            missing = self._missing()
            return (503, f"waiting for {', '.join(missing)}\n".encode()) if missing else (200, b"ready\n")
        if path == "/metrics":
            return 200, self._metrics.render()
        return 404, b"/livez, /readyz, /metrics\n"
