"""What an export's file consists of, part after part: several pages are made into lines at once, and used in their order."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn_annotation_store.domain.export_rows import Shown
from cairn_annotation_store.export_lines import Lines, Order, lines_of
from cairn_annotation_store.export_process import ExportProcesses
from cairn_annotation_store.store import ExportedStore, ExportRow
from cairn_annotation_store.store.exported import Cut, PageSize, Place
from cairn_kit.database import Database

_PAGE_BYTES = 8 << 20
"""Of a page, and about of its lines, of which some are in memory for each process."""
_FEW = PageSize(rows=200, size=256 << 10)
"""What lines are made of here, in milliseconds, where labels are not known to be large."""
_ONE = PageSize(rows=1, size=sys.maxsize)
"""A label that may be more than a page."""


@dataclass(frozen=True, slots=True)
class Part:
    """What is written next, and how far it comes."""

    content: bytes
    labels: int
    """How many labels it holds."""
    last: Place
    """The place up to which labels were looked at."""
    ended: bool
    """Whether none come after it."""


@dataclass(frozen=True, slots=True)
class _Page:
    """Labels of which lines are being made."""

    order: Order
    made: asyncio.Task[Lines]


class ExportParts:
    """Has processes make the parts of exports."""

    def __init__(
        self, database: Database, exported: ExportedStore, processes: ExportProcesses, page: int
    ) -> None:
        self._database = database
        self._exported = exported
        self._processes = processes
        self._page = page
        """Labels of a page, at most."""

    async def of(self, row: ExportRow) -> AsyncGenerator[Part, None]:
        """The parts from where the export stands; those after one are made while it is used."""
        pages: deque[_Page] = deque()
        last = row.last_item, row.last_question
        place: Place | None = last
        labels, ahead = self._page, self._processes.count + 1
        try:
            while True:
                while place is not None and len(pages) < ahead:
                    order, place = await self._next(row, place, labels)
                    if order is not None:
                        pages.append(self._begun(order))
                if not pages:
                    yield Part(b"", 0, last, ended=True)
                    return
                page = pages.popleft()
                lines = await page.made
                labels = _fitting(self._page, lines)
                rest = _rest(page.order, lines, labels)
                if rest is not None:
                    pages.appendleft(self._begun(rest))
                last = page.order.span.upto if rest is None else rest.span.after
                ended = place is None and not pages
                yield Part(lines.content, lines.labels, last, ended)
                if ended:
                    return
        finally:
            for page in pages:
                page.made.cancel()
            await asyncio.gather(*(page.made for page in pages), return_exceptions=True)

    async def _next(self, row: ExportRow, after: Place, labels: int) -> tuple[Order | None, Place | None]:
        """The order for the page after this place, and the place after which the one after it is; None: there is none."""
        found = await self._exported.next_span(self._database, row.tenant, row.project, after, labels)
        if found is None:
            return None, None
        span, count = found
        few = count <= _FEW.rows and labels == self._page
        # Gold included: who may export may read gold.
        order = Order(
            row.tenant,
            Shown(pb.ExportFormat.ValueType(row.format), row.project, row.include_annotations),
            Cut(row.cut, row.created_at),
            span,
            _FEW if few else PageSize(count, _PAGE_BYTES),
        )
        return order, span.upto if count == labels else None

    def _begun(self, order: Order) -> _Page:
        making = lines_of(self._database, order) if order.most == _FEW else self._processes.lines_of(order)
        return _Page(order, asyncio.create_task(making))


def _rest(order: Order, lines: Lines, labels: int) -> Order | None:
    """What is left of an order after these lines, to be read so many labels at once; None: nothing."""
    if lines.last == order.span.upto or (not lines.cut_off and lines.read < order.most.rows):
        return None
    most = PageSize(labels, _PAGE_BYTES) if lines.read else _ONE
    return replace(order, span=replace(order.span, after=lines.last or order.span.after), most=most)


def _fitting(most: int, lines: Lines) -> int:
    """How many labels make three quarters of a page, if they are like these: what was cut through is read again."""
    return max(1, min(most, lines.read * _PAGE_BYTES * 3 // (4 * lines.size))) if lines.size else most
