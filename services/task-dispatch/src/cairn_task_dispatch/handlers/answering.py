"""Closing leases: because an answer came, because the labeler gave it back, because time ran out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cairn_kit.database import Transaction
from cairn_task_dispatch.domain.leases import Lease
from cairn_task_dispatch.domain.names import LeaseId, TaskId
from cairn_task_dispatch.domain.states import LeaseState, TaskKind, after_answer
from cairn_task_dispatch.handlers.announcing import announce_ended
from cairn_task_dispatch.store import Asker, DispatchStore, LeaseChange


@dataclass(frozen=True, slots=True)
class HeardAnswer:
    """An annotation was kept under a lease; `late` by the store's word."""

    tenant: str
    project: str
    task: TaskId
    lease: LeaseId
    late: bool


async def take_answers(tx: Transaction, store: DispatchStore, answers: Sequence[HeardAnswer]) -> None:
    """Close the leases of these answers; an answer that was heard before changes nothing."""
    late = {(a.tenant, a.project, a.lease): a.late for a in answers}
    await store.lock_tasks(tx, {(a.tenant, a.project, a.task) for a in answers})
    leases = await store.leases(tx, late)
    live, ended = [], []
    for lease in leases:
        state = after_answer(lease.state, late=late[lease.tenant, lease.project, lease.lease])
        if lease.state is LeaseState.LIVE:
            live.append(LeaseChange(lease, state))
        elif state is not lease.state:
            ended.append(LeaseChange(lease, state, lease.reason))
    if ended:
        ended = await _make_room(tx, store, [change.lease for change in live], ended)
    await close_leases(tx, store, [*live, *ended])


async def _make_room(
    tx: Transaction, store: DispatchStore, answered: Iterable[Lease], ended: Sequence[LeaseChange]
) -> list[LeaseChange]:
    """Which of the answers under ended leases are recorded: one for each labeler and item.

    A newer live lease of the same labeler is taken back, for they have answered; an answer under a newer lease
    stands, and the older lease stays what it was.
    """
    await store.lock_labelers(tx, {Asker(c.lease.tenant, c.lease.project, c.lease.labeler) for c in ended})
    answered_now = {lease.lease for lease in answered}
    siblings = await store.siblings(tx, [change.lease for change in ended])
    superfluous = [le for le in siblings if le.state is LeaseState.LIVE and le.lease not in answered_now]
    taken_back = {lease.lease for lease in superfluous}
    barred = {_once(lease) for lease in siblings if lease.lease not in taken_back}
    recorded = []
    for change in ended:
        key = _once(change.lease)
        if key not in barred:
            barred.add(key)
            recorded.append(change)
    still_due = {_once(change.lease) for change in recorded}
    await close_leases(
        tx, store, [LeaseChange(le, LeaseState.RELEASED) for le in superfluous if _once(le) in still_due]
    )
    return recorded


def _once(lease: Lease) -> tuple[str, str, str, object]:
    """What a labeler answers once: an item, or for reviews a task."""
    return (
        lease.tenant,
        lease.project,
        lease.labeler,
        lease.task if lease.kind is TaskKind.REVIEW else lease.item,
    )


async def close_leases(tx: Transaction, store: DispatchStore, changes: Sequence[LeaseChange]) -> list[Lease]:
    """Move leases to their last state and their slots with them; the leases' tasks must be locked.

    Those that are not any more what the change says they were stay as they are.
    """
    if not changes:
        return []
    was = {change.lease.lease: change.lease.state for change in changes}
    changed = await store.change_leases(tx, changes)
    held_slot = [lease for lease in changed if was[lease.lease] is LeaseState.LIVE]
    await store.answer_slots(tx, [le for le in held_slot if le.state is LeaseState.ANSWERED])
    await store.free_slots(tx, [le for le in held_slot if le.state is not LeaseState.ANSWERED])
    without_answer = {LeaseState.RELEASED, LeaseState.SKIPPED, LeaseState.EXPIRED}
    announce_ended(tx, [lease for lease in changed if lease.state in without_answer])
    return changed
