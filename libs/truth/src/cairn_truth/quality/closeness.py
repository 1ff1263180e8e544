"""Who is close to whom, before anything is known of the truth.

Where errors are spread evenly, agreement above chance of two who answer for themselves is the product of what each
has in common with the truth: a matrix of rank one (Ghosh, Kale & McAfee 2011; Dalvi et al. 2013). Whoever agrees far
beyond it is close.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from ..classes.votes import Votes
from ..columns import Floats

Ints = NDArray[np.int64]

_BLOCK = 300_000
"""Pairs of votes looked at together: some megabytes."""

_CLOSE = 3.0
"""Standard deviations by which agreement must exceed what the two have in common with the truth."""

_FAIRLY_CLOSE = 2.0
"""And this is enough where a third is as close to both: copying is transitive, chance is not."""

_CLOSE_SHARE = 0.3
"""And the least part of the disagreement to be expected that must be missing."""

_HALF_TRUSTED = 5.0
"""Items in common at which a pair counts half: one partner in everything must not outweigh many in a little."""

_OUTLIER = 4.0
"""Standard deviations beyond which a pair has no say in what is expected (Tukey's biweight)."""

_ROUNDS = 40


def one_each(votes: Votes) -> Votes:
    """Return the votes with only the lowest of a labeler's several votes on an item: votes have no order, none is last."""
    key = votes.item.astype(np.int64) * max(votes.labelers, 1) + votes.labeler
    _, first = np.unique(key, return_index=True)
    columns = (votes.item[first], votes.labeler[first], votes.choice[first])
    return Votes(*columns, votes.items, votes.labelers, votes.classes)


def vote_pairs(votes: Votes) -> Iterator[tuple[Ints, Ints]]:
    """Yield all pairs of votes on one item, as places in the columns, the lower first, block by block."""
    per_item = votes.per_item()
    start = np.cumsum(per_item) - per_item
    for count in np.unique(per_item[per_item >= 2]):
        left, right = np.triu_indices(int(count), 1)
        first = start[per_item == count]
        step = max(1, _BLOCK // left.size)
        for begin in range(0, first.size, step):
            rows = first[begin : begin + step, None]
            yield (rows + left).ravel(), (rows + right).ravel()


def pair_of(votes: Votes, left: Ints, right: Ints) -> Ints:
    """Return the pair of labelers of each pair of votes as one number, ``first * labelers + second``."""
    return np.asarray(votes.labeler[left].astype(np.int64) * votes.labelers + votes.labeler[right])


def connected(first: Ints, second: Ints, labelers: int) -> Ints:
    """Return each labeler's group ``(labelers,)``: those connected by the links given, numbered from 0."""
    if not labelers:
        return np.zeros(0, np.int64)
    links = sparse.coo_matrix((np.ones(first.size), (first, second)), shape=(labelers, labelers))
    return np.asarray(connected_components(links, directed=False)[1], np.int64)


def linked(alike: NDArray[np.bool_], first: Ints, second: Ints, labelers: int) -> NDArray[np.bool_]:
    """Return, for each pair, whether some third labeler is alike to both."""
    friends: list[set[int]] = [set() for _ in range(labelers)]
    for a, b in zip(first[alike].tolist(), second[alike].tolist(), strict=True):
        friends[a].add(b)
        friends[b].add(a)
    third = [
        not friends[a].isdisjoint(friends[b]) for a, b in zip(first.tolist(), second.tolist(), strict=True)
    ]
    return np.array(third, dtype=np.bool_)


def close_groups(votes: Votes, least_common: int) -> Ints:
    """Return each labeler's group ``(labelers,)`` by links of agreement far beyond what reliability explains.

    ``votes`` hold one vote a labeler and item; pairs with less than ``least_common`` items are not linked.
    """
    first, second, common, agreed = _agreement(votes)
    if not common.size:
        return np.arange(votes.labelers)
    share = np.bincount(votes.choice, minlength=votes.classes) / len(votes)
    chance = min(float(share @ share), 0.98)
    expected, deviation = _expected(first, second, common, agreed / common, chance, votes.labelers)
    missing = (agreed / common - expected) / (1.0 - expected)
    able = (missing > _CLOSE_SHARE) & (common >= least_common)
    fairly = able & (deviation > _FAIRLY_CLOSE)
    link = (able & (deviation > _CLOSE)) | (fairly & linked(fairly, first, second, votes.labelers))
    return connected(first[link], second[link], votes.labelers)


def _agreement(votes: Votes) -> tuple[Ints, Ints, Ints, Floats]:
    """Return all pairs of labelers with items in common: first, second, how many, and how many they agree on."""
    pairs, shared, same = [np.zeros(0, np.int64)], [np.zeros(0)], [np.zeros(0)]
    for left, right in vote_pairs(votes):
        pair, place = np.unique(pair_of(votes, left, right), return_inverse=True)
        alike = votes.choice[left] == votes.choice[right]
        pairs.append(pair)
        shared.append(np.bincount(place).astype(np.float64))
        same.append(np.bincount(place, alike).astype(np.float64))
    every, place = np.unique(np.concatenate(pairs), return_inverse=True)
    common = np.bincount(place, np.concatenate(shared), every.size).astype(np.int64)
    agreed = np.bincount(place, np.concatenate(same), every.size).astype(np.float64)
    labelers = max(votes.labelers, 1)
    return every // labelers, every % labelers, common, agreed


def _expected(
    first: Ints, second: Ints, common: Ints, rate: Floats, chance: float, labelers: int
) -> tuple[Floats, Floats]:
    """Return the agreement expected of each pair, and its deviation in the crowd's own standard deviations."""
    above = (rate - chance) / (1.0 - chance)
    trust = common / (common + _HALF_TRUSTED)
    weight, skill = trust, np.full(labelers, 0.7)
    expected, deviation = np.zeros(common.size), np.zeros(common.size)
    for _ in range(_ROUNDS):
        one, two = skill[first], skill[second]
        said = np.bincount(first, weight * above * two, labelers)
        said = said + np.bincount(second, weight * above * one, labelers)
        square = np.bincount(first, weight * two**2, labelers)
        square = square + np.bincount(second, weight * one**2, labelers)
        # Half a partner like the typical labeler: nobody is judged by one agreement. Half steps, or it swings.
        fresh = (said + 0.5 * float(np.median(skill))) / (square + 0.5)
        skill = 0.5 * (skill + np.clip(fresh, 0.0, 1.0))
        expected = np.clip(chance + (1.0 - chance) * skill[first] * skill[second], 0.02, 0.98)
        deviation = (rate - expected) / np.sqrt(expected * (1.0 - expected) / common)
        deviation = deviation / _scatter(np.abs(deviation))
        weight = trust * np.maximum(1.0 - (deviation / _OUTLIER) ** 2, 0.0) ** 2
    return expected, deviation


def _scatter(size: Floats) -> float:
    """Return how much wider than chance alone deviations of this ``size`` scatter: crowds share mistakes."""
    middle, tail = 1.4826 * float(np.median(size)), float(np.quantile(size, 0.95)) / 1.96
    return max(1.0, middle, tail)
