"""The only callers of SQL: rows in, rows out, as domain values. Every method is one statement over arrays.

Statements that lock say so in their name. Locks are taken in one order everywhere: labelers and projects (advisory),
tasks, slots, leases; within each by key. LeaseTasks and ClaimItems take no task locks and skip locked slots, so
they never wait for an event's handler.
"""

from cairn_task_dispatch.store.facts import FactStore
from cairn_task_dispatch.store.granting import Granting, GrantingStore, ScanStart
from cairn_task_dispatch.store.labelers import LabelerChange, LabelerRow, LabelerStore
from cairn_task_dispatch.store.leases import LeaseChange, LeaseStore
from cairn_task_dispatch.store.rows import Asker, ProjectRef
from cairn_task_dispatch.store.statistics import Statistics
from cairn_task_dispatch.store.tasks import QueueCounts, TaskStore


class DispatchStore(FactStore, TaskStore, GrantingStore, LeaseStore, LabelerStore, Statistics):
    """All of it: a step of the service's work touches several tables in one transaction."""


__all__ = [
    "Asker",
    "DispatchStore",
    "Granting",
    "LabelerChange",
    "LabelerRow",
    "LeaseChange",
    "ProjectRef",
    "QueueCounts",
    "ScanStart",
]
