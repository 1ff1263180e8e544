"""Numbers from labelers who differ in level, in scale and in care: the congeneric model, fitted to columns of answers.

``y = mean + bias[labeler] + slope[labeler] * (x[item] - mean) + spread[labeler] * normal``

is the congeneric test model of Joereskog (1971), with priors learnt from the crowd: ``x ~ N(mean, sd^2)``,
``bias ~ N(0, bias_sd^2)``, ``slope ~ N(1, slope_sd^2)``, ``spread^2`` leaning on the crowd's. A labeler who answers the
same whatever the item has slope 0 and says nothing, which neither a bias nor a spread can express. With a small
probability an answer is a slip that has nothing to do with the item (the contaminated normal of Box & Tiao 1968; the
slips are Cauchy, so that no answer is too large to be one). Fitted by variational EM.

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

_GROSS = 1e4
"""Answers so many usual deviations away are moved to there: they weigh nothing as they are."""

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
    with np.errstate(over="ignore"):
        said = np.clip((answer - crowd.mean) / crowd.sd, -_GROSS, _GROSS)
    own = who.in_units(crowd.sd)
    value, variance = item_medians(item, said, items), np.zeros(items)
    for _ in range(_ITEM_ROUNDS):
        kept = _kept(item, said, own, value, variance, crowd.slips, crowd.noise / crowd.sd)
        before = value
        value, variance = _posterior(item, said, own, kept, items)
        if np.abs(value - before).max() < _SETTLED:
            break
    weight = kept / own.spread**2 * (own.slope**2 + own.slope_var) * variance[item]
    shrunk = np.maximum(1.0 - variance, _LEAST_RELIABILITY)
    stretch = np.minimum(1.0 / shrunk, 1.0 / crowd.reliability)
    # Known items show the true scale: as far as they do, the best estimate is the one that is not stretched.
    truth = crowd.truth.in_units(crowd.sd)
    open_still = min(float(truth.slope_var[0]) / max(crowd.slope_sd, _SLOPE_SD) ** 2, 1.0)
    stretch = 1.0 + (stretch - 1.0) * (open_still if crowd.gold else 1.0)
    # What the stretch adds to the error, averaged over items known as well as this one.
    spread = truth.slope**2 * (variance + (stretch - 1.0) ** 2 * (1.0 - variance)) + truth.spread**2
    scale = truth.bias_var + 2.0 * truth.covariance * value + truth.slope_var * value**2
    shared = (crowd.bias_sd / crowd.sd) ** 2 + (crowd.slope_sd * value) ** 2
    return Estimates(
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
    with np.errstate(over="ignore"):
        said = np.clip((answer - middle) / width, -_GROSS, _GROSS)
    truth = np.clip((known - middle) / width, -_GROSS, _GROSS)
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
        self.slips, self.bias_var, self.slope_var = _SLIPS, _BIAS_SD**2 * self.var, _SLOPE_SD**2
        nothing = np.zeros(labelers)
        self.own = Labelers(
            nothing, nothing + 1.0, nothing + self.noise**0.5, nothing, nothing.copy(), nothing.copy()
        )
        self.value, self.variance = start, np.zeros(self.items)
        self._meet_truth()

    def round(self) -> float:
        """Improve everything once; return by how much values moved, in their standard deviations."""
        sd = self.var**0.5
        value, variance, kept = self._values(sd)
        moved = float(np.abs(value - self.value).max() / sd)
        self.value, self.variance = value, variance
        self._meet_truth()
        value, variance = self._with_truth()
        self.mean = float(value.mean())
        away = value - self.mean
        self.var = max(float(np.mean(away**2 + variance)), _SMALLEST**2)
        self._learn_labelers(away, variance, kept)
        self._anchor(self._sum(kept))
        return moved

    def _values(self, sd: float) -> tuple[Floats, Floats, Floats]:
        """Return values, their variances and the chance that each answer is no slip."""
        own = self.own.take(self.labeler).in_units(sd)
        said = (self.said - self.mean) / sd
        value, variance = (self.value - self.mean) / sd, self.variance / sd**2
        kept = _kept(self.item, said, own, value, variance, self.slips, self.noise**0.5 / sd)
        value, variance = _posterior(self.item, said, own, kept, self.items)
        lost = float((1.0 - kept).sum())
        self.slips = (lost + _SLIPS * _SLIP_STRENGTH) / (kept.size + _SLIP_STRENGTH)
        return self.mean + sd * value, sd**2 * variance, kept

    def _meet_truth(self) -> None:
        """Regress known items on what the crowd says of them."""
        x, doubt = (self.value - self.mean)[self.gold], self.variance[self.gold]
        said = self.truth[self.gold] - self.mean
        square = np.full(1, self.noise / max(float(self.each.mean()), 1.0))
        none, one = np.zeros(said.size, dtype=np.int64), np.ones(said.size)
        for _ in range(_ITEM_ROUNDS if said.size else 1):
            bias, slope, bias_var, slope_var, covariance = _regressed(
                none, one / square[0], x, x**2, said, self._truth_prior(), 1
            )
            own = slope**2 * (float(doubt.mean()) if said.size else 0.0)
            error = float(np.sum((said - bias - slope * x) ** 2))
            expected = _GOLD_STRENGTH * np.maximum(own, _SHARED_NOISE * self.noise)
            square = np.maximum((error + expected) / (said.size + _GOLD_STRENGTH), _SMALLEST**2)
        beyond = np.sqrt(np.maximum(square - own, 0.0)) if said.size else np.zeros(1)
        self.one_more = Labelers(bias, slope, beyond, bias_var, slope_var, covariance)

    def _truth_prior(self) -> tuple[float, float]:
        """Return variances of the truth's bias and slope: as labelers', but open to what known items may say."""
        if not self.gold.any():
            return self.bias_var, self.slope_var
        return max(self.bias_var, _BIAS_SD**2 * self.var), max(self.slope_var, _SLOPE_SD**2)

    def _with_truth(self) -> tuple[Floats, Floats]:
        """Return values and variances where what is known of an item is one more answer to it."""
        truth, there = self.one_more, self.gold
        precision = truth.slope[0] ** 2 / max(float(truth.spread[0] ** 2), 1e-3 * self.noise)
        shifted = (self.truth - self.mean - truth.bias[0]) / (truth.slope[0] or 1.0)
        variance = np.where(
            there, 1.0 / (1.0 / np.maximum(self.variance, _SMALLEST**2) + precision), self.variance
        )
        gain = precision * variance
        away = self.value - self.mean
        return self.mean + np.where(
            there, away + gain * (np.where(there, shifted, 0.0) - away), away
        ), variance

    def _learn_labelers(self, away: Floats, variance: Floats, kept: Floats) -> None:
        """Regress each labeler's answers on the values, ``away`` from their mean."""
        who, x, said = self.labeler, away[self.item], self.said - self.mean
        doubt = variance[self.item]
        xx = x**2 + doubt
        precision = kept / self.own.spread[who] ** 2
        bias, slope, bias_var, slope_var, covariance = _regressed(
            who, precision, x, xx, said, (self.bias_var, self.slope_var), self.labelers
        )
        least = _SMALLEST**2
        self.bias_var = max(float(np.mean(bias**2 + bias_var)), least)
        self.slope_var = max(float(np.mean((slope - 1.0) ** 2 + slope_var)), least)
        square = (said - bias[who] - slope[who] * x) ** 2 + slope[who] ** 2 * doubt
        square += bias_var[who] + 2.0 * covariance[who] * x + slope_var[who] * xx
        sums, heard = self._sum(kept * square), self._sum(kept)
        self.noise = max(float(sums.sum() / max(heard.sum(), least)), least)
        strength = self._spread_strength(sums, heard)
        spread = np.sqrt((sums + strength * self.noise) / (heard + strength))
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
        self.mean, self.var = self.mean + level, max(self.var * scale**2, _SMALLEST**2)
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
        heard = self.variance[self.each > 0]
        reliability = 1.0 - float(heard.mean()) / self.var
        self._meet_truth()
        crowd = Population(
            mean=middle + width * self.mean,
            sd=width * self.var**0.5,
            noise=width * self.noise**0.5,
            bias_sd=width * self.bias_var**0.5,
            slope_sd=self.slope_var**0.5,
            slips=self.slips,
            reliability=max(reliability, _LEAST_RELIABILITY),
            labelers=self.labeler.size**2 / float(np.sum(np.bincount(self.labeler) ** 2)),
            gold=float(self.gold.sum()),
            truth=self.one_more.in_units(1.0 / width),
        )
        return crowd, self.own.in_units(1.0 / width)

    def _sum(self, weights: Floats) -> Floats:
        return _totals(self.labeler, weights, self.labelers)


