"""STAPLE: what is true of each pixel, from labelers whose confusion is learnt along with it.

Warfield, Zou & Wells, "Simultaneous truth and performance level estimation" (IEEE TMI 2004), for any number of
classes, with four changes. Pixels are of two sorts, easy and hard, and each labeler has a confusion for either:
errors gather along edges, and without this the posterior takes three who err together for three who know. Where a
hard pixel lies between two classes, those who err all say the same: that is one surprise, and not one for each of them.
What classes hard pixels have is judged from the pixels in dispute (Rohlfing, Russakoff & Maurer, IEEE TMI 2004), for a
wide margin that nobody marked says nothing of them; and that a whole crowd errs in one direction is half believed
unless known truths show it, for without them it cannot be told from a truth that lies elsewhere.
A labeler's confusions lean on the crowd's. And everything is counted by cells, all pixels of which everybody said the
same, so that the cost grows with runs and not with pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..columns import Floats
from .raster import Bools, Ints, Mask

EASY = 0.98
HARD = 0.65
"""Chance of the right class where a pixel is easy or hard, of a crowd nobody knows yet."""

HARD_SHARE = 0.25
"""Share of hard pixels among a class's, of a crowd nobody knows yet: outlines that overlap by three quarters."""

LABELER_STRENGTH = 3.0
CROWD_STRENGTH = 1.0
HARD_STRENGTH = 0.05
"""Strengths of what a labeler, the crowd and an item's share of hard pixels start from, in items.

A labeler who misses an object misses it whole: an item tells little more of that than one flip of a coin.
"""

_ROUNDS = 30
_SETTLED = 1e-4
_JOIN_ROUNDS = 10
FLOOR = 1e-4
"""Nobody is ever surer than this: one slip of the brush must not outweigh a crowd."""


@dataclass(frozen=True)
class Cells:
    """One item's pixels grouped by what everybody said of them.

    ``votes (cells, answers)`` class indices; ``pixels (cells,)``; ``cell (runs,)`` and ``length (runs,)`` say where
    they are, row-major; ``weight (cells,)`` is each cell's share of the item, summing to one: background that nobody
    marked counts at most as much as everything that was, so that a wide empty margin teaches nothing.
    """

    votes: Ints
    pixels: Floats
    cell: Ints
    length: Ints
    weight: Floats

    @classmethod
    def of(cls, masks: Sequence[Mask]) -> Cells:
        """Return the cells of masks of one size, in the order of their votes; costs n log n of all runs."""
        ends = [np.cumsum(mask.lengths) for mask in masks]
        end = np.unique(np.concatenate(ends))
        votes = np.stack(
            [np.asarray(m.class_indices)[np.searchsorted(e, end)] for m, e in zip(masks, ends, strict=True)],
            axis=1,
        )
        length = np.diff(end, prepend=0)
        first, cell = _same_rows(votes)
        pixels = np.bincount(cell, weights=length, minlength=first.size).astype(np.float64)
        empty = ~votes[first].any(axis=1)
        marked = float(pixels[~empty].sum())
        weight = np.where(empty, np.minimum(pixels, marked), pixels) if marked else pixels
        return cls(votes[first], pixels, cell, length, weight / weight.sum())

    def spread(self, chance: Floats) -> Floats:
        """Return the chance of each class ``(cells, classes)`` where what may hide in background that counts for less
        than its pixels is spread over all of them."""
        density = self.weight / self.pixels
        marked = chance[:, 1:] * (density / density.max())[:, None]
        return np.column_stack([1.0 - marked.sum(axis=1), marked])


def _same_rows(rows: Ints) -> tuple[Ints, Ints]:
    """Return the first of each sort of row and the sort of each, sorts in the order of their columns."""
    key = np.zeros(len(rows), dtype=np.int64)
    base = int(rows.max(initial=0)) + 1
    most = 1
    for column in rows.T:
        if most * base >= 1 << 62:
            key = np.unique(key, return_inverse=True)[1]
            most = int(key.max()) + 1
        key = key * base + column
        most *= base
    _, first, sort = np.unique(key, return_index=True, return_inverse=True)
    return first, sort


@dataclass(frozen=True)
class Crowd:
    """What is known of a crowd: ``confusion (sorts, classes)`` of its average labeler, ``shares (sorts,)`` of pixels.

    There are two sorts of pixels for each class: easy ones first, one for each class, then the hard ones.
    """

    confusion: Floats
    shares: Floats


