"""protobuf <-> domain, nothing else."""

from __future__ import annotations

import grpc

from cairn.consensus.v1.consensus_pb2 import (
    BatchGetPosteriorsRequest,
    BatchGetPosteriorsResponse,
    ConcludeProjectRequest,
    ConcludeProjectResponse,
    GetPosteriorRequest,
    GetReliabilityRequest,
    ListReliabilitiesRequest,
    ListReliabilitiesResponse,
    Posterior,
    RefitProjectRequest,
    RefitProjectResponse,
    Reliability,
)
from cairn.consensus.v1.consensus_pb2_grpc import ConsensusServiceServicer
from cairn_consensus.handlers import Handlers
from cairn_kit.auth import caller
from cairn_kit.errors import InvalidArgument, NotFound, Violation
from cairn_kit.rpc import page_size, read_page_token, write_page_token

Context = grpc.aio.ServicerContext[object, object]


class ConsensusRpc(ConsensusServiceServicer):
    """The service's calls."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers

    async def GetPosterior(self, request: GetPosteriorRequest, context: Context) -> Posterior:
        _, project, _, item = request.item.split("/")
        found = await self._handlers.posteriors(caller().tenant, project, request.question, [item])
        if not found:
            raise NotFound(
                "POSTERIOR_NOT_FOUND",
                f"Nobody has answered {request.question} of {request.item}.",
                resource=request.item,
            )
        return found[0]

    async def BatchGetPosteriors(
        self, request: BatchGetPosteriorsRequest, context: Context
    ) -> BatchGetPosteriorsResponse:
        project = request.parent.removeprefix("projects/")
        within = f"{request.parent}/items/"
        stray = [i for i, item in enumerate(request.items) if not item.startswith(within)]
        if stray:
            raise InvalidArgument(
                "ITEM_OF_ANOTHER_PROJECT",
                "Every item must be of the parent project.",
                violations=[Violation(f"items[{i}]", f"must begin with {within}") for i in stray],
            )
        items = [item.removeprefix(within) for item in request.items]
        found = await self._handlers.posteriors(caller().tenant, project, request.question, items)
        return BatchGetPosteriorsResponse(posteriors=found)

    async def GetReliability(self, request: GetReliabilityRequest, context: Context) -> Reliability:
        project = request.parent.removeprefix("projects/")
        known = await self._handlers.reliabilities(caller().tenant, project, request.question)
        for reliability in known:
            if reliability.labeler == request.labeler:
                return reliability
        raise NotFound(
            "RELIABILITY_NOT_FOUND",
            f"{request.labeler} has not answered {request.question}.",
            resource=request.labeler,
        )

    async def ListReliabilities(
        self, request: ListReliabilitiesRequest, context: Context
    ) -> ListReliabilitiesResponse:
        project = request.parent.removeprefix("projects/")
        known = await self._handlers.reliabilities(caller().tenant, project, request.question)
        known.sort(key=lambda r: (r.labeler, r.question))
        size = page_size(request.page_size)
        cursor = read_page_token(request)
        if cursor:
            known = [r for r in known if (r.labeler, r.question) > (cursor[0], cursor[1])]
        page = known[:size]
        more = write_page_token(request, page[-1].labeler, page[-1].question) if len(known) > size else ""
        return ListReliabilitiesResponse(reliabilities=page, next_page_token=more)

    async def RefitProject(self, request: RefitProjectRequest, context: Context) -> RefitProjectResponse:
        return await self._handlers.refit(caller().tenant, request)

    async def ConcludeProject(
        self, request: ConcludeProjectRequest, context: Context
    ) -> ConcludeProjectResponse:
        return await self._handlers.conclude(caller().tenant, request)
