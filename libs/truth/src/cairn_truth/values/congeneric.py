"""Numbers from labelers who differ in level, in scale and in care: the congeneric model, fitted to columns of answers.

``y = mean + bias[labeler] + slope[labeler] * (x[item] - mean) + spread[labeler] * normal``

is the congeneric test model of Joereskog (1971), with priors learnt from the crowd: ``x ~ N(mean, sd^2)``,
``bias ~ N(0, bias_sd^2)``, ``slope ~ N(1, slope_sd^2)``, ``spread^2`` leaning on the crowd's. A labeler who answers the
same whatever the item has slope 0 and says nothing, which neither a bias nor a spread can express. With a small
probability an answer is a slip that has nothing to do with the item (the contaminated normal of Box & Tiao 1968; the
slips are Cauchy, so that no answer is too large to be one), and an item is apart from the others, see
`number_readings`. Fitted by variational EM.

Answers cannot tell the crowd's scale from the truth's, so ``x`` is on that of the plain mean: biases average to zero
and slopes to one over all answers. Posterior means vary less than what they estimate; a value is therefore stretched
by what they were shrunk on average (constrained Bayes: Louis 1984, Ghosh 1992), so that where all labelers are alike
it is the plain mean.

Known items show the truth's level and scale: the truth is one more labeler, drawn like the others, whose bias and slope
are learnt by regressing known items on what the crowd says of them. Until then a truth is as far from the crowd's
scale as a labeler's scale is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..columns import Floats
from .number_crowd import Labelers, Population, Rows
from .number_readings import (
    HOLD,
    Readings,
    Said,
    begin,
    chance_of_lone_slip,
    improve,
    item_medians,
    totals,
)

_SPREAD_STRENGTH, _LEAST_STRENGTH, _MOST_STRENGTH = 10.0, 4.0, 200.0
"""Answers as which the crowd's spread counts in a labeler's own: at first, and the limits of what is learnt."""

_SLIPS = 0.01
_SLIP_STRENGTH = 100.0
"""One slip in a hundred answers, believed as if seen in a hundred."""

_GOLD_STRENGTH = 10.0
"""Known items as which the error expected of the crowd counts in the error that known items show."""

_SHARED_NOISE = 0.5
"""The error expected of the crowd once truths are known, until they show it: this share of one answer's variance.

What a crowd errs alike is more than a model of independent errors can say of it.
"""

_SLOPE_SD = 0.5
_BIAS_SD = 0.5
"""Where the first round starts: half the scale, half the values' standard deviation."""

_NOISE_SHARE = 0.2
"""Of all variance, where no item has two answers that could tell it from the values' own."""

_ROUNDS = 60
_SETTLED = 1e-6
"""Largest change of a value, in the values' standard deviations, that is none."""

_ITEM_ROUNDS = 12
"""A single item's slips and value agree long before that."""

_APART = 0.01
_APART_STRENGTH = 100.0
"""One item in a hundred is apart, believed as if seen in a hundred."""

_FARTHEST = 1e100
"""Answers so many usual deviations away are moved to there: squares of larger numbers have no place in a double."""

_WINSOR = 4.0
"""Usual deviations beyond which one counts as just that: hardly any of a normal crowd's, all of a slip's."""

_LEAST_RELIABILITY = 0.05
"""Values are never stretched to more than twenty times what was left of them."""

_LEAST_WIDTH = 1e-100
"""Answers that differ by less are equal: squares of smaller numbers have no place in a double."""

_SMALLEST = 1e-6
"""Spread, in units of the values' width, below which all answers count as equal."""


@dataclass(frozen=True, slots=True)
class Estimates:
    """Of each item ``(items,)``: ``value``; ``variance`` of what an endless crowd of such labelers would say;
    ``truth_variance`` of the truth, whose level and scale may differ from the crowd's as a labeler's do. Of each answer
    ``(answers,)``: ``weight``, its share of the value.
    """

    value: Floats
    variance: Floats
    truth_variance: Floats
    weight: Floats


