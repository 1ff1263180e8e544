"""Which labels are likely wrong? A ranking for who has time to look at some of them, never an estimate of the error.

Each source says how likely a label is wrong, as log-odds. What sees the same answers is averaged, for it must not be heard
twice; what is independent is added::

    suspicion = (people's posterior + people's disagreement) / 2 + model + time

* *posterior*: the chance, by the aggregation, that the label is wrong;
* *disagreement*: the share of answers that say otherwise, whoever gave them: posteriors of a crowd that is sure of a
  mistake are blind where this is not;
* *model*: out-of-sample predictions (no item may be predicted by a model that was trained on its label), made to mean
  what they say by one temperature (Guo et al. 2017) fitted to the labels: a model that knows nothing fades to the
  classes' shares;
* *time*: how much longer than usual people took, as far as that goes with disagreement in this crowd.

For labels and predictions alone `confident_joint` and `label_errors` are confident learning (Northcutt, Jiang & Chuang,
JAIR 2021): how many labels of each class are wrong, and which they probably are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from ..classes.votes import Votes, check_votes
from ..columns import Floats, as_array, check_instance, numbers
from .answer_times import AnswerTimes

ALGORITHM = "LogOddsSuspicion"
VERSION = "1"
"""Changes whenever the same answers may give another order."""

_SUREST = 1e-4
"""No source is surer than one in ten thousand: nobody has shown that it is."""

_TIME_STRENGTH = 50.0
"""Items behind the belief that time says nothing."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Suspicion:
    """How suspicious each label is: ``score`` ``(items,)``, log-odds in nats of being wrong, the larger the worse.

    ``order`` ``(items,)``: items, most suspicious first, equal ones by number. ``signals``: what each source said,
    ``(items,)`` each, for the evidence.
    """

    score: Floats
    order: Ints
    signals: Mapping[str, Floats]


def suspicion(
    label: ArrayLike,
    *,
    posterior: ArrayLike | None = None,
    votes: Votes | None = None,
    predicted: ArrayLike | None = None,
    times: AnswerTimes | None = None,
) -> Suspicion:
    """Rank items by how likely their ``label`` ``(items,)`` is wrong; of the other sources any may be missing, not all.

    ``posterior`` ``(items, classes)`` of the aggregation; ``predicted`` ``(items, classes)`` out-of-sample
    probabilities; ``times`` with the seconds that answers took, in any order, which needs ``votes``. Raises ValueError
    naming the first entry that cannot be.
    """
    if votes is not None:
        check_votes(votes)
    check_instance("times", times, (AnswerTimes, NoneType), "AnswerTimes, or None")
    tables = [
        as_array(name, a) for name, a in (("posterior", posterior), ("predicted", predicted)) if a is not None
    ]
    given = [table.shape[1] for table in tables if table.ndim == 2]
    classes = votes.classes if votes is not None else given[0] if given else 0
    if not classes:
        raise ValueError(
            "expected a posterior, votes or predicted probabilities; with the label alone there is no order"
        )
    labels = _labels(label, classes)
    people: dict[str, Floats] = {}
    if posterior is not None:
        people["posterior"] = _wrong(_probabilities("posterior", posterior, (labels.size, classes)), labels)
    if votes is not None:
        people["disagreement"] = _disagreement(votes, labels)
    signals = dict(people)
    score = sum(people.values(), np.zeros(labels.size)) / max(len(people), 1)
    if predicted is not None:
        chance = tempered(labels, _probabilities("predicted", predicted, (labels.size, classes)))
        signals["model"] = _wrong(chance, labels)
        score = score + signals["model"]
    if times is not None:
        if votes is None:
            raise ValueError("times are given without the votes that took them")
        signals["time"] = _time(times, people["disagreement"])
        score = score + signals["time"]
    return Suspicion(score, np.argsort(-score, kind="stable").astype(np.int64), signals)


def tempered(label: ArrayLike, predicted: ArrayLike) -> Floats:
    """Return ``predicted`` ``(items, classes)`` to the power that makes the labels likeliest, rows summing to one."""
    labels, chance, rows = _confident(label, predicted)
    if not labels.size:
        return chance
    log = np.log(np.maximum(chance, 1e-12))

    def surprise(log_power: float) -> float:
        scaled = log * np.exp(log_power)
        return float((special.logsumexp(scaled, axis=1) - scaled[rows, labels]).mean())

    best = optimize.minimize_scalar(surprise, bounds=(-4.0, 2.0), method="bounded")
    return np.asarray(special.softmax(log * np.exp(best.x), axis=1))


def confident_joint(label: ArrayLike, predicted: ArrayLike) -> Floats:
    """Return how many items have each label and each true class, ``(label, truth)``, summing to the items.

    An item counts for a true class where its probability reaches the mean of those so labeled (eqs. 1 and 2 of the
    paper); rows are scaled to the numbers of labels. A class nobody is labeled with has no threshold, and no items.
    """
    labels, chance, _ = _confident(label, predicted)
    classes = chance.shape[1]
    threshold = _thresholds(labels, chance)
    able = chance >= threshold - 1e-12
    believed = np.where(able, chance, -1.0).argmax(axis=1)
    counted = able.any(axis=1)
    joint = np.zeros((classes, classes))
    np.add.at(joint, (labels[counted], believed[counted]), 1.0)
    given = np.bincount(labels, minlength=classes).astype(np.float64)
    # Of a class with labels but no confident item nothing is known: its labels are taken to be right.
    silent = (joint.sum(axis=1) == 0) & (given > 0)
    joint[silent, silent] = 1.0
    total = np.maximum(joint.sum(axis=1, keepdims=True), 1e-12)
    return np.asarray(joint / total * given[:, None])


