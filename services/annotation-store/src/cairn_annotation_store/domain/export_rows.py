"""Labels as lines of a file: JSON lines with everything, or CSV with what a table can hold."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from google.protobuf import json_format

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.label.v1 import label_value_pb2 as value_pb
from cairn_annotation_store.domain.labels import LabelRevision

CSV_HEADER = ("item", "question", "answer", "confidence", "source", "revision")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A spreadsheet runs a cell that begins so (OWASP, CSV injection)."""


@dataclass(frozen=True, slots=True)
class ExportedLabel:
    """A label that stands, with the item's annotations when they were asked for."""

    label: LabelRevision
    created_at: datetime
    annotations: Sequence[pb.Annotation] | None = None


def header_line(export_format: pb.ExportFormat.ValueType) -> bytes:
    """What a file begins with."""
    return _csv([CSV_HEADER]) if export_format == pb.EXPORT_FORMAT_CSV else b""


def lines(export_format: pb.ExportFormat.ValueType, labels: Iterable[ExportedLabel]) -> bytes:
    """The lines of these labels, UTF-8; CSV ends lines with CRLF (RFC 4180), JSON lines with LF."""
    if export_format == pb.EXPORT_FORMAT_CSV:
        return _csv(_cells(exported.label) for exported in labels)
    return b"".join(
        json.dumps(_object(exported), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        + b"\n"
        for exported in labels
    )


def value_of(answer: value_pb.Answer) -> Any:
    """An answer as plain data: the bare value where it has one (`"cat"`, `3.5`), else an object named by its kind.

    An abstention is `{"abstention": {"kind": ..., "reason": ...}}`, so that it is never taken for a value.
    """
    field = answer.WhichOneof("value")
    match field:
        case "choice" | "text" | "number" | "rating":
            return getattr(answer, field)
        case "choices":
            return list(answer.choices.class_ids)
        case "preference":
            return answer.preference.candidate_id
        case None:
            return None
        case _:
            return {field: _as_data(getattr(answer, field))}


def _object(exported: ExportedLabel) -> Mapping[str, Any]:
    label = exported.label
    made: dict[str, Any] = {
        "item": label.key.item,
        "question": label.key.question,
        "answer": value_of(label.answer),
        "confidence": label.confidence,
        "source": label.rank.source.name,
        "revision": label.revision,
        "create_time": exported.created_at.isoformat(),
        "provenance": _as_data(label.provenance),
    }
    if exported.annotations is not None:
        made["annotations"] = [
            {
                "name": annotation.name,
                "labeler": annotation.labeler,
                "kind": pb.AnnotationKind.Name(annotation.kind).removeprefix("ANNOTATION_KIND_"),
                "late": annotation.late,
                "submit_time": annotation.submit_time.ToJsonString(),
                "answer": value_of(answer),
            }
            for annotation in exported.annotations
            for answer in annotation.answers
            if answer.question == label.key.question
        ]
    return made


def _cells(label: LabelRevision) -> Sequence[str]:
    value = value_of(label.answer)
    if isinstance(value, bool | int | float):
        answer = json.dumps(value)
    elif isinstance(value, str):
        answer = _harmless(value)
    else:
        answer = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return (
        _harmless(label.key.item),
        _harmless(label.key.question),
        answer,
        repr(label.confidence),
        label.rank.source.name,
        str(label.revision),
    )


def _harmless(text: str) -> str:
    """A cell that no spreadsheet runs: an apostrophe before what would begin a formula. A plain number stays."""
    if not text.startswith(_FORMULA_STARTS) or _is_number(text):
        return text
    return "'" + text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and not text[0].isspace()


def _csv(rows: Iterable[Sequence[str]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\r\n").writerows(rows)
    return out.getvalue().encode()


def _as_data(message: Any) -> Any:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)
