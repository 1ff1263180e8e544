"""Several versions of one text, laid word over word: the network of slots that words are voted on in.

Progressive multiple alignment (Feng & Doolittle 1987) of the distinct versions, the most typical first, then each one
taken out and laid in anew (Barton & Sternberg 1987). A word is laid over the words already there at the sum of its
costs to each of them, so that a network costs what its pairs of versions cost. Costs are whole numbers, held in
doubles: sums of them are exact, and ties are ties on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..columns import Floats

Ints = NDArray[np.int64]

GAP = 0
"""The token that stands in a slot where a version has no word."""

_UNIT = 60.0
"""Cost of a word over a gap. Divides by many numbers, so that little is lost in rounding costs to whole ones."""

_NEAR, _FAR = 0.2, 1.8
"""Cost, in gaps, of words with nearly all letters in common, and with none: a little less than a word left out and
another put in, since words in the same place are mostly one word misheard."""

_BATCH = 2_000_000
"""Cells of the tables filled at once: some tens of megabytes."""


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions of one text: ``tokens`` of each, numbered from 1 within ``words`` (``words[0]`` is the gap)."""

    tokens: tuple[Ints, ...]
    words: tuple[str, ...]

    @classmethod
    def of(cls, texts: Sequence[Sequence[str]]) -> Versions:
        """Number the words of each version, in the order of their letters."""
        words = ("", *sorted({word for text in texts for word in text}))
        number = {word: n for n, word in enumerate(words)}
        return cls(tuple(np.array([number[w] for w in text], dtype=np.int64) for text in texts), words)


def word_costs(words: Sequence[str]) -> Floats:
    """Return what each word costs laid over each other, ``(words, words)``, in whole units; ``words[0]`` is the gap.

    By the letters and pairs of neighbouring letters they have in common (Dice 1945).
    """
    grams: dict[str, int] = {}
    rows, columns = [], []
    for row, word in enumerate(words[1:]):
        framed = f"^{word}$"
        own = {*word, *(framed[i : i + 2] for i in range(len(framed) - 1))}
        # In the order of letters: a set has another order in each process.
        columns += [grams.setdefault(gram, len(grams)) for gram in sorted(own)]
        rows += [row] * len(own)
    has = np.zeros((len(words) - 1, len(grams)))
    has[rows, columns] = 1.0
    size = has.sum(axis=1)
    unlike = 1.0 - 2.0 * (has @ has.T) / np.maximum(size[:, None] + size, 1.0)
    costs = np.full((len(words), len(words)), _UNIT)
    costs[1:, 1:] = np.rint(_UNIT * (_NEAR + (_FAR - _NEAR) * unlike))
    np.fill_diagonal(costs, 0.0)
    return costs


def networks(texts: Sequence[Versions]) -> list[Ints]:
    """Return the network of each text: ``(slots, versions)``, the token of each version in each slot, or `GAP`.

    No slot holds gaps alone. Cost: versions times slots times words of one and distinct words of all; the tables of all
    texts are filled together.
    """
    works = [_Work(text) for text in texts]
    for step in range(max((work.steps for work in works), default=0)):
        due = sorted((w for w in works if step < w.steps), key=lambda w: w.length)
        for batch in _batches(due):
            _lay(batch, step)
    return [work.finished() for work in works]


class _Work:
    """One text's network in the making: of its distinct versions, each counted as often as it was given."""

    def __init__(self, text: Versions) -> None:
        distinct: dict[bytes, int] = {}
        self.place = [distinct.setdefault(tokens.tobytes(), len(distinct)) for tokens in text.tokens]
        firsts = [self.place.index(version) for version in range(len(distinct))]
        self.versions = [text.tokens[i] for i in firsts]
        self.count = np.bincount(self.place, minlength=len(distinct)).astype(np.float64)
        self.costs = word_costs(text.words) if len(distinct) > 1 else np.zeros((1, 1))
        self.length = max((len(v) for v in self.versions), default=0)
        self.order = self._typical_first(len(text.words))
        self.laid = self.order[:1]
        self.slots = self.versions[self.order[0]][:, None] if distinct else np.zeros((0, 0), dtype=np.int64)
        self.steps = 2 * len(distinct) - 1 if len(distinct) > 1 else 0
        if len(distinct) == 2:
            self.steps = 1  # two lie as they should

    def _typical_first(self, words: int) -> list[int]:
        """Order versions by how many of their words the others have, too (in any place)."""
        if len(self.versions) < 2:
            return list(range(len(self.versions)))
        bags = np.stack([np.bincount(v, minlength=words) for v in self.versions])
        alike = np.array([np.minimum(bag, bags).sum(axis=1) for bag in bags], dtype=np.float64)
        size = bags.sum(axis=1)
        alike = 2.0 * alike / np.maximum(size[:, None] + size, 1)
        # The order of the names of those who gave them must not matter: equals go by their words.
        score = np.rint(1e6 * (alike @ self.count))
        return sorted(range(len(size)), key=lambda i: (-score[i], self.versions[i].tolist()))

    def next(self, step: int) -> Ints:
        """Return the version to be laid in at a step, after taking it out where it lies already."""
        others = len(self.versions) - 1
        version = self.order[step + 1] if step < others else self.order[step - others]
        if version in self.laid:
            rest = [i for i, other in enumerate(self.laid) if other != version]
            self.slots = self.slots[:, rest]
            self.slots = self.slots[self.slots.any(axis=1)]
            self.laid = [self.laid[i] for i in rest]
        self.coming = version
        return self.versions[version]

    def sums(self, tokens: Ints) -> Floats:
        """Return the cost ``(slots, tokens)`` of each of these tokens over each slot."""
        slots, words = len(self.slots), len(self.costs)
        cell = np.arange(0, slots * words, words)[:, None] + self.slots
        count = np.broadcast_to(self.count[self.laid], cell.shape)
        there = np.bincount(cell.ravel(), count.ravel(), slots * words).reshape(slots, words)
        return np.asarray(there @ self.costs[:, tokens])

    def take(self, slots: Sequence[int], words: Sequence[int]) -> None:
        """Lay the coming version in: ``slots[i]`` over ``words[i]``, -1 for none."""
        old = np.vstack([self.slots, np.zeros((1, len(self.laid)), dtype=np.int64)])
        new = np.append(self.versions[self.coming], GAP)
        self.slots = np.column_stack([old[list(slots)], new[list(words)]])
        self.laid = [*self.laid, self.coming]

    def finished(self) -> Ints:
        """Return the network with a column for every version given, in their order."""
        column = {version: i for i, version in enumerate(self.laid)}
        return self.slots[:, [column[version] for version in self.place]]


