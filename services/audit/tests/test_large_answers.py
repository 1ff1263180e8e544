"""Answers that no event can carry: read from annotation-store, and judged like any other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cairn.annotation.v1.annotation_store_pb2 import ANNOTATION_KIND_LABEL
from cairn.audit.v1 import audit_pb2 as pb
from cairn.events.v1 import audit_events_pb2 as events
from cairn.events.v1.annotation_store_events_pb2 import AnnotationSubmitted
from cairn.label.v1.label_value_pb2 import Answer
from cairn_audit.domain.names import AuditId, Project, Tenant
from cairn_audit.store import AuditKey, AuditStore
from cairn_kit.rpc import PAGE_BYTES, invalid
from cairn_kit.testing import World, eventually

Service = Any
Elsewhere = Any
Dispatch = Any
Store = Any

ITEM = "projects/birds/items/1"


def note(text: str = "x", size: int = 300_000) -> Answer:
    return Answer(question="note", text=text * size)


@pytest.fixture
async def notes(world: World, audit: Service, elsewhere: Elsewhere, store: Store) -> None:
    """A project with a large label, of item 1, and three small ones."""
    await world.publish(
        elsewhere.project_created(),
        store.keep(elsewhere.label(1, answer=note())),
        *(elsewhere.label(item, answer=note(size=1)) for item in (2, 3, 4)),
    )
    await eventually(lambda: audit.database.fetchval("SELECT count(*) FROM label"), 4)


async def create(api: Any) -> pb.Audit:
    """An audit of every note."""
    plan = pb.AuditPlan(question="note", sample_size=4, max_error=1.0)
    made: pb.Audit = await api.CreateAudit(pb.CreateAuditRequest(parent="projects/birds", plan=plan))
    assert made.sampled == 4
    return made


def asked(dispatch: Dispatch) -> list[str]:
    return sorted(item.rsplit("/", 1)[1] for _, item in dispatch.wanted)


async def ended(api: Any, audit: pb.Audit) -> pb.Audit:
    async def look() -> pb.Audit | None:
        now: pb.Audit = await api.GetAudit(pb.GetAuditRequest(name=audit.name))
        return now if now.state != pb.AUDIT_STATE_REVIEWING else None

    found: pb.Audit = await eventually(look)
    return found


def counting(audit: Service, table: str) -> Callable[[], Awaitable[int]]:
    return lambda: audit.database.fetchval(f"SELECT count(*) FROM {table}")


# --- reviews


async def test_a_review_whose_answers_were_left_out_of_the_event_settles_its_dispute(
    world: World, audit: Service, elsewhere: Elsewhere, store: Store
) -> None:
    corrections = await world.listen(events.LabelCorrected)
    review = store.keep(elsewhere.review(ITEM, [*elsewhere.says("wren"), note(size=210_000)]))
    await world.publish(elsewhere.project_created(), review)

    heard = {event.message.question: event.message for event in await corrections.count(2)}
    assert heard["species"].answer == Answer(question="species", choice="wren")
    assert [(said.item, said.annotation) for said in heard.values()] == [(ITEM, review.resource)] * 2
    told = heard["note"]
    assert (told.answer_omitted, told.HasField("answer")) == (True, False), "too large for this event as well"
    assert [invalid(said) for said in heard.values()] == [None, None]


async def test_the_ledger_keeps_a_review_as_it_was_sent(
    world: World, audit: Service, elsewhere: Elsewhere, store: Store
) -> None:
    review = store.keep(elsewhere.review(ITEM, elsewhere.says("wren")))
    await world.publish(elsewhere.project_created(), review)
    await eventually(counting(audit, "ledger_entry WHERE index > 1"))
    records = [
        pb.LedgerRecord.FromString(row["record"])
        for row in await audit.database.fetch("SELECT record FROM ledger_entry")
    ]
    [kept] = [record.data for record in records if record.subject == review.resource]
    assert AnnotationSubmitted.FromString(kept) == review.message


async def test_a_review_whose_answers_were_left_out_of_the_event_is_a_finding(
    world: World, api: Any, notes: None, dispatch: Dispatch, elsewhere: Elsewhere, store: Store
) -> None:
    made = await create(api)
    await eventually(lambda: asked(dispatch), ["1", "2", "3", "4"])
    said = {1: note(), 2: note("y"), 3: note(size=1), 4: note(size=1)}
    await world.publish(
        *(
            store.keep(elsewhere.review(f"projects/birds/items/{item}", [answer], audit=made.name))
            for item, answer in said.items()
        )
    )
    done = await ended(api, made)
    assert (done.reviewed, done.wrong) == (4, 1)


async def test_reviews_wait_for_a_store_that_is_away_and_hold_up_nobody_else(
    world: World, audit: Service, elsewhere: Elsewhere, store: Store
) -> None:
    corrections = await world.listen(events.LabelCorrected)
    other = "projects/birds/items/2"
    store.away = True
    await world.publish(
        elsewhere.project_created(),
        store.keep(elsewhere.review(ITEM, elsewhere.says("wren"))),
        elsewhere.review(other, elsewhere.says("robin")),
    )
    assert [event.message.item for event in await corrections.count(1)] == [other]

    store.away = False
    assert [event.message.item for event in await corrections.count(2, timeout=30)] == [other, ITEM]
    assert await counting(audit, "dead_letter")() == 0


async def test_the_ledger_is_not_locked_while_answers_are_read(
    world: World, api: Any, elsewhere: Elsewhere, store: Store
) -> None:
    corrections = await world.listen(events.LabelCorrected)
    store.hold = asyncio.Event()
    await world.publish(
        elsewhere.project_created(), store.keep(elsewhere.review(ITEM, elsewhere.says("wren")))
    )
    await eventually(lambda: store.waiting, 1)
    await api.GetCheckpoint(pb.GetCheckpointRequest())
    assert store.waiting == 1, "the checkpoint was had meanwhile"
    store.hold.set()
    await corrections.count(1)


async def test_what_labelers_answer_is_not_read(
    world: World, audit: Service, elsewhere: Elsewhere, store: Store
) -> None:
    store.away = True
    answer = elsewhere.review(ITEM, elsewhere.says("wren"), kind=ANNOTATION_KIND_LABEL)
    await world.publish(store.keep(answer))
    await eventually(counting(audit, "ledger_entry"))


# --- labels


async def test_a_label_left_out_of_its_event_is_read_before_its_review_is_asked_for(
    world: World, api: Any, notes: None, dispatch: Dispatch, elsewhere: Elsewhere, store: Store
) -> None:
    store.away = True
    made = await create(api)
    await eventually(lambda: asked(dispatch), ["2", "3", "4"])

    store.away = False
    await eventually(lambda: asked(dispatch), ["1", "2", "3", "4"])
    await world.publish(
        store.keep(elsewhere.review(ITEM, [note()], audit=made.name)), *small_ones_are_right(elsewhere, made)
    )
    done = await ended(api, made)
    assert (done.reviewed, done.wrong) == (4, 0)
    findings = (await api.ListFindings(pb.ListFindingsRequest(parent=made.name))).findings
    [seen] = [finding for finding in findings if finding.label.startswith(f"{ITEM}/")]
    assert seen.label_answer == note()


async def test_a_review_that_comes_before_its_label_is_read_waits_for_it(
    world: World, api: Any, notes: None, elsewhere: Elsewhere, store: Store
) -> None:
    """Somebody made its task by hand."""
    store.away = True
    made = await create(api)
    early = elsewhere.review(ITEM, [note(size=200_000)], audit=made.name)
    await world.publish(early, *small_ones_are_right(elsewhere, made))
    await eventually(lambda: reviewed(api, made), 3)

    store.away = False
    done = await ended(api, made)
    assert (done.reviewed, done.wrong) == (4, 1)
    findings = (await api.ListFindings(pb.ListFindingsRequest(parent=made.name, wrong_only=True))).findings
    assert [finding.label_answer for finding in findings] == [note()]


def small_ones_are_right(elsewhere: Elsewhere, audit: pb.Audit) -> list[Any]:
    """The reviews of the small labels."""
    items = [f"projects/birds/items/{item}" for item in (2, 3, 4)]
    return [elsewhere.review(item, [note(size=1)], audit=audit.name) for item in items]


async def reviewed(api: Any, audit: pb.Audit) -> int:
    return int((await api.GetAudit(pb.GetAuditRequest(name=audit.name))).reviewed)


async def test_a_label_that_the_store_does_not_have_is_left_out_and_the_audit_ends(
    world: World,
    audit: Service,
    api: Any,
    notes: None,
    dispatch: Dispatch,
    elsewhere: Elsewhere,
    store: Store,
) -> None:
    store.labels.clear()
    made = await create(api)
    await eventually(lambda: asked(dispatch), ["2", "3", "4"])
    await world.publish(*small_ones_are_right(elsewhere, made))
    hurry = "UPDATE sample SET ask_after = now(), refusals = greatest(refusals, 10) WHERE outcome = 'open'"

    async def over() -> bool:
        await audit.database.execute(hurry)
        now = await api.GetAudit(pb.GetAuditRequest(name=made.name))
        return bool(now.state == pb.AUDIT_STATE_PASSED)

    await eventually(over)
    done = await api.GetAudit(pb.GetAuditRequest(name=made.name))
    assert (done.sampled, done.reviewed, done.wrong) == (4, 3, 0)


# --- reading


FIND = """
WITH begun AS (
  INSERT INTO audit (tenant, project, audit, question, source, max_error, confidence, seed)
  VALUES ('acme', 'birds', 'a', 'note', 0, 0.05, 0.95, 1)),
