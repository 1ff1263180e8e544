"""cairn.dispatch.v1: protobuf <-> domain, and who may do what to whose lease."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from cairn.dispatch.v1 import task_dispatch_pb2 as pb
from cairn.dispatch.v1 import task_dispatch_pb2_grpc as api
from cairn_kit.auth import Caller, Permission, caller
from cairn_kit.errors import CairnError, InvalidArgument, Violation
from cairn_kit.rpc import bad_elements
from cairn_task_dispatch.domain.leases import Claim
from cairn_task_dispatch.domain.names import ItemKey, parse_item, parse_project
from cairn_task_dispatch.domain.states import TaskKind
from cairn_task_dispatch.handlers.claiming import Claiming
from cairn_task_dispatch.handlers.handing_out import HandingOut
from cairn_task_dispatch.handlers.leasing import Leasing, MayTouch
from cairn_task_dispatch.handlers.queues import Queues
from cairn_task_dispatch.handlers.streaming import LeaseStreams
from cairn_task_dispatch.handlers.tasks import Tasks, TaskWish

Context = Any
_KINDS = {pb.TASK_KIND_LABEL: TaskKind.LABEL, pb.TASK_KIND_REVIEW: TaskKind.REVIEW}


class DispatchRpc(api.TaskDispatchServiceServicer):
    """The servicer. Errors are raised; the chassis turns them into statuses."""

    def __init__(
        self,
        handing_out: HandingOut,
        streams: LeaseStreams,
        claiming: Claiming,
        leasing: Leasing,
        tasks: Tasks,
        queues: Queues,
    ) -> None:
        self._handing_out = handing_out
        self._streams = streams
        self._claiming = claiming
        self._leasing = leasing
        self._tasks = tasks
        self._queues = queues

    # --- leases

    async def LeaseTasks(self, request: pb.LeaseTasksRequest, context: Context) -> pb.LeaseTasksResponse:
        """Lease the most urgent tasks."""
        who = caller()
        labeler = who.labeler(request.labeler)
        if request.reviews:
            who.require(Permission.REVIEW)
        return await self._handing_out.lease_tasks(who.tenant, labeler, request)

    async def StreamLeases(  # type: ignore[override]  # it writes its responses: a cancelled write is met here
        self, request_iterator: AsyncIterator[pb.StreamLeasesRequest], context: Context
    ) -> None:
        """Lease ahead, as many as the caller has room for."""
        who = caller()
        header = await _header(request_iterator)
        if header.reviews:
            who.require(Permission.REVIEW)
        wish = pb.LeaseTasksRequest(
            parent=header.parent, labeler=who.labeler(header.labeler), reviews=header.reviews
        )
        if header.HasField("lease_duration"):
            wish.lease_duration.CopyFrom(header.lease_duration)
        await context.send_initial_metadata(())  # the header is taken: who waits for this may go on
        await self._streams.lease_ahead(who.tenant, wish, _grants(request_iterator), context.write)

    async def ClaimItems(self, request: pb.ClaimItemsRequest, context: Context) -> pb.ClaimItemsResponse:
        """Lease given items to given labelers; the caller may act for each of them."""
        who, project = caller(), parse_project(request.parent)
        claims: dict[int, Claim] = {}
        refused: dict[int, CairnError] = dict(bad_elements())
        for index, element in enumerate(request.claims):
            if index not in refused:
                try:
                    claims[index] = _claim(who, project, element, f"claims[{index}]")
                except CairnError as error:
                    refused[index] = error
        return await self._claiming.claim_items(who.tenant, request, claims, refused)

    async def ExtendLease(self, request: pb.ExtendLeaseRequest, context: Context) -> pb.Lease:
        """Give a live lease more time."""
        return await self._leasing.extend_lease(caller().tenant, request, _may_touch(caller()))

    async def ReleaseLease(self, request: pb.ReleaseLeaseRequest, context: Context) -> pb.Lease:
        """Give a lease back."""
        return await self._leasing.release_lease(caller().tenant, request, _may_touch(caller()))

    async def SkipTask(self, request: pb.SkipTaskRequest, context: Context) -> pb.Lease:
        """Give a lease back for good."""
        return await self._leasing.skip_task(caller().tenant, request, _may_touch(caller()))

    async def GetLease(self, request: pb.GetLeaseRequest, context: Context) -> pb.Lease:
        """Return a lease."""
        return await self._leasing.get_lease(caller().tenant, request, _may_touch(caller()))

    # --- tasks

    async def CreateTasks(self, request: pb.CreateTasksRequest, context: Context) -> pb.CreateTasksResponse:
        """Open tasks by hand."""
        who, project = caller(), parse_project(request.parent)
        wishes: dict[int, TaskWish] = {}
        refused: dict[int, CairnError] = dict(bad_elements())
        for index, element in enumerate(request.wishes):
            if index not in refused:
                try:
                    wishes[index] = _wish(project, element, f"wishes[{index}]")
                except CairnError as error:
                    refused[index] = error
        return await self._tasks.create_tasks(
            who.tenant, request, wishes, refused, shows_gold=_shows_gold(who)
        )

    async def CancelTask(self, request: pb.CancelTaskRequest, context: Context) -> pb.Task:
        """Close a task."""
        return await self._tasks.cancel_task(caller().tenant, request, shows_gold=_shows_gold(caller()))

    async def GetTask(self, request: pb.GetTaskRequest, context: Context) -> pb.Task:
        """Return a task."""
        return await self._tasks.get_task(caller().tenant, request, shows_gold=_shows_gold(caller()))

    async def ListTasks(self, request: pb.ListTasksRequest, context: Context) -> pb.ListTasksResponse:
        """List a project's tasks."""
        return await self._tasks.list_tasks(caller().tenant, request, shows_gold=_shows_gold(caller()))

    async def GetQueue(self, request: pb.GetQueueRequest, context: Context) -> pb.Queue:
        """Return the counts of a project."""
        return await self._queues.get(caller().tenant, request.project)

    async def WatchQueue(self, request: pb.WatchQueueRequest, context: Context) -> AsyncIterator[pb.Queue]:
        """Send the counts, and again whenever they change."""
        async for queue in self._queues.watch(caller().tenant, request.project):
            yield queue

    # --- labelers

    async def GetLabeler(self, request: pb.GetLabelerRequest, context: Context) -> pb.Labeler:
        """Return a labeler."""
        return await self._tasks.get_labeler(caller().tenant, request.name)

    async def ListLabelers(
        self, request: pb.ListLabelersRequest, context: Context
    ) -> pb.ListLabelersResponse:
        """List the tenant's labelers."""
        return await self._tasks.list_labelers(caller().tenant, request)

    async def UpdateLabeler(self, request: pb.UpdateLabelerRequest, context: Context) -> pb.Labeler:
        """Set what a labeler is able to do."""
        return await self._tasks.update_labeler(caller().tenant, request)


