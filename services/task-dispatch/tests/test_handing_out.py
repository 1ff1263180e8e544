"""Several who ask at once share the front of the queue, each as if alone."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cairn.dispatch.v1 import task_dispatch_pb2 as pb
from cairn_kit.errors import FailedPrecondition
from cairn_task_dispatch.domain.handing_out import OpenSlot, Want, hand_out, pause
from cairn_task_dispatch.handlers.answers_heard import AnswersHeard


def slot(n: int, skill: str = "") -> OpenSlot:
    return OpenSlot(UUID(int=n), 1, f"item-{n}", skill)


def want(labeler: str, tasks: int = 1, *skills: str) -> Want:
    return Want(labeler, frozenset(skills or ("",)), tasks)


def test_who_asked_first_chooses_first_and_nobody_gets_what_another_has():
    front = [slot(n) for n in range(5)]
    handed = hand_out(front, [want("ann", 2), want("bob"), want("cid", 9)], ())
    assert handed == [front[:2], front[2:3], front[3:]]


def test_what_a_labeler_has_seen_goes_to_another():
    front = [slot(0), slot(1)]
    handed = hand_out(front, [want("ann"), want("bob")], {("ann", "item-0"), ("bob", "item-1")})
    assert handed == [[front[1]], [front[0]]]


def test_two_calls_of_one_labeler_are_not_given_one_item_twice():
    twice = [slot(0), OpenSlot(UUID(int=7), 1, "item-0", "")]
    assert hand_out(twice, [want("ann"), want("ann"), want("bob")], ()) == [[twice[0]], [], [twice[1]]]


def test_a_skill_is_asked_of_those_who_have_it():
    front = [slot(0, "birds"), slot(1), slot(2, "fish")]
    handed = hand_out(front, [want("ann"), want("bob", 3, "", "birds"), want("cid", 1, "fish")], ())
    assert handed == [[front[1]], [front[0]], [front[2]]]


@pytest.mark.parametrize(
    ("late", "tasks", "seconds"),
    [(0.0, 50, 0.0), (1.0, 50, 0.0), (1.5, 50, 0.5), (1.5, 11, 0.5), (60.0, 50, 2.0), (60.0, 10, 0.0)],
)
def test_who_asks_for_many_waits_while_answers_are_heard_of_late(late, tasks, seconds):
    assert pause(late, tasks) == seconds


def test_that_answers_were_late_is_forgotten_when_none_come_any_more(desk):
    now = 100.0
    answers = AnswersHeard(lambda: now)
    assert answers.late == 0.0
    event = desk.received(desk.words.imported("k"))
    event.time -= timedelta(seconds=30)
    answers.hear([event, desk.received(desk.words.imported("k"))])
    assert 30.0 <= answers.late < 35.0
    now += 20.0
    assert answers.late >= 30.0, "others may be heard of before the next answers"
    now += 20.0
    assert answers.late == 0.0


async def test_a_call_for_many_waits_and_one_for_few_does_not(desk):
    await desk.open(*(f"k{n}" for n in range(20)))
    [lease] = await desk.lease("ann")
    # given an answer that is heard of half a minute late
    answered = desk.received(desk.words.submitted(lease))
    answered.time -= timedelta(seconds=30)
    async with desk.database.transaction() as tx:
        await desk.hearings.on_annotations(tx, [answered])
    # when some ask for few and some for many
    began = time.monotonic()
    assert len(await desk.lease("bob", 3)) == 3
    few = time.monotonic() - began
    assert len(await desk.lease("cid", 11)) == 11
    # then these have waited
    assert time.monotonic() - began - few >= 2.0


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from(["", "birds"])), max_size=12, unique_by=lambda s: s[0]
    ),
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4), st.booleans()), max_size=6),
    st.sets(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=10),
)
def test_whatever_is_asked_the_rules_hold(slots, calls, before):
    front = [slot(n, skill) for n, skill in slots]
    wants = [want(who, tasks, *(("", "birds") if able else ())) for who, tasks, able in calls]
    seen = {(who, f"item-{n}") for who, n in before}
    handed = hand_out(front, wants, seen)
    given_out = [s for chosen in handed for s in chosen]
    assert len(given_out) == len(set(given_out))
    left = [s for s in front if s not in given_out]
    for asked, chosen in zip(wants, handed, strict=True):
        assert len(chosen) <= asked.tasks
        assert all(s.skill in asked.skills and (asked.labeler, s.item) not in seen for s in chosen)
        own = {s.item for w, c in zip(wants, handed, strict=True) if w.labeler == asked.labeler for s in c}
        if len(chosen) < asked.tasks:  # nothing was left that would have done
            assert not [
                s
                for s in left
                if s.skill in asked.skills and (asked.labeler, s.item) not in seen and s.item not in own
            ]


async def test_calls_that_come_together_are_answered_each_for_itself(desk):
    await desk.open("a", "b", "c", "d", "e", priority=0.5)
    await desk.hear(desk.words.routed("e", revision=2, priority=0.9))
    await desk.labeler("out", suspended=True)

    async def ask(who: str) -> pb.LeaseTasksResponse:
        request = pb.LeaseTasksRequest(parent=desk.words.name, max_tasks=2, request_id=f"{who}-1")
        return await desk.handing_out.lease_tasks(desk.tenant, f"labelers/{who}", request)

    first, out, second, again = await asyncio.gather(
        ask("ann"), ask("out"), ask("bob"), ask("ann"), return_exceptions=True
    )
    assert isinstance(out, FailedPrecondition)
    assert [lease.item[-1] for lease in first.leases] == ["e", "a"], "the most urgent first"
    assert len(second.leases) == 2
    assert {lease.item for lease in second.leases}.isdisjoint(lease.item for lease in first.leases)
    assert [lease.name for lease in again.leases] == [lease.name for lease in first.leases], "one request"
    assert await desk.announced("LeasesGranted") == 1
    assert await desk.broken_promises() == []


@pytest.mark.parametrize("together", [True, False])
async def test_who_has_answered_all_at_the_front_finds_what_is_behind_it(desk, together):
    await desk.open(*(f"i{n:02}" for n in range(30)), min_answers=2)
    had = await desk.lease("ann", 25)
    calls = [desk.lease("ann", 3), *([desk.lease("bob", 1)] if together else [])]
    leases, *_ = await asyncio.gather(*calls)
    assert len(leases) == 3
    assert {lease.item for lease in leases}.isdisjoint(lease.item for lease in had)


async def test_the_same_lease_given_back_by_two_calls_at_once_is_given_back_once(desk):
    await desk.open("a", "b")
    one, other = await desk.lease("ann", 2)
    outcomes = await asyncio.gather(
        desk.release(one), desk.release(one), desk.release(other), return_exceptions=True
    )
    assert sum(isinstance(outcome, FailedPrecondition) for outcome in outcomes) == 1
    assert await desk.announced("LeasesEnded") == 1
    assert await desk.broken_promises() == []


async def test_who_asks_for_many_goes_with_others_who_do_and_no_more_than_a_flush_holds(desk, monkeypatch):
    flushes = []
    flush = desk.handing_out._flush

    async def noted(batch):
        flushes.append(sorted(one.request.count for one in batch))
        return await flush(batch)

    for together in (desk.handing_out._few, desk.handing_out._many):
        monkeypatch.setattr(together, "_flush", noted)
    await desk.open("a", min_answers=1)
    await asyncio.gather(
        *(desk.lease(f"m{n}", 900) for n in range(4)), *(desk.lease(f"p{n}") for n in range(3))
    )
    assert sorted(flushes) == [[1, 1, 1], [900, 900], [900, 900]]
