"""What the answers to an item say of it, labelers as they stand: two readings of every item, and how likely each is.

An ordinary item's value is normal about the others', and its answers miss by as much as their labelers usually do. With
a small probability, learnt from the crowd, an item is apart: its value is Cauchy about the others', and its answers miss
by more, with a size of their own (a scale mixture: their errors are Cauchy, too) that leans on what the crowd's grow to
with the value. Slips corroborate nothing, and only where a far value has a chance can answers that do be told from
them: among many small values known to a share of their size the large ones are no slips of the pen.

All is in units of the values' standard deviation about their mean.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ..columns import Floats
from .number_crowd import Labelers, Rows

_LOG_TAU = float(np.log(2.0 * np.pi))

HOLD = np.array([[1.0], [1e-220]])
"""How firmly the prior holds a value: as the unit, and of where one far out is it says next to nothing."""

_SETTLED, _SETTLED_SIZE = 1e-6, 1e-3
"""Largest change that is none: of a value, in the values' standard deviations, and of its errors' size."""

_NORMAL_MEDIAN_SQUARE = 0.4549
"""Median of a standard normal's square."""


@dataclass(frozen=True, slots=True)
class Said:
    """Answers to ``items`` items, in order of item: ``item``, ``answer`` and a row of ``who`` for each.

    ``usual``: the crowd's spread; ``growth``, by how much of it the square of errors grows with that of a value far out.
    ``slips``: the share of answers that have nothing to do with their item; ``slipped``,
    the log density of each as one of these. ``each``: how many answers an item has. ``both``: the row of each answer's
    item when it is read as ordinary, then those when it is read as apart.
    """

    item: Rows
    answer: Floats
    who: Labelers
    items: int
    usual: float
    slips: float
    growth: float
    slipped: Floats
    each: Rows
    both: Rows

    @classmethod
    def of(
        cls, item: Rows, answer: Floats, who: Labelers, items: int, usual: float, slips: float, growth: float
    ) -> Said:
        """Return all of it from what is not derived."""
        slipped = np.log(slips / np.pi) - np.log1p(answer**2)
        each, both = np.bincount(item, minlength=items), np.concatenate((item, item + items))
        return cls(item, answer, who, items, usual, slips, growth, slipped, each, both)

    def expected(self, value: Floats) -> Floats:
        """Return the expected square of an error on items apart ``(items,)``, in usual ones: it grows with the value."""
        return np.asarray(1.0 + self.growth * value**2)

    def total(self, weights: Floats) -> Floats:
        """Return sums by item ``(2, items)`` of the weights ``(2, answers)`` that answers have in both readings."""
        return totals(self.both, weights.ravel(), 2 * self.items).reshape(2, self.items)


@dataclass(frozen=True, slots=True)
class Readings:
    """Items as read in both ways: each array has two rows, of items as if ordinary and as if apart.

    ``(2, items)``: ``value`` and its ``variance``; ``care``, the precision of answers as a multiple of the usual one, and
    ``near``, the same of the value about the others', both at most 1; ``fits``, the log of how well the readings before
    this round explain the answers. ``kept`` ``(2, answers)``: the chance that each answer is no slip.
    """

    value: Floats
    variance: Floats
    care: Floats
    near: Floats
    fits: Floats
    kept: Floats

    def on_scale(self, level: float, scale: float) -> Readings:
        """Return the same seen from ``level`` in units of ``scale``."""
        return replace(self, value=(self.value - level) / scale, variance=self.variance / scale**2)

    def chance_apart(self, share: float) -> Floats:
        """Return the chance that each item is apart ``(items,)``, where a ``share`` of all is."""
        return np.asarray(special.expit(self.fits[1] - self.fits[0] + np.log(share / (1.0 - share))))

    def settled(self, before: Readings, share: float) -> bool:
        """Return whether they are as the round before, the sizes of errors as far as they matter."""
        moved = np.abs(self.value - before.value) / (1.0 + np.abs(before.value))
        if float(moved.max()) >= _SETTLED:
            return False
        resized = self.chance_apart(share) * np.abs(self.care[1] / before.care[1] - 1.0)
        return float(resized.max()) < _SETTLED_SIZE

    def moments(self, apart: Floats) -> tuple[Floats, Floats]:
        """Return mean and variance of each value ``(items,)``, where ``apart`` is the chance that its item is."""
        shares, between = np.array((1.0 - apart, apart)), self.value[1] - self.value[0]
        variance = (shares * self.variance).sum(axis=0) + shares[0] * shares[1] * between**2
        return self.value[0] + apart * between, variance


