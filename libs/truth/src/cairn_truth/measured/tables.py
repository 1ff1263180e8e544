"""Tables of answers and of truths, read row by row; whatever is wrong is told with its file, line and column.

One rule for all kinds: of a labeler's several answers to an item the last counts. Answers without a labeler's name are of
as many strangers as there are to one item, and do not replace each other. An item has one truth.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

T = TypeVar("T")

ANSWERS, TRUTH, OUTLINES, GOLD = "answers.csv", "truth.csv", "polygons.csv", "gold.csv"

_DEEPEST = 8
"""So deep lists may be nested; polygons, the deepest of all answers, are lists of lists of points."""

_LISTS = (list, dict)

_NESTED = f"lists are nested deeper than {_DEEPEST}"

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


def from_json(label: str) -> Any:
    """Return what a cell in JSON holds. Raises ValueError for what is none, or is nested deeper than any answer."""
    try:
        cell = json.loads(label)
    except RecursionError:
        raise ValueError(_NESTED) from None
    level = [cell]
    for _ in range(_DEEPEST):
        level = [inner for one in level if type(one) in _LISTS for inner in _inside(one)]
        if not level:
            return cell
    raise ValueError(_NESTED)


def _inside(one: list[Any] | dict[str, Any]) -> Iterable[Any]:
    return one if isinstance(one, list) else one.values()


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
        rows = _rows(path.name, _text(path))
        _, titles = next(rows, (1, []))
        _check_columns(path.name, titles, columns)
        cells = list(_cells(rows, path.name, titles, columns))
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
    if not found:
        raise ValueError(f"{file} is empty; expected a table {','.join(columns)}")
    twice = [column for column in columns if found.count(column) > 1]
    if twice:
        raise ValueError(f"{file} has column {twice[0]} {found.count(twice[0])} times; expected each once")
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


def _rows(file: str, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not empty, with the line it begins on."""
    reader, line = csv.reader(io.StringIO(text, newline=""), strict=True), 1
    while True:
        try:
            row = next(reader, None)
        except csv.Error as problem:
            told = (
                "a quote opens in this row and is never closed" if "end of data" in str(problem) else problem
            )
            raise ValueError(f"{file} line {line}: {told}") from None
        if row is None:
            return
        if row:
            yield line, row
        line = reader.line_num + 1


def _cells(
    rows: Iterator[tuple[int, list[str]]], file: str, titles: Sequence[str], columns: Sequence[str]
) -> Iterator[Cell]:
    places = [titles.index(column) for column in columns]
    for line, row in rows:
        if len(row) > len(titles):
            raise ValueError(
                f"{file} line {line} has {len(row)} columns; "
                f"expected {len(titles)}, and quotes around a label that holds commas"
            )
        for column, place in zip(columns, places, strict=True):
            if place >= len(row):
                raise ValueError(
                    f"{file} line {line} ends before column {column}; expected {','.join(titles)}"
                )
        item, *who, label = (row[place] for place in places)
        if not item.strip():
            raise ValueError(f"{file} line {line}, column item: is empty; expected a name")
        yield Cell(item, who[0] if who else "", label, file, line, columns[-1])


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let a field be as long as it is: an outline takes more than the reader's usual 128 KiB."""
    usual = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(usual)
