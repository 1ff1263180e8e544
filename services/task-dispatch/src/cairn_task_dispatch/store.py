"""The only caller of SQL: rows in, rows out, as domain values. Every method is one statement over arrays.

Statements that lock say so in their name; sql/queries.sql states the one order of locks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import asyncpg

from cairn_kit.database import Queries
from cairn_task_dispatch.domain.gold import GoldDraw
from cairn_task_dispatch.domain.handing_out import OpenSlot
from cairn_task_dispatch.domain.leases import Claim, ClaimedTask, Grant, Lease
from cairn_task_dispatch.domain.names import LeaseId, TaskId, new_lease_id, new_task_id
from cairn_task_dispatch.domain.states import Decision, LeaseState, Route, TaskKind, TaskState
from cairn_task_dispatch.domain.tasks import ItemRef, Step, Task
from cairn_task_dispatch.domain.wishes import ItemFacts, ProjectPolicy

SQL = Queries.load("cairn_task_dispatch", "sql/queries.sql")


class Reader(Protocol):
    """A transaction, or the database for single statements on their own."""

    async def fetch(self, statement: str, *values: Any) -> list[asyncpg.Record]:
        """All rows."""
        ...

    async def fetchrow(self, statement: str, *values: Any) -> asyncpg.Record | None:
        """The first row, or None."""
        ...

    async def execute(self, statement: str, *values: Any) -> str:
        """The command tag."""
        ...


class ProjectRef(NamedTuple):
    """One project of one tenant."""

    tenant: str
    project: str


class Asker(NamedTuple):
    """A labeler who asks for work in a project."""

    tenant: str
    project: str
    labeler: str


@dataclass(frozen=True, slots=True)
class LabelerRow:
    """What a labeler is able to do."""

    labeler: str
    skills: tuple[str, ...] = ()
    suspended: bool = False
    revision: int = 0
    """0: never set up."""


@dataclass(frozen=True, slots=True)
class LabelerChange:
    """What becomes of a labeler; None is left as it is."""

    labeler: str
    skills: tuple[str, ...] | None
    suspended: bool | None
    revision: int | None
    """The revision that must stand, 0 when there must be none; None: whatever stands."""


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """Counts of a project's tasks and leases at one moment; gold tasks are left out."""

    as_of: datetime
    open_tasks: int
    filled_tasks: int
    closed_tasks: int
    open_reviews: int
    open_slots: int
    live_leases: int


@dataclass(frozen=True, slots=True)
class Granting:
    """How long new leases last, and the grace before they are asked about; in seconds."""

    seconds: float
    grace: float


@dataclass(frozen=True, slots=True)
class LeaseChange:
    """A lease's step to another state."""

    lease: Lease
    state: LeaseState
    reason: str = ""


class ScanStart(NamedTuple):
    """A place in the queue of open slots, most urgent first."""

    urgency: float = float("-inf")
    """Minus the priority."""
    place: int = 0


class SlotCounts(NamedTuple):
    """Slots of a task: in all, answered, leased."""

    slots: int
    answered: int
    live: int