def _kept(
    item: Rows, said: Floats, own: Labelers, value: Floats, variance: Floats, slips: float, noise: float
) -> Floats:
    """Return the chance that each answer is no slip ``(answers,)``; in units of the values' sd about their mean."""
    x, doubt = value[item], variance[item]
    square = (said - own.bias - own.slope * x) ** 2 + own.slope**2 * doubt
    square += own.bias_var + 2.0 * own.covariance * x + own.slope_var * (x**2 + doubt)
    # A careful labeler's deviations are slips only if they would be anybody's.
    spread = np.maximum(own.spread, noise)
    meant = -0.5 * square / spread**2 - np.log(spread) - 0.5 * np.log(2.0 * np.pi)
    slipped = -np.log(np.pi) - np.log1p(said**2)
    odds = np.log1p(-slips) - np.log(slips) + meant - slipped
    return np.asarray(1.0 / (1.0 + np.exp(np.clip(-odds, None, 500.0))))


def _posterior(item: Rows, said: Floats, own: Labelers, kept: Floats, items: int) -> tuple[Floats, Floats]:
    """Return mean and variance of each item's value ``(items,)``; in units of the values' sd about their mean."""
    precision = kept / own.spread**2
    total = 1.0 + _totals(item, precision * (own.slope**2 + own.slope_var), items)
    pull = _totals(item, precision * (own.slope * (said - own.bias) - own.covariance), items)
    return pull / total, 1.0 / total


