"""Columns of answers, read for statistics: checked, in order of items, values as numbers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..columns import Floats, as_array, check_instance, check_sequence
from .distances import Rows


@dataclass(frozen=True, slots=True)
class AnswerColumns:
    """Answers in order of item: ``item`` and ``labeler`` as rows, ``x`` the value as a number; all ``(answers,)``.

    ``domain``: the values there may be, in order.
    """

    item: Rows
    labeler: Rows
    x: Floats
    domain: Floats

    def each(self) -> Rows:
        """Return the number of answers to each item."""
        return np.bincount(self.item)

    def of_items(self, wanted: NDArray[np.bool_]) -> AnswerColumns:
        """Return the answers to some items, rows closed up."""
        kept = wanted[self.item]
        row = np.cumsum(wanted) - 1
        return replace(self, item=row[self.item[kept]], labeler=self.labeler[kept], x=self.x[kept])


def read_columns(
    item: ArrayLike, labeler: ArrayLike, value: ArrayLike, categories: Sequence[Any] | None, *, ordered: bool
) -> AnswerColumns:
    """Check the columns and put them in order of item and labeler, the last answer of each pair."""
    names = ("item", "labeler", "value")
    columns = [_as_column(name, given) for name, given in zip(names, (item, labeler, value), strict=True)]
    for name, column in zip(names, columns, strict=True):
        if column.ndim != 1 or column.size != columns[0].size:
            raise ValueError(f"{name} has shape {column.shape}; expected ({columns[0].size},), as item has")
    if not columns[0].size:
        raise ValueError("there are no answers; expected one or more")
    for name, column in zip(names, columns, strict=True):
        _check_told_apart(name, column)
    x, domain = _numbers(columns[2], categories, ordered=ordered)
    rows = [np.unique(column, return_inverse=True)[1].astype(np.int64) for column in columns[:2]]
    order = np.lexsort((rows[1], rows[0]))
    last = np.ones(order.size, dtype=bool)
    last[:-1] = (np.diff(rows[0][order]) != 0) | (np.diff(rows[1][order]) != 0)
    kept = order[last]
    return AnswerColumns(rows[0][kept], rows[1][kept], x[kept], domain)


def _numbers(
    value: NDArray[Any], categories: Sequence[Any] | None, *, ordered: bool
) -> tuple[Floats, Floats]:
    """Return values as numbers and their domain: as they are, as places among categories, or as codes."""
    numeric = value.dtype.kind in "iufb"
    if categories is not None:
        check_sequence("categories", categories, "all values, in order")
        return _placed(value, list(categories))
    if not ordered:
        names, code = np.unique(value, return_inverse=True)
        return code.astype(np.float64), np.arange(names.size, dtype=np.float64)
    if not numeric:
        raise ValueError("values are not numbers; expected their order as categories")
    x = value.astype(np.float64)
    # Every level above nominal is free of the unit; in that of the largest, squares are numbers.
    x = np.ldexp(x, -int(np.frexp(np.abs(x).max())[1]))
    return x, np.unique(x)


def _as_column(name: str, given: ArrayLike) -> NDArray[Any]:
    """Return the column as an array; words among which NumPy would write a nan or a number as a word stay as they are."""
    column = as_array(name, given)
    if column.dtype.kind in "US" and column.ndim == 1 and not isinstance(given, np.ndarray):
        entries = list(given) if isinstance(given, Sequence) else column.tolist()
        if any(not isinstance(entry, str | bytes) for entry in entries):
            column = np.empty(len(entries), dtype=object)
            column[:] = entries
    return column


def _check_told_apart(name: str, column: NDArray[Any]) -> None:
    """Raise ValueError naming the first entry that is no name and no finite number, or of another type than the rest."""
    if column.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(column))
        if bad.size:
            raise ValueError(
                f"{name}[{bad[0]}] is {column[bad[0]]}; expected a finite number, missing answers left out"
            )
    elif column.dtype.kind == "O":
        first = type(column[0])
        for at, entry in enumerate(column):
            if entry is None or type(entry) is not first:
                raise ValueError(
                    f"{name}[{at}] is {entry!r}; expected entries of one type, missing answers left out"
                )
        try:
            _ = column[0] < column[0]
        except TypeError:
            raise ValueError(
                f"{name}[0] is {column[0]!r:.100}; expected names or numbers, which have an order"
            ) from None
    elif column.dtype.kind not in "iubUS":
        raise ValueError(f"{name} holds {column.dtype}; expected names or numbers")


def _placed(value: NDArray[Any], categories: list[Any]) -> tuple[Floats, Floats]:
    names, code = np.unique(value, return_inverse=True)
    for at, name in enumerate(categories):
        check_instance(f"categories[{at}]", name, Hashable, "a value that an answer may have")
    place = {name: float(at) for at, name in enumerate(categories)}
    if len(place) != len(categories):
        raise ValueError("categories has one twice; expected each once")
    for name in names.tolist():
        if name not in place:
            first = int(np.flatnonzero(value == name)[0])
            raise ValueError(f"value[{first}] is {name!r}; expected one of the categories")
    return np.array([place[name] for name in names.tolist()])[code], np.arange(
        len(categories), dtype=np.float64
    )
