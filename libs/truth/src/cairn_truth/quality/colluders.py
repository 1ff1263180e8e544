"""Who copies from whom?

Two labelers who each answer for themselves agree as often as the item and their reliabilities make them; one who
copies the other with probability ``g`` agrees more often, and above all on answers that are wrong or rare::

    P(a, b | item) = (1 - g) * sum_z q(z) C_i(a | z) C_j(b | z) + g * [a = b] * m(a)

``q`` is what the item's *other* voices say (neither of the two, nor anybody of their groups), ``C`` is each one's
confusion, ``m`` the chance that one of them alone answers ``a``. The likelihood of each ``g`` is read off on a grid for
every pair with answers in common, and how ``g`` is spread over all pairs is learnt by `findings.population`: people who
share mistakes are all somewhat alike, and that is where the crowd puts its mass. A pair is named for copying most of its
answers, not for being somewhat alike.

A group that copies is its own best witness: where it is many, the posterior says what the group says. So suspects are
first gathered without any truth, by agreement alone (`closeness.close_groups`), heard as one voice in a fit of their own,
and then judged by what the others say; twice, since who is found changes what the others say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from ..classes.hierarchical import HierarchicalDawidSkene
from ..classes.votes import Votes, checked_gold
from ..columns import Floats
from .closeness import close_groups, connected, linked, one_each, pair_of, vote_pairs
from .findings import (
    GRID,
    Finding,
    Misconduct,
    checked_rate,
    clamped,
    discoveries,
    given_population,
    interval,
    population,
    top,
)

ALGORITHM = "CopiedShare"
VERSION = "1"
"""Changes whenever the same votes may give another finding."""

COPIES = 0.3
"""Whoever shares at least half of the answers with another by copying is called a colluder."""

LEAST_COMMON = 10
"""Pairs with fewer items in common are passed over: nobody is named for agreeing on nine."""

_PASSES = 3
_SUPPORT = float(np.log(30.0))
"""Copying is transitive: two who both are like a third, with a Bayes factor of thirty, are more likely to be a pair."""

_CONFUSION_STRENGTH = 4.0
"""Answers for each truth by which a labeler's confusion leans on the crowd's."""

_CONFUSION_ROUNDS = 10

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class CopiedShares:
    """Which share of answers two labelers have in common by copying, by pair.

    ``first`` and ``second`` ``(pairs,)`` labelers, first below second; ``common`` ``(pairs,)`` items that both
    answered; ``share`` with its 95 % interval ``low``, ``high``; ``colluding`` ``(pairs,)`` probability that the share
    is at least `COPIES`; ``p_value`` ``(pairs,)`` of such likeness in a pair of the crowd's ``typical`` share;
    ``group`` ``(labelers,)``: whose voices were heard as one.
    """

    first: Ints
    second: Ints
    common: Ints
    share: Floats
    low: Floats
    high: Floats
    colluding: Floats
    p_value: Floats
    typical: float
    group: Ints


@dataclass(frozen=True)
class _Voices:
    """The crowd as heard in one pass: everybody's votes, but each group one voice an item.

    ``evidence`` ``(items, classes)`` and the number of voices ``heard`` ``(items,)``; ``own`` ``(votes, classes)`` what
    the vote's group adds to its item's evidence; ``confusion`` ``(labelers, answer, truth)``.
    """

    votes: Votes
    group: Ints
    evidence: Floats
    heard: Ints
    own: Floats
    prior: Floats
    known: Ints
    confusion: Floats


def copied_shares(votes: Votes, *, gold: ArrayLike | None = None, false_rate: float = 0.05) -> CopiedShares:
    """Return the copied share of every pair that has `LEAST_COMMON` items in common.

    ``gold`` ``(items,)`` holds known classes, -1 elsewhere. Of a labeler's several votes on an item the lowest counts.
    Cost: up to three fits, and pairs of votes on one item, times classes plus grid.
    """
    known = checked_gold(gold, votes)
    single = one_each(votes)
    close = close_groups(single, LEAST_COMMON)
    group = close
    found = _shares(_voices(single, group, known))
    for _ in range(_PASSES - 1):
        fresh = _joined(close, _groups(found, false_rate, votes.labelers))
        if np.array_equal(fresh, group):
            break
        group = fresh
        found = _shares(_voices(single, group, known))
    return found


def find_colluders(votes: Votes, *, gold: ArrayLike | None = None, false_rate: float = 0.05) -> list[Finding]:
    """Name groups that copy from one another, surest first; at most ``false_rate`` of pairs wrongly, in expectation.

    ``statistic`` is the mean copied share of the group's named pairs, ``answers`` their items in common in all,
    ``p_value`` that of the least alike named pair, ``items`` those with the least likely answers in common. Raises
    ValueError for a false rate outside (0, 1).
    """
    rate = checked_rate(false_rate)
    found = copied_shares(votes, gold=gold, false_rate=rate)
    named = discoveries(found.colluding, rate)
    group = _groups(found, rate, votes.labelers)
    voices = _voices(one_each(votes), found.group, checked_gold(gold, votes))
    findings = []
    for one in np.unique(group[found.first[named]]):
        pairs = named[group[found.first[named]] == one]
        findings.append(
            Finding(
                Misconduct.COLLUSION,
                tuple(int(who) for who in np.flatnonzero(group == one)),
                float(found.share[pairs].mean()),
                float(found.low[pairs].mean()),
                float(found.high[pairs].mean()),
                float(found.colluding[pairs].mean()),
                float(found.p_value[pairs].max()),
                int(found.common[pairs].sum()),
                _telling(voices, found.first[pairs] * votes.labelers + found.second[pairs]),
            )
        )
    return sorted(findings, key=lambda finding: (-finding.probability, finding.labelers))


def _groups(found: CopiedShares, false_rate: float, labelers: int) -> Ints:
    named = discoveries(found.colluding, false_rate)
    return connected(found.first[named], found.second[named], labelers)


def _joined(one: Ints, two: Ints) -> Ints:
    """Return the groups in which whoever is together in either grouping is together."""
    who = np.arange(one.size)
    heads = [np.unique(group, return_index=True)[1][group] for group in (one, two)]
    return connected(np.concatenate([who, who]), np.concatenate(heads), one.size)


def _voices(votes: Votes, group: Ints, known: Ints) -> _Voices:
    """Fit the crowd with each group heard once an item: its most frequent choice, the lowest of several."""
    groups = int(group.max(initial=-1)) + 1
    key = votes.item.astype(np.int64) * max(groups, 1) + group[votes.labeler]
    voice, place = np.unique(key, return_inverse=True)
    tally = np.zeros((voice.size, votes.classes))
    np.add.at(tally, (place, votes.choice), 1.0)
    choice = tally.argmax(axis=1)
    heard = Votes.of(
        voice // max(groups, 1),
        voice % max(groups, 1),
        choice,
        classes=votes.classes,
        items=votes.items,
        labelers=groups,
    )
    fit = HierarchicalDawidSkene().fit(heard, gold=known)
    said = np.log(fit.confusion)[heard.labeler, :, heard.choice]
    cold = np.zeros((votes.labelers, votes.classes, votes.classes))
    voices = _Voices(votes, group, fit.evidence, fit.votes, said[place], fit.prior, known, cold)
    return replace(voices, confusion=_confusion(voices))


def _others(voices: _Voices, vote: Ints, besides: Floats, left: Ints) -> Floats:
    """Return the posterior ``(n, classes)`` on these votes' items, without their groups nor what is given ``besides``."""
    item = voices.votes.item[vote]
    evidence = voices.evidence[item] - voices.own[vote] - besides
    model = HierarchicalDawidSkene()
    q = model.posterior(voices.prior, evidence, voices.heard[item] - left)
    return clamped(q, voices.known[item])


