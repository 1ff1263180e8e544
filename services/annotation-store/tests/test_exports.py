from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.events.v1 import annotation_store_events_pb2 as events_pb
from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as v
from cairn_annotation_store.__main__ import SERVICE
from cairn_annotation_store.export_process import ExportProcesses, Reached
from cairn_annotation_store.handlers.export_worker import ExportWorker
from cairn_annotation_store.storage import Storage
from cairn_annotation_store.store import ExportRow, ExportStore, ItemStore, LabelStore
from cairn_kit.testing import eventually
from cairn_kit.times import timestamp


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"export_page": 4, "export_claim_seconds": 0.5}


@pytest.fixture
async def processes(birds: Any) -> AsyncIterator[ExportProcesses]:
    async with ExportProcesses(Reached.by(birds.running.settings), 2) as running:
        yield running


@pytest.fixture
async def ready(birds: Any, tools: Any) -> Any:
    await birds.create()
    items = [pb.Item(key=f"k{i:03d}", text="x", gold_answers=[tools.chose("owl")]) for i in range(10)]
    await birds.take_in(items)
    return birds


def request(export_format: Any = pb.EXPORT_FORMAT_JSONL, **fields: Any) -> pb.CreateExportRequest:
    return pb.CreateExportRequest(parent="projects/birds", format=export_format, **fields)


async def ended(birds: Any, name: str) -> pb.Export:
    async def look() -> pb.Export | None:
        export = await birds.stub.GetExport(pb.GetExportRequest(name=name))
        return export if export.HasField("end_time") else None

    return await eventually(look)  # type: ignore[no-any-return]


async def body_of(birds: Any, name: str, offset: int = 0) -> bytes:
    parts = birds.stub.DownloadExport(pb.DownloadExportRequest(name=name, offset=offset))
    return b"".join([part.chunk async for part in parts])


def worker(
    birds: Any,
    storage: Any = None,
    *,
    page: int = 4,
    claim_seconds: float = 0.5,
    processes: ExportProcesses | None = None,
) -> ExportWorker:
    """A worker as another replica runs it; of more than 200 labels its processes make lines."""
    return ExportWorker(
        birds.database,
        ExportStore(),
        LabelStore(),
        ItemStore(),
        storage or Storage.open(birds.running.settings.blob_url),
        processes or ExportProcesses(Reached.by(birds.running.settings), 1),
        page=page,
        claim_seconds=claim_seconds,
    )


async def one_part(worker: ExportWorker, row: ExportRow) -> ExportRow | None:
    """Let a worker write the next part and no more."""
    file = await worker._so_far(row)
    async with aclosing(worker.parts(row)) as parts:
        return await worker.write_part(row, await anext(parts), file)


async def running_export(birds: Any, *, with_annotations: bool = False) -> UUID:
    """An export that a worker of this test works on, and no other."""
    export = uuid4()
    await birds.database.execute(
        "INSERT INTO export (tenant, project, export, format, include_annotations, state, worker, worker_until) "
        "VALUES ('acme', 'birds', $1, 1, $3, 2, $2, 'infinity')",
        export,
        uuid4(),
        with_annotations,
    )
    return export


async def revision(birds: Any, item: str) -> int:
    """The revision of the item's label that stands."""
    return (await birds.label(item)).revision  # type: ignore[no-any-return]


class Killed(BaseException):
    """Stands for kill -9: nothing catches it, nothing is tidied up."""


class Dying:
    """Storage of a worker that dies at its n-th write, before or after it."""

    def __init__(self, storage: Storage, writes: int, *, after: bool) -> None:
        self._storage = storage
        self._writes = writes
        self._after = after

    async def put(self, path: str, content: Any) -> None:
        self._writes -= 1
        if self._writes < 0 and not self._after:
            raise Killed
        await self._storage.put(path, content)
        if self._writes < 0:
            raise Killed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


