from __future__ import annotations

import asyncio
import time
from importlib.resources import files
from typing import Any

import pytest

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.events.v1 import annotation_store_events_pb2 as events_pb
from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as v
from cairn_annotation_store.handlers import submissions
from cairn_annotation_store.store import AnnotationStore
from cairn_kit.errors import FailedPrecondition, from_status


@pytest.fixture
async def ready(birds: Any) -> Any:
    await birds.create()
    await birds.texts(30)
    return birds


def request(token: str, *answers: v.Answer, request_id: str = "") -> pb.SubmitAnnotationRequest:
    return pb.SubmitAnnotationRequest(lease_token=token, answers=answers, request_id=request_id)


async def test_the_same_answer_again_is_the_first_annotation(ready: Any, tools: Any) -> None:
    heard = await ready.world.listen(events_pb.AnnotationSubmitted)
    token = ready.lease("a0000")
    first = await ready.submit(token, tools.chose("wren"))
    assert await ready.submit(token, tools.chose("wren")) == first
    async with tools.refused("LEASE_ALREADY_ANSWERED"):
        await ready.submit(token, tools.chose("owl"))
    await ready.submit(ready.lease("a0001"), tools.chose("owl"))
    events = await heard.count(2)
    assert [event.message.item for event in events] == [
        "projects/birds/items/a0000",
        "projects/birds/items/a0001",
    ]
    assert (await ready.progress()).annotations == 2


async def test_a_request_id_makes_submitting_safe_to_repeat(ready: Any, tools: Any) -> None:
    token = ready.lease("a0000")
    first = await ready.submit(token, tools.chose("wren"), request_id="r")
    assert await ready.submit(token, tools.chose("wren"), request_id="r") == first
    async with tools.refused("REQUEST_ID_REUSED"):
        await ready.submit(token, tools.chose("owl"), request_id="r")


async def test_a_request_id_is_its_labelers_own(ready: Any, tools: Any) -> None:
    # given two who count their requests alike, and send them at once
    ann, bob = (ready.as_(subject=labeler, roles=["labeler"]) for labeler in ("ann", "bob"))
    kept = await asyncio.gather(
        ready.submit(ready.lease("a0000"), tools.chose("wren"), stub=ann, request_id="1"),
        ready.submit(ready.lease("a0001", "bob"), tools.chose("owl"), stub=bob, request_id="1"),
    )
    assert [annotation.labeler for annotation in kept] == ["labelers/ann", "labelers/bob"]


async def test_many_submit_the_same_lease_at_once_and_one_is_kept(ready: Any, tools: Any) -> None:
    token = ready.lease("a0000")
    answers = await asyncio.gather(
        *(ready.submit(token, tools.chose("wren" if i % 2 else "owl")) for i in range(40)),
        return_exceptions=True,
    )
    kept = {answer.name for answer in answers if isinstance(answer, pb.Annotation)}
    assert len(kept) == 1
    assert (await ready.progress()).annotations == 1


@pytest.mark.parametrize("first_expires", [60, -60], ids=["released", "expired"])
async def test_a_labeler_answers_an_item_once_by_whatever_lease(
    ready: Any, tools: Any, first_expires: int
) -> None:
    # given an item that its labeler leased again after the first lease was given back, or had ended
    first = ready.lease("a0000", expires_at=time.time() + first_expires)
    second = ready.lease("a0000")
    heard = await ready.world.listen(events_pb.AnnotationSubmitted)
    # when both are answered, one after the other
    kept = await ready.submit(second, tools.chose("wren"))
    async with tools.refused("ALREADY_ANSWERED") as errors:
        await ready.submit(first, tools.chose("wren"))
    # then the first answer stands, its repetition too, and nobody hears of another
    assert isinstance(errors[0], FailedPrecondition)
    assert await ready.submit(second, tools.chose("wren")) == kept
    await ready.submit(ready.lease("a0000", labeler="bob"), tools.chose("wren"))
    await ready.submit(ready.lease("a0000", kind="REVIEW"), tools.chose("wren"))
    assert len(await heard.count(3)) == 3
    assert (await ready.progress()).annotations == 3


async def test_of_two_answers_of_a_labeler_at_once_the_first_is_kept(ready: Any, tools: Any) -> None:
    for item in ("a0000", "a0001", "a0002", "a0003"):
        requests = [request(ready.lease(item), tools.chose(species)) for species in ("wren", "owl")]
        requests.append(request(ready.lease(item, labeler="bob"), tools.chose("owl")))
        answer = await ready.operator.SubmitAnnotations(pb.SubmitAnnotationsRequest(requests=requests))
        first, second, of_bob = answer.results
        assert list(first.annotation.answers) == [tools.chose("wren")]
        assert from_status(second.error).reason == "ALREADY_ANSWERED"
        assert of_bob.HasField("annotation")


