"""The main path: a project, its items, people's answers, the labels they become, and the file that holds them."""

from __future__ import annotations

from typing import Any

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.events.v1 import annotation_store_events_pb2 as events_pb
from cairn_kit.testing import eventually


async def test_answers_become_labels_and_labels_become_a_file(birds: Any, tools: Any) -> None:
    # given a project with three items, one of them gold
    created = await birds.world.listen(events_pb.ProjectCreated)
    imported = await birds.world.listen(events_pb.ItemsImported, events_pb.ImportFinished)
    project = await birds.create(display_name="Birds")
    assert project.schema_version == 1
    gold = pb.Item(key="g", text="hoo", gold_answers=[tools.chose("owl")])
    done = await birds.take_in([pb.Item(key="a", text="chirp"), pb.Item(key="b", text="tweet"), gold])
    assert (done.created_items, done.failed_items, done.next_offset) == (3, 0, 3)
    assert done.state == pb.IMPORT_STATE_FINISHED
    [event] = await created.count(1)
    assert event.message.project == project
    events = await imported.count(2)
    assert [item.key for item in events[0].message.items] == ["a", "b", "g"]

    # when a labeler answers, and consensus decides
    submitted = await birds.world.listen(events_pb.AnnotationSubmitted)
    finalized = await birds.world.listen(events_pb.LabelFinalized)
    ann = birds.as_(subject="ann", roles=["labeler"])
    annotation = await birds.submit(birds.lease("a"), tools.chose("robin"), stub=ann)
    assert (annotation.late, annotation.kind) == (False, pb.ANNOTATION_KIND_LABEL)
    [told] = await submitted.count(1)
    assert told.message.annotation == annotation
    await birds.decide("a", "robin", confidence=0.97)
    await finalized.until(lambda heard: any(e.message.item.endswith("/a") for e in heard))

    # then the label stands, with where it came from
    label = await birds.label("a")
    assert (label.answer.choice, label.source) == ("robin", pb.LABEL_SOURCE_CONSENSUS)
    assert label.provenance.consensus.algorithm == "DawidSkene"
    progress = await birds.progress()
    assert (progress.items, progress.labeled_items, progress.gold_items, progress.consensus_items) == (
        3, 2, 1, 1,
    )  # fmt: skip
    assert (progress.annotations, progress.label_annotations) == (1, 1)

    # and the export holds it
    export = await birds.stub.CreateExport(
        pb.CreateExportRequest(parent="projects/birds", format=pb.EXPORT_FORMAT_JSONL)
    )

    async def finished() -> pb.Export | None:
        seen = await birds.stub.GetExport(pb.GetExportRequest(name=export.name))
        return seen if seen.state == pb.EXPORT_STATE_FINISHED else None

    ready = await eventually(finished)
    assert ready.exported_labels == 2
    body = b""
    async for part in birds.stub.DownloadExport(pb.DownloadExportRequest(name=export.name)):
        body += part.chunk
    assert [(row["item"], row["answer"], row["source"]) for row in tools.jsonl(body)] == [
        ("a", "robin", "CONSENSUS"),
        ("g", "owl", "GOLD"),
    ]