def _totals(row: Rows, weights: Floats, rows: int) -> Floats:
    """Return the sum of weights of each row, in their order."""
    return np.asarray(np.bincount(row, weights=weights, minlength=rows), dtype=np.float64)


def _regressed(
    who: Rows, precision: Floats, x: Floats, xx: Floats, said: Floats, prior: tuple[float, float], people: int
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Return bias and slope of each labeler, their variances and covariance, each ``(people,)``.

    ``x`` and ``xx``: expected value and square of what each answer is of; ``prior``: variances of bias and slope.
    """

    def total(weights: Floats) -> Floats:
        return _totals(who, weights, people)

    at_bias, at_slope = total(precision) + 1.0 / prior[0], total(precision * xx) + 1.0 / prior[1]
    both = total(precision * x)
    level, climb = total(precision * said), total(precision * x * said) + 1.0 / prior[1]
    det = at_bias * at_slope - both**2
    bias, slope = (at_slope * level - both * climb) / det, (at_bias * climb - both * level) / det
    return bias, slope, at_slope / det, at_bias / det, -both / det


def item_medians(item: Rows, answer: Floats, items: int) -> Floats:
    """Return the median answer of each item ``(items,)``; 0 where there is none. ``item`` is in order."""
    each = np.bincount(item, minlength=items)
    first = np.cumsum(each) - each
    ordered = np.append(answer[np.lexsort((answer, item))], 0.0)
    low, high = ordered[first + np.maximum(each - 1, 0) // 2], ordered[first + each // 2]
    return np.where(each > 0, low + (high - low) / 2.0, 0.0)


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
