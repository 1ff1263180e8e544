from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.events.v1 import annotation_store_events_pb2 as events_pb
from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as v
from cairn_annotation_store.domain.violations import shortened
from cairn_kit.errors import InvalidArgument, NotFound, Violation, from_status
from cairn_kit.testing import eventually

HEADER = pb.ImportItemsRequest(header=pb.ImportHeader(parent="projects/birds", import_id="first"))


def chunk(offset: int, *keys: str, last: bool = False) -> pb.ImportItemsRequest:
    items = [pb.Item(key=key, text=f"text of {key}") for key in keys]
    return pb.ImportItemsRequest(chunk=pb.ImportChunk(offset=offset, items=items, last=last))


async def stream(*messages: pb.ImportItemsRequest) -> AsyncIterator[pb.ImportItemsRequest]:
    for message in messages:
        yield message


async def test_a_bad_item_is_refused_alone_with_its_place(birds: Any, tools: Any) -> None:
    await birds.create()
    done = await birds.take_in(
        [
            pb.Item(key="a", text="x"),
            pb.Item(key="no good", text="x"),
            pb.Item(key="a", text="x"),
            pb.Item(key="a", text="y"),
            pb.Item(key="b", blob=v.BlobRef(sha256="c" * 64)),
            pb.Item(key="c", text="x", gold_answers=[tools.chose("cow")]),
            pb.Item(key="d", text="x"),
        ]
    )
    assert (done.created_items, done.unchanged_items, done.failed_items, done.next_offset) == (2, 1, 4, 7)
    found = [(f.offset, f.key, from_status(f.error)) for f in done.failures]
    assert [(offset, key, error.reason) for offset, key, error in found] == [
        (1, "no good", "ITEM_INVALID"),
        (3, "a", "ITEM_CONFLICT"),
        (4, "b", "ITEM_INVALID"),
        (5, "c", "ANSWER_INVALID"),
    ]
    assert found[3][2].violations[0].field == "gold_answers[0].choice"  # type: ignore[attr-defined]


async def test_the_same_items_again_change_nothing(birds: Any) -> None:
    await birds.create()
    heard = await birds.world.listen(events_pb.ItemsImported, events_pb.ImportFinished)
    await birds.texts(5)
    again = await birds.texts(6, import_id="second")
    assert (again.created_items, again.unchanged_items) == (1, 5)
    await heard.until(lambda events: sum(e.type.endswith("ImportFinished") for e in events) == 2)
    imported = [
        item.key for e in heard.events if e.type.endswith("ItemsImported") for item in e.message.items
    ]
    assert imported == [f"a{i:04d}" for i in range(6)]


async def test_a_broken_stream_is_resumed_and_what_overlaps_is_skipped(birds: Any) -> None:
    await birds.create()

    async def broken() -> AsyncIterator[pb.ImportItemsRequest]:
        yield HEADER
        yield chunk(0, "a", "b", "c")
        await eventually(lambda: birds.database.fetchval("SELECT next_offset FROM import"), 3)
        raise ConnectionError("the line broke")

    with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError, ConnectionError)):
        await birds.stub.ImportItems(broken())
    state = await birds.stub.GetImport(pb.GetImportRequest(name="projects/birds/imports/first"))
    assert (state.next_offset, state.state) == (3, pb.IMPORT_STATE_RUNNING)

    done = await birds.stub.ImportItems(stream(HEADER, chunk(1, "b", "c", "d"), chunk(4, "e", last=True)))
    assert (done.created_items, done.unchanged_items, done.next_offset) == (5, 0, 5)
    assert done.state == pb.IMPORT_STATE_FINISHED
    # the whole import once more is skipped as a whole
    once_more = await birds.stub.ImportItems(stream(HEADER, chunk(0, "a", "b", "c", "d", "e", last=True)))
    assert once_more == done


