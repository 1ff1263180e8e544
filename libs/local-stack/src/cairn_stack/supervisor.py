"""The one process of a stack that outlives `cairn up`: it starts, watches and ends all the others."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from cairn_kit.embedded import EmbeddedError
from cairn_stack.control import listen
from cairn_stack.disk import TO_RUN, TO_START, shortage
from cairn_stack.environment import nats_of, postgres_of, write_profile
from cairn_stack.errors import StackError, means_full_disk
from cairn_stack.files import write_json
from cairn_stack.home import Home
from cairn_stack.leftovers import stop_leftovers
from cairn_stack.options import Options
from cairn_stack.ports import Ports
from cairn_stack.processes import ProcessId
from cairn_stack.provision import provision_database
from cairn_stack.rotation import shorten
from cairn_stack.servers import WatchedServer, blocking
from cairn_stack.service_process import ServiceProcess
from cairn_stack.state import ProcessState, StackState, StackStatus

_LOOK_AROUND = 1.0  # seconds between looks at the disk, at long logs and at the owner


class AlreadySupervised(StackError):
    """Another supervisor holds the home's lock."""


@contextmanager
def sole_supervisor(home: Home) -> Iterator[None]:
    """Hold the home's lock. Raises StackError when another supervisor does."""
    descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadySupervised(f"The stack in {home.root} is already being supervised.") from None
        yield
    finally:
        os.close(descriptor)


