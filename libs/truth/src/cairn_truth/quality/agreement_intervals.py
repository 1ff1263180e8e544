"""Intervals of agreement: of a mean, by the variance of what items add, of few that disagree, and by resampling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from ..columns import Floats, check_generator, check_probability, whole_number
from .answer_columns import AnswerColumns

_TELLING = 2.0
"""Items that disagree: of fewer, their own spread says nothing of how many there might have been."""


@dataclass(frozen=True, slots=True)
class Interval:
    """How a statistic's interval is made: at which level, and by so many resamples of items where ``rng`` is given."""

    level: float = 0.95
    rng: np.random.Generator | None = None
    resamples: int = 1000

    def __post_init__(self) -> None:
        check_probability("level", self.level)
        whole_number("resamples", self.resamples, 1)
        if self.rng is not None:
            check_generator(self.rng)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic with what each item adds to it: ``se^2`` is the variance of these ``(n,)`` over n.

    ``apart`` ``(paired items,)`` is how far each is from agreeing, 0..1; ``expected`` how far pairs by chance would be.
    """

    value: float
    parts: Floats
    apart: Floats
    expected: float


def interval_of_mean(parts: Floats, comparisons: int, level: float = 0.95) -> tuple[float, float]:
    """Return an interval for the mean of ``parts`` ``(n,)``, shares in 0..1 of items drawn from many; 0..1 from fewer
    than two.

    Clopper and Pearson's for a share of as many trials as would vary as much as the parts do, no fewer than there are
    items and no more than ``comparisons`` (Korn & Graubard 1998).
    """
    n, mean = parts.size, float(parts.mean()) if parts.size else 0.0
    if n < 2:
        return 0.0, 1.0
    spread = float(np.mean((parts - mean) ** 2))
    tail = (1.0 - level) / 2.0
    known = (float(special.ndtri(tail)) / float(special.stdtrit(n - 1.0, tail))) ** 2
    trials = float(max(comparisons, n))
    if spread > 0.0:
        trials = min(max(known * n * mean * (1.0 - mean) / spread, float(n)), trials)
    hits = trials * mean
    misses = trials - hits
    low = float(special.betaincinv(hits, misses + 1.0, tail)) if hits > 0.0 else 0.0
    high = float(special.betaincinv(hits + 1.0, misses, 1.0 - tail)) if misses > 0.0 else 1.0
    return min(low, mean), max(high, mean)


def analytic(found: Estimate, level: float) -> tuple[float, float]:
    """Return the interval by the variance of what items add (Gwet 2014, chapter 5); -1..1 from fewer than two."""
    n = found.parts.size
    if n < 2:
        return -1.0, 1.0
    away = float(special.stdtrit(n - 1.0, 0.5 + level / 2.0)) * _variance(found) ** 0.5
    return found.value - away, found.value + away


def _variance(found: Estimate) -> float:
    n = found.parts.size
    return float(np.sum((found.parts - found.value) ** 2)) / n / (n - 1.0)


def of_few(found: Estimate, level: float) -> float:
    """Return the lower end where few items disagree, 1 where enough do (by Kish's effective number of them)."""
    total = float(found.apart.sum())
    if total**2 >= _TELLING * float(np.sum(found.apart**2)) and total > 0.0:
        return 1.0
    one = 1.0 / found.apart.size / found.expected
    mean, spread = 1.0 - found.value + one, _variance(found) + one**2
    return 1.0 - spread / mean * float(special.gammainccinv(mean**2 / spread, (1.0 - level) / 2.0))


def bootstrapped(
    estimate: Callable[[AnswerColumns], Estimate],
    answers: AnswerColumns,
    interval: Interval,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Return percentiles over items drawn anew; draws on which the statistic is not defined are left out."""
    each = answers.each()
    first, items = np.cumsum(each) - each, each.size
    found = []
    for _ in range(int(interval.resamples)):
        drawn = rng.integers(0, items, items)
        size = each[drawn]
        row = np.repeat(np.arange(items), size)
        at = np.arange(row.size) - np.repeat(np.cumsum(size) - size, size) + first[drawn][row]
        try:
            found.append(
                estimate(replace(answers, item=row, labeler=answers.labeler[at], x=answers.x[at])).value
            )
        except ValueError:
            continue
    if not found:
        raise ValueError(
            f"the statistic is not defined on any of {interval.resamples} resamples; expected more items"
        )
    low, high = np.quantile(found, [0.5 - interval.level / 2.0, 0.5 + interval.level / 2.0])
    return float(low), float(high)