async def _header(requests: AsyncIterator[pb.StreamLeasesRequest]) -> pb.LeaseStreamHeader:
    async for request in requests:
        if request.WhichOneof("part") == "header":
            return request.header
        break
    raise InvalidArgument("HEADER_MISSING", "The first message of a stream of leases must be its header.")


async def _grants(requests: AsyncIterator[pb.StreamLeasesRequest]) -> AsyncIterator[int]:
    async for request in requests:
        if request.WhichOneof("part") != "credit":
            raise InvalidArgument("HEADER_REPEATED", "A header comes once, first; after it comes credit.")
        yield request.credit


def _shows_gold(who: Caller) -> bool:
    return who.may(Permission.WRITE_PROJECTS)


def _may_touch(who: Caller) -> MayTouch:
    """Labelers touch their own leases; another's does not exist for them. Operators act for anybody."""
    own = who.labeler()
    return lambda labeler: labeler == own or who.may(Permission.ACT_FOR_OTHERS)


def _claim(who: Caller, project: str, element: pb.ItemClaim, where: str) -> Claim:
    if element.review:
        who.require(Permission.REVIEW)
    return Claim(_item(project, element.item, where), who.labeler(element.labeler), element.review)


def _wish(project: str, element: pb.TaskWish, where: str) -> TaskWish:
    item = _item(project, element.item, where)
    kind = _KINDS[element.kind]
    audit = element.audit
    if audit and (kind is TaskKind.LABEL or not audit.startswith(f"projects/{project}/audits/")):
        problem = f"must be empty, or projects/{project}/audits/... for a review"
        raise InvalidArgument(
            "INVALID_FIELD", f"{where}.audit {problem}.", violations=[Violation(f"{where}.audit", problem)]
        )
    return TaskWish(item, kind, element.answers_wanted, element.priority, audit)


def _item(project: str, name: str, where: str) -> ItemKey:
    of, item = parse_item(name)
    if of != project:
        problem = f"must be an item of projects/{project}"
        raise InvalidArgument(
            "INVALID_FIELD", f"{where}.item {problem}.", violations=[Violation(f"{where}.item", problem)]
        )
    return item