class Supervisor:
    """One stack. `run` returns the exit code: 0 after a clean end, 1 when it could not start."""

    def __init__(self, home: Home, options: Options) -> None:
        self._home, self._options = home, options
        self._me = ProcessId.of(os.getpid())
        self._state, self._stage, self._failure, self._shortage = StackState.STARTING, "", "", ""
        self._postgres: WatchedServer | None = None
        self._nats: WatchedServer | None = None
        self._services: list[ServiceProcess] = []
        self._keeping: list[asyncio.Task[None]] = []

    async def run(self) -> int:
        """Start everything, watch it until SIGTERM, end everything in order."""
        asked_to_end = asyncio.Event()
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, asked_to_end.set)
        async with await listen(self._home, self._answer):
            try:
                await self._watch_until(asked_to_end)
            except (StackError, EmbeddedError, OSError, asyncpg.PostgresError) as error:
                self._failure = _plainly(error, self._home)
            await self._end()
        self._home.control.unlink(missing_ok=True)
        if self._failure:
            # To whoever started us, if they still listen: on a full disk there is no other way.
            with contextlib.suppress(OSError):
                os.write(sys.stdout.fileno(), self._failure.encode() + b"\n")
        return 1 if self._failure else 0

    def status(self) -> StackStatus:
        """The stack as it is now."""
        servers = [server.status for server in (self._postgres, self._nats) if server]
        processes = (*servers, *(service.status for service in self._services))
        if self._state in {StackState.READY, StackState.DEGRADED}:
            well = all(process.state is ProcessState.READY for process in processes)
            self._state = StackState.READY if well else StackState.DEGRADED
        problems = [self._failure, self._shortage, *(process.problem for process in processes)]
        return StackStatus(
            home=self._home.root,
            state=self._state,
            supervisor=self._me,
            stage=self._stage,
            processes=processes,
            problems=tuple(problem for problem in problems if problem),
        )

    async def _watch_until(self, asked_to_end: asyncio.Event) -> None:
        running = asyncio.create_task(self._start_and_watch(asked_to_end))
        ending = asyncio.create_task(asked_to_end.wait())
        await asyncio.wait([running, ending], return_when=asyncio.FIRST_COMPLETED)
        running.cancel()
        ending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    async def _start_and_watch(self, end: asyncio.Event) -> None:
        home, options = self._home, self._options
        found = await blocking(lambda: stop_leftovers(home))
        if found:
            self._say(f"stopped what an earlier supervisor left running: {', '.join(found)}")
        self._refuse_a_full_disk()
        ports = Ports.choose(home, options)
        self._say("starting PostgreSQL and NATS")
        await self._start_servers(ports)
        write_profile(home, options, ports)
        self._say("applying migrations and starting the services")
        self._services = [
            ServiceProcess(spec, number, home, options, ports, self._save)
            for spec, number in options.processes.values()
        ]
        self._state = StackState.DEGRADED
        self._keeping += [asyncio.create_task(service.keep()) for service in self._services]
        self._save()
        await asyncio.gather(self._look_around(end), *self._keeping)

    async def _start_servers(self, ports: Ports) -> None:
        home, options = self._home, self._options
        postgres = postgres_of(home, options)
        nats = nats_of(home, options, ports.nats)
        self._postgres = WatchedServer(
            "postgres", postgres, home.postgres, str(postgres.socket_folder()), self._save
        )
        self._nats = WatchedServer("nats", nats, home.nats, f"127.0.0.1:{ports.nats}", self._save)
        roles = tuple(spec.schema for spec in options.services)

        async def database(server: WatchedServer) -> None:
            await server.start()
            await provision_database(home, postgres, roles)

        def make_keys() -> None:
            from cairn_stack.keys import (
                ensure_keys,  # half a second of imports, spent while PostgreSQL starts
            )

            ensure_keys(home.keys, [spec.name for spec in options.services])

        beginnings = [database(self._postgres), self._nats.start(), blocking(make_keys)]
        starting = [asyncio.create_task(beginning) for beginning in beginnings]
        try:
            await asyncio.gather(*starting)
        finally:
            await asyncio.wait(starting)  # the other one must not be left half started
        self._keeping = [asyncio.create_task(server.keep()) for server in (self._postgres, self._nats)]

    async def _end(self) -> None:
        self._state = StackState.STOPPING
        self._save()
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        await asyncio.gather(*(service.stop() for service in self._services))
        for server in (self._nats, self._postgres):
            if server is not None:
                await server.stop()
        self._state = StackState.STOPPED
        self._save()

    async def _look_around(self, end: asyncio.Event) -> None:
        logs = [self._home.log(name) for name in ("postgres", "nats", "supervisor")]
        logs += [self._home.log(name) for name in self._options.processes]
        while True:
            self._shortage = shortage(self._disks(), TO_RUN)
            for log in logs:
                with contextlib.suppress(OSError):
                    shorten(log)
            owner = self._options.owner
            if owner is not None and not owner.alive:
                self._say("ending: the process that this stack was started for is gone")
                end.set()
            if not self._home.root.exists():
                end.set()  # somebody deleted it under us: nobody could find us to stop us
            await asyncio.sleep(_LOOK_AROUND)

    def _refuse_a_full_disk(self) -> None:
        needed = TO_RUN if (self._home.postgres / "PG_VERSION").exists() else TO_START
        if full := shortage(self._disks(), needed):
            raise StackError(full)

    def _disks(self) -> list[Path]:
        return [self._home.root, self._home.postgres]

    async def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        match question["do"]:
            case "status":
                pass
            case "restart" if question.get("name") == "postgres" and self._postgres:
                await self._restart(self._postgres, wipe=False)
            case "restart" if question.get("name") == "nats" and self._nats:
                await self._restart(self._nats, wipe=bool(question.get("wipe")))
            case other:
                raise StackError(f"The stack cannot do {other!r} with {question.get('name')!r} now.")
        return self.status().to_json()

    async def _restart(self, server: WatchedServer, *, wipe: bool) -> None:
        nats = nats_of(self._home, self._options)
        try:
            await server.restart(nats.wipe if wipe else None)
        except (EmbeddedError, OSError) as error:
            raise StackError(_plainly(error, self._home)) from error

    def _say(self, stage: str) -> None:
        self._stage = stage
        print(stage, file=sys.stderr, flush=True)  # noqa: T201 - the supervisor's log
        self._save()

    def _save(self) -> None:
        # For those who come after us; whoever asks while we live asks the socket. A full disk stops nobody.
        with contextlib.suppress(OSError):
            write_json(self._home.state, self.status().to_json(), sync=False)


def _plainly(error: Exception, home: Home) -> str:
    if means_full_disk(error):
        return f"The disk that holds {home.root} is full. Free some space. ({error})"
    if isinstance(error, asyncpg.InvalidPasswordError):
        return (
            f"The passwords in {home.passwords} do not open the database in {home.postgres}: "
            "one of them was replaced. Restore the file that belongs to the database."
        )
    if isinstance(error, (StackError, EmbeddedError)):
        return str(error)
    return f"The stack could not start: {error}"
