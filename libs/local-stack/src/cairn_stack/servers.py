"""PostgreSQL and NATS under watch: an embedded server that ended is started again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

from cairn_kit.embedded import EmbeddedError
from cairn_stack.backoff import Lives
from cairn_stack.errors import means_full_disk
from cairn_stack.processes import ProcessId
from cairn_stack.state import ProcessState, ProcessStatus

_LOOK = 0.1
T = TypeVar("T")


class Embedded(Protocol):
    """What EmbeddedPostgres and EmbeddedNats have alike."""

    @property
    def pid(self) -> int | None: ...  # noqa: D102
    @property
    def running(self) -> bool: ...  # noqa: D102
    def start(self) -> None: ...  # noqa: D102
    def stop(self) -> None: ...  # noqa: D102


class WatchedServer:
    """Keeps one embedded server alive. `start`, then `keep` until cancelled, then `stop`."""

    def __init__(
        self, name: str, server: Embedded, data: Path, address: str, changed: Callable[[], None]
    ) -> None:
        self._server = server
        self._data = data
        self._changed = changed
        self._lives = Lives()
        self._ready_since: float | None = None
        self._busy = asyncio.Lock()
        self.status = ProcessStatus(name, ProcessState.STARTING, address=address)

    async def start(self) -> None:
        """Start it and wait until it answers. Raises EmbeddedError with a plain sentence."""
        await blocking(self._server.start)
        self._ready_since = time.monotonic()
        pid = self._server.pid
        self._tell(ProcessState.READY, ProcessId.of(pid) if pid else None)

    async def keep(self) -> None:
        """Start it again whenever it ends, for ever."""
        while True:
            await asyncio.sleep(_LOOK)
            async with self._busy:
                if not self._server.running:
                    await self._again()

    async def stop(self) -> None:
        """Stop it cleanly."""
        async with self._busy:
            await blocking(self._server.stop)
            self._tell(ProcessState.STOPPED, None)

    async def restart(self, while_stopped: Callable[[], None] | None = None) -> None:
        """Stop it, do something that needs it stopped, start it. Raises EmbeddedError."""
        async with self._busy:
            self._tell(ProcessState.RESTARTING, None)
            await blocking(self._server.stop)
            if while_stopped:
                await blocking(while_stopped)
            await self.start()

    async def _again(self) -> None:
        ready_for = None if self._ready_since is None else time.monotonic() - self._ready_since
        self._ready_since = None
        delay = self._lives.ended(ready_for)
        self._tell(ProcessState.CRASHING if self._lives.looping else ProcessState.RESTARTING, None)
        try:
            if not self._data.exists():
                # Started now it would make an empty one: a disk that is not mounted must not look like a new stack.
                raise EmbeddedError(
                    f"The data of {self.status.name} are gone from {self._data}. Bring them back."
                )
            await self.start()
        except (EmbeddedError, OSError) as error:
            problem = str(error)
            if means_full_disk(error):
                problem = f"{self.status.name} stopped because the disk is full. Free some space. ({error})"
            self._tell(ProcessState.CRASHING, None, problem)
            await asyncio.sleep(delay)

    def _tell(self, state: ProcessState, process: ProcessId | None, problem: str = "") -> None:
        self.status = replace(
            self.status, state=state, process=process, problem=problem, restarts=self._lives.restarts
        )
        self._changed()


async def blocking(call: Callable[[], T]) -> T:
    """Run a blocking call in a thread; when cancelled, wait for its end first: a thread cannot be stopped."""
    work = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
