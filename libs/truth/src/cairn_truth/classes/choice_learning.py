"""Learning from answers that are sets of classes: how often each class applies, who misses and who invents what.

Whether a class applies is a question with two answers, put to whoever answered the item: a class left out was judged
not to apply. So a labeler has two rates (Dawid & Skene 1979): hits, of what applies, and false alarms, of what does not.
Both are additive on the log-odds scale, as in Rasch's model (1960): the crowd's rate, moved by the labeler and by the
class; what moves them is normal, with spreads among labelers learnt from the crowd. People name popular classes in
error more often than rare ones: the log-odds of a false alarm follow the log-odds of the class by a slope, learnt too.

Very many classes are mostly classes that hardly anybody names. Those share one prevalence and one pair of rates, and
where nobody chose them they are one cell of an item however many they are: the cost is ``rounds * answers * columns``
with at most `MOST_OWN` columns and one more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import sparse, special

from ..columns import Floats, Ints

MOST_OWN = 128
"""So many classes have a prevalence and rates of their own, the most often chosen; the rest share theirs."""

HIT, WRONG, PREVALENCE = 0.75, 0.25, 0.2
"""Before anybody answered: the share of what applies that is named, the share of what is named that does not apply, and
of items to which a class applies. False alarms follow from the three: one answer alone is right three times in four,
whether classes are common or rare."""

CORRELATION = 0.03
"""Answers to one item are not independent: the evidence of n is divided by 1 + rho (n - 1) (Kish 1965)."""

_CROWD_VARIANCE = 0.25
_LABELER_VARIANCE, _LABELERS_BEHIND = 0.25, 3.0
_CLASS_VARIANCE, _CLASS_INFORMATION = 0.1, 4.0
"""Of log-odds: the crowd's, labelers' with so many labelers behind it, and classes'.

