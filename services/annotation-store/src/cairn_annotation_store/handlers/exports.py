"""Exports: jobs that write a project's labels to a file, part by part, and go on after a crash where they were.

Each part is an object in storage, under the claim of the worker that wrote it; the place after it, and whose it is,
are in the database. When a worker dies between the two the next one writes that part again, beside the old one. While
a worker lives it says so, however long a step takes. When all are written they are joined into one content-addressed
blob.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.events.v1 import annotation_store_events_pb2 as events_pb
from cairn_annotation_store.domain.export_rows import ExportedLabel, header_line, lines
from cairn_annotation_store.domain.items import BlobFacts
from cairn_annotation_store.domain.names import child_id, project_id
from cairn_annotation_store.handlers.found import as_uuid, found, parsed
from cairn_annotation_store.handlers.pages import page_of
from cairn_annotation_store.storage import Storage, blob_path, part_path
from cairn_annotation_store.store import (
    AnnotationStore,
    ExportRow,
    ExportStore,
    ItemStore,
    LabelRow,
    LabelStore,
    ProjectStore,
)
from cairn_annotation_store.wire import EXPORT_MEDIA_TYPES, annotation_message, export_message
from cairn_kit.auth import Caller
from cairn_kit.database import Database
from cairn_kit.database.pool import OUTAGES
from cairn_kit.errors import DataLoss, FailedPrecondition, Internal, OutOfRange, to_status
from cairn_kit.events import Event, announce
from cairn_kit.ids import uuid7
from cairn_kit.rpc import once, page_size, read_page_token, write_page_token
from cairn_kit.telemetry import get_logger

_log = get_logger(__name__)
_LATEST = UUID(int=(1 << 128) - 1)
_TRIES = 5
_SIGNS_A_CLAIM = 5
"""Signs of life in the time after which a worker is believed dead: some may come late, or not at all."""
_FINAL = (pb.EXPORT_STATE_FINISHED, pb.EXPORT_STATE_CANCELLED, pb.EXPORT_STATE_FAILED)


class ExportHandlers:
    """Commands and questions about exports."""

    def __init__(
        self, database: Database, projects: ProjectStore, exports: ExportStore, storage: Storage
    ) -> None:
        self._database = database
        self._projects = projects
        self._exports = exports
        self._storage = storage
        self.wake_worker = _nobody

    async def create(self, who: Caller, request: pb.CreateExportRequest) -> pb.Export:
        """Ask for an export."""
        project = parsed(project_id, request.parent, "parent")
        found(await self._projects.get(self._database, who.tenant, project), "project", request.parent)

        async def effect() -> pb.Export:
            with_annotations = request.include_annotations and request.format == pb.EXPORT_FORMAT_JSONL
            row = await self._exports.insert(
                tx,
                who.tenant,
                project,
                uuid7(),
                export_format=request.format,
                include_annotations=with_annotations,
            )
            return export_message(row)

        async with self._database.transaction() as tx:
            export = await once(tx, who.tenant, request, pb.Export, effect)
            tx.after_commit(self.wake_worker)
        return export

    async def get(self, who: Caller, name: str) -> pb.Export:
        """An export, with its progress."""
        return export_message(await self._get(who, name))

    async def list(self, who: Caller, request: pb.ListExportsRequest) -> pb.ListExportsResponse:
        """A page of a project's exports, newest first."""
        project = parsed(project_id, request.parent, "parent")
        found(await self._projects.get(self._database, who.tenant, project), "project", request.parent)
        size = page_size(request.page_size, default=50)
        (before,) = read_page_token(request) or (str(_LATEST),)
        rows = await self._exports.list_before(self._database, who.tenant, project, UUID(before), size + 1)
        exports = page_of((export_message(row) for row in rows), size)
        last = rows[len(exports) - 1] if len(exports) < len(rows) else None
        return pb.ListExportsResponse(
            exports=exports, next_page_token=write_page_token(request, str(last.export)) if last else ""
        )

    async def cancel(self, who: Caller, request: pb.CancelExportRequest) -> pb.Export:
        """Stop an export that has not ended."""
        project, export = _ids(request.name)

        async def effect() -> pb.Export:
            row = found(
                await self._exports.get_to_change(tx, who.tenant, project, export), "export", request.name
            )
            if row.state in _FINAL:
                state = pb.ExportState.Name(pb.ExportState.ValueType(row.state)).removeprefix("EXPORT_STATE_")
                raise FailedPrecondition(
                    "EXPORT_ENDED", f"{request.name} is {state} already.", resource=request.name
                )
            message = export_message(await self._exports.cancel(tx, row))
            announce(tx, ended(who.tenant, project, message))
            return message

        async with self._database.transaction() as tx:
            return await once(tx, who.tenant, request, pb.Export, effect)

    async def give_out(
        self, who: Caller, request: pb.DownloadExportRequest
    ) -> AsyncIterator[pb.DownloadExportResponse]:
        """A finished export's bytes, from an offset on."""
        row = await self._get(who, request.name)
        if row.file_sha256 is None or row.file_bytes is None:
            raise FailedPrecondition(
                "EXPORT_NOT_FINISHED", f"{request.name} is not finished.", resource=request.name
            )
        if request.offset > row.file_bytes:
            raise OutOfRange(
                "OFFSET_PAST_END", f"The file has {row.file_bytes} bytes.", resource=request.name
            )
        path = blob_path(row.tenant, row.project, row.file_sha256)
        try:
            async for chunk in self._storage.read(path, row.file_bytes, request.offset):
                yield pb.DownloadExportResponse(chunk=chunk)
        except FileNotFoundError:
            raise DataLoss(
                "BLOB_LOST", f"{request.name} is gone from storage.", resource=request.name
            ) from None

    async def _get(self, who: Caller, name: str) -> ExportRow:
        project, export = _ids(name)
        return found(await self._exports.get(self._database, who.tenant, project, export), "export", name)


