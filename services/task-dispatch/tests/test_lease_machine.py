"""Hypothesis drives leases against a small model; after each step SQL looks for a broken promise (P2).

The model knows, for each task, how many answers are wanted, who holds a live lease, who has answered in time or late,
and who has skipped. Whatever order of commands and events Hypothesis finds, service and model agree.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cairn.dispatch.v1 import task_dispatch_pb2 as pb
from cairn_kit.database import Database
from cairn_kit.errors import FailedPrecondition
from cairn_kit.testing.servers import fresh_database

ITEMS = ("a", "b", "c")
LABELERS = ("ann", "bob", "cem", "dia")
LEASE_SECONDS = 60
items, labelers = st.sampled_from(ITEMS), st.sampled_from(LABELERS)
_tenants = count(1)


@dataclass
class Model:
    """One task, as the promise has it."""

    wanted: int = 2
    closed: bool = False
    revision: int = 0
    live: dict[str, pb.Lease] = field(default_factory=dict)
    overdue: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)
    barred: set[str] = field(default_factory=set)
    """Who will never get it again: answered (in time or late) or skipped."""
    ended: list[tuple[str, pb.Lease]] = field(default_factory=list)

    def may_lease(self, labeler: str) -> bool:
        room = self.wanted - len(self.live) - len(self.answered)
        return not self.closed and room > 0 and labeler not in self.live and labeler not in self.barred

    @property
    def state(self) -> str:
        if self.closed:
            return "CLOSED"
        return "FILLED" if len(self.answered) >= self.wanted else "OPEN"


def machine(kit, runner: asyncio.Runner, database: Database) -> type[RuleBasedStateMachine]:
    """The state machine on a database."""

    class Leases(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.desk = kit.Desk(database, tenant=f"tenant-{next(_tenants)}")
            self.tasks = {item: Model() for item in ITEMS}
            self.said: list[object] = []
            self.run(self.desk.open(*ITEMS, min_answers=2, lease_seconds=LEASE_SECONDS))

        def run(self, work):
            return runner.run(work)

        def hear(self, *messages) -> None:
            self.said += messages
            self.run(self.desk.hear(*messages))

        def key(self, lease: pb.Lease) -> str:
            return lease.item.rsplit("/", 1)[1]

        # --- commands

        @rule(labeler=labelers, most=st.integers(1, 4))
        def lease(self, labeler, most):
            may = {item for item, task in self.tasks.items() if task.may_lease(labeler)}
            leases = self.run(self.desk.lease(labeler, most))
            assert len(leases) == min(most, len(may))
            for lease in leases:
                assert self.key(lease) in may
                self.tasks[self.key(lease)].live[labeler] = lease

        @rule(claims=st.lists(st.tuples(items, labelers), min_size=1, max_size=6))
        def claim(self, claims):
            results = self.run(self.desk.claim(*claims))
            for (item, labeler), result in zip(claims, results, strict=True):
                task = self.tasks[item]
                if labeler in task.live and labeler not in task.overdue:
                    assert result.lease.name == task.live[labeler].name
                elif task.may_lease(labeler):
                    task.live[labeler] = result.lease
                    assert result.lease.name
                elif labeler in task.barred:
                    assert kit.reason(result) == "ALREADY_ANSWERED"
                elif task.closed and labeler not in task.live:
                    assert kit.reason(result) == "TASK_CLOSED"
                else:
                    assert kit.reason(result) == "NO_OPEN_SLOT"

        def a_live_lease(self, data, *, in_time: bool | None = None):
            held = [
                (item, labeler)
                for item, task in self.tasks.items()
                for labeler in task.live
                if in_time is None or in_time == (labeler not in task.overdue)
            ]
            return data.draw(st.sampled_from(held)) if held else None

        @rule(data=st.data(), skip=st.booleans())
        def give_back(self, data, skip):
            held = self.a_live_lease(data)
            if held is None:
                return
            item, labeler = held
            task = self.tasks[item]
            lease = task.live[labeler]
            back = self.desk.skip(lease) if skip else self.desk.release(lease)
            if labeler in task.overdue:
                with pytest.raises(FailedPrecondition, match="its time is over"):
                    self.run(back)
                return
            self.run(back)
            del task.live[labeler]
            task.ended.append((labeler, lease))
            if skip:
                task.barred.add(labeler)

        # --- answers

        @rule(data=st.data())
        def answer_in_time(self, data):
            held = self.a_live_lease(data, in_time=True)
            if held is None:
                return
            item, labeler = held
            task = self.tasks[item]
            self.hear(self.desk.words.submitted(task.live.pop(labeler)))
            task.answered.add(labeler)
            task.barred.add(labeler)

        @rule(data=st.data())
        def answer_late_before_it_was_settled(self, data):
            held = self.a_live_lease(data, in_time=False)
            if held is None:
                return
            item, labeler = held
            task = self.tasks[item]
            task.overdue.discard(labeler)
            self.hear(self.desk.words.submitted(task.live.pop(labeler), late=True))
            task.barred.add(labeler)

        @rule(data=st.data(), late=st.booleans())
        def answer_after_the_end(self, data, late):
            ended = [(i, n) for i, task in self.tasks.items() for n in range(len(task.ended))]
            if not ended:
                return
            item, number = data.draw(st.sampled_from(ended))
            task = self.tasks[item]
            labeler, lease = task.ended[number]
            self.hear(self.desk.words.submitted(lease, late=late))
            newer = task.live.pop(labeler, None)
            if newer is not None:  # they have answered: the newer lease is taken back
                task.overdue.discard(labeler)
            task.barred.add(labeler)

        @precondition(lambda self: self.said)
        @rule(data=st.data())
        def hear_it_again(self, data):
            self.run(self.desk.hear(data.draw(st.sampled_from(self.said))))

        # --- time

        @rule()
        def time_passes(self):
            self.run(self.desk.pass_time(LEASE_SECONDS + kit.GRACE + 1))
            for task in self.tasks.values():
                task.overdue = set(task.live)

        @rule(data=st.data())
        def expire(self, data):
            overdue = [(i, who) for i, task in self.tasks.items() for who in sorted(task.overdue)]
            answered = set(data.draw(st.lists(st.sampled_from(overdue), unique=True))) if overdue else set()
            late = data.draw(st.booleans())
            self.desk.answered.late = {self.tasks[i].live[who].name: late for i, who in answered}
            self.run(self.desk.make_due_again())
            self.run(self.desk.expiry.expire())
            for item, labeler in overdue:
                task = self.tasks[item]
                lease = task.live.pop(labeler)
                task.overdue.discard(labeler)
                if (item, labeler) not in answered:
                    task.ended.append((labeler, lease))
                    continue
                task.barred.add(labeler)
                if not late:
                    task.answered.add(labeler)

        # --- what others decide

        @rule(item=items, more=st.integers(0, 2))
        def more_wanted(self, item, more):
            task = self.tasks[item]
            task.revision += 1
            task.wanted += more
            task.closed = False
            self.hear(self.desk.words.wanted(item, task.wanted, task.revision))

        @rule(item=items)
        def reached(self, item):
            task = self.tasks[item]
            task.revision += 1
            task.closed = True
            self.hear(self.desk.words.reached(item, task.revision))

        # --- what must hold

        @invariant()
        def the_promise_holds(self):
            assert self.run(self.desk.broken_promises()) == []

        @invariant()
        def service_and_model_agree(self):
            tasks = self.run(
                self.desk.store.list_tasks(
                    database, self.desk.tenant, "birds", state="", item="", after=None, limit=9
                )
            )
            seen = {task.ref.item: (task.state.value, task.slots, task.answered, task.live) for task in tasks}
            assert seen == {
                item: (model.state, model.wanted, len(model.answered), len(model.live))
                for item, model in self.tasks.items()
            }

    return Leases


def test_leases_keep_their_promise_in_every_order(kit):
    with asyncio.Runner() as runner:
        database = Database(
            runner.run(fresh_database("task-dispatch", kit.MIGRATIONS)), "task_dispatch", pool_min=0
        )
        runner.run(database.open())
        try:
            run_state_machine_as_test(
                machine(kit, runner, database),
                settings=settings(
                    max_examples=25,
                    stateful_step_count=25,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(database.close())
