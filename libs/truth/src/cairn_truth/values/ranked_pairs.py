"""Rankings as the comparisons they imply, and comparisons as the ranking they imply."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ..columns import Floats
from .comparisons import LEFT, NEITHER, RIGHT, Rows

Tiers = tuple[tuple[str, ...], ...]
"""Candidates, best first; those of one tier share a place."""

_MOST_MOVES = 10
"""Rounds of moving candidates: an order by strengths needs one or two."""

_NOTHING = 1e-12
"""Agreement that is rounding, and not worth a move or a tie."""


def places(ranking: Tiers, candidates: Sequence[str], top: bool) -> Floats:
    """Return each candidate's place ``(candidates,)``, 0 the best; of one not placed nan, or with ``top`` below all."""
    place = {name: float(i) for i, tier in enumerate(ranking) for name in tier}
    return np.array([place.get(name, np.inf if top else np.nan) for name in candidates])


def pairs_of(candidates: int) -> tuple[Rows, Rows]:
    """Return first and second ``(pairs,)`` of all pairs, the first before the second in order."""
    first, second = np.triu_indices(candidates, k=1)
    return first.astype(np.int64), second.astype(np.int64)


def outcomes(place: Floats, first: Rows, second: Rows) -> Rows:
    """Return what places say of each pair ``(pairs,)``: left, right, neither, and -1 for nothing."""
    one, other = place[first], place[second]
    said = np.where(one < other, LEFT, np.where(one > other, RIGHT, NEITHER))
    silent = np.isnan(one) | np.isnan(other) | (np.isinf(one) & np.isinf(other))
    return np.where(silent, -1, said).astype(np.int64)


def worth(placed: int, among: int) -> float:
    """Return what each pair that a ranking implies counts for, since they do not come independently: 0..1.

    A ranking is as many choices of the best among those left as there are candidates placed (Plackett, Appl. Stat. 24,
    1975). Its pairs are weighted to hold the same Fisher information on equal candidates as those choices: a choice
    among k holds 1 - 1/k, a comparison a half.
    """
    pairs = placed * (placed - 1) / 2.0 + placed * (among - placed)
    if not pairs:
        return 0.0
    left = among - np.arange(placed)
    return float(np.sum(1.0 - 1.0 / left)) / (pairs / 2.0)


def best_tiers(better: Floats, strength: Floats, candidates: Sequence[str]) -> tuple[Tiers, float]:
    """Return the tiers that agree with most pairs, expectedly, and with what share of them.

    ``better[a, b]`` (candidates, candidates) is the probability that a is better than b; what is left of 1 is that
    neither is. The order is that of ``strength`` with candidates moved while that gains (a local optimum of
    Kemeny's); given the order, the cuts between tiers are the best there are, by dynamic programming.
    """
    order = _gained(better, sorted(range(len(candidates)), key=lambda i: (-strength[i], candidates[i])))
    over = np.triu(better[np.ix_(order, order)], k=1)
    under = np.triu(better.T[np.ix_(order, order)], k=1)
    level = np.triu(1.0 - over - under, k=1)
    cuts, gain = _cuts(level - over)
    tiers = tuple(tuple(sorted(candidates[i] for i in order[a:b])) for a, b in pairwise(cuts))
    pairs = len(order) * (len(order) - 1) / 2.0
    return tiers, min(max((float(over.sum()) + gain) / pairs, 0.0), 1.0) if pairs else 1.0


def _gained(better: Floats, order: list[int]) -> list[int]:
    """Return the order after moving candidates, each to where it agrees with most, while that gains; a round each."""
    for _ in range(_MOST_MOVES):
        before = list(order)
        for candidate in before:
            others = np.array([other for other in order if other != candidate], dtype=np.int64)
            above, below = better[others, candidate], better[candidate, others]
            agreed = np.append(0.0, np.cumsum(above - below))
            at = order.index(candidate)
            place = int(np.argmax(agreed))
            if agreed[place] > agreed[at] + _NOTHING:
                order = [*others[:place].tolist(), candidate, *others[place:].tolist()]
        if order == before:
            break
    return order


def _cuts(gain: Floats) -> tuple[list[int], float]:
    """Return the cuts between tiers that gain most, and how much, where a pair on one tier gains ``gain[a, b]``."""
    size = gain.shape[0]
    total = np.zeros((size + 1, size + 1))
    total[1:, 1:] = gain.cumsum(axis=0).cumsum(axis=1)
    best, came = np.zeros(size + 1), np.zeros(size + 1, dtype=np.int64)
    for end in range(1, size + 1):
        start = np.arange(end)
        tier = total[end, end] - total[start, end] - total[end, start] + total[start, start]
        # From the last on: where nothing is gained, a tier is one candidate.
        found = end - 1 - int(np.argmax((best[:end] + tier)[::-1] - _NOTHING * np.arange(end)))
        best[end], came[end] = best[found] + tier[found], found
    cuts = [size]
    while cuts[-1] > 0:
        cuts.append(int(came[cuts[-1]]))
    return cuts[::-1], float(best[size])
