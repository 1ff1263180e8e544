"""Is it as good as we say? Sampling labels by stratum and saying what the sample proves.

The error rate is the Horvitz-Thompson estimate ``sum_h N_h / N * errors_h / n_h``. Its interval is exact
where the design allows it and conservative where not; both know that a population is finite:

* one sampled stratum, or equal sampling fractions: the hypergeometric law on the pooled counts, inverted as Clopper
  and Pearson do. The pooled count is a sum of unequal Bernoulli trials, whose tails are lighter (Hoeffding 1956);
* unequal fractions: the gamma interval of Fay & Feuer (1997) for weighted sums of counts, of which those drawn without
  replacement leave less unseen. Its upper end has one more error where that would weigh most, and so may take the
  smaller variance of a share in place of Poisson's; its lower end may not;
* a stratum sampled completely is known, one not sampled at all may be anything from 0 to 1.

For items drawn with chances of their own see `unequal_sampling`.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from ..columns import check_instance, check_probability, numbers, real_number, whole_number
from .hypergeometric import MOST_LABELS, at_most, smallest_sample

_EQUAL_FRACTIONS = 0.02
"""Sampling fractions within 2 % of each other differ by rounding alone."""

_ROUNDING = 1e-9
"""So far a share of a lot may be off a whole number of labels, and be that number: .29 of 100 is 29."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """A part of the population with its own error rate: ``population`` labels, of which some are drawn.

    ``expected_error`` is a guess of its error rate (one minus mean confidence serves well); it steers how
    many are drawn here, never the estimate.
    """

    name: str
    population: int
    expected_error: float = 0.05

    def __post_init__(self) -> None:
        _check_counts(self.name, population=self.population)
        real_number(f"expected_error of stratum {self.name!r}", self.expected_error, least=0.0, most=1.0)


@dataclass(frozen=True, slots=True)
class StratumFindings:
    """What was seen in one stratum: ``errors`` wrong labels among ``sampled`` of ``population``."""

    name: str
    population: int
    sampled: int
    errors: int

    def __post_init__(self) -> None:
        _check_counts(self.name, population=self.population, sampled=self.sampled, errors=self.errors)
        if not 0 <= self.errors <= self.sampled <= self.population:
            raise ValueError(
                f"stratum {self.name!r}: expected 0 <= errors ({self.errors}) <= sampled ({self.sampled})"
                f" <= population ({self.population})"
            )


@dataclass(frozen=True, slots=True)
class StratumEstimate:
    """A stratum's own error rate with its exact two-sided interval."""

    name: str
    population: int
    sampled: int
    errors: int
    estimate: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class ErrorEstimate:
    """The population's error rate, its two-sided interval at ``confidence``, and the strata behind it."""

    population: int
    sampled: int
    errors: int
    estimate: float
    lower: float
    upper: float
    confidence: float
    strata: tuple[StratumEstimate, ...]


class Verdict(enum.Enum):
    """What a sample says about the claim "the error rate is at most alpha"."""

    PASSED = "PASSED"
    """Shown: the upper bound is at most alpha."""
    FAILED = "FAILED"
    """Refuted: the lower bound is above alpha."""
    UNDECIDED = "UNDECIDED"
    """The sample is too small to tell; draw more."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The answer to "may this lot be delivered as having error at most alpha?".

    ``upper`` and ``lower`` are one-sided bounds, each at ``confidence``.
    """

    verdict: Verdict
    estimate: float
    lower: float
    upper: float
    alpha: float
    confidence: float

    @property
    def accepted(self) -> bool:
        """Whether the claim was shown."""
        return self.verdict is Verdict.PASSED


@dataclass(frozen=True, slots=True)
class AcceptancePlan:
    """Draw ``sample_size`` of ``lot_size``; accept with at most ``acceptance_number`` errors (ISO 2859
    style).

    ``consumer_risk`` is the exact probability of accepting a lot whose error rate just exceeds alpha.
    """

    lot_size: int
    sample_size: int
    acceptance_number: int
    consumer_risk: float


