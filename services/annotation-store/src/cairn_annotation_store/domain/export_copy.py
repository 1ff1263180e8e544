"""An export's labels as PostgreSQL's binary COPY sends them, `labels_to_export` in sql/labels.sql.

The service hands them on unread; whoever makes lines of them reads them. The format: PostgreSQL's documentation, "COPY",
File Formats, and the `send` functions of the types. Columns of one length stand before the others, among them the
lengths of those.
"""

from __future__ import annotations

from struct import Struct

from cairn_annotation_store.domain.export_rows import ExportedAnnotation, ExportedLabel

_SIGNATURE = b"PGCOPY\n\xff\r\n\x00"
_HEADER_BYTES = len(_SIGNATURE) + 8
_TRAILER_BYTES = 2
_LENGTH_BYTES = 4
"""Before each value."""

_HEAD = Struct(">2x 4xi 4xq 4xh 4xd 4xq 4x36s 4xh 4x? 4xq 4xi 4xi 4xi 4xi 4xi 4xi 4x")
"""After the number of columns: which annotation of the label; revision, source, confidence, time; the annotation's id,
kind, late, time; the bytes of item, question, answer, provenance, labeler and answers, which follow."""


class CopiedLabels:
    """Reads a page's rows, of which any whole number may come at once."""

    def __init__(self, *, with_annotations: bool) -> None:
        self._with_annotations = with_annotations
        self._begun: ExportedLabel | None = None
        """The label whose rows may not all have come."""
        self.read = 0
        """How many labels have come whole, those too that stood for nothing."""
        self.last: tuple[str, str] | None = None
        """Item and question of the last of these."""

    def add(self, rows: bytes) -> list[ExportedLabel]:
        """The labels that are whole now."""
        whole: list[ExportedLabel] = []
        at = _HEADER_BYTES if rows.startswith(_SIGNATURE) else 0
        last = len(rows) - _TRAILER_BYTES
        head, head_bytes = _HEAD.unpack_from, _HEAD.size
        while at < last:
            (
                nth, revision, source, confidence, made, annotation, kind, late, submitted,
                item_bytes, question_bytes, answer_bytes, provenance_bytes, labeler_bytes, answers_bytes,
            ) = head(rows, at)  # fmt: skip
            item = at + head_bytes
            question = item + item_bytes + _LENGTH_BYTES
            answer = question + question_bytes + _LENGTH_BYTES
            provenance = answer + answer_bytes + _LENGTH_BYTES
            labeler = provenance + provenance_bytes + _LENGTH_BYTES
            answers = labeler + labeler_bytes + _LENGTH_BYTES
            at = answers + answers_bytes
            if nth <= 1:
                whole += self.end()
                self._begun = ExportedLabel(
                    rows[item : item + item_bytes].decode(),
                    rows[question : question + question_bytes].decode(),
                    revision,
                    source,
                    confidence,
                    rows[answer : answer + answer_bytes],
                    rows[provenance : provenance + provenance_bytes],
                    made,
                    [] if self._with_annotations else None,
                )
            if nth:
                given = self._begun.annotations if self._begun is not None else None
                if given is None or len(given) != nth - 1:
                    raise ValueError(f"annotation {nth} of a label comes out of turn")
                labeler_name = rows[labeler : labeler + labeler_bytes].decode()
                given.append(
                    ExportedAnnotation(
                        annotation.decode(), labeler_name, kind, late, submitted, rows[answers:at]
                    )
                )
        return whole

    def end(self) -> list[ExportedLabel]:
        """The label whose rows have all come, as none of its own come any more; none where nothing stood."""
        label, self._begun = self._begun, None
        if label is None:
            return []
        self.read += 1
        self.last = label.item, label.question
        return [label] if label.revision else []
