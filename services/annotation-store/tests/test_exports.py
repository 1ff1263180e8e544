"""The life of an export: asked for, written by whoever lives, cancelled, given out, and tidied up after."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Collection
from itertools import product
from typing import Any
from uuid import uuid4

import pytest

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.events.v1 import annotation_store_events_pb2 as events_pb
from cairn_annotation_store.__main__ import SERVICE
from cairn_annotation_store.storage import Storage, blob_path
from cairn_annotation_store.store import ExportRow
from cairn_kit.testing import eventually

ITEMS = [f"k{i:03d}" for i in range(10)]


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"export_page": 4, "export_claim_seconds": 0.5}


@pytest.fixture
async def ready(birds: Any, tools: Any) -> Any:
    await birds.create()
    await birds.take_in([pb.Item(key=key, text="x", gold_answers=[tools.chose("owl")]) for key in ITEMS])
    return birds


def name_of(export: ExportRow) -> str:
    return f"projects/birds/exports/{export.export}"


async def items_of(exports: Any, export: pb.Export | ExportRow) -> list[str]:
    return [line["item"] for line in await exports.lines(export)]


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

    async def delete_below(self, folder: str, most: int, but: Collection[str] = ()) -> int:
        raise Killed

    async def delete(self, *paths: str) -> None:
        raise Killed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


class Slow:
    """Storage before whose n-th write something happens."""

    def __init__(self, storage: Storage, happens: Callable[[], Awaitable[Any]], *, write: int = 1) -> None:
        self._storage = storage
        self._happens = happens
        self._left = write

    async def put(self, path: str, content: Any) -> None:
        self._left -= 1
        if not self._left:
            await self._happens()
        await self._storage.put(path, content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


async def test_an_export_has_every_label_once_and_says_how_far_it_is(
    ready: Any, tools: Any, exports: Any
) -> None:
    heard = await ready.world.listen(events_pb.ExportFinished)
    export = await exports.create(request_id="r")
    assert await exports.create(request_id="r") == export
    done = await exports.ended(export)
    assert (done.state, done.exported_labels, done.total_labels) == (pb.EXPORT_STATE_FINISHED, 10, 10)
    assert await items_of(exports, export) == ITEMS
    [event] = await heard.count(1)
    assert event.message.export == done
    listed = await ready.stub.ListExports(pb.ListExportsRequest(parent="projects/birds"))
    assert list(listed.exports) == [done]


@pytest.mark.parametrize("export_format", [pb.EXPORT_FORMAT_JSONL, pb.EXPORT_FORMAT_CSV])
async def test_its_file_is_read_from_anywhere_on(
    ready: Any, tools: Any, exports: Any, export_format: Any
) -> None:
    export = await exports.create(export_format)
    done = await exports.ended(export)
    body = await exports.body(export)
    assert (done.file.size_bytes, done.file.sha256) == (len(body), hashlib.sha256(body).hexdigest())
    # in its first line, where parts begin and end, and at the end
    sizes = [part.stat().st_size for part in exports.stored()]
    assert len(sizes) == 3
    ends = [len(body) - sum(sizes[n:]) for n in range(4)]
    for offset in {max(0, end + step) for end in ends for step in (-1, 0, 1)} - {len(body) + 1}:
        assert await exports.body(export, offset) == body[offset:]
    async with tools.refused("OFFSET_PAST_END"):
        await exports.body(export, len(body) + 1)
    # nor is it a blob, which others may read than those who may export
    async with tools.refused("BLOB_NOT_FOUND"):
        name = f"projects/birds/blobs/{done.file.sha256}"
        await anext(aiter(ready.stub.DownloadBlob(pb.DownloadBlobRequest(name=name))))


async def test_a_file_of_which_a_part_is_lost_is_given_to_nobody(
    ready: Any, tools: Any, exports: Any
) -> None:
    export = await exports.create()
    await exports.ended(export)
    exports.stored()[1].unlink()
    async with tools.refused("BLOB_LOST"):
        await exports.body(export)
    await ready.database.execute("DELETE FROM export_part WHERE part = 2")
    async with tools.refused("BLOB_LOST"):
        await exports.body(export)


async def test_an_export_goes_on_where_its_killed_worker_was(ready: Any, exports: Any) -> None:
    for writes, after in product(range(3), (False, True)):
        # given a worker that is killed at one of its writes
        export = await exports.begun()
        with pytest.raises(Killed):
            await exports.worker(Dying(exports.storage, writes, after=after)).write(export)
        # when its claim runs out
        await ready.database.execute(
            "UPDATE export SET worker_until = now() WHERE export = $1", export.export
        )
        await exports.worker().work()
        # then another worker ends it, with each label once
        assert await items_of(exports, export) == ITEMS


async def test_a_worker_gives_signs_of_life_while_a_step_is_long(ready: Any, exports: Any) -> None:
    export = await exports.begun()
    until = "SELECT worker_until FROM export WHERE export = $1"

    async def two_signs() -> None:
        for _ in range(2):
            before = await ready.database.fetchval(until, export.export)
            await eventually(
                lambda before=before: ready.database.fetchval(
                    f"SELECT ({until}) <> $2", export.export, before
                ),
                True,
            )

    # given a storage that takes its time for a part
    storage = Slow(exports.storage, two_signs)
    # when it is written, its worker is heard of meanwhile
    await exports.worker(storage, claim_seconds=5).write(export)
    # then it is the one that ends the export
    assert await items_of(exports, export) == ITEMS


async def test_a_write_that_comes_late_spoils_nothing_of_the_next_worker(ready: Any, exports: Any) -> None:
    export = await exports.begun()
    successor = exports.worker()
    taken_over: list[Any] = []

    async def another_takes_over() -> None:
        await ready.database.execute(
            "UPDATE export SET worker = $2 WHERE export = $1", export.export, uuid4()
        )
        taken_over.append(await exports.one_part(successor, await exports.row(export.export)))

    # given a worker that is taken over before its first part, a smaller one, is in storage
    storage = Slow(exports.storage, another_takes_over)
    await exports.worker(storage, page=2).write(export)
    # when the other goes on
    await successor.write(taken_over[0])
    # then the file has each label once, and nothing else is left
    assert await items_of(exports, export) == ITEMS
    assert len(exports.stored()) == 3


async def test_a_file_that_the_release_before_made_is_given_out(ready: Any, exports: Any) -> None:
    # given an export whose parts were joined into a blob
    export = await exports.begun()
    await exports.worker().write(export)
    done, body = await exports.ended(export), await exports.body(export)
    await exports.storage.put(blob_path("acme", "birds", done.file.sha256), body)
    await ready.database.execute("UPDATE export SET joined = true, cleaned = false, tidied = false")
    await ready.database.execute("UPDATE export_part SET size_bytes = NULL")
    # when a replica has looked after what was left of them
    await a_while_passes(ready)
    await exports.worker(claim_seconds=0.5).tidy()
    assert not exports.stored()
    # then its file is there
    assert await exports.body(export, 100) == body[100:]


async def test_an_export_that_the_release_before_began_is_gone_on_with(ready: Any, exports: Any) -> None:
    running = exports.worker()
    advanced = await exports.one_part(running, await exports.begun())
    await ready.database.execute("UPDATE export_part SET size_bytes = NULL")
    await running.write(advanced)
    assert await items_of(exports, advanced) == ITEMS


async def test_an_export_of_which_nobody_knows_where_a_part_is_gets_no_file_without_it(
    ready: Any, exports: Any
) -> None:
    # given one that a release before the last began: that noted nothing of its parts
    running = exports.worker()
    advanced = await exports.one_part(running, await exports.begun())
    await ready.database.execute("DELETE FROM export_part")
    with pytest.raises(FileNotFoundError):
        await running.write(advanced)


async def test_a_cancelled_export_stops_and_leaves_nothing(ready: Any, tools: Any, exports: Any) -> None:
    running = exports.worker()
    export = await exports.one_part(running, await exports.begun())
    async with tools.refused("EXPORT_NOT_FINISHED"):
        await exports.body(export)
    name = name_of(export)
    cancelled = await ready.stub.CancelExport(pb.CancelExportRequest(name=name))
    assert (cancelled.state, cancelled.exported_labels) == (pb.EXPORT_STATE_CANCELLED, 4)
    await running.write(export)
    assert not exports.stored()
    async with tools.refused("EXPORT_ENDED"):
        await ready.stub.CancelExport(pb.CancelExportRequest(name=name))
    async with tools.refused("EXPORT_NOT_FOUND"):
        await ready.stub.GetExport(pb.GetExportRequest(name=f"{name[:-4]}0000"))


@pytest.mark.parametrize("write", [1, 3])
async def test_an_export_that_is_cancelled_while_a_part_is_written_has_no_file(
    ready: Any, exports: Any, write: int
) -> None:
    export = await exports.begun()

    async def cancel() -> None:
        await ready.stub.CancelExport(pb.CancelExportRequest(name=name_of(export)))

    await exports.worker(Slow(exports.storage, cancel, write=write)).write(export)
    ended = await exports.ended(export)
    assert (ended.state, ended.HasField("file")) == (pb.EXPORT_STATE_CANCELLED, False)
    assert not exports.stored()


async def test_an_export_that_is_cancelled_when_all_is_written_has_no_file(ready: Any, exports: Any) -> None:
    export = await exports.begun()
    for _ in range(3):
        export = await exports.one_part(exports.worker(), export)
    assert export.all_written
    await ready.stub.CancelExport(pb.CancelExportRequest(name=name_of(export)))
    await exports.worker().write(export)
    ended = await exports.ended(export)
    assert (ended.state, ended.HasField("file")) == (pb.EXPORT_STATE_CANCELLED, False)
    assert not exports.stored()


async def a_while_passes(birds: Any) -> None:
    await birds.database.execute(
        "UPDATE export SET ended_at = now() - interval '1 hour' WHERE ended_at < now()"
    )


async def test_what_killed_workers_left_of_ended_exports_is_removed(ready: Any, exports: Any) -> None:
    # given a worker that is killed when its export has a file, before it has removed the part of one that was killed
    finished = await exports.begun()
    with pytest.raises(Killed):
        await exports.worker(Dying(exports.storage, 1, after=True)).write(finished)
    await ready.database.execute("UPDATE export SET worker = $2 WHERE export = $1", finished.export, uuid4())
    with pytest.raises(Killed):
        await exports.worker(DyingAtTheEnd(exports.storage)).write(await exports.row(finished.export))
    assert len(exports.stored()) == 3 + 1
    # and one that is killed after a part of which it has told nobody, and whose export is cancelled before another comes
    cancelled = await exports.begun()
    with pytest.raises(Killed):
        await exports.worker(Dying(exports.storage, 1, after=True)).write(cancelled)
    await ready.stub.CancelExport(pb.CancelExportRequest(name=name_of(cancelled)))
    # and one that works on, and has written a part
    goes_on = await exports.one_part(exports.worker(), await exports.begun())
    assert len(exports.stored()) == 3 + 1 + 2 + 1
    # when a replica looks after them a while later
    await a_while_passes(ready)
    async with ready.world.run(SERVICE, blob_url=ready.running.settings.blob_url):
        await eventually(lambda: len(exports.stored()), 3 + 1)
    # then nothing is left but what is needed
    await exports.worker().write(goes_on)
    for export in (finished, goes_on):
        assert await items_of(exports, export) == ITEMS
    parts = "SELECT count(*) FROM export_part WHERE export = ANY ($1)"
    assert await ready.database.fetchval(parts, [finished.export, goes_on.export]) == len(exports.stored())
    assert await ready.database.fetchval(parts, [cancelled.export]) == 0


async def test_an_export_that_cannot_be_tidied_holds_up_no_other(ready: Any, exports: Any) -> None:
    begun = sorted([await exports.begun() for _ in range(2)], key=lambda export: export.export)
    for export in begun:
        await exports.one_part(exports.worker(), export)
        await ready.stub.CancelExport(pb.CancelExportRequest(name=name_of(export)))
    await a_while_passes(ready)

    class Refusing:
        async def delete_below(self, folder: str, most: int, but: Collection[str] = ()) -> int:
            if str(begun[0].export) in folder:
                raise PermissionError(folder)
            return await exports.storage.delete_below(folder, most, but)  # type: ignore[no-any-return]

    # given storage that refuses to remove the parts of the first of two
    await exports.worker(Refusing(), claim_seconds=0.5).tidy()
    assert [str(begun[0].export) in str(part) for part in exports.stored()] == [True]
    # when it does so no more, then two who tidy up at once leave nothing
    await asyncio.gather(*(exports.worker(claim_seconds=0.5).tidy() for _ in range(2)))
    assert not exports.stored()
    assert await ready.database.fetchval("SELECT count(*) FROM export_part") == 0


async def test_tries_are_counted_from_the_last_part_on(ready: Any, exports: Any) -> None:
    # given an export that has failed all but once too often
    export = await exports.begun()
    await ready.database.execute("UPDATE export SET failures = 4")
    # when its next worker writes a part before it fails
    with pytest.raises(Killed):
        await exports.worker(Dying(exports.storage, 1, after=False)).write(export)
    # then it may fail as often again
    row = await exports.row(export.export)
    assert (row.parts, row.failures) == (1, 0)


async def test_an_export_that_cannot_be_written_is_tried_again_and_fails_in_the_end(
    ready: Any, exports: Any
) -> None:
    heard = await ready.world.listen(events_pb.ExportFinished)
    (ready.world.folder / "blobs" / "exports").write_text("in the way")
    for failures in (0, 4):
        await ready.database.execute(
            "INSERT INTO export (tenant, project, export, format, include_annotations, state, failures) "
            "VALUES ('acme', 'birds', $1, 1, false, 1, $2)",
            uuid4(),
            failures,
        )
    await exports.worker().work()

    async def states() -> list[int]:
        found = await ready.database.fetch("SELECT state FROM export ORDER BY failures")
        return [row["state"] for row in found]

    await eventually(states, [pb.EXPORT_STATE_RUNNING, pb.EXPORT_STATE_FAILED])
    [event] = await heard.count(1)
    assert event.message.export.error.message == "The export could not be written."
