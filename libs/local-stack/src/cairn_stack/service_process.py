"""One replica of a service as a process: started, watched, started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import IO, Any

import asyncpg

from cairn_kit.database import MigrationError, migrate
from cairn_stack.backoff import Lives
from cairn_stack.catalog import ServiceSpec
from cairn_stack.environment import environment_of
from cairn_stack.errors import means_full_disk
from cairn_stack.home import Home
from cairn_stack.lastwords import last_words
from cairn_stack.options import Options
from cairn_stack.ports import Ports
from cairn_stack.processes import ProcessId
from cairn_stack.state import ProcessState, ProcessStatus

_GRACE = 20.0  # calls and events get 5 s each to finish, the relay 3; then it is killed
_SOON, _NOW_AND_THEN = 0.03, 1.0  # how often to ask for readiness: while starting, and afterwards


class ServiceProcess:
    """Keeps one replica of a service alive. `keep` runs until cancelled; `changed` is called when `status` has changed."""

    def __init__(
        self,
        spec: ServiceSpec,
        number: int,
        home: Home,
        options: Options,
        ports: Ports,
        changed: Callable[[], None],
    ) -> None:
        self.spec = spec
        self._number, self._name = number, spec.replica(number)
        self._home, self._options, self._ports = home, options, ports
        self._changed = changed
        self._child: asyncio.subprocess.Process | None = None
        self._lives = Lives()
        self._log_start = 0
        self._ready_since: float | None = None
        self.status = ProcessStatus(
            self._name,
            ProcessState.STARTING if spec.installed else ProcessState.MISSING,
            address=f"127.0.0.1:{ports.grpc[self._name]}",
            http=f"127.0.0.1:{ports.http[self._name]}",
            problem="" if spec.installed else f"{spec.name} is missing: {spec.module} is not installed here.",
        )

    async def keep(self) -> None:
        """Migrate, serve, and start again whatever ends, for ever."""
        if self.status.state is ProcessState.MISSING:
            return
        migrated = False
        while True:
            doing = "serving" if migrated else "migrating its schema"
            try:
                code = await (self._serve() if migrated else self._migrate())
            except (OSError, asyncpg.PostgresError, MigrationError) as error:  # no log, no process, no schema
                await self._rest("was stopped by an error", doing, str(error))
                continue
            if not migrated and code == 0:
                migrated = True
            else:
                words = last_words(self._home.log(self._name), self._log_start)
                await self._rest(_how_it_ended(code), doing, words)

    async def stop(self) -> None:
        """Ask it to end and wait for it; `keep` must have been cancelled before."""
        if self._child is not None and self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._child.terminate()
            try:
                await asyncio.wait_for(self._ended(self._child), _GRACE)
            except TimeoutError:
                _kill_group(self._child)
                await self._child.wait()
        self._tell(ProcessState.STOPPED, process=None)

    async def _migrate(self) -> int:
        folder = self.spec.migrations()
        if folder is None:
            return await self._ended(await self._spawn("migrate"))
        # The same as `python -m <module> migrate`, without a second of imports for each service. The stream,
        # which that also applies, is made by the first service that finds none.
        environment = environment_of(self.spec, self._home, self._options, self._ports, self._number)
        await migrate(environment["CAIRN_POSTGRES_DSN"], self.spec.schema, folder)
        return 0

    async def _serve(self) -> int:
        self._ready_since = None
        child = await self._spawn()
        watching = asyncio.create_task(self._watch())
        try:
            return await self._ended(child)
        finally:
            watching.cancel()

    async def _spawn(self, *arguments: str) -> asyncio.subprocess.Process:
        with self._open_log() as log:
            self._log_start = log.seek(0, os.SEEK_END)
            self._child = child = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", self.spec.module, *arguments),
                env=environment_of(self.spec, self._home, self._options, self._ports, self._number),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._home.root,
                umask=0o077,
                start_new_session=True,  # a group of its own, so that its children end with it
            )
        state = ProcessState.CRASHING if self._lives.looping else ProcessState.STARTING
        self._tell(state, process=ProcessId.of(child.pid))
        return child

    def _open_log(self) -> IO[bytes]:
        return self._home.log(self._name).open("ab")

    async def _ended(self, child: asyncio.subprocess.Process) -> int:
        code = await child.wait()
        _kill_group(child)
        return code

    async def _rest(self, how: str, doing: str, words: str) -> None:
        ready_for = None if self._ready_since is None else time.monotonic() - self._ready_since
        delay = self._lives.ended(ready_for)
        if means_full_disk(words):
            problem = f"{self._name} {how} because the disk is full ({words}). Free some space."
        elif self._lives.looping:
            problem = (
                f"{self._name} cannot start: it {how} while {doing}, "
                f"{self._lives.never_ready_in_a_row} times in a row"
                + (f", saying: {words}" if words else " and said nothing")
                + f" -- the whole story is in {self._home.log(self._name)}"
            )
        else:
            problem = ""
        state = ProcessState.CRASHING if self._lives.looping else ProcessState.RESTARTING
        self._tell(state, process=None, problem=problem)
        await asyncio.sleep(delay)

    async def _watch(self) -> None:
        while True:
            ready = await answers_ready(self.status.http)
            if ready and self._ready_since is None:
                self._ready_since = time.monotonic()
            if ready:
                self._tell(ProcessState.READY, problem="")
            elif self._ready_since is not None:
                self._tell(ProcessState.NOT_READY)
            await asyncio.sleep(_NOW_AND_THEN if ready else _SOON)

    def _tell(self, state: ProcessState, **changes: Any) -> None:
        fresh = replace(self.status, state=state, restarts=self._lives.restarts, **changes)
        if fresh != self.status:
            self.status = fresh
            self._changed()


def _kill_group(child: asyncio.subprocess.Process) -> None:
    # What a killed service leaves behind (a training run, say) must not go on without it.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def _how_it_ended(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


async def answers_ready(address: str, timeout: float = 2.0) -> bool:
    """Whether `GET /readyz` at `host:port` says 200."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(f"GET /readyz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                status_line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return status_line.split()[1:2] == [b"200"]
