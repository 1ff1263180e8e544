"""Annotations: one for each lease, and one answer of each labeler to each item, for ever."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn_annotation_store.store.projects import Reader
from cairn_kit.database import Queries, Transaction

SQL = Queries.load("cairn_annotation_store", "sql/annotations.sql")
FIRST = UUID(int=0)
"""Before every annotation."""


@dataclass(frozen=True, slots=True)
class NewAnnotation:
    """An annotation to be kept, its answers encoded (see `encode_answers`)."""

    tenant: str
    project: str
    annotation: UUID
    item: str
    task: str
    lease: str
    labeler: str
    kind: int
    audit: str
    answers: bytes
    schema_version: int
    work_us: int | None
    expires_at: datetime
    """When the lease ends: what comes after it, by the database's clock, is late."""


@dataclass(frozen=True, slots=True)
class AnnotationRow:
    """An annotation as it is kept."""

    tenant: str
    project: str
    annotation: UUID
    item: str
    task: str
    lease: str
    labeler: str
    kind: int
    audit: str
    answers: bytes
    late: bool
    schema_version: int
    work_us: int | None
    submitted_at: datetime


@dataclass(frozen=True, slots=True)
class AnsweredLease:
    """A lease under which an annotation was kept."""

    project: str
    task: str
    lease: str
    late: bool


def encode_answers(annotation: pb.Annotation | pb.SubmitAnnotationRequest) -> bytes:
    """The answers as they are kept: equal bytes for equal answers."""
    return pb.Annotation(answers=annotation.answers).SerializeToString(deterministic=True)


class AnnotationStore:
    """Reads and writes annotations."""

    async def end_within(self, tx: Transaction, seconds: int) -> None:
        """Have the server end the transaction, or where it cannot (PostgreSQL 16) each statement, after so long."""
        limited = SQL.limit_transaction if _server_major(tx) >= 17 else SQL.limit_statements
        await tx.execute(limited, f"{seconds}s")

    async def insert(
        self, tx: Transaction, annotations: Sequence[NewAnnotation]
    ) -> dict[tuple[str, str], AnnotationRow]:
        """Keep annotations; those that were kept now, by (tenant, lease).

        What a lease, or the labeler to the item, answered before is not among them; of two at once the first is kept.
        """
        rows = await tx.fetch(
            SQL.insert_annotations,
            [a.tenant for a in annotations],
            [a.project for a in annotations],
            [a.annotation for a in annotations],
            [a.item for a in annotations],
            [a.task for a in annotations],
            [a.lease for a in annotations],
            [a.labeler for a in annotations],
            [a.kind for a in annotations],
            [a.audit for a in annotations],
            [a.answers for a in annotations],
            [a.schema_version for a in annotations],
            [a.work_us for a in annotations],
            [a.expires_at for a in annotations],
        )
        return {(row["tenant"], row["lease"]): AnnotationRow(**row) for row in rows}

    async def of_leases(
        self, reader: Reader, leases: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], AnnotationRow]:
        """What was kept under these leases, by (tenant, lease)."""
        if not leases:
            return {}
        rows = await reader.fetch(
            SQL.annotations_of_leases, [tenant for tenant, _ in leases], [lease for _, lease in leases]
        )
        return {(row["tenant"], row["lease"]): AnnotationRow(**row) for row in rows}

    async def get(
        self, reader: Reader, tenant: str, project: str, item: str, annotation: UUID
    ) -> AnnotationRow | None:
        """An annotation, or None."""
        row = await reader.fetchrow(SQL.annotation, tenant, project, annotation, item)
        return None if row is None else AnnotationRow(**row)

    async def list_after(
        self, reader: Reader, tenant: str, project: str, item: str | None, after: UUID, limit: int
    ) -> list[AnnotationRow]:
        """Annotations of an item, or of the whole project, oldest first, after the given one."""
        rows: list[Any]
        if item is None:
            rows = await reader.fetch(SQL.annotations_of_project, tenant, project, after, limit)
        else:
            rows = await reader.fetch(SQL.annotations_of_item, tenant, project, item, after, limit)
        return [AnnotationRow(**row) for row in rows]

    async def answered(
        self, reader: Reader, tenant: str, leases: Collection[str]
    ) -> dict[str, AnsweredLease]:
        """Those of the leases that were answered, by lease id."""
        rows = await reader.fetch(SQL.answered_leases, tenant, list(leases))
        return {row["lease"]: AnsweredLease(**row) for row in rows}


def _server_major(tx: Transaction) -> int:
    major: int = tx.connection.get_server_version().major
    return major
