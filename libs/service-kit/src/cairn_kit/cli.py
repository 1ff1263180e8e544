"""The command line that every service has: `serve` (the default), `migrate`, `republish`, `dead-letters`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import uvloop
from nats.errors import Error as NatsError
from pydantic import ValidationError

from cairn_kit.database.migrations import MigrationError, migrate
from cairn_kit.database.pool import OUTAGES, Database
from cairn_kit.events.bus import Bus, BusError
from cairn_kit.events.dead_letters import list_dead_letters, request_replay
from cairn_kit.events.relay import republish
from cairn_kit.events.topology import ensure_stream
from cairn_kit.lifecycle import bus_address
from cairn_kit.rpc.clients import UnknownPeer
from cairn_kit.rpc.server import StartError
from cairn_kit.settings import ChassisSettings, unknown_settings
from cairn_kit.telemetry.logs import configure_logging, get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cairn_kit.lifecycle import Service

_log = get_logger(__name__)
# What an operator can mend, and needs no traceback to do so.
_EXPECTED: tuple[type[BaseException], ...] = (
    StartError,
    MigrationError,
    BusError,
    UnknownPeer,
    asyncpg.PostgresError,
    NatsError,
    *OUTAGES,
)


def run_command(service: Service[Any], arguments: Sequence[str] | None) -> None:
    """Do what the arguments say and exit: 0 done, 1 with one plain sentence on stderr, 2 for wrong arguments."""
    options = _parser().parse_args(arguments)
    try:
        settings = service.settings()
    except ValidationError as error:
        _fail(_settings_sentence(error))
    configure_logging(settings.service_name, settings.log_level, settings.log_format)
    for why in unknown_settings(settings, os.environ):
        _log.warning("settings.unknown", why=why)
    work: Callable[[Service[Any], Any, argparse.Namespace], Awaitable[None]] = options.work
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_await(work(service, settings, options)))
    except _EXPECTED as error:
        _fail((str(error) or type(error).__name__).splitlines()[0])
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


async def _await(work: Awaitable[None]) -> None:
    await work


def _fail(sentence: str) -> Any:
    sys.stderr.write(sentence + "\n")
    sys.exit(1)


def _settings_sentence(error: ValidationError) -> str:
    parts = []
    for problem in error.errors():
        name = (
            "CAIRN_" + "__".join(str(part) for part in problem["loc"]).upper()
            if problem["loc"]
            else "settings"
        )
        what = "is missing" if problem["type"] == "missing" else problem["msg"].removeprefix("Value error, ")
        parts.append(f"{name}: {what}")
    return "The settings are wrong. " + "; ".join(parts) + "."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A Cairn service. Settings come from CAIRN_* variables.")
    parser.set_defaults(work=_serve)
    commands = parser.add_subparsers(metavar="COMMAND")
    commands.add_parser("serve", help="answer calls and events (the default)").set_defaults(work=_serve)
    commands.add_parser("migrate", help="apply migrations and the stream, and exit").set_defaults(
        work=_migrate
    )
    again = commands.add_parser("republish", help="publish the outbox again, after the bus lost it")
    again.add_argument("--since", type=_moment, help="only events since this time (ISO 8601)")
    again.set_defaults(work=_republish)
    letters = commands.add_parser("dead-letters", help="events that were given up").add_subparsers(
        required=True
    )
    letters.add_parser("list", help="show them, the latest first").set_defaults(work=_list_dead_letters)
    replay = letters.add_parser("replay", help="have the running service handle them again")
    which = replay.add_mutually_exclusive_group(required=True)
    which.add_argument("ids", nargs="*", type=UUID, default=[], metavar="EVENT_ID")
    which.add_argument("--all", action="store_true")
    replay.set_defaults(work=_replay)
    return parser


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


async def _serve(service: Service[Any], settings: Any, _: argparse.Namespace) -> None:
    # What was imported stays for good, and a message is short-lived: neither is worth a look at every 700 objects.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    await service.serve(settings)


async def _migrate(service: Service[Any], settings: ChassisSettings, _: argparse.Namespace) -> None:
    dsn = settings.postgres_dsn.get_secret_value()
    for name in await migrate(dsn, settings.schema_name, service.migrations):
        _say(f"applied {name}")
    bus = Bus(bus_address(settings), f"{settings.service_name}-migrate")
    await bus.open()
    try:
        await ensure_stream(
            bus.jetstream,
            retention_days=settings.event_retention_days,
            replicas=settings.stream_replicas,
            update=True,
        )
    finally:
        await bus.close()


async def _republish(_: Service[Any], settings: ChassisSettings, options: argparse.Namespace) -> None:
    async with _database(settings) as database:
        count = await republish(database, options.since)
    _say(f"{count} events will be published again by the running service.")


async def _list_dead_letters(_: Service[Any], settings: ChassisSettings, __: argparse.Namespace) -> None:
    async with _database(settings) as database:
        for letter in await list_dead_letters(database):
            _say(
                f"{letter.event_id}  {letter.died_at:%Y-%m-%dT%H:%M:%SZ}  {letter.reason.value}  "
                f"{letter.event_type or '?'}  {letter.nats_subject}  {letter.error.splitlines()[0][:200]}"
            )


async def _replay(_: Service[Any], settings: ChassisSettings, options: argparse.Namespace) -> None:
    async with _database(settings) as database:
        count = await request_replay(database, None if options.all else options.ids)
    _say(f"{count} dead letters will be handled again by the running service.")


@asynccontextmanager
async def _database(settings: ChassisSettings) -> AsyncIterator[Database]:
    database = Database(
        settings.postgres_dsn.get_secret_value(), settings.schema_name, pool_min=0, pool_max=1
    )
    await database.open()
    try:
        yield database
    finally:
        await database.close()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
