"""From a wish and the task that stands to the step between them."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from cairn_task_dispatch.domain.names import TaskId
from cairn_task_dispatch.domain.states import TaskKind, TaskState
from cairn_task_dispatch.domain.wishes import Closed, Open, Wish


class ItemRef(NamedTuple):
    """One item of one project of one tenant."""

    tenant: str
    project: str
    item: str


class Task(NamedTuple):
    """A task with the counts of its slots (for gold: of its leases)."""

    ref: ItemRef
    task: TaskId
    kind: TaskKind
    audit: str
    state: TaskState
    close_reason: str
    priority: float
    skill: str
    place: int
    created_at: datetime
    slots: int = 0
    answered: int = 0
    live: int = 0

    @property
    def answers_wanted(self) -> int:
        """Answers wanted in all. Gold wants one more than it has, forever."""
        if self.kind is TaskKind.GOLD:
            return max(self.slots, self.answered + self.live + 1)
        return self.slots


class Step(NamedTuple):
    """What is to be done to a task, or to make one. `slots` is how many there shall be in all."""

    ref: ItemRef
    kind: TaskKind
    audit: str
    task: TaskId | None
    """None: make one."""
    state: TaskState
    close_reason: str
    priority: float
    skill: str
    slots: int
    was: TaskState | None = None

    @property
    def opens(self) -> bool:
        """Whether the task takes answers from now on, and did not before."""
        return self.state is TaskState.OPEN and self.was is not TaskState.OPEN

    @property
    def closes(self) -> bool:
        """Whether the task wants no more answers from now on, and did before."""
        return self.state is TaskState.CLOSED and self.was is not TaskState.CLOSED


def step_towards(wish: Wish, ref: ItemRef, kind: TaskKind, audit: str, task: Task | None) -> Step | None:
    """The step from the task that stands (or none) to what is wanted; None when there is nothing to do.

    Slots only grow. A filled task stays filled until more slots are wanted than were answered.
    """
    match wish:
        case None:
            return None
        case Closed(reason):
            if task is None or task.state is TaskState.CLOSED:
                return None
            return Step(
                ref, kind, audit, task.task, TaskState.CLOSED, reason, task.priority, task.skill, task.slots,
                was=task.state,
            )  # fmt: skip
        case Open(slots, priority, skill):
            if task is None:
                return Step(ref, kind, audit, None, TaskState.OPEN, "", priority, skill, slots)
            gold = kind is TaskKind.GOLD  # has no slots, and is never filled
            grown = task.slots if gold else max(slots, task.slots)
            filled = not gold and task.answered >= grown
            state = TaskState.FILLED if filled else TaskState.OPEN
            step = Step(ref, kind, audit, task.task, state, "", priority, skill, grown, was=task.state)
            stands = (task.state, task.priority, task.skill, task.slots)
            return None if stands == (state, priority, skill, grown) else step