async def test_an_answer_of_gold_and_one_of_a_plain_item_are_answers_alike(birds: Any, tools: Any) -> None:
    await birds.create()
    await birds.take_in([pb.Item(key="g", text="hoo", gold_answers=[tools.chose("owl")])])
    await birds.submit(birds.lease("g", kind="GOLD"), tools.chose("owl"))
    async with tools.refused("ALREADY_ANSWERED"):
        await birds.submit(birds.lease("g", kind="LABEL"), tools.chose("owl"))


async def test_the_rule_of_one_answer_comes_to_a_store_that_has_two(ready: Any, tools: Any) -> None:
    # given a store of the release before, with two answers of one labeler
    migration = files("cairn_annotation_store") / "sql" / "migrations" / "0003_one_answer_a_labeler.sql"
    await ready.database.execute("DROP INDEX one_answer_a_labeler")
    for labeler in ("ann", "bob"):
        await ready.submit(ready.lease("a0000", labeler=labeler), tools.chose("wren"))
    await ready.database.execute("UPDATE annotation SET labeler = 'labelers/ann'")
    # when it is migrated
    await ready.database.execute(migration.read_text())
    # then both are there, and no third is taken
    assert (await ready.progress()).annotations == 2
    async with tools.refused("ALREADY_ANSWERED"):
        await ready.submit(ready.lease("a0000"), tools.chose("wren"))


