"""Makes lines of a project's labels: what an order asks for is read from the database and comes back as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cairn_annotation_store.domain.export_copy import CopiedLabels
from cairn_annotation_store.domain.export_rows import ExportedLabel, Shown, lines
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
    shown, made, labels = order.shown, list[bytes](), 0
    copied = CopiedLabels(with_annotations=shown.with_annotations)

    def show(whole: Sequence[ExportedLabel]) -> None:
        nonlocal labels
        labels += len(whole)
        made.append(lines(shown, whole))

    async def add(rows: bytes) -> None:
        show(copied.add(rows))

    passed = await LabelStore().to_export(
        database, order.tenant, shown.project, order.cut, order.span, order.most, add
    )
    if not passed.cut_off:  # else the rows of the last label may not all have come
        show(copied.end())
    return Lines(labels, copied.read, copied.last, passed.size, passed.cut_off, b"".join(made))
