"""Items: which are refused and where, which are the same, and how large a picture says it is."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.label.v1 import label_value_pb2 as v
from cairn_annotation_store.domain.export_copy import CopiedLabel
from cairn_annotation_store.domain.export_rows import (
    Shown,
    header_line,
    lines,
    value_json,
)
from cairn_annotation_store.domain.items import BlobFacts, check_item, new_item, normalised
from cairn_annotation_store.domain.labels import Source
from cairn_annotation_store.domain.pictures import PictureFacts, picture_facts
from cairn_annotation_store.domain.schema import SchemaRules
from cairn_kit.errors import InvalidArgument

SINCE = datetime(2000, 1, 1, tzinfo=UTC)
SHA = "a" * 64
PICTURE = BlobFacts(SHA, 100, "image/png", width=20, height=10)


@pytest.fixture
def rules(tools: Any) -> SchemaRules:
    return SchemaRules(tools.choice_schema())


BAD = [
    (pb.Item(key="", text="x"), "key"),
    (pb.Item(key="a/b", text="x"), "key"),
    (pb.Item(key="-", text="x"), "key"),
    (pb.Item(key="x" * 257, text="x"), "key"),
    (pb.Item(key="k"), "text"),
    (pb.Item(key="k", text="x" * 204_801), "text"),
    (pb.Item(key="k", blob=v.BlobRef(sha256="b" * 64)), "blob.sha256"),
    (pb.Item(key="k", blob=v.BlobRef(sha256=SHA, size_bytes=99)), "blob.size_bytes"),
    (pb.Item(key="k", blob=v.BlobRef(sha256=SHA, media_type="text/html")), "blob.media_type"),
    (pb.Item(key="k", blob=v.BlobRef(sha256=SHA), width=21), "width"),
    (pb.Item(key="k", text="x", duration_seconds=float("inf")), "duration_seconds"),
    (pb.Item(key="k", text="x", priority=float("nan")), "priority"),
    (pb.Item(key="k", text="x", metadata={"": "x"}), "metadata"),
    (pb.Item(key="k", text="x", metadata={"n": "x" * 4097}), "metadata[n]"),
    (pb.Item(key="k", candidates=[pb.Candidate(id="a", text="x"), pb.Candidate(id="a", text="y")]), "candidates[1].id"),
    (pb.Item(key="k", candidates=[pb.Candidate(id="a")]), "candidates[0]"),
    (pb.Item(key="k", candidates=[pb.Candidate(id="a b", text="x")]), "candidates[0].id"),
    (pb.Item(key="k", text="x", gold_answers=[v.Answer(question="species", choice="cow")]), "gold_answers[0].choice"),
    (
        pb.Item(key="k", text="x" * 200_000, metadata={str(i): "y" * 4000 for i in range(20)}),
        "",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("item", "path"), BAD)
def test_a_bad_item_is_refused_at_its_path(item: pb.Item, path: str, rules: SchemaRules) -> None:
    blobs = {SHA: PICTURE}
    error = check_item(normalised(item, blobs), rules, blobs)
    assert isinstance(error, InvalidArgument)
    assert [violation.field for violation in error.violations] == [path]


def test_what_is_too_long_is_said_once(rules: SchemaRules) -> None:
    text = check_item(pb.Item(key="k", text="x" * 10_000_000), rules, {})
    metadata = {str(i): "y" * 4000 for i in range(64)}
    whole = check_item(pb.Item(key="k", text="x", metadata=metadata), rules, {})

    assert isinstance(text, InvalidArgument)
    assert isinstance(whole, InvalidArgument)
    assert [one.field for one in text.violations] == ["text"]
    assert str(whole).startswith("The item is refused: the item has 25")


def test_an_item_learns_its_size_from_its_picture(rules: SchemaRules) -> None:
    blobs = {SHA: PICTURE}
    item = normalised(pb.Item(key="k", blob=v.BlobRef(sha256=SHA)), blobs)
    assert (item.width, item.height) == (20, 10)
    assert item.blob == v.BlobRef(sha256=SHA, size_bytes=100, media_type="image/png")
    assert check_item(item, rules, blobs) is None


@given(st.dictionaries(st.text(min_size=1, max_size=4), st.text(max_size=4), max_size=4), st.randoms())
def test_items_are_the_same_whatever_the_order_of_their_metadata(
    metadata: dict[str, str], random: Any
) -> None:
    entries = list(metadata.items())
    random.shuffle(entries)
    one = normalised(pb.Item(key="k", text="t", metadata=metadata), {})
    other = normalised(pb.Item(name="ignored", key="k", text="t", metadata=dict(entries)), {})
    assert new_item(one, {}).digest == new_item(other, {}).digest
    other.text = "u"
    assert new_item(one, {}).digest != new_item(other, {}).digest


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_a_png_says_how_large_it_is_and_whether_it_may_be_a_mask(mode: str) -> None:
    file = io.BytesIO()
    Image.new(mode, (37, 11)).save(file, "PNG")
    assert picture_facts(file) == PictureFacts(37, 11, {"L": 8, "RGB": 0, "I;16": 16}[mode])


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_says_how_large_it_is(progressive: bool) -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "x" * 60_000
    Image.new("RGB", (123, 45)).save(file, "JPEG", progressive=progressive, exif=exif)
    assert picture_facts(file) == PictureFacts(123, 45)


@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"]))
def test_junk_is_no_picture_and_breaks_nothing(junk: bytes, start: bytes) -> None:
    facts = picture_facts(io.BytesIO(start + junk))
    assert facts is None or (facts.width > 0 and facts.height > 0)


@pytest.mark.parametrize(
    ("answer", "cell"),
    [
        (v.Answer(choice="cat"), "cat"),
        (v.Answer(text="=1+1"), "'=1+1"),
        (v.Answer(text="@SUM(A1)"), "'@SUM(A1)"),
        (v.Answer(text="-5"), "-5"),
        (v.Answer(text="-5+cmd|' /C calc'!A0"), "\"'-5+cmd|' /C calc'!A0\"".strip('"')),
        (v.Answer(text='say "a,b"'), '"say ""a,b"""'),
        (v.Answer(text="\tx"), "'\tx"),
        (v.Answer(number=-2.5), "-2.5"),
        (v.Answer(rating=4), "4"),
        (v.Answer(choices=v.Choices(class_ids=["a", "b"])), '"[""a"",""b""]"'),
    ],
)
def test_a_csv_cell_is_never_a_formula(answer: v.Answer, cell: str, label_of: Any) -> None:
    body = lines(Shown(pb.EXPORT_FORMAT_CSV, "birds", False), [(label_of(answer), [])]).decode()
    assert body == f"k,q,{cell},0.75,CONSENSUS,2\r\n"
    assert header_line(pb.EXPORT_FORMAT_CSV) == b"item,question,answer,confidence,source,revision\r\n"


