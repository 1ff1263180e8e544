"""Migrations: numbered .sql files, each applied once, in one transaction, under an advisory lock, with its digest."""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import asyncpg

from cairn_kit.database.pool import connect

_FILE = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")
_IDENTIFIER = re.compile(r"^[a-z_][a-z0-9_]{0,62}$")
_NO_LIMIT = 24 * 3600.0  # building an index on a large table takes as long as it takes
_LOCK_WAIT = "500ms"
"""How long a migration waits for a lock at a time: others queue behind it, and less than it takes the server to find a
deadlock, for replicas that still run lock the same tables in orders of their own."""

_IN_THE_WAY = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)
_TRIES, _REST = 200, (0.2, 1.0)
"""Rests between tries, in seconds, are random: two minutes in all."""


class MigrationError(Exception):
    """The schema and the migration files do not fit; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: which set it belongs to (`kit` or `service`), its name, its text."""

    owner: str
    name: str
    text: str

    @property
    def digest(self) -> str:
        """SHA-256 of the text, in hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_migrations(folder: Traversable | None) -> list[Migration]:
    """The kit's own migrations, then the service's, each in the order of their numbers."""
    found = _read("kit", files("cairn_kit.database") / "sql")
    return found + (_read("service", folder) if folder is not None else [])


def _read(owner: str, folder: Traversable) -> list[Migration]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    for place, name in enumerate(names, start=1):
        match = _FILE.match(name)
        if match is None or int(match[1]) != place:
            raise MigrationError(f"{name} is out of order: expected {place:04d}_words.sql.")
    return [Migration(owner, name, (folder / name).read_text(encoding="utf-8")) for name in names]


async def migrate(dsn: str, schema: str, folder: Traversable | None = None) -> list[str]:
    """Apply what is missing and return the names applied; safe to run from several places at once."""
    _check_identifier(schema)
    connection = await connect(dsn, schema, statement_timeout=_NO_LIMIT)
    try:
        await connection.execute("SELECT pg_advisory_lock(hashtextextended($1, 1))", schema)
        await _ensure_schema(connection, schema)
        missing = _missing(await _applied(connection), read_migrations(folder), schema)
        for migration in missing:
            await _apply(connection, migration, schema)
        return [f"{migration.owner}/{migration.name}" for migration in missing]
    finally:
        await connection.close()


async def pending(dsn: str, schema: str, folder: Traversable | None = None) -> list[str]:
    """The names not yet applied; raises MigrationError when an applied file was changed."""
    connection = await connect(dsn, schema)
    try:
        exists = await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f"{schema}.migration")
        applied = await _applied(connection) if exists else {}
        return [f"{m.owner}/{m.name}" for m in _missing(applied, read_migrations(folder), schema)]
    finally:
        await connection.close()


async def _ensure_schema(connection: Any, schema: str) -> None:
    if not await connection.fetchval("SELECT 1 FROM pg_namespace WHERE nspname = $1", schema):
        await connection.execute(f"CREATE SCHEMA {schema}")
    await connection.execute(
        """
        CREATE TABLE IF NOT EXISTS migration (
          owner text NOT NULL,
          name text NOT NULL,
          digest text NOT NULL,
          applied_at timestamptz NOT NULL DEFAULT now(),
          PRIMARY KEY (owner, name)
        )
        """
    )


async def _applied(connection: Any) -> dict[tuple[str, str], str]:
    rows = await connection.fetch("SELECT owner, name, digest FROM migration")
    return {(row["owner"], row["name"]): row["digest"] for row in rows}


def _missing(
    applied: dict[tuple[str, str], str], migrations: list[Migration], schema: str
) -> list[Migration]:
    known = {(m.owner, m.name): m for m in migrations}
    for key, digest in applied.items():
        if key not in known:
            raise MigrationError(
                f"Schema {schema} has migration {'/'.join(key)}, which this version does not know: "
                "it was migrated by a newer version. Run that version."
            )
        if known[key].digest != digest:
            raise MigrationError(
                f"Migration {'/'.join(key)} was changed after it was applied to schema {schema}. "
                "Restore the file and put the change into a new one."
            )
    return [m for m in migrations if (m.owner, m.name) not in applied]


async def _apply(connection: Any, migration: Migration, schema: str) -> None:
    """Apply a migration, as soon as nobody is in its way."""
    for left in reversed(range(_TRIES)):
        try:
            await _try(connection, migration)
            return
        except asyncpg.PostgresError as error:
            if not (isinstance(error, _IN_THE_WAY) and left):
                raise MigrationError(
                    f"Migration {migration.owner}/{migration.name} failed on schema {schema}: {error}"
                ) from error
        await asyncio.sleep(random.uniform(*_REST))


async def _try(connection: Any, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_WAIT}'")
        await connection.execute(migration.text)
        await connection.execute(
            "INSERT INTO migration (owner, name, digest) VALUES ($1, $2, $3)",
            migration.owner,
            migration.name,
            migration.digest,
        )


async def provision(admin_dsn: str, *services: str) -> None:
    """Make a role and a schema of its own for each service, as a superuser. Existing ones are left alone."""
    connection = await asyncpg.connect(admin_dsn, timeout=10)
    try:
        await connection.execute("SELECT pg_advisory_lock(hashtextextended('cairn:provision', 1))")
        for service in services:
            name = service.replace("-", "_")
            _check_identifier(name)
            if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", name):
                await connection.execute(f"CREATE ROLE {name} LOGIN")
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name} AUTHORIZATION {name}")
    finally:
        await connection.close()


def _check_identifier(name: str) -> None:
    if not _IDENTIFIER.match(name):
        raise MigrationError(f"{name!r} cannot be the name of a schema.")
