"""From what is in to whole stretches: which cells, how many pieces, where exactly each starts and ends.

Cells above the threshold that touch are one run. Its labelers then vote, each with the weight of their marks, on how
many stretches it is and where each starts and ends: the boundary of a posterior is a quantile of theirs, one that few
may have meant; a vote finds the one that most did mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..columns import Floats
from ..shapes.robust import student_mean, weighted_median
from .marks import Marks

Chosen = NDArray[np.bool_]
Bounds = tuple[float, float]
K = TypeVar("K", int, str, tuple[str, str])

_SPREAD = 1.4826
"""The standard deviation over the median distance from the median, of normal errors."""

_SEAM = 0.1
"""Gaps of at most this share of a run, taken together, are seams between its pieces; wider ones the cells decide."""


class Supporter(NamedTuple):
    """A labeler's stretch with the labeler's weight."""

    start: float
    end: float
    class_id: int
    weight: float
    labeler: int


@dataclass(frozen=True, slots=True)
class Found:
    """A stretch of the value; ``chance``: the share of it expected to be true; ``supporters``: indices of stretches
    there, the labelers' own, one of each labeler."""

    start: float
    end: float
    class_id: int
    chance: float
    supporters: tuple[int, ...]


Boundaries = Callable[[Sequence[float], Sequence[float]], float]
"""How a boundary is voted on: proposed places and their weights, at least one, to a place."""


def most_named(places: Sequence[float], weights: Sequence[float]) -> float:
    """Return the place named with the most weight, the first of equals: for places that people can hit exactly."""
    tally: dict[float, float] = {}
    for place, weight in sorted(zip(places, weights, strict=True)):
        tally[place] = tally.get(place, 0.0) + weight
    return max(tally, key=lambda place: (tally[place], -place))


def centre(places: Sequence[float], weights: Sequence[float]) -> float:
    """Return the robust mean: for places that nobody hits twice.

    How far slips reach is taken from the places themselves: their median distance from their median.
    """
    given, weight = np.array(places)[:, None], np.array(weights)[:, None]
    spread = _SPREAD * float(np.median(np.abs(given - np.median(given))))
    if spread <= 0.0:  # at least half name one place
        return float(weighted_median(given, weight)[0])
    return float(student_mean(given, weight / weight.mean() / spread**2)[0][0])


def chosen(marks: Marks, posterior: Floats, threshold: float, *, overlap: bool) -> Chosen:
    """Return which slots of one item are in the value, of those that somebody marked.

    Of a cell only the likeliest class unless they may ``overlap``.
    """
    above = (posterior > threshold) & (marks.own() > 0)
    if not overlap:
        best = np.lexsort((-posterior, marks.cell))  # stable: of equals the first class
        first = np.ones(best.size, dtype=bool)
        first[1:] = np.diff(marks.cell[best]) != 0
        likeliest = np.zeros(best.size, dtype=bool)
        likeliest[best[first]] = True
        above &= likeliest
    return above


def found_stretches(
    marks: Marks,
    posterior: Floats,
    inside: Chosen,
    supporters: Sequence[Supporter],
    boundaries: Boundaries,
    *,
    overlap: bool,
) -> list[Found]:
    """Return the stretches of one item's value, in order of start, end, class."""
    found: list[Found] = []
    starts, ends, classes = (np.array([s[column] for s in supporters]) for column in range(3))
    for first, stop in _runs(marks, inside):
        class_id, length = int(marks.class_id[first]), marks.length[first:stop]
        start, end = float(marks.start[marks.cell[first]]), float(marks.end[marks.cell[stop - 1]])
        chance = float(posterior[first:stop] @ length / length.sum())
        there = np.flatnonzero((classes == class_id) & (starts < end) & (ends > start)).tolist()
        for a, b in _pieces(start, end, [supporters[i] for i in there], boundaries):
            found.append(Found(a, b, class_id, chance, _nearest(a, b, there, supporters)))
    return _apart(sorted(found, key=lambda one: (one.start, one.end, one.class_id)), overlap)


def best_expected(marks: Marks, posterior: Floats, inside: Chosen, overlooked: float) -> tuple[Chosen, float]:
    """Return what is chosen of one item and its expected F, or nothing at all where that is expected to do better.

    F of nothing is 1 where nothing is there and 0 elsewhere. ``overlooked``: how many true stretches to expect where
    nobody marked anything.
    """
    doubted = [posterior[first:stop].max() for first, stop in _runs(marks, marks.own() > 0)]
    nothing = float(np.exp(-overlooked) * np.prod(1.0 - np.array(doubted)))
    if not inside.any():
        return inside, nothing
    true, length = posterior * marks.length, marks.length[inside]
    confidence = float(2.0 * true[inside].sum() / (length.sum() + true.sum()))
    return (inside, confidence) if confidence >= nothing else (np.zeros_like(inside), nothing)


def shared_f(answer: Mapping[K, Sequence[Bounds]], value: Mapping[K, Sequence[Bounds]]) -> float:
    """Return the F of two sets of stretches, by line or class: twice the shared length over both; 1 if both are empty."""
    shared = both = 0.0
    for line in sorted(answer.keys() | value.keys()):
        mine, theirs = (_merged(side.get(line, ())) for side in (answer, value))
        both += sum(end - start for start, end in mine) + sum(end - start for start, end in theirs)
        shared += _shared_length(mine, theirs)
    return 2.0 * shared / both if both else 1.0


