"""What an export shows: labels as they stood at one moment, and the annotations to their items."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from cairn_annotation_store.store.projects import Reader
from cairn_kit.database import Database, Queries

SQL = Queries.load("cairn_annotation_store", "sql/exported.sql")

Snapshot = tuple[int, int, tuple[int, ...]]
"""What PostgreSQL keeps as a pg_snapshot: its xmin, xmax and the transactions that were running in between."""

Place = tuple[str, str]
"""Where a label stands in an export: item and question."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The moment that an export shows of its project."""

    snapshot: Snapshot
    at: datetime
    """When the snapshot was taken."""


@dataclass(frozen=True, slots=True)
class Span:
    """The labels after a place, up to another one."""

    after: Place
    upto: Place


@dataclass(frozen=True, slots=True)
class PageSize:
    """How much is read at once: so many rows at most, and no more after so many bytes."""

    rows: int
    size: int


class PassedOn(NamedTuple):
    """What was passed on."""

    size: int
    """Bytes."""
    cut_off: bool
    """Whether there was more."""


class _Enough(Exception):
    """There are as many bytes as there may be."""


class ExportedStore:
    """Reads what exports show, and passes it on as COPY sends it, some whole rows at a time: see `domain.export_copy`."""

    async def next_span(
        self, reader: Reader, tenant: str, project: str, after: Place, labels: int
    ) -> tuple[Span, int] | None:
        """The span of the next so many labels that stand, or of all that are left, and their number; None if none are."""
        row = await reader.fetchrow(SQL.next_span, tenant, project, *after, labels)
        return None if row is None else (Span(after, (row["item"], row["question"])), row["nth"])

    async def labels(
        self,
        database: Database,
        tenant: str,
        project: str,
        cut: Cut,
        span: Span,
        most: PageSize,
        to: Callable[[bytes], Awaitable[None]],
    ) -> PassedOn:
        """Pass on the labels of a span that stood in the cut, in their order.

        What stands now is read, and replaced where it was written after the cut: revisions are kept for ever, so
        each page shows the same moment, however late it is read and whatever was written meanwhile.
        """
        values = tenant, project, *span.after, *span.upto, cut.snapshot, most.rows
        return await _passed_on(database, to, most.size, SQL.exported_labels, *values)

    async def annotations(
        self,
        database: Database,
        tenant: str,
        project: str,
        cut: Cut,
        first: str,
        last: str,
        most: PageSize,
        to: Callable[[bytes], Awaitable[None]],
    ) -> PassedOn:
        """Pass on the annotations to items from one to another that were submitted by the cut, by item."""
        values = tenant, project, first, last, cut.at, most.rows
        return await _passed_on(database, to, most.size, SQL.exported_annotations, *values)

    async def annotations_of(
        self,
        database: Database,
        tenant: str,
        project: str,
        cut: Cut,
        items: Sequence[str],
        size: int,
        to: Callable[[bytes], Awaitable[None]],
    ) -> PassedOn:
        """Pass on the annotations to some items that were submitted by the cut, by item, and no more after so many bytes."""
        return await _passed_on(
            database, to, size, SQL.exported_annotations_of, tenant, project, items, cut.at
        )


async def _passed_on(
    database: Database, to: Callable[[bytes], Awaitable[None]], most: int, statement: str, *values: Any
) -> PassedOn:
    size = 0

    async def pass_on(rows: bytes) -> None:
        nonlocal size
        if size > most:
            raise _Enough
        size += len(rows)
        await to(rows)

    try:
        await database.copy_out(pass_on, statement, *values)
    except _Enough:
        return PassedOn(size, cut_off=True)
    return PassedOn(size, cut_off=False)
