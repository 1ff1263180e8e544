"""Services that fail as they are told to, for tests of what the client makes of that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn.annotation.v1.annotation_store_pb2_grpc import (
    AnnotationStoreServiceServicer,
)
from cairn.consensus.v1 import consensus_pb2 as consensus
from cairn.consensus.v1.consensus_pb2_grpc import (
    ConsensusServiceServicer,
)
from cairn.label.v1.label_value_pb2 import Answer


def status(code: grpc.StatusCode, reason: str, *details: object) -> tuple[status_pb2.Status, str]:
    message = status_pb2.Status(code=code.value[0], message=f"It is {reason}.")
    info = error_details_pb2.ErrorInfo(reason=reason, domain="cairn", metadata={"resource": "projects/x"})
    for detail in (info, *details):
        packed = any_pb2.Any()
        packed.Pack(detail)
        message.details.append(packed)
    return message, reason


class Store(AnnotationStoreServiceServicer):
    """Fails as it is told to, then answers."""

    def __init__(self) -> None:
        self.failures: list[tuple[grpc.StatusCode, status_pb2.Status | None]] = []
        self.calls: list[str] = []
        self.request_ids: list[str] = []
        self.tokens: list[str] = []
        self.taken: list[store.Item] = []
        self.break_after: int | None = None
        self.watches = 0
        self.brings = 2
        """Messages of a watch before it breaks."""
        self.break_watches: tuple[grpc.StatusCode, status_pb2.Status | None] = (
            grpc.StatusCode.UNAVAILABLE,
            None,
        )

    async def _fail(self, context: grpc.aio.ServicerContext) -> None:
        self.tokens.append(str(dict(context.invocation_metadata()).get("authorization")))
        if self.failures:
            code, details = self.failures.pop(0)
            trailers = () if details is None else (("grpc-status-details-bin", details.SerializeToString()),)
            await context.abort(code, "It failed.", trailers)

    async def CreateProject(
        self, request: store.CreateProjectRequest, context: grpc.aio.ServicerContext
    ) -> store.Project:
        self.request_ids.append(request.request_id)
        await self._fail(context)
        request.project.name = f"projects/{request.project_id}"
        return request.project

    async def GetProject(
        self, request: store.GetProjectRequest, context: grpc.aio.ServicerContext
    ) -> store.Project:
        self.calls.append(request.name)
        await self._fail(context)
        return store.Project(name=request.name)

    async def GetProjectProgress(
        self, request: store.GetProjectProgressRequest, context: grpc.aio.ServicerContext
    ) -> store.ProjectProgress:
        return store.ProjectProgress(annotations=5, label_annotations=3)

    async def ListLabels(
        self, request: store.ListLabelsRequest, context: grpc.aio.ServicerContext
    ) -> store.ListLabelsResponse:
        start = int(request.page_token or 0)
        labels = [store.Label(name=f"projects/p/items/{n}/labels/q") for n in range(start, min(start + 3, 8))]
        return store.ListLabelsResponse(
            labels=labels, next_page_token=str(start + 3) if start + 3 < 8 else ""
        )

    async def GetLabel(
        self, request: store.GetLabelRequest, context: grpc.aio.ServicerContext
    ) -> store.Label:
        self.calls.append(request.name)
        await self._fail(context)
        return store.Label(name=request.name, answer=Answer(choice="b"), source=store.LABEL_SOURCE_CONSENSUS)

    async def WatchLabels(
        self, request: store.WatchLabelsRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[store.WatchLabelsResponse]:
        self.watches += 1
        start = int(request.resume_token or 0)
        for number in range(start, 6):
            if number == start + self.brings:
                self.failures = [self.break_watches]
                await self._fail(context)
            name = f"projects/p/items/{number}/labels/q"
            yield store.WatchLabelsResponse(labels=[store.Label(name=name)], resume_token=str(number + 1))

    async def ImportItems(
        self, requests: AsyncIterator[store.ImportItemsRequest], context: grpc.aio.ServicerContext
    ) -> store.Import:
        name = ""
        async for request in requests:
            if request.WhichOneof("part") == "header":
                name = f"{request.header.parent}/imports/{request.header.import_id}"
                continue
            if request.chunk.offset != len(self.taken):
                await context.abort(grpc.StatusCode.OUT_OF_RANGE, "Not in order.")
            if self.break_after is not None and len(self.taken) >= self.break_after:
                self.break_after = None
                await context.abort(grpc.StatusCode.UNAVAILABLE, "The line is cut.")
            self.taken.extend(request.chunk.items)
        return self._import(name)

    async def GetImport(
        self, request: store.GetImportRequest, context: grpc.aio.ServicerContext
    ) -> store.Import:
        return self._import(request.name)

    def _import(self, name: str) -> store.Import:
        bad = [(place, item) for place, item in enumerate(self.taken) if item.text == "refuse me"]
        error, _ = status(grpc.StatusCode.INVALID_ARGUMENT, "ITEM_INVALID")
        return store.Import(
            name=name,
            next_offset=len(self.taken),
            created_items=len(self.taken) - len(bad),
            failed_items=len(bad),
            failures=[store.ImportFailure(offset=place, key=item.key, error=error) for place, item in bad],
        )


class Consensus(ConsensusServiceServicer):
    """Hears of one more annotation whenever it is asked, up to `most`."""

    def __init__(self) -> None:
        self.heard = 0
        self.most = 3
        self.silent = 0
        """Calls that it takes, and does not answer, from now on."""
        self.failure: status_pb2.Status | None = None
        """With what it fails after that."""
        self.refuses = grpc.StatusCode.UNAVAILABLE
        self.tries = 0
        self.decides = "b"

    async def RefitProject(
        self, request: consensus.RefitProjectRequest, context: grpc.aio.ServicerContext
    ) -> consensus.RefitProjectResponse:
        await self._work(context)
        return consensus.RefitProjectResponse(votes=3)

    async def BatchGetPosteriors(
        self, request: consensus.BatchGetPosteriorsRequest, context: grpc.aio.ServicerContext
    ) -> consensus.BatchGetPosteriorsResponse:
        decided, answer = consensus.DECISION_STATE_DECIDED, Answer(choice=self.decides)
        posteriors = [consensus.Posterior(item=one, answer=answer, state=decided) for one in request.items]
        return consensus.BatchGetPosteriorsResponse(posteriors=posteriors)

    async def _work(self, context: grpc.aio.ServicerContext) -> None:
        self.tries += 1
        if self.silent:
            self.silent -= 1
            await asyncio.Event().wait()
        if self.failure is not None:
            trailers = (("grpc-status-details-bin", self.failure.SerializeToString()),)
            await context.abort(self.refuses, "It failed.", trailers)

    async def ConcludeProject(
        self, request: consensus.ConcludeProjectRequest, context: grpc.aio.ServicerContext
    ) -> consensus.ConcludeProjectResponse:
        await self._work(context)
        self.heard = min(self.most, self.heard + 1)
        if self.heard < request.expected_annotations:
            refusal, _ = status(grpc.StatusCode.FAILED_PRECONDITION, "VOTES_NOT_IN")
            trailers = (("grpc-status-details-bin", refusal.SerializeToString()),)
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "It failed.", trailers)
        return consensus.ConcludeProjectResponse(votes=self.heard)
