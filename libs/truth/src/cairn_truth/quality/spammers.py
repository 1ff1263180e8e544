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
from numpy.typing import ArrayLike, NDArray
from scipy import special

from ..classes.hierarchical import HierarchicalFit
from ..classes.votes import Votes, checked_gold
from ..columns import Floats
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

_CONFUSION_STRENGTH = 4.0
"""Votes for each truth by which those who look lean on what everybody does."""

LEAST_ANSWERS = 20
"""Nobody is named for fewer: the truth itself could not clear them."""

_AGAINST = 1e-3
"""Chance of so much dependence without any, below which answers are called contrary."""

_MONOTONE = 0.9
"""Whoever gives one answer so often is called constant rather than random."""

_BLOCK = 200_000


@dataclass(frozen=True)
class Attention:
    """Which share of answers looks at the item, by labeler: ``share`` with its 95 % interval ``low``, ``high``.

    ``posterior`` ``(labelers, grid)`` over `GRID`; ``crowd`` ``(grid,)`` how the share is spread over the crowd;
    ``spam`` ``(labelers,)`` the probability that it is at most `SPAM`; ``p_value`` ``(labelers,)`` of answers as
    telling from somebody who looks at half of the items. ``doubt`` ``(votes,)``: what each vote says for habit and
    against attention, in nats; ``others`` ``(votes, classes)``: what all others say of its item.
    """

    share: Floats
    low: Floats
    high: Floats
    spam: Floats
    p_value: Floats
    posterior: Floats
    crowd: Floats
    doubt: Floats
    others: Floats


def attention(votes: Votes, fit: HierarchicalFit, *, gold: ArrayLike | None = None) -> Attention:
    """Return every labeler's attention. Cost: ``votes * (classes + grid)`` a round, eight rounds.

    ``gold`` ``(items,)`` holds known classes, -1 elsewhere. Raises ValueError where ``fit`` is not of these votes.
    """
    known = checked_gold(gold, votes)
    others = without_own(votes, checked_fit(votes, fit), known)
    habit = _habit(votes)
    even = np.full((votes.classes, votes.classes), 1.0 / votes.classes)
    everybody = _confusion(votes, others, even, np.full(len(votes), float(votes.classes)), even)
    confusion = everybody
    looked = _chance(votes, others, confusion)
    for _ in range(_ROUNDS):
        likelihood = _likelihood(votes, looked, habit)
        crowd = population(likelihood[votes.per_labeler() > 0])
        share = given_population(likelihood, crowd) @ GRID
        own = share[votes.labeler]
        from_item = own * looked / (own * looked + (1.0 - own) * habit)
        confusion = _confusion(votes, others, confusion, from_item / looked, everybody)
        looked = _chance(votes, others, confusion)
    likelihood = _likelihood(votes, looked, habit)
    posterior = given_population(likelihood, crowd)
    mean, low, high = interval(posterior)
    spam = posterior[:, GRID <= SPAM + 1e-9].sum(axis=1)
    doubt = np.log(habit) - np.log(looked)
    return Attention(mean, low, high, spam, _p_value(likelihood), posterior, crowd, doubt, others)


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
    for who in discoveries(np.where(cast >= LEAST_ANSWERS, found.spam, 0.0), rate):
        own = np.flatnonzero(votes.labeler == who)
        constant = tally[who].max() >= _MONOTONE * cast[who]
        kind = Misconduct.CONSTANT if constant else _kind(votes.choice[own], found.others[own])
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


def _kind(choice: NDArray[np.int16], others: Floats) -> Misconduct:
    """Return whether answers that do not follow the item are against it: dependent, and right less often than chance.

    Dependence by the likelihood-ratio test of the table of answers and truths (its soft counts make it conservative).
    """
    table = np.stack([others[choice == c].sum(axis=0) for c in range(others.shape[1])])
    even = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / max(float(table.sum()), 1e-300)
    ratio = 2.0 * float(special.xlogy(table, table / np.where(even > 0, even, 1.0)).sum())
    freedom = max((np.count_nonzero(table.sum(axis=1)) - 1) * (others.shape[1] - 1), 1)
    against = float(np.trace(table)) < float(np.trace(even))
    dependent = special.gammaincc(freedom / 2.0, max(ratio, 0.0) / 2.0) < _AGAINST
    return Misconduct.CONTRARY if against and dependent else Misconduct.RANDOM


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


def _confusion(votes: Votes, others: Floats, confusion: Floats, weight: Floats, prior: Floats) -> Floats:
    """Return the chance of each answer given each truth ``(answer, truth)``: one step of EM from ``confusion``.

    It leans on ``prior``: where nobody seems to look, nothing is learnt of those who do.
    """
    part = others * confusion[votes.choice] * weight[:, None]
    counts = np.stack([np.bincount(votes.choice, part[:, z], votes.classes) for z in range(votes.classes)], 1)
    leaning = counts + _CONFUSION_STRENGTH * prior
    return np.asarray(leaning / leaning.sum(axis=0))


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