def _columns(rows: Iterable[Sequence[Any]], width: int) -> list[list[Any]]:
    """Rows as the columns that `unnest` wants."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    return columns or [[] for _ in range(width)]


class DispatchStore:
    """Tasks, slots, leases, labelers and what they follow from."""

    # --- projects and items

    async def save_projects(self, tx: Reader, projects: Mapping[ProjectRef, ProjectPolicy]) -> None:
        """Write policies; an older revision changes nothing."""
        rows = [(*ref, *astuple(policy)) for ref, policy in projects.items()]
        await tx.execute(SQL.upsert_projects, *_columns(rows, 9))

    async def projects(self, tx: Reader, refs: Iterable[ProjectRef]) -> dict[ProjectRef, ProjectPolicy]:
        """The policies of the projects that are known."""
        rows = await tx.fetch(SQL.projects, *_columns(set(refs), 2))
        return {ProjectRef(row["tenant"], row["project"]): _policy(row) for row in rows}

    async def lock_items(self, tx: Reader, refs: Collection[ItemRef]) -> dict[ItemRef, ItemFacts]:
        """The facts of these items, locked; items that are new here are made.

        Their projects are locked too, against other decisions until the end of the transaction.
        """
        projects = {(r.tenant, r.project) for r in refs}
        await tx.fetch(SQL.lock_projects, *_columns(projects, 2))
        columns = _columns({(r.tenant, r.project, r.item) for r in refs}, 3)
        await tx.execute(SQL.ensure_items, *columns)
        return {_ref(row): _facts(row) for row in await tx.fetch(SQL.lock_items, *columns)}

    async def items(
        self, tx: Reader, tenant: str, project: str, items: Iterable[str]
    ) -> dict[str, ItemFacts]:
        """The facts of those of a project's items that are known."""
        rows = await tx.fetch(SQL.items, tenant, project, list(set(items)))
        return {row["item"]: _facts(row) for row in rows}

    async def save_items(self, tx: Reader, facts: Mapping[ItemRef, ItemFacts]) -> None:
        """Write the facts of locked items."""
        rows = [
            (
                ref.tenant, ref.project, ref.item, f.imported, f.gold, f.route.value, f.route_revision, f.priority,
                f.decision.value, f.decision_revision, f.answers_wanted, f.skill, f.settled, f.wished, f.cancelled_at,
                f.review_cancelled_at, f.cancel_reason, f.reviews_wished, f.review_priority,
            )
            for ref, f in facts.items()
        ]  # fmt: skip
        await tx.execute(SQL.save_items, *_columns(rows, 19))

    # --- tasks and slots

    async def lock_tasks_of_items(self, tx: Reader, refs: Iterable[ItemRef]) -> list[Task]:
        """Every task of these items, locked, with the counts of its slots."""
        columns = _columns({(r.tenant, r.project, r.item) for r in refs}, 3)
        rows = await tx.fetch(SQL.lock_tasks_of_items, *columns)
        counts = await self._count(tx, SQL.count_slots, rows)
        return [_task(row, counts) for row in rows]

    async def lock_tasks(self, tx: Reader, tasks: Iterable[tuple[str, str, TaskId]]) -> None:
        """Lock these tasks (tenant, project, task)."""
        await tx.fetch(SQL.lock_tasks, *_columns(set(tasks), 3))

    async def _count(
        self, tx: Reader, statement: str, rows: Sequence[Any]
    ) -> dict[tuple[str, str, TaskId], SlotCounts]:
        if not rows:
            return {}
        keys = _columns([(row["tenant"], row["project"], row["task"]) for row in rows], 3)
        return {
            (row["tenant"], row["project"], row["task"]): SlotCounts(
                row["slots"], row["answered"], row["live"]
            )
            for row in await tx.fetch(statement, *keys)
        }

    async def take_steps(self, tx: Reader, steps: Sequence[Step], tasks: Mapping[TaskId, Task]) -> list[Task]:
        """Make and change tasks and their slots; the tasks as they are then, in the order of the steps."""
        made = await self._make_tasks(tx, [step for step in steps if step.task is None])
        changes = [step for step in steps if step.task is not None]
        if changes:
            rows = [(*_key(s), s.state.value, s.close_reason, s.priority, s.skill) for s in changes]
            await tx.execute(SQL.change_tasks, *_columns(rows, 7))
        closing = [_key(step) for step in changes if step.state is TaskState.CLOSED]
        if closing:
            await tx.execute(SQL.withdraw_slots, *_columns(closing, 3))
        offered = [(*_key(s), s.priority, s.skill) for s in changes if s.state is TaskState.OPEN]
        if offered:
            await tx.execute(SQL.offer_slots, *_columns(offered, 5))
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
            await tx.execute(SQL.add_slots, *_columns(grown, 10))
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
        made = {row["task"]: row for row in await tx.fetch(SQL.make_tasks, *_columns(rows, 8))}
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
        last = after or ("", 0.0, 0)
        statement = SQL.list_tasks_of_item if item else SQL.list_tasks
        rows = await tx.fetch(statement, tenant, project, state, item, *last, limit)
        return await self._with_counts(tx, rows)

    async def _with_counts(self, tx: Reader, rows: Sequence[Any]) -> list[Task]:
        gold = [row for row in rows if row["kind"] == "GOLD"]
        counts = await self._count(tx, SQL.count_slots, [row for row in rows if row["kind"] != "GOLD"])
        counts |= await self._count(tx, SQL.count_gold_leases, gold)
        return [_task(row, counts) for row in rows]

    async def queue(self, tx: Reader, tenant: str, project: str) -> QueueCounts:
        """Counts of a project, now."""
        [row] = await tx.fetch(SQL.queue, tenant, project)
        return QueueCounts(**dict(row))

    # --- granting leases

    async def lock_labelers(self, tx: Reader, askers: Iterable[Asker]) -> None:
        """Let one transaction at a time lease for each of these labelers in their projects."""
        await tx.fetch(SQL.lock_labelers, *_columns(set(askers), 3))

    async def lease_terms(
        self, tx: Reader, askers: Iterable[Asker]
    ) -> dict[Asker, tuple[ProjectPolicy | None, LabelerRow]]:
        """The policy of each one's project (None: there is none), and what they can do."""
        rows = await tx.fetch(SQL.lease_terms, *_columns(set(askers), 3))
        return {
            Asker(row["tenant"], row["project"], row["labeler"]): (
                None if row["revision"] is None else _policy(row),
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
        seen = {(labeler, row["item"]) for row in rows for labeler in row["seen_by"]}
        return [OpenSlot(row["task"], row["number"], row["item"], row["skill"]) for row in rows], seen

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
        return [_lease(row) for row in rows], reached

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
        return [_lease(row) for row in rows]

    async def lease_reviews(
        self, tx: Reader, tenant: str, project: str, labeler: str, count: int, granting: Granting
    ) -> list[Lease]:
        """Choose, take and grant up to `count` reviews, most urgent first."""
        ids = [new_lease_id() for _ in range(count)]
        rows = await tx.fetch(
            SQL.lease_reviews, tenant, project, labeler, count, ids, granting.seconds, granting.grace
        )
        return [_lease(row) for row in rows]

    async def claimed_tasks(
        self, tx: Reader, tenant: str, project: str, claims: Sequence[Claim]
    ) -> dict[tuple[str, bool], list[ClaimedTask]]:
        """The tasks of the claimed (item, review?), each with as many free slots, locked, as there are claims."""
        wanted: dict[tuple[str, bool], int] = {}
        for claim in claims:
            wanted[claim.item, claim.review] = wanted.get((claim.item, claim.review), 0) + 1
        rows = await tx.fetch(
            SQL.claimed_tasks, tenant, project, *_columns([(*key, n) for key, n in wanted.items()], 3)
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
        labels = _columns([(c.item, c.labeler) for c in distinct if not c.review], 2)
        reviews = _columns([(c.item, c.labeler) for c in distinct if c.review], 2)
        held: dict[tuple[str, str, bool], list[Lease]] = {}
        for row in await tx.fetch(SQL.held_leases, tenant, project, *labels, *reviews):
            lease = _lease(row)
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
        written = await tx.fetch(SQL.grant_leases, tenant, project, *_columns(rows, 9))
        by_id = {row["lease"]: _lease(row) for row in written}
        return [by_id[row[0]] for row in rows]

    # --- leases

    async def leases(self, tx: Reader, keys: Iterable[tuple[str, str, LeaseId]]) -> list[Lease]:
        """Those of the leases (tenant, project, lease) that there are."""
        return [_lease(row) for row in await tx.fetch(SQL.leases, *_columns(set(keys), 3))]

    async def extend_leases(
        self, tx: Reader, leases: Sequence[Lease], granting: Sequence[Granting]
    ) -> list[Lease]:
        """Give leases more time, those that are live; time is never taken away."""
        rows = [
            (le.tenant, le.project, le.lease, terms.seconds, terms.grace)
            for le, terms in zip(leases, granting, strict=True)
        ]
        return [_lease(row) for row in await tx.fetch(SQL.extend_leases, *_columns(rows, 5))]

    async def siblings(self, tx: Reader, leases: Iterable[Lease]) -> list[Lease]:
        """Other leases of the same labelers on the same items (reviews: tasks), live or answered or skipped."""
        rows = [
            (le.tenant, le.project, le.labeler, le.item, le.kind.value, le.task, le.lease) for le in leases
        ]
        return [_lease(row) for row in await tx.fetch(SQL.siblings, *_columns(rows, 7))]

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
        return [_lease(row) for row in await tx.fetch(SQL.change_leases, *_columns(rows, 6))]

    async def free_slots(self, tx: Reader, leases: Iterable[Lease]) -> None:
        """Offer the slots of ended leases again, or withdraw them when their task is closed."""
        await self._slots(tx, SQL.free_slots, leases)

    async def answer_slots(self, tx: Reader, leases: Iterable[Lease]) -> None:
        """Mark the slots of answered leases, and the tasks that are filled by it."""
        await self._slots(tx, SQL.answer_slots, leases)
        tasks = {(le.tenant, le.project, le.task) for le in leases if le.slot is not None}
        if tasks:
            await tx.execute(SQL.fill_tasks, *_columns(tasks, 3))

    async def _slots(self, tx: Reader, statement: str, leases: Iterable[Lease]) -> None:
        rows = [(le.tenant, le.project, le.task, le.slot) for le in leases if le.slot is not None]
        if rows:
            await tx.execute(statement, *_columns(rows, 4))

    async def take_due_leases(self, tx: Reader, limit: int, retry_seconds: float) -> list[Lease]:
        """Live leases whose time and grace are over, taken by this caller for `retry_seconds`."""
        return [_lease(row) for row in await tx.fetch(SQL.take_due_leases, limit, retry_seconds)]

    # --- labelers

    async def labelers(
        self, tx: Reader, labelers: Iterable[tuple[str, str]]
    ) -> dict[tuple[str, str], LabelerRow]:
        """Each of these (tenant, labeler); one that was never set up has no skills."""
        keys = set(labelers)
        rows = await tx.fetch(SQL.labelers, *_columns(keys, 2))
        found = {(row["tenant"], row["labeler"]): _labeler(row) for row in rows}
        return {key: found.get(key) or LabelerRow(key[1]) for key in keys}

    async def list_labelers(self, tx: Reader, tenant: str, after: str, limit: int) -> list[LabelerRow]:
        """Labelers that were set up, by name."""
        return [_labeler(row) for row in await tx.fetch(SQL.list_labelers, tenant, after, limit)]

    async def save_labeler(self, tx: Reader, tenant: str, change: LabelerChange) -> LabelerRow | None:
        """Change a labeler, or make one; None when another revision stands than the change was made for."""
        skills = None if change.skills is None else list(change.skills)
        row = await tx.fetchrow(
            SQL.save_labeler, tenant, change.labeler, skills, change.suspended, change.revision
        )
        return None if row is None else _labeler(row)

    # --- the planner

    async def refresh_statistics(self, tx: Reader) -> list[str]:
        """Have the planner look again at tables that have grown much; returns their names.

        Autovacuum does so too, but looks once a minute: an import fills a table in seconds, and a plan made for the
        empty table reads all of it for each row.
        """
        names = [row["name"] for row in await tx.fetch(SQL.grown_tables)]
        for name in names:
            await tx.execute(f"ANALYZE {name}")
        return names


# --- rows to values


def _policy(row: Any) -> ProjectPolicy:
    return ProjectPolicy(
        row["revision"], row["min_answers"], row["gold_share"], row["lease_seconds"], row["reviews_disputes"],
        row["required_skill"], row["archived"],
    )  # fmt: skip


def _ref(row: Any) -> ItemRef:
    return ItemRef(row["tenant"], row["project"], row["item"])


def _facts(row: Any) -> ItemFacts:
    return ItemFacts(
        row["imported"], row["gold"], Route(row["route"]), row["route_revision"], row["priority"],
        Decision(row["decision"]), row["decision_revision"], row["answers_wanted"], row["skill"], row["settled"],
        row["wished"], row["cancelled_at"], row["review_cancelled_at"], row["cancel_reason"],
        row["reviews_wished"], row["review_priority"],
    )  # fmt: skip


def _task(row: Any, counts: Mapping[tuple[str, str, TaskId], SlotCounts]) -> Task:
    counted = counts.get((row["tenant"], row["project"], row["task"]), SlotCounts(0, 0, 0))
    return Task(
        _ref(row), row["task"], TaskKind(row["kind"]), row["audit"], TaskState(row["state"]), row["close_reason"],
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


def _lease(row: Any) -> Lease:
    return Lease(
        row["tenant"], row["project"], row["lease"], row["task"], row["slot"], row["item"], TaskKind(row["kind"]),
        row["audit"], row["labeler"], LeaseState(row["state"]), row["reason"], row["created_at"], row["expires_at"],
        row["live_now"],
    )  # fmt: skip


def _labeler(row: Any) -> LabelerRow:
    return LabelerRow(row["labeler"], tuple(row["skills"]), row["suspended"], row["revision"])
