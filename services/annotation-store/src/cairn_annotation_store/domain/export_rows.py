"""Labels as lines of a file: JSON lines with everything, or CSV with what a table can hold."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.label.v1 import label_value_pb2 as value_pb
from cairn_annotation_store.domain.json_text import json_of, list_of, number
from cairn_annotation_store.domain.json_text import quoted as _quoted
from cairn_annotation_store.domain.labels import Source

CSV_HEADER = ("item", "question", "answer", "confidence", "source", "revision")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A spreadsheet runs a cell that begins so (OWASP, CSV injection)."""

_SOURCES: dict[int, str] = {source.value: source.name for source in Source}
_KINDS: dict[int, str] = {
    number: name.removeprefix("ANNOTATION_KIND_") for name, number in pb.AnnotationKind.items()
}
_SHORT = 100
"""Bytes of an answer that is likely to come again: a class, a number, a few of them."""
_REMEMBERED = 10_000
"""Of the texts that many lines have in common."""
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


class Shown(NamedTuple):
    """How an export shows the labels of its project."""

    export_format: pb.ExportFormat.ValueType
    project: str
    with_annotations: bool


class ExportedAnnotation(NamedTuple):
    """An annotation as an export shows it."""

    annotation: str
    """Its id, a UUID."""
    labeler: str
    kind: int
    late: bool
    submitted: int
    """Microseconds since 2000, UTC, as PostgreSQL counts."""
    answers: bytes
    """Annotation with `answers`, encoded."""


class ExportedLabel(NamedTuple):
    """A label as an export shows it, with the item's annotations when they were asked for.

    A tuple, which a row of the database becomes in a fifth of the time.
    """

    item: str
    question: str
    revision: int
    source: int
    confidence: float
    answer: bytes
    """Answer, encoded."""
    provenance: bytes
    """Provenance, encoded."""
    made: int
    """Microseconds since 2000, UTC."""
    annotations: list[ExportedAnnotation] | None = None


def header_line(export_format: pb.ExportFormat.ValueType) -> bytes:
    """What a file begins with."""
    return _csv([CSV_HEADER]) if export_format == pb.EXPORT_FORMAT_CSV else b""


def lines(shown: Shown, labels: Iterable[ExportedLabel]) -> bytes:
    """The lines of these labels, UTF-8; CSV ends lines with CRLF (RFC 4180), JSON lines with LF."""
    if shown.export_format == pb.EXPORT_FORMAT_CSV:
        return _csv(map(_cells, labels))
    items = f"projects/{shown.project}/items/"
    return "".join([_line(label, items) for label in labels]).encode()


def value_json(answer: value_pb.Answer) -> str:
    """An answer as JSON: the bare value where it has one (`"cat"`, `3.5`), else an object named by its kind.

    An abstention is `{"abstention": {"kind": ..., "reason": ...}}`, so that it is never taken for a value.
    """
    field = answer.WhichOneof("value")
    match field:
        case "choice":
            return _quoted(answer.choice)
        case "text":
            return _quoted(answer.text)
        case "number":
            return number(answer.number)
        case "rating":
            return str(answer.rating)
        case "choices":
            return list_of(answer.choices.class_ids, _quoted)
        case "preference":
            return _quoted(answer.preference.candidate_id)
        case None:
            return "null"
        case _:
            value = getattr(answer, field)
            return f"{{{_quoted(field)}:{json_of(type(value), value.SerializeToString())}}}"


def _line(label: ExportedLabel, items: str) -> str:
    """A line; ``items`` is what the names of the project's items begin with."""
    item, question = _quoted(label.item), _quoted_again(label.question)
    annotations = ""
    if label.annotations is not None:
        begins = f'"{items}{item[1:-1]}/annotations/'
        given = [
            _annotation(one, begins, answer)
            for one in label.annotations
            for answer in _answers(one.answers, label.question)
        ]
        annotations = f',"annotations":[{",".join(given)}]'
    return (
        f'{{"item":{item},"question":{question},"answer":{_answer(label.answer)}'
        f',"confidence":{label.confidence!r},"source":"{_SOURCES[label.source]}"'
        f',"revision":{label.revision},"create_time":"{_moment(label.made)}"'
        f',"provenance":{json_of(pb.Provenance, label.provenance)}{annotations}}}\n'
    )


def _annotation(given: ExportedAnnotation, begins: str, answer: str) -> str:
    """What an annotation answers to the label's question; ``begins`` is what the names of the item's annotations do."""
    return (
        f'{{"name":{begins}{given.annotation}","labeler":{_quoted_again(given.labeler)},"kind":"{_KINDS[given.kind]}"'
        f',"late":{"true" if given.late else "false"}'
        f',"submit_time":"{_timestamp(given.submitted)}","answer":{answer}}}'
    )


def _answer(encoded: bytes) -> str:
    """The same of an answer's bytes. Most labels of a project have one of few answers: short ones are remembered."""
    return (
        _short_answer(encoded) if len(encoded) <= _SHORT else value_json(value_pb.Answer.FromString(encoded))
    )


@lru_cache(_REMEMBERED)
def _short_answer(encoded: bytes) -> str:
    return value_json(value_pb.Answer.FromString(encoded))


def _answers(encoded: bytes, question: str) -> Sequence[str]:
    """What an annotation answers to a question, as JSON; short ones are remembered, too."""
    if len(encoded) > _SHORT:
        answers = pb.Annotation.FromString(encoded).answers
        return [value_json(answer) for answer in answers if answer.question == question]
    return [answer for asked, answer in _short_answers(encoded) if asked == question]


@lru_cache(_REMEMBERED)
def _short_answers(encoded: bytes) -> Sequence[tuple[str, str]]:
    answers = pb.Annotation.FromString(encoded).answers
    return [(answer.question, value_json(answer)) for answer in answers]


def _moment(microseconds: int) -> str:
    """As Python writes a datetime: six digits of a second, or none."""
    second, rest = divmod(microseconds, 1_000_000)
    return f"{_second(second)}.{rest:06d}+00:00" if rest else f"{_second(second)}+00:00"


def _timestamp(microseconds: int) -> str:
    """As protobuf writes a Timestamp: no more digits, in threes, than there are."""
    second, rest = divmod(microseconds, 1_000_000)
    if not rest:
        return f"{_second(second)}Z"
    return f"{_second(second)}.{rest // 1000:03d}Z" if rest % 1000 == 0 else f"{_second(second)}.{rest:06d}Z"


@lru_cache(_REMEMBERED)
def _second(since_epoch: int) -> str:
    """A whole second, without its zone: many labels are of one."""
    return (_EPOCH + timedelta(seconds=since_epoch)).replace(tzinfo=None).isoformat()


@lru_cache(_REMEMBERED)
def _quoted_again(text: str) -> str:
    """A text of which many lines have one of a few."""
    return _quoted(text)


def _cells(label: ExportedLabel) -> Sequence[str]:
    answer = value_pb.Answer.FromString(label.answer)
    field = answer.WhichOneof("value")
    if field in ("choice", "text"):
        cell = _harmless(getattr(answer, field))
    elif field == "preference":
        cell = _harmless(answer.preference.candidate_id)
    else:
        cell = value_json(answer)
    return (
        _harmless(label.item),
        _harmless(label.question),
        cell,
        repr(label.confidence),
        _SOURCES[label.source],
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
