"""What an export's file holds: every label as it stood at one moment, in parts that are neither too large nor too small."""

from __future__ import annotations

import csv
import io
from contextlib import aclosing
from typing import Any

import pytest

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as v
from cairn_annotation_store.store import ExportedStore
from cairn_kit.testing import eventually
from cairn_kit.times import timestamp


@pytest.fixture
async def ready(birds: Any, tools: Any) -> Any:
    await birds.create()
    items = [pb.Item(key=f"k{i:03d}", text="x", gold_answers=[tools.chose("owl")]) for i in range(10)]
    await birds.take_in(items)
    return birds


async def revision(birds: Any, item: str) -> int:
    """The revision of the item's label that stands."""
    return (await birds.label(item)).revision  # type: ignore[no-any-return]


@pytest.mark.parametrize("with_annotations", [False, True])
async def test_a_page_has_eight_mebibytes_however_small_the_labels_before_it_were(
    birds: Any, tools: Any, exports: Any, with_annotations: bool
) -> None:
    # given labels that are small at first, and then large, or have large annotations
    await birds.create()
    await birds.take_in([pb.Item(key=f"k{n:03d}", text="x") for n in range(700)])
    small, large = (
        v.Answer(question="species", text=text).SerializeToString() for text in ("x", 200_000 * "x")
    )
    await birds.database.execute(
        "INSERT INTO label (tenant, project, item, question, revision, stands, source, source_order, event_id, "
        "confidence, answer, provenance) SELECT tenant, project, item, 'species', 1, true, 2, 1, gen_random_uuid(), "
        "0.9, CASE WHEN item < 'k600' OR $3 THEN $1::bytea ELSE $2::bytea END, '' FROM item",
        small,
        large,
        with_annotations,
    )
    if with_annotations:
        answers = pb.Annotation(answers=[v.Answer.FromString(large)]).SerializeToString()
        await birds.database.execute(
            "INSERT INTO annotation (tenant, project, annotation, item, task, lease, labeler, kind, audit, answers, "
            "late, schema_version, submitted_at) SELECT tenant, project, gen_random_uuid(), item, 't', item, "
            "'labelers/ann', 1, '', $1, false, 1, now() - interval '1 minute' FROM item WHERE item >= 'k600'",
            answers,
        )
    export = await exports.begun(with_annotations=with_annotations)
    # when parts are made of any number of labels
    async with aclosing(exports.parts(page=10_000).of(export)) as parts:
        made = [part async for part in parts]
    # then each label is there once, and no part is much larger than it may be
    labels = [tools.jsonl(part.content) for part in made]
    assert [label["item"] for part in labels for label in part] == [f"k{n:03d}" for n in range(700)]
    assert [part.labels for part in made] == [*map(len, labels)]
    assert max(len(part.content) for part in made) < (8 << 20) + 500_000
    assert len(made) < 10, "nor are they smaller than they need be"


async def test_pages_of_few_large_labels_are_made_by_processes(birds: Any, tools: Any, exports: Any) -> None:
    # given labels of which fewer make a page than may be made into lines beside the calls
    await birds.create()
    await birds.take_in([pb.Item(key=f"k{n:04d}", text="x") for n in range(1000)])
    await birds.database.execute(
        "INSERT INTO label (tenant, project, item, question, revision, stands, source, source_order, event_id, "
        "confidence, answer, provenance) SELECT tenant, project, item, 'species', 1, true, 2, 1, gen_random_uuid(), "
        "0.9, $1, '' FROM item",
        v.Answer(question="species", text=40_000 * "x").SerializeToString(),
    )
    export = await exports.begun()
    async with aclosing(exports.parts(page=250).of(export)) as parts:
        made = [part async for part in parts]
    # then no part is a page's beginning alone
    assert sum(part.labels for part in made) == 1000
    assert min(len(part.content) for part in made[:-1]) > 1 << 20
    assert all(part.labels for part in made)


