"""Domain values as protobuf messages."""

from __future__ import annotations

from cairn.dispatch.v1 import task_dispatch_pb2 as pb
from cairn_kit.times import timestamp
from cairn_task_dispatch.domain.leases import Lease
from cairn_task_dispatch.domain.names import item_name, lease_name, project_name, task_name
from cairn_task_dispatch.domain.states import LeaseState, TaskKind, TaskState
from cairn_task_dispatch.domain.tasks import Task
from cairn_task_dispatch.store import LabelerRow, QueueCounts

_KINDS = {
    TaskKind.LABEL: pb.TASK_KIND_LABEL,
    TaskKind.GOLD: pb.TASK_KIND_GOLD,
    TaskKind.REVIEW: pb.TASK_KIND_REVIEW,
}
_TASK_STATES = {
    TaskState.OPEN: pb.TASK_STATE_OPEN,
    TaskState.FILLED: pb.TASK_STATE_FILLED,
    TaskState.CLOSED: pb.TASK_STATE_CLOSED,
}
_LEASE_STATES = {
    LeaseState.LIVE: pb.LEASE_STATE_LIVE,
    LeaseState.ANSWERED: pb.LEASE_STATE_ANSWERED,
    LeaseState.RELEASED: pb.LEASE_STATE_RELEASED,
    LeaseState.SKIPPED: pb.LEASE_STATE_SKIPPED,
    LeaseState.EXPIRED: pb.LEASE_STATE_EXPIRED,
    LeaseState.ANSWERED_LATE: pb.LEASE_STATE_ANSWERED_LATE,
}
STATE_FILTERS = {number: state.value for state, number in _TASK_STATES.items()} | {
    pb.TASK_STATE_UNSPECIFIED: ""
}


def task_message(task: Task, *, shows_gold: bool) -> pb.Task:
    """A task; gold passes for a label task unless the reader may see which items are gold."""
    kind = TaskKind.LABEL if task.kind is TaskKind.GOLD and not shows_gold else task.kind
    return pb.Task(
        name=task_name(task.ref.project, task.task),
        item=item_name(task.ref.project, task.ref.item),
        kind=_KINDS[kind],
        state=_TASK_STATES[task.state],
        answers_wanted=task.answers_wanted,
        answers_given=task.answered,
        live_leases=task.live,
        priority=task.priority,
        required_skill=task.skill,
        close_reason=task.close_reason,
        audit=task.audit,
        create_time=timestamp(task.created_at),
    )


def lease_message(lease: Lease, token: str = "") -> pb.Lease:
    """A lease; gold passes for a label."""
    return pb.Lease(
        name=lease_name(lease.project, lease.task, lease.lease),
        item=item_name(lease.project, lease.item),
        labeler=lease.labeler,
        state=_LEASE_STATES[lease.state],
        kind=pb.TASK_KIND_REVIEW if lease.kind is TaskKind.REVIEW else pb.TASK_KIND_LABEL,
        token=token,
        expire_time=timestamp(lease.expires_at),
        create_time=timestamp(lease.created_at),
    )


def labeler_message(labeler: LabelerRow) -> pb.Labeler:
    """A labeler; its etag is the number of its changes."""
    return pb.Labeler(
        name=labeler.labeler,
        skills=labeler.skills,
        suspended=labeler.suspended,
        etag=str(labeler.revision),
    )


def queue_message(project: str, counts: QueueCounts) -> pb.Queue:
    """The counts of a project."""
    return pb.Queue(
        project=project_name(project),
        open_tasks=counts.open_tasks,
        filled_tasks=counts.filled_tasks,
        closed_tasks=counts.closed_tasks,
        open_slots=counts.open_slots,
        open_review_slots=counts.open_review_slots,
        live_leases=counts.live_leases,
        open_reviews=counts.open_reviews,
        as_of=timestamp(counts.as_of),
    )
