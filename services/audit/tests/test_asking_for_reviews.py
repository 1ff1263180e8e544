"""Reviews of an audit are asked for in turns, again after faults, and called off when nobody needs them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cairn.audit.v1 import audit_pb2 as pb
from cairn.audit.v1.audit_pb2_grpc import AuditServiceStub
from cairn.events.v1 import audit_events_pb2 as events
from cairn.label.v1.label_value_pb2 import ABSTENTION_KIND_CANNOT_TELL, Abstention, Answer
from cairn_audit import reviews
from cairn_kit.testing import World, eventually
from services.audit.tests.test_audits import asked, ended, plan, reason_of, reviewed

Service = Any
Elsewhere = Any
Dispatch = Any

CANNOT_TELL = Answer(question="species", abstention=Abstention(kind=ABSTENTION_KIND_CANNOT_TELL))


# --- asking task-dispatch


async def test_reviews_are_asked_for_again_after_the_service_was_killed_in_the_middle(
    world: World, run: Any, dispatch: Dispatch, elsewhere: Elsewhere
) -> None:
    dispatch.hold = asyncio.Event()
    async with run() as service:
        await world.publish(elsewhere.project_created(), *(elsewhere.label(i) for i in range(50)))
        await eventually(lambda: service.database.fetchval("SELECT count(*) FROM label"), 50)
        api = service.stub(AuditServiceStub)
        made = await api.CreateAudit(plan(sample_size=50, max_error=0.2))
        items = await asked(dispatch, made, 50)
        # task-dispatch has opened the tasks, audit never hears so.
        assert await service.database.fetchval("SELECT count(*) FROM sample WHERE reviews_asked > 0") == 0
    dispatch.hold = None
    calls = dispatch.calls
    async with run() as service:
        await eventually(
            lambda: service.database.fetchval("SELECT count(*) FROM sample WHERE reviews_asked = 1"), 50
        )
        assert dispatch.calls > calls
        assert set(dispatch.wanted.values()) == {1}  # asked twice, wanted once
        api = service.stub(AuditServiceStub)
        await world.publish(*(elsewhere.review(i, elsewhere.says("robin"), audit=made.name) for i in items))
        assert (await ended(api, made)).state == pb.AUDIT_STATE_PASSED


async def test_audits_take_turns_in_asking(
    world: World, audit: Service, api: Any, birds: None, dispatch: Dispatch, elsewhere: Elsewhere,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    await world.publish(elsewhere.project_created(project="fish"), elsewhere.label("odd", project="fish"))
    await eventually(lambda: audit.database.fetchval("SELECT count(*) FROM label"), 301)
    # given a large audit of which the first few reviews are being asked for, and a small one that comes then
    monkeypatch.setattr(reviews, "_AT_ONCE", 4)
    dispatch.hold = asyncio.Event()
    large = await api.CreateAudit(plan(sample_size=40))
    await asked(dispatch, large, 4)
    small = await api.CreateAudit(pb.CreateAuditRequest(parent="projects/fish", plan=pb.AuditPlan()))
    # when the asking goes on
    dispatch.hold.set()
    await asked(dispatch, small, 1)
    await asked(dispatch, large, 40)
    # then the small one did not wait for all of the large one
    assert list(dispatch.wanted).index((small.name, "projects/fish/items/odd")) <= 8


async def test_an_item_that_task_dispatch_does_not_know_yet_is_asked_for_again(
    world: World, audit: Service, api: Any, birds: None, dispatch: Dispatch
) -> None:
    late = {f"projects/birds/items/{i}" for i in range(0, 300, 2)}
    dispatch.unknown = set(late)
    made = await api.CreateAudit(plan(sample_size=300))
    await asked(dispatch, made, 150)
    refused = "SELECT count(*) FROM sample WHERE refusals > 0 AND note LIKE 'ITEM_NOT_FOUND%'"
    await eventually(lambda: audit.database.fetchval(refused), 150)
    dispatch.unknown = set()
    await asked(dispatch, made, 300)


async def test_what_cannot_be_reviewed_at_all_is_left_out_and_the_audit_ends(
    world: World, audit: Service, api: Any, dispatch: Dispatch, elsewhere: Elsewhere
) -> None:
    await world.publish(elsewhere.project_created(), *(elsewhere.label(i) for i in range(20)))
    await eventually(lambda: audit.database.fetchval("SELECT count(*) FROM label"), 20)
    dispatch.unknown = {"projects/birds/items/3", "projects/birds/items/17"}
    made = await api.CreateAudit(plan(sample_size=20, max_error=0.4))
    items = await asked(dispatch, made, 18)
    await world.publish(*(elsewhere.review(i, elsewhere.says("robin"), audit=made.name) for i in items))
    hurry = "UPDATE sample SET ask_after = now(), refusals = greatest(refusals, 10) WHERE outcome = 'open'"

    async def over() -> bool:
        await audit.database.execute(hurry)
        now = await api.GetAudit(pb.GetAuditRequest(name=made.name))
        return bool(now.state != pb.AUDIT_STATE_REVIEWING)

    await eventually(over)
    done = await api.GetAudit(pb.GetAuditRequest(name=made.name))
    assert (done.reviewed, done.state) == (18, pb.AUDIT_STATE_PASSED)
    assert done.verdict.endswith("2 could not be judged and are left out.")


# --- cancelling


async def test_a_cancelled_audit_gives_no_verdict_and_calls_its_tasks_off(
    world: World, api: Any, birds: None, dispatch: Dispatch, elsewhere: Elsewhere
) -> None:
    heard = await world.listen(events.AuditCancelled)
    made = await api.CreateAudit(plan(sample_size=10))
    items = await asked(dispatch, made, 10)
    await world.publish(elsewhere.review(items[0], elsewhere.says("robin"), audit=made.name))
    await eventually(lambda: reviewed(lambda: api.GetAudit(pb.GetAuditRequest(name=made.name))), 1)
    cancelled = await api.CancelAudit(pb.CancelAuditRequest(name=made.name))
    assert cancelled.state == pb.AUDIT_STATE_CANCELLED
    assert cancelled.verdict == "Cancelled after 1 of 10 reviews."
    assert cancelled.HasField("end_time")
    expected = sorted(f"projects/birds/tasks/{item.rsplit('/', 1)[1]}" for item in items[1:])
    await eventually(lambda: sorted(dispatch.cancelled), expected)
    assert await reason_of(api.CancelAudit(pb.CancelAuditRequest(name=made.name))) == "AUDIT_ENDED"
    [event] = await heard.count(1)
    assert event.message.audit == cancelled
    assert (event.tenant, event.project, event.resource, event.revision) == ("acme", "birds", made.name, 2)
    assert ".audit." in event.subject


async def test_a_review_that_cannot_be_called_off_keeps_no_other_from_it(
    api: Any, birds: None, dispatch: Dispatch
) -> None:
    made = await api.CreateAudit(plan(sample_size=6))
    items = await asked(dispatch, made, 6)
    dispatch.broken = {items[0]}
    await api.CancelAudit(pb.CancelAuditRequest(name=made.name))
    await eventually(lambda: _called_off(dispatch), items[1:])
    dispatch.broken = set()
    await eventually(lambda: _called_off(dispatch), items)


async def test_reviews_that_are_not_taken_keep_no_others_from_being_called_off(
    world: World, audit: Service, api: Any, birds: None, dispatch: Dispatch, elsewhere: Elsewhere
) -> None:
    made = await api.CreateAudit(plan(sample_size=6))
    items = await asked(dispatch, made, 6)
    await world.publish(elsewhere.project_created(project="fish"), elsewhere.label("odd", project="fish"))
    await eventually(lambda: audit.database.fetchval("SELECT count(*) FROM label"), 301)
    dispatch.broken = {"projects/fish/items/odd"}
    other = await api.CreateAudit(pb.CreateAuditRequest(parent="projects/fish", plan=pb.AuditPlan()))
    await api.CancelAudit(pb.CancelAuditRequest(name=made.name))
    await eventually(lambda: _called_off(dispatch), items)
    dispatch.broken = set()
    await asked(dispatch, other, 1)


async def test_reviews_that_are_called_off_keep_nobody_from_asking(
    api: Any, birds: None, dispatch: Dispatch
) -> None:
    made = await api.CreateAudit(plan(sample_size=6))
    items = await asked(dispatch, made, 6)
    dispatch.hold_cancelling = asyncio.Event()
    await api.CancelAudit(pb.CancelAuditRequest(name=made.name))
    for _ in range(2):  # the second is asked for in a turn that began after the cancelling
        await asked(dispatch, await api.CreateAudit(plan(sample_size=5)), 5)
    assert not dispatch.cancelled
    dispatch.hold_cancelling.set()
    await eventually(lambda: _called_off(dispatch), items)


def _called_off(dispatch: Dispatch) -> list[str]:
    """The items whose reviews were called off."""
    return sorted(task.replace("/tasks/", "/items/") for task in set(dispatch.cancelled))


async def test_a_review_that_was_called_off_by_hand_takes_its_label_out_of_the_audit(
    world: World, api: Any, birds: None, dispatch: Dispatch, elsewhere: Elsewhere
) -> None:
    made = await api.CreateAudit(plan(sample_size=8, max_error=1.0))
    items = await asked(dispatch, made, 8)
    await world.publish(
        elsewhere.tasks_closed(items[0], audit=made.name),
        elsewhere.tasks_closed(items[1], audit=""),  # another task of the item: none of the audit's business
        *(elsewhere.review(item, elsewhere.says("robin"), audit=made.name) for item in items[1:]),
    )
    done = await ended(api, made)
    assert (done.state, done.sampled, done.reviewed) == (pb.AUDIT_STATE_PASSED, 8, 7)
