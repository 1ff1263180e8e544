"""What an export shows, labels and the annotations to their items, as the binary COPY of sql/exported.sql sends it.

The format: PostgreSQL's documentation, "COPY", File Formats, and the `send` functions of the types. Columns of one
length stand before the others, among them the lengths of those. Any whole number of rows may come at once. Times are
microseconds since 2000, UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

CopiedLabel = tuple[str, str, int, int, float, int, bytes, bytes]
"""Item, question, revision (0: nothing stood), source, confidence, time, and answer and provenance, encoded."""

CopiedAnnotation = tuple[str, str, int, bool, int, bytes]
"""Id, labeler, kind, late, time, and answers, encoded as those of an Annotation."""

_SIGNATURE = b"PGCOPY\n\xff\r\n\x00"
_HEADER_BYTES = len(_SIGNATURE) + 8
_TRAILER_BYTES = 2
_LENGTH_BYTES = 4
"""Before each value."""

_LABEL = Struct(">2x 4xq 4xh 4xd 4xq 4xi 4xi 4xi 4xi 4x")
"""After the number of columns: revision, source, confidence, time; the bytes of item, question, answer and provenance."""
_ANNOTATION = Struct(">2x 4x36s 4xh 4x? 4xq 4xi 4xi 4xi 4x")
"""Id, kind, late, time; the bytes of item, labeler and answers."""


def labels_of(copied: bytes) -> Iterator[CopiedLabel]:
    """The labels in some rows."""
    at, last = _begin(copied), len(copied) - _TRAILER_BYTES
    head, head_bytes = _LABEL.unpack_from, _LABEL.size
    while at < last:
        (
            revision, source, confidence, made, item_bytes, question_bytes, answer_bytes, provenance_bytes
        ) = head(copied, at)  # fmt: skip
        item = at + head_bytes
        question = item + item_bytes + _LENGTH_BYTES
        answer = question + question_bytes + _LENGTH_BYTES
        provenance = answer + answer_bytes + _LENGTH_BYTES
        at = provenance + provenance_bytes
        yield (
            copied[item : item + item_bytes].decode(), copied[question : question + question_bytes].decode(),
            revision, source, confidence, made, copied[answer : answer + answer_bytes], copied[provenance:at],
        )  # fmt: skip


def annotations_of(copied: bytes) -> Iterator[tuple[str, CopiedAnnotation]]:
    """The annotations in some rows, each with its item."""
    at, last = _begin(copied), len(copied) - _TRAILER_BYTES
    head, head_bytes = _ANNOTATION.unpack_from, _ANNOTATION.size
    while at < last:
        annotation, kind, late, submitted, item_bytes, labeler_bytes, answers_bytes = head(copied, at)
        item = at + head_bytes
        labeler = item + item_bytes + _LENGTH_BYTES
        answers = labeler + labeler_bytes + _LENGTH_BYTES
        at = answers + answers_bytes
        labeler_name = copied[labeler : labeler + labeler_bytes].decode()
        yield (
            copied[item : item + item_bytes].decode(),
            (annotation.decode(), labeler_name, kind, late, submitted, copied[answers:at]),
        )


def _begin(copied: bytes) -> int:
    return _HEADER_BYTES if copied.startswith(_SIGNATURE) else 0
