"""Choosing tasks for labelers, and granting leases on them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import asyncpg

from cairn_kit.database import Queries
from cairn_task_dispatch.domain.gold import GoldDraw
from cairn_task_dispatch.domain.handing_out import OpenSlot
from cairn_task_dispatch.domain.leases import Claim, ClaimedTask, Grant, Lease
from cairn_task_dispatch.domain.names import TaskId, new_lease_id
from cairn_task_dispatch.domain.states import TaskKind, TaskState
from cairn_task_dispatch.domain.wishes import ProjectPolicy
from cairn_task_dispatch.store.labelers import LabelerRow
from cairn_task_dispatch.store.rows import Asker, Reader, columns, lease_of, policy_of

SQL = Queries.load("cairn_task_dispatch", "sql/granting.sql")


@dataclass(frozen=True, slots=True)
class Granting:
    """How long new leases last, and the grace before they are asked about; in seconds."""

    seconds: float
    grace: float


class ScanStart(NamedTuple):
    """A place in the queue of open slots, most urgent first."""

    urgency: float = float("-inf")
    """Minus the priority."""
    place: int = 0


class GrantingStore:
    """New leases."""

    async def lock_labelers(self, tx: Reader, askers: Iterable[Asker]) -> None:
        """Let one transaction at a time lease for each of these labelers in their projects."""
        await tx.fetch(SQL.lock_labelers, *columns(set(askers), 3))

    async def lease_terms(
        self, tx: Reader, askers: Iterable[Asker]
    ) -> dict[Asker, tuple[ProjectPolicy | None, LabelerRow]]:
        """The policy of each one's project (None: there is none), and what they can do."""
        rows = await tx.fetch(SQL.lease_terms, *columns(set(askers), 3))
        return {
            Asker(row["tenant"], row["project"], row["labeler"]): (
                None if row["revision"] is None else policy_of(row),
                LabelerRow(row["labeler"], tuple(row["skills"]), row["suspended"]),
            )
            for row in rows
        }

    async def lock_front(
        self,
        tx: Reader,
        tenant: str,
        project: str,
        skills: Collection[str],
        limit: int,
        labelers: Collection[str],
    ) -> tuple[list[OpenSlot], set[tuple[str, str]]]:
        """The most urgent open slots that are asked of these skills, one of each task, locked.

        And the (labeler, item) among them and these labelers that had to do with each other before.
        """
        rows = await tx.fetch(SQL.lock_front, tenant, project, list(skills), limit, list(labelers))
        slots = [row for row in rows if row["task"] is not None]
        seen = {(row["labeler"], row["item"]) for row in rows[len(slots) :]}
        return [OpenSlot(row["task"], row["number"], row["item"], row["skill"]) for row in slots], seen

    async def lease_labels(
        self,
        tx: Reader,
        tenant: str,
        project: str,
        labeler: str,
        skills: Sequence[str],
        draw: GoldDraw,
        granting: Granting,
        start: ScanStart,
    ) -> tuple[list[Lease], ScanStart]:
        """Choose, take and grant as many label tasks as were drawn, most urgent first, some of them gold.

        Looks from `start` on; also returns how far it looked.
        """
        count = len(draw.nth)
        rows = await tx.fetch(
            SQL.lease_labels, tenant, project, labeler, list(skills), count, [new_lease_id() for _ in range(count)],
            draw.nth, draw.start, granting.seconds, granting.grace, *start,
        )  # fmt: skip
        reached = ScanStart(rows[-1]["urgency"], rows[-1]["place"]) if rows else start
        return [lease_of(row) for row in rows], reached

    async def queue_end(self, tx: Reader, tenant: str, project: str, skills: Sequence[str]) -> ScanStart:
        """The place of the least urgent open slot of these skills; the front where there is none."""
        row = await tx.fetchrow(SQL.queue_end, tenant, project, list(skills))
        return ScanStart(row["urgency"], row["place"]) if row else ScanStart()

    async def lease_given_back(
        self,
        tx: Reader,
        tenant: str,
        project: str,
        labeler: str,
        skills: Sequence[str],
        count: int,
        granting: Granting,
    ) -> list[Lease]:
        """Take and grant up to `count` of the label tasks that this labeler gave back, the longest ago first."""
        ids = [new_lease_id() for _ in range(count)]
        rows = await tx.fetch(
            SQL.lease_given_back, tenant, project, labeler, list(skills), count, ids, granting.seconds,
            granting.grace,
        )  # fmt: skip
        return [lease_of(row) for row in rows]

    async def lease_reviews(
        self, tx: Reader, tenant: str, project: str, labeler: str, count: int, granting: Granting
    ) -> list[Lease]:
        """Choose, take and grant up to `count` reviews, most urgent first."""
        ids = [new_lease_id() for _ in range(count)]
        rows = await tx.fetch(
            SQL.lease_reviews, tenant, project, labeler, count, ids, granting.seconds, granting.grace
        )
        return [lease_of(row) for row in rows]

    async def claimed_tasks(
        self, tx: Reader, tenant: str, project: str, claims: Sequence[Claim]
    ) -> dict[tuple[str, bool], list[ClaimedTask]]:
        """The tasks of the claimed (item, review?), each with as many free slots, locked, as there are claims."""
        wanted: dict[tuple[str, bool], int] = {}
        for claim in claims:
            wanted[claim.item, claim.review] = wanted.get((claim.item, claim.review), 0) + 1
        rows = await tx.fetch(
            SQL.claimed_tasks, tenant, project, *columns([(*key, n) for key, n in wanted.items()], 3)
        )
        found: dict[TaskId, list[asyncpg.Record]] = {}
        for row in rows:
            found.setdefault(row["task"], []).append(row)
        tasks: dict[tuple[str, bool], list[ClaimedTask]] = {}
        for task, slots in found.items():
            first, kind = slots[0], TaskKind(slots[0]["kind"])
            free = tuple((row["number"], row["skill"]) for row in slots if row["number"] is not None)
            claimed = ClaimedTask(
                task, kind, first["audit"], TaskState(first["state"]), first["close_reason"], free
            )
            tasks.setdefault((first["item"], kind is TaskKind.REVIEW), []).append(claimed)
        return tasks

    async def held_leases(
        self, tx: Reader, tenant: str, project: str, claims: Iterable[Claim]
    ) -> dict[tuple[str, str, bool], list[Lease]]:
        """The claimants' own leases on the claimed items that are live or rule out another."""
        distinct = set(claims)
        labels = columns([(c.item, c.labeler) for c in distinct if not c.review], 2)
        reviews = columns([(c.item, c.labeler) for c in distinct if c.review], 2)
        held: dict[tuple[str, str, bool], list[Lease]] = {}
        for row in await tx.fetch(SQL.held_leases, tenant, project, *labels, *reviews):
            lease = lease_of(row)
            held.setdefault((lease.item, lease.labeler, lease.kind is TaskKind.REVIEW), []).append(lease)
        return held

    async def grant(
        self, tx: Reader, tenant: str, project: str, grants: Sequence[Grant], granting: Sequence[Granting]
    ) -> list[Lease]:
        """Take the granted slots and write the leases, in order, each for as long as its `granting` says."""
        rows = [
            (
                new_lease_id(),
                g.task,
                g.slot,
                g.claim.item,
                g.kind.value,
                g.audit,
                g.claim.labeler,
                t.seconds,
                t.grace,
            )
            for g, t in zip(grants, granting, strict=True)
        ]
        written = await tx.fetch(SQL.grant_leases, tenant, project, *columns(rows, 9))
        by_id = {row["lease"]: lease_of(row) for row in written}
        return [by_id[row[0]] for row in rows]
