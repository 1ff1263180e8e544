"""Items and blobs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn_annotation_store.domain.items import BlobFacts, NewItem
from cairn_annotation_store.store.projects import Reader
from cairn_kit.database import Queries, Transaction

SQL = Queries.load("cairn_annotation_store", "sql/items.sql")
_COLUMNS = ("tenant", "project", "item", "body", "digest", "is_gold", "text_length")


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item as it is kept, with gold answers and metadata."""

    body: pb.Item
    digest: bytes
    is_gold: bool
    text_length: int | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class LeasedItemRow:
    """An item as a submission is checked against it."""

    body: pb.Item
    is_gold: bool
    text_length: int | None
    created_at: datetime


class ItemStore:
    """Reads and writes items and blobs."""

    async def insert(
        self, tx: Transaction, tenant: str, project: str, items: Collection[NewItem]
    ) -> Collection[str]:
        """Write items; the keys of those that were there before, which stay as they are.

        What is written carries the transaction's time. Nearly always everything is new: so it is copied, and only if
        that meets a key inserted row by row.
        """
        ordered = sorted(items, key=lambda item: item.key)  # imports side by side wait, and never deadlock
        rows = [(tenant, project, i.key, i.encoded, i.digest, i.is_gold, i.text_length) for i in ordered]
        try:
            async with tx.savepoint():
                await tx.copy_records_to_table("item", records=rows, columns=_COLUMNS)
            return ()
        except asyncpg.UniqueViolationError:
            columns = list(zip(*rows, strict=True))[2:]
            written = await tx.fetch(SQL.insert_new_items, tenant, project, *columns)
            return {item.key for item in ordered} - {row["item"] for row in written}

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
