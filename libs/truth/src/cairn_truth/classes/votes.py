"""Votes on classes as columns, checked once and put into one order that does not depend on when they came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from ..columns import Floats, Ints, as_array, check_instance, whole_numbers

Ids = NDArray[np.int32]
Shorts = NDArray[np.int16]

MOST_CLASSES = int(np.iinfo(np.int16).max)
"""Of one question: a choice is held in 16 bits."""

_MOST_SILENT = 64
"""Votes are counted by item unless there are so many times more items than votes: the count would be mostly zeros."""


_MOST_EMPTY = 1 << 28
"""So many rows may be mostly empty: of more, every column of a posterior would take 2 GiB."""


@dataclass(frozen=True, eq=False)
class Votes:
    """Who chose which class for which item: three columns of one length ``n``.

    ``item`` int32, ``labeler`` int32, ``choice`` int16, each counted from 0; `of` checks and converts. Rows are
    sorted by (item, labeler, choice), so that the same votes in any order are the same object to every sum. Raises
    ValueError where they are not, for then nothing that is made of them would be right.
    """

    item: NDArray[np.int32]
    labeler: NDArray[np.int32]
    choice: NDArray[np.int16]
    items: int
    labelers: int
    classes: int

    def __post_init__(self) -> None:
        for name in ("item", "labeler", "choice"):
            column = getattr(self, name)
            check_instance(name, column, np.ndarray, "a column as Votes.of makes it")
            if column.ndim != 1:
                raise ValueError(f"{name} has shape {column.shape}; expected a column as Votes.of makes it")
        if not (self.item.size == self.labeler.size == self.choice.size and self._in_order()):
            raise ValueError(
                "the rows are not sorted by item, labeler and choice; expected what Votes.of returns"
            )

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

        Raises ValueError naming a size that is none, and the column and the row of the first value that is not a whole
        number in range.
        """
        most = int(np.iinfo(np.int32).max)
        classes = _size("classes", classes, 1, MOST_CLASSES)
        items = None if items is None else _size("items", items, 0, most)
        labelers = None if labelers is None else _size("labelers", labelers, 0, most)
        by_item = _column("item", item, items if items is not None else most)
        by_labeler = _column("labeler", labeler, labelers if labelers is not None else most)
        chosen = _column("choice", choice, classes).astype(np.int16)
        if not by_item.size == by_labeler.size == chosen.size:
            raise ValueError(
                "the columns differ in length: "
                f"item {by_item.size}, labeler {by_labeler.size}, choice {chosen.size}"
            )
        items = items if items is not None else _count(by_item)
        labelers = labelers if labelers is not None else _count(by_labeler)
        in_order = _by_comparing if items > _MOST_SILENT * by_item.size else _by_counting
        return cls(*in_order(by_item, by_labeler, chosen, classes), items, labelers, classes)

    def __len__(self) -> int:
        return int(self.item.size)

    def _in_order(self) -> bool:
        """Return whether no row is less than the one before it."""
        less = np.zeros(max(len(self) - 1, 0), dtype=bool)
        alike = ~less
        for column in (self.item, self.labeler, self.choice):
            less |= alike & (column[1:] < column[:-1])
            alike &= column[1:] == column[:-1]
        return not less.any()

    def per_item(self) -> NDArray[np.int64]:
        """Return the number of votes on each item, ``(items,)``."""
        return np.bincount(self.item, minlength=self.items)

    def per_labeler(self) -> NDArray[np.int64]:
        """Return the number of votes of each labeler, ``(labelers,)``."""
        return np.bincount(self.labeler, minlength=self.labelers)

    def tally(self) -> Floats:
        """Return how many labelers chose each class of each item, ``(items, classes)``."""
        counts = np.bincount(self.cell(), minlength=self.items * self.classes)
        return counts.reshape(self.items, self.classes).astype(np.float64)

    def cell(self) -> Ints:
        """Return where each vote's class is in a flat ``(items, classes)``: ``item * classes + choice``, ``(n,)``."""
        return _place(self.item, self.choice, self.classes)

    def incidence(self) -> sparse.csc_matrix:
        """Return the sparse matrix ``(labelers * classes, items)`` of votes: row ``labeler * classes + choice``.

        A vote cast twice is two entries. The columns are the votes as they lie here, so that neither this matrix nor
        its transpose, CSR with a row an item, is ever sorted or converted; both products go through the votes once, by
        item, while the labelers' table, much the smaller, stays in cache.
        """
        shape = (self.labelers * self.classes, self.items)
        ends = self._ends(shape[0])
        rows = np.asarray(self.labeler, dtype=ends.dtype) * self.classes + self.choice
        return sparse.csc_matrix((np.ones(len(self)), rows, ends), shape=shape)

    def labelers_by_item(self) -> sparse.csr_matrix:
        """Return the sparse matrix ``(items, labelers)`` of who voted on what; a second vote is one more entry."""
        ends = self._ends(self.labelers)
        who = np.asarray(self.labeler, dtype=ends.dtype)
        return sparse.csr_matrix((np.ones(len(self)), who, ends), shape=(self.items, self.labelers))

    def _ends(self, most: int) -> NDArray[Any]:
        """Return where each item's votes begin, and the last's end; in 32 bits where these and ``most`` fit."""
        small = max(most, len(self)) <= np.iinfo(np.int32).max
        ends = np.zeros(self.items + 1, dtype=np.int32 if small else np.int64)
        np.cumsum(self.per_item(), out=ends[1:])
        return ends