def _runs(marks: Marks, inside: Chosen) -> list[tuple[int, int]]:
    """Return the first slot and the one after the last of each run of touching cells of one class."""
    at = np.flatnonzero(inside)
    if not at.size:
        return []
    cell = marks.cell[at]
    apart = (
        (np.diff(at) > 1)
        | (np.diff(marks.class_id[at]) != 0)
        | (marks.end[cell[:-1]] != marks.start[cell[1:]])
    )
    breaks = np.flatnonzero(apart) + 1
    firsts, lasts = np.concatenate([[0], breaks]), np.concatenate([breaks, [at.size]]) - 1
    return [(int(at[first]), int(at[last]) + 1) for first, last in zip(firsts, lasts, strict=True)]


def _pieces(
    start: float, end: float, supporters: Sequence[Supporter], boundaries: Boundaries
) -> list[Bounds]:
    """Return the stretches that a run is, by its labelers' vote."""
    split = [(_of_run(start, end, theirs), theirs[0].weight) for theirs in _by_labeler(supporters)]
    split = [(pieces, weight) for pieces, weight in split if pieces]
    if not split:
        return [(start, end)]
    count = int(most_named([len(pieces) for pieces, _ in split], [weight for _, weight in split]))
    first = _voted([(pieces[0][0], weight) for pieces, weight in split], start, end - start, boundaries)
    last = _voted([(pieces[-1][1], weight) for pieces, weight in split], end, end - start, boundaries)
    agreed = [(pieces, weight) for pieces, weight in split if len(pieces) == count]
    weights = [weight for _, weight in agreed]
    bounds = [first]
    for i in range(count - 1):
        bounds.append(boundaries([pieces[i][1] for pieces, _ in agreed], weights))
        bounds.append(boundaries([pieces[i + 1][0] for pieces, _ in agreed], weights))
    bounds.append(last)
    found = list(zip(bounds[::2], bounds[1::2], strict=True))
    sound = all(a < b for a, b in found) and all(
        b <= c for b, c in zip(bounds[1::2], bounds[2::2], strict=False)
    )
    return found if sound else [(start, end)]


def _of_run(start: float, end: float, theirs: Sequence[Supporter]) -> list[Bounds]:
    """Return a labeler's stretches that are of the run by at least half; as one where wide gaps part them."""
    own = [
        (a, b) for a, b in _merged([(s.start, s.end) for s in theirs])
        if min(b, end) - max(a, start) >= 0.5 * min(b - a, end - start)
    ]  # fmt: skip
    gaps = sum(after[0] - before[1] for before, after in pairwise(own))
    return [(own[0][0], own[-1][1])] if own and gaps > _SEAM * (end - start) else own


def _voted(proposed: Sequence[Bounds], otherwise: float, reach: float, boundaries: Boundaries) -> float:
    """Return the boundary voted for, of votes within ``reach``; one further away is meant for something else."""
    near = [(place, weight) for place, weight in proposed if abs(place - otherwise) <= reach]
    return boundaries([place for place, _ in near], [weight for _, weight in near]) if near else otherwise


def _by_labeler(supporters: Sequence[Supporter]) -> list[list[Supporter]]:
    theirs: dict[int, list[Supporter]] = {}
    for supporter in supporters:
        theirs.setdefault(supporter.labeler, []).append(supporter)
    return list(theirs.values())


def _nearest(a: float, b: float, there: Sequence[int], supporters: Sequence[Supporter]) -> tuple[int, ...]:
    """Return of each labeler the stretch that shares most with [a, b), of those that share anything."""
    best: dict[int, tuple[float, int]] = {}
    for i in there:
        one = supporters[i]
        shared = min(b, one.end) - max(a, one.start)
        if shared > best.get(one.labeler, (0.0, -1))[0]:
            best[one.labeler] = (shared, i)
    return tuple(i for _, i in best.values())


def _apart(found: Sequence[Found], overlap: bool) -> list[Found]:
    """Return the stretches with what a vote on boundaries made overlap cut off again, of one class or of all."""
    ends: dict[int, float] = {}
    apart: list[Found] = []
    for one in found:
        line = one.class_id if overlap else -1
        start = max(one.start, ends.get(line, 0.0))
        if start < one.end:
            ends[line] = one.end
            apart.append(replace(one, start=start))
    return apart


def _merged(bounds: Sequence[Bounds]) -> list[Bounds]:
    """Return the stretches in order, those that overlap as one; those that only touch stay two."""
    merged: list[Bounds] = []
    for start, end in sorted(bounds):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _shared_length(mine: Sequence[Bounds], theirs: Sequence[Bounds]) -> float:
    shared, i, j = 0.0, 0, 0
    while i < len(mine) and j < len(theirs):
        shared += max(0.0, min(mine[i][1], theirs[j][1]) - max(mine[i][0], theirs[j][0]))
        if mine[i][1] <= theirs[j][1]:
            i += 1
        else:
            j += 1
    return shared
