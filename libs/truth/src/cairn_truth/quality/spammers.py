"""Who answers without looking at the item?

A labeler's answer comes from the item with probability ``s``, the labeler's *attention*, and from habit otherwise::

    P(c | item) = s * sum_z q(z) C(c | z) + (1 - s) * h(c)

``q`` is what the others say of the item (the labeler left out), ``C`` how people of this crowd answer when they look,
``h`` the labeler's own habit: the frequencies of the labeler's other answers. ``s`` is 0 for whoever answers at random,
by the prior, or always the same. The likelihood of each ``s`` is read off on a grid, the spread of ``s`` over the crowd
is learnt by `findings.population`; with few answers a labeler leans on it, and so cannot be named.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from ..classes.hierarchical import HierarchicalFit
from ..classes.votes import Floats, Votes, checked_gold
from .findings import (
    GRID,
    Finding,
    Misconduct,
    checked_fit,
    checked_rate,
    discoveries,
    given_population,
    interval,
    population,
    top,
    without_own,
)

ALGORITHM = "Attention"
VERSION = "1"
"""Changes whenever the same votes may give another finding."""

SPAM = 0.2
"""Whoever looks at no more than a fifth of the items is called a spammer: their answers are worth next to nothing."""

_ROUNDS = 8
_HABIT_STRENGTH = 2.0
"""Answers of the crowd's mixture behind each labeler's habit."""

_CONFUSION_STRENGTH = 1.0
_MONOTONE = 0.9
"""Whoever gives one answer so often is called constant rather than random."""

_BLOCK = 200_000


@dataclass(frozen=True)
class Attention:
    """Which share of answers looks at the item, by labeler: ``share`` with its 95 % interval ``low``, ``high``.

    ``posterior`` ``(labelers, grid)`` over `GRID`; ``crowd`` ``(grid,)`` how the share is spread over the crowd;
    ``spam`` ``(labelers,)`` the probability that it is at most `SPAM`; ``p_value`` ``(labelers,)`` of answers as
    telling from somebody who looks at half of the items. ``doubt`` ``(votes,)``: what each vote says for habit and
    against attention, in nats.
    """

    share: Floats
    low: Floats
    high: Floats
    spam: Floats
    p_value: Floats
    posterior: Floats
    crowd: Floats
    doubt: Floats


def attention(votes: Votes, fit: HierarchicalFit, *, gold: ArrayLike | None = None) -> Attention:
    """Return every labeler's attention. Cost: ``votes * (classes + grid)`` a round, eight rounds.

    ``gold`` ``(items,)`` holds known classes, -1 elsewhere. Raises ValueError where ``fit`` is not of these votes.
    """
    known = checked_gold(gold, votes.items, votes.classes)
    others = without_own(votes, checked_fit(votes, fit), known)
    habit = _habit(votes)
    confusion = _confusion(votes, others, np.full((votes.classes, votes.classes), 1.0), np.ones(len(votes)))
    looked = _chance(votes, others, confusion)
    for _ in range(_ROUNDS):
        likelihood = _likelihood(votes, looked, habit)
        crowd = population(likelihood[votes.per_labeler() > 0])
        share = given_population(likelihood, crowd) @ GRID
        own = share[votes.labeler]
        from_item = own * looked / (own * looked + (1.0 - own) * habit)
        confusion = _confusion(votes, others, confusion, from_item / looked)
        looked = _chance(votes, others, confusion)
    likelihood = _likelihood(votes, looked, habit)
    posterior = given_population(likelihood, crowd)
    mean, low, high = interval(posterior)
    spam = posterior[:, GRID <= SPAM + 1e-9].sum(axis=1)
    return Attention(
        mean, low, high, spam, _p_value(likelihood), posterior, crowd, np.log(habit) - np.log(looked)
    )


def find_spammers(
    votes: Votes, fit: HierarchicalFit, *, gold: ArrayLike | None = None, false_rate: float = 0.05
) -> list[Finding]:
    """Name those who answer without looking, surest first; at most ``false_rate`` of them wrongly, in expectation.

    ``statistic`` is attention. Raises ValueError for a false rate outside (0, 1) or a fit of other votes.
    """
    rate = checked_rate(false_rate)
    found = attention(votes, fit, gold=gold)
    cast = votes.per_labeler()
    tally = _by_labeler(votes)
    findings = []
    for who in discoveries(np.where(cast > 0, found.spam, 0.0), rate):
        own = np.flatnonzero(votes.labeler == who)
        kind = Misconduct.CONSTANT if tally[who].max() >= _MONOTONE * cast[who] else Misconduct.RANDOM
        findings.append(
            Finding(
                kind,
                (int(who),),
                statistic=float(found.share[who]),
                low=float(found.low[who]),
                high=float(found.high[who]),
                probability=float(found.spam[who]),
                p_value=float(found.p_value[who]),
                answers=int(cast[who]),
                items=top(votes.item[own], found.doubt[own]),
            )
        )
    return findings


def _by_labeler(votes: Votes) -> Floats:
    flat = votes.labeler.astype(np.int64) * votes.classes + votes.choice
    counts = np.bincount(flat, minlength=votes.labelers * votes.classes)
    return counts.reshape(votes.labelers, votes.classes).astype(np.float64)


def _habit(votes: Votes) -> Floats:
    """Return each vote's chance by the labeler's other votes: its own vote must not explain itself."""
    tally = _by_labeler(votes)
    total = tally.sum(axis=0) + 1.0
    crowd = total / total.sum()
    own = tally[votes.labeler, votes.choice] - 1.0 + _HABIT_STRENGTH * crowd[votes.choice]
    return np.asarray(own / (tally.sum(axis=1)[votes.labeler] - 1.0 + _HABIT_STRENGTH))


def _confusion(votes: Votes, others: Floats, confusion: Floats, weight: Floats) -> Floats:
    """Return the chance of each answer given each truth ``(answer, truth)``: one step of EM from ``confusion``."""
    part = others * confusion[votes.choice] * weight[:, None]
    counts = np.stack([np.bincount(votes.choice, part[:, z], votes.classes) for z in range(votes.classes)], 1)
    even = _CONFUSION_STRENGTH / votes.classes
    return np.asarray((counts + even) / (counts.sum(axis=0) + _CONFUSION_STRENGTH))


def _chance(votes: Votes, others: Floats, confusion: Floats) -> Floats:
    return np.asarray(np.einsum("nz,nz->n", others, confusion[votes.choice]))


def _likelihood(votes: Votes, looked: Floats, habit: Floats) -> Floats:
    """Return the log-likelihood of each share on the grid, ``(labelers, grid)``, relative to pure habit."""
    ratio = looked / habit - 1.0
    columns = [
        np.bincount(votes.labeler, np.log1p(share * ratio), votes.labelers)
        if share < 1.0
        else np.bincount(votes.labeler, np.log(looked / habit), votes.labelers)
        for share in GRID
    ]
    return np.stack(columns, axis=1)


def _p_value(likelihood: Floats) -> Floats:
    """Return the chance of so little attention from somebody who looks at half of the items (Wilks 1938)."""
    half = GRID.size // 2
    gain = likelihood.max(axis=1) - likelihood[:, half]
    root = np.sqrt(2.0 * np.maximum(gain, 0.0))
    less = likelihood.argmax(axis=1) < half
    return np.asarray(special.ndtr(np.where(less, -root, root)))
