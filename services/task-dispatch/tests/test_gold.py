"""Gold is served so that no labeler can tell it from other work."""

from __future__ import annotations

import math
import re

from cairn.dispatch.v1 import task_dispatch_pb2 as pb
from cairn_task_dispatch.domain.gold import draw_gold


async def gold_leases(desk):
    rows = await desk.database.fetch(
        "SELECT item, labeler FROM lease WHERE tenant = $1 AND kind = 'GOLD'", desk.tenant
    )
    return [(row["item"], row["labeler"]) for row in rows]


async def test_gold_comes_in_the_stated_share_and_each_once_a_labeler(desk):
    await desk.open(
        *(f"item-{n}" for n in range(400)), gold=[f"gold-{n}" for n in range(300)], gold_share=0.25
    )
    for _ in range(4):
        await desk.lease("ann", 100)
    gold = await gold_leases(desk)
    assert abs(len(gold) - 100) < 6 * math.sqrt(400 * 0.25 * 0.75)
    assert len(set(gold)) == len(gold)
    assert await desk.broken_promises() == []


async def test_every_labeler_gets_the_same_gold_and_gold_never_runs_full(desk):
    await desk.open(*(f"item-{n}" for n in range(60)), gold=["g"], gold_share=0.5, min_answers=9)
    for n in range(5):
        await desk.lease(f"labeler-{n}", 20)
    assert len(await gold_leases(desk)) == 5
    task = await desk.task("g", "GOLD")
    assert (task.state, task.live_leases) == (pb.TASK_STATE_OPEN, 5)
    assert task.live_leases + task.answers_given <= task.answers_wanted


async def test_gold_looks_like_any_other_lease_in_lease_and_token(desk):
    await desk.open(*(f"item-{n}" for n in range(50)), gold=[f"jtem-{n}" for n in range(50)], gold_share=0.5)
    leases = await desk.lease("ann", 50)
    gold = {item for item, _ in await gold_leases(desk)}
    kinds = {(lease.item.split("/")[-1] in gold): lease.kind for lease in leases}
    assert kinds == {True: pb.TASK_KIND_LABEL, False: pb.TASK_KIND_LABEL}
    assert {claims.kind for claims in desk.signed} == {"LABEL"}
    assert {claims.audit for claims in desk.signed} == {""}
    shapes = {
        lease.item.split("/")[-1] in gold: re.sub(
            r"[0-9a-f]{8}-[0-9a-f]{4}-(.)[0-9a-f-]{21}", r"id\1", lease.name
        )
        for lease in leases
    }
    assert shapes[True] == shapes[False]
    assert len({lease.create_time.ToNanoseconds() for lease in leases}) == 1
    assert len({lease.expire_time.ToNanoseconds() for lease in leases}) == 1
    positions = [n for n, lease in enumerate(leases) if lease.item.split("/")[-1] in gold]
    assert positions != list(range(len(positions))), "gold stands anywhere in the list"


async def test_when_the_work_is_out_no_gold_comes_either(desk):
    await desk.open("a", gold=[f"gold-{n}" for n in range(50)], gold_share=0.5)
    for _ in range(40):
        await desk.lease("ann", 1)
    assert len(await gold_leases(desk)) < 40
    before = len(await gold_leases(desk))
    for _ in range(20):
        assert await desk.lease("ann", 3) == []
    assert len(await gold_leases(desk)) == before


async def test_whoever_gives_back_and_asks_again_is_not_told_what_was_gold(desk):
    await desk.open(*(f"item-{n}" for n in range(20)), gold=[f"gold-{n}" for n in range(20)], gold_share=0.5)
    seen = []
    for _ in range(15):
        [lease] = await desk.lease("ann")
        await desk.release(lease)
        seen.append(lease.item)
    assert len(set(seen)) == 15, "neither returns while there is other work"
    assert {item.split("/")[-1][:4] for item in seen} == {"item", "gold"}