class DyingAtTheEnd:
    """Storage of a worker that dies when it would remove what it needs no more."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def delete_below(self, folder: str, most: int) -> int:
        raise Killed

    async def delete(self, *paths: str) -> None:
        raise Killed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


class Slow:
    """Storage before whose first write below a folder something happens."""

    def __init__(self, storage: Storage, folder: str, happens: Callable[[], Awaitable[Any]]) -> None:
        self._storage = storage
        self._folder = folder
        self._happens = happens

    async def put(self, path: str, content: Any) -> None:
        if path.startswith(self._folder):
            self._folder = "nothing more"
            await self._happens()
        await self._storage.put(path, content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


async def test_an_export_has_every_label_once_and_says_how_far_it_is(ready: Any, tools: Any) -> None:
    heard = await ready.world.listen(events_pb.ExportFinished)
    export = await ready.stub.CreateExport(request(request_id="r"))
    assert await ready.stub.CreateExport(request(request_id="r")) == export
    done = await ended(ready, export.name)
    assert (done.state, done.exported_labels, done.total_labels) == (pb.EXPORT_STATE_FINISHED, 10, 10)
    body = await body_of(ready, export.name)
    assert [row["item"] for row in tools.jsonl(body)] == [f"k{i:03d}" for i in range(10)]
    assert done.file.size_bytes == len(body)
    assert await body_of(ready, export.name, offset=100) == body[100:]
    async with tools.refused("OFFSET_PAST_END"):
        await body_of(ready, export.name, offset=len(body) + 1)
    [event] = await heard.count(1)
    assert event.message.export == done
    listed = await ready.stub.ListExports(pb.ListExportsRequest(parent="projects/birds"))
    assert list(listed.exports) == [done]
    assert not list((ready.world.folder / "blobs" / "exports").rglob("part-*"))


async def test_an_export_goes_on_where_its_killed_worker_was(ready: Any, tools: Any) -> None:
    for writes, after in product(range(4), (False, True)):
        # given a worker that is killed at one of its writes: three parts, then the file
        export = await running_export(ready)
        row = await ExportStore().get(ready.database, "acme", "birds", export)
        storage = Dying(Storage.open(ready.running.settings.blob_url), writes, after=after)
        with pytest.raises(Killed):
            await worker(ready, storage).write(row)  # type: ignore[arg-type]
        # when its claim runs out
        await ready.database.execute("UPDATE export SET worker_until = now() WHERE export = $1", export)
        await worker(ready).work()
        # then another worker ends it, with each label once
        name = f"projects/birds/exports/{export}"
        assert (await ended(ready, name)).exported_labels == 10
        rows = tools.jsonl(await body_of(ready, name))
        assert [row["item"] for row in rows] == [f"k{i:03d}" for i in range(10)]


@pytest.mark.parametrize("folder", ["exports/", "blobs/"])
async def test_a_worker_gives_signs_of_life_while_a_step_is_long(ready: Any, folder: str) -> None:
    export = await running_export(ready)
    row = await ExportStore().get(ready.database, "acme", "birds", export)
    until = "SELECT worker_until FROM export WHERE export = $1"

    async def two_signs() -> None:
        for _ in range(2):
            before = await ready.database.fetchval(until, export)
            await eventually(
                lambda before=before: ready.database.fetchval(f"SELECT ({until}) <> $2", export, before), True
            )

    # given a storage that takes its time for a part, or for the file
    storage = Slow(Storage.open(ready.running.settings.blob_url), folder, two_signs)
    # when it is written, its worker is heard of meanwhile
    await worker(ready, storage, claim_seconds=5).write(row)  # type: ignore[arg-type]
    # then it is the one that ends the export
    done = await ended(ready, f"projects/birds/exports/{export}")
    assert (done.state, done.exported_labels) == (pb.EXPORT_STATE_FINISHED, 10)


@pytest.mark.parametrize("with_annotations", [False, True])
async def test_a_page_has_eight_mebibytes_however_small_the_labels_before_it_were(
    birds: Any, tools: Any, processes: ExportProcesses, with_annotations: bool
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
    export = await running_export(birds, with_annotations=with_annotations)
    row = await ExportStore().get(birds.database, "acme", "birds", export)
    # when parts are made of any number of labels
    making = worker(birds, page=10_000, processes=processes)
    async with aclosing(making.parts(row)) as parts:  # type: ignore[arg-type]
        made = [part async for part in parts]
    # then each label is there once, and no part is much larger than it may be
    labels = [tools.jsonl(part.content) for part in made]
    assert [label["item"] for part in labels for label in part] == [f"k{n:03d}" for n in range(700)]
    assert [part.labels for part in made] == [*map(len, labels)]
    assert max(len(part.content) for part in made) < (8 << 20) + 500_000
    assert len(made) < 10, "nor are they smaller than they need be"


async def test_a_label_that_is_more_than_a_page_is_exported_whole(
    birds: Any, tools: Any, processes: ExportProcesses
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
    export = await running_export(birds)
    row = await ExportStore().get(birds.database, "acme", "birds", export)
    making = worker(birds, page=10_000, processes=processes)
    async with aclosing(making.parts(row)) as parts:  # type: ignore[arg-type]
        made = [tools.jsonl(part.content) async for part in parts]
    assert [len(label["answer"]) for part in made for label in part] == lengths


@pytest.mark.parametrize("times", [1, 9])
async def test_lines_say_what_the_rows_hold(
    birds: Any, tools: Any, processes: ExportProcesses, times: int
) -> None:
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
    # when they are exported, by more than one process
    export = await running_export(birds, with_annotations=True)
    row = await ExportStore().get(birds.database, "acme", "birds", export)
    await worker(birds, page=600, claim_seconds=60, processes=processes).write(row)  # type: ignore[arg-type]
    assert len(processes.pids) == 2
    name = f"projects/birds/exports/{export}"
    assert (await ended(birds, name)).exported_labels == 3000
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
    assert tools.jsonl(await body_of(birds, name)) == expected


async def test_a_write_that_comes_late_spoils_nothing_of_the_next_worker(ready: Any, tools: Any) -> None:
    export = await running_export(ready)
    row = await ExportStore().get(ready.database, "acme", "birds", export)
    successor = worker(ready, page=4, claim_seconds=60)
    taken_over: list[Any] = []

    async def another_takes_over() -> None:
        await ready.database.execute("UPDATE export SET worker = $2 WHERE export = $1", export, uuid4())
        claimed = await ExportStore().get(ready.database, "acme", "birds", export)
        taken_over.append(await one_part(successor, claimed))  # type: ignore[arg-type]

    # given a worker that is taken over before its first part, a smaller one, is in storage
    storage = Slow(Storage.open(ready.running.settings.blob_url), "exports/", another_takes_over)
    await worker(ready, storage, page=2, claim_seconds=60).write(row)  # type: ignore[arg-type]
    # when the other goes on
    await successor.write(taken_over[0])
    # then the file has each label once, and nothing of either is left
    name = f"projects/birds/exports/{export}"
    assert (await ended(ready, name)).exported_labels == 10
    rows = tools.jsonl(await body_of(ready, name))
    assert [row["item"] for row in rows] == [f"k{i:03d}" for i in range(10)]
    assert not list((ready.world.folder / "blobs" / "exports").rglob("part-*"))
    assert await ready.database.fetchval("SELECT count(*) FROM export_part") == 0


async def test_parts_that_the_release_before_wrote_are_joined(ready: Any, tools: Any) -> None:
    export = await running_export(ready)
    row = await ExportStore().get(ready.database, "acme", "birds", export)
    running = worker(ready, claim_seconds=60)
    advanced = await one_part(running, row)  # type: ignore[arg-type]
    [part] = (ready.world.folder / "blobs" / "exports").rglob("part-*")
    part.rename(part.with_name("part-000000"))
    await ready.database.execute("DELETE FROM export_part")
    await running.write(advanced)  # type: ignore[arg-type]
    rows = tools.jsonl(await body_of(ready, f"projects/birds/exports/{export}"))
    assert [row["item"] for row in rows] == [f"k{i:03d}" for i in range(10)]
    assert not list((ready.world.folder / "blobs" / "exports").rglob("part-*"))


async def test_a_cancelled_export_stops_and_leaves_nothing(ready: Any, tools: Any) -> None:
    export = await running_export(ready)
    row = await ExportStore().get(ready.database, "acme", "birds", export)
    running = worker(ready)
    advanced = await one_part(running, row)  # type: ignore[arg-type]
    name = f"projects/birds/exports/{export}"
    async with tools.refused("EXPORT_NOT_FINISHED"):
        await body_of(ready, name)
    cancelled = await ready.stub.CancelExport(pb.CancelExportRequest(name=name))
    assert (cancelled.state, cancelled.exported_labels) == (pb.EXPORT_STATE_CANCELLED, 4)
    await running.write(advanced)  # type: ignore[arg-type]
    assert not list((ready.world.folder / "blobs" / "exports").rglob("part-*"))
    async with tools.refused("EXPORT_ENDED"):
        await ready.stub.CancelExport(pb.CancelExportRequest(name=name))
    async with tools.refused("EXPORT_NOT_FOUND"):
        await ready.stub.GetExport(pb.GetExportRequest(name=f"{name[:-4]}0000"))


def parts(birds: Any) -> list[Path]:
    """All parts that are in storage."""
    return list((birds.world.folder / "blobs" / "exports").rglob("part-*"))


async def a_while_passes(birds: Any) -> None:
    await birds.database.execute(
        "UPDATE export SET ended_at = now() - interval '1 hour' WHERE ended_at < now()"
    )


async def test_what_killed_workers_left_of_ended_exports_is_removed(ready: Any, tools: Any) -> None:
    storage = Storage.open(ready.running.settings.blob_url)
    # given a worker that is killed when its export has a file, before it has removed the parts
    finished = await running_export(ready)
    row = await ExportStore().get(ready.database, "acme", "birds", finished)
    with pytest.raises(Killed):
        await worker(ready, DyingAtTheEnd(storage)).write(row)  # type: ignore[arg-type]
    # and one that is killed after a part of which it has told nobody, and whose export is cancelled before another comes
    cancelled = await running_export(ready)
    row = await ExportStore().get(ready.database, "acme", "birds", cancelled)
    with pytest.raises(Killed):
        await worker(ready, Dying(storage, 1, after=True)).write(row)  # type: ignore[arg-type]
    name = f"projects/birds/exports/{cancelled}"
    await ready.stub.CancelExport(pb.CancelExportRequest(name=name))
    # and one that works on, and has written a part
    goes_on = await running_export(ready)
    row = await ExportStore().get(ready.database, "acme", "birds", goes_on)
    advanced = await one_part(worker(ready, claim_seconds=60), row)  # type: ignore[arg-type]
    assert len(parts(ready)) == 3 + 2 + 1
    # when a replica looks after them a while later
    await a_while_passes(ready)
    async with ready.world.run(SERVICE, blob_url=ready.running.settings.blob_url):
        await eventually(lambda: len(parts(ready)), 1)
    # then nothing is left but what is needed
    assert await ready.database.fetchval("SELECT count(*) FROM export_part") == 1
    await worker(ready, claim_seconds=60).write(advanced)  # type: ignore[arg-type]
    for export in (finished, goes_on):
        rows = tools.jsonl(await body_of(ready, f"projects/birds/exports/{export}"))
        assert [row["item"] for row in rows] == [f"k{i:03d}" for i in range(10)]
    assert not parts(ready)


async def test_an_export_that_cannot_be_cleaned_holds_up_no_other(ready: Any) -> None:
    storage = Storage.open(ready.running.settings.blob_url)
    exports = sorted([await running_export(ready) for _ in range(2)])
    for export in exports:
        row = await ExportStore().get(ready.database, "acme", "birds", export)
        await one_part(worker(ready, claim_seconds=60), row)  # type: ignore[arg-type]
        await ready.stub.CancelExport(pb.CancelExportRequest(name=f"projects/birds/exports/{export}"))
    await a_while_passes(ready)

    class Refusing:
        async def delete_below(self, folder: str, most: int) -> int:
            if str(exports[0]) in folder:
                raise PermissionError(folder)
            return await storage.delete_below(folder, most)

    # given storage that refuses to remove the parts of the first of two
    await worker(ready, Refusing()).clean()
    assert [str(exports[0]) in str(part) for part in parts(ready)] == [True]
    # when it does so no more, then two who clean at once leave nothing
    await asyncio.gather(worker(ready).clean(), worker(ready).clean())
    assert not parts(ready)
    assert await ready.database.fetchval("SELECT count(*) FROM export_part") == 0


async def test_an_export_that_is_cancelled_while_it_is_joined_writes_no_file(ready: Any) -> None:
    export = await running_export(ready)
    row = await ExportStore().get(ready.database, "acme", "birds", export)
    name = f"projects/birds/exports/{export}"

    async def cancel() -> None:
        await ready.stub.CancelExport(pb.CancelExportRequest(name=name))

    # given a worker that has written all parts, and whose export is cancelled as it begins with the file
    storage = Slow(Storage.open(ready.running.settings.blob_url), "blobs/", cancel)
    await worker(ready, storage, claim_seconds=60).write(row)  # type: ignore[arg-type]
    # then there is no file, and nothing is left
    ended = await ready.stub.GetExport(pb.GetExportRequest(name=name))
    assert (ended.state, ended.HasField("file")) == (pb.EXPORT_STATE_CANCELLED, False)
    assert [path for path in (ready.world.folder / "blobs").rglob("*") if path.is_file()] == []


async def test_an_export_shows_one_moment_whatever_is_decided_meanwhile(ready: Any, tools: Any) -> None:
    await ready.submit(ready.lease("k009"), tools.chose("owl"))
    # given an export whose first part is written
    export = await running_export(ready, with_annotations=True)
    row = await ExportStore().get(ready.database, "acme", "birds", export)
    running = worker(ready, claim_seconds=60)
    advanced = await one_part(running, row)  # type: ignore[arg-type]
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
    await running.write(advanced)  # type: ignore[arg-type]
    name = f"projects/birds/exports/{export}"
    assert (await ended(ready, name)).exported_labels == 10
    rows = tools.jsonl(await body_of(ready, name))
    assert [(row["item"], row["answer"], row["revision"]) for row in rows] == [
        (f"k{i:03d}", "owl", 1) for i in range(10)
    ]
    assert [len(row["annotations"]) for row in rows] == [0] * 9 + [1]


async def test_labels_that_come_while_a_page_is_read_make_it_no_shorter(
    birds: Any, tools: Any, processes: ExportProcesses
) -> None:
    await birds.create()
    await birds.take_in(
        [pb.Item(key=f"k{i}0", text="x", gold_answers=[tools.chose("owl")]) for i in range(5)]
    )
    export = await running_export(birds)
    row = await ExportStore().get(birds.database, "acme", "birds", export)

    class Growing(LabelStore):
        async def next_span(self, *arguments: Any) -> Any:
            span = await super().next_span(*arguments)
            many = [f"k0{i:03d}" for i in range(300)]
            items = [pb.Item(key=key, text="x", gold_answers=[tools.chose("owl")]) for key in many]
            await birds.take_in(items, import_id="later")
            return span

    making = worker(birds, processes=processes)
    making._labels = Growing()
    # when between the labels of a page hundreds come, before it is read
    await making.write(row)  # type: ignore[arg-type]
    # then all that were there when the export was asked for are in it, once
    rows = tools.jsonl(await body_of(birds, f"projects/birds/exports/{export}"))
    assert [row["item"] for row in rows] == [f"k{i}0" for i in range(5)]


async def test_a_small_export_starts_no_process(ready: Any, processes: ExportProcesses) -> None:
    export = await running_export(ready)
    row = await ExportStore().get(ready.database, "acme", "birds", export)
    await worker(ready, processes=processes).write(row)  # type: ignore[arg-type]
    assert (await ended(ready, f"projects/birds/exports/{export}")).exported_labels == 10
    assert processes.pids == []


async def test_what_was_not_committed_is_not_in_the_moment(ready: Any, tools: Any) -> None:
    # given a new revision that is written before an export is asked for, and committed after
    async with ready.database.transaction() as tx:
        await tx.execute("UPDATE label SET stands = false WHERE item = 'k003'")
        await tx.execute(
            "INSERT INTO label SELECT tenant, project, item, question, 2, true, 4, source_order, event_id, "
            "confidence, answer, provenance, created_at FROM label WHERE item = 'k003'"
        )
        export = await running_export(ready)
    row = await ExportStore().get(ready.database, "acme", "birds", export)
    # when it is written
    await worker(ready, claim_seconds=60).write(row)  # type: ignore[arg-type]
    # then it shows the revision before
    rows = tools.jsonl(await body_of(ready, f"projects/birds/exports/{export}"))
    assert [(row["item"], row["revision"]) for row in rows] == [(f"k{i:03d}", 1) for i in range(10)]


async def test_an_export_that_cannot_be_written_is_tried_again_and_fails_in_the_end(ready: Any) -> None:
    heard = await ready.world.listen(events_pb.ExportFinished)
    (ready.world.folder / "blobs" / "exports").write_text("in the way")
    for failures in (0, 4):
        await ready.database.execute(
            "INSERT INTO export (tenant, project, export, format, include_annotations, state, failures) "
            "VALUES ('acme', 'birds', $1, 1, false, 1, $2)",
            uuid4(),
            failures,
        )
    await worker(ready).work()

    async def states() -> list[int]:
        found = await ready.database.fetch("SELECT state FROM export ORDER BY failures")
        return [row["state"] for row in found]

    await eventually(states, [pb.EXPORT_STATE_RUNNING, pb.EXPORT_STATE_FAILED])
    [event] = await heard.count(1)
    assert event.message.export.error.message == "The export could not be written."


async def test_csv_has_a_header_and_no_formulas(birds: Any) -> None:
    note = schema_pb.Question(id="note", required=True, text=schema_pb.TextQuestion())
    await birds.create(schema_pb.LabelSchema(questions=[note]))
    texts = ["=1+1", 'a "quoted", text', "line\nbreak", "☃", "-3"]
    await birds.take_in(
        [
            pb.Item(key=f"k{i}", text="x", gold_answers=[v.Answer(question="note", text=text)])
            for i, text in enumerate(texts)
        ]
    )
    export = await birds.stub.CreateExport(request(pb.EXPORT_FORMAT_CSV))
    done = await ended(birds, export.name)
    assert done.file.media_type == "text/csv"
    rows = list(csv.DictReader(io.StringIO((await body_of(birds, export.name)).decode(), newline="")))
    assert [row["answer"] for row in rows] == ["'=1+1", *texts[1:]]
    assert {(row["source"], row["confidence"]) for row in rows} == {("GOLD", "1.0")}


async def test_annotations_stand_beside_their_labels(ready: Any, tools: Any) -> None:
    kept = await ready.submit(ready.lease("k001"), tools.chose("wren"))
    export = await ready.stub.CreateExport(request(include_annotations=True))
    await ended(ready, export.name)
    rows = tools.jsonl(await body_of(ready, export.name))
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


async def test_an_empty_project_exports_an_empty_file(birds: Any) -> None:
    await birds.create()
    export = await birds.stub.CreateExport(request(pb.EXPORT_FORMAT_CSV))
    assert (await ended(birds, export.name)).exported_labels == 0
    assert await body_of(birds, export.name) == b"item,question,answer,confidence,source,revision\r\n"
