"""Blobs: bytes named by their content, taken in and given out in streams."""

from __future__ import annotations

import asyncio
import codecs
import hashlib
import tempfile
from collections.abc import AsyncIterator
from typing import IO, BinaryIO, cast

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.label.v1 import label_value_pb2 as value_pb
from cairn_annotation_store.domain.items import BlobFacts, blobs_of
from cairn_annotation_store.domain.names import child_id, project_id
from cairn_annotation_store.domain.pictures import picture_facts
from cairn_annotation_store.handlers.found import active, found, parsed
from cairn_annotation_store.handlers.submissions import LeaseGate
from cairn_annotation_store.storage import Storage, blob_path
from cairn_annotation_store.store import ItemStore, ProjectStore
from cairn_kit.auth import Caller, Permission
from cairn_kit.database import Database
from cairn_kit.errors import DataLoss, InvalidArgument, NotFound, PermissionDenied, Violation

_IN_MEMORY = 4 << 20
"""Bytes of an upload held in memory before it goes to a temporary file."""


class BlobHandlers:
    """Takes bytes in and gives them out."""

    def __init__(
        self,
        database: Database,
        projects: ProjectStore,
        items: ItemStore,
        storage: Storage,
        gate: LeaseGate,
        max_bytes: int,
    ) -> None:
        self._database = database
        self._projects = projects
        self._items = items
        self._storage = storage
        self._gate = gate
        self._max_bytes = max_bytes

    async def take_in(self, who: Caller, requests: AsyncIterator[pb.UploadBlobRequest]) -> pb.Blob:
        """A whole upload: a header, then bytes. Nothing is kept of one that breaks or has another digest."""
        header = await _header(requests)
        project = parsed(project_id, header.parent, "header.parent")
        if not who.may(Permission.WRITE_ITEMS):
            self._check_upload_lease(who, header, project)
        row = await self._projects.get(self._database, who.tenant, project)
        active(row, header.parent)
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
            blob = await self._spool(requests, header, file)
            there = await self._items.blobs(self._database, who.tenant, project, [blob.sha256])
            if blob.sha256 not in there:
                file.seek(0)
                # Storage first: a row without bytes would be a lie, bytes without a row are only litter.
                path = blob_path(who.tenant, project, blob.sha256)
                await self._storage.put(path, file)
                async with self._database.transaction() as tx:
                    there_now = await self._projects.in_use(tx, [(who.tenant, project)])
                    gone = (who.tenant, project) not in there_now
                    if not gone:
                        await self._items.insert_blob(tx, who.tenant, project, blob)
                if gone:  # deleted while the bytes came: whoever deletes its files may have passed
                    await self._storage.delete(path)
                    found(None, "project", header.parent)
                there = await self._items.blobs(self._database, who.tenant, project, [blob.sha256])
        kept = there[blob.sha256]
        return pb.Blob(
            name=f"projects/{project}/blobs/{kept.sha256}",
            ref=value_pb.BlobRef(sha256=kept.sha256, size_bytes=kept.size_bytes, media_type=kept.media_type),
        )

    async def give_out(
        self, who: Caller, request: pb.DownloadBlobRequest
    ) -> AsyncIterator[pb.DownloadBlobResponse]:
        """A blob's bytes, for those who may read the project's items or hold a lease on one that shows the blob."""
        project, sha256 = parsed(lambda text: child_id(text, "blobs"), request.name, "name")
        if not who.may(Permission.READ_ITEMS):
            await self._check_lease(who, request.lease_token, project, sha256)
        there = await self._items.blobs(self._database, who.tenant, project, [sha256])
        blob = found(there.get(sha256), "blob", request.name)
        found(await self._projects.get(self._database, who.tenant, project), "project", f"projects/{project}")
        path = blob_path(who.tenant, project, sha256)
        try:
            async for chunk in self._storage.read(path, blob.size_bytes):
                yield pb.DownloadBlobResponse(chunk=chunk)
        except FileNotFoundError:
            raise DataLoss(
                "BLOB_LOST", f"{request.name} is gone from storage.", resource=request.name
            ) from None

    def _check_upload_lease(self, who: Caller, header: pb.BlobHeader, project: str) -> None:
        if not header.lease_token:
            raise PermissionDenied(
                "LEASE_TOKEN_MISSING", "Send the lease_token that the blob is an answer to."
            )
        if self._gate.claims(who, header.lease_token, allow_expired=False).project != project:
            raise PermissionDenied("LEASE_TOKEN_INVALID", "The lease is in another project.")

    async def _check_lease(self, who: Caller, token: str, project: str, sha256: str) -> None:
        if not token:
            raise PermissionDenied(
                "LEASE_TOKEN_MISSING", "Send the lease_token of an item that has the blob."
            )
        claims = self._gate.claims(who, token, allow_expired=False)
        there = await self._items.of_leases(self._database, [(who.tenant, claims.project, claims.item)])
        item = there.get((who.tenant, project, claims.item)) if claims.project == project else None
        if item is None or all(ref.sha256 != sha256 for ref in blobs_of(item.body)):
            raise NotFound("BLOB_NOT_FOUND", "The leased item has no such blob.")

    async def _spool(
        self, requests: AsyncIterator[pb.UploadBlobRequest], header: pb.BlobHeader, file: IO[bytes]
    ) -> BlobFacts:
        """Gather the bytes, and what there is to know of them."""
        digest = hashlib.sha256()
        text = _TextLength() if header.media_type.startswith("text/") else None
        size = 0
        async for request in requests:
            if request.WhichOneof("part") != "chunk":
                raise InvalidArgument("HEADER_REPEATED", "A header comes once, first; after it come bytes.")
            size += len(request.chunk)
            if size > self._max_bytes:
                raise InvalidArgument("BLOB_TOO_LARGE", f"A blob has at most {self._max_bytes} bytes.")
            digest.update(request.chunk)
            if text is not None:
                text.add(request.chunk)
            await asyncio.to_thread(file.write, request.chunk)
        sha256 = digest.hexdigest()
        if header.expected_sha256 and header.expected_sha256 != sha256:
            told = f"the content's digest is {sha256}; expected {header.expected_sha256}."
            raise InvalidArgument(
                "BLOB_DIGEST_MISMATCH",
                told[0].upper() + told[1:],
                violations=[Violation("header.expected_sha256", told)],
            )
        picture = picture_facts(cast(BinaryIO, file)) if header.media_type.startswith("image/") else None
        return BlobFacts(
            sha256=sha256,
            size_bytes=size,
            media_type=header.media_type,
            width=picture.width if picture else 0,
            height=picture.height if picture else 0,
            grey_bits=picture.grey_bits if picture else 0,
            text_length=text.total() if text is not None else None,
        )


class _TextLength:
    """Counts code points of UTF-8 that comes in pieces. Anything else is refused: spans could not count in it."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._count = 0

    def add(self, chunk: bytes) -> None:
        self._count += len(self._decode(chunk, final=False))

    def total(self) -> int:
        return self._count + len(self._decode(b"", final=True))

    def _decode(self, chunk: bytes, *, final: bool) -> str:
        try:
            return self._decoder.decode(chunk, final)
        except UnicodeDecodeError as error:
            raise InvalidArgument(
                "BLOB_NOT_UTF8", f"A text must be UTF-8: {error.reason} after code point {self._count}."
            ) from None


async def _header(requests: AsyncIterator[pb.UploadBlobRequest]) -> pb.BlobHeader:
    async for request in requests:
        if request.WhichOneof("part") == "header":
            return request.header
        break
    raise InvalidArgument("HEADER_MISSING", "The first message of an upload must be its header.")
