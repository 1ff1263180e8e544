"""Commands and questions on tasks, queues and labelers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cairn.dispatch.v1 import task_dispatch_pb2 as pb
from cairn_kit.database import Database, Transaction
from cairn_kit.errors import (
    Aborted,
    CairnError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Violation,
    project_not_found,
    to_status,
)
from cairn_kit.rpc import once, page_size, read_page_token, write_page_token
from cairn_task_dispatch.domain.names import item_name, parse_item, parse_project, parse_task, task_not_found
from cairn_task_dispatch.domain.states import TaskKind, TaskState
from cairn_task_dispatch.domain.tasks import ItemRef, Step, Task, step_towards
from cairn_task_dispatch.domain.wishes import ItemFacts, Open, ProjectPolicy
from cairn_task_dispatch.handlers.projects import Projects
from cairn_task_dispatch.handlers.settling import Hearing, settle, take
from cairn_task_dispatch.messages import (
    STATE_FILTERS,
    labeler_message,
    task_message,
)
from cairn_task_dispatch.store import DispatchStore, LabelerChange, ProjectRef

_CHANGEABLE = ("skills", "suspended")  # of a labeler


@dataclass(frozen=True, slots=True)
class TaskWish:
    """Answers wanted in all on an item's task of a kind (and audit)."""

    item: str
    kind: TaskKind
    answers: int
    priority: float
    audit: str


