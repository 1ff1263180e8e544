"""Texts that are not UTF-8, or hold NUL, are found wherever they stand in an encoded message."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn_annotation_store.domain.texts import Fault, texts_of, with_texts_repaired
from cairn_annotation_store.lenient import broken_texts, import_request

ITEM = pb.Item.DESCRIPTOR
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
items = st.builds(
    pb.Item,
    key=texts,
    text=texts,
    width=st.integers(0, 2**32 - 1),
    priority=st.floats(allow_nan=False),
    metadata=st.dictionaries(texts, texts, max_size=3),
    candidates=st.lists(st.builds(pb.Candidate, id=texts, text=texts), max_size=3),
)


@given(items)
def test_what_is_well_formed_stays_as_it_is(item: pb.Item) -> None:
    raw = item.SerializeToString()
    assert with_texts_repaired(ITEM, raw) == (raw, [])
    ours = [item.key, item.text, *(text for entry in item.metadata.items() for text in entry)]
    ours += [text for candidate in item.candidates for text in (candidate.id, candidate.text)]
    assert sorted(filter(None, texts_of(item))) == sorted(filter(None, ours))


@given(
    items,
    st.integers(0, 3),
    st.sampled_from(
        [
            (b"\xff\xfemark", "\ufffd\ufffdmark", Fault.NOT_UTF8),
            (b"a\0mark", "a\\0mark", Fault.NUL),
            (b"\xff\0mark", "\ufffd\\0mark", Fault.NOT_UTF8),
        ]
    ),
)
def test_what_is_broken_is_told_and_nothing_else_is_touched(
    item: pb.Item, place: int, broken: tuple[bytes, str, Fault]
) -> None:
    sent, shown, fault = broken
    for _ in range(place + 1):
        item.candidates.add(id="c", text="x")
    item.candidates[place].text = "mark__"
    raw = item.SerializeToString().replace(b"mark__", sent)
    repaired, faults = with_texts_repaired(ITEM, raw)
    assert faults == [(f"candidates[{place}].text", fault)]
    item.candidates[place].text = shown
    assert pb.Item.FromString(repaired) == item


@given(st.binary(max_size=60))
def test_junk_is_repaired_to_a_message_or_refused(junk: bytes) -> None:
    try:
        request = import_request(junk)
    except DecodeError:
        return
    assert isinstance(request, pb.ImportItemsRequest)


def test_only_an_items_own_text_is_forgiven() -> None:
    header = pb.ImportItemsRequest(header=pb.ImportHeader(parent="mark__", import_id="a"))
    with pytest.raises(DecodeError):
        import_request(header.SerializeToString().replace(b"mark__", b"\xff\xfemark"))
    chunk = pb.ImportItemsRequest(
        chunk=pb.ImportChunk(items=[pb.Item(key="a", text="x"), pb.Item(key="mark__")])
    )
    request = import_request(chunk.SerializeToString().replace(b"mark__", b"\xff\xfemark"))
    assert broken_texts(request) == {1: [("key", Fault.NOT_UTF8)]}
