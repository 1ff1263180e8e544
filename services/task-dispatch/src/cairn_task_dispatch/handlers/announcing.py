"""What task-dispatch tells the others, batched by project and below the size of an event."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from cairn.dispatch.v1 import task_dispatch_pb2 as pb
from cairn.events.v1 import task_dispatch_events_pb2 as events
from cairn_kit.database import Transaction
from cairn_kit.events import Event, announce
from cairn_task_dispatch.domain.leases import Lease
from cairn_task_dispatch.domain.names import project_name
from cairn_task_dispatch.domain.tasks import Step, Task
from cairn_task_dispatch.messages import lease_message, task_message

_ROOM = 200 * 1024  # of the 256 KiB of an event; the rest is for what surrounds the elements
T = TypeVar("T", bound=Message)


def announce_steps(tx: Transaction, steps: Sequence[Step], tasks: Sequence[Task]) -> None:
    """Tell of the tasks that were opened and closed by these steps."""
    moved = list(zip(steps, tasks, strict=True))
    announce_opened(tx, [task for step, task in moved if step.opens])
    announce_closed(tx, [task for step, task in moved if step.closes])


def announce_opened(tx: Transaction, tasks: Sequence[Task]) -> None:
    """Tell of tasks that want answers from now on."""
    _announce_tasks(tx, tasks, lambda project, batch: events.TasksOpened(project=project, tasks=batch))


def announce_closed(tx: Transaction, tasks: Sequence[Task]) -> None:
    """Tell of tasks that want no more answers."""
    _announce_tasks(tx, tasks, lambda project, batch: events.TasksClosed(project=project, tasks=batch))


def announce_granted(tx: Transaction, leases: Sequence[Lease]) -> None:
    """Tell of new leases."""
    for (tenant, project), group in _by_project(leases, lambda lease: (lease.tenant, lease.project)):
        for batch in _batches([lease_message(lease) for lease in group]):
            message = events.LeasesGranted(project=project_name(project), leases=batch)
            announce(tx, Event(message, tenant, project, project_name(project)))


def announce_ended(tx: Transaction, leases: Sequence[Lease]) -> None:
    """Tell of leases that ended without an answer."""
    for (tenant, project), group in _by_project(leases, lambda lease: (lease.tenant, lease.project)):
        for batch in _batches(
            [events.LeasesEnded(leases=[lease_message(le)], reasons=[le.reason]) for le in group]
        ):
            message = events.LeasesEnded(project=project_name(project))
            for one in batch:
                message.MergeFrom(one)
            announce(tx, Event(message, tenant, project, project_name(project)))


def _announce_tasks(
    tx: Transaction, tasks: Sequence[Task], event: Callable[[str, list[pb.Task]], Message]
) -> None:
    for (tenant, project), group in _by_project(tasks, lambda task: (task.ref.tenant, task.ref.project)):
        for batch in _batches([task_message(task, shows_gold=True) for task in group]):
            announce(tx, Event(event(project_name(project), batch), tenant, project, project_name(project)))


E = TypeVar("E")


def _by_project(
    elements: Iterable[E], project: Callable[[E], tuple[str, str]]
) -> Iterable[tuple[tuple[str, str], list[E]]]:
    groups: dict[tuple[str, str], list[E]] = {}
    for element in elements:
        groups.setdefault(project(element), []).append(element)
    return groups.items()


def _batches(messages: Iterable[T]) -> Iterator[list[T]]:
    batch: list[T] = []
    size = 0
    for message in messages:
        room = message.ByteSize() + 8  # the field's tag and length
        if batch and size + room > _ROOM:
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += room
    if batch:
        yield batch
