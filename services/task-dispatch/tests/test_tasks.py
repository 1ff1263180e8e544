"""Tasks follow from what others announce: whatever the order, however often (P3)."""

from __future__ import annotations

import itertools
import random

import pytest

from cairn.annotation.v1.annotation_store_pb2 import DISPUTE_POLICY_ACCEPT_BEST
from cairn.dispatch.v1 import task_dispatch_pb2 as pb
from cairn_kit.errors import FailedPrecondition
from cairn_kit.events import NotYet
from cairn_task_dispatch.domain.states import Decision, Route, TaskKind
from cairn_task_dispatch.domain.wishes import (
    UNKNOWN,
    ItemFacts,
    Open,
    ProjectPolicy,
    gold_wish,
    label_wish,
    review_wish,
)
from cairn_task_dispatch.handlers.tasks import TaskWish

OPEN, FILLED, CLOSED = pb.TASK_STATE_OPEN, pb.TASK_STATE_FILLED, pb.TASK_STATE_CLOSED


async def answer(desk, key, labeler):
    [result] = await desk.claim((key, labeler))
    await desk.hear(desk.words.submitted(result.lease))


async def test_a_task_is_filled_by_its_answers_and_opened_again_by_a_greater_wish(desk):
    await desk.open("a", min_answers=2)
    await answer(desk, "a", "ann")
    assert (await desk.task("a")).state == OPEN
    await answer(desk, "a", "bob")
    task = await desk.task("a")
    assert (task.state, task.answers_wanted, task.answers_given) == (FILLED, 2, 2)
    await desk.hear(desk.words.wanted("a", 3, 1))
    task = await desk.task("a")
    assert (task.state, task.answers_wanted) == (OPEN, 3)
    await answer(desk, "a", "cem")
    await desk.hear(desk.words.reached("a", 2))
    task = await desk.task("a")
    assert (task.state, task.close_reason) == (CLOSED, "consensus was reached")
    await desk.hear(desk.words.wanted("a", 4, 3))
    assert (await desk.task("a")).state == OPEN
    assert await desk.broken_promises() == []


async def test_closing_honours_live_leases_and_keeps_their_answers(desk):
    await desk.open("a", min_answers=3)
    [ann], [bob] = await desk.lease("ann"), await desk.lease("bob")
    await desk.hear(desk.words.routed("a", auto=True, revision=2))
    task = await desk.task("a")
    assert (task.state, task.live_leases) == (CLOSED, 2)
    assert await desk.lease("cem") == []
    await desk.hear(desk.words.submitted(ann))
    await desk.release(bob)
    task = await desk.task("a")
    assert (task.state, task.answers_given, task.live_leases) == (CLOSED, 1, 0)
    assert await desk.lease("cem") == [], "the slot given back is withdrawn"
    await desk.hear(desk.words.routed("a", revision=3))
    assert len(await desk.lease("cem")) == 1
    assert await desk.broken_promises() == []


async def test_a_route_may_change_the_priority_of_what_is_open(desk):
    await desk.open("a", "b", priority=0.5)
    await desk.hear(desk.words.routed("b", revision=2, priority=0.9))
    [lease] = await desk.lease("ann")
    assert lease.item == desk.words.item("b")


async def test_a_dispute_goes_to_one_reviewer_and_ends_with_the_correction(desk, kit):
    await desk.open("a", min_answers=1)
    await answer(desk, "a", "ann")
    await desk.hear(desk.words.disputed("a", 1))
    assert (await desk.task("a")).state == CLOSED
    assert await desk.lease("bob") == []
    [review] = await desk.lease("rev", 3, reviews=True)
    assert review.kind == pb.TASK_KIND_REVIEW
    assert desk.signed[-1].kind == "REVIEW"
    assert kit.reasons(await desk.claim(("a", "other"), review=True)) == ["NO_OPEN_SLOT"]
    await desk.hear(desk.words.submitted(review))
    assert (await desk.task("a", "REVIEW")).state == FILLED
    await desk.hear(desk.words.corrected("a"))
    assert (await desk.task("a", "REVIEW")).state == CLOSED
    assert await desk.broken_promises() == []


async def test_a_project_may_accept_the_best_answer_instead_of_a_review(desk):
    await desk.open("a", on_dispute=DISPUTE_POLICY_ACCEPT_BEST)
    await desk.hear(desk.words.disputed("a", 1))
    assert await desk.task("a", "REVIEW") is None


