"""A sampling audit from its draw to its verdict, through faults, and what it announces."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from cairn.annotation.v1.annotation_store_pb2 import (
    ANNOTATION_KIND_LABEL,
    LABEL_SOURCE_AUTO,
    LABEL_SOURCE_CONSENSUS,
    LABEL_SOURCE_CORRECTION,
    PROJECT_STATE_ACTIVE,
    Project,
)
from cairn.audit.v1 import audit_pb2 as pb
from cairn.audit.v1.audit_pb2_grpc import AuditServiceStub
from cairn.events.v1 import audit_events_pb2 as events
from cairn.label.v1.label_value_pb2 import ABSTENTION_KIND_CANNOT_TELL, Abstention, Answer
from cairn_audit import handlers
from cairn_kit.errors import from_rpc_error
from cairn_kit.testing import World, eventually

Service = Any
Elsewhere = Any
Dispatch = Any

CANNOT_TELL = Answer(question="species", abstention=Abstention(kind=ABSTENTION_KIND_CANNOT_TELL))


def plan(**fields: Any) -> pb.CreateAuditRequest:
    return pb.CreateAuditRequest(parent="projects/birds", plan=pb.AuditPlan(**fields))


async def asked(dispatch: Dispatch, audit: pb.Audit, count: int) -> list[str]:
    """The items whose reviews were asked for, once there are so many."""

    def items() -> list[str]:
        return sorted(item for name, item in dispatch.wanted if name == audit.name)

    await eventually(lambda: len(items()), count)
    return items()


async def ended(api: Any, audit: pb.Audit) -> pb.Audit:
    async def look() -> pb.Audit | None:
        now: pb.Audit = await api.GetAudit(pb.GetAuditRequest(name=audit.name))
        return now if now.state != pb.AUDIT_STATE_REVIEWING else None

    found: pb.Audit = await eventually(look)
    return found


async def reason_of(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return from_rpc_error(error.value).reason


# --- the whole way


async def test_good_labels_pass(
    world: World, api: Any, birds: None, dispatch: Dispatch, elsewhere: Elsewhere
) -> None:
    heard = await world.listen(
        events.AuditStarted, events.AuditPassed, events.AuditFailed, events.LabelCorrected
    )
    made = await api.CreateAudit(plan())
    assert made.state == pb.AUDIT_STATE_REVIEWING
    assert (made.reviewed, made.plan.max_error, made.plan.confidence) == (0, 0.05, 0.95)
    assert 80 < made.sampled == made.plan.sample_size < 300  # as many as are needed
    assert {s.source for s in made.strata} == {LABEL_SOURCE_AUTO, LABEL_SOURCE_CONSENSUS}
    assert sum(s.population for s in made.strata) == 300
    assert (made.error_low, made.error_high) == (0, 1)

    items = await asked(dispatch, made, made.sampled)
    await world.publish(*(elsewhere.review(item, elsewhere.says("robin"), audit=made.name) for item in items))
    done = await ended(api, made)
    assert done.state == pb.AUDIT_STATE_PASSED
    assert (done.reviewed, done.wrong, done.error_estimate) == (made.sampled, 0, 0)
    assert 0 < done.error_high <= 0.05
    assert "at most 5.00% was shown" in done.verdict
    started, passed = await heard.count(2)
    assert started.message.audit == made
    assert passed.type.endswith("AuditPassed")
    assert passed.message.audit == done
    assert passed.revision > started.revision


async def test_bad_labels_fail_are_corrected_and_stop_the_model(
    world: World, api: Any, birds: None, dispatch: Dispatch, elsewhere: Elsewhere
) -> None:
    corrections = await world.listen(events.LabelCorrected)
    failed = await world.listen(events.AuditFailed)
    made = await api.CreateAudit(plan(sample_size=60))
    items = await asked(dispatch, made, 60)
    wrong = set(items[::6])
    await world.publish(
        *(
            elsewhere.review(i, elsewhere.says("wren" if i in wrong else "robin"), audit=made.name)
            for i in items
        )
    )
    done = await ended(api, made)
    assert (done.state, done.reviewed, done.wrong) == (pb.AUDIT_STATE_FAILED, 60, 10)
    assert done.error_low < done.error_estimate < done.error_high
    assert sum(s.wrong for s in done.strata) == 10
    [verdict] = await failed.count(1)
    assert verdict.message.covers_auto_labels
    corrected = await corrections.count(10)
    assert {event.message.item for event in corrected} == wrong
    for event in corrected:
        said = event.message
        assert (said.answer.choice, said.audit, said.judged_revision) == ("wren", made.name, 1)
        assert (said.reason, said.reviewer) == (events.CORRECTION_REASON_FOUND_WRONG, "labelers/rita")
        assert said.schema_version == 1

    page = await api.ListFindings(pb.ListFindingsRequest(parent=made.name, wrong_only=True))
    assert len(page.findings) == 10
    assert all(f.wrong and f.label_answer.choice == "robin" for f in page.findings)
    assert {f.label for f in page.findings} == {f"{item}/labels/species@1" for item in wrong}


async def test_an_audit_of_people_alone_does_not_blame_the_model(
    world: World, api: Any, birds: None, dispatch: Dispatch, elsewhere: Elsewhere
) -> None:
    failed = await world.listen(events.AuditFailed)
    made = await api.CreateAudit(plan(sample_size=20, source=LABEL_SOURCE_CONSENSUS))
    assert {s.source for s in made.strata} == {LABEL_SOURCE_CONSENSUS}
    for item in await asked(dispatch, made, 20):
        await world.publish(elsewhere.review(item, elsewhere.says("wren"), audit=made.name))
    [verdict] = await failed.count(1)
    assert not verdict.message.covers_auto_labels


async def test_the_estimate_grows_with_the_reviews(
    world: World, api: Any, birds: None, dispatch: Dispatch, elsewhere: Elsewhere
) -> None:
    made = await api.CreateAudit(plan(sample_size=40))
    items = await asked(dispatch, made, 40)
    await world.publish(*(elsewhere.review(i, elsewhere.says("robin"), audit=made.name) for i in items[:30]))

    async def now() -> pb.Audit:
        found: pb.Audit = await api.GetAudit(pb.GetAuditRequest(name=made.name))
        return found

    await eventually(lambda: reviewed(now), 30)
    so_far = await now()
    assert so_far.state == pb.AUDIT_STATE_REVIEWING
    assert 0 < so_far.error_high < 1
    assert so_far.verdict == "30 of 40 labels are judged."


async def reviewed(now: Callable[[], Any]) -> int:
    return int((await now()).reviewed)


async def test_the_bound_is_the_projects_own_unless_the_plan_has_one(
    world: World, audit: Service, api: Any, elsewhere: Elsewhere
) -> None:
    await world.publish(elsewhere.project_created(alpha=0.02), elsewhere.label(1))
    await eventually(lambda: audit.database.fetchval("SELECT count(*) FROM label"), 1)
    assert (await api.CreateAudit(plan())).plan.max_error == 0.02
    assert (await api.CreateAudit(plan(max_error=0.3, confidence=0.8))).plan.confidence == 0.8


async def test_the_same_seed_draws_the_same_labels_and_another_one_others(
    api: Any, birds: None, dispatch: Dispatch
) -> None:
    first = await api.CreateAudit(plan(sample_size=30, seed=7))
    again = await api.CreateAudit(plan(sample_size=30, seed=7))
    other = await api.CreateAudit(plan(sample_size=30, seed=8))
    assert (
        await asked(dispatch, first, 30)
        == await asked(dispatch, again, 30)
        != await asked(dispatch, other, 30)
    )
    assert (await api.CreateAudit(plan(sample_size=3))).plan.seed > 0


async def test_a_draw_is_uniform_within_its_stratum(audit: Service, api: Any, birds: None) -> None:
    for seed in range(1, 41):
        await api.CreateAudit(plan(sample_size=30, seed=seed, source=LABEL_SOURCE_AUTO))
    drawn = await audit.database.fetch("SELECT count(*) AS times FROM sample GROUP BY item")
    times = [row["times"] for row in drawn]
    # 40 draws of 30 of 100: each label 12 times give or take 2.9; all 100 were reached, none much too often.
    assert len(times) == 100
    assert max(times) <= 24
    variance = sum((t - 12) ** 2 for t in times) / 100
    assert 4.5 < variance < 13.5  # 8.4 if the draws are independent


# --- labels and reviews in any order, any number of times


async def test_only_the_newest_revision_of_a_label_is_drawn(
    world: World, audit: Service, api: Any, dispatch: Dispatch, elsewhere: Elsewhere
) -> None:
    revisions = [
        elsewhere.label(i, "wren" if r == 3 else "robin", revision=r) for i in range(20) for r in (1, 2, 3)
    ]
    random.Random(2).shuffle(revisions)
    await world.publish(elsewhere.project_created(), *revisions, copies=2)
    newest = "SELECT count(*) FROM label WHERE revision = 3 AND class_id = 'wren'"
    await eventually(lambda: audit.database.fetchval(newest), 20)
    assert await audit.database.fetchval("SELECT count(*) FROM label") == 20
    made = await api.CreateAudit(plan(sample_size=20))
    assert [s.class_id for s in made.strata] == ["wren"]


async def test_reviews_that_come_several_times_and_shuffled_count_once(
    world: World, api: Any, birds: None, dispatch: Dispatch, elsewhere: Elsewhere
) -> None:
    corrections = await world.listen(events.LabelCorrected)
    verdicts = await world.listen(events.AuditPassed, events.AuditFailed)
    made = await api.CreateAudit(plan(sample_size=25))
    items = await asked(dispatch, made, 25)
    reviews = [elsewhere.review(i, elsewhere.says("wren"), audit=made.name) for i in items]
    second = [elsewhere.review(i, elsewhere.says("robin"), audit=made.name, reviewer="sam") for i in items]
    random.Random(4).shuffle(reviews)
    await world.publish(*reviews, copies=3)
    done = await ended(api, made)
    await world.publish(*second)  # late second opinions: kept in the ledger, not counted
    await world.publish(
        elsewhere.review("projects/birds/items/never-drawn", elsewhere.says("wren"), audit=made.name)
    )
    unknown = "projects/birds/audits/never-made"
    await world.publish(elsewhere.review(items[0], elsewhere.says("wren"), audit=unknown))
    await world.publish(elsewhere.label("after"))
    await eventually(lambda: _exists(api, "after", made))
    assert (done.reviewed, done.wrong) == (25, 25)
    assert await api.GetAudit(pb.GetAuditRequest(name=made.name)) == done
    assert len(await corrections.count(25)) == 25
    assert len(await verdicts.count(1)) == 1


async def _exists(api: Any, item: str, made: pb.Audit) -> bool:
    """Whether a label that was published last is part of the population by now."""
    probe = await api.CreateAudit(plan(sample_size=1))
    return bool(sum(s.population for s in probe.strata) == 301)


async def test_a_label_that_was_corrected_meanwhile_is_not_corrected_again(
    world: World, audit: Service, api: Any, birds: None, dispatch: Dispatch, elsewhere: Elsewhere
) -> None:
    corrections = await world.listen(events.LabelCorrected)
    made = await api.CreateAudit(plan(sample_size=2))
    one, two = await asked(dispatch, made, 2)
    key = one.rsplit("/", 1)[1]
    await world.publish(elsewhere.label(key, "wren", revision=2, source=LABEL_SOURCE_CORRECTION))
    await eventually(lambda: audit.database.fetchval("SELECT count(*) FROM label WHERE revision = 2"), 1)
    await world.publish(*(elsewhere.review(i, elsewhere.says("wren"), audit=made.name) for i in (one, two)))
    assert (await ended(api, made)).wrong == 2  # what was drawn was wrong, whatever stands now
    [only] = await corrections.count(1)
    assert only.message.item == two


# --- reviewers who cannot tell


async def test_a_second_reviewer_is_asked_and_then_the_label_is_left_out(
    world: World, api: Any, birds: None, dispatch: Dispatch, elsewhere: Elsewhere
) -> None:
    made = await api.CreateAudit(plan(sample_size=12))
    items = await asked(dispatch, made, 12)
    doubtful, hopeless = items[0], items[1]
    await world.publish(*(elsewhere.review(i, elsewhere.says("robin"), audit=made.name) for i in items[2:]))
    await world.publish(*(elsewhere.review(i, [CANNOT_TELL], audit=made.name) for i in (doubtful, hopeless)))
    await eventually(lambda: [dispatch.wanted[made.name, item] for item in (doubtful, hopeless)], [2, 2])
    assert (await api.GetAudit(pb.GetAuditRequest(name=made.name))).state == pb.AUDIT_STATE_REVIEWING
    await world.publish(elsewhere.review(doubtful, elsewhere.says("robin"), audit=made.name, reviewer="sam"))
    await world.publish(elsewhere.review(hopeless, [], audit=made.name, reviewer="sam"))
    done = await ended(api, made)
    assert (done.sampled, done.reviewed, done.wrong) == (12, 11, 0)
    assert done.verdict.endswith("1 could not be judged and are left out.")
    findings = (await api.ListFindings(pb.ListFindingsRequest(parent=made.name))).findings
    assert len(findings) == 14
    assert not any(finding.wrong for finding in findings)


# --- disputes


async def test_a_review_of_a_disputed_item_becomes_its_label(
    world: World, audit: Service, elsewhere: Elsewhere
) -> None:
    corrections = await world.listen(events.LabelCorrected)
    item = "projects/birds/items/42"
    settled = [*elsewhere.says("wren"), Answer(question="weight", number=17.5)]
    # The review may well be heard of before its project.
    await world.publish(elsewhere.review(item, settled), elsewhere.project_created())
    first, second = (event.message for event in await corrections.count(2))
    assert {first.answer.question, second.answer.question} == {"species", "weight"}
    assert first.reason == second.reason == events.CORRECTION_REASON_DISPUTE_RESOLVED
    assert (first.audit, first.judged_revision, first.item) == ("", 0, item)


async def test_a_dispute_settles_doubtful_labels_and_leaves_sure_ones_that_agree(
    world: World, audit: Service, elsewhere: Elsewhere
) -> None:
    corrections = await world.listen(events.LabelCorrected)
    await world.publish(
        elsewhere.project_created(),
        elsewhere.label("sure", "wren", confidence=0.99),
        elsewhere.label("doubtful", "wren", confidence=0.55),
        elsewhere.label("other", "robin", confidence=0.99),
    )
    await eventually(lambda: audit.database.fetchval("SELECT count(*) FROM label"), 3)
    items = [f"projects/birds/items/{key}" for key in ("sure", "doubtful", "other")]
    await world.publish(*(elsewhere.review(item, elsewhere.says("wren")) for item in items))
    assert [event.message.item for event in await corrections.count(2)] == items[1:]


async def test_what_labelers_answer_is_no_review(world: World, audit: Service, elsewhere: Elsewhere) -> None:
    corrections = await world.listen(events.LabelCorrected)
    await world.publish(
        elsewhere.project_created(),
        elsewhere.review("projects/birds/items/1", elsewhere.says("robin"), kind=ANNOTATION_KIND_LABEL),
        elsewhere.review("projects/birds/items/2", elsewhere.says("robin")),
    )
    [only] = await corrections.count(1)
    assert only.message.item == "projects/birds/items/2"


# --- the API's own promises


async def test_a_draw_is_not_designed_by_whoever_answers_calls(
    api: Any, birds: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, designed = list[int](), handlers.design

    def noting(*arguments: Any) -> Any:
        threads.append(threading.get_ident())
        return designed(*arguments)

    monkeypatch.setattr(handlers, "design", noting)
    await api.CreateAudit(plan(sample_size=5))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_creating_twice_with_one_request_id_makes_one_audit(api: Any, birds: None) -> None:
    request = plan(sample_size=5)
    request.request_id = "once"
    assert await api.CreateAudit(request) == await api.CreateAudit(request)
    request.plan.sample_size = 6
    assert await reason_of(api.CreateAudit(request)) == "REQUEST_ID_REUSED"


async def test_audits_are_listed_newest_first_in_pages(api: Any, birds: None) -> None:
    made = [(await api.CreateAudit(plan(sample_size=5))).name for _ in range(5)]
    listed: list[str] = []
    request = pb.ListAuditsRequest(parent="projects/birds", page_size=2)
    while True:
        page = await api.ListAudits(request)
        listed += [audit.name for audit in page.audits]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert listed == made[::-1]


async def test_findings_are_listed_in_pages(
    world: World, api: Any, birds: None, dispatch: Dispatch, elsewhere: Elsewhere
) -> None:
    made = await api.CreateAudit(plan(sample_size=7))
    items = await asked(dispatch, made, 7)
    await world.publish(*(elsewhere.review(i, elsewhere.says("robin"), audit=made.name) for i in items))
    await ended(api, made)
    request = pb.ListFindingsRequest(parent=made.name, page_size=3)
    sizes, seen = [], set()
    while True:
        page = await api.ListFindings(request)
        sizes.append(len(page.findings))
        seen |= {finding.name for finding in page.findings}
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert sizes == [3, 3, 1]
    assert len(seen) == 7


async def test_another_tenants_audits_do_not_exist(audit: Service, api: Any, birds: None) -> None:
    made = await api.CreateAudit(plan(sample_size=5))
    rival = audit.stub(AuditServiceStub, tenant="rival")
    assert await reason_of(rival.GetAudit(pb.GetAuditRequest(name=made.name))) == "AUDIT_NOT_FOUND"
    assert await reason_of(rival.CancelAudit(pb.CancelAuditRequest(name=made.name))) == "AUDIT_NOT_FOUND"
    assert await reason_of(rival.ListFindings(pb.ListFindingsRequest(parent=made.name))) == "AUDIT_NOT_FOUND"
    assert (
        await reason_of(rival.ListAudits(pb.ListAuditsRequest(parent="projects/birds")))
        == "PROJECT_NOT_FOUND"
    )
    assert await reason_of(rival.CreateAudit(plan())) == "PROJECT_NOT_FOUND"


async def test_a_project_that_was_made_a_moment_ago_is_worth_another_try(store: Any, api: Any) -> None:
    store.projects["projects/birds"] = Project(name="projects/birds", state=PROJECT_STATE_ACTIVE)
    assert await reason_of(api.CreateAudit(plan())) == "PROJECT_NOT_HERE_YET"


async def test_a_reviewer_is_told_neither_verdicts_nor_what_other_reviewers_saw(
    audit: Service, api: Any, birds: None
) -> None:
    made = await api.CreateAudit(plan(sample_size=5))
    reviewer = audit.stub(AuditServiceStub, subject="rita", roles=["reviewer"])
    for call in (
        reviewer.GetAudit(pb.GetAuditRequest(name=made.name)),
        reviewer.ListAudits(pb.ListAuditsRequest(parent="projects/birds")),
        reviewer.ListFindings(pb.ListFindingsRequest(parent=made.name)),
        anext(aiter(reviewer.ReadLedger(pb.ReadLedgerRequest()))),
    ):
        assert await reason_of(call) == "PERMISSION_MISSING"


async def test_an_audit_that_cannot_be_is_refused_with_a_reason(api: Any, birds: None) -> None:
    assert await reason_of(api.CreateAudit(plan(question="colour"))) == "QUESTION_UNKNOWN"
    assert await reason_of(api.CreateAudit(plan(question="weight"))) == "NO_LABELS"
    assert await reason_of(api.CreateAudit(plan(source=LABEL_SOURCE_CORRECTION))) == "NO_LABELS"
    assert await reason_of(api.CreateAudit(plan(max_error=1.5))) == "INVALID_FIELD"
    assert await reason_of(api.CreateAudit(plan(sample_size=-1))) == "INVALID_FIELD"