def label_errors(label: ArrayLike, predicted: ArrayLike) -> Ints:
    """Return the items whose label is probably wrong, likeliest first, by confident learning.

    For each label and truth as many items as `confident_joint` says, those with the largest margin of that truth
    over the label (the paper's prune by noise rate); never one whose label is the likeliest class.
    """
    labels, chance, rows = _confident(label, predicted)
    joint = np.rint(confident_joint(labels, chance)).astype(np.int64)
    own = chance[rows, labels]
    found = np.zeros(labels.size, dtype=np.bool_)
    for given in range(chance.shape[1]):
        mine = np.flatnonzero(labels == given)
        for truth in np.flatnonzero(joint[given]):
            if truth != given:
                margin = chance[mine, truth] - own[mine]
                found[mine[np.argsort(-margin, kind="stable")[: joint[given, truth]]]] = True
    found &= own < chance.max(axis=1, initial=0.0)
    items = np.flatnonzero(found)
    return np.asarray(items[np.argsort(own[items], kind="stable")], dtype=np.int64)


def _thresholds(labels: Ints, chance: Floats) -> Floats:
    given = np.bincount(labels, minlength=chance.shape[1])
    own = np.bincount(labels, chance[np.arange(labels.size), labels], chance.shape[1])
    return np.asarray(np.where(given > 0, own / np.maximum(given, 1), np.inf))


def _confident(label: ArrayLike, predicted: ArrayLike) -> tuple[Ints, Floats, Ints]:
    chance = numbers("predicted", predicted)
    if chance.ndim != 2 or not chance.shape[1]:
        raise ValueError(f"predicted has shape {chance.shape}; expected (items, classes), one class or more")
    labels = _labels(label, chance.shape[1])
    chance = _probabilities("predicted", chance, (labels.size, chance.shape[1]))
    return labels, chance, np.arange(labels.size)


def _wrong(chance: Floats, labels: Ints) -> Floats:
    right = chance[np.arange(labels.size), labels]
    return np.asarray(special.logit(np.clip(1.0 - right, _SUREST, 1.0 - _SUREST)))


def _disagreement(votes: Votes, labels: Ints) -> Floats:
    """Return the log-odds of the share of answers that say otherwise; half an answer on either side keeps it finite."""
    if votes.items != labels.size:
        raise ValueError(f"votes are on {votes.items} items, labels on {labels.size}; expected the same")
    agreed = votes.tally()[np.arange(labels.size), labels]
    return np.asarray(np.log(votes.per_item() - agreed + 0.5) - np.log(agreed + 0.5))


def _time(times: AnswerTimes, disagreement: Floats) -> Floats:
    """Return what slowness says: its regression on disagreement, over items, leaning on nothing."""
    taken, items = times.taken(), disagreement.size
    what, names = times.rows()
    if what.size and what.max() >= items:
        at = int(np.flatnonzero(what >= items)[0])
        raise ValueError(f"column item of the times, row {at}: {what[at]} is not an item in 0..{items - 1}")
    people, who = np.unique(names, return_inverse=True)
    known = np.isfinite(taken)
    log = np.log(np.maximum(np.where(known, taken, 1.0), 1e-3))
    count = np.bincount(who, known, people.size)
    usual = np.bincount(who, known * log, people.size) / np.maximum(count, 1.0)
    slower = known * (log - usual[who])
    timed = np.bincount(what, known, items)
    slowness = np.bincount(what, slower, items) / np.maximum(timed, 1.0)
    spread = float(np.sqrt(np.mean(slowness[timed > 0] ** 2))) if (timed > 0).any() else 0.0
    if spread == 0.0:
        return np.zeros(items)
    slowness = np.clip(slowness / spread, -3.0, 3.0)
    centred = np.where(timed > 0, disagreement - disagreement[timed > 0].mean(), 0.0)
    return np.asarray(slowness * float(slowness @ centred) / (float(slowness @ slowness) + _TIME_STRENGTH))


def _labels(label: ArrayLike, classes: int) -> Ints:
    labels = as_array("label", label)
    if labels.dtype.kind == "b":
        raise ValueError(f"label holds {labels.dtype}; expected classes, whole numbers")
    if labels.ndim != 1:
        raise ValueError(f"label has shape {labels.shape}; expected one class an item")
    if not labels.size:
        return np.zeros(0, np.int64)
    whole = numbers("label", labels)
    bad = np.flatnonzero(~((whole >= 0) & (whole < classes) & (whole == np.floor(whole))))
    if bad.size:
        raise ValueError(f"label, item {bad[0]}: {labels[bad[0]]} is not a class in 0..{classes - 1}")
    return whole.astype(np.int64)


def _probabilities(name: str, values: ArrayLike, shape: tuple[int, int]) -> Floats:
    chance = numbers(name, values)
    if chance.shape != shape:
        raise ValueError(f"{name} has shape {chance.shape}; expected {shape}, a row a label")
    bad = np.flatnonzero(~((chance >= 0.0).all(axis=1) & (np.abs(chance.sum(axis=1) - 1.0) < 1e-3)))
    if bad.size:
        raise ValueError(f"{name}, item {bad[0]}: {chance[bad[0]]} are no probabilities that sum to one")
    return chance
