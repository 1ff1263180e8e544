"""Writes a project's labels to a file, part by part, all as of one moment, and goes on after a crash where it was.

The file is its parts, one after the other. Each is an object in storage, under the claim of the worker that wrote it;
the place after it, whose it is and how large are in the database. When a worker dies between the two the next one
writes that part again, beside the old one. While a worker lives it says so, however long a step takes. While a part is
written, processes make lines of the labels after it, each of a page of them.

Whoever ends an export removes from its folder what is no part of a file; what killed workers left is removed later.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from uuid import UUID

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.events.v1 import annotation_store_events_pb2 as events_pb
from cairn_annotation_store.handlers.export_file import header_of, path_of
from cairn_annotation_store.handlers.export_parts import ExportParts, Part
from cairn_annotation_store.storage import Storage, parts_folder
from cairn_annotation_store.store import ExportRow, ExportStore
from cairn_annotation_store.wire import export_message
from cairn_kit.database import Database
from cairn_kit.database.pool import OUTAGES
from cairn_kit.errors import Internal, to_status
from cairn_kit.events import Event, announce
from cairn_kit.ids import uuid7
from cairn_kit.telemetry import get_logger

_log = get_logger(__name__)
_TRIES = 5
"""One after the other without a part."""
_SIGNS_A_CLAIM = 5
"""Signs of life in the time after which a worker is believed dead: some may come late, or not at all."""

_FIRST = UUID(int=0)
_TIDIED_AT_ONCE = 100
"""Exports, and parts of one."""


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


class ExportWorker:
    """Writes exports. Several replicas may; each export has one worker at a time."""

    def __init__(
        self,
        database: Database,
        exports: ExportStore,
        parts: ExportParts,
        storage: Storage,
        *,
        claim_seconds: float,
    ) -> None:
        self._database = database
        self._exports = exports
        self._parts = parts
        self._storage = storage
        self._claim_seconds = claim_seconds

    async def work(self) -> None:
        """Work on exports until there is none to do."""
        while (row := await self._claim()) is not None:
            try:
                await self.write(row)
            except Exception as error:
                _log.error("export.failed", export=str(row.export), exc_info=error)
                await self._fail(row)

    async def tidy(self) -> None:
        """Remove what is left of exports that have ended, where a worker was killed or storage was away.

        What an export has that has not ended is left alone. Several replicas may do so at once.
        """
        last = _FIRST
        while rows := await self._exports.to_tidy(self._database, self._claim_seconds, last, _TIDIED_AT_ONCE):
            for row in rows:
                try:
                    await self._tidy(row)
                except Exception as error:  # what storage refuses of one it may do for the others
                    _log.warning("export.not_tidied", export=str(row.export), error=repr(error))
            last = rows[-1].export

    async def write(self, claimed: ExportRow) -> None:
        """Write an export that this worker has claimed, from where it stands to its end, unless the claim is lost."""
        async with self._alive(claimed):
            file = await self._so_far(claimed)
            row = claimed if claimed.all_written else await self._write_parts(claimed, file)
            if row is not None:
                await self._finish(row, file)
        await self._tidy_up(claimed)

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
        """The file up to where a worker before this one came: its parts are read, to go on with their digest.

        Raises FileNotFoundError where one is gone, or was written by so old a release that nobody knows where it is.
        """
        file, parts = _File(header_of(row)), await self._exports.parts(self._database, row)
        if len(parts) != row.parts:
            raise FileNotFoundError(f"parts of export {row.export}")
        for part in parts:
            before = file.size
            async for chunk in self._storage.read_whole(path_of(row, part.part, part.worker)):
                await asyncio.to_thread(file.add, chunk)
            if part.size is None:
                await self._exports.note_size(self._database, row, part.part, file.size - before)
        return file

    async def _write_parts(self, claimed: ExportRow, file: _File) -> ExportRow | None:
        """Write what is left; None when the export was cancelled or is somebody else's now."""
        row = claimed
        async with aclosing(self._parts.of(claimed)) as parts:
            async for part in parts:
                advanced = await self.write_part(row, part, file)
                if advanced is None:
                    return None
                row = advanced
        return row

    async def write_part(self, row: ExportRow, part: Part, file: _File) -> ExportRow | None:
        """Write a part; None when the export was cancelled or is somebody else's now."""
        path = path_of(row, row.parts, row.worker)
        if part.content:
            await asyncio.to_thread(file.add, part.content)
            await self._storage.put(path, part.content)
        async with self._database.transaction() as tx:
            advanced = await self._exports.advanced(
                tx,
                row,
                last=part.last,
                labels=part.labels,
                size=len(part.content),
                done=part.ended,
                seconds=self._claim_seconds,
            )
        if advanced is None:  # nobody else knows of what was just written
            await self._storage.delete(path)
        return advanced

    async def _finish(self, row: ExportRow, file: _File) -> None:
        async with self._database.transaction() as tx:
            finished = await self._exports.finished(tx, row, file.sha256, file.size)
            if finished is not None:
                announce(tx, ended(row.tenant, row.project, export_message(finished)))

    async def _tidy_up(self, row: ExportRow) -> None:
        """Remove what an export that has ended does not need. What another worker still writes is left alone."""
        current = await self._exports.get(self._database, row.tenant, row.project, row.export)
        if current is not None and current.ended_at is not None:
            await self._tidy(current)

    async def _tidy(self, row: ExportRow) -> None:
        """Remove all but the file of an export that has ended, that too of which a killed worker told nobody."""
        file = set[str]()
        if row.file_sha256 is not None and not row.joined:
            parts = await self._exports.parts(self._database, row)
            file = {path_of(row, part.part, part.worker) for part in parts}
        folder = parts_folder(row.tenant, row.project, str(row.export))
        while await self._storage.delete_below(folder, _TIDIED_AT_ONCE, but=file) == _TIDIED_AT_ONCE:
            pass
        async with self._database.transaction() as tx:
            await self._exports.tidied(tx, row)

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
