"""The gRPC service: each method hands on to the handler that answers it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.annotation.v1 import annotation_store_pb2_grpc as api
from cairn_annotation_store.handlers.blobs import BlobHandlers
from cairn_annotation_store.handlers.deleting import DeletionHandlers
from cairn_annotation_store.handlers.exports import ExportHandlers
from cairn_annotation_store.handlers.imports import ImportHandlers
from cairn_annotation_store.handlers.projects import ProjectHandlers
from cairn_annotation_store.handlers.reading import ReadingHandlers
from cairn_annotation_store.handlers.streaming import AnnotationStreams, Numbered
from cairn_annotation_store.handlers.submissions import SubmissionHandlers
from cairn_annotation_store.handlers.watching import WatchHandlers
from cairn_annotation_store.wire import submission_result
from cairn_kit.auth import caller
from cairn_kit.rpc import bad_elements

Context = grpc.aio.ServicerContext[Any, Any]

ELEMENTS = {"SubmitAnnotations": "requests", "StreamAnnotations": "requests"}
"""Methods whose bad elements are answered one by one."""


class AnnotationStoreRpc(api.AnnotationStoreServiceServicer):
    """Answers `cairn.annotation.v1.AnnotationStoreService`."""

    def __init__(
        self,
        *,
        projects: ProjectHandlers,
        deleting: DeletionHandlers,
        imports: ImportHandlers,
        submissions: SubmissionHandlers,
        streams: AnnotationStreams,
        reading: ReadingHandlers,
        watching: WatchHandlers,
        blobs: BlobHandlers,
        exports: ExportHandlers,
    ) -> None:
        self._projects = projects
        self._deleting = deleting
        self._imports = imports
        self._submissions = submissions
        self._streams = streams
        self._reading = reading
        self._watching = watching
        self._blobs = blobs
        self._exports = exports

    # --- projects

    async def CreateProject(self, request: pb.CreateProjectRequest, context: Context) -> pb.Project:
        return await self._projects.create(caller(), request)

    async def GetProject(self, request: pb.GetProjectRequest, context: Context) -> pb.Project:
        return await self._projects.get(caller(), request.name)

    async def ListProjects(
        self, request: pb.ListProjectsRequest, context: Context
    ) -> pb.ListProjectsResponse:
        return await self._projects.list(caller(), request)

    async def UpdateProject(self, request: pb.UpdateProjectRequest, context: Context) -> pb.Project:
        return await self._projects.update(caller(), request)

    async def ArchiveProject(self, request: pb.ArchiveProjectRequest, context: Context) -> pb.Project:
        return await self._projects.archive(caller(), request)

    async def DeleteProject(self, request: pb.DeleteProjectRequest, context: Context) -> pb.Project:
        return await self._deleting.delete(caller(), request)

    async def GetProjectProgress(
        self, request: pb.GetProjectProgressRequest, context: Context
    ) -> pb.ProjectProgress:
        return await self._projects.progress(caller(), request.name)

    async def WatchProjectProgress(
        self, request: pb.WatchProjectProgressRequest, context: Context
    ) -> AsyncIterator[pb.ProjectProgress]:
        async for progress in self._projects.watch_progress(caller(), request.name):
            yield progress

    # --- items

    async def ImportItems(
        self, request_iterator: AsyncIterator[pb.ImportItemsRequest], context: Context
    ) -> pb.Import:
        return await self._imports.take_in(caller(), request_iterator)

    async def GetImport(self, request: pb.GetImportRequest, context: Context) -> pb.Import:
        return await self._imports.get(caller(), request.name)

    async def ListImports(self, request: pb.ListImportsRequest, context: Context) -> pb.ListImportsResponse:
        return await self._imports.list(caller(), request)

    async def CancelImport(self, request: pb.CancelImportRequest, context: Context) -> pb.Import:
        return await self._imports.cancel(caller(), request)

    async def GetItem(self, request: pb.GetItemRequest, context: Context) -> pb.Item:
        return await self._reading.item(caller(), request.name)

    async def ListItems(self, request: pb.ListItemsRequest, context: Context) -> pb.ListItemsResponse:
        return await self._reading.items(caller(), request)

    async def GetLeasedItems(
        self, request: pb.GetLeasedItemsRequest, context: Context
    ) -> pb.GetLeasedItemsResponse:
        return await self._reading.leased_items(caller(), request)

    # --- blobs

    async def UploadBlob(
        self, request_iterator: AsyncIterator[pb.UploadBlobRequest], context: Context
    ) -> pb.Blob:
        return await self._blobs.take_in(caller(), request_iterator)

    async def DownloadBlob(
        self, request: pb.DownloadBlobRequest, context: Context
    ) -> AsyncIterator[pb.DownloadBlobResponse]:
        async for response in self._blobs.give_out(caller(), request):
            yield response

    # --- annotations

    async def SubmitAnnotation(self, request: pb.SubmitAnnotationRequest, context: Context) -> pb.Annotation:
        return await self._submissions.submit(caller(), request)

    async def SubmitAnnotations(
        self, request: pb.SubmitAnnotationsRequest, context: Context
    ) -> pb.SubmitAnnotationsResponse:
        results = await self._submissions.submit_many(caller(), request.requests, bad_elements())
        return pb.SubmitAnnotationsResponse(results=[submission_result(result) for result in results])

    async def StreamAnnotations(  # type: ignore[override]  # it writes: see handlers/streaming.py
        self, request_iterator: AsyncIterator[pb.StreamAnnotationsRequest], context: Context
    ) -> None:
        await self._streams.take_in(caller(), _numbered(request_iterator), context.write)

    async def GetAnnotation(self, request: pb.GetAnnotationRequest, context: Context) -> pb.Annotation:
        return await self._reading.annotation(caller(), request.name)

    async def ListAnnotations(
        self, request: pb.ListAnnotationsRequest, context: Context
    ) -> pb.ListAnnotationsResponse:
        return await self._reading.annotations(caller(), request)

    async def BatchGetAnsweredLeases(
        self, request: pb.BatchGetAnsweredLeasesRequest, context: Context
    ) -> pb.BatchGetAnsweredLeasesResponse:
        return await self._reading.answered_leases(caller(), request)

    # --- labels

    async def GetLabel(self, request: pb.GetLabelRequest, context: Context) -> pb.Label:
        return await self._reading.label(caller(), request.name)

    async def ListLabels(self, request: pb.ListLabelsRequest, context: Context) -> pb.ListLabelsResponse:
        return await self._reading.labels(caller(), request)

    async def ListLabelRevisions(
        self, request: pb.ListLabelRevisionsRequest, context: Context
    ) -> pb.ListLabelRevisionsResponse:
        return await self._reading.label_revisions(caller(), request)

    async def WatchLabels(
        self, request: pb.WatchLabelsRequest, context: Context
    ) -> AsyncIterator[pb.WatchLabelsResponse]:
        async for response in self._watching.labels(caller(), request):
            yield response

    # --- exports

    async def CreateExport(self, request: pb.CreateExportRequest, context: Context) -> pb.Export:
        return await self._exports.create(caller(), request)

    async def GetExport(self, request: pb.GetExportRequest, context: Context) -> pb.Export:
        return await self._exports.get(caller(), request.name)

    async def ListExports(self, request: pb.ListExportsRequest, context: Context) -> pb.ListExportsResponse:
        return await self._exports.list(caller(), request)

    async def CancelExport(self, request: pb.CancelExportRequest, context: Context) -> pb.Export:
        return await self._exports.cancel(caller(), request)

    async def DownloadExport(
        self, request: pb.DownloadExportRequest, context: Context
    ) -> AsyncIterator[pb.DownloadExportResponse]:
        async for response in self._exports.give_out(caller(), request):
            yield response


async def _numbered(messages: AsyncIterator[pb.StreamAnnotationsRequest]) -> AsyncIterator[Numbered]:
    async for message in messages:
        yield Numbered(message, bad_elements())
