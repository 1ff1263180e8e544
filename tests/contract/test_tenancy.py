"""Tenants are apart in the databases themselves (P8): the tenant is first in the key of every table but a named few."""

from pathlib import Path

import asyncpg
import pytest

from cairn_kit.testing.servers import drop_database, fresh_database

ROOT = Path(__file__).parents[2]
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/pyproject.toml"))

BY_EVENT = "keyed by the event's id, which is unique among all tenants"
KIT_EXCEPTIONS = {
    "outbox": BY_EVENT,
    "inbox": BY_EVENT,
    "delivery_failure": BY_EVENT,
    "dead_letter": BY_EVENT,
    "relay_state": "one row: which stream the service has published to",
    "migration": "which migrations the schema has",
}
EXCEPTIONS = {
    "audit": {"ledger_key": "public keys, one of which signs every tenant's checkpoints"},
    "consensus": {"share": "sixteen rows: since when which part of all projects has its keeper"},
    "task-dispatch": {
        "lease": "keyed by the lease's id, unique among all tenants, for its plans (ARCHITECTURE, 34)"
    },
}

FIRST_IN_KEY = """
SELECT table_.relname AS name, attribute.attname AS first
FROM pg_class table_
LEFT JOIN pg_index key ON key.indrelid = table_.oid AND key.indisprimary
LEFT JOIN pg_attribute attribute ON attribute.attrelid = table_.oid AND attribute.attnum = key.indkey[0]
WHERE table_.relkind IN ('r', 'p') AND NOT table_.relispartition AND table_.relnamespace = current_schema()::regnamespace
"""


async def first_in_key(service: str) -> dict[str, str | None]:
    """Each table of a service with the first column of its primary key; None for a table without one."""
    role = service.replace("-", "_")
    migrations = ROOT / "services" / service / "src" / f"cairn_{role}" / "sql" / "migrations"
    dsn = await fresh_database(service, migrations)
    connection = await asyncpg.connect(dsn, server_settings={"search_path": role})
    try:
        return {row["name"]: row["first"] for row in await connection.fetch(FIRST_IN_KEY)}
    finally:
        await connection.close()
        await drop_database(dsn)


@pytest.mark.parametrize("service", SERVICES)
async def test_the_tenant_is_first_in_every_key_but_the_named_ones(service: str) -> None:
    tables = await first_in_key(service)
    exceptions = KIT_EXCEPTIONS | EXCEPTIONS.get(service, {})
    others = {name for name, first in tables.items() if first != "tenant"}
    assert others == set(exceptions), (
        f"{service}: tables not keyed by tenant first, against those named above"
    )
