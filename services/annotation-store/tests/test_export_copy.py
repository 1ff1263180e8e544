"""What COPY sends of an export is read as what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from struct import pack
from typing import Any

import pytest

from cairn_annotation_store.domain.export_copy import annotations_of, labels_of

HEADER, TRAILER = b"PGCOPY\n\xff\r\n\x00" + bytes(8), b"\xff\xff"
LABELS = [
    ("a", "q", 1, 2, 0.9, 123, b"owl", b"evidence"),
    ("b\u2603", "caf\u00e9", 0, 0, 0.0, 123, b"", b""),
    ("c", "q", 1 << 40, 4, 1.0, -5, b"\x00\xff", b""),
]
ANNOTATIONS = [
    ("a", ("01a21b10-f5a9-7006-ad38-bb3005bd22e1", "labelers/ann", 1, False, 123, b"owl")),
    ("b\u2603", ("01a21b10-f5a9-7006-ad38-bb3005bd22e2", "labelers/\u00f6", 2, True, -5, b"")),
]


def label_row(item: str, question: str, *rest: Any) -> bytes:
    revision, source, confidence, made, answer, provenance = rest
    values = [item.encode(), question.encode(), answer, provenance]
    return _row([pack(">q", revision), pack(">h", source), pack(">d", confidence), pack(">q", made)], values)


def annotation_row(item: str, annotation: Sequence[Any]) -> bytes:
    name, labeler, kind, late, submitted, answers = annotation
    values = [item.encode(), labeler.encode(), answers]
    return _row([name.encode(), pack(">h", kind), pack(">?", late), pack(">q", submitted)], values)


def _row(columns: Sequence[bytes], values: Sequence[bytes]) -> bytes:
    """A row after PostgreSQL's documentation: these columns, the lengths of values, and the values."""
    every = [*columns, *(pack(">i", len(value)) for value in values), *(value or None for value in values)]
    return pack(">h", len(every)) + b"".join(
        pack(">i", -1) if column is None else pack(">i", len(column)) + column for column in every
    )


READERS = [
    (labels_of, LABELS, [label_row(*label) for label in LABELS]),
    (annotations_of, ANNOTATIONS, [annotation_row(*one) for one in ANNOTATIONS]),
]


@pytest.mark.parametrize(("read", "said", "rows"), READERS)
def test_rows_are_read_as_they_were_sent(
    read: Callable[[bytes], Iterator[Any]], said: list[Any], rows: list[bytes]
) -> None:
    assert list(read(b"".join([HEADER, *rows, TRAILER]))) == said
    assert list(read(HEADER + TRAILER)) == []


@pytest.mark.parametrize(("read", "said", "rows"), READERS)
def test_rows_may_come_in_pieces(
    read: Callable[[bytes], Iterator[Any]], said: list[Any], rows: list[bytes]
) -> None:
    assert [one for piece in (HEADER, *rows, TRAILER) for one in read(piece)] == said