@pytest.mark.parametrize("why", ["CANNOT_TELL", "BROKEN_ITEM", "KIND_NOT_AGGREGATED"])
async def test_where_there_is_no_best_answer_to_accept_a_reviewer_decides_all_the_same(desk, why):
    await desk.open("a", min_answers=1, on_dispute=DISPUTE_POLICY_ACCEPT_BEST)
    await answer(desk, "a", "ann")
    await desk.hear(desk.words.disputed("a", 1, why))
    assert (await desk.task("a")).state == CLOSED
    [review] = await desk.lease("rev", reviews=True)
    await desk.hear(desk.words.submitted(review), desk.words.corrected("a"))
    assert (await desk.task("a", "REVIEW")).state == CLOSED
    assert await desk.broken_promises() == []


async def test_a_correction_closes_for_good_but_not_while_other_questions_are_open(desk):
    await desk.open("a")
    await desk.hear(desk.words.corrected("a", complete=False))
    assert (await desk.task("a")).state == OPEN
    await desk.hear(desk.words.corrected("a"), desk.words.wanted("a", 9, 7))
    assert (await desk.task("a")).state == CLOSED


def facts_of(desk):
    w = desk.words
    return [
        w.imported("a", "b", "c", "d"), w.imported(gold=["g"]),
        w.routed("a", "b", "c", "g"), w.routed("a", priority=0.9, revision=2), w.routed("b", auto=True, revision=3),
        w.wanted("a", 3, 1), w.wanted("a", 4, 2), w.reached("a", 3), w.wanted("a", 5, 4),
        w.wanted("c", 4, 1), w.disputed("c", 2), w.reached("d", 1), w.corrected("d"), w.disputed("d", 4),
    ]  # fmt: skip


async def standing(desk):
    rows = await desk.database.fetch(
        """SELECT item, kind, t.state, close_reason, priority, skill,
             (SELECT array_agg(s.state ORDER BY number) FROM slot s WHERE s.tenant = t.tenant AND s.task = t.task) AS slots
           FROM task t WHERE tenant = $1 ORDER BY item, kind""",
        desk.tenant,
    )  # fmt: skip
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("seed", range(12))
async def test_facts_repeated_and_in_any_order_lead_to_the_same_open_tasks(desk, kit, seed):
    orderly, shuffled = desk, kit.Desk(desk.database, tenant="other")
    for one in (orderly, shuffled):
        await one.hear(one.words.created(min_answers=2))
    for fact in facts_of(orderly):
        await orderly.hear(fact)
    chance = random.Random(seed)
    facts = [fact for fact in facts_of(shuffled) for _ in range(chance.randint(1, 5))]
    chance.shuffle(facts)
    while facts:
        size = chance.randint(1, 4)
        batch, facts = facts[:size], facts[size:]
        await shuffled.hear(*batch)
    visible = lambda rows: [row for row in rows if row[2] != "CLOSED"]  # noqa: E731 - closed ones may never have opened
    assert visible(await standing(shuffled)) == visible(await standing(orderly))
    assert {(r[0], r[1]) for r in visible(await standing(orderly))} == {
        ("a", "LABEL"),
        ("c", "REVIEW"),
        ("g", "GOLD"),
    }
    assert await shuffled.broken_promises() == []


async def test_every_order_of_a_few_facts_ends_alike(desk, kit):
    endings = set()
    for number, order in enumerate(itertools.permutations(range(4))):
        one = kit.Desk(desk.database, tenant=f"tenant-{number}")
        w = one.words
        await one.hear(w.created(min_answers=2))
        facts = [w.imported("a"), w.routed("a"), w.reached("a", 1), w.wanted("a", 4, 2)]
        for index in order:
            await one.hear(facts[index])
        endings.add(str(await standing(one)))
    assert len(endings) == 1


def test_bare_facts_call_for_no_task_and_all_that_do_are_not_bare():
    policies = [ProjectPolicy(1, 2, 0.1, 600.0, reviews, "", False) for reviews in (False, True)]
    facts = [
        ItemFacts(imported, gold, route, 1, 0.5, decision, 1, 2, reviews_wished=reviews, wished=wished)
        for imported, gold, route, decision, reviews, wished in itertools.product(
            (False, True), (False, True), Route, Decision, (0, 1), (0, 1)
        )
    ]
    for fact, policy in itertools.product([UNKNOWN, ItemFacts(imported=True), *facts], policies):
        wishes = label_wish(fact, policy, 0), gold_wish(fact, policy), review_wish(fact, policy, 0)
        opens = any(isinstance(wish, Open) for wish in wishes)
        assert not (opens and fact.bare), fact
    assert UNKNOWN.bare
    assert UNKNOWN.with_import(gold=False).bare, "what an import is nearly all of"


