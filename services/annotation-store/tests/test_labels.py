from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.annotation.v1.annotation_store_pb2_grpc import AnnotationStoreServiceStub
from cairn.events.v1 import annotation_store_events_pb2 as events_pb
from cairn.events.v1 import audit_events_pb2 as audit_pb
from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as v
from cairn_annotation_store.__main__ import SERVICE
from cairn_annotation_store.store import LabelStore
from cairn_kit.testing import eventually

NAME = "projects/birds/items/{}/labels/species"


@pytest.fixture
async def ready(birds: Any) -> Any:
    await birds.create()
    await birds.texts(12)
    return birds


async def settled(ready: Any, count: int) -> None:
    """The consumer has handled so many events."""
    await eventually(lambda: ready.database.fetchval("SELECT count(*) FROM inbox"), count)


async def rows(ready: Any) -> list[tuple[Any, ...]]:
    """Every revision but its time: what must not depend on how often or when events come."""
    found = await ready.database.fetch(
        "SELECT item, revision, stands, source, source_order, answer FROM label ORDER BY item, revision"
    )
    return [tuple(row) for row in found]


async def test_a_surer_source_replaces_and_a_lesser_one_never_does(ready: Any) -> None:
    heard = await ready.world.listen(events_pb.LabelFinalized)
    steps = [
        (ready.routed(("a0000", "wren")), "wren", pb.LABEL_SOURCE_AUTO),
        (ready.consensus("a0000", "owl", revision=1), "owl", pb.LABEL_SOURCE_CONSENSUS),
        (ready.routed(("a0000", "robin"), revision=9), "owl", pb.LABEL_SOURCE_CONSENSUS),
        (ready.consensus("a0000", "robin", revision=2), "robin", pb.LABEL_SOURCE_CONSENSUS),
        (ready.consensus("a0000", "owl", revision=1), "robin", pb.LABEL_SOURCE_CONSENSUS),
        (ready.corrected("a0000", "wren", judged=3), "wren", pb.LABEL_SOURCE_CORRECTION),
        (ready.consensus("a0000", "owl", revision=7), "wren", pb.LABEL_SOURCE_CORRECTION),
        (ready.corrected("a0000", "owl", judged=4), "owl", pb.LABEL_SOURCE_CORRECTION),
    ]
    for number, (event, class_id, source) in enumerate(steps, start=1):
        await ready.world.publish(event)
        await settled(ready, number)
        label = await ready.label("a0000")
        assert (label.answer.choice, label.source) == (class_id, source)
    assert label.revision == 5
    assert label.provenance.correction.reviewer == "labelers/eve"
    told = await heard.count(5)
    assert [event.message.label.revision for event in told] == [1, 2, 3, 4, 5]
    assert all(event.message.item_complete for event in told)
    first = await ready.label("a0000", "@1")
    assert (first.answer.choice, first.provenance.auto.threshold_version) == ("wren", 3)
    page = await ready.stub.ListLabelRevisions(
        pb.ListLabelRevisionsRequest(name=NAME.format("a0000"), page_size=3)
    )
    assert [revision.revision for revision in page.labels] == [5, 4, 3]
    rest = await ready.stub.ListLabelRevisions(
        pb.ListLabelRevisionsRequest(name=NAME.format("a0000"), page_size=3, page_token=page.next_page_token)
    )
    assert [revision.revision for revision in rest.labels] == [2, 1]
    progress = await ready.progress()
    assert (progress.corrected_items, progress.labeled_items) == (1, 1)