def test_a_json_line_has_everything(label_of: Any, tools: Any) -> None:
    answer = v.Answer(question="q", boxes=v.Boxes(boxes=[v.Box(class_id="cat", x=1.5, width=2, height=3)]))
    [row] = tools.jsonl(lines(Shown(pb.EXPORT_FORMAT_JSONL, "birds", False), [(label_of(answer), [])]))
    assert row["answer"] == {"boxes": {"boxes": [{"class_id": "cat", "x": 1.5, "width": 2.0, "height": 3.0}]}}
    assert (row["item"], row["question"], row["source"], row["revision"]) == ("k", "q", "CONSENSUS", 2)
    assert row["provenance"]["event_id"] == "e"


def test_an_abstention_is_never_taken_for_a_value() -> None:
    abstained = v.Answer(abstention=v.Abstention(kind=v.ABSTENTION_KIND_CANNOT_TELL, reason="dark"))
    assert json.loads(value_json(abstained)) == {
        "abstention": {"kind": "ABSTENTION_KIND_CANNOT_TELL", "reason": "dark"}
    }


@pytest.mark.parametrize("microsecond", [0, 7, 120, 1000, 250_000, 999_999])
def test_times_of_annotations_are_written_as_protobuf_writes_them(label_of: Any, microsecond: int) -> None:
    moment = datetime(2026, 1, 1, 12, 30, 1, microsecond, tzinfo=UTC)
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    submitted = (moment - SINCE) // timedelta(microseconds=1)
    answer = v.Answer(question="q", choice="owl")
    answers = pb.Annotation(answers=[answer]).SerializeToString()
    annotation = "a", "labelers/ann", pb.ANNOTATION_KIND_LABEL, False, submitted, answers
    shown = Shown(pb.EXPORT_FORMAT_JSONL, "birds", True)
    [written] = json.loads(lines(shown, [(label_of(answer), [annotation])]))["annotations"]
    assert written["submit_time"] == stamp.ToJsonString()


@pytest.fixture
def label_of() -> Any:
    def make(answer: v.Answer) -> CopiedLabel:
        provenance = pb.Provenance(event_id="e").SerializeToString()
        made = (datetime(2026, 1, 1, tzinfo=UTC) - SINCE) // timedelta(microseconds=1)
        return "k", "q", 2, Source.CONSENSUS, 0.75, made, answer.SerializeToString(), provenance

    return make