async def test_a_large_import_opens_its_tasks_in_the_order_of_its_items(desk):
    keys = [f"k{n:04d}" for n in random.Random(1).sample(range(2000), 1200)]
    await desk.hear(desk.words.created(), desk.words.imported(*keys))
    await desk.hear(desk.words.routed(*keys))
    rows = await desk.database.fetch("SELECT item FROM task WHERE tenant = $1 ORDER BY place", desk.tenant)
    assert [row["item"] for row in rows] == keys


async def test_items_of_a_project_that_is_not_known_yet_wait(desk):
    with pytest.raises(NotYet):
        await desk.hear(desk.words.imported("a"))


async def test_an_older_policy_changes_nothing(desk):
    await desk.open("a", min_answers=4, revision=5)
    await desk.hear(desk.words.created(revision=4, min_answers=1))
    await desk.hear(desk.words.imported("b"), desk.words.routed("b"))
    assert (await desk.task("b")).answers_wanted == 4


async def test_wishes_of_audits_are_one_task_an_item_and_audit(desk, kit):
    await desk.open("a", "b", gold=["g"])
    audit = f"{desk.words.name}/audits/one"
    wish = TaskWish("a", TaskKind.REVIEW, 1, 0.3, audit)
    other = TaskWish("a", TaskKind.REVIEW, 2, 0.3, f"{desk.words.name}/audits/two")
    first = await desk.wish(wish, other, wish, TaskWish("nowhere", TaskKind.REVIEW, 1, 0.5, audit),
                            TaskWish("g", TaskKind.LABEL, 1, 0.5, ""))  # fmt: skip
    assert [kit.reason(r) for r in first] == ["", "", "", "ITEM_NOT_FOUND", "ITEM_IS_GOLD"]
    assert first[0].task.name == first[2].task.name != first[1].task.name
    [again] = await desk.wish(wish)
    assert again.task == first[0].task
    reviews = await desk.lease("rev", 5, reviews=True)
    assert [r.item for r in reviews] == [desk.words.item("a")] * 2, (
        "each audit has its own review of the item"
    )
    assert {claims.audit for claims in desk.signed[-2:]} == {audit, f"{desk.words.name}/audits/two"}


async def test_a_wish_by_hand_is_served_though_the_item_is_closed(desk):
    await desk.open("a", min_answers=1)
    await answer(desk, "a", "ann")
    await desk.hear(desk.words.reached("a", 1))
    [result] = await desk.wish(TaskWish("a", TaskKind.LABEL, 3, 0.8, ""))
    assert (result.task.state, result.task.answers_wanted) == (OPEN, 3)
    await answer(desk, "a", "bob")
    await desk.hear(desk.words.reached("a", 2))
    assert (await desk.task("a")).state == OPEN
    await answer(desk, "a", "cem")
    await desk.hear(desk.words.reached("a", 3))
    assert (await desk.task("a")).state == CLOSED


REVIEW = TaskWish("a", TaskKind.REVIEW, 1, 0.3, "")


async def test_a_review_wished_by_hand_outlives_what_others_say_until_it_is_given(desk):
    await desk.open("a", min_answers=1)
    [result] = await desk.wish(REVIEW)
    w = desk.words
    for word in (w.routed("a", auto=True, revision=2), w.wanted("a", 2, 1), w.disputed("a", 2), w.reached("a", 3),
                 w.corrected("a")):  # fmt: skip
        await desk.hear(word)
        assert (await desk.task("a", "REVIEW")).state == OPEN
    assert (await desk.task("a", "REVIEW")).priority == 0.3, "the dispute's urgency went with the dispute"
    [review] = await desk.lease("rev", reviews=True)
    assert review.name.startswith(result.task.name)
    await desk.hear(w.submitted(review))
    assert (await desk.task("a", "REVIEW")).state == FILLED
    await desk.hear(w.wanted("a", 3, 4))
    assert (await desk.task("a", "REVIEW")).state == CLOSED
    assert await desk.broken_promises() == []


