"""An export's rows, as COPY sends them, are read as what they say, and become the lines of their labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from struct import pack

import pytest

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.label.v1 import label_value_pb2 as v
from cairn_annotation_store.domain.export_copy import Row, rows_of
from cairn_annotation_store.domain.export_rows import LabelLines, Shown

MADE = (datetime(2026, 1, 1, 12, 30, 1, 7, tzinfo=UTC) - datetime(2000, 1, 1, tzinfo=UTC)) // timedelta(
    microseconds=1
)
HEADER, TRAILER = b"PGCOPY\n\xff\r\n\x00" + bytes(8), b"\xff\xff"
ANSWER = v.Answer(question="q", text="caf\u00e9")
NOBODY = "00000000-0000-0000-0000-000000000000"


def row(item: str, nth: int = 0, *, revision: int = 1) -> Row:
    """The nth annotation of an item's label; 0: the label has none."""
    first = nth <= 1 and revision > 0
    label = (
        item, "q", revision, 2, 0.9, MADE, ANSWER.SerializeToString() if first else b"",
        pb.Provenance(event_id="e").SerializeToString() if first else b"",
    )  # fmt: skip
    if not nth:
        return nth, label, (NOBODY, "", 0, False, MADE, b"")
    annotation = f"01a21b10-f5a9-7006-ad38-bb3005bd22e{nth}"
    answers = pb.Annotation(answers=[ANSWER]).SerializeToString()
    return nth, label, (annotation, f"labelers/\u00f6-{nth}", 1, nth > 1, MADE + nth, answers)


def label(item: str, annotations: int, *, revision: int = 1) -> list[Row]:
    """A label's rows."""
    return [row(item, nth, revision=revision) for nth in range(1, annotations + 1)] or [
        row(item, revision=revision)
    ]


def copied(rows: Sequence[Row]) -> list[bytes]:
    """The rows as COPY sends them, one at a time, after PostgreSQL's documentation of the format."""
    return [HEADER, *map(_copied, rows), TRAILER]


def _copied(row: Row) -> bytes:
    nth, label, annotation = row
    item, question, revision, source, confidence, made, answer, provenance = label
    name, labeler, kind, late, submitted, answers = annotation
    values = [item.encode(), question.encode(), answer, provenance, labeler.encode(), answers]
    columns = [
        pack(">i", nth), pack(">q", revision), pack(">h", source), pack(">d", confidence), pack(">q", made),
        name.encode(), pack(">h", kind), pack(">?", late), pack(">q", submitted),
        *(pack(">i", len(value)) for value in values), *(value or None for value in values),
    ]  # fmt: skip
    return pack(">h", len(columns)) + b"".join(
        pack(">i", -1) if column is None else pack(">i", len(column)) + column for column in columns
    )


LABELS = [label("a", 0), label("b", 2), label("c", 1), label("d\u2603", 3)]
ROWS = [one for rows in LABELS for one in rows]


def test_rows_are_read_as_they_were_sent() -> None:
    assert list(rows_of(b"".join(copied(ROWS)))) == ROWS


def test_rows_may_come_in_pieces() -> None:
    assert [one for piece in copied(ROWS) for one in rows_of(piece)] == ROWS


def lines_of(*rows: Row, cut_off: bool = False) -> tuple[LabelLines, list[tuple[str, int]]]:
    """What was made of rows, and each line's item and number of annotations."""
    made = LabelLines(Shown(pb.EXPORT_FORMAT_JSONL, "birds", with_annotations=True))
    for one in rows:
        made.add([one])
    lines = [json.loads(line) for line in made.end(cut_off=cut_off).splitlines()]
    return made, [(line["item"], len(line["annotations"])) for line in lines]


def test_a_line_has_all_annotations_of_its_label() -> None:
    made, lines = lines_of(*ROWS)
    assert lines == [("a", 0), ("b", 2), ("c", 1), ("d\u2603", 3)]
    assert (made.labels, made.read, made.last) == (4, 4, ("d\u2603", "q"))


def test_where_nothing_stood_is_no_line() -> None:
    made, lines = lines_of(*label("a", 2, revision=0), *label("b", 1), *label("c", 0, revision=0))
    assert lines == [("b", 1)]
    assert (made.labels, made.read, made.last) == (1, 3, ("c", "q"))


def test_a_label_that_may_have_been_cut_through_is_left_out() -> None:
    made, lines = lines_of(*ROWS[:-1], cut_off=True)
    assert lines == [("a", 0), ("b", 2), ("c", 1)]
    assert (made.labels, made.read, made.last) == (3, 3, ("c", "q"))
    made, lines = lines_of(*ROWS[:2], cut_off=True)
    assert (lines, made.read) == ([("a", 0)], 1)


@pytest.mark.parametrize("turns", [(2,), (0, 2), (1, 3), (1, 2, 2), (1, 1, 3)])
def test_no_annotation_is_taken_for_another_labels(turns: Sequence[int]) -> None:
    with pytest.raises(ValueError, match="out of turn"):
        lines_of(*(row("a", nth) for nth in turns))
