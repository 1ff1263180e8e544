"""What PostgreSQL does by itself with the rows of an import or an export: COPY, in and out."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

import asyncpg

from tests.benchmarks.volume.targets import CairnStack, admin_dsn


@asynccontextmanager
async def store_database(cairn: CairnStack) -> AsyncIterator[asyncpg.Connection]:
    """Connect to the tables of annotation-store, for whoever may do everything."""
    database = await asyncpg.connect(admin_dsn(cairn), server_settings={"search_path": "annotation_store"})
    try:
        yield database
    finally:
        await database.close()


async def copied_in(database: asyncpg.Connection, project: str) -> float:
    """Return the seconds that COPY of a project's finished items takes, into a copy of their table with its indexes."""
    found = await database.fetch("SELECT * FROM item WHERE project = $1", project.removeprefix("projects/"))
    columns, records = list(found[0].keys()), [tuple(row) for row in found]
    await database.execute("CREATE TABLE copied (LIKE item INCLUDING ALL)")
    try:
        began = perf_counter()
        await database.copy_records_to_table("copied", records=records, columns=columns)
        return perf_counter() - began
    finally:
        await database.execute("DROP TABLE copied")


async def copied_out(database: asyncpg.Connection, project: str) -> float:
    """Return the seconds that COPY of a project's standing labels takes, to a file."""
    began = perf_counter()
    with tempfile.TemporaryFile() as file:
        await database.copy_from_query(
            "SELECT item, question, revision, source, confidence, answer, provenance, created_at FROM label "
            "WHERE project = $1 AND stands",
            project.removeprefix("projects/"),
            output=file,
        )
    return perf_counter() - began
