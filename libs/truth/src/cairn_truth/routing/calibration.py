"""Does a confidence mean what it says, and what makes it do so: reliability diagrams, temperature, isotonic regression."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from ..columns import (
    as_array,
    check_probability,
    numbers,
    real_number,
    shares,
    whole_number,
    whole_numbers,
)
from .thresholds import clopper_pearson_lower, clopper_pearson_upper
from .wager import check_distributions, finite

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_LEAST_PROBABILITY = 1e-12
"""A probability of 0 has no logarithm; below this, one of float32 is rounding."""

_TEMPERATURES = (0.02, 50.0)
"""Beyond these a model says all or nothing, and its labels are too few to tell more."""

_COMMON_FACTOR = 3.0
"""By so much, either way, confidences are commonly off (Guo et al. 2017 report temperatures from 1 to 3): the standard
deviation of the prior on the logarithm of a temperature is that of this factor. A few hundred labels outweigh it."""

_DOUBT = 1.0
"""One answer's worth of the common rate is mixed into every step of an isotonic fit: no confidence of 0 or 1 on a few."""


def expected_calibration_error(confidence: ArrayLike, right: ArrayLike, *, bins: int = 10) -> float:
    """Return the mean gap between confidence and accuracy over equal-width bins (Naeini et al., AAAI 2015).

    ``confidence`` ``(n,)`` in 0..1, ``right`` ``(n,)`` whether the answer was, or how probably. Nothing to judge gives 0.
    """
    stated, correct = _judged(confidence, right)
    bins = whole_number("bins", bins, 1)
    if stated.size == 0:
        return 0.0
    gap = np.bincount(_bin_of(stated, bins), weights=stated - correct, minlength=bins)
    return float(np.abs(gap).sum() / stated.size)


@dataclass(frozen=True, slots=True)
class ReliabilityDiagram:
    """What was said and what came true, by equal-width bins of confidence (DeGroot & Fienberg 1983), ready to draw.

    ``edges`` ``(bins + 1,)``; per bin ``(bins,)``: ``items``, mean ``confidence`` and ``accuracy`` (nan where the bin is
    empty), and the exact interval ``lower`` to ``upper`` of the accuracy (0 to 1 where it is empty).
    """

    edges: Floats
    items: Ints
    confidence: Floats
    accuracy: Floats
    lower: Floats
    upper: Floats


def reliability_diagram(
    confidence: ArrayLike, right: ArrayLike, *, bins: int = 10, level: float = 0.95
) -> ReliabilityDiagram:
    """Return the reliability diagram of ``confidence`` ``(n,)`` and ``right`` ``(n,)``.

    ``level`` is that of the two-sided intervals (Clopper & Pearson 1934). Raises ValueError for other shapes, for
    confidences outside [0, 1], and for ``right`` other than 0 and 1: the intervals count.
    """
    stated, correct = _judged(confidence, right)
    bins = whole_number("bins", bins, 1)
    check_probability("level", level)
    between = np.flatnonzero((correct != 0.0) & (correct != 1.0))
    if between.size:
        raise ValueError(f"right[{between[0]}] is {correct[between[0]]}; expected 0 or 1")
    place = _bin_of(stated, bins)
    items = np.bincount(place, minlength=bins)
    rights = np.bincount(place, weights=correct, minlength=bins)
    some = np.where(items > 0, items, np.nan)
    tail = (1.0 - level) / 2.0
    counts = [(round(float(k)), int(n)) for k, n in zip(rights, items, strict=True)]
    return ReliabilityDiagram(
        edges=np.linspace(0.0, 1.0, bins + 1),
        items=items.astype(np.int64),
        confidence=np.bincount(place, weights=stated, minlength=bins) / some,
        accuracy=rights / some,
        lower=np.array([clopper_pearson_lower(k, n, tail) for k, n in counts]),
        upper=np.array([clopper_pearson_upper(k, n, tail) for k, n in counts]),
    )


@dataclass(frozen=True, slots=True)
class TemperatureScaling:
    """Probabilities to the power of ``1 / temperature``, made to sum to 1 (Guo et al., ICML 2017).

    One number for all classes: it corrects a model, or a crowd's posterior, that claims too much (above 1) or too
    little, never changes the most probable class, and a few dozen labels suffice.
    """

    temperature: float

    def __post_init__(self) -> None:
        real_number("temperature", self.temperature, above=0.0)

    @classmethod
    def fit(cls, probabilities: ArrayLike, truth: ArrayLike) -> TemperatureScaling:
        """Return the temperature of the greatest posterior probability, whose prior says that it is near 1.

        ``probabilities`` ``(n, classes)`` were not fitted on these items; ``truth`` is a class index ``(n,)`` or people's
        posterior ``(n, classes)``. No items leave the probabilities as they are. Raises ValueError for other shapes,
        rows that are no distributions, and classes outside the table.
        """
        logs, target = _logs(probabilities), _targets(truth, probabilities)
        if not len(logs):
            return cls(1.0)

        def loss(log_temperature: float) -> float:
            scaled = logs * np.exp(-log_temperature)
            top = scaled.max(axis=1, keepdims=True)
            total = np.log(np.exp(scaled - top).sum(axis=1)) + top[:, 0]
            likelihood = float((total - (target * scaled).sum(axis=1)).sum())
            return likelihood + 0.5 * (log_temperature / math.log(_COMMON_FACTOR)) ** 2

        found = optimize.minimize_scalar(loss, bounds=np.log(_TEMPERATURES), method="bounded")
        return cls(float(np.exp(found.x)))

    def apply(self, probabilities: ArrayLike) -> Floats:
        """Return the calibrated probabilities ``(n, classes)``."""
        scaled = _logs(probabilities) / self.temperature
        if not scaled.size:
            return scaled
        raised = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))


