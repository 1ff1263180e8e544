"""The error of a population from items drawn with unequal chances: doubtful ones often, sure ones seldom.

Poisson sampling: each item is drawn, or not, by a coin of its own, with chance ``pi_i``. The total of wrong labels is the
Horvitz-Thompson estimate ``sum wrong_i / pi_i`` over those drawn (1952), unbiased whatever the chances. Hajek's (1971)
divides by ``sum 1 / pi_i`` rather than by the population: better where errors have little to do with the chances,
worse where the chances follow them. With chances by expected error the first is the better one, and the default.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..columns import Floats, check_probability, numbers, real_number, whole_number
from .audit_statistics import gamma_lower, gamma_upper


@dataclass(frozen=True, slots=True)
class UnequalEstimate:
    """The population's error rate with a two-sided interval at ``confidence``.

    ``horvitz_thompson`` and ``hajek`` are the two estimates; the interval belongs to the first, and is conservative.
    """

    population: int
    sampled: int
    errors: int
    horvitz_thompson: float
    hajek: float
    lower: float
    upper: float
    confidence: float


def inclusion_chances(expected_error: ArrayLike, sample_size: int, *, even: float = 0.5) -> Floats:
    """Return the chance ``(items,)`` to draw each item, in all ``sample_size`` or, with fewer items, every one.

    In proportion to ``sqrt(e (1 - e))`` (optimal where ``expected_error`` is right, Neyman 1934), blended with a share
    ``even`` of equal chances, which bounds the damage where it is not. Raises ValueError naming the first bad entry.
    """
    error = numbers("expected_error", expected_error)
    if error.ndim != 1:
        raise ValueError(f"expected_error has shape {error.shape}; expected one an item")
    bad = np.flatnonzero(~((error >= 0.0) & (error <= 1.0)))
    if bad.size:
        raise ValueError(f"expected_error, item {bad[0]}: {error[bad[0]]} is not a share in 0..1")
    sample_size = whole_number("sample_size", sample_size)
    real_number("even", even, above=0.0, most=1.0)
    if sample_size >= error.size:
        return np.ones(error.size)
    spread = np.sqrt(np.maximum(error * (1.0 - error), 1e-4))
    weight = (1.0 - even) * spread / spread.sum() + even / error.size
    chance = sample_size * weight
    # Who is sure to be drawn leaves the rest of the sample to the others; each round makes one more sure, or ends.
    while (chance > 1.0).any():
        sure = chance >= 1.0
        rest = np.where(sure, 0.0, weight)
        chance = np.where(sure, 1.0, (sample_size - sure.sum()) * rest / max(float(rest.sum()), 1e-300))
    return np.asarray(chance)


def estimate_unequal(
    wrong: ArrayLike, chance: ArrayLike, population: int, *, least_chance: float, confidence: float = 0.95
) -> UnequalEstimate:
    """Estimate the error rate from the items drawn: ``wrong`` ``(sampled,)`` 0 or 1, ``chance`` ``(sampled,)`` of each.

    ``least_chance`` is the smallest chance of any item of the population that might be wrong: what was missed may
    weigh its inverse. Those drawn for certain are known, and add no uncertainty. Raises ValueError naming the first
    entry that cannot be.
    """
    found, pi = numbers("wrong", wrong), numbers("chance", chance)
    if found.ndim != 1 or found.shape != pi.shape:
        raise ValueError(
            f"wrong has shape {found.shape}, chance {pi.shape}; expected one of each an item drawn"
        )
    check_probability("confidence", confidence)
    real_number("least_chance", least_chance, above=0.0, most=1.0)
    population = whole_number("population", population, max(found.size, 1))
    bad = np.flatnonzero(~(((found == 0.0) | (found == 1.0)) & (pi >= least_chance) & (pi <= 1.0)))
    if bad.size:
        raise ValueError(
            f"element {bad[0]}: wrong {found[bad[0]]}, chance {pi[bad[0]]}; expected 0 or 1, and {least_chance}..1"
        )
    tail = (1.0 - confidence) / 2.0
    known = float(found[pi == 1.0].sum()) / population
    open_weight = (found / pi)[pi < 1.0] / population
    point = float(open_weight.sum())
    variance = float((open_weight**2 * (1.0 - pi[pi < 1.0])).sum())
    missed = 1.0 / least_chance / population
    doubt = missed**2 * (1.0 - least_chance)
    lower = known + gamma_lower(point, variance, tail)
    upper = known
    if least_chance < 1.0:
        upper = known + gamma_upper(point, variance, (missed, doubt), tail)
    total = known + point
    most = 1.0 - float((1.0 - found).sum()) / population
    weight = float((1.0 / pi).sum())
    return UnequalEstimate(
        population=population,
        sampled=found.size,
        errors=int(found.sum()),
        horvitz_thompson=min(total, 1.0),
        hajek=float((found / pi).sum()) / weight if weight else 0.5,
        lower=min(max(lower, float(found.sum()) / population), total),
        upper=min(max(upper, total), most),
        confidence=confidence,
    )
