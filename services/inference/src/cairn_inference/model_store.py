"""Model files in blob storage, named by their content; tenants share none."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.store import LocalStore, ObjectStore, from_url

MAX_MODEL_BYTES = 64 * 1024 * 1024


class ModelFileDamaged(Exception):
    """A stored file is gone, or does not have the digest it is named by."""


class ModelStore:
    """Puts and gets model files."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._store: ObjectStore
        if parts.scheme == "file":
            folder = Path(unquote(parts.path))
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._store = LocalStore(folder)
        else:
            self._store = from_url(url)

    async def put(self, tenant: str, project: str, data: bytes) -> str:
        """Keep a file; returns its SHA-256 in hexadecimal. The same bytes again change nothing."""
        digest = hashlib.sha256(data).hexdigest()
        await obstore.put_async(self._store, _path(tenant, project, digest), data)
        return digest

    async def get(self, tenant: str, project: str, digest: str) -> bytes:
        """A file's bytes. Raises ModelFileDamaged, also when it is gone."""
        try:
            found = await obstore.get_async(self._store, _path(tenant, project, digest))
        except FileNotFoundError as error:
            raise ModelFileDamaged(f"The model file {digest} of projects/{project} is gone.") from error
        data = bytes(await found.bytes_async())
        if hashlib.sha256(data).hexdigest() != digest:
            raise ModelFileDamaged(f"The model file {digest} of projects/{project} is damaged.")
        return data

    async def delete_of(self, tenant: str, project: str, most: int) -> int:
        """Delete at most so many files of a project; returns how many there were."""
        paths: list[str] = []
        async for found in obstore.list(self._store, prefix=_folder(tenant, project), chunk_size=most):
            paths += [one["path"] for one in found]
            if len(paths) >= most:
                break
        for path in paths[:most]:
            with suppress(FileNotFoundError):
                await obstore.delete_async(self._store, path)
        return len(paths[:most])


def _folder(tenant: str, project: str) -> str:
    return f"models/{tenant}/{project}/"


def _path(tenant: str, project: str, digest: str) -> str:
    return f"{_folder(tenant, project)}{digest}.onnx"
