"""Tables of answers and of truths, read row by row; whatever is wrong is told with its file, line and column.

One rule for all kinds: of a labeler's several answers to an item the last counts. Answers without a labeler's name are of
as many strangers as there are to one item, and do not replace each other. An item has one truth.
"""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

T = TypeVar("T")

ANSWERS, TRUTH, OUTLINES, GOLD = "answers.csv", "truth.csv", "polygons.csv", "gold.csv"

STRANGER = "nobody"
"""What whoever answered without a name is called, with a number."""

_ALSO: Mapping[str, Set[str]] = MappingProxyType({
    "item": {"task", "task_id", "taskid", "question", "unit", "id", "item_id", "example", "image", "document"},
    "annotator": {"worker", "worker_id", "workerid", "labeler", "labeller", "user", "rater", "coder", "annotator_id"},
    "label": {"answer", "class", "category", "value", "annotation", "response", "judgment", "output", "truth", "gold"},
    "polygon": {"label", "outline", "answer"},
})  # fmt: skip
"""What other tools call the columns."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A row: what was said of an item, by whom ("" for the truth), and where that is written."""

    item: str
    labeler: str
    label: str
    file: str
    line: int
    column: str = "label"

    def wrong(self, problem: object) -> ValueError:
        """Return the error that says where the problem is."""
        return ValueError(f"{self.file} line {self.line}, column {self.column}: {problem}")


def read_answers(folder: Path, file: str = ANSWERS, label: str = "label") -> Sequence[Cell]:
    """Return the rows of ``answers.csv``, in their order, strangers with a name each.

    Raises FileNotFoundError, and ValueError naming the file, line and column of what is missing or wrong.
    """
    strangers = Counter[str]()
    cells = []
    for cell in _read(folder / file, ("item", "annotator", label)):
        if cell.labeler.strip():
            cells.append(cell)
        else:
            strangers[cell.item] += 1
            cells.append(replace(cell, labeler=f"{STRANGER} {strangers[cell.item]}"))
    return cells


def read_truth(path: Path) -> Sequence[Cell]:
    """Return the rows of a table of truths (item,label), or of the ``truth.csv`` of a folder; errors as for
    `read_answers`, and ValueError naming an item that is there twice.
    """
    cells = _read(path / TRUTH if path.is_dir() else path, ("item", "label"))
    seen: dict[str, int] = {}
    for cell in cells:
        if cell.item in seen:
            raise ValueError(
                f"{cell.file} line {cell.line}, column item: {cell.item!r} is on line {seen[cell.item]}, too; expected "
                "each item once"
            )
        seen[cell.item] = cell.line
    return cells


def last_of_each(cells: Sequence[Cell]) -> Sequence[Cell]:
    """Return the cells that count: of a labeler's several answers to an item the last."""
    return list({(cell.item, cell.labeler): cell for cell in cells}.values())


def parsed(cells: Sequence[Cell], read: Callable[[str], T]) -> Mapping[str, Mapping[str, T]]:
    """Return item to labeler to answer, all in order of names. Raises ValueError with the place of a label that ``read``
    refuses.
    """
    found: dict[str, dict[str, T]] = {}
    for cell in cells:
        try:
            found.setdefault(cell.item, {})[cell.labeler] = read(cell.label)
        except ValueError as problem:
            raise cell.wrong(problem) from None
    return {item: {who: found[item][who] for who in sorted(found[item])} for item in sorted(found)}


def oddities(answers: Sequence[Cell], truths: Sequence[Cell], if_again: str) -> Iterator[str]:
    """Yield what is no error, but may be a slip: answers without a name or given twice, truths without an answer.

    ``if_again`` says what comes of a second answer by a labeler to an item.
    """
    unnamed = [cell for cell in answers if cell.labeler.startswith(f"{STRANGER} ")]
    if unnamed:
        yield (
            f"{_many(unnamed, 'answer has', 'answers have')} no annotator (first: line {unnamed[0].line}); taken to be "
            "strangers, one an answer to an item"
        )
    counts = {id(cell) for cell in last_of_each(answers)}
    again = [cell for cell in answers if id(cell) not in counts]
    if again:
        yield (
            f"{_many(again, 'answer was', 'answers were')} given anew by the same labeler to the same item (first: "
            f"{again[0].labeler!r} to {again[0].item!r}, line {again[0].line}); {if_again}"
        )
    answered = {cell.item for cell in answers}
    silent = [cell for cell in truths if cell.item not in answered]
    if silent:
        yield (
            f"{_many(silent, 'item', 'items')} of {silent[0].file} without an answer (first: {silent[0].item!r}, line "
            f"{silent[0].line}); left out"
        )


def _many(cells: Sequence[Cell], one: str, several: str) -> str:
    return f"{len(cells):,} {one if len(cells) == 1 else several}"


def _read(path: Path, columns: Sequence[str]) -> Sequence[Cell]:
    if not path.exists():
        raise FileNotFoundError(f"no such file {path}; expected a table {','.join(columns)}")
    with _long_fields():
        reader = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
        try:
            _check_columns(path.name, reader.fieldnames or (), columns)
            cells = list(_cells(reader, path.name, columns))
        except csv.Error as problem:
            raise ValueError(f"{path.name} line {reader.line_num}: {problem}") from None
    if not cells:
        raise ValueError(f"{path.name} has no rows; expected one or more")
    return cells


def _text(path: Path) -> str:
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = raw.count(b"\n", 0, problem.start) + 1
        byte = raw[problem.start]
        raise ValueError(
            f"{path.name} line {line} is not UTF-8 (byte 0x{byte:02x}); expected a table saved as UTF-8"
        ) from None


def _check_columns(file: str, found: Sequence[str], columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in found]
    if not missing:
        return
    told = f"{file} has no column {', '.join(missing)}; expected {','.join(columns)}"
    other = next((mark for mark in ";\t|" if len(found) == 1 and mark in found[0]), None)
    if other:
        raise ValueError(f"{told}: its columns seem to be separated by {other!r}; expected commas")
    like = {name: [c for c in found if c.strip().lower() in _ALSO.get(name, ())] for name in missing}
    renamed = [f"{there[0]!r} to {name!r}" for name, there in like.items() if there]
    hint = f": rename {', '.join(renamed)}?" if renamed else f"; it has {', '.join(map(repr, found))}"
    raise ValueError(told + hint)


def _cells(reader: csv.DictReader[str], file: str, columns: Sequence[str]) -> Iterator[Cell]:
    fields = list(reader.fieldnames or ())
    before = reader.line_num
    for row in reader:
        line, before = before + 1, reader.line_num
        extra = row.get(None)
        if extra:
            raise ValueError(
                f"{file} line {line} has {len(fields) + len(extra)} columns; "
                f"expected {len(fields)}, and quotes around a label that holds commas"
            )
        for column in columns:
            if row[column] is None:
                raise ValueError(
                    f"{file} line {line} ends before column {column}; expected {','.join(fields)}"
                )
        if not row["item"].strip():
            raise ValueError(f"{file} line {line}, column item: is empty; expected a name")
        yield Cell(
            row["item"],
            row["annotator"] if "annotator" in columns else "",
            row[columns[-1]],
            file,
            line,
            columns[-1],
        )


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let a field be as long as it is: an outline takes more than the reader's usual 128 KiB."""
    usual = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(usual)
