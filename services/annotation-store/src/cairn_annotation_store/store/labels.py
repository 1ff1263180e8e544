"""Labels: every revision is kept, one stands."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.label.v1 import label_value_pb2 as value_pb
from cairn_annotation_store.domain.labels import LabelKey, LabelRevision, Rank, Source
from cairn_annotation_store.domain.names import ItemKey, ProjectId, QuestionId, Tenant
from cairn_annotation_store.store.projects import Reader
from cairn_kit.database import Queries, Transaction

SQL = Queries.load("cairn_annotation_store", "sql/labels.sql")

ItemId = tuple[str, str, str]
"""Tenant, project and item key."""


@dataclass(frozen=True, slots=True)
class LabelRow:
    """A revision and when it was written."""

    label: LabelRevision
    created_at: datetime
    written_in: str = ""
    """The writing transaction, where the log was read."""


class LabelStore:
    """Reads and writes labels. What reads for a caller leaves out the labels of the source `hidden`; 0 hides none."""

    async def lock_items(self, tx: Transaction, items: Collection[ItemId]) -> dict[ItemId, int | None]:
        """Lock items for writing their labels; those that exist, with the source that completes them."""
        rows = await tx.fetch(SQL.lock_items, *_columns(items))
        return {(row["tenant"], row["project"], row["item"]): row["complete_by"] for row in rows}

    async def standing(
        self, reader: Reader, items: Collection[ItemId]
    ) -> dict[ItemId, dict[str, LabelRevision]]:
        """The labels that stand for these items, by item, then question."""
        found: dict[ItemId, dict[str, LabelRevision]] = {item: {} for item in items}
        for row in await reader.fetch(SQL.standing_labels, *_columns(items)):
            found[row["tenant"], row["project"], row["item"]][row["question"]] = _label(row).label
        return found

    async def write(self, tx: Transaction, revisions: Sequence[LabelRevision]) -> None:
        """Write revisions, oldest first; the last of each label stands from now on. Their items are locked."""
        last = {revision.key: revision for revision in revisions}
        first = {revision.key: revision for revision in reversed(revisions)}
        # The unique index allows one standing revision: the old ones are laid down first.
        replaced = [key for key, revision in first.items() if revision.revision > 1]
        if replaced:
            await tx.execute(
                SQL.lay_down_labels,
                [key.tenant for key in replaced],
                [key.project for key in replaced],
                [key.item for key in replaced],
                [key.question for key in replaced],
            )
        await tx.execute(
            SQL.insert_labels,
            [r.key.tenant for r in revisions],
            [r.key.project for r in revisions],
            [r.key.item for r in revisions],
            [r.key.question for r in revisions],
            [r.revision for r in revisions],
            [last[r.key] is r for r in revisions],
            [r.rank.source for r in revisions],
            [r.rank.order for r in revisions],
            [r.rank.event_id for r in revisions],
            [r.confidence for r in revisions],
            [r.answer.SerializeToString() for r in revisions],
            [r.provenance.SerializeToString() for r in revisions],
        )

    async def now(self, reader: Reader) -> datetime:
        """The transaction's time: when everything that it writes was written."""
        row = await reader.fetchrow(SQL.transaction_time)
        moment: datetime = row[0]
        return moment

    async def set_completeness(self, tx: Transaction, sources: Mapping[ItemId, Source | None]) -> None:
        """Note by which source items are complete; None: a label is missing. Their items are locked."""
        await tx.execute(SQL.set_completeness, *_columns(sources), list(sources.values()))

    async def get(
        self, reader: Reader, key: LabelKey, revision: int | None, *, hidden: int
    ) -> LabelRow | None:
        """The label that stands, or one of its revisions; or None."""
        where = (key.tenant, key.project, key.item, key.question)
        if revision is None:
            row = await reader.fetchrow(SQL.label, *where, hidden)
        else:
            row = await reader.fetchrow(SQL.label_revision, *where, revision, hidden)
        return None if row is None else _label(row)

    async def revisions_before(
        self, reader: Reader, key: LabelKey, before: int, limit: int, *, hidden: int
    ) -> list[LabelRow]:
        """A label's revisions below `before`, newest first."""
        rows = await reader.fetch(
            SQL.label_revisions, key.tenant, key.project, key.item, key.question, before, limit, hidden
        )
        return [_label(row) for row in rows]

    async def list_after(
        self,
        reader: Reader,
        tenant: str,
        project: str,
        after: tuple[str, str],
        limit: int,
        source: int = 0,
        *,
        hidden: int,
    ) -> list[LabelRow]:
        """The labels that stand in a project, by item and question; `source` 0 means all."""
        if source:
            rows = await reader.fetch(
                SQL.list_labels_of_source, tenant, project, *after, limit, source, hidden
            )
        else:
            rows = await reader.fetch(SQL.list_labels, tenant, project, *after, limit, hidden)
        return [_label(row) for row in rows]

    async def list_of_item(
        self,
        reader: Reader,
        tenant: str,
        project: str,
        item: str,
        after: str,
        limit: int,
        source: int,
        *,
        hidden: int,
    ) -> list[LabelRow]:
        """The labels that stand for an item, by question; `source` 0 means all."""
        rows = await reader.fetch(
            SQL.list_labels_of_item, tenant, project, item, after, limit, source, hidden
        )
        return [_label(row) for row in rows]

    async def horizon(self, reader: Reader) -> str:
        """The oldest transaction that may still be running: what comes into view later was written in it or after."""
        row = await reader.fetchrow(SQL.log_horizon)
        return str(row[0])

    async def log_after(
        self,
        reader: Reader,
        tenant: str,
        project: str,
        after: tuple[str, str, str, int],
        limit: int,
        *,
        hidden: int,
    ) -> list[LabelRow]:
        """Revisions in the order of the log, after (transaction, item, question, revision)."""
        return [
            _label(row) for row in await reader.fetch(SQL.label_log, tenant, project, *after, limit, hidden)
        ]


def _columns(items: Collection[ItemId]) -> tuple[list[str], list[str], list[str]]:
    return [item[0] for item in items], [item[1] for item in items], [item[2] for item in items]


def _label(row: Any) -> LabelRow:
    key = LabelKey(
        Tenant(row["tenant"]), ProjectId(row["project"]), ItemKey(row["item"]), QuestionId(row["question"])
    )
    label = LabelRevision(
        key=key,
        revision=row["revision"],
        rank=Rank(Source(row["source"]), row["source_order"], row["event_id"]),
        answer=value_pb.Answer.FromString(row["answer"]),
        confidence=row["confidence"],
        provenance=pb.Provenance.FromString(row["provenance"]),
    )
    return LabelRow(label, row["created_at"], row.get("written", ""))
