"""What forensics say of a labeler, and the empirical Bayes that every kind of finding rests on.

Each kind of misconduct is one number of a labeler (or of a pair): which share of answers looks at the item, which share
is copied. How it is spread over the crowd is learnt from the crowd itself (the nonparametric maximum likelihood
of Kiefer & Wolfowitz 1956, on a grid), so that a finding compares a labeler with this crowd and not with an ideal.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ..classes.hierarchical import HierarchicalDawidSkene, HierarchicalFit
from ..classes.votes import Votes, check_votes
from ..columns import Floats, check_probability

GRID = np.linspace(0.0, 1.0, 21)
"""Shares that are told apart: a twentieth is finer than anybody's answers can show."""

_EM_ROUNDS = 200
_EM_SETTLED = 1e-6


class Misconduct(enum.Enum):
    """What somebody is found to do."""

    CONSTANT = "CONSTANT"
    """Gives one answer, whatever the item."""
    RANDOM = "RANDOM"
    """Gives answers that do not depend on the item."""
    CONTRARY = "CONTRARY"
    """Gives answers that depend on the item, but not as anybody else's do: classes swapped, or sabotage."""
    BOT = "BOT"
    """Answers faster, or more regularly, than a person can."""
    COLLUSION = "COLLUSION"
    """Copies: agrees where two who each answered for themselves would not."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Who (labelers, ascending) is found to do what, how surely, and where to look.

    ``statistic``: what was measured, in the kind's own unit (share of answers that look at the item; share copied;
    seconds). ``low`` and ``high``: its 95 % interval. ``probability``: that the finding is true, given the crowd; of a
    bot, the share of true ones to expect among all named as surely (one minus the p-value adjusted for them).
    ``p_value``: chance of answers as telling from somebody honest. ``items``: those that show it, most telling first.
    """

    kind: Misconduct
    labelers: tuple[int, ...]
    statistic: float
    low: float
    high: float
    probability: float
    p_value: float
    answers: int
    items: tuple[int, ...]


def population(log_likelihood: Floats) -> Floats:
    """Return how a share is spread over the units, ``(grid,)``: the mixture under which all are likeliest.

    ``log_likelihood`` ``(units, grid)``. One more unit, spread evenly, keeps every share possible.
    """
    units, grid = log_likelihood.shape
    weight = np.full(grid, 1.0 / grid)
    if not units:
        return weight
    likelihood = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
    for _ in range(_EM_ROUNDS):
        joint = likelihood * weight
        shared = (joint / joint.sum(axis=1, keepdims=True)).sum(axis=0)
        fresh = (shared + 1.0 / grid) / (units + 1.0)
        moved = float(np.abs(fresh - weight).max())
        weight = fresh
        if moved < _EM_SETTLED:
            break
    return np.asarray(weight)


def given_population(log_likelihood: Floats, weight: Floats) -> Floats:
    """Return each unit's posterior over the grid, ``(units, grid)``, rows summing to one."""
    return np.asarray(special.softmax(log_likelihood + np.log(weight), axis=1))


def interval(posterior: Floats) -> tuple[Floats, Floats, Floats]:
    """Return mean, and 2.5 % and 97.5 % quantiles of posteriors ``(units, grid)`` on the grid, each ``(units,)``."""
    below = np.cumsum(posterior, axis=1)
    low = GRID[np.minimum((below < 0.025).sum(axis=1), GRID.size - 1)]
    high = GRID[np.minimum((below < 0.975).sum(axis=1), GRID.size - 1)]
    mean = posterior @ GRID
    return mean, np.minimum(low, mean), np.maximum(high, mean)


def discoveries(probability: Floats, false_rate: float) -> NDArray[np.int64]:
    """Return the units to name, likeliest first, of which at most ``false_rate`` are expected to be named wrongly.

    The Bayesian counterpart of Benjamini & Hochberg (Newton et al. 2004): the mean of one minus the probability over
    all that are named stays at most ``false_rate``, and nobody is named whose own doubt is above twice that.
    """
    order = np.argsort(-probability, kind="stable")
    doubt = 1.0 - probability[order]
    running = np.cumsum(doubt) / np.arange(1, order.size + 1)
    named = (running <= false_rate) & (doubt <= 2.0 * false_rate)
    return np.asarray(order[: int(np.argmin(named)) if not named.all() else order.size])


def adjusted(p_value: Floats) -> Floats:
    """Return p-values adjusted for how many there are (Benjamini & Hochberg 1995): name those at most the false rate."""
    order = np.argsort(p_value, kind="stable")
    scaled = p_value[order] * p_value.size / np.arange(1, p_value.size + 1)
    fair = np.empty(p_value.size)
    fair[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return fair


def checked_rate(false_rate: float) -> float:
    """Return the rate. Raises ValueError unless it lies strictly between 0 and 1."""
    check_probability("false_rate", false_rate)
    return false_rate


def checked_fit(votes: Votes, fit: HierarchicalFit) -> HierarchicalFit:
    """Return the fit. Raises ValueError where it was not made of these votes, or by another method."""
    check_votes(votes)
    if not isinstance(fit, HierarchicalFit):
        raise ValueError(
            f"the fit is {type(fit).__name__}; expected HierarchicalFit, of HierarchicalDawidSkene().fit(votes)"
        )
    expected = (votes.items, votes.classes)
    if fit.evidence.shape != expected or len(fit.confusion) != votes.labelers:
        raise ValueError(
            f"the fit has evidence {fit.evidence.shape} and {len(fit.confusion)} labelers; expected "
            f"{expected} and {votes.labelers}: fit these votes"
        )
    return fit


def without_own(votes: Votes, fit: HierarchicalFit, known: NDArray[np.int64]) -> Floats:
    """Return, for each vote, what the *others* say of its item: posteriors ``(votes, classes)``.

    All votes of the labeler on the item are left out; evidence is thinned as the fit's own posterior. ``known``
    ``(items,)`` is the true class, -1 where unknown.
    """
    said = np.log(fit.confusion)[votes.labeler, :, votes.choice]
    pair = votes.item.astype(np.int64) * max(votes.labelers, 1) + votes.labeler
    _, place, count = np.unique(pair, return_inverse=True, return_counts=True)
    own = np.zeros((count.size, votes.classes))
    np.add.at(own, place, said)
    others = fit.evidence[votes.item] - own[place]
    model = HierarchicalDawidSkene()
    left = fit.votes[votes.item] - count[place]
    posterior = model.posterior(fit.prior, others, left)
    return clamped(posterior, known[votes.item])


def clamped(posterior: Floats, known: NDArray[np.int64]) -> Floats:
    """Return posteriors with those of rows whose class is known put to it."""
    sure = known >= 0
    posterior[sure] = 0.0
    posterior[sure, known[sure]] = 1.0
    return posterior


def top(items: NDArray[np.integer], weight: Floats, most: int = 10) -> tuple[int, ...]:
    """Return the items of the largest positive weights, most telling first, each once."""
    order = np.lexsort((items, -weight))
    chosen: list[int] = []
    for place in order:
        if weight[place] <= 0.0 or len(chosen) == most:
            break
        if int(items[place]) not in chosen:
            chosen.append(int(items[place]))
    return tuple(chosen)


def names_of(findings: Sequence[Finding]) -> set[int]:
    """Return all labelers who are found to do something."""
    return {labeler for found in findings for labeler in found.labelers}
