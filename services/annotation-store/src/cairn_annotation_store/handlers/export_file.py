"""An export's file as it is in storage: its parts, one after the other, behind the line that its format begins with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn_annotation_store.domain.export_rows import header_line
from cairn_annotation_store.storage import Storage, blob_path, part_path
from cairn_annotation_store.store import ExportRow, ExportStore
from cairn_kit.database import Database


def path_of(row: ExportRow, part: int, worker: UUID | None) -> str:
    """Where a part is that this worker wrote."""
    return part_path(row.tenant, row.project, str(row.export), part, str(worker))


def header_of(row: ExportRow) -> bytes:
    """What the file begins with."""
    return header_line(pb.ExportFormat.ValueType(row.format))


async def read_file(
    database: Database, exports: ExportStore, storage: Storage, row: ExportRow, offset: int
) -> AsyncIterator[bytes]:
    """A finished export's bytes, from an offset on, in chunks. Raises FileNotFoundError where some are gone."""
    size = row.file_bytes or 0
    if row.joined:
        async for chunk in storage.read(
            blob_path(row.tenant, row.project, str(row.file_sha256)), size, offset
        ):
            yield chunk
        return
    header, parts = header_of(row), await exports.parts(database, row)
    if size != len(header) + sum(part.size or 0 for part in parts):
        raise FileNotFoundError(f"parts of export {row.export}")
    if offset < len(header):
        yield header[offset:]
    begins = len(header)
    for part in parts:
        ends = begins + (part.size or 0)
        if offset < ends:
            path = path_of(row, part.part, part.worker)
            async for chunk in storage.read(path, ends - begins, max(0, offset - begins)):
                yield chunk
        begins = ends