def _confusion(voices: _Voices) -> Floats:
    """Return each labeler's confusion ``(labelers, answer, truth)`` by what others than their group say, by EM.

    The labeler's own answer is heard in each step: else doubt about the truth would look like the labeler's errors.
    """
    votes = voices.votes
    q = _others(voices, np.arange(len(votes)), np.zeros(1), np.ones(1, np.int64))
    flat = votes.labeler.astype(np.int64) * votes.classes + votes.choice
    size, truth = votes.labelers * votes.classes, q
    confusion = np.zeros((votes.labelers, votes.classes, votes.classes))
    for _ in range(_CONFUSION_ROUNDS):
        columns = [np.bincount(flat, truth[:, z], size) for z in range(votes.classes)]
        counts = np.stack(columns, axis=1).reshape(confusion.shape)
        crowd = counts.sum(axis=0) + 1.0 / votes.classes
        leaning = counts + _CONFUSION_STRENGTH * crowd / crowd.sum(axis=0)
        confusion = leaning / leaning.sum(axis=1, keepdims=True)
        truth = q * confusion[votes.labeler, votes.choice]
        truth = truth / truth.sum(axis=1, keepdims=True)
    return confusion


def _shares(voices: _Voices) -> CopiedShares:
    votes = voices.votes
    kept, common = _kept(votes)
    likelihood = _likelihood(voices, kept)
    first, second = kept // max(votes.labelers, 1), kept % max(votes.labelers, 1)
    posterior = _posterior(likelihood, first, second, votes.labelers)
    mean, low, high = interval(posterior)
    typical = int(likelihood.sum(axis=0).argmax()) if kept.size else 0
    gain = likelihood.max(axis=1, initial=-np.inf) - likelihood[:, typical]
    more = np.where(likelihood.argmax(axis=1) > typical, 1.0, -1.0)
    p_value = special.ndtr(-more * np.sqrt(2.0 * np.maximum(gain, 0.0)))
    colluding = posterior[:, GRID >= COPIES - 1e-9].sum(axis=1)
    return CopiedShares(
        first, second, common, mean, low, high, colluding, p_value, float(GRID[typical]), voices.group
    )


