"""What a crowd's sightings of objects say: which are real, of which class, and who misses or invents how much.

Each item has real objects and distractors, Poisson ``real_rate`` and ``distractor_rate`` of them an item. A labeler
marks a real object with the chance ``recall`` and a distractor with the chance ``alarm``, both the labeler's own,
drawn around the crowd's; what nobody marked is counted by what it must have been (capture and recapture). A marked
object gets its class right with the chance ``accuracy`` and one of the other classes else (one coin).
After Branson, Van Horn & Perona (CVPR 2017), whose false alarms never coincide; here they do, as distractors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..classes.votes import Floats
from .matching import Ints

RECALL, ALARM, ACCURACY = 0.85, 0.1, 0.9
"""A crowd nobody knows yet. Before the first fit there are as many distractors as objects: one mark in ten is false."""

_STRENGTH = 10.0
"""Of these as priors for the crowd, and of the crowd for a labeler; in objects, in distractors, in items for rates."""

_MOST_ALARM = 0.25
"""What fools more than a quarter of the crowd is an object, as far as the crowd can tell."""

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
    """What is known of the crowd: rates an item, and ``recall``, ``alarm`` and ``accuracy`` ``(labelers,)``."""

    real_rate: float
    distractor_rate: float
    recall: Floats
    alarm: Floats
    accuracy: Floats


def existence(seen: Sightings, crowd: Detectors) -> Floats:
    """Return each candidate's chance ``(candidates,)`` to be real."""
    away = np.log1p(-crowd.recall) - np.log1p(-crowd.alarm)
    there = np.log(crowd.recall / crowd.alarm) - away
    unmarked = np.bincount(seen.answer_item, weights=away[seen.answer_labeler], minlength=seen.items)
    odds = np.log(crowd.real_rate / crowd.distractor_rate) + unmarked[seen.item]
    odds = odds + np.bincount(seen.candidate, weights=there[seen.labeler], minlength=seen.item.size)
    chance = 1.0 / (1.0 + np.exp(-np.clip(odds, -500.0, 500.0)))
    return np.asarray(np.where(np.isnan(seen.known), chance, seen.known))


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


def fit(seen: Sightings) -> tuple[Detectors, Mapping[str, float]]:
    """Fit all by expectation and maximisation; also return the crowd's own recall, alarm and accuracy.

    Cost: linear in answers and marks, a few dozen rounds.
    """
    detectors, averages = _start(seen)
    for _ in range(_ROUNDS):
        before = np.concatenate([detectors.recall, detectors.alarm, detectors.accuracy])
        real = existence(seen, detectors)
        detectors, averages = _maximised(seen, detectors, averages, real)
        after = np.concatenate([detectors.recall, detectors.alarm, detectors.accuracy])
        if float(np.abs(after - before).max(initial=0.0)) < _SETTLED:
            break
    return detectors, averages


def _start(seen: Sightings) -> tuple[Detectors, Mapping[str, float]]:
    each = max(seen.candidate.size / max(seen.answer_item.size, 1), 1e-3)
    averages = {"recall": RECALL, "alarm": ALARM, "accuracy": ACCURACY, "marks": each}
    everybody = np.ones(seen.labelers)
    return (
        Detectors(
            real_rate=each * (1.0 - ALARM) / RECALL,
            distractor_rate=each,
            recall=RECALL * everybody,
            alarm=ALARM * everybody,
            accuracy=ACCURACY * everybody,
        ),
        averages,
    )


def _maximised(
    seen: Sightings, old: Detectors, averages: Mapping[str, float], real: Floats
) -> tuple[Detectors, Mapping[str, float]]:
    each = averages["marks"]
    recall, mean_recall, real_rate = _rates(
        seen, real, old.recall, old.real_rate, RECALL, each * (1.0 - ALARM) / RECALL, 1.0 - BOUND
    )
    alarm, mean_alarm, distractor_rate = _rates(
        seen, 1.0 - real, old.alarm, old.distractor_rate, ALARM, each, _MOST_ALARM
    )
    right = class_chance(seen, old.accuracy) * real[seen.candidate]
    judged = np.bincount(seen.labeler, weights=real[seen.candidate], minlength=seen.labelers)
    hits = np.bincount(seen.labeler, weights=right, minlength=seen.labelers)
    mean_accuracy = (hits.sum() + _STRENGTH * ACCURACY) / (judged.sum() + _STRENGTH)
    accuracy = (hits + _STRENGTH * mean_accuracy) / (judged + _STRENGTH)
    fresh = Detectors(
        real_rate=real_rate,
        distractor_rate=distractor_rate,
        recall=np.maximum(recall, alarm + BOUND),  # a mark never speaks against an object
        alarm=alarm,
        accuracy=np.clip(accuracy, max(1.0 / seen.kinds, BOUND), 1.0 - BOUND),
    )
    return fresh, {
        "recall": mean_recall,
        "alarm": mean_alarm,
        "accuracy": float(np.clip(mean_accuracy, BOUND, 1.0 - BOUND)),
        "marks": each,
    }


def _rates(
    seen: Sightings, share: Floats, chance: Floats, rate: float, usual: float, usual_rate: float, most: float
) -> tuple[Floats, float, float]:
    """Return the labelers' chances to mark what is there with ``share``, the crowd's, and how many an item there are."""
    hidden = unseen(seen, rate, chance)
    there = np.bincount(seen.item, weights=share, minlength=seen.items) + hidden
    marked = np.bincount(seen.labeler, weights=share[seen.candidate], minlength=seen.labelers)
    shown = np.bincount(seen.answer_labeler, weights=there[seen.answer_item], minlength=seen.labelers)
    mean = (marked.sum() + _STRENGTH * usual) / (shown.sum() + _STRENGTH)
    mean = float(np.clip(mean, BOUND, most))
    own = np.clip((marked + _STRENGTH * mean) / (shown + _STRENGTH), BOUND, min(2.0 * most, 1.0 - BOUND))
    fresh = (there.sum() + _STRENGTH * usual_rate) / (seen.items + _STRENGTH)
    return own, mean, float(fresh)
