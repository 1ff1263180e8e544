"""How often a labeler is right, and how surely that is known: a beta-binomial crowd."""

from __future__ import annotations

from typing import NamedTuple

from scipy import special

from .columns import Floats

_TYPICAL_STRENGTH, _TYPICAL_CROWD = 5.0, 5.0
"""Before a crowd was seen its labelers spread as widely as a Beta of that strength; that counts as so many labelers."""


class CrowdAccuracy(NamedTuple):
    """The Beta distribution of labelers' accuracies: its ``mean``, and its ``strength`` in votes."""

    mean: float
    strength: float

    def of(self, right: float, seen: float) -> tuple[float, float, float]:
        """Return the expected accuracy of a labeler ``right`` in so many of ``seen`` votes, and its central 95 %."""
        hits = right + self.strength * self.mean
        misses = seen - right + self.strength * (1.0 - self.mean)
        low, high = credible_interval(hits, misses)
        return hits / (hits + misses), low, high


def crowd_accuracy(right: Floats, seen: Floats, mean: float) -> CrowdAccuracy:
    """Return how the accuracies of labelers are spread, by moments (Kleinman, J. Am. Stat. Assoc. 68, 1973).

    ``right`` of ``seen`` votes of each labeler ``(labelers,)``; ``mean`` the accuracy of a stranger, 0..1.
    """
    votes, inner = seen[seen > 0.0], mean * (1.0 - mean)
    typical = inner / (_TYPICAL_STRENGTH + 1.0)
    if votes.size < 2 or inner <= 0.0:  # one class alone: nobody can be wrong
        return CrowdAccuracy(mean, _TYPICAL_STRENGTH)
    apart = float(votes @ (right[seen > 0.0] / votes - mean) ** 2) - inner * (votes.size - 1)
    found = max(apart, 0.0) / float(votes.sum() - (votes @ votes) / votes.sum())
    spread = (votes.size * found + _TYPICAL_CROWD * typical) / (votes.size + _TYPICAL_CROWD)
    return CrowdAccuracy(mean, max(inner / spread - 1.0, 1.0))


def credible_interval(hits: float, misses: float) -> tuple[float, float]:
    """Return the central 95 % of a Beta(``hits``, ``misses``), which is all at 1 without misses, and at 0 without hits."""
    if hits <= 0.0 or misses <= 0.0:
        return (1.0, 1.0) if misses <= 0.0 else (0.0, 0.0)
    low, high = special.betaincinv(hits, misses, [0.025, 0.975])
    return float(low), float(high)
