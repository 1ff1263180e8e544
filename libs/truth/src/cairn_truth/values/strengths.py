"""Strengths of candidates, joined across the pairs they were compared in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..columns import Floats
from .comparisons import Comparisons, Rows

_STRENGTH = 4.0
"""Weight of the guess at a variance, in observations of the effect: it fades where there are more."""

_LARGEST = 25.0
"""Squared log-odds no variance exceeds: where all agree on everything, the likelihood sets no limit."""


@dataclass(frozen=True)
class Variances:
    """How much effects differ, in squared log-odds, of candidates within a group and across groups, of pairs, of alikeness.

    As they stand here they are the guess before anything is seen: effects of the size of one in all.
    """

    strength: float = 0.5
    across: float = 0.5
    pair: float = 0.5
    alike: float = 0.5


GUESS = Variances()


@dataclass(frozen=True)
class Leads:
    """Posteriors of pairs: ``mean`` (pairs, 2) of lead and alikeness, ``covariance`` (pairs, 2, 2), in log-odds."""

    mean: Floats
    covariance: Floats


@dataclass(frozen=True)
class Strengths:
    """Posteriors of candidates within groups, ``mean`` and ``variance`` (rows,), and over all groups (everywhere,).

    ``elsewhere`` (rows, 2) is mean and variance of a candidate in its group from all that other groups said;
    ``prior_mean`` and ``prior_variance`` (pairs,) are of each pair's lead, from all that other pairs said.
    """

    mean: Floats
    variance: Floats
    across_mean: Floats
    across_variance: Floats
    elsewhere: Floats
    prior_mean: Floats
    prior_variance: Floats


class Network:
    """Messages that join strengths across pairs: Gaussian belief propagation on pairs, candidates, candidates anywhere.

    A message is a precision and a pull (precision times mean). The joint precision is diagonally dominant, so that
    they settle, at the exact means (Malioutov, Johnson & Willsky, JMLR 7, 2006); variances leave out what comes back
    around a loop. What is sent to a pair leaves out what the pair itself said.
    """

    def __init__(self, comparisons: Comparisons) -> None:
        self._left, self._right, self._across = comparisons.left, comparisons.right, comparisons.across
        votes = np.bincount(comparisons.pair[comparisons.labeler >= 0], minlength=self._left.size)
        # A single answer says nothing of what it would share with a second.
        self._repeated = votes > 1
        self._to_left = np.zeros((self._left.size, 2))
        self._to_right = np.zeros((self._left.size, 2))
        self._everywhere_rows = int(self._across.max(initial=-1)) + 1
        # A candidate of one group only has one strength, not two that nothing could tell apart.
        self._recurs = self._everywhere_rows < self._across.size

    def settle(self, leads: Leads | None, before: Strengths | None, variances: Variances) -> Strengths:
        """Send every message once, and return what candidates hear and pairs are told."""
        if leads is not None and before is not None:
            self._speak(leads, before, variances)
        heard, prior = self._hear(variances)
        node, across = heard + prior, np.tile([np.inf, 0.0], (self._everywhere_rows, 1))
        if self._recurs:
            across = self._everywhere(heard, variances)
        (left, left_variance), (right, right_variance) = self._told(node)
        return Strengths(
            mean=node[:, 1] / node[:, 0],
            variance=1.0 / node[:, 0],
            across_mean=across[:, 1] / across[:, 0],
            across_variance=1.0 / across[:, 0],
            elsewhere=np.stack([prior[:, 1] / prior[:, 0], 1.0 / prior[:, 0]], axis=1),
            prior_mean=left - right,
            prior_variance=variances.pair + left_variance + right_variance,
        )

    def learn(self, leads: Leads, strengths: Strengths, variances: Variances) -> Variances:
        """Return the variances that fit best what is believed now (a step of expectation maximisation)."""
        some = self._repeated
        pair = _share(
            variances.pair,
            strengths.prior_variance[some] - variances.pair,
            leads.mean[some, 0] - strengths.prior_mean[some],
            leads.covariance[some, 0, 0],
        )
        strength = _share(
            variances.strength,
            strengths.elsewhere[:, 1] - variances.strength,
            strengths.mean - strengths.elsewhere[:, 0],
            strengths.variance,
        )
        across = variances.across
        if self._recurs:
            across = _variance(GUESS.across, strengths.across_mean, strengths.across_variance)
        return Variances(
            _variance(GUESS.strength, *strength),
            across,
            _variance(GUESS.pair, *pair),
            _variance(GUESS.alike, leads.mean[some, 1], leads.covariance[some, 1, 1]),
        )

    def _speak(self, leads: Leads, before: Strengths, variances: Variances) -> None:
        heard, prior = self._hear(variances)
        (left, left_variance), (right, right_variance) = self._told(heard + prior)
        variance = leads.covariance[:, 0, 0]
        precision = np.maximum(1.0 / variance - 1.0 / before.prior_variance, 0.0)
        pull = leads.mean[:, 0] / variance - before.prior_mean / before.prior_variance
        scale = 1.0 + precision * (variances.pair + np.stack([right_variance, left_variance]))
        to_left = np.stack([precision, pull + precision * right], axis=1) / scale[0][:, None]
        to_right = np.stack([precision, precision * left - pull], axis=1) / scale[1][:, None]
        # Two candidates compared often would else throw their difference to and fro.
        self._to_left, self._to_right = (self._to_left + to_left) / 2.0, (self._to_right + to_right) / 2.0

    def _hear(self, variances: Variances) -> tuple[Floats, Floats]:
        """Return what pairs say of each candidate, and what is known of it from elsewhere."""
        rows = self._across.size
        heard = summed(self._left, self._to_left.T, rows) + summed(self._right, self._to_right.T, rows)
        if not self._recurs:
            return heard, np.tile([1.0 / variances.strength, 0.0], (rows, 1))
        upward = heard / (1.0 + heard[:, :1] * variances.strength)
        downward = self._everywhere(heard, variances)[self._across] - upward
        return heard, downward / (1.0 + downward[:, :1] * variances.strength)

    def _everywhere(self, heard: Floats, variances: Variances) -> Floats:
        upward = heard / (1.0 + heard[:, :1] * variances.strength)
        prior = np.array([1.0 / variances.across, 0.0])
        return np.asarray(summed(self._across, upward.T, self._everywhere_rows) + prior)

    def _told(self, node: Floats) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
        """Return mean and variance of each pair's left and right candidate without the pair's own say."""
        left, right = node[self._left] - self._to_left, node[self._right] - self._to_right
        return (left[:, 1] / left[:, 0], 1.0 / left[:, 0]), (right[:, 1] / right[:, 0], 1.0 / right[:, 0])


@dataclass(frozen=True)
class NamedStrengths:
    """What is known of candidates by name: rows of ``(mean, variance)`` within groups and across them."""

    candidates: Mapping[tuple[Any, Any], int]
    everywhere: Mapping[Any, int]
    within: Floats
    across: Floats
    variances: Variances

    def of(self, group: Any, candidate: Any) -> tuple[float, float]:
        """Return mean and variance of a candidate's strength in a group, whoever and wherever it is."""
        row = self.candidates.get((group, candidate))
        if row is not None:
            return float(self.within[row, 0]), float(self.within[row, 1])
        row = self.everywhere.get(candidate)
        if row is not None:
            return float(self.across[row, 0]), float(self.across[row, 1]) + self.variances.strength
        return 0.0, self.variances.across + self.variances.strength

    def lead(self, group: Any, left: Any, right: Any) -> tuple[float, float]:
        """Return mean and variance of the lead of a pair of which nothing else is known."""
        (mean, variance), (other, more) = self.of(group, left), self.of(group, right)
        return mean - other, variance + more + self.variances.pair


def _share(own: float, other: Floats, off: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """Return mean and variance of an effect of variance ``own``, from those of its sum with another's."""
    gain = own / (own + other)
    return gain * off, own * (1.0 - gain) + gain**2 * variance


def _variance(guess: float, mean: Floats, variance: Floats) -> float:
    seen = float(np.sum(mean**2 + variance))
    return min((_STRENGTH * guess + seen) / (_STRENGTH + mean.size), _LARGEST)


def summed(row: Rows, columns: Sequence[Floats] | Floats, rows: int) -> Floats:
    """Return sums ``(rows, columns)`` by row, in the order given."""
    return np.stack([np.bincount(row, weights=column, minlength=rows) for column in columns], axis=1)
