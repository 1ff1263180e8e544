"""Exports as jobs: who works on one, and where it goes on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from google.rpc import status_pb2

from cairn_annotation_store.store.exported import Snapshot
from cairn_annotation_store.store.projects import Reader
from cairn_kit.database import Queries, Transaction

SQL = Queries.load("cairn_annotation_store", "sql/exports.sql")


@dataclass(frozen=True, slots=True)
class ExportRow:
    """An export as it is kept."""

    tenant: str
    project: str
    export: UUID
    format: int
    include_annotations: bool
    state: int
    exported: int
    total: int
    parts: int
    last_item: str
    last_question: str
    all_written: bool
    worker: UUID | None
    failures: int
    file_sha256: str | None
    file_bytes: int | None
    error: bytes | None
    created_at: datetime
    ended_at: datetime | None
    cut: Snapshot
    """The moment that it shows, the one at which it was asked for."""
    joined: bool
    """Whether its file, if it has one, is a blob, as the release before made it; else its parts are, one after the other."""


@dataclass(frozen=True, slots=True)
class ExportPart:
    """A part that is in storage."""

    part: int
    worker: UUID
    """Who wrote it."""
    size: int | None
    """Bytes; None for one that the release before wrote and nobody has gone on with."""


class ExportStore:
    """Reads and writes exports."""

    async def insert(
        self,
        tx: Transaction,
        tenant: str,
        project: str,
        export: UUID,
        *,
        export_format: int,
        include_annotations: bool,
    ) -> ExportRow:
        """A new export, pending."""
        return _export(
            await tx.fetchrow(SQL.insert_export, tenant, project, export, export_format, include_annotations)
        )

    async def get(self, reader: Reader, tenant: str, project: str, export: UUID) -> ExportRow | None:
        """An export, or None."""
        row = await reader.fetchrow(SQL.export, tenant, project, export)
        return None if row is None else _export(row)

    async def get_to_change(
        self, tx: Transaction, tenant: str, project: str, export: UUID
    ) -> ExportRow | None:
        """An export, locked until the transaction ends, or None."""
        row = await tx.fetchrow(SQL.export_to_change, tenant, project, export)
        return None if row is None else _export(row)

    async def list_before(
        self, reader: Reader, tenant: str, project: str, before: UUID, limit: int
    ) -> list[ExportRow]:
        """A project's exports, newest first."""
        rows = await reader.fetch(SQL.list_exports, tenant, project, before, limit)
        return [_export(row) for row in rows]

    async def cancel(self, tx: Transaction, row: ExportRow) -> ExportRow:
        """End an export that has not ended."""
        return _export(await tx.fetchrow(SQL.cancel_export, row.tenant, row.project, row.export))

    async def claim(self, tx: Transaction, worker: UUID, seconds: float) -> ExportRow | None:
        """An export to work on, or None. It is this worker's for so many seconds from each sign of life."""
        row = await tx.fetchrow(SQL.claim_export, worker, seconds)
        return None if row is None else _export(row)

    async def keep_claim(self, reader: Reader, row: ExportRow, seconds: float) -> bool:
        """Give a sign of life; False when the export is no longer this worker's."""
        return await reader.fetchrow(SQL.keep_claim, *_owned(row), seconds) is not None

    async def parts(self, reader: Reader, row: ExportRow) -> list[ExportPart]:
        """What an export has in storage, in the order of the file."""
        rows = await reader.fetch(SQL.export_parts, row.tenant, row.project, row.export)
        return [ExportPart(found["part"], found["worker"], found["size_bytes"]) for found in rows]

    async def note_size(self, reader: Reader, row: ExportRow, part: int, size: int) -> None:
        """Note how large a part is of which nobody had."""
        await reader.fetchrow(SQL.note_size, row.tenant, row.project, row.export, part, size)

    async def to_tidy(self, reader: Reader, seconds: float, after: UUID, limit: int) -> list[ExportRow]:
        """Exports that ended more than so many seconds ago, and may have in storage what they do not need, by their ids."""
        rows = await reader.fetch(SQL.exports_to_tidy, seconds, after, limit)
        return [_export(row) for row in rows]

    async def tidied(self, tx: Transaction, row: ExportRow) -> None:
        """Note that an export that has ended has nothing in storage but its file."""
        await tx.execute(SQL.export_tidied, row.tenant, row.project, row.export)

    async def advanced(
        self,
        tx: Transaction,
        row: ExportRow,
        *,
        last: tuple[str, str],
        labels: int,
        size: int,
        done: bool,
        seconds: float,
    ) -> ExportRow | None:
        """Note how far the export is, and that a part of so many bytes is in storage, if it has any.

        None when the export is no longer this worker's.
        """
        found = await tx.fetchrow(
            SQL.export_advanced,
            *_owned(row),
            row.parts + (1 if size else 0),
            *last,
            row.exported + labels,
            done,
            seconds,
            size,
        )
        return None if found is None else _export(found)

    async def finished(self, tx: Transaction, row: ExportRow, sha256: str, size: int) -> ExportRow | None:
        """Note the finished file; None when the export is no longer this worker's."""
        found = await tx.fetchrow(SQL.export_finished, *_owned(row), sha256, size)
        return None if found is None else _export(found)

    async def failed(
        self, tx: Transaction, row: ExportRow, most: int, error: status_pb2.Status
    ) -> ExportRow | None:
        """Count a failure; after `most` of them the export has failed for good."""
        found = await tx.fetchrow(SQL.export_failed, *_owned(row), most, error.SerializeToString())
        return None if found is None else _export(found)


def _owned(row: ExportRow) -> tuple[str, str, UUID, UUID | None]:
    return row.tenant, row.project, row.export, row.worker


def _export(row: Any) -> ExportRow:
    return ExportRow(**{name: row[name] for name in ExportRow.__slots__})