def estimate(item: Rows, answer: Floats, who: Labelers, items: int, crowd: Population) -> Estimates:
    """Return what answers say of their items, labelers as they stand.

    ``item`` and ``answer`` ``(answers,)``, in order of item; ``who`` holds a row for each answer.
    """
    away = np.minimum(np.maximum((answer - crowd.mean) / crowd.sd, -_FARTHEST), _FARTHEST)
    said = Said.of(
        item, away, who.in_units(crowd.sd), items, crowd.noise / crowd.sd, crowd.slips, crowd.growth
    )
    readings = begin(said)
    for _ in range(_ITEM_ROUNDS):
        before, readings = readings, improve(said, readings)
        if readings.settled(before, crowd.apart):
            break
    apart = readings.chance_apart(crowd.apart)
    values, variance, truth_variance, weight = _told(said, readings, crowd)
    likelier, shares = (apart > 0.5).astype(np.int64), np.array((1.0 - apart, apart))
    value = np.where(likelier, values[1], values[0])
    # How far the other reading is adds to the doubt; so does it that an answer alone may be a slip.
    doubt = (shares * (values - value) ** 2).sum(axis=0)
    doubt += chance_of_lone_slip(said, readings, crowd.apart) * ((value - crowd.mean) ** 2 + crowd.sd**2)
    return Estimates(
        value,
        (shares * variance).sum(axis=0) + doubt,
        (shares * truth_variance).sum(axis=0) + doubt,
        np.where(likelier[item], weight[1], weight[0]),
    )


def _told(said: Said, readings: Readings, crowd: Population) -> tuple[Floats, Floats, Floats, Floats]:
    """Return what `Estimates` holds for each reading, ``(2, items)`` and ``(2, answers)``, in the answers' unit."""
    own, item, value, variance = said.who, said.item, readings.value, readings.variance
    x = value[:, item]
    unsure = own.bias_var + 2.0 * own.covariance * x + own.slope_var * x**2
    precision = readings.kept / (own.spread**2 / readings.care[:, item] + unsure) * own.slope**2
    weight = precision / (said.total(precision) + HOLD)[:, item]
    # Only a value that is held near the others was shrunk.
    shrunk = np.where(HOLD == 1.0, np.maximum(1.0 - variance, _LEAST_RELIABILITY), 1.0)
    stretch = np.minimum(1.0 / shrunk, 1.0 / crowd.reliability)
    # Known items show the true scale: as far as they do, the best estimate is the one that is not stretched.
    truth = crowd.truth.in_units(crowd.sd)
    open_still = min(float(truth.slope_var[0]) / max(crowd.slope_sd, _SLOPE_SD) ** 2, 1.0)
    stretch = 1.0 + (stretch - 1.0) * (open_still if crowd.gold else 1.0)
    # What the stretch adds to the error, averaged over items known as well as this one.
    more = (stretch - 1.0) ** 2 * np.maximum(1.0 - variance, 0.0)
    spread = truth.slope**2 * (variance + more) + truth.spread**2
    scale = truth.bias_var + 2.0 * truth.covariance * value + truth.slope_var * value**2
    shared = (crowd.bias_sd / crowd.sd) ** 2 + (crowd.slope_sd * value) ** 2
    return (
        crowd.mean + crowd.sd * (truth.bias + truth.slope * stretch * value),
        crowd.sd**2 * (spread + np.minimum(scale, shared / crowd.labelers)),
        crowd.sd**2 * (spread + scale),
        weight,
    )


def fit(
    item: Rows, labeler: Rows, answer: Floats, known: Floats, labelers: int, scale: float
) -> tuple[Population, Labelers]:
    """Fit everything to all answers.

    ``item``, ``labeler`` and ``answer`` ``(answers,)``, at least one, in order of item; ``known`` ``(items,)``, nan
    where the truth is not known; ``scale``: how far apart answers are where they do not show it. Linear in answers.
    """
    middle = float(np.median(answer))
    width = _usual(answer - middle, scale)
    said = np.clip((answer - middle) / width, -_FARTHEST, _FARTHEST)
    truth = np.clip((known - middle) / width, -_FARTHEST, _FARTHEST)
    found = _Fit(item, labeler, said, truth, labelers)
    for _ in range(_ROUNDS):
        if found.round() < _SETTLED:
            break
    return found.result(middle, width)