async def test_a_wish_for_more_reviews_than_the_dispute_wants_is_served_in_the_same_task(desk):
    await desk.open("a", min_answers=1)
    await desk.hear(desk.words.disputed("a", 1))
    [result] = await desk.wish(TaskWish("a", TaskKind.REVIEW, 2, 0.3, ""))
    assert (result.task.answers_wanted, result.task.priority) == (2, 1.0)
    [first], [second] = await desk.lease("rev", 2, reviews=True), await desk.lease("other", 2, reviews=True)
    await desk.hear(desk.words.submitted(first), desk.words.corrected("a"))
    assert (await desk.task("a", "REVIEW")).state == OPEN
    await desk.hear(desk.words.submitted(second))
    assert (await desk.task("a", "REVIEW")).state == FILLED
    assert await desk.broken_promises() == []


async def test_a_review_wished_anew_can_be_cancelled_anew_for_the_same_reason(desk):
    await desk.open("a", min_answers=1)
    for _ in range(3):
        [result] = await desk.wish(REVIEW)
        assert result.task.state == OPEN
        task = await desk.cancel(result.task, "not needed")
        assert (task.state, task.close_reason) == (CLOSED, "not needed")
        await desk.hear(desk.words.routed("a", revision=2))
        assert await desk.lease("rev", reviews=True) == []
    await desk.hear(desk.words.disputed("a", 1))
    assert len(await desk.lease("rev", reviews=True)) == 1, "a newer dispute asks anew"


async def test_reviews_that_were_wished_before_wishes_were_kept_stay_open(desk, kit):
    await desk.open("a", "b", min_answers=1)
    await desk.wish(TaskWish("a", TaskKind.REVIEW, 2, 0.3, ""))
    await desk.hear(desk.words.disputed("b", 1))
    await desk.database.execute("UPDATE item SET reviews_wished = 0, review_priority = 0")
    migration = (kit.MIGRATIONS / "0005_reviews_wished.sql").read_text()
    await desk.database.execute(migration[migration.index("UPDATE item") :])
    await desk.hear(desk.words.reached("a", 1), desk.words.reached("b", 2))
    kept = await desk.task("a", "REVIEW")
    assert (kept.state, kept.answers_wanted, kept.priority) == (OPEN, 2, 0.3)
    assert (await desk.task("b", "REVIEW")).state == CLOSED, "nobody wished for the dispute's"


async def test_a_cancelled_task_stays_closed_until_consensus_decides_anew(desk):
    await desk.open("a")
    task = await desk.cancel(await desk.task("a"), "not needed")
    assert (task.state, task.close_reason) == (CLOSED, "not needed")
    with pytest.raises(FailedPrecondition):
        await desk.cancel(task)
    await desk.hear(desk.words.routed("a", revision=9))
    assert (await desk.task("a")).state == CLOSED
    await desk.hear(desk.words.wanted("a", 3, 1))
    assert (await desk.task("a")).state == OPEN


async def test_a_cancelled_review_of_an_audit_is_closed(desk):
    await desk.open("a")
    [result] = await desk.wish(TaskWish("a", TaskKind.REVIEW, 1, 0.3, f"{desk.words.name}/audits/one"))
    assert (await desk.cancel(result.task)).state == CLOSED
    assert await desk.lease("rev", reviews=True) == []


async def test_what_happens_to_tasks_and_leases_is_announced(desk):
    await desk.open("a", "b", min_answers=1)
    [lease] = await desk.lease("ann")
    await desk.release(lease)
    await desk.hear(desk.words.reached("a", 1), desk.words.reached("b", 1))
    assert [await desk.announced(k) for k in ("TasksOpened", "LeasesGranted", "LeasesEnded", "TasksClosed")] == [
        1, 1, 1, 1,
    ]  # fmt: skip


async def test_announcements_of_many_tasks_stay_below_the_size_of_an_event(desk):
    keys = [f"{n:04d}-" + "x" * 200 for n in range(2000)]
    await desk.open(*keys)
    sizes = await desk.database.fetch(
        "SELECT octet_length(body) AS size FROM outbox WHERE tenant = $1", desk.tenant
    )
    assert len(sizes) >= 3
    assert max(row["size"] for row in sizes) <= 256 * 1024
    queue = await desk.queue()
    assert (queue.open_tasks, queue.open_slots, queue.live_leases) == (2000, 4000, 0)