async def test_what_comes_out_of_order_is_refused(birds: Any, tools: Any) -> None:
    await birds.create()
    async with tools.refused("CHUNK_OUT_OF_ORDER") as errors:
        await birds.stub.ImportItems(stream(HEADER, chunk(0, "a"), chunk(2, "c")))
    assert errors[0].metadata["next_offset"] == "1"
    async with tools.refused("HEADER_MISSING"):
        await birds.stub.ImportItems(stream(chunk(0, "a")))
    async with tools.refused("HEADER_MISSING"):
        await birds.stub.ImportItems(stream())
    async with tools.refused("HEADER_REPEATED"):
        await birds.stub.ImportItems(stream(HEADER, HEADER))
    await birds.stub.ImportItems(stream(HEADER, chunk(1, last=True)))
    async with tools.refused("IMPORT_FINISHED"):
        await birds.stub.ImportItems(stream(HEADER, chunk(1, "b")))
    assert (await birds.progress()).items == 1


async def test_imports_side_by_side_write_each_item_once(birds: Any) -> None:
    await birds.create()
    results = await asyncio.gather(*(birds.texts(200, import_id=f"i{n}") for n in range(4)))
    assert sum(result.created_items for result in results) == 200
    assert sum(result.unchanged_items for result in results) == 600
    assert (await birds.progress()).items == 200


async def test_large_items_are_told_in_several_events(birds: Any) -> None:
    await birds.create()
    heard = await birds.world.listen(events_pb.ItemsImported)
    texts = ["x" * 200_000, "y" * 90_000, "z" * 90_000, "small", "w" * 150_000]
    done = await birds.take_in([pb.Item(key=f"k{i}", text=text) for i, text in enumerate(texts)])
    assert done.created_items == 5
    events = await heard.until(lambda events: sum(len(e.message.items) for e in events) == 5)
    assert [[item.key for item in event.message.items] for event in events] == [
        ["k0"],
        ["k1", "k2", "k3"],
        ["k4"],
    ]
    assert all(len(event.body) < 256 * 1024 for event in events)


async def test_gold_is_a_label_at_once(birds: Any, tools: Any) -> None:
    await birds.create()
    heard = await birds.world.listen(events_pb.LabelFinalized)
    await birds.take_in([pb.Item(key="g", text="hoo", gold_answers=[tools.chose("owl")])])
    [event] = await heard.count(1)
    assert event.message.item_complete
    label = await birds.label("g")
    assert event.message.label == label
    assert (label.answer.choice, label.source, label.confidence) == ("owl", pb.LABEL_SOURCE_GOLD, 1.0)
    assert getattr(label.provenance.gold, "import") == "projects/birds/imports/first"


async def test_an_import_of_thousands_is_quick_and_counted(birds: Any) -> None:
    await birds.create()

    async def messages() -> AsyncIterator[pb.ImportItemsRequest]:
        yield HEADER
        for start in range(0, 6000, 2000):
            yield chunk(start, *(f"k{i}" for i in range(start, start + 2000)), last=start == 4000)

    done = await birds.stub.ImportItems(messages())
    assert done.created_items == 6000
    assert (await birds.progress()).items == 6000
    keys, token = [], ""
    while True:
        request = pb.ListItemsRequest(parent="projects/birds", page_size=1000, page_token=token)
        page = await birds.stub.ListItems(request)
        keys += [item.key for item in page.items]
        token = page.next_page_token
        if not token:
            break
    assert keys == sorted(f"k{i}" for i in range(6000))


