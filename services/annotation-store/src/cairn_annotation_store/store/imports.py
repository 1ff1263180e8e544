"""Imports: how far each has come, and what it refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from google.rpc import status_pb2

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn_annotation_store.store.projects import Reader
from cairn_kit.database import Queries, Transaction

SQL = Queries.load("cairn_annotation_store", "sql/imports.sql")


@dataclass(frozen=True, slots=True)
class ImportRow:
    """How far an import has come."""

    project: str
    import_id: str
    finished: bool
    """Nothing more is taken in: all items have come, or it was cancelled."""
    cancelled: bool
    next_offset: int
    created: int
    unchanged: int
    failed: int
    created_at: datetime
    updated_at: datetime


class ImportStore:
    """Reads and writes imports."""

    async def open(self, tx: Transaction, tenant: str, project: str, import_id: str) -> None:
        """Begin an import, unless it was begun before."""
        await tx.execute(SQL.open_import, tenant, project, import_id)

    async def get(self, reader: Reader, tenant: str, project: str, import_id: str) -> ImportRow | None:
        """An import, or None."""
        row = await reader.fetchrow(SQL.get_import, tenant, project, import_id)
        return None if row is None else _import(row)

    async def list_before(
        self, reader: Reader, tenant: str, project: str, before: tuple[datetime, str], limit: int
    ) -> list[ImportRow]:
        """A project's imports, newest first, from before the given (time of creation, id) on."""
        return [_import(row) for row in await reader.fetch(SQL.list_imports, tenant, project, *before, limit)]

    async def get_to_change(
        self, tx: Transaction, tenant: str, project: str, import_id: str
    ) -> ImportRow | None:
        """An import, locked until the transaction ends, or None."""
        row = await tx.fetchrow(SQL.import_to_change, tenant, project, import_id)
        return None if row is None else _import(row)

    async def advance(
        self,
        tx: Transaction,
        tenant: str,
        project: str,
        import_id: str,
        *,
        created: int,
        unchanged: int,
        failed: int,
        last: bool,
    ) -> ImportRow:
        """Count items that were taken in; `updated_at` is the time that they were written at, too."""
        row = await tx.fetchrow(
            SQL.advance_import, tenant, project, import_id, created, unchanged, failed, last
        )
        if row is None:
            raise LookupError(f"import {import_id} vanished under its lock")
        return _import(row)

    async def cancel(self, tx: Transaction, tenant: str, row: ImportRow) -> ImportRow:
        """End an import that has not ended."""
        return _import(await tx.fetchrow(SQL.cancel_import, tenant, row.project, row.import_id))

    async def add_failures(
        self,
        tx: Transaction,
        tenant: str,
        project: str,
        import_id: str,
        failures: Sequence[pb.ImportFailure],
    ) -> None:
        """Keep why items were refused."""
        await tx.execute(
            SQL.add_import_failures,
            tenant,
            project,
            import_id,
            [failure.offset for failure in failures],
            [failure.key for failure in failures],
            [failure.error.SerializeToString() for failure in failures],
        )

    async def failures(
        self, reader: Reader, tenant: str, project: str, import_id: str, limit: int
    ) -> list[pb.ImportFailure]:
        """The first refused items of an import."""
        rows = await reader.fetch(SQL.import_failures, tenant, project, import_id, limit)
        return [
            pb.ImportFailure(
                offset=row["offset"], key=row["item"], error=status_pb2.Status.FromString(row["error"])
            )
            for row in rows
        ]


def _import(row: Any) -> ImportRow:
    return ImportRow(
        project=row["project"],
        import_id=row["import"],
        finished=row["finished"],
        cancelled=row["cancelled"],
        next_offset=row["next_offset"],
        created=row["created"],
        unchanged=row["unchanged"],
        failed=row["failed"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