async def test_an_answer_that_cannot_be_committed_soon_is_refused(
    ready: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given somebody who holds up what comes after the INSERT
    monkeypatch.setattr(submissions, "_LONGEST_SECONDS", 1)
    token = ready.lease("a0000")
    async with ready.database.transaction() as tx:
        await tx.execute("LOCK TABLE schema_use")
        # then it is refused before its time to commit is over, and was never there
        async with tools.refused("STORAGE_UNAVAILABLE"):
            await ready.submit(token, tools.chose("wren"))
    assert (await ready.progress()).annotations == 0
    await ready.submit(token, tools.chose("wren"))


async def test_the_server_ends_a_submission_that_its_process_forgets(ready: Any) -> None:
    async with ready.database.transaction() as tx:
        await AnnotationStore().end_within(tx, 7)
        assert await tx.fetchval("SHOW statement_timeout") == "7s"
        if tx.connection.get_server_version().major >= 17:
            assert await tx.fetchval("SHOW transaction_timeout") == "7s"


async def test_a_lease_is_for_its_own_labeler(ready: Any, tools: Any) -> None:
    token = ready.lease("a0000", labeler="ann")
    bob = ready.as_(subject="bob", roles=["labeler"])
    async with tools.refused("LEASE_TOKEN_INVALID"):
        await ready.submit(token, tools.chose("wren"), stub=bob)
    annotation = await ready.submit(token, tools.chose("wren"), stub=ready.operator)  # may act for others
    assert annotation.labeler == "labelers/ann"


async def test_forged_foreign_and_malformed_tokens_are_refused(ready: Any, tools: Any) -> None:
    good = ready.lease("a0000")
    header, body, signature = good.split(".")
    other_body = ready.lease("a0001").split(".")[1]
    tokens = [
        "x",
        f"{header}.{body}.",
        f"{header}.{other_body}.{signature}",
        f"{header}.{body}.{signature[:-4]}AAAA",
        ready.world.token(subject="op", roles=["operator"]),
        ready.lease("a0000", tenant="other"),
    ]
    for token in tokens:
        async with tools.refused("LEASE_TOKEN_INVALID"):
            await ready.submit(token, tools.chose("wren"))
    async with tools.refused("ITEM_NOT_FOUND"):
        await ready.submit(ready.lease("nothing"), tools.chose("wren"))
    async with tools.refused("PROJECT_NOT_FOUND"):
        await ready.submit(ready.lease("a0000", project="fish"), tools.chose("wren"))
    restricted = ready.as_(subject="op", roles=["operator"], projects=["fish"])
    async with tools.refused("PROJECT_NOT_FOUND"):
        await ready.submit(good, tools.chose("wren"), stub=restricted)
    assert (await ready.progress()).annotations == 0


async def test_a_late_answer_is_kept_and_marked(ready: Any, tools: Any) -> None:
    late = await ready.submit(ready.lease("a0000", expires_at=time.time() - 3600), tools.chose("wren"))
    assert late.late
    in_time = await ready.submit(ready.lease("a0001"), tools.chose("wren"))
    assert not in_time.late


async def test_kinds_come_from_the_lease_and_gold_is_not_given_away(birds: Any, tools: Any) -> None:
    await birds.create()
    await birds.take_in(
        [pb.Item(key="g", text="hoo", gold_answers=[tools.chose("owl")]), pb.Item(key="a", text="x")]
    )
    heard = await birds.world.listen(events_pb.AnnotationSubmitted)
    gold = await birds.submit(birds.lease("g"), tools.chose("owl"))
    assert gold.kind == pb.ANNOTATION_KIND_LABEL  # as the labeler sees it
    token = birds.lease("a", kind="REVIEW", audit="projects/birds/audits/1")
    labeler = birds.as_(subject="ann", roles=["labeler"])
    async with tools.refused("PERMISSION_MISSING"):
        await birds.submit(token, tools.chose("owl"), stub=labeler)
    review = await birds.submit(token, tools.chose("owl"))
    assert review.kind == pb.ANNOTATION_KIND_REVIEW
    events = await heard.count(2)
    kinds = [(event.message.annotation.kind, event.message.audit) for event in events]
    assert kinds == [
        (pb.ANNOTATION_KIND_GOLD, ""),
        (pb.ANNOTATION_KIND_REVIEW, "projects/birds/audits/1"),
    ]
    seen = await birds.stub.GetAnnotation(pb.GetAnnotationRequest(name=gold.name))
    assert seen.kind == pb.ANNOTATION_KIND_GOLD
    hidden = await birds.operator.GetAnnotation(pb.GetAnnotationRequest(name=gold.name))
    assert hidden.kind == pb.ANNOTATION_KIND_LABEL
    progress = await birds.progress()
    assert (progress.annotations, progress.label_annotations) == (2, 0)


async def test_one_bad_element_never_fails_its_neighbours(ready: Any, tools: Any) -> None:
    twice = ready.lease("a0002")
    results = (
        await ready.operator.SubmitAnnotations(
            pb.SubmitAnnotationsRequest(
                requests=[
                    request(ready.lease("a0000"), tools.chose("wren")),
                    request(ready.lease("a0001"), tools.chose("cow")),
                    request("forged", tools.chose("wren")),
                    request(ready.lease("a0001")),
                    request(twice, tools.chose("owl")),
                    request(twice, tools.chose("owl")),
                    request(twice, tools.chose("wren")),
                    request(ready.lease("a0003"), v.Answer(question="species", number=float("nan"))),
                    request(ready.lease("a0004"), tools.chose("wren"), request_id="\0"),
                ]
            )
        )
    ).results
    told = [
        result.annotation.name.split("/")[3]
        if result.HasField("annotation")
        else from_status(result.error).reason
        for result in results
    ]
    assert told == [
        "a0000", "ANSWER_INVALID", "LEASE_TOKEN_INVALID", "INVALID_FIELD", "a0002", "a0002",
        "LEASE_ALREADY_ANSWERED", "INVALID_FIELD", "INVALID_FIELD",
    ]  # fmt: skip
    error = from_status(results[1].error)
    assert error.violations[0].field == "answers[0].choice"  # type: ignore[attr-defined]
    assert (await ready.progress()).annotations == 2


async def test_a_hundred_labelers_at_once_are_all_kept(ready: Any, tools: Any) -> None:
    heard = await ready.world.listen(events_pb.AnnotationSubmitted)
    kept = await asyncio.gather(
        *(
            ready.submit(
                ready.lease(f"a{i % 30:04d}", labeler=f"l{i}"), tools.chose("wren"), request_id=f"r{i}"
            )
            for i in range(100)
        )
    )
    assert len({annotation.name for annotation in kept}) == 100
    events = await heard.count(100)
    assert {event.resource for event in events} == {annotation.name for annotation in kept}


async def test_annotations_are_listed_oldest_first_in_pages(ready: Any, tools: Any) -> None:
    leases = [ready.lease(f"a{i % 2:04d}", labeler=f"l{i}") for i in range(6)]
    names = [(await ready.submit(lease, tools.chose("wren"))).name for lease in leases]

    async def listed(parent: str) -> list[str]:
        found, token = [], ""
        while True:
            page = await ready.stub.ListAnnotations(
                pb.ListAnnotationsRequest(parent=parent, page_size=2, page_token=token)
            )
            found += [annotation.name for annotation in page.annotations]
            token = page.next_page_token
            if not token:
                return found

    assert await listed("projects/birds/items/-") == names
    assert await listed("projects/birds/items/a0001") == names[1::2]
    async with tools.refused("ITEM_NOT_FOUND"):
        await listed("projects/birds/items/nothing")
    async with tools.refused("ANNOTATION_NOT_FOUND"):
        await ready.stub.GetAnnotation(pb.GetAnnotationRequest(name=f"{names[0][:-4]}0000"))


async def test_dispatch_learns_which_leases_were_answered(ready: Any, tools: Any) -> None:
    await ready.submit(ready.lease("a0000", lease="l1", task="t"), tools.chose("wren"))
    await ready.submit(ready.lease("a0001", lease="l2", task="t", expires_at=1.0), tools.chose("wren"))
    dispatch = ready.as_(subject="services/task-dispatch", roles=["service"])
    names = [
        f"projects/birds/tasks/{task}/leases/{lease}"
        for task, lease in [("t", "l1"), ("t", "l3"), ("t", "l2"), ("u", "l1")]
    ]
    answer = await dispatch.BatchGetAnsweredLeases(pb.BatchGetAnsweredLeasesRequest(leases=names))
    assert list(answer.answered_leases) == [names[0], names[2]]
    assert list(answer.late) == [False, True]
    async with tools.refused("PERMISSION_MISSING"):
        await ready.stub.BatchGetAnsweredLeases(pb.BatchGetAnsweredLeasesRequest(leases=names))


async def test_a_leased_item_shows_nothing_that_gives_gold_away(birds: Any, tools: Any) -> None:
    await birds.create()
    gold = pb.Item(
        key="g", text="hoo", gold_answers=[tools.chose("owl")], metadata={"truth": "owl"}, priority=0.5
    )
    await birds.take_in([gold, pb.Item(key="a", text="x")])
    ann = birds.as_(subject="ann", roles=["labeler"])
    tokens = [
        birds.lease("g"),
        birds.lease("a", labeler="bob"),
        "forged",
        birds.lease("a", expires_at=1.0),
        birds.lease("nothing"),
    ]
    answer = await ann.GetLeasedItems(pb.GetLeasedItemsRequest(lease_tokens=tokens))
    # neither what the importer said of it nor when it came: gold often comes by itself
    assert answer.items[0].item == pb.Item(name="projects/birds/items/g", key="g", text="hoo")
    assert [from_status(item.error).reason for item in answer.items[1:]] == [
        "LEASE_TOKEN_INVALID", "LEASE_TOKEN_INVALID", "LEASE_TOKEN_EXPIRED", "ITEM_NOT_FOUND",
    ]  # fmt: skip
    assert [(p.project, p.schema_version) for p in answer.projects] == [("projects/birds", 1)]
    assert answer.projects[0].schema == tools.choice_schema()


async def test_answers_too_large_for_an_event_are_kept_and_told_without_them(birds: Any, tools: Any) -> None:
    note = schema_pb.Question(id="note", text=schema_pb.TextQuestion(max_length=1_000_000))
    await birds.create(schema_pb.LabelSchema(questions=[note]))
    await birds.texts(3)
    heard = await birds.world.listen(events_pb.AnnotationSubmitted)
    long = v.Answer(question="note", text="x" * 500_000)
    kept = await birds.submit(birds.lease("a0000"), long)
    [event] = await heard.count(1)
    told = tools.as_consumers_read(event)
    assert told.answers_omitted
    assert not told.annotation.answers
    service = birds.as_(subject="services/task-dispatch", roles=["service"])
    read = await service.GetAnnotation(pb.GetAnnotationRequest(name=told.annotation.name))
    assert (read.name, list(read.answers)) == (kept.name, [long])
    for size in (1_000_001, 3_000_000):
        async with tools.refused("ANSWER_INVALID", "ANSWERS_TOO_LARGE"):
            await birds.submit(birds.lease("a0001"), v.Answer(question="note", text="x" * size))


async def test_an_answer_kept_before_a_schema_change_is_still_the_first_annotation(
    ready: Any, tools: Any
) -> None:
    token = ready.lease("a0000")
    first = await ready.submit(token, tools.chose("wren"))
    await ready.stub.ArchiveProject(pb.ArchiveProjectRequest(name="projects/birds"))
    assert await ready.submit(token, tools.chose("wren")) == first
