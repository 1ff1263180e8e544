"""Writes a project's labels to a file, part by part, all as of one moment, and goes on after a crash where it was.

Each part is an object in storage, under the claim of the worker that wrote it; the place after it, and whose it is,
are in the database. When a worker dies between the two the next one writes that part again, beside the old one. While
a worker lives it says so, however long a step takes. When all are written they are joined into one content-addressed
blob. While a part is written, processes make lines of the labels after it, each of a page of them.

Whoever ends an export removes its parts, all that is in its folder; what killed workers left is removed a while later.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from uuid import UUID

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.events.v1 import annotation_store_events_pb2 as events_pb
from cairn_annotation_store.domain.export_rows import Shown, header_line
from cairn_annotation_store.domain.items import BlobFacts
from cairn_annotation_store.export_lines import Lines, Order, lines_of
from cairn_annotation_store.export_process import ExportProcesses
from cairn_annotation_store.storage import Storage, blob_path, part_path, parts_folder
from cairn_annotation_store.store import ExportRow, ExportStore, ItemStore, LabelStore
from cairn_annotation_store.store.labels import Cut, PageSize, Place
from cairn_annotation_store.wire import EXPORT_MEDIA_TYPES, export_message
from cairn_kit.database import Database
from cairn_kit.database.pool import OUTAGES
from cairn_kit.errors import Internal, to_status
from cairn_kit.events import Event, announce
from cairn_kit.ids import uuid7
from cairn_kit.telemetry import get_logger

_log = get_logger(__name__)
_TRIES = 5
_SIGNS_A_CLAIM = 5
"""Signs of life in the time after which a worker is believed dead: some may come late, or not at all."""

_FIRST = UUID(int=0)
_CLEANED_AT_ONCE = 100
"""Exports, and parts of one."""

_PAGE_BYTES = 8 << 20
"""Of a page, and about of its lines, of which some are in memory for each process."""
_FEW = PageSize(labels=200, size=256 << 10)
"""What lines are made of here, in milliseconds."""
_ONE = PageSize(labels=1, size=sys.maxsize)
"""A label that may be more than a page."""


class _ClaimLost(Exception):
    """The export was cancelled, or is another worker's now."""


class _File:
    """What is known of the file while its parts are written: its digest and its length."""

    def __init__(self, begins: bytes) -> None:
        self._sha256 = hashlib.sha256(begins)
        self.size = len(begins)

    @property
    def sha256(self) -> str:
        """The digest of all so far, in hexadecimal."""
        return self._sha256.hexdigest()

    def add(self, content: bytes) -> None:
        """Note what comes next in the file."""
        self._sha256.update(content)
        self.size += len(content)


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


