"""An export's labels as PostgreSQL's binary COPY sends them, `labels_to_export` in sql/labels.sql.

The service hands them on unread, but for their end; whoever makes lines of them reads them. The format: PostgreSQL's
documentation, "COPY", File Formats, and the `send` functions of the types. Columns of one length stand before the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import NamedTuple

from cairn_annotation_store.domain.export_rows import ExportedAnnotation, ExportedLabel

TRAILER_BYTES = 2
_SIGNATURE = b"PGCOPY\n\xff\r\n\x00"
_HEADER_BYTES = len(_SIGNATURE) + 8
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""Times are microseconds since then."""

_LENGTH = Struct(">i")
_HEAD = Struct(">h iq ih id iq")
"""Number of columns; revision, source, confidence, time, each after its length. Answer, provenance, annotations, item and
question follow."""

_TAIL = Struct(">ii ii iq iq")
"""Bytes of item and question, number and bytes of the labels up to this one, each after its length."""

_ARRAY_BYTES = 20
"""Dimensions, whether there are nulls, the elements' type; length and first index of the one dimension."""

_ANNOTATION = Struct(">ii ii16s iih ii? iiq")
"""Length and number of columns; id, kind, late, time, each after its type and length. Labeler and answers follow."""

_PART = Struct(">ii")


class EndOfPage(NamedTuple):
    """The last label of a page, and what there was up to it."""

    item: str
    question: str
    labels: int
    size: int
    """Bytes of their values."""


def end_of_page(rows: bytes) -> EndOfPage | None:
    """What a page ends with, given its last rows and the trailer; None if it has no rows."""
    at = len(rows) - TRAILER_BYTES - _TAIL.size
    if at < _HEADER_BYTES:
        return None
    _, item_bytes, _, question_bytes, _, labels, _, size = _TAIL.unpack_from(rows, at)
    question = rows[at - question_bytes : at]
    end = at - question_bytes - _LENGTH.size
    return EndOfPage(rows[end - item_bytes : end].decode(), question.decode(), labels, size)


def labels_of(rows: bytes, project: str, *, with_annotations: bool) -> Iterator[ExportedLabel]:
    """The labels among a page's rows, of which any whole number may come at once. Where nothing stood is no label."""
    at = _HEADER_BYTES if rows.startswith(_SIGNATURE) else 0
    last = len(rows) - TRAILER_BYTES
    while at < last:
        _, _, revision, _, source, _, confidence, _, made = _HEAD.unpack_from(rows, at)
        answer, at = _field(rows, at + _HEAD.size)
        provenance, at = _field(rows, at)
        given, at = _field(rows, at)
        item, at = _field(rows, at)
        question, at = _field(rows, at)
        at += _TAIL.size
        if revision:
            name = item.decode()
            yield ExportedLabel(
                name,
                question.decode(),
                revision,
                source,
                confidence,
                answer,
                provenance,
                _EPOCH + timedelta(microseconds=made),
                [*_annotations(given, f"projects/{project}/items/{name}")] if with_annotations else None,
            )


def _field(rows: bytes, at: int) -> tuple[bytes, int]:
    """A value after its length, and where the next one begins. A null is empty."""
    begins = at + _LENGTH.size
    ends = begins + max(_LENGTH.unpack_from(rows, at)[0], 0)
    return rows[begins:ends], ends


def _annotations(array: bytes, item: str) -> Iterator[ExportedAnnotation]:
    at = _ARRAY_BYTES
    while at < len(array):
        *_, annotation, _, _, kind, _, _, late, _, _, submitted = _ANNOTATION.unpack_from(array, at)
        labeler, at = _part(array, at + _ANNOTATION.size)
        answers, at = _part(array, at)
        yield ExportedAnnotation(
            f"{item}/annotations/{_uuid(annotation.hex())}",
            labeler.decode(),
            kind,
            late,
            _EPOCH + timedelta(microseconds=submitted),
            answers,
        )


def _part(array: bytes, at: int) -> tuple[bytes, int]:
    """A value of a composite after its type and length, and where the next one begins."""
    begins = at + _PART.size
    ends = begins + _PART.unpack_from(array, at)[1]
    return array[begins:ends], ends


def _uuid(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