def check_votes(votes: object) -> None:
    """Raise ValueError for what is no `Votes`."""
    check_instance("votes", votes, Votes, "Votes (of NamedVotes, its .votes)")


def checked_gold(gold: ArrayLike | None, votes: Votes) -> NDArray[np.int64]:
    """Return the known class of each item ``(items,)``, -1 where it is unknown or masked.

    Raises ValueError naming the element that is anything else, and where ``votes`` are none, or of ids so far apart that
    their rows would fill gigabytes with nothing.
    """
    check_votes(votes)
    _check_rows("item", votes.items, len(votes))
    _check_rows("labeler", votes.labelers, len(votes))
    items, classes = votes.items, votes.classes
    if gold is None:
        return np.full(items, -1, dtype=np.int64)
    if isinstance(gold, np.ma.MaskedArray):
        gold = gold.filled(-1)
    known = whole_numbers("gold", gold, -1)
    if known.shape != (items,):
        raise ValueError(f"gold has shape {known.shape}; expected ({items},), -1 where the truth is unknown")
    bad = np.flatnonzero(known >= classes)
    if bad.size:
        raise ValueError(f"gold[{bad[0]}] is {known[bad[0]]}; expected a class in 0..{classes - 1}, or -1")
    return known


def _check_rows(name: str, rows: int, votes: int) -> None:
    if rows > max(_MOST_EMPTY, _MOST_SILENT * votes):
        raise ValueError(
            f"{votes} votes are of {rows} {name}s, most of them without any; expected ids counted from 0, as NamedVotes.of "
            "counts them"
        )


def _by_counting(
    item: NDArray[np.integer], labeler: NDArray[np.integer], choice: Shorts, classes: int
) -> tuple[Ids, Ids, Shorts]:
    """Return the columns sorted by (item, labeler, choice): by item in one count, then each item's votes by themselves.

    SciPy makes compressed rows of coordinates by a counting sort; that is some ten times as fast as `_by_comparing`.
    """
    said = _place(labeler, choice, classes)
    shape = (_count(item), _count(said))
    table = sparse.coo_array((np.ones(said.size, dtype=np.int8), (item, said)), shape=shape)
    # True of no crowd with a vote cast twice; without it, two such votes would become one entry.
    table.has_canonical_format = True
    rows = table.tocsr()
    rows.has_sorted_indices = False
    rows.sort_indices()
    who, what = np.divmod(rows.indices, classes)
    which = np.repeat(np.arange(shape[0], dtype=np.int32), np.diff(rows.indptr))
    return which, who.astype(np.int32, copy=False), what.astype(np.int16)


def _by_comparing(
    item: NDArray[np.integer], labeler: NDArray[np.integer], choice: Shorts, classes: int
) -> tuple[Ids, Ids, Shorts]:
    """Return the columns sorted by (item, labeler, choice), whatever the size of the largest id."""
    order = np.lexsort((choice, labeler, item))
    return item[order].astype(np.int32), labeler[order].astype(np.int32), choice[order]


def _place(row: NDArray[np.integer], column: NDArray[np.integer], width: int) -> Ints:
    place = row.astype(np.int64)
    place *= width
    place += column
    return place


def _size(name: str, value: object, least: int, most: int) -> int:
    """Return how many there are. Raises ValueError for what is no whole number in range."""
    if (
        isinstance(value, bool | np.timedelta64)
        or not isinstance(value, int | np.integer)
        or not least <= value <= most
    ):
        raise ValueError(f"{name} is {value!r}; expected a whole number in {least}..{most}")
    return int(value)


def _column(name: str, values: ArrayLike, below: int) -> NDArray[np.integer]:
    array = as_array(f"column {name}", values)
    if array.ndim != 1:
        raise ValueError(f"column {name} must be one-dimensional, not of shape {array.shape}")
    if array.size == 0:
        return np.zeros(0, dtype=np.int64)
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        raise ValueError(f"column {name} holds {array.dtype}; expected whole numbers")
    whole = np.issubdtype(array.dtype, np.integer)
    if whole and array.min() >= 0 and array.max() < below:
        return array
    bad = np.flatnonzero(~((array >= 0) & (array < below) & (array == np.floor(array))))
    if bad.size:
        raise ValueError(
            f"column {name}, row {bad[0]}: {array[bad[0]]} is not a whole number in 0..{below - 1}"
        )
    return array.astype(np.int64)


def _count(column: NDArray[np.integer]) -> int:
    return int(column.max()) + 1 if column.size else 0