s AS (INSERT INTO stratum VALUES ('acme', 'birds', 'a', 0, 1, '', 0.0, 1.0, 20)),
drawn AS (
  INSERT INTO sample (tenant, project, audit, item, stratum, label_revision, label_answer)
  SELECT 'acme', 'birds', 'a', n, 0, 1, $1 FROM generate_series(1, 20) n)
INSERT INTO finding (tenant, project, audit, finding, item, judgement, review_answer, reviewer, annotation)
SELECT 'acme', 'birds', 'a', lpad(n::text, 2, '0'), n, 'wrong', $2, 'labelers/ann', 'an annotation'
FROM generate_series(1, 20) n
"""


async def test_a_page_of_large_findings_holds_what_a_call_can_carry(audit: Service, api: Any) -> None:
    # given twenty findings of 400 KB
    answers = [note(text, 200_000).SerializeToString() for text in "xy"]
    await audit.database.execute(FIND, *answers)
    # when they are listed
    request = pb.ListFindingsRequest(parent="projects/birds/audits/a")
    seen: list[str] = []
    while page := await api.ListFindings(request):
        assert page.ByteSize() < 4 << 20
        seen += [finding.name.rsplit("/", 1)[1] for finding in page.findings]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    # then each is there once, and no more of them were read than are shown, but for one
    assert seen == [f"{n:02}" for n in range(1, 21)]
    key = AuditKey(Tenant("acme"), Project("birds"), AuditId("a"))
    read = await AuditStore().findings_after(audit.database, key, "", False, 100, PAGE_BYTES)
    assert len(read) == 1 + PAGE_BYTES // 400_000