async def test_text_that_is_not_utf8_is_refused_alone(birds: Any) -> None:
    await birds.create()
    good = pb.ImportChunk(
        items=[
            pb.Item(key="a", text="caf__"),
            pb.Item(key="b", text="ok", metadata={"n": "caf__"}),
            pb.Item(key="c", text="caf\u00e9"),
        ],
        last=True,
    )
    header = HEADER.SerializeToString()
    broken = pb.ImportItemsRequest(chunk=good).SerializeToString().replace(b"caf__", b"caf\xe9\xff")

    async def raw() -> AsyncIterator[bytes]:
        yield header
        yield broken

    call = birds.running.channel.stream_unary(
        "/cairn.annotation.v1.AnnotationStoreService/ImportItems",
        request_serializer=bytes,
        response_deserializer=pb.Import.FromString,
    )
    bearer = ("authorization", f"Bearer {birds.world.token(roles=['manager'])}")
    done = await call(raw(), metadata=(bearer,), timeout=10)
    assert (done.created_items, done.failed_items, done.state) == (1, 2, pb.IMPORT_STATE_FINISHED)
    fields = [from_status(failure.error).violations[0].field for failure in done.failures]
    assert fields == ["text", "metadata[0].value"]
    [item] = (await birds.stub.ListItems(pb.ListItemsRequest(parent="projects/birds"))).items
    assert (item.key, item.text) == ("c", "caf\u00e9")


async def test_text_with_a_nul_is_refused_alone(birds: Any, tools: Any) -> None:
    await birds.create()
    done = await birds.take_in(
        [
            pb.Item(key="a\0b", text="x"),
            pb.Item(key="t", text="caf\0", priority=0.5),
            pb.Item(key="m", text="x", metadata={"n": "\0"}),
            pb.Item(key="b", blob=v.BlobRef(sha256="\0" * 64)),
            pb.Item(key="g", text="x", gold_answers=[tools.chose("\0")]),
            pb.Item(key="good", text="x", priority=0.5),
        ]
    )
    assert (done.created_items, done.failed_items, done.next_offset) == (1, 5, 6)
    assert done.state == pb.IMPORT_STATE_FINISHED
    assert [failure.key for failure in done.failures] == ["a\\0b", "t", "m", "b", "g"]
    errors = [from_status(failure.error) for failure in done.failures]
    assert {error.reason for error in errors} == {"ITEM_INVALID"}
    assert [error.violations[0].field for error in errors] == [  # type: ignore[attr-defined]
        "key", "text", "metadata[0].value", "blob.sha256", "gold_answers[0].choice",
    ]  # fmt: skip
    assert all("NUL" in error.message for error in errors)


async def test_an_import_of_which_all_is_wrong_can_tell_how_far_it_is(birds: Any) -> None:
    # given items with a hundred faults each, told in many words
    classes = [schema_pb.LabelClass(id=f"{n}-{'x' * 60}") for n in range(10)]
    birdsong = schema_pb.Question(id="songs", choices=schema_pb.ChoicesQuestion(classes=classes))
    await birds.create(schema_pb.LabelSchema(questions=[birdsong]))
    unknown = v.Answer(question="songs", choices=v.Choices(class_ids=[f"{n}-{'y' * 50}" for n in range(101)]))
    items = [pb.Item(key=f"k{n}", text="x", gold_answers=[unknown]) for n in range(1100)]
    # when they are imported
    done = await birds.take_in(items, last=False)
    # then it says where to go on, and of as many as a call can carry what is wrong
    assert done == await birds.stub.GetImport(pb.GetImportRequest(name="projects/birds/imports/first"))
    assert (done.failed_items, done.next_offset) == (1100, 1100)
    assert 3_000_000 < done.ByteSize() < 4 << 20
    assert [failure.offset for failure in done.failures] == [*range(len(done.failures))]
    error = from_status(done.failures[0].error)
    assert len(error.violations) == 10  # type: ignore[attr-defined]
    assert error.message.endswith("(90 or more are not shown)")


def test_of_few_violations_all_are_told_and_of_more_how_many() -> None:
    violations = [Violation(f"f{n}", "expected another.") for n in range(12)]
    error = InvalidArgument("ITEM_INVALID", "Refused.", violations=violations, resource="r")
    assert shortened(error, 12) is error
    short = shortened(error, 10)
    assert isinstance(short, InvalidArgument)
    assert (short.reason, short.message) == ("ITEM_INVALID", "Refused. (2 are not shown)")
    assert (short.violations, short.metadata) == (tuple(violations[:10]), {"resource": "r"})
    other = NotFound("ITEM_NOT_FOUND", "There is none.")
    assert shortened(other, 0) is other
