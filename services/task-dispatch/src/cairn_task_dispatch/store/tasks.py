"""Tasks and their slots: what follows from the facts, and what of it is still open."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from random import randrange
from typing import Any, NamedTuple

from cairn_kit.database import Queries, Transaction
from cairn_task_dispatch.domain.names import TaskId, new_task_id
from cairn_task_dispatch.domain.states import SlotState, TaskKind, TaskState
from cairn_task_dispatch.domain.tasks import ItemRef, Step, Task
from cairn_task_dispatch.store.rows import Reader, columns, item_ref

SQL = Queries.load("cairn_task_dispatch", "sql/tasks.sql")
_BEFORE_EVERY_STATE = "~"  # states are listed from the last letter to the first
_TASK_COLUMNS = (
    *ItemRef._fields, "task", "kind", "audit", "state", "priority", "skill", "place", "created_at",
)  # fmt: skip
_SLOT_COLUMNS = (*ItemRef._fields, "task", "number", "kind", "skill", "urgency", "place", "state")
_OPEN = SlotState.OPEN.value
_GOLD_PLACES = 2**62
"""Gold comes in no order, so that nobody learns its places."""


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

    async def take_steps(
        self, tx: Transaction, steps: Sequence[Step], tasks: Mapping[TaskId, Task]
    ) -> list[Task]:
        """Make and change tasks, and the slots that they have; the tasks with all that they want, in the order of the steps.

        `add_slots` then gives them those that they lack.
        """
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
        return [
            _after(step, made[step.ref, step.kind, step.audit] if step.task is None else tasks[step.task])
            for step in steps
        ]

    async def add_slots(self, tx: Transaction, tasks: Iterable[Task], have: Mapping[TaskId, Task]) -> None:
        """Give tasks the slots that they want, given as they were before; those that were just made have none."""
        slots = [
            (*task.ref, task.task, number, task.kind.value, task.skill, -task.priority, task.place, _OPEN)
            for task in tasks
            for number in range(have[task.task].slots + 1 if task.task in have else 1, task.slots + 1)
        ]
        if slots:
            await tx.copy_records_to_table("slot", records=slots, columns=_SLOT_COLUMNS)

    async def _make_tasks(
        self, tx: Transaction, steps: Sequence[Step]
    ) -> dict[tuple[ItemRef, TaskKind, str], Task]:
        """Make the tasks of these steps, without their slots yet."""
        if not steps:
            return {}
        [row] = await tx.fetch(SQL.places, len(steps))
        made = [
            Task(
                step.ref,
                new_task_id(),
                step.kind,
                step.audit,
                TaskState.OPEN,
                "",
                step.priority,
                step.skill,
                randrange(_GOLD_PLACES) if step.kind is TaskKind.GOLD else place,
                row["now"],
            )
            for step, place in zip(steps, row["places"], strict=True)
        ]
        await tx.copy_records_to_table(
            "task",
            records=[
                (
                    *t.ref,
                    t.task,
                    t.kind.value,
                    t.audit,
                    t.state.value,
                    t.priority,
                    t.skill,
                    t.place,
                    t.created_at,
                )
                for t in made
            ],
            columns=_TASK_COLUMNS,
        )
        return {(task.ref, task.kind, task.audit): task for task in made}

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
