"""Votes on classes as columns, checked once and put into one order that does not depend on when they came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Votes:
    """Who chose which class for which item: three columns of one length ``n``.

    ``item`` int32, ``labeler`` int32, ``choice`` int16, each counted from 0; `of` checks and converts. Rows are
    sorted by (item, labeler, choice), so that the same votes in any order are the same object to every sum.
    """

    item: NDArray[np.int32]
    labeler: NDArray[np.int32]
    choice: NDArray[np.int16]
    items: int
    labelers: int
    classes: int

    @classmethod
    def of(
        cls,
        item: ArrayLike,
        labeler: ArrayLike,
        choice: ArrayLike,
        *,
        classes: int,
        items: int | None = None,
        labelers: int | None = None,
    ) -> Votes:
        """Check the columns and sort them; ``items`` and ``labelers`` default to one more than the largest id.

        Raises ValueError naming the column and the row of the first value that is not a whole number in range.
        """
        if not 1 <= classes <= np.iinfo(np.int16).max:
            raise ValueError(f"classes is {classes}; expected 1..{np.iinfo(np.int16).max}")
        most = int(np.iinfo(np.int32).max)
        item_column = _column("item", item, items if items is not None else most)
        labeler_column = _column("labeler", labeler, labelers if labelers is not None else most)
        choice_column = _column("choice", choice, classes)
        if not item_column.size == labeler_column.size == choice_column.size:
            raise ValueError(
                "the columns differ in length: "
                f"item {item_column.size}, labeler {labeler_column.size}, choice {choice_column.size}"
            )
        order = np.lexsort((choice_column, labeler_column, item_column))
        return cls(
            item=item_column[order].astype(np.int32),
            labeler=labeler_column[order].astype(np.int32),
            choice=choice_column[order].astype(np.int16),
            items=items if items is not None else _count(item_column),
            labelers=labelers if labelers is not None else _count(labeler_column),
            classes=classes,
        )

    def __len__(self) -> int:
        return int(self.item.size)

    def per_item(self) -> NDArray[np.int64]:
        """Return the number of votes on each item, ``(items,)``."""
        return np.bincount(self.item, minlength=self.items)

    def per_labeler(self) -> NDArray[np.int64]:
        """Return the number of votes of each labeler, ``(labelers,)``."""
        return np.bincount(self.labeler, minlength=self.labelers)

    def tally(self) -> Floats:
        """Return how many labelers chose each class of each item, ``(items, classes)``."""
        flat = self.item.astype(np.int64) * self.classes + self.choice
        counts = np.bincount(flat, minlength=self.items * self.classes)
        return counts.reshape(self.items, self.classes).astype(np.float64)

    def incidence(self) -> sparse.csr_matrix:
        """Return the sparse 0/1 matrix ``(labelers * classes, items)``: row ``labeler * classes + choice``."""
        rows = self.labeler.astype(np.int64) * self.classes + self.choice
        ones = np.ones(len(self))
        return sparse.csr_matrix((ones, (rows, self.item)), shape=(self.labelers * self.classes, self.items))


def checked_gold(gold: ArrayLike | None, items: int, classes: int) -> NDArray[np.int64]:
    """Return the known class of each item ``(items,)``, -1 where it is unknown.

    Raises ValueError naming the row that holds anything else.
    """
    if gold is None:
        return np.full(items, -1, dtype=np.int64)
    known = np.asarray(gold)
    if known.shape != (items,):
        raise ValueError(f"gold has shape {known.shape}; expected ({items},), -1 where the truth is unknown")
    bad = np.flatnonzero((known < -1) | (known >= classes))
    if bad.size:
        raise ValueError(f"gold, row {bad[0]}: {known[bad[0]]} is not a class in 0..{classes - 1} nor -1")
    return known.astype(np.int64)


def ranks(keys: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    """Return each key's place among the sorted keys, and the sorted keys: ids that no order of arrival moved."""
    order = sorted(range(len(keys)), key=keys.__getitem__)
    rank = np.empty(len(keys), dtype=np.int64)
    rank[order] = np.arange(len(keys))
    return rank, [keys[i] for i in order]


def _column(name: str, values: ArrayLike, below: int) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"column {name} must be one-dimensional, not of shape {array.shape}")
    if array.size == 0:
        return np.zeros(0, dtype=np.int64)
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        raise ValueError(f"column {name} holds {array.dtype}; expected whole numbers")
    bad = np.flatnonzero(~((array >= 0) & (array < below) & (array == np.floor(array))))
    if bad.size:
        raise ValueError(
            f"column {name}, row {bad[0]}: {array[bad[0]]} is not a whole number in 0..{below - 1}"
        )
    return array.astype(np.int64)


def _count(column: NDArray[np.int64]) -> int:
    return int(column.max()) + 1 if column.size else 0
