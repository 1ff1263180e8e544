"""Makes lines of a project's labels: what an order asks for is read from the database and comes back as text."""

from __future__ import annotations

from dataclasses import dataclass

from cairn_annotation_store.domain.export_copy import rows_of
from cairn_annotation_store.domain.export_rows import LabelLines, Shown
from cairn_annotation_store.store.labels import Cut, LabelStore, PageSize, Place, Span
from cairn_kit.database import Database


@dataclass(frozen=True, slots=True)
class Order:
    """What lines are to be made of: labels of a project as they stood in a cut."""

    tenant: str
    shown: Shown
    cut: Cut
    span: Span
    most: PageSize


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines made of an order."""

    labels: int
    """How many labels they hold."""
    read: int
    """How many were read, those too that stood for nothing."""
    last: Place | None
    """The place of the last one that was read; None if none was."""
    size: int
    """Bytes that the database sent."""
    cut_off: bool
    """Whether that was as much as is read at once, and there was more."""
    content: bytes


async def lines_of(database: Database, order: Order) -> Lines:
    """Read labels and make lines of them. Raises what the database does."""
    made = LabelLines(order.shown)

    async def add(copied: bytes) -> None:
        made.add(rows_of(copied))

    passed = await LabelStore().to_export(
        database, order.tenant, order.shown.project, order.cut, order.span, order.most, add
    )
    content = made.end(cut_off=passed.cut_off)
    return Lines(made.labels, made.read, made.last, passed.size, passed.cut_off, content)
