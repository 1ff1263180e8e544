"""Leases that there are, and what becomes of them and of their slots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cairn_kit.database import Queries
from cairn_task_dispatch.domain.leases import Lease
from cairn_task_dispatch.domain.names import LeaseId
from cairn_task_dispatch.domain.states import LeaseState
from cairn_task_dispatch.store.granting import Granting
from cairn_task_dispatch.store.rows import Reader, columns, lease_of

SQL = Queries.load("cairn_task_dispatch", "sql/leases.sql")


@dataclass(frozen=True, slots=True)
class LeaseChange:
    """A lease's step to another state."""

    lease: Lease
    state: LeaseState
    reason: str = ""


class LeaseStore:
    """Leases, once they are granted."""

    async def leases(self, tx: Reader, keys: Iterable[tuple[str, str, LeaseId]]) -> list[Lease]:
        """Those of the leases (tenant, project, lease) that there are."""
        return [lease_of(row) for row in await tx.fetch(SQL.leases, *columns(set(keys), 3))]

    async def extend_leases(
        self, tx: Reader, leases: Sequence[Lease], granting: Sequence[Granting]
    ) -> list[Lease]:
        """Give leases more time, those that are live; time is never taken away."""
        rows = [
            (le.tenant, le.project, le.lease, terms.seconds, terms.grace)
            for le, terms in zip(leases, granting, strict=True)
        ]
        return [lease_of(row) for row in await tx.fetch(SQL.extend_leases, *columns(rows, 5))]

    async def siblings(self, tx: Reader, leases: Iterable[Lease]) -> list[Lease]:
        """Other leases of the same labelers on the same items (reviews: tasks), live or answered or skipped."""
        rows = [
            (le.tenant, le.project, le.labeler, le.item, le.kind.value, le.task, le.lease) for le in leases
        ]
        return [lease_of(row) for row in await tx.fetch(SQL.siblings, *columns(rows, 7))]

    async def change_leases(self, tx: Reader, changes: Sequence[LeaseChange]) -> list[Lease]:
        """Move leases on; those that are not any more what they were stay as they are and are left out."""
        rows = [
            (
                c.lease.tenant,
                c.lease.project,
                c.lease.lease,
                c.lease.state.value,
                c.state.value,
                c.reason,
            )
            for c in changes
        ]
        return [lease_of(row) for row in await tx.fetch(SQL.change_leases, *columns(rows, 6))]

    async def free_slots(self, tx: Reader, leases: Iterable[Lease]) -> None:
        """Offer the slots of ended leases again, or withdraw them when their task is closed."""
        await self._slots(tx, SQL.free_slots, leases)

    async def answer_slots(self, tx: Reader, leases: Iterable[Lease]) -> None:
        """Mark the slots of answered leases, and the tasks that are filled by it."""
        await self._slots(tx, SQL.answer_slots, leases)
        tasks = {(le.tenant, le.project, le.task) for le in leases if le.slot is not None}
        if tasks:
            await tx.execute(SQL.fill_tasks, *columns(tasks, 3))

    async def _slots(self, tx: Reader, statement: str, leases: Iterable[Lease]) -> None:
        rows = [(le.tenant, le.project, le.task, le.slot) for le in leases if le.slot is not None]
        if rows:
            await tx.execute(statement, *columns(rows, 4))

    async def take_due_leases(self, tx: Reader, limit: int, retry_seconds: float) -> list[Lease]:
        """Live leases whose time and grace are over, taken by this caller for `retry_seconds`."""
        return [lease_of(row) for row in await tx.fetch(SQL.take_due_leases, limit, retry_seconds)]
