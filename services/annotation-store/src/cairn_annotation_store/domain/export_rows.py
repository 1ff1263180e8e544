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
from cairn_annotation_store.domain.export_copy import CopiedAnnotation, CopiedLabel
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


def header_line(export_format: pb.ExportFormat.ValueType) -> bytes:
    """What a file begins with."""
    return _csv([CSV_HEADER]) if export_format == pb.EXPORT_FORMAT_CSV else b""


def lines(shown: Shown, labels: Iterable[tuple[CopiedLabel, Iterable[CopiedAnnotation]]]) -> bytes:
    """The lines of labels with the annotations to their items; CSV ends lines with CRLF (RFC 4180), JSON lines with LF."""
    if shown.export_format == pb.EXPORT_FORMAT_CSV:
        return _csv(_cells(label) for label, _ in labels)
    items = f"projects/{shown.project}/items/"
    if shown.with_annotations:
        texts = [
            _line(label, f',"annotations":[{",".join(_annotations(given, label, items))}]')
            for label, given in labels
        ]
    else:
        texts = [_line(label, "") for label, _ in labels]
    return "".join(texts).encode()


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


def _line(label: CopiedLabel, annotations: str) -> str:
    item, question, revision, source, confidence, made, answer, provenance = label
    return (
        f'{{"item":{_quoted(item)},"question":{_quoted_again(question)},"answer":{_answer(answer)}'
        f',"confidence":{confidence!r},"source":"{_SOURCES[source]}","revision":{revision}'
        f',"create_time":"{_moment(made)}","provenance":{json_of(pb.Provenance, provenance)}{annotations}}}\n'
    )


def _annotations(given: Iterable[CopiedAnnotation], label: CopiedLabel, items: str) -> list[str]:
    """What annotations answer to a label's question, of those that do; ``items`` is what names of items begin with."""
    item, question = label[:2]
    return [
        f'{{"name":{_quoted(f"{items}{item}/annotations/{annotation}")}'
        f',"labeler":{_quoted_again(labeler)},"kind":"{_KINDS[kind]}","late":{"true" if late else "false"}'
        f',"submit_time":"{_timestamp(submitted)}","answer":{answer}}}'
        for annotation, labeler, kind, late, submitted, answers in given
        for answer in _answers(answers, question)
    ]


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
    return _short_answers(encoded, question) if len(encoded) <= _SHORT else _answers_anew(encoded, question)


@lru_cache(_REMEMBERED)
def _short_answers(encoded: bytes, question: str) -> Sequence[str]:
    return _answers_anew(encoded, question)


def _answers_anew(encoded: bytes, question: str) -> Sequence[str]:
    answers = pb.Annotation.FromString(encoded).answers
    return [value_json(answer) for answer in answers if answer.question == question]


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


def _cells(label: CopiedLabel) -> Sequence[str]:
    item, question, revision, source, confidence, _, answer, _ = label
    cells = _harmless(item), _harmless(question), _cell(value_pb.Answer.FromString(answer))
    return *cells, repr(confidence), _SOURCES[source], str(revision)


def _cell(answer: value_pb.Answer) -> str:
    field = answer.WhichOneof("value")
    if field in ("choice", "text"):
        return _harmless(getattr(answer, field))
    if field == "preference":
        return _harmless(answer.preference.candidate_id)
    return value_json(answer)


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
