"""Writes a project's labels to a file, part by part, all as of one moment, and goes on after a crash where it was.

Each part is an object in storage, under the claim of the worker that wrote it; the place after it, and whose it is,
are in the database. When a worker dies between the two the next one writes that part again, beside the old one. While
a worker lives it says so, however long a step takes. When all are written they are joined into one content-addressed
blob. While a part is written, lines are made of the next labels as they come from the database.

Whoever ends an export removes its parts, all that is in its folder; what killed workers left is removed a while later.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.events.v1 import annotation_store_events_pb2 as events_pb
from cairn_annotation_store.domain.export_rows import Shown, header_line
from cairn_annotation_store.domain.items import BlobFacts
from cairn_annotation_store.export_process import ExportProcess, Lines
from cairn_annotation_store.storage import Storage, blob_path, part_path, parts_folder
from cairn_annotation_store.store import ExportRow, ExportStore, ItemStore, LabelStore
from cairn_annotation_store.store.labels import Cut, PageSize
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
"""What is in memory of an export, twice, while one part is written and the next is read."""

_ONE = PageSize(labels=1, size=sys.maxsize)
"""A label that may be more than that."""


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

    lines: Lines
    last: tuple[str, str]
    """Item and question of the label that was looked at last."""
    ended: bool
    """Whether none come after it."""
    next: PageSize
    """How much is read for the next one."""


class ExportWorker:
    """Writes exports. Several replicas may; each export has one worker at a time."""

    def __init__(
        self,
        database: Database,
        exports: ExportStore,
        labels: LabelStore,
        items: ItemStore,
        storage: Storage,
        process: ExportProcess,
        *,
        page: int,
        claim_seconds: float,
    ) -> None:
        self._database = database
        self._exports = exports
        self._labels = labels
        self._items = items
        self._storage = storage
        self._process = process
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
        """The parts from where the export stands; the next is made while one is used."""
        first = PageSize(self._page, _PAGE_BYTES)
        coming = asyncio.create_task(self._make(row, (row.last_item, row.last_question), first))
        try:
            while True:
                part = await coming
                if not part.ended:
                    coming = asyncio.create_task(self._make(row, part.last, part.next))
                yield part
                if part.ended:
                    return
        finally:
            coming.cancel()
            await asyncio.wait([coming])

    async def _make(self, row: ExportRow, after: tuple[str, str], most: PageSize) -> Part:
        # Gold included: who may export may read gold.
        cut = Cut(row.cut, row.created_at, row.include_annotations)
        shown = Shown(pb.ExportFormat.ValueType(row.format), row.project, row.include_annotations)
        async with self._process.page(shown) as making:
            passed = await self._labels.to_export(
                self._database, row.tenant, row.project, cut, after, most, making.add
            )
            lines = await making.lines(cut_off=passed.cut_off)
        if passed.cut_off and not lines.read:
            return await self._make(row, after, _ONE)  # one label is more than a page may be
        ended = not passed.cut_off and lines.read < most.labels
        return Part(lines, lines.last or after, ended, _next_page(self._page, lines.read, passed.size))

    async def write_part(self, row: ExportRow, part: Part, file: _File) -> ExportRow | None:
        """Write a part; None when the export was cancelled or is somebody else's now."""
        labels, content = part.lines.labels, part.lines.content
        if labels:
            await asyncio.to_thread(file.add, content)
            await self._storage.put(_path(row, row.parts, row.worker), content)
        async with self._database.transaction() as tx:
            advanced = await self._exports.advanced(
                tx,
                row,
                last=part.last,
                written=labels,
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


def _next_page(most: int, labels: int, size: int) -> PageSize:
    """How much is read after so many labels of so many bytes: what makes three quarters of a page, if they go on like that.

    For what is left of a page that was cut off is read again.
    """
    fitting = labels * _PAGE_BYTES * 3 // (4 * size) if size else most
    return PageSize(min(most, fitting), _PAGE_BYTES) if fitting > 1 else _ONE


def _path(row: ExportRow, part: int, worker: UUID | None) -> str:
    claim = None if worker is None else str(worker)
    return part_path(row.tenant, row.project, str(row.export), part, claim)
