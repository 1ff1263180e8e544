"""What a crowd's sightings of objects say: which are real, of which class, and who misses or invents how much.

Each item has real objects and distractors, Poisson ``real_rate`` and ``distractor_rate`` of them an item. A labeler
marks a real object with the chance ``recall`` and a distractor with the chance ``alarm``, and invents ``invented``
objects an item that are nobody else's. All are the labeler's own, drawn around the crowd's; what nobody marked is
counted by what it must have been (capture and recapture). A marked object gets its class right with the chance
``accuracy`` and one of the other classes else (one coin). After Branson, Van Horn & Perona (CVPR 2017), whose false
alarms never coincide; distractors are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..columns import Floats
from .matching import Ints

RECALL, ACCURACY = 0.85, 0.9
"""A crowd nobody knows yet: a labeler marks so many of the objects, and gives so many of them the right class."""

ALARM = 0.2
"""A distractor fools a fifth of the crowd; it is not learnt, because what fools most is as good as an object."""

INVENTED, SHARED = 0.08, 0.02
"""Shares of marks that are false before the first fit: of things nobody else sees, and of distractors."""

_STRENGTH = 10.0
"""Of these as priors for the crowd, and of the crowd for a labeler; in objects, in distractors, in items for rates."""

BOUND = 0.002
_ROUNDS = 100
_SETTLED = 1e-7


@dataclass(frozen=True)
class Sightings:
    """Who answered which item, and who marked which candidate as what; columns.

    ``answer_item``, ``answer_labeler`` ``(answers,)``; ``item (candidates,)`` of each candidate; ``candidate``,
    ``labeler``, ``kind`` ``(marks,)``, the kind being the class by number. ``known (candidates,)`` is 1 or 0 for a
    candidate that is known to be real or not, nan elsewhere; ``known_kind`` its class, -1 where unknown.
    """

    items: int
    labelers: int
    kinds: int
    answer_item: Ints
    answer_labeler: Ints
    item: Ints
    candidate: Ints
    labeler: Ints
    kind: Ints
    known: Floats
    known_kind: Ints


@dataclass(frozen=True)
class Detectors:
    """What is known of the crowd: rates an item, and each labeler's ``(labelers,)``."""

    real_rate: float
    distractor_rate: float
    recall: Floats
    alarm: Floats
    invented: Floats
    accuracy: Floats

    @classmethod
    def first(cls, each: float, labelers: int) -> Detectors:
        """Return a crowd nobody knows yet, whose answers hold ``each`` objects on average."""
        everybody = np.ones(labelers)
        return cls(
            real_rate=each * (1.0 - INVENTED - SHARED) / RECALL,
            distractor_rate=each * SHARED / ALARM,
            recall=RECALL * everybody,
            alarm=ALARM * everybody,
            invented=each * INVENTED * everybody,
            accuracy=ACCURACY * everybody,
        )


def existence(seen: Sightings, crowd: Detectors) -> Floats:
    """Return each candidate's chance ``(candidates,)`` to be real."""
    return np.asarray(_shares(seen, crowd)[0], dtype=np.float64)


def _shares(seen: Sightings, crowd: Detectors) -> Floats:
    """Return each candidate's chances ``(3, candidates)`` to be real, a distractor, or one labeler's invention."""
    logs = np.full((3, seen.item.size), -np.inf)
    for row, (rate, chance) in enumerate(
        ((crowd.real_rate, crowd.recall), (crowd.distractor_rate, crowd.alarm))
    ):
        away, there = np.log1p(-chance), np.log(chance) - np.log1p(-chance)
        unmarked = np.bincount(seen.answer_item, weights=away[seen.answer_labeler], minlength=seen.items)
        marked = np.bincount(seen.candidate, weights=there[seen.labeler], minlength=seen.item.size)
        logs[row] = np.log(rate) + unmarked[seen.item] + marked
    alone = (np.bincount(seen.candidate, minlength=seen.item.size) == 1)[seen.candidate]
    logs[2, seen.candidate[alone]] = np.log(crowd.invented[seen.labeler[alone]])
    logs[0, seen.known == 0.0] = -np.inf
    logs[1:, seen.known == 1.0] = -np.inf
    share = np.exp(logs - logs.max(axis=0))
    return np.asarray(share / share.sum(axis=0))


def unseen(seen: Sightings, rate: float, chance: Floats) -> Floats:
    """Return how many each item ``(items,)`` is expected to have that nobody who answered marked."""
    log_missed = np.bincount(
        seen.answer_item, weights=np.log1p(-chance)[seen.answer_labeler], minlength=seen.items
    )
    return np.asarray(rate * np.exp(log_missed), dtype=np.float64)


