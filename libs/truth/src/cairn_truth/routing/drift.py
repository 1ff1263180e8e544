"""When a model must stop answering alone: new items are not what it was judged on, or an audit speaks against it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from ..columns import check_generator, check_probability, numbers, whole_number
from .thresholds import clopper_pearson_lower, clopper_pearson_upper
from .wager import finite

Floats = NDArray[np.float64]

_SIGNIFICANCE = 0.001
"""Small, for the tests are repeated through a project's life and a false alarm costs a validation round."""


@dataclass(frozen=True, slots=True)
class DriftTest:
    """Whether new items still look like the validation's.

    ``statistic`` is the largest gap of the distribution functions (scores), or the energy distance as a share of the
    spread, 0 for one distribution and 1 for two points (embeddings)."""

    statistic: float
    p_value: float
    drifted: bool


def score_drift(
    validation_scores: ArrayLike,
    new_scores: ArrayLike,
    *,
    significance: float = _SIGNIFICANCE,
    min_items: int = 50,
) -> DriftTest:
    """Compare two samples of scores ``(n,)`` and ``(m,)`` by the two-sample Kolmogorov-Smirnov test.

    Fewer than ``min_items`` on either side say nothing: no drift, p = 1.
    """
    old, new = finite("validation_scores", validation_scores), finite("new_scores", new_scores)
    check_probability("significance", significance)
    min_items = whole_number("min_items", min_items, 1)
    if min(old.size, new.size) < min_items:
        return DriftTest(0.0, 1.0, False)
    both = np.sort(np.concatenate([old, new]))
    below_old = np.searchsorted(np.sort(old), both, side="right") / old.size
    below_new = np.searchsorted(np.sort(new), both, side="right") / new.size
    gap = float(np.abs(below_old - below_new).max())
    effective = old.size * new.size / (old.size + new.size)
    p_value = float(special.kolmogorov(math.sqrt(effective) * gap))
    return DriftTest(gap, p_value, p_value < significance)


def embedding_drift(
    validation_embeddings: ArrayLike,
    new_embeddings: ArrayLike,
    rng: np.random.Generator,
    *,
    significance: float = _SIGNIFICANCE,
    permutations: int = 1999,
    sample: int = 500,
    min_items: int = 50,
) -> DriftTest:
    """Compare two samples of embeddings ``(n, d)`` and ``(m, d)`` by their energy distance (Székely & Rizzo 2004).

    It sees what scores hide: new items of which the model is as sure, and wrong. The p-value is by permutation, exact at
    any sample size; ``rng`` draws the permutations and, of each side, at most ``sample`` items. ``significance`` below
    ``1 / (permutations + 1)`` cannot be reached, and is refused. Cost: ``(2 sample)^2 (d + permutations)``.

    Raises ValueError for other shapes, for what is not finite, and for numbers of no sense.
    """
    check_probability("significance", significance)
    permutations, sample = whole_number("permutations", permutations, 1), whole_number("sample", sample, 1)
    min_items = whole_number("min_items", min_items, 1)
    check_generator(rng)
    old, new = (
        _vectors("validation_embeddings", validation_embeddings),
        _vectors("new_embeddings", new_embeddings),
    )
    if significance * (permutations + 1) < 1.0:
        raise ValueError(
            f"significance {significance} cannot be reached with {permutations} permutations; "
            f"expected at least {math.ceil(1.0 / significance) - 1}"
        )
    if min(len(old), len(new)) < min_items:
        return DriftTest(0.0, 1.0, False)
    if old.shape[1] != new.shape[1]:
        raise ValueError(
            f"validation_embeddings have {old.shape[1]} dimensions but new_embeddings {new.shape[1]}"
        )
    old, new = _drawn(old, sample, rng), _drawn(new, sample, rng)
    distance = _distances(np.concatenate([old, new]))
    sides = np.arange(len(distance)) < len(old)
    shuffled = rng.permuted(np.broadcast_to(sides, (permutations, sides.size)), axis=1)
    energy, spread = _energy(distance, np.vstack([sides, shuffled]))
    p_value = float((energy >= energy[0] - 1e-12).sum() / energy.size)
    share = float(energy[0] / spread[0]) if spread[0] > 0.0 else 0.0
    return DriftTest(share, p_value, p_value < significance or math.isclose(p_value, significance))


def _energy(distance: Floats, sides: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return energy distance and twice the mean distance across, ``(rows,)``, for each split ``(rows, items)``."""
    first = sides.astype(np.float64)
    toward = first @ distance
    within_first = np.einsum("ri,ri->r", toward, first)
    row = distance.sum(axis=1)
    across = first @ row - within_first
    within_second = distance.sum() - within_first - 2.0 * across
    n = first.sum(axis=1)
    m = first.shape[1] - n
    spread = 2.0 * across / (n * m)
    return spread - within_first / n**2 - within_second / m**2, spread


def _distances(points: Floats) -> Floats:
    """Return Euclidean distances ``(n, n)`` in the unit of the largest coordinate, so that squares stay numbers.

    They are centred first: large offsets would eat the digits.
    """
    points = np.ldexp(points, -int(np.frexp(np.abs(points).max(initial=0.0))[1]))
    centred = points - points.mean(axis=0)
    squared = np.einsum("id,id->i", centred, centred)
    between = squared[:, None] + squared[None, :] - 2.0 * centred @ centred.T
    np.fill_diagonal(between, 0.0)
    return np.asarray(np.sqrt(np.maximum(between, 0.0)))


def _drawn(points: Floats, most: int, rng: np.random.Generator) -> Floats:
    if len(points) <= most:
        return points
    return np.asarray(points[np.sort(rng.choice(len(points), most, replace=False))])


def _vectors(name: str, values: ArrayLike) -> Floats:
    array = numbers(name, values)
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {array.shape}; expected (items, dimensions)")
    bad = np.argwhere(~np.isfinite(array))
    if bad.size:
        raise ValueError(f"{name}[{bad[0][0]}, {bad[0][1]}] is {array[tuple(bad[0])]}; it must be finite")
    return array


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """What an audit of automatic labels says of their error rate: ``lower`` and ``upper`` bound it, each at confidence
    ``1 - delta``; ``stops`` says that they may not go on, ``proven`` that the error is above alpha."""

    lower: float
    upper: float
    stops: bool
    proven: bool


def judge_audit(errors: int, items: int, *, alpha: float, delta: float) -> AuditVerdict:
    """Judge a uniform sample of ``items`` automatic labels of which ``errors`` were wrong.

    Automatic labeling stops when the upper bound passes ``alpha``, until a fresh validation round passes. An audit too
    small to stay below ``alpha`` without a single error stops nothing by its smallness, only by proof. Repeated
    audits take their ``delta`` from `spend`.
    """
    check_probability("alpha", alpha)
    upper = clopper_pearson_upper(errors, items, delta)
    lower = clopper_pearson_lower(errors, items, delta)
    telling = clopper_pearson_upper(0, items, delta) <= alpha
    return AuditVerdict(
        lower, upper, stops=(telling and upper > alpha) or lower > alpha, proven=lower > alpha
    )