async def test_events_doubled_and_shuffled_end_in_the_same_labels(ready: Any) -> None:
    events = []
    for i in range(12):
        item = f"a{i:04d}"
        events += [ready.consensus(item, "owl", revision=1), ready.consensus(item, "wren", revision=2)]
        events.append(ready.routed((item, "robin")))
        if i % 3 == 0:
            events.append(ready.corrected(item, "robin"))
    chance = random.Random(7)
    chance.shuffle(events)
    for event in events:
        await ready.world.publish(event, copies=chance.randint(2, 5))
    await settled(ready, len(events))
    labels = {
        label.name: label
        for label in (await ready.stub.ListLabels(pb.ListLabelsRequest(parent="projects/birds"))).labels
    }
    assert len(labels) == 12
    for i in range(12):
        label = labels[NAME.format(f"a{i:04d}")]
        expected = (
            ("robin", pb.LABEL_SOURCE_CORRECTION) if i % 3 == 0 else ("wren", pb.LABEL_SOURCE_CONSENSUS)
        )
        assert (label.answer.choice, label.source) == expected
    before = await rows(ready)
    progress = await ready.progress()
    assert (progress.corrected_items, progress.consensus_items, progress.auto_items) == (4, 8, 0)
    # a decision heard of only now is judged against all of that
    await ready.world.publish(*(ready.routed((f"a{i:04d}", "robin"), revision=5) for i in range(12)))
    await settled(ready, len(events) + 12)
    assert await rows(ready) == before


async def test_many_decisions_are_one_batch_and_each_is_announced(ready: Any) -> None:
    heard = await ready.world.listen(events_pb.LabelFinalized)
    await ready.world.publish(*(ready.consensus(f"a{i:04d}", "owl") for i in range(12)))
    events = await heard.count(12)
    assert {event.message.item for event in events} == {f"projects/birds/items/a{i:04d}" for i in range(12)}


async def test_a_label_too_large_for_an_event_is_told_without_its_answer(birds: Any, tools: Any) -> None:
    note = schema_pb.Question(id="note", text=schema_pb.TextQuestion(max_length=1_000_000))
    await birds.create(schema_pb.LabelSchema(questions=[note]))
    heard = await birds.world.listen(events_pb.LabelFinalized)
    truth = v.Answer(question="note", text="x" * 220_000)
    await birds.take_in([pb.Item(key="g", text="hoo", gold_answers=[truth])])
    [event] = await heard.count(1)
    told = tools.as_consumers_read(event)
    assert told.answer_omitted
    assert not told.label.HasField("answer")
    asked = pb.GetLabelRequest(name=f"{told.label.name}@{told.label.revision}")
    assert (await birds.stub.GetLabel(asked)).answer == truth


async def test_a_correction_too_large_for_its_event_is_read_from_its_review(birds: Any) -> None:
    note = schema_pb.Question(id="note", text=schema_pb.TextQuestion(max_length=1_000_000))
    await birds.create(schema_pb.LabelSchema(questions=[note]))
    await birds.texts(1)
    long = v.Answer(question="note", text="x" * 220_000)
    review = await birds.submit(birds.lease("a0000", kind="REVIEW"), long)
    corrected = birds.corrected("a0000", "")
    corrected.message.ClearField("answer")
    corrected.message.MergeFrom(
        audit_pb.LabelCorrected(annotation=review.name, question="note", answer_omitted=True)
    )
    await birds.world.publish(corrected)
    await settled(birds, 1)
    label = await birds.stub.GetLabel(pb.GetLabelRequest(name="projects/birds/items/a0000/labels/note"))
    assert (label.answer, label.source) == (long, pb.LABEL_SOURCE_CORRECTION)


async def test_what_names_no_item_or_question_is_put_aside_and_its_neighbours_are_not(ready: Any) -> None:
    await ready.world.publish(ready.consensus("nothing", "owl"), ready.consensus("a0001", "owl"))

    async def source() -> int:
        return int((await ready.label("a0001")).source)

    await eventually(source, pb.LABEL_SOURCE_CONSENSUS)