class _Fit:
    """Variational EM in units of ``width`` about ``middle``; a round is an E step, an M step and the anchoring."""

    def __init__(self, item: Rows, labeler: Rows, said: Floats, truth: Floats, labelers: int) -> None:
        self.item, self.labeler, self.said, self.truth = item, labeler, said, truth
        self.items, self.labelers = truth.size, labelers
        self.gold = ~np.isnan(truth)
        self.each = np.bincount(item, minlength=self.items)
        self.witnessed = ((self.each > 1) | self.gold)[item]
        start = item_medians(item, said, self.items)
        near = np.clip(start, *_winsor_limits(start))
        total = max(float(np.var(np.clip(said, *_winsor_limits(said)))), _SMALLEST**2)
        residual = said - start[item]
        more = int(np.maximum(self.each - 1, 0).sum())
        limits = _winsor_limits(residual[self.each[item] > 1])
        noise = float(np.sum(np.clip(residual, *limits) ** 2)) / more if more else _NOISE_SHARE * total
        self.noise = min(max(noise, _SMALLEST**2), total)
        self.var = max(total - self.noise, _NOISE_SHARE * total)
        self.mean = float(near.mean())
        self.slips, self.apart, self.growth = _SLIPS, _APART, 0.0
        self.bias_var, self.slope_var = _BIAS_SD**2 * self.var, _SLOPE_SD**2
        nothing = np.zeros(labelers)
        self.own = Labelers(
            nothing, nothing + 1.0, nothing + self.noise**0.5, nothing, nothing.copy(), nothing.copy()
        )
        self.readings = begin(self._said())
        self._mix(np.full(self.items, _APART))
        self._meet_truth()

    def round(self) -> float:
        """Improve everything once; return by how much values moved, in their standard deviations."""
        sd = self.var**0.5
        before = (self.value - self.mean) / sd
        self.readings = improve(self._said(), self.readings)
        apart = self.readings.chance_apart(self.apart)
        self._mix(apart)
        moved = np.abs((self.value - self.mean) / sd - before) / (1.0 + np.abs(before))
        self._meet_truth()
        self._learn(apart)
        return float(moved.max())

    def _said(self) -> Said:
        """Return the answers in units of the values' standard deviation about their mean."""
        sd = self.var**0.5
        who = self.own.take(self.labeler).in_units(sd)
        away = (self.said - self.mean) / sd
        return Said.of(self.item, away, who, self.items, self.noise**0.5 / sd, self.slips, self.growth)

    def _mix(self, apart: Floats) -> None:
        """Take into use what both readings of each item come to, where ``apart`` is the chance that it is."""
        sd = self.var**0.5
        value, variance = self.readings.moments(apart)
        self.value, self.variance = self.mean + sd * value, self.var * variance
        self.near = 1.0 - apart + apart * self.readings.near[1]
        ordinary = np.maximum(1.0 - apart, _SMALLEST)
        self.reliability = 1.0 - float(ordinary @ self.readings.variance[0] / ordinary.sum())

    def _learn(self, apart: Floats) -> None:
        """Learn of items and of labelers from both readings of each item.

        An item counts only as much as it is near the others, or the farthest would decide on everybody's slope (bounded
        leverage: Mallows 1975). An answer that is alone tells nothing of who gave it.
        """
        sd, read, place = self.var**0.5, self.readings, self.item
        shares = np.array((1.0 - apart, apart))
        lost = float((shares[:, place] * (1.0 - read.kept)).sum())
        self.slips = (lost + _SLIPS * _SLIP_STRENGTH) / (int(self.witnessed.sum()) + _SLIP_STRENGTH)
        self.apart = (float(apart.sum()) + _APART * _APART_STRENGTH) / (self.items + _APART_STRENGTH)
        # The square of an error on an item apart is expected to be 1 + growth * value^2 usual ones.
        other, care = apart * (self.each > 1), read.care[1]
        self.growth = float(other @ (1.0 - care) / (other @ (care * read.value[1] ** 2) + 1.0))
        value, variance = self._with_truth(self.mean + sd * read.value, self.var * read.variance)
        weight = shares * read.near
        mean = float((weight * value).sum() / weight.sum())
        self.var = max(float((weight * ((value - mean) ** 2 + variance)).sum()) / self.items, _SMALLEST**2)
        self.readings = read.on_scale((mean - self.mean) / sd, self.var**0.5 / sd)
        self.mean = mean
        heard = np.where(self.witnessed, read.kept * weight[:, place], 0.0)
        if self.witnessed.any():
            self._learn_labelers((value - mean)[:, place], variance[:, place], heard, read.care[:, place])
            self._anchor(self._sum(heard))

    def _meet_truth(self) -> None:
        """Regress known items on what the crowd says of them."""
        x, doubt = (self.value - self.mean)[self.gold], self.variance[self.gold]
        said = self.truth[self.gold] - self.mean
        square = np.full(1, self.noise / max(float(self.each.mean()), 1.0))
        none, near = np.zeros(said.size, dtype=np.int64), self.near[self.gold]
        for _ in range(_ITEM_ROUNDS if said.size else 1):
            bias, slope, bias_var, slope_var, covariance = _regressed(
                none, near / square[0], x, x**2, said, self._truth_prior(), 1
            )
            own = slope**2 * (float(near @ doubt / near.sum()) if said.size else 0.0)
            error = float(near @ (said - bias - slope * x) ** 2)
            expected = _GOLD_STRENGTH * np.maximum(own, _SHARED_NOISE * self.noise)
            square = np.maximum((error + expected) / (float(near.sum()) + _GOLD_STRENGTH), _SMALLEST**2)
        beyond = np.sqrt(np.maximum(square - own, 0.0)) if said.size else np.zeros(1)
        self.one_more = Labelers(bias, slope, beyond, bias_var, slope_var, covariance)

    def _truth_prior(self) -> tuple[float, float]:
        """Return variances of the truth's bias and slope: as labelers', but open to what known items may say."""
        if not self.gold.any():
            return self.bias_var, self.slope_var
        return max(self.bias_var, _BIAS_SD**2 * self.var), max(self.slope_var, _SLOPE_SD**2)

    def _with_truth(self, value: Floats, variance: Floats) -> tuple[Floats, Floats]:
        """Return values and variances ``(2, items)`` where what is known of an item is one more answer to it."""
        truth, there = self.one_more, self.gold
        precision = truth.slope[0] ** 2 / max(float(truth.spread[0] ** 2), 1e-3 * self.noise)
        shifted = (self.truth - self.mean - truth.bias[0]) / (truth.slope[0] or 1.0)
        variance = np.where(there, 1.0 / (1.0 / np.maximum(variance, _SMALLEST**2) + precision), variance)
        away = value - self.mean
        away = away + np.where(there, precision * variance * (np.where(there, shifted, 0.0) - away), 0.0)
        return self.mean + away, variance

    def _learn_labelers(self, x: Floats, doubt: Floats, heard: Floats, care: Floats) -> None:
        """Regress each labeler's answers on the values, ``x`` from their mean; all ``(2, answers)``."""
        who, said, xx = self.labeler, self.said - self.mean, x**2 + doubt
        precision = heard * care / self.own.spread[who] ** 2
        bias, slope, bias_var, slope_var, covariance = _regressed(
            np.tile(who, 2),
            precision.ravel(),
            x.ravel(),
            xx.ravel(),
            np.tile(said, 2),
            (self.bias_var, self.slope_var),
            self.labelers,
        )
        least = _SMALLEST**2
        self.bias_var = max(float(np.mean(bias**2 + bias_var)), least)
        self.slope_var = max(float(np.mean((slope - 1.0) ** 2 + slope_var)), least)
        square = (said - bias[who] - slope[who] * x) ** 2 + slope[who] ** 2 * doubt
        square += bias_var[who] + 2.0 * covariance[who] * x + slope_var[who] * xx
        sums, answers = self._sum(heard * care * square), self._sum(heard)
        self.noise = max(float(sums.sum() / max(answers.sum(), least)), least)
        strength = self._spread_strength(sums, answers)
        spread = np.sqrt((sums + strength * self.noise) / (answers + strength))
        self.own = Labelers(bias, slope, spread, bias_var, slope_var, covariance)

    def _spread_strength(self, sums: Floats, heard: Floats) -> float:
        """Return as how many answers the crowd's spread counts in a labeler's own: the more, the more alike all are.

        Of squared errors' means by labeler, chance alone makes the relative variance 2 / answers; what is more is how
        much variances truly differ, ``2 / strength`` where they are inverse gamma (by moments, to first order).
        """
        strength = _SPREAD_STRENGTH
        for _ in range(2):
            relative = sums / np.maximum(heard, 1.0) / self.noise - 1.0
            share = heard / (1.0 + heard / strength)  # inverse variance of a labeler's term
            more = float(share @ (relative**2 - 2.0 / np.maximum(heard, 1.0))) / max(
                float(share.sum()), 1e-12
            )
            strength = 2.0 / min(max(more, 2.0 / _MOST_STRENGTH), 2.0 / _LEAST_STRENGTH)
        return strength

    def _anchor(self, heard: Floats) -> None:
        """Put values on the scale of the plain mean: the average labeler has no bias and slope one."""
        own, total = self.own, float(heard.sum())
        scale = float(heard @ own.slope) / total if total > 0.0 else 1.0
        level = float(heard @ own.bias) / total if total > 0.0 else 0.0
        if scale < _LEAST_RELIABILITY:  # labelers contradict each other: there is no scale to speak of
            scale = 1.0
        self.value = self.mean + level + (self.value - self.mean) * scale
        self.variance = self.variance * scale**2
        before = self.var**0.5 * scale
        self.mean, self.var = self.mean + level, max(self.var * scale**2, _SMALLEST**2)
        self.readings = self.readings.on_scale(0.0, self.var**0.5 / before)
        self.own = Labelers(
            own.bias - level,
            own.slope / scale,
            own.spread,
            own.bias_var,
            own.slope_var / scale**2,
            own.covariance / scale,
        )

    def result(self, middle: float, width: float) -> tuple[Population, Labelers]:
        """Return the fit in the answers' own unit."""
        usual = _usual(self.value - float(np.median(self.value)), 0.0)
        reliability = max(self.reliability, _LEAST_RELIABILITY)
        self._meet_truth()
        crowd = Population(
            mean=middle + width * self.mean,
            sd=width * self.var**0.5,
            noise=width * self.noise**0.5,
            bias_sd=width * self.bias_var**0.5,
            slope_sd=self.slope_var**0.5,
            slips=self.slips,
            apart=self.apart,
            growth=self.growth,
            usual=width * usual / reliability**0.5,
            reliability=reliability,
            labelers=self.labeler.size**2 / float(np.sum(np.bincount(self.labeler) ** 2)),
            gold=float(self.gold.sum()),
            truth=self.one_more.in_units(1.0 / width),
        )
        return crowd, self.own.in_units(1.0 / width)

    def _sum(self, weights: Floats) -> Floats:
        """Return sums by labeler of weights ``(2, answers)``."""
        return totals(np.tile(self.labeler, 2), weights.ravel(), self.labelers)


