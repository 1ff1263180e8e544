"""From settings to a running service and back: start in one order, drain in the other."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from typing import Any, Generic, TypeVar

import asyncpg
import grpc
from google.protobuf.message import Message
from nats.errors import Error as NatsError

from cairn_kit.auth.keys import KeyFileError, PrivateKey, PublicKeys
from cairn_kit.auth.permissions import PERMISSIONS, Rule
from cairn_kit.auth.tokens import Signer, Verifier
from cairn_kit.background import Job, keep_running
from cairn_kit.database.migrations import MigrationError, pending
from cairn_kit.database.pool import OUTAGES, Database
from cairn_kit.database.transaction import Kind
from cairn_kit.events.bus import Bus, BusAddress, BusError
from cairn_kit.events.consumer import Consumer
from cairn_kit.events.relay import Relay
from cairn_kit.events.retention import Retention
from cairn_kit.events.subscription import Subscription
from cairn_kit.http import HttpPort
from cairn_kit.rpc.clients import Peers
from cairn_kit.rpc.gate import Gate
from cairn_kit.rpc.newcomers import ProjectSource
from cairn_kit.rpc.server import RpcServer, StartError
from cairn_kit.settings import ChassisSettings
from cairn_kit.shares import EventsForKeepers
from cairn_kit.telemetry.logs import get_logger
from cairn_kit.telemetry.metrics import Metrics
from cairn_kit.telemetry.tracing import configure_tracing

S = TypeVar("S", bound=ChassisSettings)
T = TypeVar("T")
_log = get_logger(__name__)
_PROBE_EVERY = 2.0
_KEEP_EVERY = 3600.0
_LAST_RELAY = 3.0
_UNUSABLE: tuple[type[BaseException], ...] = (*OUTAGES, asyncpg.PostgresError, ValueError)


class Chassis(Generic[S]):
    """One running service. `async with` opens what it leans on, `run()` serves until it is told to stop."""

    def __init__(
        self,
        settings: S,
        *,
        migrations: Traversable | None = None,
        permissions: Mapping[str, Rule] = PERMISSIONS,
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self._migrations = migrations
        self._permissions = permissions
        self._exit = AsyncExitStack()
        self._jobs: list[Job] = []
        self._endless: list[tuple[str, Callable[[], Awaitable[object]]]] = []
        self._subscriptions: list[Subscription] = []
        self._overheard: dict[str, list[Callable[[str, str], object]]] = {}
        self._in_order = True
        self._keepers: EventsForKeepers | None = None
        self._consumer: Consumer | None = None
        self._database_up = False
        self._stop = asyncio.Event()
        self.ready = asyncio.Event()
        """Set while the service answers calls."""

    # --- what `wire` uses

    def serve(
        self,
        servicer: Any,
        add_to_server: Callable[[Any, grpc.aio.Server], None],
        *,
        elements: Mapping[str, str] | None = None,
        projects: ProjectSource | None = None,
    ) -> None:
        """Answer a gRPC service. `elements`: method -> the repeated field whose bad elements the handler answers.

        `projects` is asked of a project that is unknown here, so that callers come again whose project is on its way.
        """
        self._rpc.add(servicer, add_to_server, elements or {}, projects)

    def consume(
        self,
        subscriptions: Sequence[Subscription],
        *,
        in_order: bool = True,
        keepers: EventsForKeepers | None = None,
    ) -> None:
        """Handle these events. With `in_order=False` a batch is grouped by type, in the order of `subscriptions`.

        `keepers` takes what is of another replica's projects there.
        """
        self._subscriptions += subscriptions
        self._in_order = in_order
        self._keepers = keepers

    def overhear(self, kinds: Sequence[type[Message]], told: Callable[[str, str], object]) -> None:
        """Call `told(tenant, project)` after each commit of this process that announced an event of these kinds."""
        for kind in kinds:
            self._overheard.setdefault(kind.DESCRIPTOR.full_name, []).append(told)

    def background(self, name: str, work: Callable[[], Awaitable[object]], *, every: float) -> Job:
        """Do something every so many seconds, starting now; failures are logged, counted and tried again."""
        job = Job(name, work, every, self.metrics)
        self._jobs.append(job)
        return job

    def spawn(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        """Run an endless task beside the calls, restarted when it fails."""
        self._endless.append((name, work))

    async def enter(self, context: AbstractAsyncContextManager[T]) -> T:
        """Open something that is closed after the drain, before the database."""
        return await self._exit.enter_async_context(context)

    def stop(self) -> None:
        """Begin the drain, as SIGTERM does."""
        self._stop.set()

    @property
    def signer(self) -> Signer:
        """Signs with the service's own key. Raises StartError when none was given."""
        if self._signer is None:
            raise StartError("This service signs tokens and has no key: set CAIRN_SERVICE_KEY_FILE.")
        return self._signer

    @property
    def address(self) -> str:
        """host:port of the gRPC server, once it listens."""
        return f"{self.settings.listen.rpartition(':')[0]}:{self._rpc.port}"

    @property
    def http_address(self) -> str:
        """host:port of /livez, /readyz and /metrics, once it listens."""
        return f"{self.settings.http_listen.rpartition(':')[0]}:{self._http.port}"

    def missing(self) -> list[str]:
        """What readiness still waits for; empty when the service is ready."""
        return [
            name
            for name, there in {
                "start": self.ready.is_set(),
                "database": self._database_up,
                "bus": self.bus.connected,
                "relay": self.relay.alive,
            }.items()
            if not there
        ]

    # --- opening and closing

    async def __aenter__(self) -> Chassis[S]:
        settings = self.settings
        try:
            await self._open(settings)
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()

    async def _open(self, settings: S) -> None:
        name = settings.service_name
        provider = configure_tracing(
            name,
            spans_file=settings.spans_file,
            otlp_endpoint=settings.otlp_endpoint,
            ratio=settings.trace_ratio,
        )
        self._exit.push_async_callback(asyncio.to_thread, provider.shutdown)
        self.tracer = provider.get_tracer("cairn_kit")
        try:
            self.verifier = Verifier(PublicKeys(settings.jwks_file))
            key = PrivateKey.read(settings.service_key_file) if settings.service_key_file else None
        except KeyFileError as error:
            raise StartError(str(error)) from error
        self._signer = Signer(key, name) if key is not None else None
        self.database = await self._open_database()
        self.bus = await self._open_bus()
        self.relay = Relay(
            self.database,
            self.bus,
            f"/services/{name}",
            self.metrics,
            self.tracer,
            retention_days=settings.event_retention_days,
            replicas=settings.stream_replicas,
        )
        self.database.announced = self._announced
        self.peers = Peers(
            settings.peers,
            self._signer,
            self.tracer,
            max_message_bytes=settings.max_message_bytes,
            certificate_authority=settings.peers_ca,
        )
        self._exit.push_async_callback(self.peers.close)
        self._rpc = RpcServer(
            settings,
            Gate(
                self.verifier,
                self._permissions,
                self.metrics,
                self.tracer,
                max_concurrent=settings.max_concurrent_rpcs,
                max_streams=settings.max_concurrent_streams,
                longest_wait=settings.longest_wait,
                default_deadline=settings.default_deadline,
                outbox_full=lambda: self.relay.waiting >= settings.outbox_limit,
            ),
        )
        self._http = HttpPort(self.metrics, self.missing)

    def _announced(self, kinds: Collection[Kind]) -> None:
        self.relay.wake()
        for kind, tenant, project in kinds:
            for told in self._overheard.get(kind, ()):
                told(tenant, project)

    async def _open_database(self) -> Database:
        settings = self.settings
        dsn, schema = settings.postgres_dsn.get_secret_value(), settings.schema_name
        database = Database(
            dsn,
            schema,
            pool_min=settings.pool_min,
            pool_max=settings.pool_max,
            acquire_timeout=settings.acquire_timeout,
            statement_timeout=settings.statement_timeout,
            plan_cache_mode=settings.plan_cache_mode,
        )
        try:
            await database.open()
            self._exit.push_async_callback(database.close)
            waiting = await pending(dsn, schema, self._migrations)
        except _UNUSABLE as error:
            raise StartError(f"PostgreSQL cannot be used: {_first_line(error)}") from error
        except MigrationError as error:
            raise StartError(str(error)) from error
        if waiting:
            raise StartError(
                f"Schema {schema} lacks {len(waiting)} migrations (the first is {waiting[0]}). "
                "Run this program with `migrate` first."
            )
        self._database_up = True
        return database

    async def _open_bus(self) -> Bus:
        bus = Bus(bus_address(self.settings), self.settings.service_name)
        try:
            await bus.open()
        except BusError as error:
            raise StartError(str(error)) from error
        self._exit.push_async_callback(bus.close)
        return bus

    # --- running

    async def run(self) -> None:
        """Serve until SIGTERM, SIGINT or `stop()`, then drain. Raises StartError when an address is taken."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            with suppress(NotImplementedError, RuntimeError, ValueError):  # not in the main thread
                asyncio.get_running_loop().add_signal_handler(signum, self._stop.set)
        await self._listen()
        relay = asyncio.create_task(self.relay.run(), name="relay")
        consumer = self._start_consumer()
        beside = self._start_beside()
        watched = [relay, *([consumer] if consumer else []), *beside]
        try:
            await self._rpc.set_serving(True)
            self.ready.set()
            self._report()
            await self._until_stopped(watched)
        finally:
            await self._drain(relay, consumer, beside)

    async def _listen(self) -> None:
        await self._rpc.start()
        host, _, port = self.settings.http_listen.rpartition(":")
        try:
            await self._http.open(host.strip("[]"), int(port))
        except OSError as error:
            await self._rpc.stop(0)
            raise StartError(f"Cannot listen on {self.settings.http_listen}: {error.strerror}.") from error

    def _start_consumer(self) -> asyncio.Task[None] | None:
        if not self._subscriptions:
            return None
        settings = self.settings
        self._consumer = Consumer(
            self.database,
            self.bus,
            settings.service_name,
            self._subscriptions,
            self.metrics,
            self.tracer,
            batch=settings.consumer_batch,
            in_order=self._in_order,
            retention_days=settings.event_retention_days,
            replicas=settings.stream_replicas,
            keepers=self._keepers,
        )
        return asyncio.create_task(self._consumer.run(), name="consumer")

    def _start_beside(self) -> list[asyncio.Task[None]]:
        retention = Retention(self.database, self.settings.event_retention_days)
        own = [
            Job("probe database", self._probe, _PROBE_EVERY, self.metrics),
            Job("measure outbox", self.relay.measure, _PROBE_EVERY, self.metrics),
            Job("keep events", retention.keep, _KEEP_EVERY, self.metrics),
        ]
        tasks = [asyncio.create_task(job.run(), name=job.name) for job in (*own, *self._jobs)]
        return tasks + [
            asyncio.create_task(keep_running(name, work, self.metrics), name=name)
            for name, work in self._endless
        ]

    async def _until_stopped(self, watched: list[asyncio.Task[None]]) -> None:
        stopped = asyncio.create_task(self._stop.wait())
        try:
            done, _ = await asyncio.wait([stopped, *watched], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                task.result()  # none of them ends by itself: what it raised ends the service
        finally:
            stopped.cancel()

    async def _drain(
        self,
        relay: asyncio.Task[None],
        consumer: asyncio.Task[None] | None,
        beside: list[asyncio.Task[None]],
    ) -> None:
        """In this order: say so, wait to be heard, finish calls, finish events, publish what they announced."""
        _log.info("service.draining")
        self.ready.clear()
        await self._rpc.set_serving(False)
        await asyncio.sleep(self.settings.drain_delay)
        await self._rpc.stop(self.settings.shutdown_grace)
        await _cancel(*beside)
        if consumer is not None and self._consumer is not None:
            self._consumer.stop()
            await asyncio.wait([consumer], timeout=self.settings.shutdown_grace)
            await _cancel(consumer)
        await _cancel(relay)
        with suppress(*OUTAGES, asyncpg.PostgresError, BusError, NatsError):
            async with asyncio.timeout(_LAST_RELAY):
                await self.relay.drain()
        await self._http.close()
        _log.info("service.stopped")

    async def _probe(self) -> None:
        try:
            async with asyncio.timeout(_PROBE_EVERY):
                await self.database.fetchval("SELECT 1")
            self._database_up = True
        except _UNUSABLE:
            self._database_up = False

    def _report(self) -> None:
        _log.info("service.ready", grpc=self.address, http=self.http_address)
        path = self.settings.bound_file
        if path is not None:
            unfinished = path.with_suffix(".new")
            bound = {"grpc": self.address, "http": self.http_address, "pid": os.getpid()}
            unfinished.write_text(json.dumps(bound))
            unfinished.replace(path)


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            _log.error("task.failed", exc_info=result)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def bus_address(settings: ChassisSettings) -> BusAddress:
    """Where NATS is, by the settings."""
    token, password = settings.nats_token, settings.nats_password
    return BusAddress(
        settings.nats_url,
        token=token.get_secret_value() if token else None,
        user=settings.nats_user,
        password=password.get_secret_value() if password else None,
        credentials=str(settings.nats_credentials) if settings.nats_credentials else None,
    )


@dataclass(frozen=True)
class Service(Generic[S]):
    """What makes a service: its settings, its wiring, its migrations. `main()` is its command line."""

    settings: type[S]
    wire: Callable[[Chassis[S]], Awaitable[None]]
    migrations: Traversable | None = None
    permissions: Mapping[str, Rule] = field(default_factory=lambda: PERMISSIONS)

    @asynccontextmanager
    async def open(self, settings: S) -> AsyncIterator[Chassis[S]]:
        """A wired chassis, not yet running."""
        async with Chassis(settings, migrations=self.migrations, permissions=self.permissions) as chassis:
            await self.wire(chassis)
            yield chassis

    async def serve(self, settings: S) -> None:
        """Run until told to stop."""
        async with self.open(settings) as chassis:
            await chassis.run()

    def main(self, arguments: Sequence[str] | None = None) -> None:
        """The command line: serve (the default), migrate, republish, dead-letters. Exits the process."""
        from cairn_kit.cli import run_command

        run_command(self, arguments)
