"""A world for one test: its own nats-server, its own databases, its own keys, and the services that run in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import grpc
from google.protobuf.message import Message

from cairn_kit.auth import KeyRing, Role, Signer
from cairn_kit.database import Database
from cairn_kit.embedded import EmbeddedNats, EmbeddedPostgres
from cairn_kit.events.bus import Bus, BusAddress, Publisher
from cairn_kit.events.envelope import Event, Received, Stored, Undecodable, receive_all
from cairn_kit.events.pull import Pull
from cairn_kit.events.subjects import subject_of
from cairn_kit.events.subscription import Subscription
from cairn_kit.events.topology import ensure_consumer, ensure_stream
from cairn_kit.ids import uuid7
from cairn_kit.lifecycle import Chassis, Service
from cairn_kit.settings import ChassisSettings
from cairn_kit.testing.eventually import PATIENCE, eventually
from cairn_kit.testing.servers import drop_database, fresh_database, postgres

M = TypeVar("M", bound=Message)
S = TypeVar("S", bound=ChassisSettings)
T = TypeVar("T")
_CALL = 30.0  # seconds, the deadline of a call


class World:
    """Everything around the services under test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = KeyRing(folder / "keys")
        self.bus = EmbeddedNats(folder / "nats", durable=False)
        self.peers: dict[str, str] = {}
        """Where each service or fake peer listens; services that are run later find the earlier ones."""
        self._exit = AsyncExitStack()
        self._dsns: dict[str, str] = {}
        self._connection: Bus | None = None
        self._listeners = 0
        self._services: set[str] = set()

    async def __aenter__(self) -> World:
        self.bus.start()
        self._exit.callback(self.bus.kill)
        self.keys.ensure([])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()

    # --- identity

    def token(
        self,
        *,
        tenant: str = "acme",
        subject: str = "tester",
        roles: Iterable[Role | str] = ("admin",),
        projects: Iterable[str] | None = None,
        lifetime: float = 3600.0,
    ) -> str:
        """A bearer token for a person; for a service when the role is `service`."""
        wanted = [Role(role) for role in roles]
        if wanted == [Role.SERVICE]:
            name = subject.removeprefix("services/")
            self._ensure_key(name)
            return Signer(self.keys.service_key(name), name).token(
                tenant=tenant, subject=f"services/{name}", roles=wanted, lifetime=lifetime
            )
        return Signer(self.keys.users_key(), "test").token(
            tenant=tenant, subject=subject, roles=wanted, projects=projects, lifetime=lifetime
        )

    def signer(self, service: str) -> Signer:
        """The signer of a service, for instance of `task-dispatch` to sign lease tokens."""
        self._ensure_key(service)
        return Signer(self.keys.service_key(service), service)

    def _ensure_key(self, service: str) -> None:
        if service not in self._services:
            self._services.add(service)
            self.keys.ensure(sorted(self._services))

    # --- databases

    @property
    def postgres(self) -> EmbeddedPostgres:
        """The server of this test process, shared with other tests: do not stop it."""
        return postgres()

    async def dsn(self, service: str, migrations: Traversable | None = None) -> str:
        """A database of this world in which only this service lives; the same one each time."""
        if service not in self._dsns:
            dsn = self._dsns[service] = await fresh_database(service, migrations)
            self._exit.push_async_callback(drop_database, dsn)
        return self._dsns[service]

    async def database(self, service: str, migrations: Traversable | None = None, **options: Any) -> Database:
        """An open pool on the service's database, with options of `Database`."""
        dsn = await self.dsn(service, migrations)
        database = Database(dsn, service.replace("-", "_"), pool_min=0, **options)
        await database.open()
        self._exit.push_async_callback(database.close)
        return database

    # --- services

    async def settings(self, service: Service[S], **overrides: Any) -> S:
        """Settings of a service in this world."""
        name = str(service.settings.model_fields["service_name"].default)
        self._ensure_key(name)
        values: dict[str, Any] = {
            "postgres_dsn": await self.dsn(name, service.migrations),
            "nats_url": self.bus.url,
            "nats_token": self.bus.token,
            "jwks_file": self.keys.jwks_file,
            "service_key_file": self.keys.private_key_file(name),
            "peers": dict(self.peers),
            "shutdown_grace": 2.0,
        }
        return service.settings(**(values | overrides))

    @asynccontextmanager
    async def run(self, service: Service[S], **overrides: Any) -> AsyncIterator[RunningService[S]]:
        """Run a service in this process until the block ends; yields when it is ready."""
        settings = await self.settings(service, **overrides)
        async with service.open(settings) as chassis:
            task = asyncio.create_task(chassis.run())
            ready = asyncio.create_task(chassis.ready.wait())
            await asyncio.wait([task, ready], timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                ready.cancel()
                task.result()
            if not ready.done():
                raise AssertionError(f"{settings.service_name} was not ready in {PATIENCE:.0f} s")
            self.peers[settings.service_name] = chassis.address
            running = RunningService(self, chassis)
            try:
                yield running
            finally:
                await running._close()
                chassis.stop()
                await task

    async def fake_peer(
        self, name: str, servicer: Any, add_to_server: Callable[[Any, grpc.aio.Server], None]
    ) -> None:
        """Answer the calls that services run later make to this neighbour."""
        server = grpc.aio.server()
        add_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self._exit.push_async_callback(server.stop, 0)
        self.peers[name] = f"127.0.0.1:{port}"

    # --- the bus

    async def connection(self) -> Bus:
        """A connection of the test's own, with the stream in place."""
        if self._connection is None:
            self._connection = Bus(BusAddress(self.bus.url, token=self.bus.token), "test")
            await self._connection.open()
            self._exit.push_async_callback(self._connection.close)
        await ensure_stream(self._connection.jetstream, retention_days=7.0)
        return self._connection

    async def publish(self, *events: Event, copies: int = 1) -> None:
        """Publish events as another service would; with `copies`, deliver each of them several times."""
        stored = [_stored(event) for event in events]
        await self.publish_raw(
            [
                (one.nats_subject, one.headers("/services/test") | _copy_id(copy), one.body)
                for one in stored
                for copy in range(copies)
            ]
        )

    async def publish_raw(self, messages: Sequence[tuple[str, dict[str, str], bytes]]) -> None:
        """Publish (subject, headers, body) as they are, malformed or not."""
        accepted = await Publisher(await self.connection()).publish(messages)
        if not all(accepted):
            raise AssertionError("the stream refused some events")

    async def listen(self, *event_types: type[Message]) -> Heard[Any]:
        """Collect events of these types (all when none is given) from the beginning of the stream."""
        bus = await self.connection()
        self._listeners += 1
        heard: Heard[Any] = Heard(bus, f"test-{self._listeners}", event_types)
        await heard._start()
        self._exit.push_async_callback(heard._stop)
        return heard

    def spans(self) -> list[dict[str, Any]]:
        """What services with `spans_file=world.folder / "spans.jsonl"` have written so far."""
        path = self.folder / "spans.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class RunningService(Generic[S]):
    """A service that runs in this process."""

    def __init__(self, world: World, chassis: Chassis[S]) -> None:
        self.chassis = chassis
        self._world = world
        self._channel: grpc.aio.Channel | None = None

    @property
    def settings(self) -> S:
        """Its settings."""
        return self.chassis.settings

    @property
    def database(self) -> Database:
        """Its own pool."""
        return self.chassis.database

    @property
    def channel(self) -> grpc.aio.Channel:
        """A channel to it, without a token."""
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self.chassis.address)
        return self._channel

    def stub(
        self,
        stub: Callable[[grpc.aio.Channel], T],
        *,
        tenant: str = "acme",
        subject: str = "tester",
        roles: Iterable[Role | str] = ("admin",),
        projects: Iterable[str] | None = None,
        token: str | None = None,
    ) -> T:
        """A stub whose calls carry a token of this bearer (or the token given)."""
        bearer = token or self._world.token(tenant=tenant, subject=subject, roles=roles, projects=projects)
        return stub(cast(grpc.aio.Channel, _WithToken(self.channel, bearer)))

    async def _close(self) -> None:
        if self._channel is not None:
            await self._channel.close()


