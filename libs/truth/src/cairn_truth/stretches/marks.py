"""Who marked what, as columns: every answer made of stretches or links becomes marks on small places.

A line (an item's text, its recording) is cut at every boundary that anybody used, so that within a *cell* all labelers
are constant: cost is in answers, never in characters or milliseconds. A *slot* is a cell seen as one class, of the
classes that anybody used on that item. An *entry* is one labeler's mark on one slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..columns import Floats

Ints = NDArray[np.int64]

NONE, OTHER, OWN = 0, 1, 2
"""What a labeler did with a slot: marked nothing there, marked it as another class only, marked it as this class."""

MARKS = 3

FURTHEST = 2**53
"""The last place on a line: further on, a double cannot tell neighbours apart."""

_CLASSES = 2**31
"""More than anybody has classes: item and class are one number."""


@dataclass(frozen=True)
class Stretches:
    """Columns of one length ``n``: ``item``, ``labeler``, ``class_id`` counted from 0; ``start`` < ``end`` on a line."""

    item: Ints
    labeler: Ints
    class_id: Ints
    start: Floats
    end: Floats

    @classmethod
    def of(cls, rows: Sequence[tuple[int, int, int, float, float]]) -> Stretches:
        """Return rows of (item, labeler, class, start, end) as columns."""
        whole = np.array([row[:3] for row in rows], dtype=np.int64).reshape(-1, 3)
        bounds = np.array([row[3:] for row in rows], dtype=np.float64).reshape(-1, 2)
        return cls(whole[:, 0], whole[:, 1], whole[:, 2], bounds[:, 0], bounds[:, 1])


@dataclass(frozen=True)
class Marks:
    """Entries ``(n,)``, slots ``(slots,)``, cells ``(cells,)``, answers ``(answers,)``; all counted from 0, by item.

    Entries: ``slot``, ``labeler``, ``mark`` (`NONE`, `OTHER`, `OWN`). Slots: ``cell``, ``class_id``, ``voters``
    (labelers who answered the item), ``known`` (1 in, 0 out, nan where truth is unknown). Cells: ``item``, ``start``,
    ``end`` (in the line's unit), ``weight`` (length over the mean length of a stretch that somebody marked). Answers:
    ``voter_item`` and ``voter``. ``teaches`` ``(items,)``: is there more than one answer, or a known truth?
    """

    slot: Ints
    labeler: Ints
    mark: Ints
    cell: Ints
    class_id: Ints
    voters: Ints
    known: Floats
    item: Ints
    start: Floats
    end: Floats
    weight: Floats
    voter_item: Ints
    voter: Ints
    teaches: NDArray[np.bool_]

    @property
    def items(self) -> int:
        """The number of items answered, those without a mark included."""
        return int(self.teaches.size)

    @property
    def length(self) -> Floats:
        """The length of each slot in the line's unit, ``(slots,)``."""
        return (self.end - self.start)[self.cell]

    @property
    def slots(self) -> int:
        """The number of slots."""
        return int(self.cell.size)

    def own(self) -> Floats:
        """Return how many labelers marked each slot as its class, ``(slots,)``."""
        return np.bincount(self.slot, self.mark == OWN, minlength=self.slots).astype(np.float64)


@dataclass(frozen=True)
class Voters:
    """Who answered which item: columns in order of (item, labeler), each pair once, of ``items`` and ``labelers``."""

    item: Ints
    labeler: Ints
    items: int
    labelers: int

    def find(self, item: Ints, labeler: Ints) -> Ints:
        """Return the row of each pair; every pair must be there."""
        return np.searchsorted(self.item * self.labelers + self.labeler, item * self.labelers + labeler)


@dataclass(frozen=True)
class _Lines:
    """Lines cut to cells: ``first`` cell and number of ``cells`` of each item, where each cell starts and ends."""

    first: Ints
    cells: Ints
    start: Floats
    end: Floats

    @classmethod
    def cut(cls, item: Ints, start: Floats, end: Floats, items: int, *, beyond: float) -> _Lines:
        """Cut at all bounds, at 0, and ``beyond`` the last: every line goes on for a while with nothing marked.

        Without that, a crowd that marks all of every line could as well mark whatever is out.
        """
        last = np.zeros(items)
        np.maximum.at(last, item, end)
        used = np.unique(item)
        bound = np.concatenate([start, end, np.zeros(used.size), last[used] + beyond])
        item = np.concatenate([item, item, used, used])
        order = np.lexsort((bound, item))
        item, bound = item[order], bound[order]
        fresh = np.ones(item.size, dtype=bool)
        fresh[1:] = (np.diff(item) != 0) | (np.diff(bound) != 0)
        item, bound = item[fresh], bound[fresh]
        inner = item[1:] == item[:-1]
        cells = np.bincount(item[1:][inner], minlength=items)
        return cls(_starts(cells), cells, bound[:-1][inner], bound[1:][inner])

    def places(self, stretches: Stretches) -> tuple[Ints, Ints]:
        """Return each stretch's first cell and the one after its last, counted within its item."""
        # Bounds sort within items: an item's cells and its stretches' starts are ranked together, item by item.
        item = np.repeat(np.arange(self.cells.size), self.cells)
        return (
            _rank(item, self.start, stretches.item, stretches.start),
            _rank(item, self.end, stretches.item, stretches.end) + 1,
        )


def mark_lines(
    stretches: Stretches, voters: Voters, truth: Stretches, known: NDArray[np.bool_], *, overlap: bool
) -> Marks:
    """Cut every item's line, from 0 to a little beyond the last bound in use, and write down who marked what.

    ``truth``: the true stretches (their ``labeler`` is not read) of the items that are ``known`` ``(items,)``.
    ``overlap``: may a place be of two classes? If so, marks of another class are none of this one's concern.
    """
    lengths = stretches.end - stretches.start if stretches.item.size else truth.end - truth.start
    unit = float(lengths.mean()) if lengths.size else float("nan")
    items = voters.items
    lines = _Lines.cut(
        np.concatenate([stretches.item, truth.item]),
        np.concatenate([stretches.start, truth.start]),
        np.concatenate([stretches.end, truth.end]),
        items,
        beyond=unit,
    )
    rows = _Rows.of(lines, stretches, truth, voters)
    own, other = rows.marked(lines, stretches, voters, overlap=overlap)
    return Marks(
        slot=rows.slot,
        labeler=voters.labeler[rows.voter][rows.entry],
        mark=np.where(own, OWN, np.where(other, OTHER, NONE)),
        cell=rows.cell,
        class_id=rows.pair_class[rows.slot_pair],
        voters=rows.per_item[rows.pair_item][rows.slot_pair],
        known=np.where(known[rows.pair_item][rows.slot_pair], rows.true(lines, truth), np.nan),
        item=np.repeat(np.arange(items), lines.cells),
        start=lines.start,
        end=lines.end,
        weight=(lines.end - lines.start) / unit,
        voter_item=voters.item,
        voter=voters.labeler,
        teaches=(rows.per_item > 1) | known,
    )


@dataclass(frozen=True)
class _Rows:
    """How slots and entries are laid out. A *pair* is an item with a class in use on it; its slots are the item's cells
    in order. A *row* is a pair as one of the item's voters marked it; its entries are the pair's slots in order.

    Pairs: ``pair_item``, ``pair_class``, ``pair_rows`` (how many). Slots: ``slot_pair``, ``cell``. Rows: ``voter`` (an
    answer), ``row_cells``. Entries: ``entry`` (their row), ``within`` (place in the row), ``slot``. ``per_item`` answers.
    """

    pair_item: Ints
    pair_class: Ints
    pair_rows: Ints
    pair_slots: Ints
    slot_pair: Ints
    cell: Ints
    voter: Ints
    row_cells: Ints
    entry: Ints
    within: Ints
    slot: Ints
    per_item: Ints

    @classmethod
    def of(cls, lines: _Lines, stretches: Stretches, truth: Stretches, voters: Voters) -> _Rows:
        pairs = np.unique(np.concatenate([_pair(stretches), _pair(truth)]))
        pair_item, pair_class = pairs // _CLASSES, pairs % _CLASSES
        pair_slots = lines.cells[pair_item]
        slot_pair = np.repeat(np.arange(pairs.size), pair_slots)
        per_item = np.bincount(voters.item, minlength=voters.items)
        pair_rows = per_item[pair_item]
        row_pair = np.repeat(np.arange(pairs.size), pair_rows)
        row_cells = pair_slots[row_pair]
        entry, within = np.repeat(np.arange(row_pair.size), row_cells), _within(row_cells)
        return cls(
            pair_item=pair_item,
            pair_class=pair_class,
            pair_rows=pair_rows,
            pair_slots=pair_slots,
            slot_pair=slot_pair,
            cell=lines.first[pair_item][slot_pair] + _within(pair_slots),
            voter=_starts(per_item)[pair_item][row_pair] + _within(pair_rows),
            row_cells=row_cells,
            entry=entry,
            within=within,
            slot=_starts(pair_slots)[row_pair][entry] + within,
            per_item=per_item,
        )

    def marked(
        self, lines: _Lines, stretches: Stretches, voters: Voters, *, overlap: bool
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which entries are marked as the row's class, and which as any (none, if classes may overlap)."""
        begin, stop = lines.places(stretches)
        voter = voters.find(stretches.item, stretches.labeler)
        row = _starts(self.pair_rows)[self._pairs(stretches)] + voter - _starts(self.per_item)[stretches.item]
        own = _covered(_starts(self.row_cells)[row], begin, stop, self.entry.size)
        if overlap:
            return own, np.zeros_like(own)
        cells = lines.cells[voters.item]
        anything = _covered(_starts(cells)[voter], begin, stop, int(cells.sum()))
        return own, anything[_starts(cells)[self.voter][self.entry] + self.within]

    def true(self, lines: _Lines, truth: Stretches) -> Floats:
        """Return 1 for slots in a true stretch, 0 for others."""
        first = _starts(self.pair_slots)[self._pairs(truth)]
        return _covered(first, *lines.places(truth), self.slot_pair.size).astype(np.float64)

    def _pairs(self, stretches: Stretches) -> Ints:
        return np.searchsorted(self.pair_item * _CLASSES + self.pair_class, _pair(stretches))


def _pair(stretches: Stretches) -> Ints:
    return stretches.item * _CLASSES + stretches.class_id


def _covered(first: Ints, begin: Ints, stop: Ints, size: int) -> NDArray[np.bool_]:
    """Return which of ``size`` places lie in a stretch: of the row at ``first``, from ``begin`` until ``stop``.

    A stretch that ends with its row ends where the next row starts: one running sum serves all rows.
    """
    steps = np.bincount(first + begin, minlength=size + 1) - np.bincount(first + stop, minlength=size + 1)
    return np.asarray(np.cumsum(steps)[:size] > 0)


def _rank(item: Ints, bound: Floats, wanted_item: Ints, wanted: Floats) -> Ints:
    """Return the place within its item of each wanted bound, which is there; ``item``, ``bound`` are sorted."""
    if not wanted.size:
        return np.zeros(0, dtype=np.int64)
    order = np.lexsort(
        (
            np.concatenate([np.zeros(item.size), np.ones(wanted.size)]),
            np.concatenate([bound, wanted]),
            np.concatenate([item, wanted_item]),
        )
    )
    real = order < item.size
    last = np.empty(order.size, dtype=np.int64)
    last[order] = np.cumsum(real) - 1
    counts = np.bincount(item, minlength=int(wanted_item.max(initial=-1)) + 1)
    return last[item.size :] - _starts(counts)[wanted_item]


def _starts(counts: Ints) -> Ints:
    return np.cumsum(counts) - counts


def _within(counts: Ints) -> Ints:
    return np.arange(int(counts.sum())) - np.repeat(_starts(counts), counts)