def allocate(strata: Sequence[Stratum], sample_size: int, *, min_per_stratum: int = 5) -> dict[str, int]:
    """Divide ``sample_size`` between strata: half in proportion to size, half by Neyman's rule.

    Neyman allocation (``N_h * sqrt(e_h (1 - e_h))``) is best if the expected errors are right, proportional
    allocation is safe if they are wrong; the mean of both loses little either way. Every stratum that is not
    empty gets at least ``min_per_stratum`` (or all of it), so that none stays unknown. Deterministic; the sum
    is ``min(sample_size, population)`` unless the minimums alone exceed it. Raises ValueError for two strata of one name.
    """
    sample_size = whole_number("sample_size", sample_size)
    min_per_stratum = whole_number("min_per_stratum", min_per_stratum)
    names = _checked_strata("strata", strata, Stratum)
    size = np.array([s.population for s in strata], dtype=np.int64)
    total = min(sample_size, int(size.sum()))
    spread = np.array([math.sqrt(max(s.expected_error * (1.0 - s.expected_error), 1e-4)) for s in strata])
    weight = _shares(size.astype(np.float64)) + _shares(size * spread)
    drawn = np.minimum(size, min_per_stratum) if total else np.zeros_like(size)
    while drawn.sum() < total:
        open_weight = np.where(drawn < size, weight, 0.0)
        target = np.minimum(open_weight / open_weight.sum() * total, size)
        # Highest averages, one at a time at the end; the bulk by rounding down what is still missing.
        missing = np.floor(np.maximum(target - drawn, 0.0)).astype(np.int64)
        if drawn.sum() + missing.sum() <= total and missing.sum() > 0:
            drawn = drawn + missing
        else:
            need = np.where(drawn < size, open_weight / (drawn + 0.5), -1.0)
            drawn[int(np.argmax(need))] += 1
    return dict(zip(names, drawn.tolist(), strict=True))


def strata_by_error(expected_error: ArrayLike, strata: int = 5) -> NDArray[np.int64]:
    """Return the stratum of each item ``(items,)``: 0 the worst, each with an equal part of the errors' spread.

    ``expected_error`` ``(items,)`` is one minus confidence. Cut where ``sqrt(e (1 - e))``, summed from the worst item
    on, passes equal steps: the strata that Neyman's rule would draw equally many from (after Dalenius & Hodges 1959).
    Items of one expected error are never parted, so that there may be fewer strata. Raises ValueError naming the
    first item whose expected error lies outside 0..1.
    """
    error, strata = numbers("expected_error", expected_error), whole_number("strata", strata, 1)
    if error.ndim != 1:
        raise ValueError(f"expected_error has shape {error.shape}; expected one an item")
    bad = np.flatnonzero(~((error >= 0.0) & (error <= 1.0)))
    if bad.size:
        raise ValueError(f"expected_error, item {bad[0]}: {error[bad[0]]} is not a share in 0..1")
    levels, place, count = np.unique(error, return_inverse=True, return_counts=True)
    spread = count * np.sqrt(np.maximum(levels * (1.0 - levels), 1e-4))
    # From the worst on; a level belongs where its middle falls.
    above = np.cumsum(spread[::-1])[::-1] - 0.5 * spread
    stratum = np.minimum((above / max(spread.sum(), 1e-300) * strata).astype(np.int64), strata - 1)
    return np.unique(stratum, return_inverse=True)[1].astype(np.int64)[place]


def estimate_error(findings: Sequence[StratumFindings], *, confidence: float = 0.95) -> ErrorEstimate:
    """Estimate the error rate of the whole population, with a two-sided interval.

    Raises ValueError when the population is empty, two findings are of one stratum, or confidence is outside (0, 1).
    """
    check_probability("confidence", confidence)
    _checked_strata("findings", findings, StratumFindings)
    tail = (1.0 - confidence) / 2.0
    estimate, lower, upper = _bounds(findings, tail)
    return ErrorEstimate(
        population=sum(f.population for f in findings),
        sampled=sum(f.sampled for f in findings),
        errors=sum(f.errors for f in findings),
        estimate=estimate,
        lower=lower,
        upper=upper,
        confidence=confidence,
        strata=tuple(_stratum_estimate(f, tail) for f in findings),
    )


