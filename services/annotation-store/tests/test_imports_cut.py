"""P1, P3: a stream of items that breaks at any byte, again and again, is resumed; nothing is lost and nothing doubled."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.annotation.v1 import annotation_store_pb2_grpc as api
from cairn.events.v1 import annotation_store_events_pb2 as events_pb
from cairn_kit.testing import CutProxy, eventually

ITEMS, CHUNK = 2000, 80
NAME = "projects/birds/imports/first"


def item(number: int, tools: Any) -> pb.Item:
    """Most are plain; one in fifty is refused, one is gold, and one has come just before."""
    match number % 50:
        case 7:
            return pb.Item(key=f"not a key {number}", text="x")
        case 8:
            return pb.Item(key=f"k{number:05d}", text="x", gold_answers=[tools.chose("owl")])
        case 9:
            return item(number - 3, tools)
    return pb.Item(key=f"k{number:05d}", text=f"text {number} " + "x" * (number % 400))


async def messages(birds: Any, given: list[pb.Item], offset: int) -> AsyncIterator[pb.ImportItemsRequest]:
    """A stream from an offset on, at most two chunks ahead of what is taken in: as over a line that is the slower one."""
    yield pb.ImportItemsRequest(header=pb.ImportHeader(parent="projects/birds", import_id="first"))
    for start in range(offset, len(given), CHUNK):
        await eventually(lambda start=start: reached(birds, start - 2 * CHUNK))
        some = given[start : start + CHUNK]
        last = start + CHUNK >= len(given)
        yield pb.ImportItemsRequest(chunk=pb.ImportChunk(offset=start, items=some, last=last))


async def reached(birds: Any, offset: int) -> bool:
    return await next_offset(birds) >= offset


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_stream_that_is_cut_at_any_byte_brings_each_item_once(
    birds: Any, tools: Any, seed: int
) -> None:
    await birds.create()
    heard = await birds.world.listen(events_pb.ItemsImported, events_pb.ImportFinished)
    given, cuts = [item(number, tools) for number in range(ITEMS)], random.Random(seed)
    bearer = (("authorization", f"Bearer {birds.world.token(roles=['manager'])}"),)
    offset, done = 0, None
    host, port = birds.running.chassis.address.rsplit(":", 1)
    async with CutProxy(host, int(port)) as line:
        while done is None:
            # given a line that is cut after some bytes, of a chunk or between two
            line.cut_after(cuts.randrange(200, 80_000), sent=True)
            async with grpc.aio.insecure_channel(f"127.0.0.1:{line.port}") as channel:
                stub = api.AnnotationStoreServiceStub(channel)
                try:
                    done = await stub.ImportItems(messages(birds, given, offset), metadata=bearer, timeout=30)
                except grpc.aio.AioRpcError as error:
                    if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL):
                        raise
            # when the stream goes on where the import says that it is
            offset = await next_offset(birds)
        assert line.cuts >= 4
    # then each item was taken in once, the bad ones refused once,
    each = ITEMS // 50
    counts = (done.next_offset, done.failed_items, done.unchanged_items, done.created_items)
    assert counts == (ITEMS, each, each, ITEMS - 2 * each)
    assert [failure.offset for failure in done.failures] == list(range(7, ITEMS, 50))
    # what is kept is what was sent,
    sent = {one.key: one.text for one in given if " " not in one.key}
    assert await stored(birds) == sent
    # and each was told of once
    events = await heard.until(lambda events: any(e.type.endswith("ImportFinished") for e in events))
    told = [one.key for e in events if e.type.endswith("ItemsImported") for one in e.message.items]
    assert Counter(told) == Counter(list(sent))


async def next_offset(birds: Any) -> int:
    """Where the import goes on; 0 when not even its header arrived."""
    try:
        found = await birds.stub.GetImport(pb.GetImportRequest(name=NAME))
    except grpc.aio.AioRpcError as error:
        if error.code() != grpc.StatusCode.NOT_FOUND:
            raise
        return 0
    return int(found.next_offset)


async def stored(birds: Any) -> dict[str, str]:
    """All items of the project, by key."""
    found: dict[str, str] = {}
    request = pb.ListItemsRequest(parent="projects/birds", page_size=1000)
    while not found or request.page_token:
        page = await birds.stub.ListItems(request)
        found.update((one.key, one.text) for one in page.items)
        request.page_token = page.next_page_token
    return found
