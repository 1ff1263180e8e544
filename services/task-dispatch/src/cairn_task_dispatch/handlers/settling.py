"""From new facts about items to the tasks that follow from them: the one way in which tasks open and close."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from cairn_kit.database import Transaction, meanwhile
from cairn_task_dispatch.domain.names import TaskId
from cairn_task_dispatch.domain.states import TaskKind
from cairn_task_dispatch.domain.tasks import ItemRef, Step, Task, step_towards
from cairn_task_dispatch.domain.wishes import (
    UNKNOWN,
    ItemFacts,
    Open,
    ProjectPolicy,
    gold_wish,
    label_wish,
    review_wish,
)
from cairn_task_dispatch.handlers.announcing import announce_steps
from cairn_task_dispatch.store import DispatchStore, ProjectRef

Hearing = Callable[[ItemFacts], ItemFacts]
"""What a fact does to what is known of an item."""


async def settle(
    tx: Transaction,
    store: DispatchStore,
    policies: Mapping[ProjectRef, ProjectPolicy],
    heard: Mapping[ItemRef, Sequence[Hearing]],
) -> None:
    """Take in facts about items, and open, grow and close their tasks as their projects' policies say."""
    known = await store.lock_items(tx, heard)
    facts = {ref: _after(known.get(ref, UNKNOWN), hearings) for ref, hearings in heard.items()}
    changed = {ref: fact for ref, fact in facts.items() if fact != known.get(ref, UNKNOWN)}
    if not changed:
        return
    # An import is nearly all of items that call for no task yet, and then of such that have none yet: the ones are not
    # looked at, and for the others none is looked for.
    calling = {ref: fact for ref, fact in changed.items() if not fact.bare}
    may_have_tasks = [ref for ref in calling if not known.get(ref, UNKNOWN).bare]
    found = await store.lock_tasks_of_items(tx, may_have_tasks) if may_have_tasks else []
    tasks = {(task.ref, task.kind): task for task in found if not task.audit}

    def to_be_taken() -> list[Step]:
        return [
            step
            for ref, fact in calling.items()
            for step in _steps(ref, fact, policies[ProjectRef(ref.tenant, ref.project)], tasks)
        ]

    steps = await meanwhile(store.save_items(tx, changed, known), to_be_taken)
    if steps:
        await take(tx, store, steps, {task.task: task for task in tasks.values()})


async def take(
    tx: Transaction, store: DispatchStore, steps: Sequence[Step], tasks: Mapping[TaskId, Task]
) -> None:
    """Take steps, given the tasks as they are, and tell of them."""
    after = await store.take_steps(tx, steps, tasks)
    await meanwhile(store.add_slots(tx, after, tasks), lambda: announce_steps(tx, steps, after))


def _after(fact: ItemFacts, hearings: Sequence[Hearing]) -> ItemFacts:
    for hearing in hearings:
        fact = hearing(fact)
    return fact


def _steps(
    ref: ItemRef,
    fact: ItemFacts,
    policy: ProjectPolicy,
    tasks: Mapping[tuple[ItemRef, TaskKind], Task],
) -> Iterator[Step]:
    label, review = tasks.get((ref, TaskKind.LABEL)), tasks.get((ref, TaskKind.REVIEW))
    wishes = (
        (TaskKind.LABEL, label_wish(fact, policy, label.answered if label else 0)),
        (TaskKind.GOLD, gold_wish(fact, policy)),
        (TaskKind.REVIEW, review_wish(fact, policy, review.answered if review else 0)),
    )
    for kind, wish in wishes:
        task = tasks.get((ref, kind))
        if task is None and not isinstance(wish, Open):
            continue
        step = step_towards(wish, ref, kind, "", task)
        if step is not None:
            yield step