def _kept(votes: Votes) -> tuple[Ints, Ints]:
    """Return the pairs of labelers with enough items in common, ascending, and how many these are."""
    counted = [
        np.unique(pair_of(votes, left, right), return_counts=True) for left, right in vote_pairs(votes)
    ]
    none = np.zeros(0, np.int64)
    every, place = np.unique(np.concatenate([none, *(pair for pair, _ in counted)]), return_inverse=True)
    common = np.bincount(place, np.concatenate([none, *(n for _, n in counted)]), every.size).astype(np.int64)
    enough = common >= LEAST_COMMON
    return every[enough], common[enough]


def _likelihood(voices: _Voices, kept: Ints) -> Floats:
    """Return the log-likelihood ``(pairs, grid)`` of each copied share, relative to none."""
    likelihood = np.zeros((kept.size, GRID.size))
    if not kept.size:
        return likelihood
    for left, right in vote_pairs(voices.votes):
        pair = pair_of(voices.votes, left, right)
        row = np.minimum(np.searchsorted(kept, pair), kept.size - 1)
        inside = np.flatnonzero(kept[row] == pair)
        gain = _likeness(voices, left[inside], right[inside])
        for column, share in enumerate(GRID):
            # Even a copier's pen slips once in a thousand answers: no single item rules a share out.
            copied = np.log(np.maximum(1.0 + share * (gain - 1.0), 1e-3))
            likelihood[:, column] += np.bincount(row[inside], copied, kept.size)
    return likelihood


def _likeness(voices: _Voices, left: Ints, right: Ints) -> Floats:
    """Return how much likelier each pair of votes is if copied than if each answered alone; 0 where they differ."""
    votes = voices.votes
    gain = np.zeros(left.size)
    same = np.flatnonzero(votes.choice[left] == votes.choice[right])
    left, right = left[same], right[same]
    one, two = votes.labeler[left], votes.labeler[right]
    apart = voices.group[one] != voices.group[two]
    q = _others(voices, left, apart[:, None] * voices.own[right], 1 + apart.astype(np.int64))
    by_one, by_two = voices.confusion[one, votes.choice[left]], voices.confusion[two, votes.choice[right]]
    alone = 0.5 * (q * (by_one + by_two)).sum(axis=1)
    gain[same] = alone / (q * by_one * by_two).sum(axis=1)
    return gain


def _posterior(likelihood: Floats, first: Ints, second: Ints, labelers: int) -> Floats:
    """Return each pair's posterior over the grid; pairs that a third one links are a population of their own."""
    posterior = np.zeros_like(likelihood)
    copies = GRID >= COPIES - 1e-9
    evidence = _log_mean(likelihood[:, copies]) - _log_mean(likelihood[:, ~copies])
    third = linked(evidence >= _SUPPORT, first, second, labelers)
    for part in (third, ~third):
        posterior[part] = given_population(likelihood[part], population(likelihood[part]))
    return posterior


def _log_mean(logs: Floats) -> Floats:
    return np.asarray(special.logsumexp(logs, axis=1) - np.log(logs.shape[1]))


def _telling(voices: _Voices, pairs: Ints) -> tuple[int, ...]:
    """Return the items with the least likely answers that these pairs share."""
    items, weight = [np.zeros(0, np.int64)], [np.zeros(0)]
    pairs = np.sort(pairs)
    for left, right in vote_pairs(voices.votes):
        pair = pair_of(voices.votes, left, right)
        row = np.minimum(np.searchsorted(pairs, pair), pairs.size - 1)
        inside = np.flatnonzero(pairs[row] == pair)
        items.append(voices.votes.item[left[inside]].astype(np.int64))
        weight.append(np.log(np.maximum(_likeness(voices, left[inside], right[inside]), 1e-9)))
    return top(np.concatenate(items), np.concatenate(weight))
