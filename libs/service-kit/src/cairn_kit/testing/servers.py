"""The PostgreSQL of this test process: started at its first use, stopped at exit, a database for whoever asks."""

from __future__ import annotations

import asyncio
import atexit
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources.abc import Traversable
from itertools import count

import asyncpg

from cairn_kit.database.migrations import migrate, provision, read_migrations
from cairn_kit.embedded import EmbeddedPostgres
from cairn_kit.testing.scratch import scratch_folder

_numbers = count(1)
_SETTINGS = {
    "max_connections": "300",
    # A killed server must keep what it has committed, as a durable one does; only a power cut may lose it.
    "synchronous_commit": "on",
    # It comes when it likes: what it looks at no VACUUM of a test clears away, and plans turn with what it counted.
    "autovacuum": "off",
}
_templates: dict[str, str] = {}


@cache
def postgres() -> EmbeddedPostgres:
    """One server for the process, without fsync."""
    running = own_postgres()
    atexit.register(running.__exit__, None, None, None)
    return running.__enter__()


@contextmanager
def own_postgres() -> Iterator[EmbeddedPostgres]:
    """A server of the test's own, to be killed and restarted at will; without fsync."""
    with scratch_folder() as folder:
        server = EmbeddedPostgres(folder / "pg", durable=False, settings=_SETTINGS)
        server.start()
        try:
            yield server
        finally:
            server.kill()


async def fresh_database(service: str, migrations: Traversable | None) -> str:
    """The DSN of a new database in which only this service lives, migrated, as the service's role."""
    server, role = postgres(), service.replace("-", "_")
    template = await _template(server, service, migrations)
    name = f"test_{next(_numbers)}"
    await _administer(server, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    return server.dsn(name, role)


async def drop_database(dsn: str) -> None:
    """Drop what fresh_database made, whoever is still connected."""
    name = dsn.partition("@/")[2].partition("?")[0]
    await _administer(postgres(), f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


async def _template(server: EmbeddedPostgres, service: str, migrations: Traversable | None) -> str:
    """A database to copy: made once for each set of migrations."""
    texts = "".join(m.digest for m in read_migrations(migrations))
    key = hashlib.sha256(f"{service}{texts}".encode()).hexdigest()[:16]
    if key not in _templates:
        name, role = f"template_{key}", service.replace("-", "_")
        await _administer(server, f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name}")
        await provision(server.dsn(name), service)
        await migrate(server.dsn(name, role), role, migrations)
        _templates[key] = name
    return _templates[key]


async def _administer(server: EmbeddedPostgres, *statements: str) -> None:
    connection = await asyncpg.connect(server.dsn())
    try:
        for statement in statements:
            for attempt in range(50):
                try:
                    await connection.execute(statement)
                    break
                except asyncpg.ObjectInUseError:
                    # A session that was just closed still holds the template for a moment.
                    if attempt == 49:
                        raise
                    await asyncio.sleep(0.02)
    finally:
        await connection.close()