def accept(findings: Sequence[StratumFindings], *, alpha: float, confidence: float = 0.95) -> Acceptance:
    """Decide whether the findings show that the population's error rate is at most ``alpha``."""
    check_probability("confidence", confidence)
    check_probability("alpha", alpha)
    _checked_strata("findings", findings, StratumFindings)
    estimate, lower, upper = _bounds(findings, 1.0 - confidence)
    verdict = Verdict.PASSED if upper <= alpha else Verdict.FAILED if lower > alpha else Verdict.UNDECIDED
    return Acceptance(verdict, estimate, lower, upper, alpha, confidence)


def acceptance_plan(
    lot_size: int, *, alpha: float, confidence: float = 0.95, acceptance_number: int = 0
) -> AcceptancePlan:
    """Return the smallest simple random sample that shows error <= alpha with so many errors allowed.

    Exact (hypergeometric): small lots need fewer. A lot too small for the plan is sampled whole. Raises ValueError where
    not even that would show it: with more errors allowed than a lot of error alpha has.
    """
    check_probability("confidence", confidence)
    real_number("alpha", alpha, least=0.0, below=1.0)
    lot = whole_number("lot_size", lot_size, 1, MOST_LABELS)
    allowed = whole_number("acceptance_number", acceptance_number)
    bad = math.floor(alpha * lot + _ROUNDING) + 1
    if allowed >= bad:
        raise ValueError(
            f"acceptance_number is {allowed}; expected at most {bad - 1}, the wrong labels of a lot of {lot} with error "
            f"{alpha}: to allow more shows nothing"
        )
    sample = smallest_sample(lot, bad, allowed, 1.0 - confidence)
    return AcceptancePlan(lot, sample, allowed, float(at_most(allowed, lot, bad, sample)))


def _bounds(findings: Sequence[StratumFindings], tail: float) -> tuple[float, float, float]:
    """Return estimate, lower and upper, each bound missing the truth with probability at most ``tail``."""
    population = sum(f.population for f in findings)
    if population == 0:
        raise ValueError("the population is empty: there is nothing to estimate")
    unknown = sum(f.population for f in findings if f.population and not f.sampled)
    known = sum(f.errors for f in findings if f.sampled == f.population)
    partial = [f for f in findings if 0 < f.sampled < f.population]
    reached = sum(f.population for f in partial)
    point, low, high = 0.0, 0.0, 0.0
    if partial:
        point, low, high = _partial_bounds(partial, reached, tail)
    seen = population - unknown
    estimate = (known + point * reached) / seen if seen else 0.5
    # Labels already looked at are facts: the rest can add no more errors than it has labels.
    found = sum(f.errors for f in findings)
    most = found + sum(f.population - f.sampled for f in findings)
    lower = max((known + low * reached) / population, found / population)
    upper = min((known + high * reached + unknown) / population, most / population)
    return estimate, min(lower, estimate), max(upper, min(estimate, 1.0))


def _partial_bounds(
    partial: Sequence[StratumFindings], reached: int, tail: float
) -> tuple[float, float, float]:
    size = np.array([f.population for f in partial], dtype=np.float64)
    drawn = np.array([f.sampled for f in partial], dtype=np.float64)
    wrong = np.array([f.errors for f in partial], dtype=np.float64)
    weight = size / reached / drawn
    point = float(weight @ wrong)
    if weight.max() <= weight.min() * (1.0 + _EQUAL_FRACTIONS):
        low, high = hypergeometric_bounds(reached, int(drawn.sum()), int(wrong.sum()), tail)
        return point, low / reached, high / reached
    unseen = 1.0 - drawn / size
    # Above, of errors that are not rare less than Poisson's variance is left: that of a share, without replacement. The
    # share is Laplace's, or a stratum seen all wrong would leave no doubt. Below, nothing stands for what was missed, and
    # only Poisson's variance keeps the level.
    right = (drawn - wrong + 1.0) / (drawn + 2.0)
    spread = wrong * right * drawn / np.maximum(drawn - 1.0, 1.0)
    variance = float((weight**2 * unseen) @ spread)
    heaviest = int(weight.argmax())
    missed = float(weight[heaviest]), float(weight[heaviest] ** 2 * unseen[heaviest])
    rare = float((weight**2 * unseen) @ wrong)
    return point, gamma_lower(point, rare, tail), gamma_upper(point, variance, missed, tail)