def _batches(works: Sequence[_Work]) -> list[list[_Work]]:
    found: list[list[_Work]] = []
    for work in works:  # shortest first: the last is the longest of its batch
        cells = (work.length + 1) * (max(len(work.slots), work.length) + 1)
        if found and (len(found[-1]) + 1) * cells <= _BATCH:
            found[-1].append(work)
        else:
            found.append([work])
    return found


def _lay(works: Sequence[_Work], step: int) -> None:
    """Lay the next version of each text into its network, by the cheapest alignment."""
    coming = [work.next(step) for work in works]
    n, m = max(len(work.slots) for work in works), max(len(tokens) for tokens in coming)
    over = np.zeros((len(works), n, m))
    out, put = np.zeros((len(works), n)), np.zeros((len(works), m))
    for b, (work, tokens) in enumerate(zip(works, coming, strict=True)):
        sums = work.sums(np.append(tokens, GAP))
        over[b, : len(sums), : len(tokens)] = sums[:, :-1]
        out[b, : len(sums)] = sums[:, -1]
        put[b, : len(tokens)] = _UNIT * work.count[work.laid].sum()
    table = _table(over, out, put)
    for b, (work, tokens) in enumerate(zip(works, coming, strict=True)):
        size = (len(work.slots), len(tokens))
        work.take(*_path(table[: size[0] + 1, b, : size[1] + 1], over[b], out[b]))


def _table(over: Floats, out: Floats, put: Floats) -> Floats:
    """Return the least cost ``(n + 1, texts, m + 1)`` of laying the first j words over the first i slots.

    ``over`` ``(texts, n, m)`` is the cost of a word in a slot, ``out`` ``(texts, n)`` of a slot left out, ``put``
    ``(texts, m)`` of a word put in. What is padded lies behind each text's own corner and is never read.
    """
    texts, n, m = over.shape
    along = np.zeros((texts, m + 1))
    np.cumsum(put, axis=1, out=along[:, 1:])
    table = np.empty((n + 1, texts, m + 1))
    table[0] = along
    for i in range(n):
        row = table[i + 1]
        np.add(table[i], out[:, i, None], out=row)
        np.minimum(row[:, 1:], table[i, :, :-1] + over[:, i], out=row[:, 1:])
        # A run of words put in costs the difference of sums, so the best start of each is a running minimum.
        row -= along
        np.minimum.accumulate(row, axis=1, out=row)
        row += along
    return table


def _path(table: Floats, over: Floats, out: Floats) -> tuple[list[int], list[int]]:
    """Return the slots and words of the cheapest alignment, -1 for none; one over the other where costs tie."""
    cost, i, j = table.tolist(), table.shape[0] - 1, table.shape[1] - 1
    slots, words = [], []
    while i or j:
        if i and j and cost[i - 1][j - 1] + over[i - 1, j - 1] == cost[i][j]:
            i, j = i - 1, j - 1
            slots.append(i)
            words.append(j)
        elif i and cost[i - 1][j] + out[i - 1] == cost[i][j]:
            i -= 1
            slots.append(i)
            words.append(-1)
        else:
            j -= 1
            slots.append(-1)
            words.append(j)
    return slots[::-1], words[::-1]


def word_errors(said: Sequence[str], truth: Sequence[str]) -> int:
    """Return the least number of words to put in, leave out or replace between two texts (Levenshtein 1966)."""
    number: dict[str, int] = {}
    a = np.array([number.setdefault(word, len(number)) for word in said], dtype=np.int64)
    b = np.array([number.setdefault(word, len(number)) for word in truth], dtype=np.int64)
    if not a.size or not b.size:
        return max(a.size, b.size)
    row = along = np.arange(b.size + 1)
    for token in a:
        fresh = row + 1
        np.minimum(fresh[1:], row[:-1] + (b != token), out=fresh[1:])
        row = np.minimum.accumulate(fresh - along) + along
    return int(row[-1])
