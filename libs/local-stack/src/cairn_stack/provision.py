"""The database `cairn`: five roles, each with a password and a schema of its own, and nothing else."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from urllib.parse import quote

import asyncpg

from cairn_kit.database import provision
from cairn_kit.embedded import EmbeddedPostgres
from cairn_stack.files import read_json, write_json
from cairn_stack.home import Home

DATABASE = "cairn"
SUPERUSER = "postgres"
_ACCESS = """\
# Written by the Cairn stack: everybody shows a password, on the private Unix socket, from the first start on.
local all all scram-sha-256
"""


def passwords(home: Home, roles: Iterable[str]) -> dict[str, str]:
    """The password of each role and of the superuser; missing ones are made and kept (0600)."""
    kept: dict[str, str] = read_json(home.passwords)
    missing = {SUPERUSER, *roles} - kept.keys()
    if missing:
        kept |= {role: secrets.token_urlsafe(24) for role in sorted(missing)}
        write_json(home.passwords, kept)
    return kept


def dsn(server: EmbeddedPostgres, role: str, password: str, database: str = DATABASE) -> str:
    """The connection string of a role, password included."""
    return server.dsn(database, role).replace(f"//{role}@", f"//{role}:{quote(password, safe='')}@", 1)


async def provision_database(home: Home, server: EmbeddedPostgres, roles: tuple[str, ...]) -> None:
    """Make what is missing: passwords, the database, the roles, their schemas; then close the door.

    `initdb` trusts whoever opens the socket, and the socket's folder is private (0700); from the end of the
    first call on, a password is asked for as well, so that no service can become another.
    """
    known = passwords(home, roles)
    admin = await asyncpg.connect(dsn(server, SUPERUSER, known[SUPERUSER], "postgres"), timeout=10)
    try:
        await _set_password(admin, SUPERUSER, known[SUPERUSER])
        if not await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
            await admin.execute(f"CREATE DATABASE {DATABASE}")
        await provision(dsn(server, SUPERUSER, known[SUPERUSER]), *roles)
        for role in roles:
            await _set_password(admin, role, known[role])
        await admin.execute("REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC")
        await admin.execute(f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC")
        await admin.execute(f"GRANT CONNECT, TEMPORARY ON DATABASE {DATABASE} TO {', '.join(roles)}")
        access = server.data / "pg_hba.conf"
        if access.read_text() != _ACCESS:
            access.write_text(_ACCESS)  # in place: it stays PostgreSQL's user's file
            await admin.execute("SELECT pg_reload_conf()")
    finally:
        await admin.close()


async def _set_password(admin: asyncpg.Connection, role: str, password: str) -> None:
    # Our own tokens have no quotes, and a role's name is one of ours; ALTER ROLE takes no parameters.
    await admin.execute(f"ALTER ROLE {role} PASSWORD '{password}'")
