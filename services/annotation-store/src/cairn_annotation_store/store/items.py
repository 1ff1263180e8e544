"""Items, imports and blobs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from google.rpc import status_pb2

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn_annotation_store.domain.items import BlobFacts
from cairn_annotation_store.store.projects import Reader
from cairn_kit.database import Queries, Transaction

SQL = Queries.load("cairn_annotation_store", "sql/items.sql")


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item to be written: normalised, with its digest."""

    body: pb.Item
    digest: bytes
    text_length: int | None
    """Code points of a text that is a blob."""


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item as it is kept, with gold answers and metadata."""

    body: pb.Item
    digest: bytes
    is_gold: bool
    text_length: int | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ImportRow:
    """How far an import has come."""

    project: str
    import_id: str
    finished: bool
    next_offset: int
    created: int
    unchanged: int
    failed: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class LeasedItemRow:
    """An item as a submission is checked against it."""

    body: pb.Item
    is_gold: bool
    text_length: int | None
    created_at: datetime


class ItemStore:
    """Reads and writes items, imports and blobs."""

    async def insert(
        self, tx: Transaction, tenant: str, project: str, items: Sequence[NewItem]
    ) -> dict[str, datetime]:
        """Write items; the keys of those that were not there before, and when they were written."""
        ordered = sorted(items, key=lambda item: item.body.key)
        rows = await tx.fetch(
            SQL.insert_items,
            tenant,
            project,
            [item.body.key for item in ordered],
            [item.body.SerializeToString(deterministic=True) for item in ordered],
            [item.digest for item in ordered],
            [bool(item.body.gold_answers) for item in ordered],
            [item.text_length for item in ordered],
        )
        return {row["item"]: row["created_at"] for row in rows}

    async def get(
        self, reader: Reader, tenant: str, project: str, keys: Collection[str]
    ) -> dict[str, ItemRow]:
        """Those of the items that exist, by key."""
        rows = await reader.fetch(SQL.items, tenant, project, list(keys))
        return {row["item"]: _item(row) for row in rows}

    async def list_after(
        self, reader: Reader, tenant: str, project: str, after: str, limit: int
    ) -> list[ItemRow]:
        """Items by key, after the given one."""
        return [_item(row) for row in await reader.fetch(SQL.list_items, tenant, project, after, limit)]

    async def of_leases(
        self, reader: Reader, keys: Collection[tuple[str, str, str]]
    ) -> dict[tuple[str, str, str], LeasedItemRow]:
        """Items by (tenant, project, key)."""
        rows = await reader.fetch(
            SQL.items_of_leases, [k[0] for k in keys], [k[1] for k in keys], [k[2] for k in keys]
        )
        return {
            (row["tenant"], row["project"], row["item"]): LeasedItemRow(
                pb.Item.FromString(row["body"]), row["is_gold"], row["text_length"], row["created_at"]
            )
            for row in rows
        }

    async def open_import(self, tx: Transaction, tenant: str, project: str, import_id: str) -> None:
        """Begin an import, unless it was begun before."""
        await tx.execute(SQL.open_import, tenant, project, import_id)

    async def get_import(self, reader: Reader, tenant: str, project: str, import_id: str) -> ImportRow | None:
        """An import, or None."""
        row = await reader.fetchrow(SQL.get_import, tenant, project, import_id)
        return None if row is None else _import(row)

    async def import_to_change(
        self, tx: Transaction, tenant: str, project: str, import_id: str
    ) -> ImportRow | None:
        """An import, locked until the transaction ends, or None."""
        row = await tx.fetchrow(SQL.import_to_change, tenant, project, import_id)
        return None if row is None else _import(row)

    async def advance_import(
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
        """Count items that were taken in."""
        row = await tx.fetchrow(
            SQL.advance_import, tenant, project, import_id, created, unchanged, failed, last
        )
        if row is None:
            raise LookupError(f"import {import_id} vanished under its lock")
        return _import(row)

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

    async def insert_blob(self, tx: Transaction, tenant: str, project: str, blob: BlobFacts) -> None:
        """Note a blob that is in storage; the same content again changes nothing."""
        await tx.execute(
            SQL.insert_blob,
            tenant,
            project,
            blob.sha256,
            blob.size_bytes,
            blob.media_type,
            blob.width,
            blob.height,
            blob.grey_bits,
            blob.text_length,
        )

    async def blobs(
        self, reader: Reader, tenant: str, project: str, sha256s: Collection[str]
    ) -> dict[str, BlobFacts]:
        """Those of the blobs that the project has, by digest."""
        if not sha256s:
            return {}
        rows = await reader.fetch(SQL.blobs, tenant, project, list(sha256s))
        return {row["sha256"]: BlobFacts(**row) for row in rows}

    async def blobs_of_projects(
        self, reader: Reader, keys: Collection[tuple[str, str, str]]
    ) -> Mapping[tuple[str, str, str], BlobFacts]:
        """Blobs by (tenant, project, digest)."""
        if not keys:
            return {}
        rows = await reader.fetch(
            SQL.blobs_of_projects, [k[0] for k in keys], [k[1] for k in keys], [k[2] for k in keys]
        )
        return {
            (row["tenant"], row["project"], row["sha256"]): BlobFacts(
                **{name: row[name] for name in BlobFacts.__slots__}
            )
            for row in rows
        }


def _item(row: Any) -> ItemRow:
    return ItemRow(
        pb.Item.FromString(row["body"]), row["digest"], row["is_gold"], row["text_length"], row["created_at"]
    )


def _import(row: Any) -> ImportRow:
    return ImportRow(
        project=row["project"],
        import_id=row["import"],
        finished=row["finished"],
        next_offset=row["next_offset"],
        created=row["created"],
        unchanged=row["unchanged"],
        failed=row["failed"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
