"""Columns of answers, read for statistics: checked, in order of items, values as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..classes.votes import Floats
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
    columns = [np.asarray(column) for column in (item, labeler, value)]
    for name, column in zip(("item", "labeler", "value"), columns, strict=True):
        if column.ndim != 1 or column.size != columns[0].size:
            raise ValueError(f"{name} has shape {column.shape}; expected ({columns[0].size},), as item has")
    if not columns[0].size:
        raise ValueError("there are no answers; expected one or more")
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
    if numeric and not np.isfinite(value).all():
        first = int(np.flatnonzero(~np.isfinite(value))[0])
        raise ValueError(
            f"value[{first}] is {value[first]}; expected a finite number, missing answers left out"
        )
    if categories is not None:
        return _placed(value, list(categories))
    if not ordered:
        names, code = np.unique(value, return_inverse=True)
        return code.astype(np.float64), np.arange(names.size, dtype=np.float64)
    if not numeric:
        raise ValueError("values are not numbers; expected their order as categories")
    x = value.astype(np.float64)
    return x, np.unique(x)


def _placed(value: NDArray[Any], categories: list[Any]) -> tuple[Floats, Floats]:
    names, code = np.unique(value, return_inverse=True)
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