class Tasks:
    """The handlers of commands and questions on tasks, queues and labelers."""

    def __init__(self, database: Database, store: DispatchStore, projects: Projects) -> None:
        self._database = database
        self._store = store
        self._projects = projects

    # --- opening and closing by hand

    async def create_tasks(
        self,
        tenant: str,
        request: pb.CreateTasksRequest,
        wishes: Mapping[int, TaskWish],
        refused: Mapping[int, CairnError],
        *,
        shows_gold: bool,
    ) -> pb.CreateTasksResponse:
        """Open the tasks wished for, each for itself; the same wish again is the same task.

        `wishes` and `refused` together are the elements of the request, by index.
        """
        project = parse_project(request.parent)

        async def work(tx: Transaction) -> pb.CreateTasksResponse:
            async def effect() -> pb.CreateTasksResponse:
                ref = ProjectRef(tenant, project)
                policies = await self._store.projects(tx, [ref])
                if ref not in policies:
                    raise project_not_found(project)
                outcomes: dict[int, Task | CairnError] = dict(refused)
                outcomes |= await self._fulfil(tx, tenant, project, policies, wishes)
                return pb.CreateTasksResponse(
                    results=[
                        _task_result(outcomes[index], shows_gold=shows_gold)
                        for index in range(len(request.wishes))
                    ]
                )

            return await once(tx, tenant, request, pb.CreateTasksResponse, effect)

        return await self._projects.knowing(tenant, project, lambda: self._database.retrying(work))

    async def _fulfil(
        self,
        tx: Transaction,
        tenant: str,
        project: str,
        policies: Mapping[ProjectRef, ProjectPolicy],
        wishes: Mapping[int, TaskWish],
    ) -> dict[int, Task | CairnError]:
        known = await self._store.items(tx, tenant, project, {wish.item for wish in wishes.values()})
        outcomes: dict[int, Task | CairnError] = {}
        heard: dict[ItemRef, list[Hearing]] = {}
        audits: dict[tuple[ItemRef, str], Open] = {}
        for index, wish in wishes.items():
            ref = ItemRef(tenant, project, wish.item)
            problem = _problem(ref, known.get(wish.item), wish)
            if problem is not None:
                outcomes[index] = problem
            elif wish.audit:
                open_ = audits.get((ref, wish.audit), Open(0, 0.0))
                audits[ref, wish.audit] = Open(
                    max(open_.slots, wish.answers), max(open_.priority, wish.priority)
                )
            else:
                heard.setdefault(ref, []).append(_wished(wish))
        if heard:
            await settle(tx, self._store, policies, heard)
        if audits:
            await self._review_for_audits(tx, audits)
        return outcomes | await self._found(
            tx, tenant, project, {i: w for i, w in wishes.items() if i not in outcomes}
        )

    async def _review_for_audits(self, tx: Transaction, wishes: Mapping[tuple[ItemRef, str], Open]) -> None:
        refs = {ref for ref, _ in wishes}
        await self._store.lock_items(tx, refs)
        tasks = {
            (task.ref, task.audit): task
            for task in await self._store.lock_tasks_of_items(tx, refs)
            if task.kind is TaskKind.REVIEW
        }
        steps: list[Step] = []
        for (ref, audit), wish in sorted(wishes.items(), key=lambda pair: (pair[0][0].item, pair[0][1])):
            step = step_towards(wish, ref, TaskKind.REVIEW, audit, tasks.get((ref, audit)))
            if step is not None:
                steps.append(step)
        await take(tx, self._store, steps, {task.task: task for task in tasks.values()})

    async def _found(
        self, tx: Transaction, tenant: str, project: str, wishes: Mapping[int, TaskWish]
    ) -> dict[int, Task | CairnError]:
        """The tasks as they are now, in the order of the wishes."""
        if not wishes:
            return {}
        refs = {ItemRef(tenant, project, wish.item) for wish in wishes.values()}
        tasks = {
            (task.ref.item, task.kind, task.audit): task
            for task in await self._store.lock_tasks_of_items(tx, refs)
        }
        return {index: tasks[wish.item, wish.kind, wish.audit] for index, wish in wishes.items()}

    async def cancel_task(self, tenant: str, request: pb.CancelTaskRequest, *, shows_gold: bool) -> pb.Task:
        """Close a task; a newer word of consensus, or a new wish, may open it again."""
        project, task_id = parse_task(request.name)

        async def work(tx: Transaction) -> pb.Task:
            async def effect() -> pb.Task:
                task = await self._store.task(tx, tenant, project, task_id)
                if task is None:
                    raise task_not_found(request.name)
                await self._store.lock_items(tx, [task.ref])
                task = await self._locked(tx, task)
                if task.state is TaskState.CLOSED:
                    raise FailedPrecondition(
                        "TASK_CLOSED",
                        f"{request.name} is closed: {task.close_reason}.",
                        resource=request.name,
                    )
                await self._cancel(tx, task, request.reason or "cancelled")
                return task_message(await self._locked(tx, task), shows_gold=shows_gold)

            return await once(tx, tenant, request, pb.Task, effect)

        return await self._database.retrying(work)

    async def _locked(self, tx: Transaction, task: Task) -> Task:
        tasks = await self._store.lock_tasks_of_items(tx, [task.ref])
        return next(one for one in tasks if one.task == task.task)

    async def _cancel(self, tx: Transaction, task: Task, reason: str) -> None:
        if not task.audit:
            kind = task.kind
            ref = ProjectRef(task.ref.tenant, task.ref.project)
            policies = await self._store.projects(tx, [ref])
            if ref not in policies:  # it is being deleted, and gone before its tasks are
                raise project_not_found(ref.project)
            await settle(
                tx, self._store, policies, {task.ref: [lambda facts: facts.with_cancelled(kind, reason)]}
            )
            return
        step = Step(
            task.ref, task.kind, task.audit, task.task, TaskState.CLOSED, reason, task.priority, task.skill,
            task.slots, was=task.state,
        )  # fmt: skip
        await take(tx, self._store, [step], {task.task: task})

    # --- looking

    async def get_task(self, tenant: str, request: pb.GetTaskRequest, *, shows_gold: bool) -> pb.Task:
        """A task."""
        project, task_id = parse_task(request.name)
        task = await self._store.task(self._database, tenant, project, task_id)
        if task is None:
            raise task_not_found(request.name)
        return task_message(task, shows_gold=shows_gold)

    async def list_tasks(
        self, tenant: str, request: pb.ListTasksRequest, *, shows_gold: bool
    ) -> pb.ListTasksResponse:
        """A project's tasks, most urgent first within a state."""
        project = parse_project(request.parent)
        await self._projects.must_know(tenant, project)
        size = page_size(request.page_size)
        last = read_page_token(request)
        tasks = await self._store.list_tasks(
            self._database,
            tenant,
            project,
            state=STATE_FILTERS[request.state],
            item=_item_filter(request.item, project),
            after=(str(last[0]), float(last[1]), int(last[2])) if last else None,
            limit=size + 1,
        )
        response = pb.ListTasksResponse(
            tasks=[task_message(task, shows_gold=shows_gold) for task in tasks[:size]]
        )
        if len(tasks) > size:
            end = tasks[size - 1]
            response.next_page_token = write_page_token(request, end.state.value, end.priority, end.place)
        return response

    # --- labelers

    async def get_labeler(self, tenant: str, name: str) -> pb.Labeler:
        """A labeler; one that was never set up has no skills."""
        return labeler_message((await self._store.labelers(self._database, [(tenant, name)]))[tenant, name])

    async def list_labelers(self, tenant: str, request: pb.ListLabelersRequest) -> pb.ListLabelersResponse:
        """The tenant's labelers, by name."""
        size = page_size(request.page_size)
        last = read_page_token(request)
        rows = await self._store.list_labelers(self._database, tenant, str(last[0]) if last else "", size + 1)
        response = pb.ListLabelersResponse(labelers=[labeler_message(row) for row in rows[:size]])
        if len(rows) > size:
            response.next_page_token = write_page_token(request, rows[size - 1].labeler)
        return response

    async def update_labeler(self, tenant: str, request: pb.UpdateLabelerRequest) -> pb.Labeler:
        """Change the fields of the mask; an etag that is not the one that stands is refused."""
        change = _labeler_change(request)

        async def work(tx: Transaction) -> pb.Labeler:
            async def effect() -> pb.Labeler:
                saved = await self._store.save_labeler(tx, tenant, change)
                if saved is None:
                    raise Aborted(
                        "ETAG_MISMATCH",
                        f"{change.labeler} has changed; read it again.",
                        resource=change.labeler,
                    )
                return labeler_message(saved)

            return await once(tx, tenant, request, pb.Labeler, effect)

        return await self._database.retrying(work)


