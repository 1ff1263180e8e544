"""Answers that are lists of objects: which objects there are, of which class, and where, from everybody's lists.

A kind of shape says how alike two of its objects are and how objects that are one are joined; the rest is here, once:
objects of all labelers are matched at once (`matching`), each candidate exists or not (`detection`), has a class and
attributes by vote of those who marked it, and a place that its labelers' own spreads make more or less sure.
After Branson, Van Horn & Perona, "Lean Crowdsourcing" (CVPR 2017), with recall, false alarms, class accuracy and
spread learnt for everybody at once from the answers alone, and from known truths where there are any.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, ClassVar, Generic, cast

import numpy as np

from ..columns import Floats, check_sequence, checked_name
from ..live_answers import Answered, Evidence, LiveAnswers, heaviest_first
from . import detection, spreads
from .attributes import checked_attributes, joined_attributes
from .fields import share as checked_share
from .fields import whole
from .found import TRUTH, Candidates, Lists, Places
from .joined import JoinedObject, JoinedObjects, LabelerDetection, O, expected_f1, soft_f1
from .matching import Ints, matched, overlapping

_OWN = ("recall", "alarm", "invented", "accuracy")
"""What is learnt of each labeler's detection."""

_OTHER_CLASS = 0.8
"""Two objects of different classes are so much less alike: neighbours sort by class, a slip of class still matches."""

_ONE_OBJECT = 0.5
"""Two shapes are rather one object from this share of the tolerance on: both of them miss the truth."""

_ROUNDS = 3
"""Rounds of places and spreads; the third moves spreads by a few per cent."""