def hypergeometric_bounds(population: int, sampled: int, errors: int, tail: float) -> tuple[int, int]:
    """Return the least and the most errors in the population that the sample allows, each at level ``tail``.

    Raises ValueError unless ``0 <= errors <= sampled <= population`` and ``0 <= tail < 1``.
    """
    population = whole_number("population", population, 0, MOST_LABELS)
    sampled, errors = whole_number("sampled", sampled), whole_number("errors", errors)
    if not errors <= sampled <= population:
        raise ValueError(
            f"expected 0 <= errors ({errors}) <= sampled ({sampled}) <= population ({population})"
        )
    real_number("tail", tail, least=0.0, below=1.0)
    least, most = errors, population - (sampled - errors)
    low, high = least, most
    while low < high:
        middle = (low + high) // 2
        if 1.0 - float(at_most(errors - 1, population, middle, sampled)) > tail:
            high = middle
        else:
            low = middle + 1
    lower, low, high = low, errors, most
    while low < high:
        middle = (low + high + 1) // 2
        if float(at_most(errors, population, middle, sampled)) > tail:
            low = middle
        else:
            high = middle - 1
    return lower, low


def gamma_lower(point: float, variance: float, tail: float) -> float:
    """Return the lower bound of a weighted sum of rare counts, at most 1 (Fay & Feuer 1997, eq. 5)."""
    if point == 0.0:
        return 0.0
    if variance == 0.0:
        return min(point, 1.0)
    return min(float(variance / point * special.gammaincinv(point**2 / variance, tail)), 1.0)


def gamma_upper(point: float, variance: float, missed: tuple[float, float], tail: float) -> float:
    """Return its upper bound, at most 1: one more error may have been ``missed``, of this weight and variance (eq. 8)."""
    mean, spread = point + missed[0], variance + missed[1]
    if spread == 0.0:
        return min(mean, 1.0)
    return min(float(spread / mean * special.gammainccinv(mean**2 / spread, tail)), 1.0)


def _stratum_estimate(found: StratumFindings, tail: float) -> StratumEstimate:
    if found.sampled:
        estimate, lower, upper = _bounds([found], tail)
    else:
        estimate, lower, upper = (0.5, 0.0, 1.0) if found.population else (0.0, 0.0, 0.0)
    return StratumEstimate(found.name, found.population, found.sampled, found.errors, estimate, lower, upper)


def _shares(
    weight: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    total = weight.sum()
    return weight / total if total > 0 else weight


def _check_counts(stratum: str, **counts: int) -> None:
    check_instance("name of a stratum", stratum, (str, int), "text or a whole number")
    for what, count in counts.items():
        whole_number(f"{what} of stratum {stratum!r}", count, 0, MOST_LABELS)


def _checked_strata(what: str, strata: Collection[Any], kind: type) -> list[str]:
    """Return the strata's names. Raises ValueError naming the first that is none, or has another's name; labels of two
    strata of one name would count twice, or be told as one's.
    """
    check_instance(what, strata, Collection, f"a list of {kind.__name__}")
    first: dict[str, int] = {}
    for at, one in enumerate(strata):
        check_instance(f"{what}[{at}]", one, kind, kind.__name__)
        if first.setdefault(one.name, at) != at:
            raise ValueError(
                f"{what}[{at}] is named {one.name!r}, as {what}[{first[one.name]}] is; expected each once"
            )
    return list(first)