What answers tell of a class's own rates is held to so much Fisher information. Without a bound, where the model is wrong
(answers that exclude each other, items that mislead), thousands of answers buy a class that applies to everything and is
hardly ever seen.
"""

_SLOPE, _SLOPE_VARIANCE, _STEEPEST = 0.5, 0.06, 1.0
"""Of the log-odds of false alarms over those of the class: from 0, where all classes are named in error as often, to 1,
where of what is named the same share is wrong in all. If it were steeper, common classes would explain themselves away.
"""

_ITEMS_BEHIND = 5.0
"""Items behind the prevalence that classes share."""

_LONGEST_STEP = 1.0
_ROUNDS = 60
_SETTLED = 1e-4
_INNER = 1e-9


@dataclass(frozen=True, eq=False)
class ChosenColumns:
    """All answers as columns.

    ``item`` and ``labeler`` (answers,). ``named`` (names, 2): an answer and the cell that it names. Cells are the
    ``items * columns`` of items and classes, the last column being all classes that share their rates, and then one for
    each such class that is named on an item, of items ``extra`` (extras,). ``size`` (columns,): classes in a column.
    ``truth`` (cells,): 0 or 1 where known, else nan.
    """

    item: Ints
    labeler: Ints
    named: Ints
    extra: Ints
    size: Floats
    truth: Floats
    items: int
    labelers: int


@dataclass(frozen=True, eq=False)
class Choosing:
    """How a crowd chooses. All but ``prevalence`` (columns,) are log-odds.

    ``hits`` and ``alarms`` (columns,) of an average labeler; ``more_hits`` and ``more_alarms`` (labelers + 1,) are what
    a labeler's differ by, the last of them a stranger's, 0. ``seen`` (labelers + 1,): classes judged that apply or are
    named, half of each. ``doubt``: the share of errors by an average answer.
    """

    prevalence: Floats
    hits: Floats
    alarms: Floats
    more_hits: Floats
    more_alarms: Floats
    seen: Floats
    doubt: float

    @classmethod
    def cold(cls, columns: int) -> Choosing:
        """Return what is believed before the first answer."""
        prevalence = np.full(columns, PREVALENCE)
        alarms = _assumed_alarms(1.0, special.logit(prevalence))
        hits = np.full(columns, special.logit(HIT))
        nobody = np.zeros(1)
        return cls(prevalence, hits, alarms, nobody, nobody, nobody, 1.0 - HIT)

    def arrays(self) -> dict[str, Floats]:
        """Return all of it as named arrays, for `of`."""
        return {
            "prevalence": self.prevalence,
            "hits": self.hits,
            "alarms": self.alarms,
            "more_hits": self.more_hits[:-1],
            "more_alarms": self.more_alarms[:-1],
            "seen": self.seen[:-1],
            "doubt": np.array([self.doubt]),
        }

    @classmethod
    def of(cls, arrays: Mapping[str, Floats], columns: int, labelers: int) -> Choosing:
        """Make it anew from `arrays`. Raises ValueError naming an array that is missing or of another shape."""
        shapes = dict.fromkeys(("prevalence", "hits", "alarms"), columns)
        shapes |= dict.fromkeys(("more_hits", "more_alarms", "seen"), labelers) | {"doubt": 1}
        for name, size in shapes.items():
            if name not in arrays or arrays[name].shape != (size,):
                raise ValueError(f"the saved state has no {name} of {size}; expected what save() returned")
        stranger = {name: np.append(arrays[name], 0.0) for name in ("more_hits", "more_alarms", "seen")}
        classes = {name: arrays[name] for name in ("prevalence", "hits", "alarms")}
        return cls(**classes, **stranger, doubt=float(arrays["doubt"][0]))

    def log_odds(self, rows: Ints) -> tuple[Floats, Floats]:
        """Return the log-odds of hits and of false alarms of labelers ``rows``, both ``(rows, columns)``."""
        return (
            self.hits + self.more_hits[rows, None],
            self.alarms + self.more_alarms[rows, None],
        )

    def rates(self, rows: Ints, size: Floats) -> tuple[Floats, Floats, Floats]:
        """Return hit rate, false alarm rate and expected F1 of what a labeler alone chooses, each ``(rows,)``."""
        hit, alarm = (special.expit(odds) for odds in self.log_odds(rows))
        applies, not_so = size * self.prevalence, size * (1.0 - self.prevalence)
        hits, alarms = hit @ applies, alarm @ not_so
        f1 = 2.0 * hits / np.maximum(hits + alarms + applies.sum(), _INNER)
        return hits / applies.sum(), alarms / not_so.sum(), f1


def design_effect(answers: Ints) -> Floats:
    """Return what the evidence of so many answers to one item is divided by; 1 for one."""
    return np.asarray(1.0 + CORRELATION * np.maximum(answers - 1, 0))


def fit_choosing(said: ChosenColumns) -> Choosing:
    """Fit to all answers by expectation-maximisation, always from the majority's shares."""
    return _Learner(said).fit()