class LiveObjects(LiveAnswers[tuple[O, ...], JoinedObjects[O], LabelerDetection], Generic[O]):
    """Live state of a question answered with lists of objects.

    ``tolerance``: likeness to the truth from which on a place is right (such as .5 IoU). ``classes``: how many the
    question has; at least as many as were ever named count. A kind fills `_checked_object`, `_bounds`, `_similarity`
    and `_place` (or `_places`, for many at once), and may fill `_squared_distance`, `_described` and `_learn_places`.
    """

    drawn: ClassVar[type[Any]]
    """The class of its objects."""

    dimensions: float = 4.0
    """Numbers that make up a place: so many independent deviations add up to one likeness."""

    first_spread: float = 0.2
    """Spread of a crowd nobody knows yet."""

    def __init__(self, tolerance: float = 0.5, classes: int = 0) -> None:
        super().__init__()
        self.tolerance = checked_share("tolerance", tolerance)
        self._classes = whole("classes", classes)

    # --- what a kind of shape says

    @abstractmethod
    def _checked_object(self, given: O) -> O:
        """Return the object as it is kept. Raises ValueError telling what is wrong with it (not which it is)."""

    @abstractmethod
    def _bounds(self, objects: Sequence[O]) -> Floats:
        """Return upright bounds ``(n, 4)`` x0, y0, x1, y1; objects whose bounds do not meet are not alike at all."""

    @abstractmethod
    def _similarity(self, left: Sequence[O], right: Sequence[O]) -> Floats:
        """Return how alike, 0..1, each of ``left`` is to the one of ``right`` beside it ``(n,)``; class apart."""

    def _pairwise(self, objects: Sequence[O], left: Ints, right: Ints) -> Floats:
        """Return how alike ``(n,)`` the objects are that two columns of places in ``objects`` name."""
        one, other = [objects[k] for k in left.tolist()], [objects[k] for k in right.tolist()]
        return self._similarity(one, other) if one else np.zeros(0)

    @abstractmethod
    def _place(
        self, objects: Sequence[O], precision: Floats, corpus: Mapping[str, Floats]
    ) -> tuple[O, Floats]:
        """Return one shape for two or more that are one, and each one's share of it ``(n,)``, at most one in sum.

        ``precision (n,)`` is each labeler's own, one over the squared spread; ``corpus`` what `_learn_places` learnt,
        and more. Class and attributes of the result are seen to elsewhere.
        """

    def _places(
        self, groups: Sequence[Sequence[O]], precision: Sequence[Floats], corpus: Mapping[str, Floats]
    ) -> Sequence[tuple[O, Floats]]:
        """Return `_place` of each group."""
        return [self._place(group, p, corpus) for group, p in zip(groups, precision, strict=True)]

    def _described(self, place: O, objects: Sequence[O], share: Floats) -> O:
        """Return the joined place of ``objects`` with what else they say by their ``share (n,)``, such as a text."""
        return place

    def _squared_distance(self, likeness: Floats) -> Floats:
        """Return the squared distance, in squared units of spread, at which two shapes are so alike."""
        return np.square(1.0 - likeness)

    def _learn_places(self, clusters: Sequence[Sequence[O]]) -> Mapping[str, Floats]:
        """Return what all matched objects teach of places as such; each cluster has two objects or more."""
        return {}

    def _settings(self) -> str:
        return f"tolerance={self.tolerance}, classes={self._classes}"

    # --- answers

    def _checked(self, answer: Sequence[O]) -> tuple[O, ...]:
        check_sequence("answer", answer, f"a tuple of {self.drawn.__name__}")
        kept = []
        for number, given in enumerate(answer):
            try:
                kept.append(self._checked_one(given))
            except ValueError as wrong:
                raise ValueError(f"object {number}: {wrong}") from None
        return tuple(kept)

    def _checked_one(self, given: O) -> O:
        if not isinstance(given, self.drawn):
            raise ValueError(f"it is {given!r:.100}; expected a {self.drawn.__name__}")
        checked_name("class_id", given.class_id)
        return self._checked_object(_with(given, attributes=checked_attributes(given.attributes)))

    def _join(self, votes: Sequence[tuple[str, tuple[O, ...]]]) -> JoinedObjects[O]:
        if not votes:
            return JoinedObjects((), 0.0, (), (), ())
        who = [name for name, _ in votes]
        found = self._matched(Lists.of([answer for _, answer in votes], [0] * len(votes), range(len(votes))))
        crowd = self._detectors(who)
        seen = found.sightings(1, len(votes), self._kinds())
        exists = detection.existence(seen, crowd)
        joined, share, alike = self._joined(
            found, exists, detection.class_chance(seen, crowd.accuracy), crowd, who
        )
        exists = self._not_drawn_twice(joined, exists)
        joined = [replace(one, exists=float(e)) for one, e in zip(joined, exists, strict=True)]
        order = self._reading_order([one.object for one in joined])
        taken = [k for k in order if exists[k] >= 0.5]
        hidden = float(detection.unseen(seen, crowd.real_rate, crowd.recall)[0])
        return JoinedObjects(
            value=tuple(joined[k].object for k in taken),
            confidence=expected_f1([joined[k] for k in taken], exists, hidden),
            evidence=_evidence(votes, found, (exists >= 0.5)[found.cluster], share, alike, crowd),
            objects=tuple(joined[k] for k in taken),
            doubtful=tuple(joined[k] for k in order if exists[k] < 0.5),
        )

    def _known(self, truth: tuple[O, ...], votes: Sequence[tuple[str, tuple[O, ...]]]) -> JoinedObjects[O]:
        answers = [truth, *(answer for _, answer in votes)]
        found = self._matched(Lists.of(answers, [0] * len(answers), [TRUTH, *range(len(votes))]))
        true = np.flatnonzero(
            found.labeler == TRUTH
        )  # the first of their clusters, as theirs is the first answer
        shape = dict(zip(found.cluster[true].tolist(), true.tolist(), strict=True))
        pairs = [(k, shape[c]) for k, c in enumerate(found.cluster.tolist()) if shape.get(c, k) != k]
        alike = np.zeros(len(votes))
        marked: dict[int, list[str]] = {}
        if pairs:
            left, right = [found.objects[k] for k, _ in pairs], [found.objects[t] for _, t in pairs]
            same = [a.class_id == b.class_id for a, b in zip(left, right, strict=True)]
            for (k, t), likeness in zip(pairs, self._similarity(left, right) * same, strict=True):
                alike[found.labeler[k]] += likeness
                marked.setdefault(t, []).append(votes[int(found.labeler[k])][0])
        agreement = soft_f1(alike, [len(answer) for _, answer in votes], len(truth))
        return JoinedObjects(
            value=truth,
            confidence=1.0,
            evidence=tuple(Evidence(who, a, 0.0) for (who, _), a in zip(votes, agreement, strict=True)),
            objects=tuple(
                JoinedObject(found.objects[t], 1.0, 1.0, 1.0, 0.0, tuple(marked.get(t, ())))
                for t in sorted(true.tolist(), key=lambda t: _position(found.objects[t], truth))
            ),
            doubtful=(),
        )

    def reliability(self, labeler: str) -> LabelerDetection:
        """Return what is known of a labeler; the crowd's average for one never fitted."""
        crowd = self._detectors([checked_name("labeler", labeler)])
        return LabelerDetection(
            labeler=labeler,
            votes=self._counts.get(labeler, 0),
            recall=float(crowd.recall[0]),
            false_alarms=float(crowd.invented[0] + crowd.distractor_rate * crowd.alarm[0]),
            class_accuracy=float(crowd.accuracy[0]),
            spread=float(self._spread([labeler])[0]),
        )

    # --- candidates

    def _matched(self, lists: Lists[O]) -> Candidates[O]:
        if not lists.objects:
            return Candidates.of(lists, np.zeros(0, dtype=np.int64))
        left, right = overlapping(self._bounds(lists.objects), lists.answer, lists.item[lists.answer])
        alike = self._pairwise(lists.objects, left, right)
        kind = np.unique([one.class_id for one in lists.objects], return_inverse=True)[1]
        alike = np.where(kind[left] == kind[right], alike, alike * _OTHER_CLASS)
        return Candidates.of(lists, matched(lists.answer, left, right, alike, _ONE_OBJECT * self.tolerance))

    def _located(
        self, groups: Sequence[Sequence[O]], spread: Floats, corpus: Mapping[str, Floats]
    ) -> tuple[Sequence[O], Floats]:
        """Return one shape for each group, and the share in it of each mark; ``spread (marks,)`` of its labeler."""
        ends = np.cumsum([len(group) for group in groups])[:-1]
        precision = np.split(1.0 / spread**2, ends)
        several = [k for k, group in enumerate(groups) if len(group) > 1]
        placed = self._places([groups[k] for k in several], [precision[k] for k in several], corpus)
        shapes, shares = [group[0] for group in groups], [np.ones(len(group)) for group in groups]
        for k, (shape, share) in zip(several, placed, strict=True):
            shapes[k], shares[k] = shape, share
        return shapes, np.concatenate([np.zeros(0), *shares])

    def _joined(
        self,
        found: Candidates[O],
        exists: Floats,
        class_chance: Floats,
        crowd: detection.Detectors,
        who: Sequence[str],
    ) -> tuple[Sequence[JoinedObject[O]], Floats, Floats]:
        """Return each candidate joined, and each mark's share of it and likeness to it (0 for another class)."""
        if not found.objects:
            return [], np.zeros(0), np.zeros(0)
        marks = list(pairwise(found.first.tolist()))
        groups = [found.objects[low:high] for low, high in marks]
        spread = self._spread(who)[found.labeler]
        weight = (np.log(crowd.accuracy) - np.log1p(-crowd.accuracy))[found.labeler]
        weight = np.maximum(weight, detection.BOUND)
        places, share = self._located(groups, spread, self._fitted)
        shapes = []
        for place, group, (low, high) in zip(places, groups, marks, strict=True):
            best = min((-class_chance[low + k], one.class_id) for k, one in enumerate(group))[1]
            attributes = joined_attributes([one.attributes for one in group], weight[low:high])
            described = self._described(place, group, share[low:high])
            shapes.append(_with(described, class_id=best, attributes=attributes))
        beside = [shapes[c] for c in found.cluster.tolist()]
        alike = self._similarity(found.objects, beside)
        same = np.array([a.class_id == b.class_id for a, b in zip(found.objects, beside, strict=True)])
        top = np.maximum.reduceat(class_chance, found.first[:-1])
        square, most = (self._squared_distance(of) for of in (alike, np.array([self.tolerance])))
        place_right, distance = spreads.place_right(
            square, spread, found.first[:-1], self.dimensions, float(most[0])
        )
        joined = [
            JoinedObject(
                object=shape,
                exists=float(exists[c]),
                class_right=float(top[c]),
                place_right=float(place_right[c]),
                distance=float(distance[c]),
                labelers=tuple(who[k] for k in found.labeler[low:high]),
            )
            for c, (shape, (low, high)) in enumerate(zip(shapes, marks, strict=True))
        ]
        return joined, share, alike * same

    def _not_drawn_twice(self, joined: Sequence[JoinedObject[O]], exists: Floats) -> Floats:
        """Return the chances to exist of candidates, lowered where one is a better supported one drawn twice.

        Two of a class that the tolerance does not tell apart are two if more than half of those who marked the better
        supported one marked both; the chance of the other is multiplied with that share else.
        """
        shapes = [one.object for one in joined]
        if len(shapes) < 2:
            return exists
        number = np.arange(len(shapes))
        left, right = overlapping(self._bounds(shapes), number, np.zeros_like(number))
        if not left.size:
            return exists
        alike = self._pairwise(shapes, left, right)
        lowered = exists.copy()
        for k in np.flatnonzero(alike >= self.tolerance).tolist():
            pair = sorted((left[k], right[k]), key=lambda c: (-len(joined[c].labelers), -exists[c], c))
            better, other = (joined[c] for c in pair)
            both = len(set(better.labelers) & set(other.labelers)) / len(better.labelers)
            if better.object.class_id == other.object.class_id and both <= 0.5:
                lowered[pair[1]] = min(lowered[pair[1]], exists[pair[1]] * both)
        return lowered

    def _reading_order(self, objects: Sequence[O]) -> list[int]:
        if not objects:
            return []
        bounds = self._bounds(objects)
        key = [(bounds[k, 1], bounds[k, 0], objects[k].class_id, k) for k in range(len(objects))]
        return [k for *_, k in sorted(key)]

    # --- labelers

    def _detectors(self, labelers: Sequence[str]) -> detection.Detectors:
        rates = self._fitted.get("rates")
        usual = detection.Detectors.first(1.0, 1)
        return detection.Detectors(
            real_rate=usual.real_rate if rates is None else float(rates[0]),
            distractor_rate=usual.distractor_rate if rates is None else float(rates[1]),
            **{
                name: np.array([
                    self._of(who, name, float(getattr(usual, name)[0] if rates is None else rates[2 + k]))
                    for who in labelers
                ])
                for k, name in enumerate(_OWN)
            },
        )  # fmt: skip

    def _spread(self, labelers: Sequence[str]) -> Floats:
        rates = self._fitted.get("rates")
        crowd = self.first_spread if rates is None else float(rates[-2])
        return np.array([self._of(who, "spread", crowd) for who in labelers])

    def _kinds(self) -> int:
        rates = self._fitted.get("rates")
        return self._classes if rates is None else max(self._classes, int(rates[-1]))

    def _learn(
        self, answered: Sequence[Answered[tuple[O, ...]]], labelers: tuple[str, ...]
    ) -> Mapping[str, Floats]:
        rows = {who: row for row, who in enumerate(labelers)}
        answers: list[tuple[O, ...]] = []
        item: list[int] = []
        labeler: list[int] = []
        for number, (_, votes, truth) in enumerate(answered):
            answers += [answer for _, answer in votes] + ([] if truth is None else [truth])
            labeler += [rows[who] for who, _ in votes] + ([] if truth is None else [TRUTH])
            item += [number] * (len(labeler) - len(item))
        found = self._matched(Lists.of(answers, item, labeler))
        seen = found.sightings(len(answered), len(labelers), self._classes)
        crowd, average = detection.fit(seen)
        places = Places.of(found, detection.existence(seen, crowd))
        corpus = dict(self._learn_places([group for group in places.groups if len(group) > 1]))
        spread, usual = self._learn_spread(places, len(labelers), corpus)
        rates = [crowd.real_rate, crowd.distractor_rate]
        rates += [float(getattr(average, name)[0]) for name in _OWN]
        return {
            **corpus,
            **{name: getattr(crowd, name) for name in _OWN},
            "rates": np.array([*rates, usual, float(seen.kinds)]),
            "spread": spread,
        }

    def _learn_spread(
        self, places: Places[O], labelers: int, corpus: Mapping[str, Floats]
    ) -> tuple[Floats, float]:
        """Return each labeler's spread and the crowd's.

        An object's distance from a joined shape that it has a share in falls short of its distance from the truth:
        its expected square is the labeler's spread squared times one less the share.
        """
        spread, usual = np.full(labelers, self.first_spread), self.first_spread
        if not places.groups:
            return spread, usual
        objects = [one for group in places.groups for one in group]
        size = [len(group) for group in places.groups]
        known = np.repeat([truth is not None for truth in places.truth], size)
        for _ in range(_ROUNDS):
            shapes, share = self._located(places.groups, spread[places.labeler], corpus)
            against = [
                shape if truth is None else truth for shape, truth in zip(shapes, places.truth, strict=True)
            ]
            beside = [shape for shape, n in zip(against, size, strict=True) for _ in range(n)]
            square = places.weight * self._squared_distance(self._similarity(objects, beside))
            free = places.weight * np.where(known, 1.0, 1.0 - share)
            spread, usual = spreads.learnt(square, free, places.labeler, labelers, self.first_spread)
        return spread, usual


