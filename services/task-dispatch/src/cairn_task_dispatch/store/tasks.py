"""Tasks and their slots: what follows from the facts, and what of it is still open."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from cairn_kit.database import Queries
from cairn_task_dispatch.domain.names import TaskId, new_task_id
from cairn_task_dispatch.domain.states import TaskKind, TaskState
from cairn_task_dispatch.domain.tasks import ItemRef, Step, Task
from cairn_task_dispatch.store.rows import Reader, columns, item_ref

SQL = Queries.load("cairn_task_dispatch", "sql/tasks.sql")
_BEFORE_EVERY_STATE = "~"  # states are listed from the last letter to the first


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """Counts of a project's tasks and leases at one moment; gold tasks are left out."""

    as_of: datetime
    open_tasks: int
    filled_tasks: int
    closed_tasks: int
    open_reviews: int
    open_slots: int
    open_review_slots: int
    live_leases: int


class SlotCounts(NamedTuple):
    """Slots of a task: in all, answered, leased."""

    slots: int
    answered: int
    live: int


class TaskStore:
    """Tasks and slots."""

    async def lock_tasks_of_items(self, tx: Reader, refs: Iterable[ItemRef]) -> list[Task]:
        """Every task of these items, locked, with the counts of its slots."""
        keys = columns({(r.tenant, r.project, r.item) for r in refs}, 3)
        rows = await tx.fetch(SQL.lock_tasks_of_items, *keys)
        counts = await self._count(tx, SQL.count_slots, rows)
        return [_task(row, counts) for row in rows]

    async def lock_tasks(self, tx: Reader, tasks: Iterable[tuple[str, str, TaskId]]) -> None:
        """Lock these tasks (tenant, project, task)."""
        await tx.fetch(SQL.lock_tasks, *columns(set(tasks), 3))

    async def take_steps(self, tx: Reader, steps: Sequence[Step], tasks: Mapping[TaskId, Task]) -> list[Task]:
        """Make and change tasks and their slots; the tasks as they are then, in the order of the steps."""
        made = await self._make_tasks(tx, [step for step in steps if step.task is None])
        changes = [step for step in steps if step.task is not None]
        if changes:
            rows = [(*_key(s), s.state.value, s.close_reason, s.priority, s.skill) for s in changes]
            await tx.execute(SQL.change_tasks, *columns(rows, 7))
        closing = [_key(step) for step in changes if step.state is TaskState.CLOSED]
        if closing:
            await tx.execute(SQL.withdraw_slots, *columns(closing, 3))
        offered = [(*_key(s), s.priority, s.skill) for s in changes if s.state is TaskState.OPEN]
        if offered:
            await tx.execute(SQL.offer_slots, *columns(offered, 5))
        result, grown = [], []
        for step in steps:
            task = made[step.ref, step.kind, step.audit] if step.task is None else tasks[step.task]
            after = _after(step, task)
            result.append(after)
            if after.slots > task.slots:
                grown.append(
                    (
                        *(step.ref.tenant, step.ref.project, task.task, step.ref.item, step.kind.value),
                        *(step.skill, step.priority, task.place, task.slots, after.slots),
                    )
                )
        if grown:
            await tx.execute(SQL.add_slots, *columns(grown, 10))
        return result

    async def _make_tasks(
        self, tx: Reader, steps: Sequence[Step]
    ) -> dict[tuple[ItemRef, TaskKind, str], Task]:
        if not steps:
            return {}
        ids = [new_task_id() for _ in steps]
        rows = [
            (s.ref.tenant, s.ref.project, task, s.ref.item, s.kind.value, s.audit, s.priority, s.skill)
            for s, task in zip(steps, ids, strict=True)
        ]
        made = {row["task"]: row for row in await tx.fetch(SQL.make_tasks, *columns(rows, 8))}
        return {
            (s.ref, s.kind, s.audit): Task(
                s.ref, task, s.kind, s.audit, TaskState.OPEN, "", s.priority, s.skill,
                made[task]["place"], made[task]["created_at"],
            )
            for s, task in zip(steps, ids, strict=True)
        }  # fmt: skip

    async def task(self, tx: Reader, tenant: str, project: str, task: TaskId) -> Task | None:
        """A task with its counts."""
        row = await tx.fetchrow(SQL.task, tenant, project, task)
        return None if row is None else (await self._with_counts(tx, [row]))[0]

    async def list_tasks(
        self,
        tx: Reader,
        tenant: str,
        project: str,
        *,
        state: str,
        item: str,
        after: tuple[str, float, int] | None,
        limit: int,
    ) -> list[Task]:
        """Tasks with their counts, most urgent first within a state, after a row's (state, priority, place)."""
        # The statements name no optional condition: a plan is made once, for all calls.
        last = after or (state or _BEFORE_EVERY_STATE, math.inf, 0)
        rows = (
            await tx.fetch(SQL.list_tasks_of_item, tenant, project, state, *last, limit, item)
            if item
            else await tx.fetch(SQL.list_tasks, tenant, project, state, *last, limit)
        )
        return await self._with_counts(tx, rows)

    async def queue(self, tx: Reader, tenant: str, project: str) -> QueueCounts:
        """Counts of a project, now."""
        [row] = await tx.fetch(SQL.queue, tenant, project)
        return QueueCounts(**dict(row))

    async def _with_counts(self, tx: Reader, rows: Sequence[Any]) -> list[Task]:
        gold = [row for row in rows if row["kind"] == "GOLD"]
        counts = await self._count(tx, SQL.count_slots, [row for row in rows if row["kind"] != "GOLD"])
        counts |= await self._count(tx, SQL.count_gold_leases, gold)
        return [_task(row, counts) for row in rows]

    async def _count(
        self, tx: Reader, statement: str, rows: Sequence[Any]
    ) -> dict[tuple[str, str, TaskId], SlotCounts]:
        if not rows:
            return {}
        keys = columns([(row["tenant"], row["project"], row["task"]) for row in rows], 3)
        return {
            (row["tenant"], row["project"], row["task"]): SlotCounts(
                row["slots"], row["answered"], row["live"]
            )
            for row in await tx.fetch(statement, *keys)
        }


def _task(row: Any, counts: Mapping[tuple[str, str, TaskId], SlotCounts]) -> Task:
    counted = counts.get((row["tenant"], row["project"], row["task"]), SlotCounts(0, 0, 0))
    return Task(
        item_ref(row), row["task"], TaskKind(row["kind"]), row["audit"], TaskState(row["state"]), row["close_reason"],
        row["priority"], row["skill"], row["place"], row["created_at"], *counted,
    )  # fmt: skip


def _after(step: Step, task: Task) -> Task:
    slots = task.slots if step.kind is TaskKind.GOLD else step.slots
    return Task(
        step.ref, task.task, step.kind, step.audit, step.state, step.close_reason, step.priority, step.skill,
        task.place, task.created_at, slots, task.answered, task.live,
    )  # fmt: skip


def _key(step: Step) -> tuple[str, str, TaskId | None]:
    return step.ref.tenant, step.ref.project, step.task