class _Rates:
    """The log-odds of choosing a class that applies, or one that does not: by crowd, labeler, class and popularity."""

    def __init__(self, labelers: int, size: Floats, level: float, slope: float) -> None:
        self._level, self._slope, self._sloping = level, slope, slope > 0.0
        self._size, self._popularity = size, special.logit(np.full(size.size, PREVALENCE))
        self.of_labeler, self._of_class = np.zeros(labelers), np.zeros(size.size)
        self._variance = _LABELER_VARIANCE

    @property
    def of_columns(self) -> Floats:
        """Of an average labeler, ``(columns,)``."""
        return np.asarray(self._level + self._slope * self._popularity + self._of_class)

    @property
    def log_odds(self) -> Floats:
        """Of everybody, ``(labelers, columns)``."""
        return self.of_labeler[:, None] + self.of_columns

    def learn(self, trials: Floats, chosen: Floats, prevalence: Floats) -> None:
        """Take a Newton step on each effect; ``trials`` and ``chosen`` (labelers, columns) are expected counts."""
        self._popularity = special.logit(prevalence)
        gradient, information = self._slopes(trials, chosen)
        pull = float(gradient.sum()) - (self._level - self._assumed(prevalence)) / _CROWD_VARIANCE
        self._level += float(_step(pull, float(information.sum()) + 1.0 / _CROWD_VARIANCE))

        gradient, information = self._slopes(trials, chosen)
        behind = information.sum(axis=1) + 1.0 / self._variance
        self.of_labeler = self.of_labeler + _step(
            gradient.sum(axis=1) - self.of_labeler / self._variance, behind
        )
        spread = (self.of_labeler**2 + 1.0 / behind).sum() + _LABELERS_BEHIND * _LABELER_VARIANCE
        self._variance = float(spread / (self.of_labeler.size + _LABELERS_BEHIND))

        if self._sloping:
            gradient, information = self._slopes(trials, chosen)
            typical = float(self._popularity.mean())
            apart = self._popularity - typical
            pull = float(gradient.sum(axis=0) @ apart) - (self._slope - _SLOPE) / _SLOPE_VARIANCE
            turn = float(_step(pull, float(information.sum(axis=0) @ apart**2) + 1.0 / _SLOPE_VARIANCE))
            turn = min(max(self._slope + turn, 0.0), _STEEPEST) - self._slope
            self._slope += turn
            self._level -= turn * typical

        gradient, information = self._slopes(trials, chosen)
        told = information.sum(axis=0)
        part = _CLASS_INFORMATION / (_CLASS_INFORMATION + told)
        self._of_class = self._of_class + _step(
            part * gradient.sum(axis=0) - self._of_class / _CLASS_VARIANCE,
            part * told + 1.0 / _CLASS_VARIANCE,
        )

    def _slopes(self, trials: Floats, chosen: Floats) -> tuple[Floats, Floats]:
        """Return the log-likelihood's gradient and information in each log-odds, ``(labelers, columns)``."""
        rate = special.expit(self.log_odds)
        expected = trials * rate
        return chosen - expected, expected * (1.0 - rate)

    def _assumed(self, prevalence: Floats) -> float:
        """Return the level that is believed beforehand."""
        if not self._sloping:
            return float(special.logit(HIT))
        # By the classes that apply most: where there are false alarms to speak of.
        typical = float(np.average(self._popularity, weights=prevalence * self._size + _INNER))
        return float(_assumed_alarms(1.0 - self._slope, np.array(typical)))


