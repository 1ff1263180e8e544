"""Items as they came, and the labels that stand for them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import asyncpg

from cairn_inference.domain.routing import Route
from cairn_inference.records import HeardLabel, ItemCounts, ItemRef, NewItem
from cairn_inference.store.rows import Reader, item_columns, item_ref
from cairn_kit.database import Queries, Transaction

SQL = Queries.load("cairn_inference", "sql/items.sql")

_NEW_COLUMNS = (
    "tenant", "project", "item", "validation", "lot", "gold", "hint", "content", "body", "blob", "feature_state",
    "feature_error", "route", "route_revision", "priority", "open", "label", "label_source", "label_confidence",
)  # fmt: skip


class ItemStore:
    """Items, and of each question the newest label."""

    async def insert_items(self, tx: Transaction, items: Collection[NewItem]) -> Collection[ItemRef]:
        """Write items; those that were known before, which stay as they are.

        Nearly always everything is new: so it is copied, and only if that meets an item inserted row by row.
        """
        # Who writes the same items waits, and never deadlocks.
        ordered = sorted(items, key=lambda item: item.ref)
        rows = [_new_row(item) for item in ordered]
        try:
            async with tx.savepoint():
                await tx.copy_records_to_table("item", records=rows, columns=_NEW_COLUMNS)
            return ()
        except asyncpg.UniqueViolationError:
            written = await tx.fetch(SQL.insert_items, *zip(*rows, strict=True))
            return {item.ref for item in ordered} - {item_ref(row) for row in written}

    async def known_items(self, tx: Transaction, refs: Sequence[ItemRef]) -> dict[ItemRef, bool]:
        """Those of these items that are known, each with whether it has still to follow to the routed question."""
        return {item_ref(row): row["behind"] for row in await tx.fetch(SQL.known_items, *item_columns(refs))}

    async def keep_labels(self, tx: Transaction, labels: Sequence[HeardLabel]) -> None:
        """Write the newest of these labels of routed questions, where they are newer than what is known."""
        await tx.execute(
            SQL.keep_labels,
            [label.tenant for label in labels],
            [label.project for label in labels],
            [label.key for label in labels],
            [label.class_id for label in labels],
            [label.source for label in labels],
            [label.confidence for label in labels],
            [label.revision for label in labels],
        )

    async def keep_other_labels(self, tx: Transaction, labels: Sequence[HeardLabel]) -> None:
        """The same for labels of questions that are not routed."""
        if not labels:
            return
        await tx.execute(
            SQL.keep_other_labels,
            [label.tenant for label in labels],
            [label.project for label in labels],
            [label.question for label in labels],
            [label.key for label in labels],
            [label.class_id for label in labels],
            [label.source for label in labels],
            [label.confidence for label in labels],
            [label.revision for label in labels],
        )

    async def item_counts(self, reader: Reader, tenant: str, project: str) -> ItemCounts:
        """How many items went automatically, and how many are of the validation sample."""
        row = await reader.fetchrow(SQL.item_counts, tenant, project)
        return ItemCounts(row["auto"], row["validation"]) if row else ItemCounts(0, 0)


def _new_row(item: NewItem) -> tuple[Any, ...]:
    """The columns _NEW_COLUMNS of an item."""
    known = item.gold_class is not None
    return (
        *item.ref, item.validation, item.lot, item.gold, item.hint, int(item.content), item.body, item.blob,
        2 if item.feature_error else 0, item.feature_error, int(item.route), 0 if item.route is Route.PENDING else 1,
        item.priority, not known, item.gold_class, 3 if known else 0, 1.0 if known else 0.0,
    )  # fmt: skip
