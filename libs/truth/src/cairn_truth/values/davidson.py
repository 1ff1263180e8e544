"""The published models of paired comparisons, as yardsticks: Davidson's, and Bradley-Terry with noisy labelers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, special

from ..columns import Floats
from .comparisons import LEFT, NEITHER, RIGHT, Comparisons

_ROUNDS = 500


@dataclass(frozen=True)
class Ranked:
    """Strengths ``(rows,)`` of candidates in their group, in log-odds; ``chance`` (pairs, 3) of left, right, neither."""

    strength: Floats
    chance: Floats


class Davidson:
    """Bradley-Terry with ties (Davidson, J. Am. Stat. Assoc. 65, 1970), all labelers alike, one strength a candidate.

    ``prior_variance`` (squared log-odds) of strengths keeps them finite where one candidate won all.
    """

    def __init__(self, prior_variance: float = 10.0) -> None:
        if not prior_variance > 0.0:
            raise ValueError(f"prior_variance is {prior_variance}; expected above 0")
        self.prior_variance = prior_variance

    def fit(self, comparisons: Comparisons) -> Ranked:
        """Return the most probable strengths (L-BFGS on the exact gradient)."""
        c, rows = comparisons, len(comparisons.candidates)
        left, right = c.left[c.pair], c.right[c.pair]
        said = np.array([[0.5, 0.0], [-0.5, 0.0], [0.0, 1.0]])[c.outcome]

        def loss(x: Floats) -> tuple[float, Floats]:
            chance = _davidson(x[left] - x[right], x[rows], c.ties)
            picked = chance[np.arange(c.outcome.size), c.outcome]
            off = np.stack([(chance[:, LEFT] - chance[:, RIGHT]) / 2.0, chance[:, NEITHER]], axis=1) - said
            pull = c.weight * off[:, 0]
            slopes = np.bincount(left, pull, rows) - np.bincount(right, pull, rows)
            gradient: Floats = np.append(slopes, c.weight @ off[:, 1]) + x / self.prior_variance
            cost = -(c.weight @ np.log(np.maximum(picked, 1e-300))) + x @ x / self.prior_variance / 2.0
            return float(cost), gradient

        x = _least(loss, np.zeros(rows + 1))
        return Ranked(x[:rows], _davidson(x[c.left] - x[c.right], x[rows], c.ties))


class NoisyBradleyTerry:
    """A labeler compares by strength with a chance of their own, and else goes by the side (Bugakova et al., 2019).

    ``P(left) = g[w] e(s[left] - s[right]) + (1 - g[w]) e(q[w])``, e the logistic function; a tie is half a win of
    each. Weak normal priors of ``prior_variance`` on all log-odds keep them finite; skills start at e(1). Who stands
    for the crowd (labeler -1) has no side and that skill, and is not learnt.
    """

    def __init__(self, prior_variance: float = 10.0) -> None:
        if not prior_variance > 0.0:
            raise ValueError(f"prior_variance is {prior_variance}; expected above 0")
        self.prior_variance = prior_variance

    def fit(self, comparisons: Comparisons) -> Ranked:
        """Return the most probable strengths (L-BFGS on the exact gradient); neither has the share it had."""
        c, rows, people = comparisons, len(comparisons.candidates), len(comparisons.labelers)
        left, right, labeler = c.left[c.pair], c.right[c.pair], c.labeler
        won = np.array([1.0, 0.0, 0.5])[c.outcome]
        start = np.concatenate([np.zeros(rows), np.zeros(people), np.ones(people)])
        named = labeler >= 0

        def by_labeler(slopes: Floats) -> Floats:
            return np.bincount(labeler[named], slopes[named], people).astype(np.float64, copy=False)

        def loss(x: Floats) -> tuple[float, Floats]:
            side = np.append(x[rows : rows + people], 0.0)[labeler]
            skill = special.expit(np.append(x[rows + people :], 1.0)[labeler])
            # Shown the other way round, the pair's right was at the left.
            lean = special.expit(c.placed * side)
            fair = special.expit(x[left] - x[right])
            chance = np.clip(skill * fair + (1.0 - skill) * lean, 1e-12, 1.0 - 1e-12)
            cost = -(c.weight @ (won * np.log(chance) + (1.0 - won) * np.log1p(-chance)))
            slope = -c.weight * (won / chance - (1.0 - won) / (1.0 - chance))
            pull = slope * skill * fair * (1.0 - fair)
            gradient = np.concatenate(
                [
                    np.bincount(left, pull, rows) - np.bincount(right, pull, rows),
                    by_labeler(slope * (1.0 - skill) * lean * (1.0 - lean) * c.placed),
                    by_labeler(slope * (fair - lean) * skill * (1.0 - skill)),
                ]
            )
            off = x - start
            return float(cost + off @ off / self.prior_variance / 2.0), gradient + off / self.prior_variance

        x = _least(loss, start)
        tied = float(np.mean(c.outcome == NEITHER)) if c.outcome.size else 0.0
        fair = special.expit(x[c.left] - x[c.right])
        chance = np.stack(
            [fair * (1.0 - tied), (1.0 - fair) * (1.0 - tied), np.full(fair.size, tied)], axis=1
        )
        return Ranked(x[:rows], chance)


def vote_counts(comparisons: Comparisons) -> Floats:
    """Return how much each pair's left, right and neither were voted for ``(pairs, 3)``."""
    cell = comparisons.pair * 3 + comparisons.outcome
    counts = np.bincount(cell, comparisons.weight, minlength=3 * len(comparisons.pairs))
    return counts.astype(np.float64).reshape(-1, 3)


def _davidson(lead: Floats, neither: float, ties: bool) -> Floats:
    odds = np.stack([lead / 2.0, -lead / 2.0, np.full(lead.shape, neither if ties else -np.inf)], axis=1)
    return np.asarray(special.softmax(odds, axis=1))


def _least(loss: Any, start: Floats) -> Floats:
    if not start.size:
        return start
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _ROUNDS})
    return np.asarray(found.x, dtype=np.float64)