class _Learner:
    """The two steps of the EM over all cells."""

    def __init__(self, said: ChosenColumns) -> None:
        answers, items, columns = said.item.size, said.items, said.size.size
        self._said, self._columns, self._grid = said, columns, items * columns
        voted = np.bincount(said.item, minlength=items)
        self._voted, self._effect = voted, design_effect(voted)
        self._crowd = sparse.csr_matrix((np.ones(answers), (said.item, said.labeler)), (items, said.labelers))
        # An answer that stands alone agrees with itself whatever its labeler's skill, and says nothing of it.
        known = ~np.isnan(said.truth[: self._grid]).reshape(items, columns).all(axis=1)
        self._tells = ((voted >= 2) | known).astype(np.float64)
        self._told = sparse.csr_matrix(self._crowd.multiply(self._tells[:, None]).T)
        self._answer, self._cell = said.named[:, 0], said.named[:, 1]
        self._column = np.append(np.arange(self._grid) % columns, np.full(said.extra.size, columns - 1))
        self._at = np.append(np.repeat(np.arange(items), columns), said.extra)
        self._place = self._at * columns + self._column
        # How many classes a cell stands for: those of the last column that nobody named are one.
        self._stands = np.append(np.tile(said.size, items), np.ones(said.extra.size))
        named = np.bincount(said.extra, minlength=items)
        self._stands[: self._grid].reshape(items, columns)[:, -1] -= named
        self._who = said.labeler[self._answer]
        self._pair = self._who * columns + self._column[self._cell]

    def fit(self) -> Choosing:
        said, items = self._said, self._said.items
        hits = _Rates(said.labelers, said.size, float(special.logit(HIT)), 0.0)
        odds = special.logit(PREVALENCE)
        alarms = _Rates(
            said.labelers, said.size, float(_assumed_alarms(1.0 - _SLOPE, np.array(odds))), _SLOPE
        )
        shared = PREVALENCE
        counted = np.bincount(self._cell, minlength=self._at.size)
        applies = self._clamped((counted + 0.5 * shared) / (self._voted[self._at] + 0.5))
        judged = self._told @ np.ones((items, 1)) * said.size
        every = self._by_pair(np.ones(self._at.size))
        for _ in range(_ROUNDS):
            mass = self._by_item(applies)
            total = mass.sum(axis=0) + _ITEMS_BEHIND * shared
            prevalence = np.clip(total / (items * said.size + _ITEMS_BEHIND), _INNER, 1.0 - _INNER)
            shared = float((said.size @ prevalence + PREVALENCE) / (said.size.sum() + 1.0))
            true, chosen = self._told @ mass, self._by_pair(applies)
            for _ in range(2):
                hits.learn(true, chosen, prevalence)
                alarms.learn(np.maximum(judged - true, 0.0), every - chosen, prevalence)
            fresh = self._clamped(self._posterior(prevalence, hits.log_odds, alarms.log_odds))
            moved = float(np.abs(fresh - applies).max(initial=0.0))
            applies = fresh
            if moved < _SETTLED:
                break
        seen = (true.sum(axis=1) + every.sum(axis=1)) / 2.0
        crowd = Choosing(
            prevalence,
            hits.of_columns,
            alarms.of_columns,
            np.append(hits.of_labeler, 0.0),
            np.append(alarms.of_labeler, 0.0),
            np.append(seen, 0.0),
            0.0,
        )
        f1 = crowd.rates(np.arange(said.labelers), said.size)[2]
        doubt = 1.0 - float(f1[said.labeler].mean())
        return Choosing.of(crowd.arrays() | {"doubt": np.array([doubt])}, self._columns, said.labelers)

    def _posterior(self, prevalence: Floats, hits: Floats, alarms: Floats) -> Floats:
        """Return the chance that each cell's class applies."""
        unsaid = np.logaddexp(0.0, alarms) - np.logaddexp(0.0, hits)
        said = (self._crowd @ unsaid).ravel()[self._place]
        instead = (hits - alarms).ravel()[self._pair]
        said += np.bincount(self._cell, instead, self._at.size)
        return np.asarray(
            special.expit(special.logit(prevalence)[self._column] + said / self._effect[self._at])
        )

    def _clamped(self, applies: Floats) -> Floats:
        return np.where(np.isnan(self._said.truth), applies, self._said.truth)

    def _by_item(self, applies: Floats) -> Floats:
        """Return how many classes of each column apply to each item, ``(items, columns)``."""
        total = np.bincount(self._place, applies * self._stands, self._grid)
        return np.asarray(total.reshape(self._said.items, self._columns))

    def _by_pair(self, weight: Floats) -> Floats:
        """Return the summed weight of the cells that each labeler named in each column, where answers tell."""
        told = weight[self._cell] * self._tells[self._at[self._cell]]
        total = np.bincount(self._pair, told, self._said.labelers * self._columns)
        return np.asarray(total.reshape(self._said.labelers, self._columns))


def _assumed_alarms(part: float, popularity: Floats) -> Floats:
    """Return log-odds of false alarms such that a single answer is wrong as often as assumed; of the log-odds of the
    class, so much of it."""
    return np.asarray(np.log(HIT * WRONG / (1.0 - WRONG)) + part * popularity)


def _step(gradient: Floats | float, information: Floats | float) -> Floats:
    """Return a Newton step, none longer than is safe."""
    return np.asarray(np.clip(gradient / information, -_LONGEST_STEP, _LONGEST_STEP))