def _regressed(
    who: Rows, precision: Floats, x: Floats, xx: Floats, said: Floats, prior: tuple[float, float], people: int
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Return bias and slope of each labeler, their variances and covariance, each ``(people,)``.

    ``x`` and ``xx``: expected value and square of what each answer is of; ``prior``: variances of bias and slope.
    """

    def total(weights: Floats) -> Floats:
        return totals(who, weights, people)

    at_bias, at_slope = total(precision) + 1.0 / prior[0], total(precision * xx) + 1.0 / prior[1]
    both = total(precision * x)
    level, climb = total(precision * said), total(precision * x * said) + 1.0 / prior[1]
    det = at_bias * at_slope - both**2
    bias, slope = (at_slope * level - both * climb) / det, (at_bias * climb - both * level) / det
    return bias, slope, at_slope / det, at_bias / det, -both / det


def _usual(deviation: Floats, scale: float) -> float:
    """Return the size of a usual deviation, whatever the size of up to a tenth of them.

    Where nine of ten are 0 it is the least of the others, but at most ``scale``; ``scale`` if there is none.
    """
    size = np.abs(deviation)
    usual = max(1.4826 * float(np.median(size)), float(np.quantile(size, 0.9)) / 1.645)
    return max(usual or float(np.min(size[size > 0.0], initial=scale)), _LEAST_WIDTH)


def _winsor_limits(values: Floats) -> tuple[float, float]:
    if not values.size:
        return 0.0, 0.0
    middle = float(np.median(values))
    most = _WINSOR * _usual(values - middle, 1.0)
    return middle - most, middle + most