async def test_a_label_that_is_more_than_a_page_is_exported_whole(
    birds: Any, tools: Any, exports: Any
) -> None:
    await birds.create()
    await birds.take_in([pb.Item(key=f"k{n}", text="x") for n in range(6)])
    lengths = [9 << 20, 5, 9 << 20, 3 << 20, 9 << 20, 7]
    for n, length in enumerate(lengths):
        await birds.database.execute(
            "INSERT INTO label (tenant, project, item, question, revision, stands, source, source_order, event_id, "
            "confidence, answer, provenance) VALUES ('acme', 'birds', $1, 'species', 1, true, 2, 1, "
            "gen_random_uuid(), 0.9, $2, '')",
            f"k{n}",
            v.Answer(question="species", text=length * "x").SerializeToString(),
        )
    export = await exports.begun()
    async with aclosing(exports.parts(page=10_000).of(export)) as parts:
        made = [tools.jsonl(part.content) async for part in parts]
    assert [len(label["answer"]) for part in made for label in part] == lengths


@pytest.mark.parametrize("times", [1, 9])
async def test_lines_say_what_the_rows_hold(birds: Any, tools: Any, exports: Any, times: int) -> None:
    # given labels and annotations of all that columns may hold
    await birds.create()
    keys = [f"k{n:04d}" for n in range(1500)]
    await birds.take_in([pb.Item(key=key, text="x") for key in keys])
    answers = [v.Answer(question=q, text=times * f"{q} \t\n\\ caf\u00e9") for q in ("a", "b")]
    await birds.database.execute(
        "INSERT INTO label (tenant, project, item, question, revision, stands, source, source_order, event_id, "
        "confidence, answer, provenance, created_at) SELECT tenant, project, item, k.question, 7, true, 3, 1, "
        "gen_random_uuid(), random(), k.answer, '', timestamptz '2026-01-01' + random() * interval '1 day' "
        "FROM item, unnest($1::text[], $2::bytea[]) AS k (question, answer)",
        [answer.question for answer in answers],
        [answer.SerializeToString() for answer in answers],
    )
    await birds.database.execute(
        "INSERT INTO annotation (tenant, project, annotation, item, task, lease, labeler, kind, audit, answers, late, "
        "schema_version, submitted_at) SELECT tenant, project, gen_random_uuid(), item, 't', item || n, "
        "'labelers/caf\u00e9-' || n, 1, '', $1, n = 2, 1, now() - random() * interval '1 day' "
        "FROM item, generate_series(1, 2) AS n WHERE item < 'k1000'",
        pb.Annotation(answers=answers).SerializeToString(),
    )
    # when they are exported, by more than one process, in pages of which some end between the labels of an item
    export = await exports.begun(with_annotations=True)
    await exports.worker(page=601).write(export)
    assert len(exports.processes.pids) == 2
    assert (await exports.ended(export)).exported_labels == 3000
    # then each line says what its rows hold
    given = await birds.database.fetch("SELECT * FROM annotation ORDER BY item, annotation")
    expected = [
        {
            "item": row["item"],
            "question": row["question"],
            "answer": times * f"{row['question']} \t\n\\ caf\u00e9",
            "confidence": row["confidence"],
            "source": "GOLD",
            "revision": 7,
            "create_time": row["created_at"].isoformat(),
            "provenance": {},
            "annotations": [
                {
                    "name": f"projects/birds/items/{one['item']}/annotations/{one['annotation']}",
                    "labeler": one["labeler"],
                    "kind": "LABEL",
                    "late": one["late"],
                    "submit_time": timestamp(one["submitted_at"]).ToJsonString(),
                    "answer": times * f"{row['question']} \t\n\\ caf\u00e9",
                }
                for one in given
                if one["item"] == row["item"]
            ],
        }
        for row in await birds.database.fetch("SELECT * FROM label ORDER BY item, question")
    ]
    assert await exports.lines(export) == expected


async def test_an_export_shows_one_moment_whatever_is_decided_meanwhile(
    ready: Any, tools: Any, exports: Any
) -> None:
    await ready.submit(ready.lease("k009"), tools.chose("owl"))
    # given an export whose first part is written
    export = await exports.begun(with_annotations=True)
    running = exports.worker()
    advanced = await exports.one_part(running, export)
    # when labels are corrected, before and after that place, others are added, and answers come
    for item in ("k001", "k005", "k007"):
        await ready.world.publish(ready.corrected(item, "wren"))
        await eventually(lambda item=item: revision(ready, item), 2)
    await ready.world.publish(ready.corrected("k007", "robin", judged=2))
    await eventually(lambda: revision(ready, "k007"), 3)
    later = [pb.Item(key=f"k{i:03d}x", text="x", gold_answers=[tools.chose("wren")]) for i in range(2, 9)]
    await ready.take_in(later, import_id="later")
    await ready.submit(ready.lease("k008"), tools.chose("owl"))
    # then the file shows what stood when it was asked for
    await running.write(advanced)
    rows = await exports.lines(export)
    assert [(row["item"], row["answer"], row["revision"]) for row in rows] == [
        (f"k{i:03d}", "owl", 1) for i in range(10)
    ]
    assert [len(row["annotations"]) for row in rows] == [0] * 9 + [1]


