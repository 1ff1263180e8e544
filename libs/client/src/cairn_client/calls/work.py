"""The labeler's side: lease or claim tasks, see the items, answer, skip."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import timedelta

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn.dispatch.v1 import task_dispatch_pb2 as dispatch
from cairn.label.v1.label_schema_pb2 import LabelSchema
from cairn_client.answers import answer_messages, answers_of
from cairn_client.calls.job import Answers, Job
from cairn_client.calls.room import Calls
from cairn_client.errors import CairnError, InputError, error_of_status
from cairn_client.names import item_name, labeler_name, project_name
from cairn_client.parts import MOST_BYTES, in_halves, in_parts
from cairn_client.transport import new_request_id
from cairn_client.waiting import until
from cairn_client.working.hand import check_duration
from cairn_client.working.loop import MOST_AHEAD, Pace, WorkLoop
from cairn_client.working.verdicts import Judge, Worked, check_judge


class WorkCalls(Calls):
    """Calls with which people and programs answer."""

    async def lease(
        self,
        project: str,
        max_tasks: int = 1,
        *,
        labeler: str = "",
        reviews: bool = False,
        duration: timedelta | None = None,
        wait: float = 0.0,
    ) -> list[Job]:
        """Lease the most urgent tasks and fetch their items. Fewer than asked, or none, when there are no
        more. `wait` is how many seconds to wait for a first one: tasks open a moment after their items were
        imported.

        `labeler` acts for another (needs permission); `reviews` asks for reviews instead (needs the
        reviewer role).
        """
        request = dispatch.LeaseTasksRequest(
            parent=project_name(project),
            labeler=labeler_name(labeler),
            max_tasks=max_tasks,
            reviews=reviews,
        )
        if duration is not None:
            request.lease_duration.FromTimedelta(duration)
        leases: list[dispatch.Lease] = []

        async def leased() -> int:
            request.request_id = new_request_id()  # under the same id the same answer would come: none
            found = await self._transport.call(self._transport.dispatch.LeaseTasks, request)
            leases.extend(found.leases)
            return len(leases)

        await until(leased, bool, wait)
        return await self.jobs(leases)

    async def jobs(self, leases: Sequence[dispatch.Lease]) -> list[Job]:
        """The items and questions of leases in hand."""
        return await in_halves(self._shown, leases) if leases else []

    async def _shown(self, leases: Sequence[dispatch.Lease]) -> list[Job]:
        request = store.GetLeasedItemsRequest(lease_tokens=[lease.token for lease in leases])
        shown = await self._transport.call(self._transport.store.GetLeasedItems, request)
        schemas = {asked.project: asked.schema for asked in shown.projects}
        jobs = []
        for lease, result in zip(leases, shown.items, strict=True):
            schema = schemas.get(lease.item.split("/items/", 1)[0], LabelSchema())
            if result.WhichOneof("result") == "item":
                jobs.append(Job(lease, schema, result.item))
            else:
                jobs.append(Job(lease, schema, None, error_of_status(result.error)))
        return jobs

    async def claim(
        self, project: str, claims: Iterable[tuple[str, str]], *, review: bool = False
    ) -> list[dispatch.Lease | CairnError]:
        """Lease given items: `(item key, labeler)` pairs; an empty labeler is the caller.

        One result for each, in order: the lease, or why there is none (`NO_TASK_YET`, `NO_OPEN_SLOT`,
        `TASK_CLOSED`,
        `ALREADY_ANSWERED`, `ITEM_NOT_FOUND`, `SKILL_MISSING`).
        """
        parent = project_name(project)
        wanted = [
            dispatch.ItemClaim(item=item_name(parent, key), labeler=labeler_name(who), review=review)
            for key, who in claims
        ]
        results: list[dispatch.Lease | CairnError] = []
        for start in range(0, len(wanted), 1000):
            request = dispatch.ClaimItemsRequest(
                parent=parent, claims=wanted[start : start + 1000], request_id=new_request_id()
            )
            answer = await self._transport.call(self._transport.dispatch.ClaimItems, request)
            results += [
                r.lease if r.WhichOneof("result") == "lease" else error_of_status(r.error)
                for r in answer.results
            ]
        return results

    async def submit(
        self, work: Job | dispatch.Lease, answers: Answers, *, took: timedelta | None = None
    ) -> store.Annotation:
        """Answer a leased task. `took` is how long the labeler worked on it.

        Raises InvalidArgument naming each value that does not fit the schema; the task may then be
        answered again.
        """
        request = self.submission(work, answers, took)
        return await self._transport.call(self._transport.store.SubmitAnnotation, request)

    async def submit_many(
        self, work: Iterable[tuple[Job | dispatch.Lease, Answers]]
    ) -> list[store.Annotation | CairnError]:
        """Answer many at once; each is kept or refused for itself, in order."""
        requests = [self.submission(one, answers, None) for one, answers in work]
        results: list[store.Annotation | CairnError] = []
        for part in in_parts(requests, 1000):
            answer = await self._transport.call(
                self._transport.store.SubmitAnnotations, store.SubmitAnnotationsRequest(requests=part)
            )
            results += [
                r.annotation if r.WhichOneof("result") == "annotation" else error_of_status(r.error)
                for r in answer.results
            ]
        return results

    @staticmethod
    def submission(
        work: Job | dispatch.Lease, answers: Answers, took: timedelta | None
    ) -> store.SubmitAnnotationRequest:
        """The request that answers a task. Raises InputError for values that do not fit the questions."""
        if isinstance(work, Job):
            lease, messages = work.lease, answers_of(work.schema, answers)
        elif isinstance(answers, Mapping):
            raise InputError("To answer a bare lease, give Answer messages; a Job knows its questions.")
        else:
            lease, messages = work, answer_messages(answers)
        # No request_id: a lease takes one answer, and sent again under it the same answer is the same annotation.
        request = store.SubmitAnnotationRequest(lease_token=lease.token, answers=messages)
        if (size := request.ByteSize()) > MOST_BYTES:
            raise InputError(
                f"The answers have {size:,} bytes, more than a call takes: put rasters into a blob."
            )
        if took is not None:
            request.work_duration.FromTimedelta(took)
        return request

    async def work(
        self,
        project: str,
        judge: Judge,
        *,
        labeler: str = "",
        reviews: bool = False,
        batch: int = 16,
        ahead: int | None = None,
        parallel: int = 1,
        idle: float | None = None,
        failures: int = 10,
        duration: timedelta | None = None,
        stop: asyncio.Event | None = None,
    ) -> Worked:
        """Work as a machine does: lease ahead, have `judge(jobs)` judge up to `batch` items at a time, submit behind.

        `judge` returns one verdict for each job, in order: `{question id: value}` as for `submit`, `Skip(reason)` or
        `Release()`. It may be a coroutine function; a plain one runs in a thread. Up to `parallel` calls of it run at
        once. At most `ahead` leases are held at a time (by default the batches that are judged and three more), each
        for `duration` (by default the project's; at least 2 seconds); those that take long are extended. The run ends
        when `stop` is set, or there has been no work for `idle` seconds (None: never): what is being judged is finished
        and submitted, the rest is given back.

        When the judge raises, each item of its batch is judged again alone. One that fails then, or whose answer is
        refused, is kept back beside the others until the judge has answered another one; then it is given back for good
        with the reason. Where there is no other it is judged once more, when half of its lease is over or the run has
        been idle. If it fails again, the judge is asked about an item that it has answered, of which nothing is
        submitted: what failed is given back for good if the judge can still answer that. Services that go away are
        waited for as long as the client's patience says, and each answer is kept once.

        Raises JudgeFailed, and gives back what failed so that it may come again, when the judge failed at `failures`
        items with no answer kept in between, or at all there are before it answered any, or when it cannot answer any
        more what it has answered; InputError for a judge that
        does not take jobs or return as many verdicts, and for leases that are too short to be extended; and the
        CairnError of a service that stays away or refuses the labeler.
        """
        check_judge(judge)
        if duration is not None:
            check_duration(duration.total_seconds())
        for name, value in (
            ("batch", batch),
            ("ahead", 1 if ahead is None else ahead),
            ("parallel", parallel),
            ("failures", failures),
        ):
            if value < 1:
                raise InputError(f"{name} must be at least 1, not {value}.")
        most = batch * (parallel + 3) if ahead is None else ahead
        pace = Pace(batch, min(most, MOST_AHEAD), parallel, idle, failures, duration)
        header = dispatch.LeaseStreamHeader(
            parent=project_name(project), labeler=labeler_name(labeler), reviews=reviews
        )
        if duration is not None:
            header.lease_duration.FromTimedelta(duration)
        return await WorkLoop(self, self._transport, header, judge, pace, stop or asyncio.Event()).run()

    async def skip(self, work: Job | dispatch.Lease, reason: str) -> dispatch.Lease:
        """Give a task back for good, saying why: somebody else gets it."""
        request = dispatch.SkipTaskRequest(name=_lease(work).name, reason=reason, request_id=new_request_id())
        return await self._transport.call(self._transport.dispatch.SkipTask, request)

    async def release(self, work: Job | dispatch.Lease) -> dispatch.Lease:
        """Give a task back; the same labeler may get it again."""
        request = dispatch.ReleaseLeaseRequest(name=_lease(work).name, request_id=new_request_id())
        return await self._transport.call(self._transport.dispatch.ReleaseLease, request)

    async def extend(self, work: Job | dispatch.Lease, duration: timedelta | None = None) -> dispatch.Lease:
        """Take more time, counted from now; the lease that is returned has the new token."""
        request = dispatch.ExtendLeaseRequest(name=_lease(work).name, request_id=new_request_id())
        if duration is not None:
            request.lease_duration.FromTimedelta(duration)
        return await self._transport.call(self._transport.dispatch.ExtendLease, request)

    async def queue(self, project: str) -> dispatch.Queue:
        """Counts of a project's tasks and leases, now."""
        request = dispatch.GetQueueRequest(project=project_name(project))
        return await self._transport.call(self._transport.dispatch.GetQueue, request)

    async def watch_queue(
        self, project: str, *, broke: Callable[[CairnError], None] | None = None
    ) -> AsyncIterator[dispatch.Queue]:
        """The counts at once, and again whenever they change, without end. When the service is away, `broke` is told why:
        what was counted before may be out of date until the next counts come."""
        request = dispatch.WatchQueueRequest(project=project_name(project))
        method = self._transport.dispatch.WatchQueue
        async for queue in self._transport.following(method, lambda: request, broke):
            yield queue

    async def tasks(self, project: str, *, item: str = "") -> AsyncIterator[dispatch.Task]:
        """A project's tasks, most urgent first within a state; of one item when `item` (a key) is given."""
        parent = project_name(project)
        request = dispatch.ListTasksRequest(
            parent=parent, item=item_name(parent, item) if item else "", page_size=1000
        )
        method = self._transport.dispatch.ListTasks
        async for page in self._transport.pages(method, request, lambda r: r.tasks):
            for task in page:
                yield task


def _lease(work: Job | dispatch.Lease) -> dispatch.Lease:
    return work.lease if isinstance(work, Job) else work
