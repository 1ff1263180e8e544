"""Leases, and what becomes of a claim on a given item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cairn_kit.errors import CairnError, FailedPrecondition, NotFound, ResourceExhausted
from cairn_task_dispatch.domain.names import LeaseId, TaskId, item_name
from cairn_task_dispatch.domain.states import LeaseState, TaskKind, TaskState

SHORTEST = 0.001
"""Seconds that a lease lasts at least, whoever wished for less: the database's clock can tell that from none."""


@dataclass(frozen=True, slots=True)
class Lease:
    """One labeler's right to fill a slot until a time. Gold has no slot."""

    tenant: str
    project: str
    lease: LeaseId
    task: TaskId
    slot: int | None
    item: str
    kind: TaskKind
    audit: str
    labeler: str
    state: LeaseState
    reason: str
    created_at: datetime
    expires_at: datetime
    live_now: bool = True
    """Whether it is LIVE and its time is not over, by the database's clock when it was read."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One item for one labeler, label or review."""

    item: str
    labeler: str
    review: bool


@dataclass(frozen=True, slots=True)
class ClaimedItem:
    """What stands about the item of a claim, and about its labeler, when the claim is decided."""

    imported: bool
    closed: str
    """Why no answers are wanted, though there is no task; empty when they may be."""
    suspended: bool
    skills: frozenset[str]


@dataclass(frozen=True, slots=True)
class ClaimedTask:
    """A task that would serve a claim. `slots` are those locked for it: (number, skill), lowest first."""

    task: TaskId
    kind: TaskKind
    audit: str
    state: TaskState
    close_reason: str
    slots: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Grant:
    """A claim that is granted: a new lease on this slot (None for gold)."""

    claim: Claim
    task: TaskId
    slot: int | None
    kind: TaskKind
    audit: str


Outcome = Grant | Lease | CairnError
"""A new lease, the live lease that this labeler has already, or why not."""


def decide_claims(
    project: str,
    required_skill: str,
    claims: Sequence[Claim],
    items: Mapping[Claim, ClaimedItem],
    tasks: Mapping[tuple[str, bool], Sequence[ClaimedTask]],
    held: Mapping[tuple[str, str, bool], Sequence[Lease]],
) -> list[Outcome]:
    """What becomes of each claim, in order; earlier claims take the lower slots.

    `tasks` are the tasks of (item, review?), most urgent first; `held` the leases of (item, labeler, review?) that are
    live or rule out another.
    """
    taken: set[tuple[TaskId, int]] = set()
    granted: dict[Claim, Grant] = {}
    outcomes: list[Outcome] = []
    for claim in claims:
        outcome: Outcome = granted.get(claim) or _decide(
            project, required_skill, claim, items.get(claim), tasks, held, taken
        )
        if isinstance(outcome, Grant):
            granted[claim] = outcome
            if outcome.slot is not None:
                taken.add((outcome.task, outcome.slot))
        outcomes.append(outcome)
    return outcomes


def _decide(
    project: str,
    required_skill: str,
    claim: Claim,
    item: ClaimedItem | None,
    tasks: Mapping[tuple[str, bool], Sequence[ClaimedTask]],
    held: Mapping[tuple[str, str, bool], Sequence[Lease]],
    taken: set[tuple[TaskId, int]],
) -> Outcome:
    name = item_name(project, claim.item)
    if item is None or not item.imported:
        return NotFound(
            "ITEM_NOT_FOUND", f"There is no {name} (or it was imported a moment ago).", resource=name
        )
    if item.suspended:
        return suspended(claim.labeler)
    mine = held.get((claim.item, claim.labeler, claim.review), ())
    live = next((lease for lease in mine if lease.live_now), None)
    if live is not None:
        return live
    candidates = tasks.get((claim.item, claim.review), ())
    if not candidates:
        return _no_task(item, claim, name)
    outcomes = [
        _decide_on(task, required_skill, claim, item.skills, mine, taken, name) for task in candidates
    ]
    return next((outcome for outcome in outcomes if isinstance(outcome, Grant)), outcomes[0])


def _decide_on(
    task: ClaimedTask,
    required_skill: str,
    claim: Claim,
    skills: frozenset[str],
    mine: Sequence[Lease],
    taken: set[tuple[TaskId, int]],
    name: str,
) -> Grant | CairnError:
    before = [lease for lease in mine if not claim.review or lease.task == task.task]
    if any(lease.state is not LeaseState.LIVE for lease in before):
        return FailedPrecondition(
            "ALREADY_ANSWERED", f"{claim.labeler} has answered or skipped {name}.", resource=name
        )
    if before:  # live, but its time is over: it is being settled
        return no_open_slot(name)
    if task.state is TaskState.CLOSED:
        return task_closed(name, task.close_reason)
    asked = "" if claim.review else required_skill
    if task.kind is TaskKind.GOLD:
        if asked and asked not in skills:
            return skill_missing(claim.labeler, asked)
        return Grant(claim, task.task, None, task.kind, task.audit)
    free = [slot for slot in task.slots if (task.task, slot[0]) not in taken]
    if not free:
        return no_open_slot(name)
    able = [number for number, skill in free if not (skill or asked) or (skill or asked) in skills]
    if not able:
        return skill_missing(claim.labeler, free[0][1] or asked)
    return Grant(claim, task.task, able[0], task.kind, task.audit)


def _no_task(item: ClaimedItem, claim: Claim, name: str) -> CairnError:
    if item.closed and not claim.review:
        return task_closed(name, item.closed)
    what = "review" if claim.review else "task"
    return FailedPrecondition("NO_TASK_YET", f"{name} has no {what} yet.", resource=name)


def task_closed(name: str, reason: str) -> CairnError:
    """No more answers are wanted on the item."""
    return FailedPrecondition(
        "TASK_CLOSED", f"No more answers are wanted on {name}: {reason}.", resource=name
    )


def no_open_slot(name: str) -> CairnError:
    """All wanted answers are in or on their way; that may change soon."""
    return ResourceExhausted(
        "NO_OPEN_SLOT",
        f"Every answer wanted on {name} is given or leased out; try again soon.",
        retry_after=0.1,
        resource=name,
    )


def skill_missing(labeler: str, skill: str) -> CairnError:
    """The labeler lacks the skill that is asked for."""
    return FailedPrecondition("SKILL_MISSING", f"{labeler} does not have the skill {skill}.", skill=skill)


def suspended(labeler: str) -> CairnError:
    """The labeler gets no work."""
    return FailedPrecondition("LABELER_SUSPENDED", f"{labeler} is suspended.", resource=labeler)


def lease_not_live(name: str, state: LeaseState) -> CairnError:
    """The lease has ended, or its time is over."""
    told = "its time is over" if state is LeaseState.LIVE else f"it is {state.value}"
    return FailedPrecondition("LEASE_NOT_LIVE", f"{name} is not live: {told}.", resource=name)
