"""How long answers took and when they came, beside the columns that say whose they are and of which item.

`Votes` sorts its rows; times that lay beside them in the order of a table would be somebody else's afterwards. So times
bring their own item and labeler.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..columns import Floats, as_array, numbers

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class AnswerTimes:
    """Columns of one length, a row an answer, in any order: ``item`` and ``labeler`` (whole numbers from 0, as in the
    votes), the ``seconds`` it took, and the ``moment`` it came at (seconds since any); nan where unknown.
    """

    item: ArrayLike
    labeler: ArrayLike
    seconds: ArrayLike | None = None
    moment: ArrayLike | None = None

    def rows(self) -> tuple[Ints, Ints]:
        """Return item and labeler as numbers. Raises ValueError naming the column and the first row that is none."""
        who, what = whole_column("labeler", self.labeler), whole_column("item", self.item)
        if what.size != who.size:
            raise ValueError(f"the columns differ in length: item {what.size}, labeler {who.size}")
        return what, who

    def taken(self) -> Floats:
        """Return the seconds, all nan where there are none. Raises ValueError naming the first that is no time."""
        return self._times("seconds", self.seconds)

    def came(self) -> Floats:
        """Return the moments, all nan where there are none. Raises ValueError naming the first that is no time."""
        return self._times("moment", self.moment)

    def _times(self, name: str, values: ArrayLike | None) -> Floats:
        length = self.rows()[1].size
        if values is None:
            return np.full(length, np.nan)
        column = numbers(f"column {name}", values)
        if column.shape != (length,):
            raise ValueError(f"column {name} has shape {column.shape}; expected ({length},)")
        bad = np.flatnonzero(~(np.isnan(column) | ((column >= 0.0) & np.isfinite(column))))
        if bad.size:
            raise ValueError(
                f"column {name}, row {bad[0]}: {column[bad[0]]} is no time; expected at least 0, or nan"
            )
        return column


def whole_column(name: str, values: ArrayLike) -> Ints:
    """Return a column of whole numbers from 0 on. Raises ValueError naming the first row that holds anything else."""
    column = as_array(name, values)
    if column.dtype.kind == "b":
        raise ValueError(f"column {name} holds {column.dtype}; expected whole numbers")
    if column.ndim != 1:
        raise ValueError(f"column {name} has shape {column.shape}; expected one dimension")
    if not column.size:
        return np.zeros(0, np.int64)
    number = numbers(f"column {name}", column)
    bad = np.flatnonzero(~((number >= 0) & (number == np.floor(number)) & (number < 2**31)))
    if bad.size:
        raise ValueError(f"column {name}, row {bad[0]}: {column[bad[0]]} is not a whole number from 0 on")
    return number.astype(np.int64)