async def test_a_class_that_the_schema_has_lost_becomes_no_label(ready: Any, tools: Any) -> None:
    """A model spoke for it, and what a model says holds no class in the schema."""
    smaller = pb.Project(name="projects/birds", schema=tools.choice_schema("robin", "wren"))
    await ready.stub.UpdateProject(
        pb.UpdateProjectRequest(project=smaller, update_mask={"paths": ["schema"]})
    )
    both = ready.consensus("a0004", "robin")
    both.message.decisions.add(answer=tools.chose("robin", question="mood"), confidence=0.9)
    other_kind = ready.consensus("a0005", "robin")
    other_kind.message.decisions[0].answer.number = 3
    await ready.world.publish(
        ready.consensus("a0001", "owl"),
        ready.routed(("a0002", "owl"), ("a0003", "wren")),
        both,
        other_kind,
    )
    await settled(ready, 4)
    labels = (await ready.stub.ListLabels(pb.ListLabelsRequest(parent="projects/birds"))).labels
    assert [(label.name, label.answer.choice) for label in labels] == [
        (NAME.format("a0003"), "wren"),
        (NAME.format("a0004"), "robin"),
    ]
    assert await ready.database.fetchval("SELECT count(*) FROM dead_letter") == 0


async def test_labels_are_listed_by_source_and_item(ready: Any, tools: Any) -> None:
    await ready.world.publish(
        ready.routed(("a0003", "owl"), ("a0004", "owl")), ready.consensus("a0001", "wren")
    )
    await settled(ready, 2)

    async def listed(parent: str = "projects/birds", source: int = 0) -> list[str]:
        found, token = [], ""
        while True:
            page = await ready.stub.ListLabels(
                pb.ListLabelsRequest(parent=parent, source=source, page_size=1, page_token=token)  # type: ignore[arg-type]
            )
            found += [label.name.split("/")[3] for label in page.labels]
            token = page.next_page_token
            if not token:
                return found

    assert await listed() == ["a0001", "a0003", "a0004"]
    assert await listed(source=pb.LABEL_SOURCE_AUTO) == ["a0003", "a0004"]
    assert await listed(parent="projects/birds/items/a0003") == ["a0003"]
    assert await listed(parent="projects/birds/items/a0003", source=pb.LABEL_SOURCE_GOLD) == []
    async with tools.refused("LABEL_NOT_FOUND"):
        await ready.label("a0000")
    async with tools.refused("LABEL_NOT_FOUND"):
        await ready.label("a0001", "@2")
    async with tools.refused("PAGE_TOKEN_INVALID"):
        await ready.stub.ListLabels(pb.ListLabelsRequest(parent="projects/birds", page_token="x"))


class Watcher:
    """Follows a project's labels in the background."""

    def __init__(self, birds: Any, token: str = "", stub: Any = None) -> None:
        self.seen: list[pb.Label] = []
        self.token = token
        self._stub = stub or birds.stub
        self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        request = pb.WatchLabelsRequest(parent="projects/birds", resume_token=self.token)
        async for message in self._stub.WatchLabels(request):
            self.seen += message.labels
            self.token = message.resume_token

    def names(self) -> set[tuple[str, int]]:
        return {(label.name.split("/")[3], label.revision) for label in self.seen}

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_watching_begins_with_what_stands_goes_on_and_is_resumed(ready: Any, tools: Any) -> None:
    await ready.world.publish(ready.consensus("a0000", "owl"), ready.consensus("a0000", "wren", revision=2))
    await settled(ready, 2)
    watcher = Watcher(ready)
    await eventually(watcher.names, {("a0000", 2)})
    await ready.world.publish(ready.consensus("a0001", "owl"))
    await eventually(watcher.names, {("a0000", 2), ("a0001", 1)})
    await watcher.stop()
    await ready.world.publish(ready.consensus("a0002", "owl"), ready.corrected("a0001", "owl"))
    await settled(ready, 5)
    resumed = Watcher(ready, watcher.token)
    await eventually(resumed.names, {("a0002", 1), ("a0001", 2)})
    await resumed.stop()
    for token in ("x", "W10", ready.world.token()):
        async with tools.refused("RESUME_TOKEN_INVALID"):
            async for _ in ready.stub.WatchLabels(
                pb.WatchLabelsRequest(parent="projects/birds", resume_token=token)
            ):
                pass


