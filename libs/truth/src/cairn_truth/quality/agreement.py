"""Do labelers agree more than chance would have them? Krippendorff's alpha, kappas, Gwet's coefficients, with intervals.

All take columns ``item``, ``labeler`` and ``value``, one entry an answer, anything missing left out; a labeler's later
answer to an item replaces the earlier. Items of one answer have no pair: the kappas and Gwet's coefficients learn from
them how frequent classes are (Gwet 2014), alpha leaves them out (Krippendorff 2004).

Intervals are for items drawn from many, labelers as they are: of raw agreement Clopper and Pearson's, of as many items
as would vary as much (Korn & Graubard 1998); of the rest analytic (Gwet 2014, chapters 5 and 6), or, with an
`Interval` that has an ``rng``, bootstrapped over items. Where less than two items' worth of disagreement is seen,
neither has a variance to go by: the lower end is then that of a count so rare, one more missed (Fay & Feuer 1997).

Agreement beyond chance is not defined where chance alone is certain to agree: ValueError says so, nan is never returned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ..columns import Floats, check_instance
from .agreement_intervals import Estimate, Interval, analytic, bootstrapped, interval_of_mean, of_few
from .answer_columns import AnswerColumns, read_columns
from .distances import Absolute, Distance, Ratio, Rows, Squared, Unequal, mid_ranks

__all__ = [
    "Agreement", "Interval", "Level", "Weights", "cohen_kappa", "fleiss_kappa", "gwet_ac", "krippendorff_alpha",
    "raw_agreement", "scott_pi",
]  # fmt: skip

Level = Literal["nominal", "ordinal", "interval", "ratio"]
"""What may be done with values: tell them apart, order, subtract, divide them."""

Weights = Literal["identity", "linear", "quadratic"]
"""How far from agreement two values are: wholly unless equal, by their difference, by its square."""

_DISTANCES: dict[str, Distance] = {
    "identity": Unequal(),
    "linear": Absolute(),
    "quadratic": Squared(),
    "nominal": Unequal(),
    "ordinal": Squared(),
    "interval": Squared(),
    "ratio": Ratio(),
}


_ANALYTIC = Interval()


@dataclass(frozen=True, slots=True)
class Agreement:
    """A statistic with its interval; ``items`` are those with two answers and more, ``answers`` those it is made of.

    From a single item no interval can be told: it is then all of the statistic's range.
    """

    statistic: str
    value: float
    low: float
    high: float
    items: int
    labelers: int
    answers: int


def krippendorff_alpha(
    item: ArrayLike,
    labeler: ArrayLike,
    value: ArrayLike,
    level: Level = "nominal",
    *,
    categories: Sequence[Any] | None = None,
    interval: Interval = _ANALYTIC,
) -> Agreement:
    """Return Krippendorff's alpha: one less observed over expected disagreement of pairable answers.

    ``level``: "nominal", "ordinal", "interval" or "ratio". ``categories``: all values in order, needed where ordered
    values are not numbers. Cost N log N, for ``ratio`` also the
    square of the number of distinct values. Raises ValueError where nothing is pairable or all answers are one value.
    """
    _known(level, ("nominal", "ordinal", "interval", "ratio"), "level")
    answers = read_columns(item, labeler, value, categories, ordered=level != "nominal")
    if level == "ratio" and (answers.x < 0.0).any():
        raise ValueError("a value is below 0; expected 0 or more at level ratio")
    answers = answers.of_items(answers.each() >= 2)

    def alpha(some: AnswerColumns) -> Estimate:
        return _alpha(replace(some, x=mid_ranks(some.x)) if level == "ordinal" else some, _DISTANCES[level])

    return _told(f"Krippendorff's alpha, {level}", alpha, answers, interval)


def fleiss_kappa(
    item: ArrayLike,
    labeler: ArrayLike,
    value: ArrayLike,
    weights: Weights = "identity",
    *,
    categories: Sequence[Any] | None = None,
    interval: Interval = _ANALYTIC,
) -> Agreement:
    """Return Fleiss' kappa, generalised to weights and missing answers (Gwet 2014, 3.5).

    ``weights``: "identity", "linear" or "quadratic", of how far apart two classes are.
    """
    answers, distance = _weighted(item, labeler, value, weights, categories)
    return _told(
        "Fleiss' kappa",
        lambda some: _fleiss(some, distance),
        answers,
        interval,
    )


def gwet_ac(
    item: ArrayLike,
    labeler: ArrayLike,
    value: ArrayLike,
    weights: Weights = "identity",
    *,
    categories: Sequence[Any] | None = None,
    interval: Interval = _ANALYTIC,
) -> Agreement:
    """Return Gwet's AC1, or with other weights than identity AC2: chance is only where classes are hard to tell.

    ``categories``: all there may be, by default those seen. Raises ValueError for fewer than two. Source: Gwet 2008.
    """
    answers, distance = _weighted(item, labeler, value, weights, categories)
    if answers.domain.size < 2:
        raise ValueError("all answers are one class; expected two or more, or all there may be as categories")
    return _told(
        "Gwet's AC1" if weights == "identity" else "Gwet's AC2",
        lambda some: _gwet(some, distance),
        answers,
        interval,
    )


def raw_agreement(
    item: ArrayLike,
    labeler: ArrayLike,
    value: ArrayLike,
    weights: Weights = "identity",
    *,
    categories: Sequence[Any] | None = None,
    interval: Interval = _ANALYTIC,
) -> Agreement:
    """Return the share of pairs of answers to an item that agree, averaged over items; chance is not taken off."""
    answers, distance = _weighted(item, labeler, value, weights, categories)
    answers = answers.of_items(answers.each() >= 2)

    def observed(some: AnswerColumns) -> Estimate:
        parts = _observed(some, distance)
        return Estimate(float(parts.mean()), parts, 1.0 - parts, 1.0)

    return _told("raw agreement", observed, answers, interval, least=0.0)


def cohen_kappa(
    item: ArrayLike,
    labeler: ArrayLike,
    value: ArrayLike,
    weights: Weights = "identity",
    *,
    categories: Sequence[Any] | None = None,
    interval: Interval = _ANALYTIC,
) -> Agreement:
    """Return Cohen's kappa of two labelers on the items that both answered, each with their own share of classes.

    Raises ValueError for more or fewer than two labelers. Interval: Fleiss, Cohen & Everitt 1969.
    """
    return _of_two("Cohen's kappa", item, labeler, value, weights, categories, interval)


def scott_pi(
    item: ArrayLike,
    labeler: ArrayLike,
    value: ArrayLike,
    weights: Weights = "identity",
    *,
    categories: Sequence[Any] | None = None,
    interval: Interval = _ANALYTIC,
) -> Agreement:
    """Return Scott's pi of two labelers on the items that both answered, classes as frequent for one as for the other.

    Raises ValueError for more or fewer than two labelers. Interval: Gwet 2014, 5.3.
    """
    return _of_two("Scott's pi", item, labeler, value, weights, categories, interval)


# --- the statistics, with what each item adds to them


def _alpha(answers: AnswerColumns, distance: Distance) -> Estimate:
    """Gwet 2014, 3.6 and 5.6, in distances rather than weights."""
    each = answers.each().astype(np.float64)
    items, mean = each.size, float(each.mean())
    values, code, count = np.unique(answers.x, return_inverse=True, return_counts=True)
    shares = count / count.sum()
    by_chance = distance.expected(values, values, shares)
    expected = float(shares @ by_chance)
    if not expected > 0.0:
        raise ValueError(
            "all pairable answers are one value; expected two, or chance cannot be told from agreement"
        )
    seen = distance.within(answers.item, answers.x, items) / (mean * (each - 1.0))
    total = float(each.sum())
    observed = float(seen.mean())
    value = 1.0 - (1.0 - 1.0 / total) * observed / expected
    prime = 1.0 - observed / expected
    more = (each - mean) / mean
    # Agreement is 1 - distance; the correction for few answers, 1 / total, is in the item's own part, too.
    agreed = each / mean - seen - (1.0 - (1.0 - 1.0 / total) * observed) * more
    own = (agreed - 1.0 + expected) / expected
    met = np.bincount(answers.item, weights=1.0 - by_chance[code]) / mean - (1.0 - expected) * more
    parts = own - 2.0 * (1.0 - prime) * (met - (1.0 - expected)) / expected
    ends = values[[0, -1]]
    widest = float(distance.between(ends[:1], ends[1:])[0])
    return Estimate(value, parts + (value - prime), seen * mean / each / widest, expected / widest)


def _observed(answers: AnswerColumns, distance: Distance) -> Floats:
    """Return the agreement of each item's pairs ``(items,)``, 0 where there is none."""
    each = answers.each().astype(np.float64)
    apart = distance.within(answers.item, answers.x, each.size) / np.maximum(each * (each - 1.0), 1.0)
    return np.where(each >= 2.0, 1.0 - apart / _widest(answers, distance), 0.0)


