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
from cairn_kit.errors import InvalidArgument, NotFound, Violation
from cairn_kit.rpc import page_size, read_page_token, write_page_token
from cairn_kit.shares import KeeperCalls

Context = grpc.aio.ServicerContext[object, object]


class ConsensusRpc(ConsensusServiceServicer):
    """The service's calls: each is about one project, and is answered by the replica that keeps it."""

    def __init__(self, handlers: Handlers, calls: KeeperCalls) -> None:
        self._handlers = handlers
        self._posterior = calls.answer(GetPosteriorRequest, Posterior, self._get_posterior)
        self._posteriors = calls.answer(
            BatchGetPosteriorsRequest, BatchGetPosteriorsResponse, self._batch_get_posteriors
        )
        self._reliability = calls.answer(GetReliabilityRequest, Reliability, self._get_reliability)
        self._reliabilities = calls.answer(
            ListReliabilitiesRequest, ListReliabilitiesResponse, self._list_reliabilities
        )
        self._refit = calls.answer(RefitProjectRequest, RefitProjectResponse, handlers.refit, waits=True)
        self._conclude = calls.answer(
            ConcludeProjectRequest, ConcludeProjectResponse, handlers.conclude, waits=True
        )

    async def GetPosterior(self, request: GetPosteriorRequest, context: Context) -> Posterior:
        return await self._posterior(_project(request.item), request)

    async def BatchGetPosteriors(
        self, request: BatchGetPosteriorsRequest, context: Context
    ) -> BatchGetPosteriorsResponse:
        return await self._posteriors(_project(request.parent), request)

    async def GetReliability(self, request: GetReliabilityRequest, context: Context) -> Reliability:
        return await self._reliability(_project(request.parent), request)

    async def ListReliabilities(
        self, request: ListReliabilitiesRequest, context: Context
    ) -> ListReliabilitiesResponse:
        return await self._reliabilities(_project(request.parent), request)

    async def RefitProject(self, request: RefitProjectRequest, context: Context) -> RefitProjectResponse:
        return await self._refit(_project(request.project), request)

    async def ConcludeProject(
        self, request: ConcludeProjectRequest, context: Context
    ) -> ConcludeProjectResponse:
        return await self._conclude(_project(request.project), request)

    # --- where the project is kept

    async def _get_posterior(self, tenant: str, request: GetPosteriorRequest) -> Posterior:
        item = request.item.rpartition("/")[2]
        found = await self._handlers.posteriors(tenant, _project(request.item), request.question, [item])
        if not found:
            raise NotFound(
                "POSTERIOR_NOT_FOUND",
                f"Nobody has answered {request.question} of {request.item}.",
                resource=request.item,
            )
        return found[0]

    async def _batch_get_posteriors(
        self, tenant: str, request: BatchGetPosteriorsRequest
    ) -> BatchGetPosteriorsResponse:
        within = f"{request.parent}/items/"
        stray = [i for i, item in enumerate(request.items) if not item.startswith(within)]
        if stray:
            raise InvalidArgument(
                "ITEM_OF_ANOTHER_PROJECT",
                "Every item must be of the parent project.",
                violations=[Violation(f"items[{i}]", f"must begin with {within}") for i in stray],
            )
        items = [item.removeprefix(within) for item in request.items]
        found = await self._handlers.posteriors(tenant, _project(request.parent), request.question, items)
        return BatchGetPosteriorsResponse(posteriors=found)

    async def _get_reliability(self, tenant: str, request: GetReliabilityRequest) -> Reliability:
        known = await self._handlers.reliabilities(tenant, _project(request.parent), request.question)
        for reliability in known:
            if reliability.labeler == request.labeler:
                return reliability
        raise NotFound(
            "RELIABILITY_NOT_FOUND",
            f"{request.labeler} has not answered {request.question}.",
            resource=request.labeler,
        )

    async def _list_reliabilities(
        self, tenant: str, request: ListReliabilitiesRequest
    ) -> ListReliabilitiesResponse:
        known = await self._handlers.reliabilities(tenant, _project(request.parent), request.question)
        known.sort(key=lambda r: (r.labeler, r.question))
        size = page_size(request.page_size)
        cursor = read_page_token(request)
        if cursor:
            known = [r for r in known if (r.labeler, r.question) > (cursor[0], cursor[1])]
        page = known[:size]
        more = write_page_token(request, page[-1].labeler, page[-1].question) if len(known) > size else ""
        return ListReliabilitiesResponse(reliabilities=page, next_page_token=more)


def _project(name: str) -> str:
    """The id of the project that a resource's name begins with."""
    return name.split("/", 2)[1]