class ExportWorker:
    """Writes exports. Several replicas may; each export has one worker at a time."""

    def __init__(
        self,
        database: Database,
        exports: ExportStore,
        labels: LabelStore,
        annotations: AnnotationStore,
        items: ItemStore,
        storage: Storage,
        *,
        page: int,
        claim_seconds: float,
    ) -> None:
        self._database = database
        self._exports = exports
        self._labels = labels
        self._annotations = annotations
        self._items = items
        self._storage = storage
        self._page = page
        self._claim_seconds = claim_seconds

    async def work(self) -> None:
        """Work on exports until there is none to do."""
        while (row := await self._claim()) is not None:
            try:
                await self._write(row)
            except Exception as error:
                _log.error("export.failed", export=str(row.export), exc_info=error)
                await self._fail(row)

    async def _claim(self) -> ExportRow | None:
        async with self._database.transaction() as tx:
            return await self._exports.claim(tx, uuid7(), self._claim_seconds)

    async def _write(self, claimed: ExportRow) -> None:
        row: ExportRow | None = claimed
        async with self._alive(claimed):
            while row is not None and not row.all_written:
                row = await self._write_part(row)
            if row is not None:
                await self._join(row)
        await self._clean_up(claimed)

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

    async def _write_part(self, row: ExportRow) -> ExportRow | None:
        """One page of labels; None when the export was cancelled or is somebody else's now."""
        after = (row.last_item, row.last_question)
        labels = await self._labels.list_after(
            self._database, row.tenant, row.project, after, self._page, hidden=0
        )  # who may export may read gold
        if labels:
            exported = await self._with_annotations(row, labels)
            body = await asyncio.to_thread(lines, pb.ExportFormat.ValueType(row.format), exported)
            await self._storage.put(_path(row, row.parts, row.worker), body)
            key = labels[-1].label.key
            after = (key.item, key.question)
        done = len(labels) < self._page
        async with self._database.transaction() as tx:
            advanced = await self._exports.advanced(
                tx, row, last=after, written=len(labels), done=done, seconds=self._claim_seconds
            )
        if advanced is None:  # nobody else knows of what was just written
            await self._storage.delete(_path(row, row.parts, row.worker))
        return advanced

    async def _with_annotations(self, row: ExportRow, labels: list[LabelRow]) -> list[ExportedLabel]:
        if not row.include_annotations:
            return [ExportedLabel(found.label, found.created_at) for found in labels]
        items = {found.label.key.item for found in labels}
        annotations = await self._annotations.of_items(self._database, row.tenant, row.project, items)
        return [
            ExportedLabel(
                found.label,
                found.created_at,
                [annotation_message(a, with_gold=True) for a in annotations.get(found.label.key.item, ())],
            )
            for found in labels
        ]

    async def _join(self, row: ExportRow) -> None:
        """Join the parts into the file."""
        export_format = pb.ExportFormat.ValueType(row.format)
        with tempfile.TemporaryFile() as file:
            file.write(header_line(export_format))
            for part, worker in enumerate(await self._exports.parts(self._database, row)):
                if not await self._exports.keep_claim(self._database, row, self._claim_seconds):
                    return
                await self._storage.copy_into(_path(row, part, worker), file)
            size = file.tell()
            file.seek(0)
            sha256 = (await asyncio.to_thread(hashlib.file_digest, file, "sha256")).hexdigest()
            file.seek(0)
            await self._storage.put(blob_path(row.tenant, row.project, sha256), file)
        blob = BlobFacts(sha256, size, EXPORT_MEDIA_TYPES[export_format])
        async with self._database.transaction() as tx:
            finished = await self._exports.finished(tx, row, sha256, size)
            if finished is not None:
                await self._items.insert_blob(tx, row.tenant, row.project, blob)
                announce(tx, ended(row.tenant, row.project, export_message(finished)))

    async def _clean_up(self, row: ExportRow) -> None:
        """Remove the parts of an export that has ended. What another worker still writes is left alone."""
        current = await self._exports.get(self._database, row.tenant, row.project, row.export)
        if current is not None and current.state in _FINAL:
            writers = await self._exports.parts(self._database, current)
            await self._storage.delete(*(_path(current, part, worker) for part, worker in enumerate(writers)))
            async with self._database.transaction() as tx:
                await self._exports.forget_parts(tx, current)

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


def _path(row: ExportRow, part: int, worker: UUID | None) -> str:
    claim = None if worker is None else str(worker)
    return part_path(row.tenant, row.project, str(row.export), part, claim)


def _ids(name: str) -> tuple[str, UUID]:
    project, export = parsed(lambda text: child_id(text, "exports"), name, "name")
    return project, as_uuid(export, "export", name)


def _nobody() -> None:
    """Before the worker is wired: its own clock finds the export."""
