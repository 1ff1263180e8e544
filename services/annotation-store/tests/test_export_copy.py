"""An export's rows, as COPY sends them, are read as what they say."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from struct import pack
from uuid import UUID

import pytest

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.label.v1 import label_value_pb2 as v
from cairn_annotation_store.domain.export_copy import CopiedLabels
from cairn_annotation_store.domain.export_rows import ExportedAnnotation, ExportedLabel

MADE = (datetime(2026, 1, 1, 12, 30, 1, 7, tzinfo=UTC) - datetime(2000, 1, 1, tzinfo=UTC)) // timedelta(
    microseconds=1
)
ANNOTATION = "01a21b10-f5a9-7006-ad38-bb3005bd22ee"
NOTHING = ExportedAnnotation(str(UUID(int=0)), "", 0, False, MADE, b"")
HEADER, TRAILER = b"PGCOPY\n\xff\r\n\x00" + bytes(8), b"\xff\xff"


def page(count: int) -> list[ExportedLabel]:
    answer = v.Answer(question="q", text="owl")
    answers = pb.Annotation(answers=[answer]).SerializeToString()
    provenance = pb.Provenance(event_id="e", schema_version=1)
    return [
        ExportedLabel(
            f"item-{n}", "q", 1, 2, 0.9, answer.SerializeToString(), provenance.SerializeToString(), MADE,
            [ExportedAnnotation(ANNOTATION, "labelers/ann", 1, False, MADE, answers)] * (n % 3),
        )
        for n in range(count)
    ]  # fmt: skip


def copied(labels: Sequence[ExportedLabel]) -> list[bytes]:
    """The labels as COPY sends them, a row at a time, after PostgreSQL's documentation of the format."""
    return [HEADER, *(row for label in labels for row in _rows(label)), TRAILER]


def _rows(label: ExportedLabel) -> list[bytes]:
    given = label.annotations or []
    return [_row(label, nth, one) for nth, one in enumerate(given, start=1)] or [_row(label, 0, NOTHING)]


def _row(label: ExportedLabel, nth: int, given: ExportedAnnotation) -> bytes:
    first, stood = nth <= 1, label.revision > 0
    values = [
        label.item.encode(), label.question.encode(), label.answer if first and stood else None,
        label.provenance if first and stood else None, given.labeler.encode() if nth else None,
        given.answers if nth else None,
    ]  # fmt: skip
    columns = [
        pack(">i", nth), pack(">q", label.revision), pack(">h", label.source), pack(">d", label.confidence),
        pack(">q", label.made), given.annotation.encode(), pack(">h", given.kind), pack(">?", given.late),
        pack(">q", given.submitted), *(pack(">i", len(value or b"")) for value in values), *values,
    ]  # fmt: skip
    return pack(">h", len(columns)) + b"".join(
        pack(">i", -1) if column is None else pack(">i", len(column)) + column for column in columns
    )


def test_where_nothing_stood_is_no_label() -> None:
    [first, second] = page(2)
    copy = CopiedLabels(with_annotations=True)
    rows = copied([first._replace(revision=0), second, second._replace(item="item-2", revision=0)])
    assert [*copy.add(b"".join(rows)), *copy.end()] == [second]
    assert (copy.read, copy.last) == (3, ("item-2", "q"))


def test_a_label_may_come_in_pieces() -> None:
    labels = page(9)
    copy = CopiedLabels(with_annotations=True)
    assert [label for piece in copied(labels) for label in copy.add(piece)] == labels[:-1]
    assert copy.end() == labels[-1:]


@pytest.mark.parametrize("turns", [(2,), (0, 2), (1, 3), (1, 1, 3)])
def test_no_annotation_is_taken_for_another_labels(turns: Sequence[int]) -> None:
    label = page(3)[2]
    given = ExportedAnnotation(ANNOTATION, "labelers/ann", 1, False, MADE, b"")
    rows = HEADER + b"".join(_row(label, nth, given) for nth in turns) + TRAILER
    with pytest.raises(ValueError, match="out of turn"):
        CopiedLabels(with_annotations=True).add(rows)
