"""Tables of answers and of truths, read row by row; whatever is wrong is told with its file, line and column."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

ANSWERS, TRUTH, OUTLINES = "answers.csv", "truth.csv", "polygons.csv"


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
    """Return the rows of ``answers.csv``, in their order.

    Raises FileNotFoundError, and ValueError naming the file, line and column of what is missing or wrong.
    """
    return _read(folder / file, ("item", "annotator", label))


def read_truth(folder: Path) -> Sequence[Cell]:
    """Return the rows of ``truth.csv``; errors as for `read_answers`."""
    return _read(folder / TRUTH, ("item", "label"))


def parsed(cells: Sequence[Cell], read: Callable[[str], T]) -> Mapping[str, Mapping[str, T]]:
    """Return item to labeler to answer, a labeler's later answer in place of the earlier.

    Answers without a labeler's name are of as many strangers as there are to one item: they do not replace each other.
    Raises ValueError with the place of a label that ``read`` refuses.
    """
    found: dict[str, dict[str, T]] = {}
    strangers = Counter[str]()
    for cell in cells:
        strangers[cell.item] += not cell.labeler
        who = cell.labeler or f"nobody {strangers[cell.item]}"
        try:
            found.setdefault(cell.item, {})[who] = read(cell.label)
        except ValueError as problem:
            raise cell.wrong(problem) from None
    return {item: {who: found[item][who] for who in sorted(found[item])} for item in sorted(found)}


def _read(path: Path, columns: Sequence[str]) -> Sequence[Cell]:
    with path.open(newline="", encoding="utf-8-sig") as opened, _long_fields():
        reader = csv.DictReader(opened, strict=True)
        try:
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise ValueError(
                    f"{path.name} has no column {', '.join(missing)}; expected {','.join(columns)}"
                )
            cells = list(_cells(reader, path.name, columns))
        except csv.Error as problem:
            raise ValueError(f"{path.name} line {reader.line_num}: {problem}") from None
        except UnicodeDecodeError as problem:
            raise ValueError(f"{path.name} is not UTF-8 after line {reader.line_num}: {problem}") from None
    if not cells:
        raise ValueError(f"{path.name} has no rows; expected one or more")
    return cells


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