@dataclass(frozen=True, slots=True)
class IsotonicCalibration:
    """A score's probability of being right, never falling as the score grows (Zadrozny & Elkan, KDD 2002).

    ``scores`` ``(steps,)`` and ``probability`` ``(steps,)`` are the steps' middles, between which it is linear. It
    corrects any exaggeration that keeps the order, and needs several hundred labels.
    """

    scores: Floats
    probability: Floats

    @classmethod
    def fit(cls, scores: ArrayLike, right: ArrayLike) -> IsotonicCalibration:
        """Fit to ``scores`` ``(n,)`` of any range and ``right`` ``(n,)``: 0 or 1, or a probability.

        Raises ValueError for other shapes and non-finite numbers. No scores give one half everywhere. Cost: n log n.
        """
        score, correct = _judged(scores, right, stated="scores", bounded=False)
        if not score.size:
            return cls(np.zeros(1), np.full(1, 0.5))
        level, place, count = np.unique(score, return_inverse=True, return_counts=True)
        share = np.bincount(place, weights=correct) / count
        step = optimize.isotonic_regression(share, weights=count.astype(np.float64))
        starts = step.blocks[:-1]
        items = np.add.reduceat(count, starts)
        middle = np.add.reduceat(level * count, starts) / items
        common = float(correct.mean())
        # Doubt draws small steps more than large ones, which may upset their order: fit once more.
        doubted = (step.x[starts] * items + _DOUBT * common) / (items + _DOUBT)
        return cls(middle, optimize.isotonic_regression(doubted, weights=items + _DOUBT).x)

    def apply(self, scores: ArrayLike) -> Floats:
        """Return the probability of being right ``(n,)``."""
        return np.interp(finite("scores", scores), self.scores, self.probability)


@dataclass(frozen=True, slots=True)
class IsotonicClasses:
    """One `IsotonicCalibration` for each class against the others, made to sum to 1 (Zadrozny & Elkan 2002)."""

    classes: tuple[IsotonicCalibration, ...]

    @classmethod
    def fit(cls, probabilities: ArrayLike, truth: ArrayLike) -> IsotonicClasses:
        """Fit to ``probabilities`` ``(n, classes)`` and ``truth``, a class ``(n,)`` or a posterior ``(n, classes)``."""
        table, target = np.exp(_logs(probabilities)), _targets(truth, probabilities)
        fits = [IsotonicCalibration.fit(table[:, c], target[:, c]) for c in range(table.shape[1])]
        return cls(tuple(fits))

    def apply(self, probabilities: ArrayLike) -> Floats:
        """Return the calibrated probabilities ``(n, classes)``."""
        table = np.exp(_logs(probabilities))
        if table.shape[1] != len(self.classes):
            raise ValueError(f"probabilities have {table.shape[1]} classes; expected {len(self.classes)}")
        raised = np.column_stack([fit.apply(table[:, c]) for c, fit in enumerate(self.classes)])
        raised = np.maximum(raised, _LEAST_PROBABILITY)
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _bin_of(stated: Floats, bins: int) -> Ints:
    return np.minimum((stated * bins).astype(np.int64), bins - 1)


def _judged(
    confidence: ArrayLike, right: ArrayLike, *, stated: str = "confidence", bounded: bool = True
) -> tuple[Floats, Floats]:
    said, correct = numbers(stated, confidence), numbers("right", right)
    if said.shape != correct.shape or said.ndim != 1:
        raise ValueError(f"{stated} has shape {said.shape} and right {correct.shape}; expected one length")
    for name, values, limited in ((stated, said, bounded), ("right", correct, True)):
        outside = ~np.isfinite(values) | (limited & ((values < 0.0) | (values > 1.0)))
        if outside.any():
            at = int(np.flatnonzero(outside)[0])
            wanted = "between 0 and 1" if limited else "finite"
            raise ValueError(f"{name}[{at}] is {values[at]}; it must be {wanted}")
    return said, correct


def _logs(probabilities: ArrayLike) -> Floats:
    """Return the logarithms of the probabilities ``(n, classes)``, made to sum to 1 without any rounding."""
    table = numbers("probabilities", probabilities)
    if table.ndim != 2 or table.shape[1] == 0:
        raise ValueError(f"probabilities have shape {table.shape}; expected (n, classes)")
    bad = np.argwhere(~np.isfinite(table) | (table < 0.0))
    if bad.size:
        row, column = bad[0]
        raise ValueError(
            f"probabilities[{row}, {column}] is {table[row, column]}; it must be finite and not negative"
        )
    check_distributions("probabilities", table)
    clipped = np.maximum(table, _LEAST_PROBABILITY)
    return np.asarray(np.log(clipped / clipped.sum(axis=1, keepdims=True)))


def _targets(truth: ArrayLike, probabilities: ArrayLike) -> Floats:
    """Return the truth as a distribution ``(n, classes)``."""
    items, classes = np.shape(probabilities)
    known = as_array("truth", truth)
    if known.shape == (items, classes):
        posterior = shares("truth", known)
        check_distributions("truth", posterior)
        return posterior
    if known.shape != (items,):
        raise ValueError(f"truth has shape {known.shape}; expected ({items},) or ({items}, {classes})")
    index = whole_numbers("truth", known)
    bad = np.flatnonzero(index >= classes)
    if bad.size:
        raise ValueError(f"truth[{bad[0]}] is {index[bad[0]]}; expected a class in 0..{classes - 1}")
    return np.eye(classes)[index]