class _WithToken:
    """A channel for generated stubs that adds a token to each call."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._channel = channel
        self._metadata = (("authorization", f"Bearer {token}"),)

    def __getattr__(self, kind: str) -> Any:
        make = getattr(self._channel, kind)

        def callable_for(method: str, *args: Any, **kwargs: Any) -> Any:
            inner = make(method, *args, **kwargs)

            def call(request: Any = None, *, timeout: float = _CALL, metadata: Any = ()) -> Any:
                return inner(request, timeout=timeout, metadata=(*self._metadata, *metadata))

            return call

        return callable_for


class Heard(Generic[M]):
    """Events collected from the stream, each once, in the order of the stream."""

    def __init__(self, bus: Bus, name: str, types: Sequence[type[M]]) -> None:
        self._bus = bus
        self._name = name
        self._types = {kind.DESCRIPTOR.full_name: kind for kind in types}
        self._subscriptions = [Subscription(kind, _unused) for kind in types] or [
            Subscription.everything(_unused)
        ]
        self._pull = Pull(bus, name, 500)
        self._task: asyncio.Task[None] | None = None
        self.events: list[Received[M]] = []

    async def count(self, number: int, *, timeout: float = PATIENCE) -> list[Received[M]]:
        """The events, once there are at least so many."""
        await eventually(lambda: len(self.events) >= number, timeout=timeout)
        return self.events

    async def until(
        self, condition: Callable[[list[Received[M]]], bool], *, timeout: float = PATIENCE
    ) -> list[Received[M]]:
        """The events, once the condition holds for them."""
        await eventually(lambda: condition(self.events), timeout=timeout)
        return self.events

    async def _start(self) -> None:
        await ensure_consumer(self._bus.jetstream, self._name, self._subscriptions)
        self._task = asyncio.create_task(self._collect())

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _collect(self) -> None:
        known = set()
        while True:
            for message in await self._pull.next(1.0):
                await message.ack()
                for event in receive_all(message.subject, message.headers, message.data):
                    if isinstance(event, Undecodable):
                        raise event
                    if event.id in known:
                        continue
                    known.add(event.id)
                    kind = self._types.get(event.type)
                    event.decoded = kind.FromString(event.body) if kind else None
                    self.events.append(event)


async def _unused(*_: object) -> None:
    raise AssertionError("a test's own consumer has no handler")


def _stored(event: Event) -> Stored:
    descriptor = event.message.DESCRIPTOR
    return Stored(
        id=uuid7(),
        type=descriptor.full_name,
        nats_subject=subject_of(descriptor.name, event.tenant, event.project),
        tenant=event.tenant,
        project=event.project,
        resource=event.resource,
        revision=event.revision,
        traceparent="",
        time=datetime.now(UTC),
        body=event.message.SerializeToString(),
    )


def _copy_id(copy: int) -> dict[str, str]:
    """The broker's dedupe window would drop a second copy; it must come through, for the inbox to see."""
    return {} if copy == 0 else {"Nats-Msg-Id": str(uuid7())}
