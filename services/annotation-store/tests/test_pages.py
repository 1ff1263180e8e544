from __future__ import annotations

from typing import Any

import pytest

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as v
from cairn_kit.rpc import PAGE_BYTES, page_of

COUNT = 100
KEYS = [f"k{i:03d}" for i in range(COUNT)]
ITEM = "projects/birds/items/{}"


@pytest.fixture
async def heavy(birds: Any) -> Any:
    """A hundred items, each with a text and a gold label of 100 KB: more than a message takes, of either."""
    note = schema_pb.Question(id="note", required=True, text=schema_pb.TextQuestion(max_length=1_000_000))
    await birds.create(schema_pb.LabelSchema(questions=[note]))
    long = "x" * 110_000
    for at in range(0, COUNT, 50):
        gold = [v.Answer(question="note", text=long)]
        items = [pb.Item(key=key, text=long, gold_answers=gold) for key in KEYS[at : at + 50]]
        await birds.take_in(items, offset=at, last=at + 50 == COUNT)
    return birds


async def everything(call: Any, request: Any, field: str) -> list[Any]:
    """What all pages hold, the default number asked for."""
    found: list[Any] = []
    while True:
        page = await call(request)
        assert getattr(page, field)
        assert page.ByteSize() < 4 << 20
        found += getattr(page, field)
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def test_a_page_of_large_items_or_labels_holds_what_a_call_can_carry(heavy: Any) -> None:
    items = await everything(heavy.stub.ListItems, pb.ListItemsRequest(parent="projects/birds"), "items")
    assert [item.key for item in items] == KEYS
    labels = await everything(heavy.stub.ListLabels, pb.ListLabelsRequest(parent="projects/birds"), "labels")
    assert [label.name.split("/")[3] for label in labels] == KEYS


async def test_a_page_of_large_annotations_holds_what_a_call_can_carry(heavy: Any) -> None:
    answers = [v.Answer(question="note", text="x" * 900_000)]
    names = [(await heavy.submit(heavy.lease("k000", f"l{i}"), *answers)).name for i in range(20)]
    for parent in (ITEM.format("k000"), ITEM.format("-")):
        request = pb.ListAnnotationsRequest(parent=parent)
        found = await everything(heavy.stub.ListAnnotations, request, "annotations")
        assert [annotation.name for annotation in found] == names


async def test_watching_large_labels_goes_on(heavy: Any) -> None:
    seen: list[str] = []
    async for message in heavy.stub.WatchLabels(pb.WatchLabelsRequest(parent="projects/birds")):
        assert message.ByteSize() < 4 << 20
        seen += [label.name.split("/")[3] for label in message.labels]
        if len(seen) >= COUNT:
            break
    # then each is there once, and a token goes on within what was read at once
    assert seen == KEYS
    stream = heavy.stub.WatchLabels(pb.WatchLabelsRequest(parent="projects/birds"))
    first = await stream.read()
    stream.cancel()
    again = heavy.stub.WatchLabels(
        pb.WatchLabelsRequest(parent="projects/birds", resume_token=first.resume_token)
    )
    second = await again.read()
    again.cancel()
    assert second.labels[0].name.split("/")[3] == KEYS[len(first.labels)]


@pytest.mark.parametrize(
    ("sizes", "most", "held"),
    [
        ([], 3, 0),
        ([10, 10, 10], 2, 2),
        ([2 * PAGE_BYTES, 10], 3, 1),  # one at least, or it would never be passed
        ([10, 2 * PAGE_BYTES, 10], 3, 1),
        ([PAGE_BYTES // 2, PAGE_BYTES // 2 - 100, 200], 3, 2),
    ],
)
def test_a_page_ends_before_what_would_be_too_much(sizes: list[int], most: int, held: int) -> None:
    assert len(page_of((pb.Item(text="x" * size) for size in sizes), most)) == held
