"""Makes lines of a project's labels: what an order asks for is read from the database and comes back as text."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from cairn_annotation_store.domain.export_copy import (
    CopiedAnnotation,
    CopiedLabel,
    annotations_of,
    labels_of,
)
from cairn_annotation_store.domain.export_rows import Shown, lines
from cairn_annotation_store.store.exported import Cut, ExportedStore, PageSize, PassedOn, Place, Span
from cairn_kit.database import Database

_Given = dict[str, list[CopiedAnnotation]]
"""Annotations by their items."""

_EXPORTED = ExportedStore()
_MANY = 12
"""Annotations for each item with labels: to read more than that between them is more than to look up what there is to it."""


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
    labels: list[CopiedLabel] = []

    async def add(copied: bytes) -> None:
        labels.extend(labels_of(copied))

    size, cut_off = await _EXPORTED.labels(
        database, order.tenant, order.shown.project, order.cut, order.span, order.most, add
    )
    given: _Given = {}
    if order.shown.with_annotations and labels:
        items = list(dict.fromkeys(label[0] for label in labels))
        given, passed, last_item = await _given(database, order, items)
        size += passed.size
        if passed.cut_off:  # perhaps in the middle of what there is to that item
            cut_off, labels = True, _before(last_item, labels)
    stood = [(label, given.get(label[0], [])) for label in labels if label[2]]
    last = labels[-1][:2] if labels else None
    return Lines(len(stood), len(labels), last, size, cut_off, lines(order.shown, stood))


async def _given(database: Database, order: Order, items: Sequence[str]) -> tuple[_Given, PassedOn, str]:
    """The annotations to items, which are in their order, how much was read of them, and up to which item."""
    project, size = order.shown.project, order.most.size
    given: _Given = {item: [] for item in items}
    read, last = 0, ""

    async def add(copied: bytes) -> None:
        nonlocal read, last
        for last, annotation in annotations_of(copied):
            read += 1
            if last in given:
                given[last].append(annotation)

    most = PageSize(_MANY * len(items), size)
    passed = await _EXPORTED.annotations(
        database, order.tenant, project, order.cut, items[0], items[-1], most, add
    )
    in_vain = read - sum(map(len, given.values()))
    if read == most.rows or (passed.cut_off and in_vain > _MANY * bisect_right(items, last)):
        given.update((item, []) for item in items)
        passed = await _EXPORTED.annotations_of(database, order.tenant, project, order.cut, items, size, add)
    return given, passed, last


def _before(item: str, labels: Sequence[CopiedLabel]) -> list[CopiedLabel]:
    """The labels before those of an item."""
    return list(takewhile(lambda label: label[0] < item, labels))
