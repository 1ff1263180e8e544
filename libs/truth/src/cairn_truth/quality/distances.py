"""How far apart two answers are, summed over all pairs without looking at each: what agreement statistics are made of.

A distance is for answers as numbers ``x``: codes of classes, steps, ranks or measurements. Ordinal distances are
squared differences of mid-ranks (Krippendorff 2004, 11.3.3), which is `Squared` on ranks.
"""

# ruff: noqa: D102 - Distance says what each method is for
from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from ..columns import Floats

Rows = NDArray[np.int64]

_BLOCK = 1 << 22
"""Pairs held at once where each must be looked at."""


class Distance(ABC):
    """A symmetric distance of answers, 0 for equal ones."""

    @abstractmethod
    def between(self, x: Floats, y: Floats) -> Floats:
        """Return the distance of each ``x`` from its ``y``, both ``(n,)``."""

    @abstractmethod
    def within(self, item: Rows, x: Floats, items: int) -> Floats:
        """Return the sum over ordered pairs of answers to each item ``(items,)``; ``item`` is in order."""

    @abstractmethod
    def expected(self, x: Floats, values: Floats, shares: Floats) -> Floats:
        """Return each ``x``'s mean distance ``(n,)`` from distinct ``values``, in order, that have these shares."""


class Unequal(Distance):
    """1 for two classes that differ."""

    def between(self, x: Floats, y: Floats) -> Floats:
        return np.asarray(x != y, dtype=np.float64)

    def within(self, item: Rows, x: Floats, items: int) -> Floats:
        order = np.lexsort((x, item))
        fresh = np.ones(x.size, dtype=bool)
        fresh[1:] = (np.diff(item[order]) != 0) | (np.diff(x[order]) != 0)
        first = np.flatnonzero(fresh)
        same = np.diff(np.append(first, x.size)).astype(np.float64)
        each = np.bincount(item, minlength=items).astype(np.float64)
        return each**2 - np.bincount(item[order][first], weights=same**2, minlength=items)

    def expected(self, x: Floats, values: Floats, shares: Floats) -> Floats:
        at = np.minimum(np.searchsorted(values, x), values.size - 1)
        return np.asarray(shares.sum() - np.where(values[at] == x, shares[at], 0.0))


class Absolute(Distance):
    """The difference of two numbers."""

    def between(self, x: Floats, y: Floats) -> Floats:
        return np.abs(x - y)

    def within(self, item: Rows, x: Floats, items: int) -> Floats:
        each = np.bincount(item, minlength=items)
        order = np.lexsort((x, item))
        rank = np.arange(x.size) - np.repeat(np.cumsum(each) - each, each)
        above = 2.0 * rank - np.repeat(each, each) + 1.0
        near = x[order] - _means(item, x, items)[item[order]]
        return np.asarray(2.0 * np.bincount(item[order], weights=above * near, minlength=items))

    def expected(self, x: Floats, values: Floats, shares: Floats) -> Floats:
        middle = float(values @ shares) / float(shares.sum())
        near = values - middle
        held, moment = np.append(0.0, np.cumsum(shares)), np.append(0.0, np.cumsum(shares * near))
        at, here = np.searchsorted(values, x, side="right"), x - middle
        return np.asarray(here * (2.0 * held[at] - held[-1]) - 2.0 * moment[at] + moment[-1])


class Squared(Distance):
    """The squared difference of two numbers."""

    def between(self, x: Floats, y: Floats) -> Floats:
        return np.asarray((x - y) ** 2)

    def within(self, item: Rows, x: Floats, items: int) -> Floats:
        each = np.bincount(item, minlength=items)
        near = x - _means(item, x, items)[item]
        return np.asarray(2.0 * each * np.bincount(item, weights=near**2, minlength=items))

    def expected(self, x: Floats, values: Floats, shares: Floats) -> Floats:
        total = float(shares.sum())
        middle = float(values @ shares) / total
        return np.asarray(total * (x - middle) ** 2 + float(shares @ (values - middle) ** 2))


class Ratio(Distance):
    """``((x - y) / (x + y))^2`` of two numbers from 0 on. Looks at every pair, of distinct values at that."""

    def between(self, x: Floats, y: Floats) -> Floats:
        total = x + y
        return np.asarray(np.divide(x - y, total, out=np.zeros(total.shape), where=total != 0.0) ** 2)

    def within(self, item: Rows, x: Floats, items: int) -> Floats:
        each = np.bincount(item, minlength=items)
        place = np.arange(x.size) - np.repeat(np.cumsum(each) - each, each)
        left = np.repeat(each, each) - place - 1
        found = np.zeros(items)
        for ahead in range(1, int(each.max(initial=0))):
            one = np.flatnonzero(left >= ahead)
            found += np.bincount(item[one], weights=self.between(x[one], x[one + ahead]), minlength=items)
        return 2.0 * found

    def expected(self, x: Floats, values: Floats, shares: Floats) -> Floats:
        rows = max(_BLOCK // values.size, 1)
        blocks = [
            self.between(x[start : start + rows, None], values[None, :]) @ shares
            for start in range(0, x.size, rows)
        ]
        return np.concatenate(blocks) if blocks else np.zeros(0)


def mid_ranks(x: Floats) -> Floats:
    """Return the mean rank of each answer among all, ties sharing theirs."""
    _, code, count = np.unique(x, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - count / 2.0)[code])


def _means(item: Rows, x: Floats, items: int) -> Floats:
    each = np.bincount(item, minlength=items)
    return np.asarray(np.bincount(item, weights=x, minlength=items) / np.maximum(each, 1))