def stranger(classes: int) -> Crowd:
    """Return a crowd nobody knows yet, of ``classes`` classes with the background."""
    confusion = np.concatenate([_one_coin(EASY, classes), _one_coin(HARD, classes)])
    shares = np.repeat([1.0 - HARD_SHARE, HARD_SHARE], classes) / classes
    return Crowd(confusion, shares)


def _one_coin(accuracy: float, classes: int) -> Floats:
    if classes == 1:
        return np.ones((1, 1))
    wrong = (1.0 - accuracy) / (classes - 1)
    return np.full((classes, classes), wrong) + np.eye(classes) * (accuracy - wrong)


@dataclass(frozen=True)
class _Stack:
    """Cells of many items in columns: ``item`` and ``weight (cells,)``, and who said what of each.

    ``cell``, ``row`` and ``kind (votes,)`` are in the order of cells; ``first (cells,)`` is where each one's begin.
    ``other_kind`` has each class of a cell once, ``other_first (cells,)`` where each cell's begin.
    """

    items: int
    item: Ints
    weight: Floats
    first: Ints
    cell: Ints
    row: Ints
    kind: Ints
    other_first: Ints
    other_kind: Ints

    @classmethod
    def of(cls, items: Sequence[Cells], who: Sequence[Ints]) -> _Stack:
        answers = np.concatenate(
            [np.full(len(c.votes), rows.size) for c, rows in zip(items, who, strict=True)]
        )
        cell = np.repeat(np.arange(answers.size), answers)
        kind = np.concatenate([cells.votes.ravel() for cells in items])
        kinds = int(kind.max(initial=0)) + 1
        once = np.unique(cell * kinds + kind)
        return cls(
            items=len(items),
            item=np.repeat(np.arange(len(items)), [len(cells.votes) for cells in items]),
            weight=np.concatenate([cells.weight for cells in items]),
            first=np.cumsum(answers) - answers,
            cell=cell,
            row=np.concatenate([np.tile(rows, len(c.votes)) for c, rows in zip(items, who, strict=True)]),
            kind=kind,
            other_first=np.searchsorted(once // kinds, np.arange(answers.size)),
            other_kind=once % kinds,
        )

    def voted_shares(self, classes: int) -> tuple[Floats, Floats]:
        """Return the share of each class in the votes on each item ``(items, classes)``, everywhere and in dispute.

        Where an item has no cell in dispute, the second is as the first.
        """
        disputed = np.minimum.reduceat(self.kind, self.first) < np.maximum.reduceat(self.kind, self.first)
        everywhere, within = (self._voted(classes, w) for w in (self.weight, self.weight * disputed))
        size = within.sum(axis=1, keepdims=True)
        within = np.divide(within, size, out=everywhere.copy(), where=size > 0.0)
        return everywhere, (1.0 - FLOOR) * within + FLOOR * everywhere

    def _voted(self, classes: int, weight: Floats) -> Floats:
        each = (weight / np.diff(self.first, append=self.kind.size))[self.cell]
        place = self.item[self.cell] * classes + self.kind
        share = np.bincount(place, weights=each, minlength=self.items * classes)
        return np.asarray(share, dtype=np.float64).reshape(-1, classes)

    def by_item(self, chance: Floats) -> Floats:
        """Return how much of each item is of each sort ``(items, sorts)``."""
        columns = [np.bincount(self.item, weights=self.weight * c, minlength=self.items) for c in chance.T]
        return np.stack(columns, axis=1)

    def by_labeler(self, chance: Floats, labelers: int, classes: int) -> Floats:
        """Return how much each labeler called each sort each class ``(labelers, sorts, classes)``."""
        place = self.row * classes + self.kind
        size = labelers * classes
        columns = [np.bincount(place, weights=(self.weight * c)[self.cell], minlength=size) for c in chance.T]
        count = np.asarray(np.stack(columns, axis=1), dtype=np.float64)
        return count.reshape(labelers, classes, -1).transpose(0, 2, 1)

    def chance(self, confusion: Floats, shares: Floats) -> Floats:
        """Return the posterior of each sort ``(cells, sorts)``, given each item's ``shares (items, sorts)``."""
        spoken = np.log(confusion).transpose(0, 2, 1)[self.row, self.kind]
        return self._normal(np.add.reduceat(spoken, self.first), shares)

    def chance_between(self, confusion: Floats, crowd: Crowd, shares: Floats) -> Floats:
        """Return the same, for one item, where all who err on a hard pixel take it for the one class beside it, as
        along an edge: one of those that somebody named."""
        spoken = np.log(_told(confusion)).transpose(0, 2, 1)[self.row, self.kind]
        named = np.bincount(self.kind, minlength=confusion.shape[-1]) > 0
        beside = np.log(_beside(crowd.confusion, named)).T[self.other_kind]
        return self._normal(
            np.add.reduceat(spoken, self.first) + np.add.reduceat(beside, self.other_first), shares
        )

    def _normal(self, log_likelihood: Floats, shares: Floats) -> Floats:
        with np.errstate(divide="ignore"):
            logit = log_likelihood + np.log(shares)[self.item]
        chance = np.exp(logit - logit.max(axis=1, keepdims=True))
        return np.asarray(chance / chance.sum(axis=1, keepdims=True))


def _told(confusion: Floats) -> Floats:
    """Return the chance ``(..., sorts, classes)`` of an answer, given also the one class a hard pixel is mistaken for.

    Hard pixels lie between two classes, and whoever errs there says the other of the two: so on those it is the
    chance of any error, and which class that is, is `_beside`'s, once for all who erred.
    """
    classes = confusion.shape[-1]
    own = np.tile(np.eye(classes, dtype=bool), (2, 1))
    any_error = np.repeat(1.0 - confusion[..., own][..., None], classes, axis=-1)
    hard = np.arange(2 * classes)[:, None] >= classes
    return np.asarray(np.where(hard & ~own, any_error, confusion))


def _beside(confusion: Floats, named: Bools) -> Floats:
    """Return the chance ``(sorts, classes)`` of each class ``named (classes,)`` to be what a hard pixel is mistaken for.

    It is 1 elsewhere.
    """
    classes = confusion.shape[-1]
    mistaken = np.concatenate(
        [np.zeros((classes, classes), dtype=bool), ~np.eye(classes, dtype=bool) & named]
    )
    share = np.where(mistaken, confusion, 0.0)
    share /= np.maximum(share.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    return np.asarray(np.where(mistaken, share, 1.0))


def posterior(cells: Cells, confusion: Floats, crowd: Crowd) -> tuple[Floats, Floats]:
    """Return the probability of each sort ``(cells, sorts)`` and the item's shares ``(sorts,)``.

    ``confusion (answers, sorts, classes)`` of those who answered. Easy pixels have classes in the shares that the votes
    give them, hard ones in those that the votes in dispute do (so a class nobody named has no chance); how much of each
    is hard is the item's own, leaning on the crowd.
    """
    stack = _Stack.of([cells], [np.arange(len(confusion))])
    voted = stack.voted_shares(confusion.shape[2])
    shares = _sort_shares(voted, crowd, np.ones(1))
    harder = np.ones(1)
    for _ in range(_JOIN_ROUNDS):
        harder = _harder(harder, stack.by_item(stack.chance_between(confusion, crowd, shares)), shares)
        shares = _sort_shares(voted, crowd, harder)
    return stack.chance_between(confusion, crowd, shares), shares[0]


def _sort_shares(voted: tuple[Floats, Floats], crowd: Crowd, harder: Floats) -> Floats:
    """Return each item's shares ``(items, sorts)``: classes as ``voted`` everywhere, and so much of each hard as in the
    crowd, the odds times how much ``harder (items,)`` this item is; what is hard has classes as voted in dispute."""
    everywhere, disputed = voted
    easy, hard = crowd.shares.reshape(2, -1)
    hard = harder[:, None] * hard
    hard = hard / (easy + hard)
    return np.concatenate(
        [everywhere * (1.0 - hard), (everywhere * hard).sum(axis=1, keepdims=True) * disputed], axis=1
    )


def _harder(harder: Floats, seen: Floats, expected: Floats) -> Floats:
    """Return how much harder than the crowd's each item is, from the sorts seen and as they were expected.

    Both ``(items, sorts)``; one factor an item, as a factor for each class would let the votes that are in dispute
    all go to one of them.
    """
    classes = seen.shape[1] // 2
    found, awaited = seen[:, classes:].sum(axis=1), expected[:, classes:].sum(axis=1)
    return np.asarray(harder * (found + HARD_STRENGTH) / (awaited + HARD_STRENGTH))


def fit(
    items: Sequence[Cells],
    who: Sequence[Ints],
    labelers: int,
    classes: int,
    known: Sequence[Ints | None],
) -> tuple[Floats, Crowd]:
    """Return every labeler's confusion ``(labelers, sorts, classes)`` and the crowd's, by EM from a stranger's.

    ``who`` has the labelers' rows of each item's answers, ``known`` the true class of each cell where it is known.
    Labelers' errors are counted one by one here, as in STAPLE, and taken together only in `posterior`: learnt together,
    an error shared is so cheap that all classes but one become errors of it.
    Cost: rounds times cells times answers times classes.
    """
    first = crowd = stranger(classes)
    confusion = np.repeat(first.confusion[None], labelers, axis=0)
    if not items:
        return confusion, crowd
    stack = _Stack.of(items, who)
    voted = stack.voted_shares(classes)
    truth = np.concatenate(
        [np.full(len(c.votes), -1) if t is None else t for c, t in zip(items, known, strict=True)]
    )
    of_truth = truth >= 0
    harder = np.ones(len(items))
    for _ in range(_ROUNDS):
        shares = _sort_shares(voted, crowd, harder)
        chance = _clamped(stack.chance(confusion, shares), truth)
        seen, count = stack.by_item(chance), stack.by_labeler(chance, labelers, classes)
        total = count.sum(axis=0)
        raw = _leaning(total, first.confusion, CROWD_STRENGTH)
        even = _even(raw, total)
        if of_truth.any():
            shown = stack.by_labeler(chance * of_truth[:, None], labelers, classes).sum(axis=0)
            even = _leaning(shown, even, CROWD_STRENGTH)
        crowd = Crowd(
            even, (seen.sum(axis=0) + CROWD_STRENGTH * first.shares) / (len(items) + CROWD_STRENGTH)
        )
        harder = _harder(harder, seen, shares)
        own = _leaning(count, raw, LABELER_STRENGTH) * (even / raw)
        before, confusion = confusion, own / own.sum(axis=2, keepdims=True)
        if float(np.abs(confusion - before).max(initial=0.0)) < _SETTLED:
            break
    return confusion, crowd


def _even(confusion: Floats, count: Floats) -> Floats:
    """Return the crowd's confusion drawn half-way to one accuracy for hard pixels of all classes; ``count`` is what it
    is from.

    Whether the crowd takes too much for an object or too little, EM decides by whatever it starts from, and then
    believes in it: every outline comes out too small or too wide by all that hands differ. Half-way, because classes
    are not equally easy either: with one accuracy for all, classes that lie over each other are taken for one another.
    """
    classes = confusion.shape[1]
    hard, seen = confusion[classes:], count[classes:]
    accuracy = (np.trace(seen) + CROWD_STRENGTH * HARD) / (seen.sum() + CROWD_STRENGTH)
    wrong = np.where(np.eye(classes, dtype=bool), 0.0, hard)
    wrong *= (1.0 - accuracy) / np.maximum(wrong.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    return np.concatenate([confusion[:classes], (hard + wrong + accuracy * np.eye(classes)) / 2.0])


def _clamped(chance: Floats, truth: Ints) -> Floats:
    """Return the chances given each cell's true class (-1 unknown): whether it is hard is still to be told."""
    where = np.flatnonzero(truth >= 0)
    if not where.size:
        return chance
    kinds = np.tile(np.arange(chance.shape[1] // 2), 2)
    kept = np.where(kinds[None, :] == truth[where, None], np.maximum(chance[where], FLOOR), 0.0)
    clamped = chance.copy()
    clamped[where] = kept / kept.sum(axis=1, keepdims=True)
    return clamped


def _leaning(count: Floats, towards: Floats, strength: float) -> Floats:
    """Return rows of chances from counts that lean on others, none of them nought."""
    rows = (count + strength * towards) / (count.sum(axis=-1, keepdims=True) + strength)
    return np.asarray((1.0 - FLOOR) * rows + FLOOR / rows.shape[-1])