def _labeler_change(request: pb.UpdateLabelerRequest) -> LabelerChange:
    labeler, fields = request.labeler, _masked(request)
    return LabelerChange(
        labeler.name,
        tuple(labeler.skills) if "skills" in fields else None,
        labeler.suspended if "suspended" in fields else None,
        _revision(labeler.etag),
    )


def _masked(request: pb.UpdateLabelerRequest) -> set[str]:
    """The fields to change: those of the mask, `*` for all; without a mask those that are set (AIP-134)."""
    paths = set(request.update_mask.paths)
    if paths == {"*"}:
        return set(_CHANGEABLE)
    if bad := sorted(paths - set(_CHANGEABLE)):
        problem = f"{bad[0]!r} cannot be changed; expected paths of {', '.join(_CHANGEABLE)}"
        raise InvalidArgument(
            "UPDATE_MASK_INVALID", f"update_mask: {problem}.", violations=[Violation("update_mask", problem)]
        )
    return paths or {field.name for field, _ in request.labeler.ListFields()}


def _revision(etag: str) -> int | None:
    if not etag:
        return None
    if not (etag.isascii() and etag.isdigit()):
        raise Aborted("ETAG_MISMATCH", "The etag is not one of this labeler's.")
    return int(etag)


def _wished(wish: TaskWish) -> Hearing:
    answers, priority = wish.answers, wish.priority
    if wish.kind is TaskKind.REVIEW:
        return lambda facts: facts.with_review_wish(answers, priority)
    return lambda facts: facts.with_manual_wish(answers, priority)


def _problem(ref: ItemRef, facts: ItemFacts | None, wish: TaskWish) -> CairnError | None:
    name = item_name(ref.project, ref.item)
    if facts is None or not facts.imported:
        return NotFound(
            "ITEM_NOT_FOUND", f"There is no {name} (or it was imported a moment ago).", resource=name
        )
    if facts.gold and wish.kind is TaskKind.LABEL:
        return FailedPrecondition("ITEM_IS_GOLD", f"The truth of {name} is known.", resource=name)
    return None


def _task_result(outcome: Task | CairnError, *, shows_gold: bool) -> pb.TaskResult:
    if isinstance(outcome, Task):
        return pb.TaskResult(task=task_message(outcome, shows_gold=shows_gold))
    return pb.TaskResult(error=to_status(outcome))


def _item_filter(name: str, project: str) -> str:
    if not name:
        return ""
    parts = name.split("/", 3)
    if len(parts) != 4 or parts[:3] != ["projects", project, "items"]:
        raise InvalidArgument("INVALID_FIELD", f"item must be projects/{project}/items/..., not {name!r}.")
    return parse_item(name)[1]
