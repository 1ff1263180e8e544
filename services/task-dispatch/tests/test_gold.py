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
    for call in range(4):
        await desk.lease("ann", 100, request_id=f"r-{call}")
    gold = await gold_leases(desk)
    assert abs(len(gold) - 100) < 4 * math.sqrt(400 * 0.25 * 0.75)
    assert len(set(gold)) == len(gold)
    assert await desk.broken_promises() == []


async def test_every_labeler_gets_the_same_gold_and_gold_never_runs_full(desk):
    await desk.open(*(f"item-{n}" for n in range(60)), gold=["g"], gold_share=0.5, min_answers=9)
    for n in range(5):
        await desk.lease(f"labeler-{n}", 20, request_id=f"r-{n}")
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
    for call in range(20):
        await desk.lease("ann", 1, request_id=f"r-{call}")
    assert len(await gold_leases(desk)) <= 20
    before = len(await gold_leases(desk))
    for call in range(20):
        assert await desk.lease("ann", 3, request_id=f"s-{call}") == []
    assert len(await gold_leases(desk)) == before


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


def test_the_same_request_draws_the_same_gold():
    first = draw_gold(0.3, 50, "acme", "birds", "labelers/ann", "r-1")
    assert first == draw_gold(0.3, 50, "acme", "birds", "labelers/ann", "r-1")
    assert first != draw_gold(0.3, 50, "acme", "birds", "labelers/ann", "r-2")
    assert not any(draw_gold(0.0, 50, "x").is_gold)
