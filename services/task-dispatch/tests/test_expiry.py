"""Expired leases come back once the store was asked, and late answers never take another's slot (P2, P5)."""

from __future__ import annotations

import asyncio

import pytest

from cairn.dispatch.v1 import task_dispatch_pb2 as pb
from cairn_task_dispatch.handlers.expiry import Expiry


async def over(desk, seconds=600):
    await desk.pass_time(seconds + 11)
    await desk.expiry.expire()


async def test_an_unanswered_lease_expires_and_its_slot_goes_to_the_next(desk):
    await desk.open("a", min_answers=1)
    [lease] = await desk.lease("ann")
    await desk.pass_time(601)
    await desk.expiry.expire()
    assert desk.answered.asked == [], "within the grace nobody is asked"
    await desk.pass_time(10)
    await desk.expiry.expire()
    assert desk.answered.asked == [lease.name]
    assert (await desk.look(lease)).state == pb.LEASE_STATE_EXPIRED
    assert len(await desk.lease("ann")) == 1, "whoever let it expire may have it again"
    assert await desk.announced("LeasesEnded") == 1


async def test_an_answer_whose_event_is_on_its_way_is_not_asked_for_again(desk):
    await desk.open("a", "b", min_answers=1)
    in_time, late = await desk.lease("ann", 2)
    desk.answered.late = {in_time.name: False, late.name: True}
    await over(desk)
    assert (await desk.look(in_time)).state == pb.LEASE_STATE_ANSWERED
    assert (await desk.look(late)).state == pb.LEASE_STATE_ANSWERED_LATE
    [again] = await desk.lease("bob", 2)
    assert again.item == late.item
    await desk.hear(desk.words.submitted(in_time), desk.words.submitted(late, late=True))
    assert (await desk.look(in_time)).state == pb.LEASE_STATE_ANSWERED
    assert await desk.broken_promises() == []


async def test_nothing_is_issued_again_while_the_store_is_away(desk):
    await desk.open("a", min_answers=1)
    [lease] = await desk.lease("ann")
    desk.answered.away_from = ("projects/",)
    with pytest.raises(ExceptionGroup, match="leases of 1 tenants"):
        await over(desk)
    await desk.expiry.expire()
    assert len(desk.answered.asked) == 1, "taken: not asked about again at once"
    assert await desk.lease("bob") == []
    desk.answered.away_from = ()
    await desk.pass_time(6)
    await desk.expiry.expire()
    assert (await desk.look(lease)).state == pb.LEASE_STATE_EXPIRED
    assert len(await desk.lease("bob")) == 1


async def test_one_tenant_that_cannot_be_settled_keeps_no_other_waiting(desk, kit):
    later = kit.Desk(desk.database, tenant="zoo", project="fish")
    await desk.open(*(f"item-{n}" for n in range(150)), min_answers=1)
    await later.open("a", min_answers=1)
    await desk.lease("ann", 150)
    [lease] = await later.lease("bob")
    desk.answered.away_from = (desk.words.name,)
    await desk.pass_time(700)  # theirs are due first
    await later.pass_time(650)
    with pytest.raises(ExceptionGroup):
        await desk.expiry.expire()
    assert (await later.look(lease)).state == pb.LEASE_STATE_EXPIRED
    assert (await desk.queue()).live_leases == 150, "nothing of the one is issued again"
    assert len(desk.answered.asked) == 101, "nor is it asked about twice in one turn"


async def test_a_turn_ends_though_leases_that_cannot_be_settled_are_due_again_before_it_does(desk):
    at_once = Expiry(desk.database, desk.store, desk.answered, batch=5, retry=0.0)
    await desk.open(*(f"item-{n}" for n in range(12)), min_answers=1)
    await desk.lease("ann", 12)
    desk.answered.away_from = (desk.words.name,)
    await desk.pass_time(700)
    with pytest.raises(ExceptionGroup, match="leases of 1 tenants"):
        await asyncio.wait_for(at_once.expire(), 60.0)
    assert len(desk.answered.asked) == 5


async def test_an_extended_lease_is_not_asked_about_at_its_old_end(desk):
    await desk.open("a", lease_seconds=60)
    [lease] = await desk.lease("ann")
    await desk.extend(lease, 6000)
    await over(desk, 60)
    assert desk.answered.asked == []


async def test_many_expired_leases_are_settled_in_batches(desk):
    await desk.open(*(f"item-{n}" for n in range(250)), min_answers=1)
    await desk.lease("ann", 250)
    await over(desk)
    assert (await desk.queue()).open_slots == 250
    assert (await desk.queue()).live_leases == 0


@pytest.mark.parametrize("end", ["release", "skip", "expire"])
async def test_an_answer_after_the_end_is_recorded_and_takes_no_slot(desk, end):
    await desk.open("a", min_answers=1)
    [lease] = await desk.lease("ann")
    match end:
        case "release":
            await desk.release(lease)
        case "skip":
            await desk.skip(lease)
        case "expire":
            await over(desk)
    [other] = await desk.lease("bob")
    await desk.hear(desk.words.submitted(lease, late=end == "expire"))
    assert (await desk.look(lease)).state == pb.LEASE_STATE_ANSWERED_LATE
    assert (await desk.look(other)).state == pb.LEASE_STATE_LIVE
    await desk.hear(desk.words.submitted(other))
    assert (await desk.task("a")).state == pb.TASK_STATE_FILLED
    assert await desk.lease("ann") == []
    assert await desk.broken_promises() == []


async def test_a_late_answer_takes_back_the_new_lease_of_the_same_labeler(desk):
    await desk.open("a", min_answers=1)
    [lease] = await desk.lease("ann")
    await over(desk)
    [again] = await desk.lease("ann")
    await desk.hear(desk.words.submitted(lease, late=True))
    assert (await desk.look(lease)).state == pb.LEASE_STATE_ANSWERED_LATE
    assert (await desk.look(again)).state == pb.LEASE_STATE_RELEASED
    assert len(await desk.lease("bob")) == 1
    assert await desk.broken_promises() == []


async def test_of_two_answers_by_one_labeler_the_one_in_time_stands(desk):
    await desk.open("a", min_answers=1)
    [lease] = await desk.lease("ann")
    await over(desk)
    [again] = await desk.lease("ann")
    await desk.hear(desk.words.submitted(lease, late=True), desk.words.submitted(again))
    assert (await desk.look(lease)).state == pb.LEASE_STATE_EXPIRED
    assert (await desk.look(again)).state == pb.LEASE_STATE_ANSWERED
    await desk.hear(desk.words.submitted(lease, late=True))
    assert (await desk.look(lease)).state == pb.LEASE_STATE_EXPIRED
    assert await desk.broken_promises() == []


async def test_a_late_answer_before_the_lease_was_settled_frees_its_slot(desk):
    await desk.open("a", min_answers=1)
    [lease] = await desk.lease("ann")
    await desk.pass_time(605)
    await desk.hear(desk.words.submitted(lease, late=True))
    assert (await desk.look(lease)).state == pb.LEASE_STATE_ANSWERED_LATE
    assert len(await desk.lease("bob")) == 1
    assert await desk.broken_promises() == []