def _evidence(
    votes: Sequence[tuple[str, Sequence[O]]],
    found: Candidates[O],
    taken: np.ndarray[Any, np.dtype[np.bool_]],
    share: Floats,
    alike: Floats,
    crowd: detection.Detectors,
) -> tuple[Evidence, ...]:
    """Return each answer's part: its soft F1 with the joined objects, and its mean share of their places."""
    objects = np.unique(found.cluster[taken]).size
    likeness: Floats = np.bincount(found.labeler, weights=alike * taken, minlength=len(votes)).astype(
        np.float64
    )
    if objects:
        weight = np.bincount(found.labeler, weights=share * taken, minlength=len(votes)) / objects
    else:  # that there is nothing is said by those who would have seen it
        weight = -np.log1p(-crowd.recall)
        weight = weight / weight.sum()
    agreement = soft_f1(likeness, [len(answer) for _, answer in votes], objects)
    parts = [
        Evidence(who, a, float(min(w, 1.0))) for (who, _), a, w in zip(votes, agreement, weight, strict=True)
    ]
    return heaviest_first(parts)


def _position(shape: O, among: Sequence[O]) -> int:
    return next(k for k, one in enumerate(among) if one is shape)


def _with(shape: O, **fields: object) -> O:
    """Return the shape with other fields; all shapes are frozen dataclasses, which a protocol cannot say."""
    return cast(O, replace(cast(Any, shape), **fields))