def begin(said: Said) -> Readings:
    """Return where readings start: at the median; if apart, with errors as large as those of the item's nearer half."""
    value = item_medians(said.item, said.answer, said.items)
    x, who = value[said.item], said.who
    unsure = who.bias_var + 2.0 * who.covariance * x + who.slope_var * x**2
    square = ((said.answer - who.bias - who.slope * x) ** 2 + unsure) / said.usual**2
    typical = item_medians(said.item, square, said.items) / _NORMAL_MEDIAN_SQUARE
    each, none, one = np.maximum(said.each, 1), np.zeros(said.items), np.ones(said.items)
    care = np.minimum(each / (said.expected(value) + each * typical), 1.0)
    return Readings(
        np.array((value, value)),
        np.zeros((2, said.items)),
        np.array((one, care)),
        np.array((one, _near(value, none))),
        np.zeros((2, said.items)),
        np.ones((2, said.answer.size)),
    )


def improve(said: Said, before: Readings) -> Readings:
    """Return both readings after one more round of variational EM."""
    who, item, answer = said.who, said.item, said.answer
    x, doubt, care = before.value[:, item], before.variance[:, item], before.care[:, item]
    unsure = who.bias_var + 2.0 * who.covariance * x + who.slope_var * (x**2 + doubt)
    aim = who.slope**2
    square = (answer - who.bias - who.slope * x) ** 2 + unsure
    # A careful labeler's deviations are slips only if they would be anybody's, and while a value is open, none is.
    anybody = np.maximum(who.spread, said.usual) ** 2 / care + aim * doubt
    meant = np.log1p(-said.slips) - 0.5 * (square / anybody + np.log(anybody) + _LOG_TAU)
    # An answer that is alone has no other to belie it.
    alone = (said.each == 1)[item]
    kept = np.where(alone, 1.0, special.expit(meant - said.slipped))
    explained = said.total(np.where(alone, meant, np.logaddexp(meant, said.slipped)))
    precision = kept / (who.spread**2 / care + unsure)
    hold = np.where(said.each > 0, HOLD, 1.0)
    variance = 1.0 / (hold + said.total(precision * aim))
    value = variance * said.total(precision * who.slope * (answer - who.bias))
    fits = explained + 0.5 * (_LOG_TAU + np.log(variance))
    fits[0] -= 0.5 * (_LOG_TAU + before.value[0] ** 2)
    fits[1] -= np.log(np.pi) + np.log1p(before.value[1] ** 2)
    heard = said.total(kept)
    missed = (answer - who.bias - who.slope * value[:, item]) ** 2 + unsure
    free = np.maximum(heard[1] - 1.0 + hold[1] * variance[1], 0.0)
    # The prior of the logarithm of care, and its width after so many answers (Laplace).
    size = before.care[1] * said.expected(before.value[1])
    fits[1] += 0.5 * (np.log(size) - size + np.log(2.0 / (1.0 + free)))
    firm = np.minimum(
        (1.0 + free) / (said.expected(value[1]) + said.total(kept * missed / who.spread**2)[1]), 1.0
    )
    after = Readings(
        value,
        variance,
        np.array((before.care[0], firm)),
        np.array((before.near[0], _near(value[1], variance[1]))),
        fits,
        kept,
    )
    lost = 2.0 * heard[1] < said.each
    return _begun_again(said, after, lost) if lost.any() else after


def _begun_again(said: Said, after: Readings, lost: NDArray[np.bool_]) -> Readings:
    """Begin to read items as apart again where most answers are lost: what labelers are held for has left them behind."""
    first, there = begin(said), np.array((np.zeros(said.items, dtype=np.bool_), lost))
    return Readings(
        np.where(there, first.value, after.value),
        np.where(there, first.variance, after.variance),
        np.where(there, first.care, after.care),
        np.where(there, first.near, after.near),
        np.where(there, -np.inf, after.fits),
        np.where(there[:, said.item], first.kept, after.kept),
    )


def chance_of_lone_slip(said: Said, readings: Readings, share: float) -> Floats:
    """Return the chance that an item's only answer is a slip ``(items,)``; 0 where there are others, or none."""
    ordinary, apart = readings.fits[0] + np.log1p(-share), readings.fits[1] + np.log(share)
    slipped = totals(said.item, said.slipped, said.items)
    return np.where(said.each == 1, special.expit(slipped - np.logaddexp(ordinary, apart)), 0.0)


def _near(value: Floats, variance: Floats) -> Floats:
    """Return the expected precision of a Cauchy value as one about the others, at most theirs."""
    return np.minimum(2.0 / (1.0 + value**2 + variance), 1.0)


def totals(row: Rows, weights: Floats, rows: int) -> Floats:
    """Return the sum of weights of each row ``(rows,)``, in their order."""
    return np.asarray(np.bincount(row, weights=weights, minlength=rows), dtype=np.float64)


def item_medians(item: Rows, answer: Floats, items: int) -> Floats:
    """Return the median answer of each item ``(items,)``; 0 where there is none. ``item`` is in order."""
    each = np.bincount(item, minlength=items)
    first = np.cumsum(each) - each
    ordered = np.append(answer[np.lexsort((answer, item))], 0.0)
    low, high = ordered[first + np.maximum(each - 1, 0) // 2], ordered[first + each // 2]
    return np.where(each > 0, low + (high - low) / 2.0, 0.0)
