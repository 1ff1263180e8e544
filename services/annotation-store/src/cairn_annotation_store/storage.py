"""Bytes in blob storage: a local folder, S3, GCS or Azure, by URL. Nothing here knows what the bytes mean."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

import obstore
from obstore.store import LocalStore, ObjectStore, from_url

CHUNK_BYTES = 1 << 20
_LARGE_CHUNK_BYTES = 8 << 20
"""Of what nobody waits for: every chunk is a turn of this process and of storage's threads."""


class StorageUnusable(Exception):
    """The storage cannot be opened; the text says why."""


class Storage:
    """Objects by path."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._local = isinstance(store, LocalStore)

    @classmethod
    def open(cls, url: str) -> Storage:
        """A URL, or the path of a local folder. Raises StorageUnusable."""
        try:
            parts = urlsplit(url)
            if parts.scheme in ("", "file"):
                folder = Path(unquote(parts.path) if parts.scheme else url).absolute()
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                return cls(LocalStore(folder))
            return cls(from_url(url))
        except (OSError, ValueError, obstore.exceptions.BaseError) as error:
            raise StorageUnusable(f"Blob storage {url} cannot be opened: {error}") from error

    async def put(self, path: str, content: IO[bytes] | bytes) -> None:
        """Write an object in one step: readers see all of it or nothing."""
        # Never anything that a browser would run, should a bucket be served to one.
        attributes = (
            None
            if self._local
            else {"Content-Type": "application/octet-stream", "Content-Disposition": "attachment"}
        )
        await obstore.put_async(self._store, path, content, attributes=attributes)

    async def size(self, path: str) -> int | None:
        """Bytes of an object, or None when there is none."""
        try:
            return (await obstore.head_async(self._store, path))["size"]
        except FileNotFoundError:
            return None

    async def read(
        self, path: str, size: int, offset: int = 0, chunk_bytes: int = CHUNK_BYTES
    ) -> AsyncIterator[bytes]:
        """An object's bytes from `offset` to `size`, in chunks. Raises FileNotFoundError."""
        while offset < size:
            end = min(offset + chunk_bytes, size)
            yield bytes(await obstore.get_range_async(self._store, path, start=offset, end=end))
            offset = end

    async def read_whole(self, path: str) -> AsyncIterator[bytes]:
        """All bytes of an object, in chunks of 8 MiB. Raises FileNotFoundError."""
        size = await self.size(path)
        if size is None:
            raise FileNotFoundError(path)
        async for chunk in self.read(path, size, chunk_bytes=_LARGE_CHUNK_BYTES):
            yield chunk

    async def delete(self, *paths: str) -> None:
        """Remove objects; those that are gone already are no error."""
        for path in paths:
            try:
                await obstore.delete_async(self._store, path)
            except FileNotFoundError:
                continue

    async def delete_below(self, folder: str, most: int, but: Collection[str] = ()) -> int:
        """Remove at most so many of the objects below a folder, but those at some paths; returns how many there were."""
        paths: list[str] = []
        async for found in obstore.list(self._store, prefix=folder, chunk_size=most):
            paths += [one["path"] for one in found if one["path"] not in but]
            if len(paths) >= most:
                break
        try:
            if paths:
                await obstore.delete_async(self._store, paths[:most])
        except FileNotFoundError:  # somebody else removes them, too
            await self.delete(*paths[:most])
        return len(paths[:most])


def folders_of(tenant: str, project: str) -> tuple[str, str]:
    """Where everything of a project is."""
    return f"blobs/{tenant}/{project}/", f"exports/{tenant}/{project}/"


def blob_path(tenant: str, project: str, sha256: str) -> str:
    """Where a blob is. Tenants share no object, so that deleting or reading one can never touch another's."""
    return f"blobs/{tenant}/{project}/{sha256[:2]}/{sha256}"


def parts_folder(tenant: str, project: str, export: str) -> str:
    """Where all parts of an export are, whoever wrote them."""
    return f"exports/{tenant}/{project}/{export}/"


def part_path(tenant: str, project: str, export: str, part: int, worker: str) -> str:
    """Where a part of an export is: under the claim of the worker that wrote it, whom none but it overwrites."""
    return f"{parts_folder(tenant, project, export)}part-{part:06d}-{worker}"