def _fleiss(answers: AnswerColumns, distance: Distance) -> Estimate:
    """Gwet 2014, 5.4."""
    each, shares, code = _shares(answers)
    agree = 1.0 - distance.expected(answers.domain, answers.domain, shares) / _widest(answers, distance)
    chance = float(shares @ agree)
    met = np.bincount(answers.item, weights=agree[code]) / each
    return _beyond_chance(answers, distance, each, chance, met)


def _gwet(answers: AnswerColumns, distance: Distance) -> Estimate:
    """Gwet 2014, 5.5."""
    each, shares, code = _shares(answers)
    classes = answers.domain.size
    even = np.ones(classes)
    apart = float(distance.expected(answers.domain, answers.domain, even).sum()) / _widest(answers, distance)
    weight = (classes**2 - apart) / (classes * (classes - 1.0))
    chance = weight * float(np.sum(shares * (1.0 - shares)))
    met = weight * np.bincount(answers.item, weights=(1.0 - shares)[code]) / each
    return _beyond_chance(answers, distance, each, chance, met)


def _beyond_chance(
    answers: AnswerColumns, distance: Distance, each: Floats, chance: float, met: Floats
) -> Estimate:
    """Return (observed - chance) / (1 - chance); ``met``: each item's own share of chance ``(items,)``."""
    _not_certain(chance)
    paired = each >= 2.0
    agreed = _observed(answers, distance)
    value = (float(agreed[paired].mean()) - chance) / (1.0 - chance)
    own = each.size / paired.sum() * (agreed - chance * paired) / (1.0 - chance)
    parts = own - 2.0 * (1.0 - value) * (met - chance) / (1.0 - chance)
    return Estimate(value, parts, 1.0 - agreed[paired], 1.0 - chance)