def class_chance(seen: Sightings, accuracy: Floats) -> Floats:
    """Return the chance ``(marks,)`` that the class given by each mark is its candidate's."""
    if seen.kinds < 2:
        return np.ones(seen.candidate.size)
    wrong = np.log1p(-accuracy) - np.log(seen.kinds - 1.0)
    edge = (np.log(accuracy) - wrong)[seen.labeler]
    named, place = np.unique(seen.candidate * seen.kinds + seen.kind, return_inverse=True)
    candidate = named // seen.kinds
    worth = np.bincount(place, weights=edge, minlength=named.size)
    unnamed = seen.kinds - np.bincount(candidate, minlength=seen.item.size)
    top = np.zeros(seen.item.size)
    np.maximum.at(top, candidate, worth)
    mass = np.exp(worth - top[candidate])
    total = np.bincount(candidate, weights=mass, minlength=seen.item.size) + unnamed * np.exp(-top)
    chance = (mass / total[candidate])[place]
    known = seen.known_kind[seen.candidate]
    return np.asarray(np.where(known < 0, chance, (known == seen.kind).astype(np.float64)))


def fit(seen: Sightings) -> tuple[Detectors, Detectors]:
    """Fit everybody by expectation and maximisation; also return the crowd's average, one labeler of nobody's name.

    Cost: linear in answers and marks, a few dozen rounds.
    """
    each = max(seen.candidate.size / max(seen.answer_item.size, 1), BOUND)
    start, average = Detectors.first(each, 1), Detectors.first(each, 1)
    crowd = Detectors.first(each, seen.labelers)
    for _ in range(_ROUNDS):
        before = np.concatenate([crowd.recall, crowd.alarm, crowd.invented, crowd.accuracy])
        crowd, average = _maximised(seen, crowd, start)
        after = np.concatenate([crowd.recall, crowd.alarm, crowd.invented, crowd.accuracy])
        if float(np.abs(after - before).max(initial=0.0)) < _SETTLED:
            break
    return crowd, average


def _maximised(seen: Sightings, old: Detectors, start: Detectors) -> tuple[Detectors, Detectors]:
    real, distractor, invention = _shares(seen, old)
    recall, usual_recall, real_rate = _rates(seen, real, old.recall, old.real_rate, start.real_rate)
    alarm, _, distractor_rate = _rates(
        seen, distractor, old.alarm, old.distractor_rate, start.distractor_rate, usual=ALARM
    )
    answers = np.bincount(seen.answer_labeler, minlength=seen.labelers)
    made_up = np.bincount(seen.labeler, weights=invention[seen.candidate], minlength=seen.labelers)
    right = class_chance(seen, old.accuracy) * real[seen.candidate]
    hits = np.bincount(seen.labeler, weights=right, minlength=seen.labelers)
    judged = np.bincount(seen.labeler, weights=real[seen.candidate], minlength=seen.labelers)
    invented, usual_invented = _shrunk(made_up, answers, float(start.invented[0]))
    accuracy, usual_accuracy = _shrunk(hits, judged, ACCURACY)
    least = max(1.0 / seen.kinds, BOUND)
    fresh = Detectors(
        real_rate=real_rate,
        distractor_rate=distractor_rate,
        recall=np.maximum(recall, alarm + BOUND),  # a mark never speaks against an object
        alarm=alarm,
        invented=invented,
        accuracy=np.clip(accuracy, least, 1.0 - BOUND),
    )
    average = Detectors(
        real_rate=real_rate,
        distractor_rate=distractor_rate,
        recall=np.array([max(usual_recall, ALARM + BOUND)]),
        alarm=np.array([ALARM]),
        invented=np.array([usual_invented]),
        accuracy=np.array([np.clip(usual_accuracy, least, 1.0 - BOUND)]),
    )
    return fresh, average


def _rates(
    seen: Sightings,
    share: Floats,
    chance: Floats,
    rate: float,
    usual_rate: float,
    usual: float | None = None,
) -> tuple[Floats, float, float]:
    """Return the labelers' chances to mark what is there with ``share``, the crowd's, and how many an item there are.

    The crowd's is ``usual`` if that is given.
    """
    there = np.bincount(seen.item, weights=share, minlength=seen.items) + unseen(seen, rate, chance)
    marked = np.bincount(seen.labeler, weights=share[seen.candidate], minlength=seen.labelers)
    shown = np.bincount(seen.answer_labeler, weights=there[seen.answer_item], minlength=seen.labelers)
    own, mean = _shrunk(marked, shown, RECALL)
    if usual is not None:
        own, mean = (marked + _STRENGTH * usual) / (shown + _STRENGTH), usual
    fresh = (there.sum() + _STRENGTH * usual_rate) / (seen.items + _STRENGTH)
    return np.clip(own, BOUND, 1.0 - BOUND), float(np.clip(mean, BOUND, 1.0 - BOUND)), float(fresh)


def _shrunk(hits: Floats | Ints, trials: Floats | Ints, usual: float) -> tuple[Floats, float]:
    """Return each labeler's share of hits, drawn to the crowd's, which is drawn to the usual; and the crowd's."""
    mean = float((hits.sum() + _STRENGTH * usual) / (trials.sum() + _STRENGTH))
    return (hits + _STRENGTH * mean) / (trials + _STRENGTH), mean
