"""An export's labels as PostgreSQL's binary COPY sends them, `labels_to_export` in sql/labels.sql.

The format: PostgreSQL's documentation, "COPY", File Formats, and the `send` functions of the types. Columns of one
length stand before the others, among them the lengths of those.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

CopiedLabel = tuple[str, str, int, int, float, int, bytes, bytes]
"""A label: item, question, revision (0: nothing stood), source, confidence, time, and answer and provenance, encoded."""

CopiedAnnotation = tuple[str, str, int, bool, int, bytes]
"""An annotation: id, labeler, kind, late, time, and answers, encoded as those of an Annotation."""

Row = tuple[int, CopiedLabel, CopiedAnnotation]
"""Which annotation of a label (0: it has none; 1: its first), the label, and the annotation, empty where there is none.

What is large of a label is in its first row alone. Times are microseconds since 2000, UTC, as PostgreSQL counts.
"""

_SIGNATURE = b"PGCOPY\n\xff\r\n\x00"
_HEADER_BYTES = len(_SIGNATURE) + 8
_TRAILER_BYTES = 2
_LENGTH_BYTES = 4
"""Before each value."""

_HEAD = Struct(">2x 4xi 4xq 4xh 4xd 4xq 4x36s 4xh 4x? 4xq 4xi 4xi 4xi 4xi 4xi 4xi 4x")
"""After the number of columns: those of one length, and the bytes of the six others, which follow."""


def rows_of(copied: bytes) -> Iterator[Row]:
    """The rows in some of what COPY sent, which is any whole number of them; header and trailer are left out."""
    at = _HEADER_BYTES if copied.startswith(_SIGNATURE) else 0
    last = len(copied) - _TRAILER_BYTES
    head, head_bytes = _HEAD.unpack_from, _HEAD.size
    while at < last:
        (
            nth, revision, source, confidence, made, annotation, kind, late, submitted,
            item_bytes, question_bytes, answer_bytes, provenance_bytes, labeler_bytes, answers_bytes,
        ) = head(copied, at)  # fmt: skip
        item = at + head_bytes
        question = item + item_bytes + _LENGTH_BYTES
        answer = question + question_bytes + _LENGTH_BYTES
        provenance = answer + answer_bytes + _LENGTH_BYTES
        labeler = provenance + provenance_bytes + _LENGTH_BYTES
        answers = labeler + labeler_bytes + _LENGTH_BYTES
        at = answers + answers_bytes
        label = (
            copied[item : item + item_bytes].decode(),
            copied[question : question + question_bytes].decode(),
            revision, source, confidence, made,
            copied[answer : answer + answer_bytes],
            copied[provenance : provenance + provenance_bytes],
        )  # fmt: skip
        labeler_name = copied[labeler : labeler + labeler_bytes].decode()
        yield nth, label, (annotation.decode(), labeler_name, kind, late, submitted, copied[answers:at])
