"""A wager against "more than alpha of these answers are wrong": what validation items pay, and when it is won.

Each item pays ``(1 - r) / (1 - alpha)`` if the answer was right and ``r / alpha`` if it was wrong, for a rate ``r`` below
``alpha`` that is bet on (testing by betting: Shafer 2021; Waudby-Smith & Ramdas 2024). That the wealth is ever ``1 /
delta`` where the mean error rate of the items seen is above ``alpha`` has a probability of at most ``delta`` (Ville
1939; `thresholds` says why).
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..columns import check_probability, numbers

Floats = NDArray[np.float64]

_REACH = np.array([2.0, 1.0, 0.5])
"""Bets are laid at the distance from ``alpha`` that is best for half the sample, at twice and at half of it.

At a quarter or at four times the number of items it was laid for, a bet needs a quarter more distance from ``alpha``
than the best one; three at a factor of 4 in items lose less wherever in the sample the threshold may fall."""

_STAKES = np.array([0.2, 0.6, 0.2])
"""The share of the wealth on each bet: a bet too far off costs little, one that is missing costs more."""

_BOLDEST = 0.95
"""A bet on no error at all would be lost with the first."""

ROUNDING = 1e-3
"""By so much the sum of a posterior that came in float32, or rounded to digits, may miss 1."""

_MOST_ITEMS = 2**53
"""No sample is larger: of more items not even their number is a float."""

_HALVINGS = 27
"""Of the interval of rates: to eight digits."""


@dataclass(frozen=True, slots=True)
class Wager:
    """Bets against an error rate of ``alpha``, to be won at confidence ``1 - delta``, laid for a sample of ``items``.

    The distance is that at which a sample of ``items / 2`` would just win: ``sqrt(2 log(1/delta) alpha (1 - alpha) /
    (items / 2))``, the normal approximation's. It depends on nothing that anybody answered. The wealth must be that
    of ``1 / delta`` to the ``power``.
    """

    alpha: float
    delta: float
    items: int
    power: float = 1.0

    def bets(self) -> Floats:
        """Return the rates bet on ``(bets,)``."""
        spread = (1.0 - self.alpha) / max(self.alpha * max(self.items, 1) / 2.0, sys.float_info.min)
        return self.alpha * (1.0 - np.minimum(_BOLDEST, math.sqrt(2.0 * self.needed * spread) * _REACH))

    @property
    def needed(self) -> float:
        """The logarithm of the wealth at which the wager is won."""
        return self.power * math.log(1.0 / self.delta)

    def paid(self, evidence: Evidence) -> Floats:
        """Return the logarithm of what each item pays for each bet, ``(n, bets)``.

        Where only the probability of an error is given, that logarithm is the mean of those of right and wrong: by
        Jensen's inequality not more than the mean of what they pay.
        """
        alpha, bet = self.alpha, self.bets()
        error, odds = evidence.error[:, None], evidence.odds[:, None]
        paid = np.log((bet * odds + 1.0 - bet) / (alpha * odds + 1.0 - alpha))
        bare = np.isnan(evidence.odds)
        if bare.any():
            lost, won = np.log(bet / alpha), np.log((1.0 - bet) / (1.0 - alpha))
            paid[bare] = error[bare] * lost + (1.0 - error[bare]) * won
        return np.asarray(paid)


def log_wealth(paid: Floats) -> Floats:
    """Return the logarithm of the wealth ``(...)`` of stakes that were paid ``(..., bets)``."""
    return np.asarray(np.logaddexp.reduce(paid + np.log(_STAKES), axis=-1))


def refuted_rate(evidence: Evidence, wager: Wager) -> float:
    """Return the least error rate against which the wager is won, whatever its own, 1.0 if none."""
    if not evidence.size:
        return 1.0
    kind, counts = _kinds(evidence)
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        tried = replace(wager, alpha=(low + high) / 2.0)
        won = float(log_wealth(counts @ tried.paid(kind))) >= tried.needed
        low, high = (low, tried.alpha) if won else (tried.alpha, high)
    return high


def _kinds(evidence: Evidence) -> tuple[Evidence, Floats]:
    """Return what different items there are, and how many of each ``(kinds,)``.

    Where only the error is given, an item pays in proportion to it: all of those are as many of their mean.
    """
    bare = np.isnan(evidence.odds)
    known = evidence.error[~bare] + 1j * evidence.odds[~bare]  # As complex numbers, pairs are sorted fast.
    kinds, counts = np.unique(known, return_counts=True)
    if not bare.any():
        return Evidence(kinds.real, kinds.imag), counts.astype(np.float64)
    return (
        Evidence(np.append(kinds.real, evidence.error[bare].mean()), np.append(kinds.imag, np.nan)),
        np.append(counts.astype(np.float64), bare.sum()),
    )


def fewest_items(alpha: float, delta: float) -> int:
    """Return the least size of a sample on which a threshold can pass, all of it known to be right.

    Raises ValueError for an ``alpha`` or a ``delta`` that no sample there may be can show.
    """
    check_probability("alpha", alpha)
    check_probability("delta", delta)
    low, high = 0, 1
    while not _won_by(high, alpha, delta):
        low, high = high, 2 * high
        if high > _MOST_ITEMS:
            raise ValueError(f"alpha is {alpha}, delta {delta}; expected what 2**53 items or fewer can show")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _won_by(middle, alpha, delta) else (middle, high)
    return high


def _won_by(right: int, alpha: float, delta: float) -> bool:
    wager = Wager(alpha, delta, right)
    paid = right * (np.log1p(-wager.bets()) - math.log1p(-alpha))
    return bool(log_wealth(paid) >= wager.needed)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of each answer's truth: the probability that it is wrong, ``error`` ``(n,)``, and people's
    likelihood ratio wrong : right, ``odds`` ``(n,)``, nan where only the error is given."""

    error: Floats
    odds: Floats

    @staticmethod
    def of(error_probability: ArrayLike, prior_error: ArrayLike | None) -> Evidence:
        """Return the evidence of answers ``(n,)``; raises ValueError for other shapes or outside [0, 1]."""
        error = probabilities("error_probability", error_probability)
        if prior_error is None:
            return Evidence(error, np.full(error.shape, np.nan))
        prior = probabilities("prior_error", prior_error)
        if prior.shape != error.shape:
            raise ValueError(f"prior_error has shape {prior.shape} but error_probability has {error.shape}")
        prior = np.clip(prior, 1e-9, 1.0 - 1e-9)
        sure = np.clip(error, 1e-12, 1.0 - 1e-12)
        return Evidence(error, sure / (1.0 - sure) * (1.0 - prior) / prior)

    @property
    def size(self) -> int:
        """How many answers."""
        return self.error.size

    def taken(self, places: NDArray[np.int64]) -> Evidence:
        """Return that of the answers at ``places``, in their order."""
        return Evidence(self.error[places], self.odds[places])

    def followed_by(self, other: Evidence) -> Evidence:
        """Return both, one after the other."""
        return Evidence(np.concatenate([self.error, other.error]), np.concatenate([self.odds, other.odds]))


def finite(name: str, values: ArrayLike) -> Floats:
    """Return ``values`` as floats ``(n,)``; raises ValueError naming the first that is not finite."""
    array = numbers(name, values)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, not of shape {array.shape}")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise ValueError(f"{name}[{bad[0]}] is {array[bad[0]]}; it must be finite")
    return array


def probabilities(name: str, values: ArrayLike) -> Floats:
    """Return ``values`` as floats ``(n,)``; raises ValueError naming the first outside [0, 1]."""
    array = finite(name, values)
    bad = np.flatnonzero((array < 0.0) | (array > 1.0))
    if bad.size:
        raise ValueError(f"{name}[{bad[0]}] is {array[bad[0]]}; it must be between 0 and 1")
    return array


def check_distributions(name: str, rows: Floats) -> None:
    """Raise ValueError naming the first of ``rows`` ``(n, classes)`` that does not sum to 1, but for rounding."""
    with np.errstate(over="ignore"):
        total = rows.sum(axis=1)
    bad = np.flatnonzero(~(np.abs(total - 1.0) <= ROUNDING))
    if bad.size:
        raise ValueError(f"{name}[{bad[0]}] sums to {total[bad[0]]:g}; expected 1")
