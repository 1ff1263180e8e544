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
from cairn_annotation_store.domain.export_copy import CopiedAnnotation, CopiedLabel, Row
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
    return _csv(*CSV_HEADER).encode() if export_format == pb.EXPORT_FORMAT_CSV else b""


class LabelLines:
    """Makes lines of labels, UTF-8; CSV ends them with CRLF (RFC 4180), JSON lines with LF."""

    def __init__(self, shown: Shown) -> None:
        self.labels = 0
        """How many labels there are lines of."""
        self.read = 0
        """How many have come whole, those too that stood for nothing."""
        self.last: tuple[str, str] | None = None
        """Item and question of the last of these."""
        self._form = _Csv() if shown.export_format == pb.EXPORT_FORMAT_CSV else _Json(shown)
        self._texts: list[str] = []
        self._begun: tuple[str, str] | None = None
        """The label of which rows may still come."""
        self._head = ""
        """What its line begins with; empty where nothing stood."""
        self._annotations: list[str] = []
        self._nth = 0

    def add(self, rows: Iterable[Row]) -> None:
        """Go on with rows. Raises ValueError if an annotation is not the next one of its label."""
        for nth, label, annotation in rows:
            stood = label[2] > 0
            if nth <= 1:
                self._end_label()
                self._begun = label[:2]
                if stood:
                    self._head = self._form.head(label)
            elif nth != self._nth + 1:
                raise ValueError(f"annotation {nth} of a label comes out of turn")
            self._nth = nth
            if nth and stood:
                self._annotations += self._form.annotation(label, annotation)

    def end(self, *, cut_off: bool) -> bytes:
        """All lines; where more rows were cut off, but that of the label that may have had some of them."""
        if not cut_off:
            self._end_label()
        return "".join(self._texts).encode()

    def _end_label(self) -> None:
        if self._begun is None:
            return
        self.read += 1
        self.last, self._begun = self._begun, None
        if self._head:
            self.labels += 1
            self._texts += self._head, self._form.tail(self._annotations)
            self._head, self._annotations = "", []


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


class _Json:
    """An object with everything."""

    def __init__(self, shown: Shown) -> None:
        self._items = f"projects/{shown.project}/items/"
        self._with_annotations = shown.with_annotations

    def head(self, label: CopiedLabel) -> str:
        item, question, revision, source, confidence, made, answer, provenance = label
        return (
            f'{{"item":{_quoted(item)},"question":{_quoted_again(question)},"answer":{_answer(answer)}'
            f',"confidence":{confidence!r},"source":"{_SOURCES[source]}","revision":{revision}'
            f',"create_time":"{_moment(made)}","provenance":{json_of(pb.Provenance, provenance)}'
        )

    def annotation(self, label: CopiedLabel, annotation: CopiedAnnotation) -> list[str]:
        """What it answers to the label's question, if it does."""
        item, question = label[:2]
        name, labeler, kind, late, submitted, answers = annotation
        return [
            f'{{"name":{_quoted(f"{self._items}{item}/annotations/{name}")}'
            f',"labeler":{_quoted_again(labeler)},"kind":"{_KINDS[kind]}","late":{"true" if late else "false"}'
            f',"submit_time":"{_timestamp(submitted)}","answer":{answer}}}'
            for answer in _answers(answers, question)
        ]

    def tail(self, annotations: Iterable[str]) -> str:
        return f',"annotations":[{",".join(annotations)}]}}\n' if self._with_annotations else "}\n"


class _Csv:
    """What a table has columns for."""

    def head(self, label: CopiedLabel) -> str:
        item, question, revision, source, confidence, _, answer, _ = label
        cells = _harmless(item), _harmless(question), _cell(answer)
        return _csv(*cells, repr(confidence), _SOURCES[source], str(revision))

    def annotation(self, *of: object) -> list[str]:
        return []

    def tail(self, annotations: Iterable[str]) -> str:
        return ""


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


def _cell(encoded: bytes) -> str:
    answer = value_pb.Answer.FromString(encoded)
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


def _csv(*cells: str) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\r\n").writerow(cells)
    return out.getvalue()
