"""Resource names and the ids in them."""

from __future__ import annotations

import uuid
from typing import NewType
from uuid import UUID

from cairn_kit.errors import NotFound
from cairn_kit.ids import uuid7

Tenant = NewType("Tenant", str)
ProjectId = NewType("ProjectId", str)
ItemKey = NewType("ItemKey", str)
LabelerName = NewType("LabelerName", str)
"""`labelers/{labeler}`, whole."""
TaskId = NewType("TaskId", UUID)
LeaseId = NewType("LeaseId", UUID)


def project_name(project: str) -> str:
    """`projects/{project}`."""
    return f"projects/{project}"


def item_name(project: str, item: str) -> str:
    """`projects/{project}/items/{item}`."""
    return f"projects/{project}/items/{item}"


def task_name(project: str, task: UUID) -> str:
    """`projects/{project}/tasks/{task}`."""
    return f"projects/{project}/tasks/{task}"


def lease_name(project: str, task: UUID, lease: UUID) -> str:
    """`projects/{project}/tasks/{task}/leases/{lease}`."""
    return f"projects/{project}/tasks/{task}/leases/{lease}"


def parse_project(name: str) -> ProjectId:
    """The id in `projects/{project}`, or in the name of anything below it."""
    return ProjectId(name.split("/", 2)[1])


def parse_item(name: str) -> tuple[ProjectId, ItemKey]:
    """The ids in `projects/{project}/items/{item}`."""
    _, project, _, item = name.split("/", 3)
    return ProjectId(project), ItemKey(item)


def parse_task(name: str) -> tuple[ProjectId, TaskId]:
    """The ids in `projects/{project}/tasks/{task}`; NotFound TASK_NOT_FOUND when the task is no UUID."""
    _, project, _, task = name.split("/", 3)
    try:
        return ProjectId(project), TaskId(UUID(task))
    except ValueError:
        raise task_not_found(name) from None


def parse_lease(name: str) -> tuple[ProjectId, TaskId, LeaseId]:
    """The ids in `projects/{project}/tasks/{task}/leases/{lease}`; NotFound LEASE_NOT_FOUND when they are no UUIDs."""
    try:
        _, project, _, task, _, lease = name.split("/", 5)
        return ProjectId(project), TaskId(UUID(task)), LeaseId(UUID(lease))
    except ValueError:
        raise lease_not_found(name) from None


def task_not_found(name: str) -> NotFound:
    """There is no such task in the caller's tenant."""
    return NotFound("TASK_NOT_FOUND", f"There is no {name}.", resource=name)


def lease_not_found(name: str) -> NotFound:
    """There is no such lease that the caller may see."""
    return NotFound("LEASE_NOT_FOUND", f"There is no {name}.", resource=name)


def new_task_id() -> TaskId:
    """A random id (UUIDv4). Not time-ordered: gold tasks are made at another moment, and an id must not tell."""
    return TaskId(uuid.uuid4())


def new_lease_id() -> LeaseId:
    """A time-ordered id: leases are inserted at the right edge of their index."""
    return LeaseId(uuid7())
