"""Imports and exports while they run and after: how far each is, and how to end it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn_client.calls.room import Calls
from cairn_client.names import project_name
from cairn_client.transport import new_request_id


class Imports(Calls):
    """Calls about imports. An import is named in full, as its message and `ImportResult.name` say."""

    async def get(self, name: str) -> store.Import:
        """An import, with its progress and the first items it refused, 1,000 at most. Raises NotFound."""
        request = store.GetImportRequest(name=name)
        return await self._transport.call(self._transport.store.GetImport, request)

    async def list(self, project: str) -> AsyncIterator[store.Import]:
        """A project's imports, newest first, without what they refused."""
        request = store.ListImportsRequest(parent=project_name(project), page_size=1000)
        method = self._transport.store.ListImports
        async for page in self._transport.pages(method, request, lambda r: r.imports):
            for one in page:
                yield one

    async def cancel(self, name: str) -> store.Import:
        """End an import: what was taken in stays, whoever still sends is refused. Raises FailedPrecondition when all
        its items have come."""
        request = store.CancelImportRequest(name=name, request_id=new_request_id())
        return await self._transport.call(self._transport.store.CancelImport, request)


class Exports(Calls):
    """Calls about exports. An export is named in full, as its message says."""

    async def get(self, name: str) -> store.Export:
        """An export, with its progress. Raises NotFound."""
        request = store.GetExportRequest(name=name)
        return await self._transport.call(self._transport.store.GetExport, request)

    async def list(self, project: str) -> AsyncIterator[store.Export]:
        """A project's exports, newest first."""
        request = store.ListExportsRequest(parent=project_name(project), page_size=1000)
        method = self._transport.store.ListExports
        async for page in self._transport.pages(method, request, lambda r: r.exports):
            for one in page:
                yield one

    async def cancel(self, name: str) -> store.Export:
        """Stop an export. Raises FailedPrecondition when it has ended."""
        request = store.CancelExportRequest(name=name, request_id=new_request_id())
        return await self._transport.call(self._transport.store.CancelExport, request)