def _of_two(
    statistic: str,
    item: ArrayLike,
    labeler: ArrayLike,
    value: ArrayLike,
    weights: Weights,
    categories: Sequence[Any] | None,
    interval: Interval,
) -> Agreement:
    answers, distance = _weighted(item, labeler, value, weights, categories)
    found = int(answers.labeler.max()) + 1
    if found != 2:
        raise ValueError(f"there are {found} labelers; expected two")
    answers = answers.of_items(answers.each() >= 2)
    widest = _widest(answers, distance)

    def kappa(some: AnswerColumns) -> Estimate:
        one, other = (some.x[np.lexsort((some.labeler, some.item))][start::2] for start in (0, 1))
        agreed = 1.0 - distance.between(one, other) / widest
        by_one, by_other = (_shares_of(x, some.domain) for x in (one, other))
        if statistic == "Scott's pi":
            by_one = by_other = (by_one + by_other) / 2.0
        at_one = 1.0 - distance.expected(one, some.domain, by_other) / widest
        at_other = 1.0 - distance.expected(other, some.domain, by_one) / widest
        chance = float(at_one.mean() + at_other.mean()) / 2.0
        _not_certain(chance)
        value = (float(agreed.mean()) - chance) / (1.0 - chance)
        parts = (agreed - (1.0 - value) * (at_one + at_other)) / (1.0 - chance)
        # The published variance is that of many items, over n where `analytic` takes n - 1.
        parts = value + (parts - parts.mean()) * ((parts.size - 1.0) / parts.size) ** 0.5
        return Estimate(value, parts, 1.0 - agreed, 1.0 - chance)

    return _told(statistic, kappa, answers, interval)


def _shares(answers: AnswerColumns) -> tuple[Floats, Floats, Rows]:
    """Return answers to each item, each class's share averaged over items, and each answer's row of its class."""
    each = answers.each().astype(np.float64)
    code = np.searchsorted(answers.domain, answers.x)
    by_item = np.bincount(code, weights=1.0 / each[answers.item], minlength=answers.domain.size)
    return each, by_item / each.size, code


def _shares_of(x: Floats, domain: Floats) -> Floats:
    return np.bincount(np.searchsorted(domain, x), minlength=domain.size) / x.size


def _widest(answers: AnswerColumns, distance: Distance) -> float:
    """Return the distance that is no agreement at all: that of the ends of the domain."""
    ends = answers.domain[[0, -1]]
    return float(distance.between(ends[:1], ends[1:])[0]) or 1.0


def _not_certain(chance: float) -> None:
    if 1.0 - chance < 1e-12:
        raise ValueError("all answers are one class; expected two, or chance cannot be told from agreement")


# --- intervals


def _told(
    statistic: str,
    estimate: Callable[[AnswerColumns], Estimate],
    answers: AnswerColumns,
    interval: Interval,
    *,
    least: float = -1.0,
) -> Agreement:
    """Return the statistic, of which ``least`` is the range's end, with its interval.

    Raises ValueError where no two answers are to one item.
    """
    check_instance("interval", interval, Interval, "an Interval")
    each = answers.each()
    items = int(np.count_nonzero(each >= 2))
    if not items:
        raise ValueError("no item has answers by two labelers; expected one or more")
    found = estimate(answers)
    if interval.rng is None and least == 0.0:
        # Of an item's answers one can be compared with the others, so many times as there are others.
        low, high = interval_of_mean(found.parts, int(each.sum()) - each.size, interval.level)
    else:
        if interval.rng is not None:
            low, high = bootstrapped(estimate, answers, interval, interval.rng)
        else:
            low, high = analytic(found, interval.level)
        low = min(low, of_few(found, interval.level)) if items >= 2 else low
    low, high = max(low, min(least, found.value)), min(high, 1.0)
    labelers = int(np.unique(answers.labeler).size)
    return Agreement(statistic, found.value, low, high, items, labelers, answers.item.size)


def _weighted(
    item: ArrayLike,
    labeler: ArrayLike,
    value: ArrayLike,
    weights: Weights,
    categories: Sequence[Any] | None,
) -> tuple[AnswerColumns, Distance]:
    _known(weights, ("identity", "linear", "quadratic"), "weights")
    answers = read_columns(item, labeler, value, categories, ordered=weights != "identity")
    return answers, _DISTANCES[weights]


def _known(word: str, words: Sequence[str], name: str) -> None:
    if word not in words:
        raise ValueError(f"{name} is {word!r}; expected one of {', '.join(words)}")
