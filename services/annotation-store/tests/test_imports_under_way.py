"""An import while it runs: seen, listed, cancelled, and overtaken by other changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.events.v1 import annotation_store_events_pb2 as events_pb
from cairn_kit.errors import from_status
from cairn_kit.testing import eventually

NAME = "projects/birds/imports/first"


def header(import_id: str = "first") -> pb.ImportItemsRequest:
    return pb.ImportItemsRequest(header=pb.ImportHeader(parent="projects/birds", import_id=import_id))


def chunk(offset: int, *items: pb.Item | str, last: bool = False) -> pb.ImportItemsRequest:
    given = [pb.Item(key=item, text="x") if isinstance(item, str) else item for item in items]
    return pb.ImportItemsRequest(chunk=pb.ImportChunk(offset=offset, items=given, last=last))


class Sender:
    """A stream whose messages the test sends one by one."""

    def __init__(self, birds: Any) -> None:
        self._messages: asyncio.Queue[pb.ImportItemsRequest | None] = asyncio.Queue()
        self._birds = birds
        self.send(header())
        self.call = asyncio.ensure_future(birds.stub.ImportItems(self._stream()))

    def send(self, *messages: pb.ImportItemsRequest) -> None:
        for message in messages:
            self._messages.put_nowait(message)

    def end(self) -> None:
        self._messages.put_nowait(None)

    async def _stream(self) -> AsyncIterator[pb.ImportItemsRequest]:
        while (message := await self._messages.get()) is not None:
            yield message

    async def reaches(self, offset: int) -> pb.Import:
        """Wait until so many items were taken in; the import as it is then."""

        async def look() -> int | None:
            return await self._birds.database.fetchval("SELECT next_offset FROM import")  # type: ignore[no-any-return]

        await eventually(look, offset)
        return await self._birds.stub.GetImport(pb.GetImportRequest(name=NAME))  # type: ignore[no-any-return]


@pytest.fixture
async def sender(birds: Any) -> AsyncIterator[Sender]:
    await birds.create()
    sending = Sender(birds)
    yield sending
    sending.call.cancel()
    await asyncio.wait([sending.call])


async def test_how_far_an_import_is_can_be_seen_while_it_runs(birds: Any, sender: Sender) -> None:
    # given a stream that is not at its end
    sender.send(chunk(0, "a", "no good", "b"))
    # then what it has taken in is told,
    seen = await sender.reaches(3)
    assert (seen.state, seen.created_items, seen.failed_items) == (pb.IMPORT_STATE_RUNNING, 2, 1)
    assert [failure.offset for failure in seen.failures] == [1]
    # each time that it goes on
    sender.send(chunk(3, "c", "a"))
    later = await sender.reaches(5)
    assert (later.created_items, later.unchanged_items) == (3, 1)
    assert later.update_time.ToDatetime() > seen.update_time.ToDatetime()
    sender.send(chunk(5, last=True))
    sender.end()
    assert (await sender.call).state == pb.IMPORT_STATE_FINISHED


async def test_a_cancelled_import_keeps_what_it_had_and_takes_nothing_more(
    birds: Any, tools: Any, sender: Sender
) -> None:
    heard = await birds.world.listen(events_pb.ImportCancelled, events_pb.ImportFinished)
    sender.send(chunk(0, "a", "b"))
    await sender.reaches(2)
    # when it is cancelled, once or twice
    cancelled = await birds.stub.CancelImport(pb.CancelImportRequest(name=NAME))
    again = await birds.stub.CancelImport(pb.CancelImportRequest(name=NAME, request_id="r"))
    assert again == await birds.stub.CancelImport(pb.CancelImportRequest(name=NAME, request_id="r"))
    assert cancelled == again == await birds.stub.GetImport(pb.GetImportRequest(name=NAME))
    assert (cancelled.state, cancelled.created_items) == (pb.IMPORT_STATE_CANCELLED, 2)
    # then the stream that runs is refused at its next chunk,
    sender.send(chunk(2, "c"))
    async with tools.refused("IMPORT_CANCELLED"):
        await sender.call
    # and so is one that would go on with it, even from the start or to the end
    for message in (chunk(2, "c"), chunk(0, "a", "b", last=True), chunk(2, last=True)):
        async with tools.refused("IMPORT_CANCELLED"):
            await birds.stub.ImportItems(_of(header(), message))
    # and what was taken in stays
    assert (await birds.progress()).items == 2
    [event] = await heard.count(1)
    assert getattr(event.message, "import") == cancelled


async def test_only_an_import_that_is_there_and_not_finished_is_cancelled(birds: Any, tools: Any) -> None:
    await birds.create()
    await birds.texts(1)
    async with tools.refused("IMPORT_FINISHED"):
        await birds.stub.CancelImport(pb.CancelImportRequest(name=NAME))
    async with tools.refused("IMPORT_NOT_FOUND"):
        await birds.stub.CancelImport(pb.CancelImportRequest(name="projects/birds/imports/other"))
    async with tools.refused("IMPORT_NOT_FOUND"):
        await birds.as_(tenant="globex", roles=["manager"]).CancelImport(pb.CancelImportRequest(name=NAME))
    async with tools.refused("PERMISSION_MISSING"):
        await birds.as_(roles=["viewer"]).CancelImport(pb.CancelImportRequest(name=NAME))
    assert (await birds.stub.GetImport(pb.GetImportRequest(name=NAME))).state == pb.IMPORT_STATE_FINISHED


async def test_imports_are_listed_newest_first_in_pages(birds: Any, tools: Any) -> None:
    await birds.create()
    for n in range(5):
        await birds.take_in([pb.Item(key=f"k{n}", text="x"), pb.Item(key="no good")], import_id=f"i{n}")
    request = pb.ListImportsRequest(parent="projects/birds", page_size=2)
    pages = []
    while not pages or request.page_token:
        page = await birds.stub.ListImports(request)
        pages.append([one.name.rpartition("/")[2] for one in page.imports])
        assert all(one.failed_items and not one.failures for one in page.imports)
        request.page_token = page.next_page_token
    assert pages == [["i4", "i3"], ["i2", "i1"], ["i0"]]
    async with tools.refused("PROJECT_NOT_FOUND"):
        await birds.as_(tenant="globex", roles=["manager"]).ListImports(
            pb.ListImportsRequest(parent="projects/birds")
        )


async def test_what_was_examined_ahead_is_examined_again_under_a_schema_that_changed(
    birds: Any, tools: Any
) -> None:
    project = await birds.create()
    body = pb.Project(schema=tools.choice_schema("robin", "wren"), quality=project.quality)
    held, freed = asyncio.Event(), asyncio.Event()

    async def change() -> None:
        """Take a class from the schema, and be about to say so until told to."""
        async with birds.database.transaction() as tx:
            await tx.execute(
                "UPDATE project SET body = $1, revision = revision + 1, schema_version = schema_version + 1",
                body.SerializeToString(),
            )
            held.set()
            await freed.wait()

    sender = Sender(birds)
    await eventually(lambda: birds.database.fetchval("SELECT count(*) FROM import"), 1)
    changing = asyncio.ensure_future(change())
    await held.wait()
    # given a chunk that waits to be written until the schema has changed, and one behind it
    sender.send(
        chunk(0, "a"), chunk(1, pb.Item(key="g", text="x", gold_answers=[tools.chose("owl")]), last=True)
    )
    await _waiting_for_a_lock(birds, 1)
    # when both go on
    freed.set()
    await changing
    sender.end()
    done = await sender.call
    # then the item is refused whose answer the new schema does not know
    assert (done.created_items, done.failed_items) == (1, 1)
    assert from_status(done.failures[0].error).reason == "ANSWER_INVALID"


async def test_two_streams_of_one_import_take_each_item_in_once(birds: Any) -> None:
    await birds.create()
    chunks = [chunk(n * 5, *(f"k{i}" for i in range(n * 5, n * 5 + 5)), last=n == 19) for n in range(20)]
    done = await asyncio.gather(*(birds.stub.ImportItems(_of(header(), *chunks)) for _ in range(3)))
    assert {(one.created_items, one.unchanged_items, one.next_offset) for one in done} == {(100, 0, 100)}
    assert (await birds.progress()).items == 100


async def _of(*messages: pb.ImportItemsRequest) -> AsyncIterator[pb.ImportItemsRequest]:
    for message in messages:
        yield message


async def _waiting_for_a_lock(birds: Any, sessions: int) -> None:
    look: Callable[[], Awaitable[int]] = lambda: birds.database.fetchval(  # noqa: E731
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    await eventually(look, sessions)