async def test_when_the_work_is_out_what_is_given_back_returns_gold_or_not(desk):
    await desk.open(*(f"item-{n}" for n in range(20)), gold=[f"gold-{n}" for n in range(20)], gold_share=0.5)
    held = await desk.lease("ann", 20)
    while more := await desk.lease("ann", 20):
        held += more
    assert await gold_leases(desk)
    for lease in held:
        await desk.release(lease)
        assert [again.item for again in await desk.lease("ann", 3)] == [lease.item]
    assert await desk.broken_promises() == []


async def test_gold_given_back_long_ago_does_not_return_alone(desk):
    await desk.open("a", gold=["g"], gold_share=0.5, min_answers=1, lease_seconds=60)
    given = await desk.claim(("a", "ann"), ("g", "ann"))
    for one in given:
        await desk.release(one.lease)
    await desk.database.execute("UPDATE lease SET ended_at = ended_at - interval '61 seconds'")
    assert [lease.item for lease in await desk.lease("ann", 5)] == [desk.words.item("a")]


async def test_gold_can_be_claimed_once_and_answered_without_a_slot(desk, kit):
    await desk.open("a", gold=["g"])
    [mine, other] = await desk.claim(("g", "ann"), ("g", "bob"))
    assert mine.lease.kind == other.lease.kind == pb.TASK_KIND_LABEL
    await desk.hear(desk.words.submitted(mine.lease))
    assert kit.reasons(await desk.claim(("g", "ann"))) == ["ALREADY_ANSWERED"]
    assert (await desk.task("g", "GOLD")).answers_given == 1
    queue = await desk.queue()
    assert (queue.open_tasks, queue.open_slots, queue.live_leases) == (1, 2, 1)


async def test_a_gold_item_gets_no_label_task_whatever_its_route(desk):
    await desk.open(gold=["g"])
    await desk.hear(desk.words.routed("g"))
    assert await desk.task("g", "LABEL") is None


async def test_gold_shows_as_a_label_to_those_who_may_not_write_the_project(desk):
    await desk.open(gold=["g"])
    task = await desk.task("g", "GOLD")
    hidden = await desk.tasks.get_task(desk.tenant, pb.GetTaskRequest(name=task.name), shows_gold=False)
    assert hidden.kind == pb.TASK_KIND_LABEL


async def test_whoever_knows_all_that_a_request_says_still_cannot_compute_which_of_its_tasks_are_gold(desk):
    await desk.open(*(f"item-{n}" for n in range(60)), gold=[f"gold-{n}" for n in range(60)], gold_share=0.5)

    async def places_of_gold():
        leases = await desk.lease("ann", 60, request_id="r-1")
        gold = {item for item, _ in await gold_leases(desk)}
        return [n for n, lease in enumerate(leases) if lease.item.split("/")[-1] in gold]

    first = await places_of_gold()
    assert await places_of_gold() == first, "the call repeated is the first answer"
    await desk.database.execute("TRUNCATE lease, request")
    await desk.database.execute("UPDATE slot SET state = 'OPEN'")
    assert await places_of_gold() != first, "the same call in the same world draws anew"


async def test_a_little_gold_among_much_work_stands_anywhere(desk):
    await desk.open(*(f"item-{n}" for n in range(100)), gold=["g"], gold_share=0.5, min_answers=12)
    places = []
    for labeler in range(12):
        leases = await desk.lease(f"labeler-{labeler}", 100)
        places += [n for n, lease in enumerate(leases) if lease.item == desk.words.item("g")]
    assert len(places) == 12
    assert max(places) > 17, "of the places drawn, the first is among the first few"


def test_a_draw_follows_its_entropy_and_every_place_is_as_likely_to_be_gold():
    draws = [draw_gold(0.3, 20, n.to_bytes(4)) for n in range(2000)]
    assert draws[7] == draw_gold(0.3, 20, (7).to_bytes(4))
    often = [sum(draw.nth[place] > 0 for draw in draws) for place in range(20)]
    assert all(abs(count - 600) < 6 * math.sqrt(2000 * 0.3 * 0.7) for count in often)
    first = [sum(draw.nth[place] == 1 for draw in draws) for place in range(20)]
    assert all(abs(count - 100) < 60 for count in first)
    assert not any(draw_gold(0.0, 50, b"x").nth)