async def test_labels_that_come_while_a_page_is_read_make_it_no_shorter(
    birds: Any, tools: Any, exports: Any
) -> None:
    await birds.create()
    await birds.take_in(
        [pb.Item(key=f"k{i}0", text="x", gold_answers=[tools.chose("owl")]) for i in range(5)]
    )
    export = await exports.begun()

    class Growing(ExportedStore):
        async def next_span(self, *arguments: Any) -> Any:
            span = await super().next_span(*arguments)
            many = [f"k0{i:03d}" for i in range(300)]
            items = [pb.Item(key=key, text="x", gold_answers=[tools.chose("owl")]) for key in many]
            await birds.take_in(items, import_id="later")
            return span

    # when between the labels of a page hundreds come, before it is read
    await exports.worker(exported=Growing()).write(export)
    # then all that were there when the export was asked for are in it, once
    rows = await exports.lines(export)
    assert [row["item"] for row in rows] == [f"k{i}0" for i in range(5)]


async def test_a_small_export_starts_no_process(ready: Any, exports: Any) -> None:
    export = await exports.begun()
    await exports.worker().write(export)
    assert (await exports.ended(export)).exported_labels == 10
    assert exports.processes.pids == []


async def test_what_was_not_committed_is_not_in_the_moment(ready: Any, tools: Any, exports: Any) -> None:
    # given a new revision that is written before an export is asked for, and committed after
    async with ready.database.transaction() as tx:
        await tx.execute("UPDATE label SET stands = false WHERE item = 'k003'")
        await tx.execute(
            "INSERT INTO label SELECT tenant, project, item, question, 2, true, 4, source_order, event_id, "
            "confidence, answer, provenance, created_at FROM label WHERE item = 'k003'"
        )
        export = await exports.begun()
    # when it is written
    await exports.worker().write(export)
    # then it shows the revision before
    rows = await exports.lines(export)
    assert [(row["item"], row["revision"]) for row in rows] == [(f"k{i:03d}", 1) for i in range(10)]


async def test_csv_has_a_header_and_no_formulas(birds: Any, exports: Any) -> None:
    note = schema_pb.Question(id="note", required=True, text=schema_pb.TextQuestion())
    await birds.create(schema_pb.LabelSchema(questions=[note]))
    texts = ["=1+1", 'a "quoted", text', "line\nbreak", "☃", "-3"]
    await birds.take_in(
        [
            pb.Item(key=f"k{i}", text="x", gold_answers=[v.Answer(question="note", text=text)])
            for i, text in enumerate(texts)
        ]
    )
    export = await exports.create(pb.EXPORT_FORMAT_CSV)
    done = await exports.ended(export)
    assert done.file.media_type == "text/csv"
    rows = list(csv.DictReader(io.StringIO((await exports.body(export)).decode(), newline="")))
    assert [row["answer"] for row in rows] == ["'=1+1", *texts[1:]]
    assert {(row["source"], row["confidence"]) for row in rows} == {("GOLD", "1.0")}


async def test_annotations_stand_beside_their_labels(ready: Any, tools: Any, exports: Any) -> None:
    kept = await ready.submit(ready.lease("k001"), tools.chose("wren"))
    export = await exports.create(include_annotations=True)
    rows = await exports.lines(export)
    assert [row["annotations"] for row in rows[:2]] == [
        [],
        [
            {
                "name": kept.name,
                "labeler": "labelers/ann",
                "kind": "GOLD",
                "late": False,
                "submit_time": kept.submit_time.ToJsonString(),
                "answer": "wren",
            }
        ],
    ]


async def test_an_empty_project_exports_an_empty_file(birds: Any, exports: Any) -> None:
    await birds.create()
    export = await exports.create(pb.EXPORT_FORMAT_CSV)
    assert (await exports.ended(export)).exported_labels == 0
    assert await exports.body(export) == b"item,question,answer,confidence,source,revision\r\n"