async def test_who_may_be_measured_by_gold_sees_none_of_its_labels(birds: Any, tools: Any) -> None:
    await birds.create()
    gold = [pb.Item(key=key, text="hoo", gold_answers=[tools.chose("owl")]) for key in ("b", "d")]
    await birds.take_in([pb.Item(key="a", text="x"), *gold, pb.Item(key="c", text="x")])
    reviewer = birds.as_(subject="eve", roles=["reviewer"])
    watcher = Watcher(birds, stub=reviewer)
    await birds.world.publish(
        birds.consensus("a", "owl"), birds.consensus("c", "wren"), birds.corrected("d", "wren")
    )

    async def listed(**asked: Any) -> list[str]:
        page = await reviewer.ListLabels(pb.ListLabelsRequest(**{"parent": "projects/birds"} | asked))
        assert not page.next_page_token
        return [label.name.split("/")[3] for label in page.labels]

    await eventually(listed, ["a", "c", "d"])
    assert await listed(page_size=3) == ["a", "c", "d"]  # nor does a page end that others would go on after
    assert await listed(source=pb.LABEL_SOURCE_GOLD) == []
    assert await listed(parent="projects/birds/items/b") == []
    for hidden in (NAME.format("b"), NAME.format("b") + "@1", NAME.format("d") + "@1"):
        assert (await birds.stub.GetLabel(pb.GetLabelRequest(name=hidden))).source == pb.LABEL_SOURCE_GOLD
        async with tools.refused("LABEL_NOT_FOUND"):
            await reviewer.GetLabel(pb.GetLabelRequest(name=hidden))
    async with tools.refused("LABEL_NOT_FOUND"):
        await reviewer.ListLabelRevisions(pb.ListLabelRevisionsRequest(name=NAME.format("b")))
    page = await reviewer.ListLabelRevisions(pb.ListLabelRevisionsRequest(name=NAME.format("d")))
    assert [(label.revision, label.source) for label in page.labels] == [(2, pb.LABEL_SOURCE_CORRECTION)]
    await eventually(watcher.names, {("a", 1), ("c", 1), ("d", 2)})
    await watcher.stop()
    again = Watcher(birds, stub=reviewer)  # this one begins with what stands
    await eventually(again.names, {("a", 1), ("c", 1), ("d", 2)})
    await again.stop()


async def test_watchers_of_every_replica_see_what_any_of_them_wrote(ready: Any) -> None:
    own = ready.running.settings
    async with ready.world.run(SERVICE, blob_url=own.blob_url, watch_poll_seconds=0.2) as other:
        watchers = [Watcher(ready), Watcher(ready, stub=other.stub(AnnotationStoreServiceStub))]
        keys = [f"a{n:04}" for n in range(3)]
        for revision in range(
            1, 6
        ):  # one after the other, so that both replicas have their share of the events
            bird = ("owl", "wren")[revision % 2]
            await ready.world.publish(*(ready.consensus(key, bird, revision=revision) for key in keys))
            for watcher in watchers:
                await eventually(lambda w=watcher, r=revision: {(key, r) for key in keys} <= w.names())
        for watcher in watchers:
            await watcher.stop()


async def test_a_watcher_never_misses_a_label_that_was_written_early_and_committed_late(ready: Any) -> None:
    watcher = Watcher(ready)
    await eventually(lambda: watcher.token)
    async with ready.database.transaction() as early:
        await early.execute("SELECT pg_current_xact_id()")  # its id is older than what others write meanwhile
        await ready.world.publish(ready.consensus("a0001", "owl"))
        await settled(ready, 1)
        await early.execute(
            """INSERT INTO label (tenant, project, item, question, revision, stands, source, source_order, event_id,
                                  confidence, answer, provenance)
               SELECT tenant, project, 'a0000', question, 1, true, source, source_order, event_id, confidence, answer,
                      provenance FROM label WHERE item = 'a0001'"""
        )
        rows = await LabelStore().log_after(ready.database, "acme", "birds", ("0", "", "", 0), 10, hidden=0)
        assert rows == []  # the later one is held back until the earlier one has ended
    await eventually(watcher.names, {("a0000", 1), ("a0001", 1)})
    assert [label.name.split("/")[3] for label in watcher.seen] == ["a0000", "a0001"]
    await watcher.stop()