class ExportWorker:
    """Writes exports. Several replicas may; each export has one worker at a time."""

    def __init__(
        self,
        database: Database,
        exports: ExportStore,
        labels: LabelStore,
        items: ItemStore,
        storage: Storage,
        processes: ExportProcesses,
        *,
        page: int,
        claim_seconds: float,
    ) -> None:
        self._database = database
        self._exports = exports
        self._labels = labels
        self._items = items
        self._storage = storage
        self._processes = processes
        self._page = page
        self._claim_seconds = claim_seconds

    async def work(self) -> None:
        """Work on exports until there is none to do."""
        while (row := await self._claim()) is not None:
            try:
                await self.write(row)
            except Exception as error:
                _log.error("export.failed", export=str(row.export), exc_info=error)
                await self._fail(row)

    async def clean(self) -> None:
        """Remove what is left of exports that have ended, where a worker was killed or storage was away.

        What an export has that has not ended is left alone. Several replicas may do so at once.
        """
        last = _FIRST
        while rows := await self._exports.to_clean(
            self._database, self._claim_seconds, last, _CLEANED_AT_ONCE
        ):
            for row in rows:
                try:
                    await self._remove_parts(row)
                except Exception as error:  # what storage refuses of one it may do for the others
                    _log.warning("export.not_cleaned", export=str(row.export), error=repr(error))
            last = rows[-1].export

    async def write(self, claimed: ExportRow) -> None:
        """Write an export that this worker has claimed, from where it stands to its end, unless the claim is lost."""
        async with self._alive(claimed):
            file = await self._so_far(claimed)
            row = claimed if claimed.all_written else await self._write_parts(claimed, file)
            if row is not None:
                await self._join(row, file)
        await self._clean_up(claimed)

    async def _claim(self) -> ExportRow | None:
        async with self._database.transaction() as tx:
            return await self._exports.claim(tx, uuid7(), self._claim_seconds)

    @asynccontextmanager
    async def _alive(self, row: ExportRow) -> AsyncIterator[None]:
        """Keep the claim while the block runs. What hangs in storage for ever is ended by storage's own time-outs."""
        signs = asyncio.create_task(self._give_signs(row))
        try:
            yield
        finally:
            signs.cancel()
            await asyncio.wait([signs])

    async def _give_signs(self, row: ExportRow) -> None:
        kept = True
        while kept:  # a claim that is lost is not to be won back; whoever notes the next step learns of it
            await asyncio.sleep(self._claim_seconds / _SIGNS_A_CLAIM)
            try:
                kept = await self._exports.keep_claim(self._database, row, self._claim_seconds)
            except OUTAGES as error:
                _log.warning("export.no_sign", export=str(row.export), error=repr(error))

    async def _so_far(self, row: ExportRow) -> _File:
        """The file up to where a worker before this one came: its parts are read, to go on with their digest."""
        file = _File(header_line(pb.ExportFormat.ValueType(row.format)))
        for part, worker in enumerate(await self._exports.parts(self._database, row)):
            async for chunk in self._storage.read_whole(_path(row, part, worker)):
                file.add(chunk)
        return file

    async def _write_parts(self, claimed: ExportRow, file: _File) -> ExportRow | None:
        """Write what is left; None when the export was cancelled or is somebody else's now."""
        row = claimed
        async with aclosing(self.parts(claimed)) as parts:
            async for part in parts:
                advanced = await self.write_part(row, part, file)
                if advanced is None:
                    return None
                row = advanced
        return row

    async def parts(self, row: ExportRow) -> AsyncGenerator[Part, None]:
        """The parts from where the export stands; those after one are made while it is used."""
        pages: deque[_Page] = deque()
        place: Place | None = (row.last_item, row.last_question)
        labels, ahead = self._page, self._processes.count + 1
        try:
            while True:
                while place is not None and len(pages) < ahead:
                    order, place = await self._next(row, place, labels)
                    if order is not None:
                        pages.append(self._begun(order))
                if not pages:
                    return
                page = pages.popleft()
                lines = await page.made
                labels = _fitting(self._page, lines)
                rest = _rest(page.order, lines, labels)
                if rest is not None:
                    pages.appendleft(self._begun(rest))
                last = page.order.span.upto if rest is None else rest.span.after
                yield Part(lines.content, lines.labels, last, ended=place is None and not pages)
        finally:
            for page in pages:
                page.made.cancel()
            await asyncio.gather(*(page.made for page in pages), return_exceptions=True)

    async def _next(self, row: ExportRow, after: Place, labels: int) -> tuple[Order | None, Place | None]:
        """The order for the page after this place, and the place after which the one after it is; None: there is none."""
        found = await self._labels.next_span(self._database, row.tenant, row.project, after, labels)
        if found is None:
            return None, None
        span, count = found
        # Gold included: who may export may read gold.
        order = Order(
            row.tenant,
            Shown(pb.ExportFormat.ValueType(row.format), row.project, row.include_annotations),
            Cut(row.cut, row.created_at, row.include_annotations),
            span,
            _FEW if count <= _FEW.labels else PageSize(count, _PAGE_BYTES),
        )
        return order, span.upto if count == labels else None

    def _begun(self, order: Order) -> _Page:
        few = order.most.size <= _FEW.size
        return _Page(
            order,
            asyncio.create_task(lines_of(self._database, order) if few else self._processes.lines_of(order)),
        )

    async def write_part(self, row: ExportRow, part: Part, file: _File) -> ExportRow | None:
        """Write a part; None when the export was cancelled or is somebody else's now."""
        if part.labels:
            await asyncio.to_thread(file.add, part.content)
            await self._storage.put(_path(row, row.parts, row.worker), part.content)
        async with self._database.transaction() as tx:
            advanced = await self._exports.advanced(
                tx,
                row,
                last=part.last,
                written=part.labels,
                done=part.ended,
                seconds=self._claim_seconds,
            )
        if advanced is None:  # nobody else knows of what was just written
            await self._storage.delete(_path(row, row.parts, row.worker))
        return advanced

    async def _join(self, row: ExportRow, file: _File) -> None:
        """Join the parts into the file."""
        try:
            content = self._joined(row) if file.size else b""
            await self._storage.put(blob_path(row.tenant, row.project, file.sha256), content)
        except _ClaimLost:
            return
        blob = BlobFacts(file.sha256, file.size, EXPORT_MEDIA_TYPES[pb.ExportFormat.ValueType(row.format)])
        async with self._database.transaction() as tx:
            finished = await self._exports.finished(tx, row, file.sha256, file.size)
            if finished is not None:
                await self._items.insert_blob(tx, row.tenant, row.project, blob)
                announce(tx, ended(row.tenant, row.project, export_message(finished)))

    async def _joined(self, row: ExportRow) -> AsyncIterator[bytes]:
        """The file's bytes. Raises _ClaimLost before a part, when they are of no use any more."""
        yield header_line(pb.ExportFormat.ValueType(row.format))
        for part, worker in enumerate(await self._exports.parts(self._database, row)):
            if not await self._exports.is_claimed(self._database, row):
                raise _ClaimLost
            async for chunk in self._storage.read_whole(_path(row, part, worker)):
                yield chunk

    async def _clean_up(self, row: ExportRow) -> None:
        """Remove the parts of an export that has ended. What another worker still writes is left alone."""
        current = await self._exports.get(self._database, row.tenant, row.project, row.export)
        if current is not None and current.ended_at is not None:
            await self._remove_parts(current)

    async def _remove_parts(self, row: ExportRow) -> None:
        """Remove all parts of an export that has ended, those too of which a killed worker told nobody."""
        folder = parts_folder(row.tenant, row.project, str(row.export))
        while await self._storage.delete_below(folder, _CLEANED_AT_ONCE) == _CLEANED_AT_ONCE:
            pass
        async with self._database.transaction() as tx:
            await self._exports.cleaned(tx, row)

    async def _fail(self, row: ExportRow) -> None:
        error = to_status(Internal("EXPORT_FAILED", "The export could not be written."))
        async with self._database.transaction() as tx:
            failed = await self._exports.failed(tx, row, _TRIES, error)
            if failed is not None and failed.state == pb.EXPORT_STATE_FAILED:
                announce(tx, ended(row.tenant, row.project, export_message(failed)))


def ended(tenant: str, project: str, message: pb.Export) -> Event:
    """What is announced when an export ends, however it does."""
    body = events_pb.ExportFinished(export=message)
    return Event(body, tenant=tenant, project=project, resource=message.name, revision=1)


def _rest(order: Order, lines: Lines, labels: int) -> Order | None:
    """What is left of an order after these lines, to be read so many labels at once; None: nothing."""
    if not lines.cut_off and (lines.read < order.most.labels or lines.last == order.span.upto):
        return None
    most = PageSize(labels, _PAGE_BYTES) if lines.read else _ONE
    return replace(order, span=replace(order.span, after=lines.last or order.span.after), most=most)


def _fitting(most: int, lines: Lines) -> int:
    """How many labels make three quarters of a page, if they are like these: what was cut through is read again."""
    return max(1, min(most, lines.read * _PAGE_BYTES * 3 // (4 * lines.size))) if lines.size else most


def _path(row: ExportRow, part: int, worker: UUID | None) -> str:
    claim = None if worker is None else str(worker)
    return part_path(row.tenant, row.project, str(row.export), part, claim)
