"""Leases: who gets what, and what becomes of it (P2: never over-asked)."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.duration_pb2 import Duration

from cairn.dispatch.v1 import task_dispatch_pb2 as pb
from cairn_kit.errors import FailedPrecondition


async def test_the_most_urgent_tasks_come_first_and_each_once(desk):
    await desk.open("low", priority=0.1)
    await desk.hear(desk.words.imported("high"), desk.words.routed("high", priority=0.9))
    leases = await desk.lease("ann", 5)
    assert [lease.item for lease in leases] == [desk.words.item("high"), desk.words.item("low")]
    assert await desk.lease("ann") == []


async def test_never_more_leases_than_answers_wanted_when_sixty_four_ask_at_once(desk):
    await desk.open("a", "b", "c", min_answers=3)
    asked = await asyncio.gather(*(desk.lease(f"labeler-{n}", 2) for n in range(64)))
    # Some found only locked slots; asking again gives what is left.
    for n in range(64):
        asked.append(await desk.lease(f"labeler-{n}", 2))
    leases = [lease for answer in asked for lease in answer]
    assert len(leases) == 9
    assert len({(lease.item, lease.labeler) for lease in leases}) == 9
    assert await desk.broken_promises() == []


async def test_never_more_leases_than_answers_wanted_when_sixty_four_claim_one_item_at_once(desk, kit):
    await desk.open("a", min_answers=2)
    results = await asyncio.gather(*(desk.claim(("a", f"labeler-{n}")) for n in range(64)))
    granted = [r for [r] in results if not kit.reason(r)]
    assert {kit.reason(r) for [r] in results} <= {"", "NO_OPEN_SLOT"}
    assert 1 <= len(granted) <= 2
    await asyncio.gather(*(desk.claim(("a", f"other-{n}")) for n in range(4)))
    assert (await desk.task("a")).live_leases == 2
    assert await desk.broken_promises() == []


async def test_a_labeler_never_gets_an_item_again_that_they_answered_or_skipped(desk):
    await desk.open("a", "b", min_answers=2)
    first, second = await desk.lease("ann", 2)
    await desk.hear(desk.words.submitted(first))
    await desk.skip(second)
    assert await desk.lease("ann", 2) == []
    assert len(await desk.lease("bob", 2)) == 2


async def test_what_is_given_back_goes_to_anybody_even_to_the_same_labeler(desk):
    await desk.open("a", min_answers=1)
    [lease] = await desk.lease("ann")
    released = await desk.release(lease)
    assert released.state == pb.LEASE_STATE_RELEASED
    assert not released.token
    [again] = await desk.lease("ann")
    assert again.item == lease.item
    assert again.name != lease.name
    with pytest.raises(FailedPrecondition, match="RELEASED"):
        await desk.release(lease)


@pytest.mark.parametrize("end", ["release", "expire"])
async def test_what_a_labeler_gave_back_comes_again_only_when_nothing_else_is_left(desk, end):
    await desk.open("b", min_answers=1)
    await desk.hear(desk.words.imported("a"), desk.words.routed("a", priority=0.9))
    [first] = await desk.lease("ann")
    if end == "release":
        await desk.release(first)
    else:
        await desk.pass_time(611)
        await desk.expiry.expire()
    again = await desk.lease("ann", 5)
    assert [lease.item for lease in again] == [desk.words.item("b"), desk.words.item("a")]
    assert await desk.lease("ann", 5) == []
    assert await desk.broken_promises() == []


async def test_what_others_have_taken_does_not_come_again(desk):
    await desk.open("a", min_answers=1, required_skill="birds")
    for name in ("ann", "bob"):
        await desk.labeler(name, "birds")
    [lease] = await desk.lease("ann")
    await desk.release(lease)
    [taken] = await desk.lease("bob")
    assert await desk.lease("ann") == []
    await desk.release(taken)
    await desk.labeler("ann")
    assert await desk.lease("ann") == [], "nor what the labeler lost the skill for"
    await desk.labeler("ann", "birds")
    assert [lease.item for lease in await desk.lease("ann")] == [desk.words.item("a")]


async def test_an_extended_lease_lives_longer_and_never_shorter(desk):
    await desk.open("a", lease_seconds=60)
    [lease] = await desk.lease("ann")
    longer = await desk.extend(lease, 600)
    assert longer.token
    assert longer.expire_time.seconds - lease.expire_time.seconds > 500
    assert (await desk.extend(lease, 1)).expire_time == longer.expire_time
    await desk.pass_time(601)
    with pytest.raises(FailedPrecondition) as refused:
        await desk.extend(lease, 600)
    assert refused.value.reason == "LEASE_NOT_LIVE"


async def test_leases_need_the_project_s_skill_or_the_one_that_consensus_asks_for(desk, kit):
    await desk.open("a", required_skill="birds", min_answers=1)
    assert await desk.lease("ann") == []
    assert kit.reasons(await desk.claim(("a", "ann"))) == ["SKILL_MISSING"]
    await desk.labeler("ann", "birds")
    [lease] = await desk.lease("ann")
    await desk.hear(desk.words.submitted(lease), desk.words.wanted("a", 2, 1, skill="owls"))
    await desk.labeler("bob", "birds")
    assert await desk.lease("bob") == []
    assert kit.reasons(await desk.claim(("a", "bob"))) == ["SKILL_MISSING"]
    await desk.labeler("bob", "owls")
    assert len(await desk.lease("bob")) == 1


async def test_a_suspended_labeler_gets_no_work(desk, kit):
    await desk.open("a")
    await desk.labeler("ann", suspended=True)
    with pytest.raises(FailedPrecondition) as refused:
        await desk.lease("ann")
    assert refused.value.reason == "LABELER_SUSPENDED"
    assert kit.reasons(await desk.claim(("a", "ann"))) == ["LABELER_SUSPENDED"]


async def test_every_refused_claim_says_why(desk, kit):
    await desk.open("a", "b", "closed", "auto", min_answers=1)
    await desk.hear(desk.words.imported("unrouted"))
    await desk.hear(desk.words.reached("closed", 1), desk.words.routed("auto", auto=True, revision=2))
    await desk.hear(desk.words.imported("straight-auto"), desk.words.routed("straight-auto", auto=True))
    [taken] = await desk.claim(("b", "bob"))
    results = await desk.claim(
        ("a", "ann"), ("a", "ann"), ("a", "bob"), ("b", "ann"), ("closed", "ann"), ("auto", "ann"),
        ("unrouted", "ann"), ("nowhere", "ann"), ("straight-auto", "ann"), ("b", "bob"),
    )  # fmt: skip
    assert kit.reasons(results) == [
        "", "", "NO_OPEN_SLOT", "NO_OPEN_SLOT", "TASK_CLOSED", "TASK_CLOSED", "NO_TASK_YET", "ITEM_NOT_FOUND",
        "TASK_CLOSED", "",
    ]  # fmt: skip
    assert results[0].lease.name == results[1].lease.name, "the same claim twice is one lease"
    assert results[9].lease.name == taken.lease.name, "a live lease is given again"
    await desk.hear(desk.words.submitted(results[0].lease))
    assert kit.reasons(await desk.claim(("a", "ann"), ("a", "bob"))) == ["ALREADY_ANSWERED", "NO_OPEN_SLOT"]
    assert await desk.broken_promises() == []


async def test_many_labelers_claim_many_items_in_one_request(desk, kit):
    keys = [f"item-{n}" for n in range(100)]
    await desk.open(*keys, min_answers=2)
    claims = [(key, f"labeler-{n}") for key in keys for n in range(3)]
    results = await desk.claim(*claims)
    assert kit.reasons(results) == ["", "", "NO_OPEN_SLOT"] * 100
    assert await desk.announced("LeasesGranted") == 1
    assert (await desk.queue()).live_leases == 200
    assert await desk.broken_promises() == []


async def test_batches_of_claims_in_any_order_do_not_block_each_other(desk, kit):
    keys = [f"item-{n}" for n in range(30)]
    await desk.open(*keys, min_answers=4)
    orders = [keys, keys[::-1], keys[10:] + keys[:10], keys[::2] + keys[1::2]] * 4
    batches = [
        [(key, f"labeler-{(n + i) % 8}") for i, key in enumerate(order)] for n, order in enumerate(orders)
    ]
    async with asyncio.timeout(20):
        results = await asyncio.gather(*(desk.claim(*batch) for batch in batches))
    assert {kit.reason(r) for batch in results for r in batch} <= {"", "NO_OPEN_SLOT"}
    assert await desk.broken_promises() == []


async def test_a_call_repeated_with_its_request_id_gives_the_same_leases(desk):
    await desk.open("a", "b", min_answers=1)
    first = await desk.lease("ann", 1, request_id="r-1")
    assert await desk.lease("ann", 1, request_id="r-1") == first
    assert await desk.lease("ann", 1, request_id="r-2") != first


async def test_leases_of_an_archived_project_are_refused(desk):
    await desk.open("a", archived=True)
    with pytest.raises(FailedPrecondition) as refused:
        await desk.lease("ann")
    assert refused.value.reason == "PROJECT_ARCHIVED"


async def test_a_lease_for_less_than_the_clock_can_tell_is_one_nevertheless(desk):
    await desk.open("a", "b", min_answers=1)
    brief, usual = await asyncio.gather(
        desk.lease("ann", lease_duration=Duration(nanos=1)), desk.lease("bob", 1)
    )
    assert (len(brief), len(usual)) == (1, 1)
    created = desk.words.created(2)
    created.project.quality.lease_duration.CopyFrom(Duration(nanos=1))
    await desk.hear(created)
    assert (await desk.queue()).open_tasks == 2


async def test_a_lease_of_a_project_that_is_being_deleted_is_gone_and_disturbs_nobody(desk, kit):
    other = kit.Desk(desk.database, tenant="zoo", project="fish")
    for one in (desk, other):
        await one.open("a", min_answers=1)
    [gone], [kept] = await desk.lease("ann"), await other.lease("bob")
    task = await desk.task("a")
    await desk.database.execute("DELETE FROM project WHERE tenant = $1", desk.tenant)
    request = pb.ExtendLeaseRequest(name=kept.name, lease_duration=Duration(seconds=9_000))
    extended, *refused = await asyncio.gather(
        desk.leasing.extend_lease(other.tenant, request, lambda _: True),
        desk.extend(gone, 9_000),
        desk.release(gone),
        desk.skip(gone),
        desk.cancel(task),
        return_exceptions=True,
    )
    assert extended.expire_time.seconds > kept.expire_time.seconds
    assert [error.reason for error in refused] == ["LEASE_NOT_FOUND"] * 3 + ["PROJECT_NOT_FOUND"]
