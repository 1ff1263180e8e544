"""Exports as those see them who ask for them; `export_worker` writes them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn_annotation_store.domain.names import child_id, project_id
from cairn_annotation_store.handlers.export_file import read_file
from cairn_annotation_store.handlers.export_worker import ended
from cairn_annotation_store.handlers.found import as_uuid, found, parsed
from cairn_annotation_store.storage import Storage
from cairn_annotation_store.store import (
    ExportRow,
    ExportStore,
    ProjectStore,
)
from cairn_annotation_store.wire import export_message
from cairn_kit.auth import Caller
from cairn_kit.database import Database
from cairn_kit.errors import DataLoss, FailedPrecondition, OutOfRange
from cairn_kit.events import announce
from cairn_kit.ids import uuid7
from cairn_kit.rpc import once, page_of, page_size, read_page_token, write_page_token

_LATEST = UUID(int=(1 << 128) - 1)


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

        async def effect() -> pb.Export:
            there = await self._projects.in_use(tx, [(who.tenant, project)])
            found(there.get((who.tenant, project)), "project", request.parent)
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
            found(await self._projects.get(tx, who.tenant, project), "project", f"projects/{project}")
            if row.ended_at is not None:
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
        try:
            async for chunk in read_file(self._database, self._exports, self._storage, row, request.offset):
                yield pb.DownloadExportResponse(chunk=chunk)
        except FileNotFoundError:
            raise DataLoss(
                "BLOB_LOST", f"{request.name} is gone from storage.", resource=request.name
            ) from None

    async def _get(self, who: Caller, name: str) -> ExportRow:
        project, export = _ids(name)
        row = found(await self._exports.get(self._database, who.tenant, project, export), "export", name)
        found(await self._projects.get(self._database, who.tenant, project), "project", f"projects/{project}")
        return row


def _ids(name: str) -> tuple[str, UUID]:
    project, export = parsed(lambda text: child_id(text, "exports"), name, "name")
    return project, as_uuid(export, "export", name)


def _nobody() -> None:
    """Before the worker is wired: its own clock finds the export."""
