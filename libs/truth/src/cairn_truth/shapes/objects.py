"""Answers that are lists of objects: which objects there are, of which class, and where, from everybody's lists.

A kind of shape says how alike two of its objects are and how objects that are one are joined; the rest is here, once:
objects of all labelers are matched at once (`matching`), each candidate exists or not (`detection`), has a class and
attributes by vote of those who marked it, and a place that its labelers' own spreads make more or less sure.
After Branson, Van Horn & Perona, "Lean Crowdsourcing" (CVPR 2017), with recall, false alarms, class accuracy and
spread learnt for everybody at once from the answers alone, and from known truths where there are any.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast

import numpy as np
from scipy import special

from ..classes.votes import Floats
from ..live_answers import Answered, Evidence, LiveAnswers
from . import detection
from .attributes import Attributes, checked_attributes, joined_attributes
from .matching import Ints, matched, overlapping


class AnObject(Protocol):
    """What all shapes have (frozen dataclasses all): a class, empty where there are none, and attributes."""

    @property
    def class_id(self) -> str:
        """The id of the class."""

    @property
    def attributes(self) -> Attributes:
        """Further facts."""


O = TypeVar("O", bound=AnObject)  # noqa: E741 - an object
"""A shape."""


@dataclass(frozen=True, slots=True)
class JoinedObject(Generic[O]):
    """One object as joined, and the chances that make up its confidence.

    ``exists``: that there is such an object; ``class_right``: that it has this class, if it exists; ``place_right``:
    that it is as alike to the true one as the question's tolerance asks, if it exists. ``labelers``: who marked it.
    """

    object: O
    exists: float
    class_right: float
    place_right: float
    labelers: tuple[str, ...]

    @property
    def confidence(self) -> float:
        """The chance that all is right: there is such an object, of this class, here."""
        return self.exists * self.class_right * self.place_right


@dataclass(frozen=True, slots=True)
class JoinedObjects(Generic[O]):
    """One item's objects joined.

    ``value``: the objects more likely there than not, from the top to the bottom. ``confidence``: their expected F1
    (an object counts if it exists, has this class, and lies within the tolerance); where there are none, the chance
    that there is nothing. ``objects`` has the chances of each of ``value``; ``doubtful`` the candidates left out.
    """

    value: tuple[O, ...]
    confidence: float
    evidence: tuple[Evidence, ...]
    objects: tuple[JoinedObject[O], ...]
    doubtful: tuple[JoinedObject[O], ...]


@dataclass(frozen=True, slots=True)
class LabelerDetection:
    """A labeler of objects, over ``votes`` answers.

    ``recall``: chance to mark an object that is there; ``false_alarms``: objects an item marked that are not;
    ``class_accuracy``: chance of the right class; ``spread``: usual distance from the true shape (root mean square),
    in the kind's unit (for most kinds one less the likeness, such as 1 - IoU).
    """

    labeler: str
    votes: int
    recall: float
    false_alarms: float
    class_accuracy: float
    spread: float


_OTHER_CLASS = 0.8
"""Two objects of different classes are so much less alike: neighbours sort by class, a slip of class still matches."""

_SPREAD_STRENGTH = 10.0
"""Objects of the crowd's spread that a labeler's own spread starts from."""

_CLUSTER_FREEDOM = 4.0
"""Degrees of freedom of an object's own difficulty: a spread twice the crowd's is nothing unusual."""

_LEAST_SPREAD = 0.01
_ROUNDS = 3
"""Rounds of places and spreads; the third moves spreads by a few per cent."""


class LiveObjects(LiveAnswers[tuple[O, ...], JoinedObjects[O], LabelerDetection], Generic[O]):
    """Live state of a question answered with lists of objects.

    ``tolerance``: likeness to the truth from which on a place is right (such as .5 IoU). ``classes``: how many the
    question has; at least as many as were ever named count. A kind fills `_checked_object`, `_bounds`, `_similarity`
    and `_place`, and may fill `_deviation` and `_learn_places`.
    """

    dimensions: ClassVar[float] = 4.0
    """Numbers that make up a place: so many independent deviations add up to one likeness."""

    first_spread: ClassVar[float] = 0.2
    """Spread of a crowd nobody knows yet."""

    def __init__(self, tolerance: float = 0.5, classes: int = 0) -> None:
        if not 0.0 < tolerance < 1.0:
            raise ValueError(f"tolerance is {tolerance}; expected a likeness between 0 and 1")
        if classes < 0:
            raise ValueError(
                f"classes is {classes}; expected a number of classes, or 0 where it is not known"
            )
        super().__init__()
        self.tolerance = tolerance
        self._classes = classes

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

    @abstractmethod
    def _place(
        self, objects: Sequence[O], precision: Floats, corpus: Mapping[str, Floats]
    ) -> tuple[O, Floats]:
        """Return one shape for objects that are one, and each one's share of it ``(n,)``, summing to at most one.

        ``precision (n,)`` is each labeler's own, one over the squared spread; ``corpus`` what `_learn_places` learnt,
        and more. Class and attributes of the result are seen to elsewhere.
        """

    def _deviation(self, objects: Sequence[O], joined: Sequence[O]) -> Floats:
        """Return each object's squared distance ``(n,)`` from the one beside it, in squared units of spread."""
        return np.square(1.0 - self._similarity(objects, joined))

    def _learn_places(self, clusters: Sequence[Sequence[O]]) -> Mapping[str, Floats]:
        """Return what all matched objects teach of places as such; each cluster has two objects or more."""
        return {}

    # --- answers

    def _checked(self, answer: Sequence[O]) -> tuple[O, ...]:
        kept = []
        for number, given in enumerate(answer):
            try:
                kept.append(
                    _with(self._checked_object(given), attributes=checked_attributes(given.attributes))
                )
            except ValueError as wrong:
                raise ValueError(f"object {number}: {wrong}") from None
        return tuple(kept)

    def _join(self, votes: Sequence[tuple[str, tuple[O, ...]]]) -> JoinedObjects[O]:
        if not votes:
            return JoinedObjects((), 0.0, (), (), ())
        found = self._matched(votes)
        crowd = self._detectors([who for who, _ in votes])
        seen = self._sightings([found], [np.arange(len(votes))], len(votes))
        exists = detection.existence(seen, crowd)
        class_chance = detection.class_chance(seen, crowd.accuracy)
        candidates = [
            self._candidate(votes, found, cluster, float(exists[cluster]), class_chance, crowd.accuracy)
            for cluster in range(found.clusters)
        ]
        order = self._reading_order([c.joined.object for c in candidates])
        taken = [candidates[k] for k in order if candidates[k].joined.exists >= 0.5]
        hidden = float(detection.unseen(seen, crowd.real_rate, crowd.recall)[0])
        return JoinedObjects(
            value=tuple(c.joined.object for c in taken),
            confidence=_expected_f1([c.joined for c in taken], exists, hidden),
            evidence=self._evidence(votes, taken, crowd),
            objects=tuple(c.joined for c in taken),
            doubtful=tuple(candidates[k].joined for k in order if candidates[k].joined.exists < 0.5),
        )

    def _known(self, truth: tuple[O, ...], votes: Sequence[tuple[str, tuple[O, ...]]]) -> JoinedObjects[O]:
        found = self._matched([*votes, ("", truth)])
        marked = defaultdict(list)
        for which, cluster in enumerate(found.cluster):
            marked[int(cluster)].append(which)
        objects, agreement = [], np.zeros(len(votes))
        for place, true in zip(np.flatnonzero(found.owner == len(votes)), truth, strict=True):
            others = [k for k in marked[int(found.cluster[place])] if k != place]
            who = tuple(votes[int(found.owner[k])][0] for k in others)
            objects.append(JoinedObject(true, 1.0, 1.0, 1.0, who))
            if others:
                alike = self._similarity([found.objects[int(k)] for k in others], [true] * len(others))
                same = np.array([found.objects[k].class_id == true.class_id for k in others])
                agreement[found.owner[others]] += alike * same
        shares = _soft_f1(agreement, [len(answer) for _, answer in votes], len(truth))
        evidence = tuple(Evidence(who, a, 0.0) for (who, _), a in zip(votes, shares, strict=True))
        return JoinedObjects(truth, 1.0, evidence, tuple(objects), ())

    def reliability(self, labeler: str) -> LabelerDetection:
        """Return what is known of a labeler; the crowd's average for one never fitted."""
        crowd = self._detectors([labeler])
        return LabelerDetection(
            labeler=labeler,
            votes=self._counts.get(labeler, 0),
            recall=float(crowd.recall[0]),
            false_alarms=crowd.distractor_rate * float(crowd.alarm[0]),
            class_accuracy=float(crowd.accuracy[0]),
            spread=float(self._spread([labeler])[0]),
        )

    # --- matching

    def _matched(self, votes: Sequence[tuple[str, Sequence[O]]], *, clamped: bool = False) -> _Found[O]:
        objects = [one for _, answer in votes for one in answer]
        owner = np.repeat(np.arange(len(votes)), [len(answer) for _, answer in votes])
        if not objects:
            return _Found(objects, owner, np.zeros(0, dtype=np.int64), 0, clamped)
        left, right = overlapping(self._bounds(objects), owner)
        one, other = [objects[i] for i in left], [objects[i] for i in right]
        alike = self._similarity(one, other) if one else np.zeros(0)
        same = np.array([a.class_id == b.class_id for a, b in zip(one, other, strict=True)], dtype=bool)
        cluster = matched(
            owner, left, right, np.where(same, alike, alike * _OTHER_CLASS), self._least_alike()
        )
        return _Found(objects, owner, cluster, int(cluster.max()) + 1, clamped)

    def _least_alike(self) -> float:
        """Likeness from which on two objects are rather one: less than the tolerance, as both of them miss the truth."""
        return 0.7 * self.tolerance

    def _reading_order(self, objects: Sequence[O]) -> list[int]:
        if not objects:
            return []
        bounds = self._bounds(objects)
        key = [(bounds[k, 1], bounds[k, 0], objects[k].class_id, k) for k in range(len(objects))]
        return [k for *_, k in sorted(key)]

    # --- one candidate

    def _candidate(
        self,
        votes: Sequence[tuple[str, Sequence[O]]],
        found: _Found[O],
        cluster: int,
        exists: float,
        class_chance: Floats,
        accuracy: Floats,
    ) -> _Candidate[O]:
        marks = np.flatnonzero(found.cluster == cluster)
        objects, owners = [found.objects[int(k)] for k in marks], found.owner[marks]
        spread = self._spread([votes[int(k)][0] for k in owners])
        shape, share = self._place(objects, 1.0 / spread**2, self._fitted)
        chance = class_chance[marks]
        class_id = min((-c, o.class_id) for c, o in zip(chance, objects, strict=True))[1]
        weight = np.log(accuracy[owners] / (1.0 - accuracy[owners]))
        attributes = joined_attributes([o.attributes for o in objects], weight)
        joined = _with(shape, class_id=class_id, attributes=attributes)
        place = self._place_right(self._deviation(objects, [joined] * len(objects)), spread)
        who = tuple(votes[int(k)][0] for k in owners)
        told = JoinedObject(joined, exists, float(chance.max()), place, who)
        alike = self._similarity(objects, [joined] * len(objects))
        right = np.array([o.class_id == class_id for o in objects])
        return _Candidate(told, owners, share, alike * right)

    def _place_right(self, deviation: Floats, spread: Floats) -> float:
        """Return the chance that the joined place is within the tolerance.

        The squared distance of the joined place from the truth is chi-squared with `dimensions` degrees of freedom,
        its size one over the sum of precisions, times how hard this object has proved to be: an F distribution.
        """
        freedom = _CLUSTER_FREEDOM + deviation.size - 1.0
        hardness = (_CLUSTER_FREEDOM + float((deviation / spread**2).sum())) / freedom
        square = hardness / float((1.0 / spread**2).sum())
        return float(special.fdtr(self.dimensions, freedom, (1.0 - self.tolerance) ** 2 / square))

    def _evidence(
        self,
        votes: Sequence[tuple[str, Sequence[O]]],
        taken: Sequence[_Candidate[O]],
        crowd: detection.Detectors,
    ) -> tuple[Evidence, ...]:
        alike, weight = np.zeros(len(votes)), np.zeros(len(votes))
        for candidate in taken:
            alike[candidate.owners] += candidate.alike
            weight[candidate.owners] += candidate.share / len(taken)
        if not taken:  # that there is nothing is said by those who would have seen it
            weight = -np.log1p(-crowd.recall)
            weight = weight / weight.sum()
        agreement = _soft_f1(alike, [len(answer) for _, answer in votes], len(taken))
        parts = [
            Evidence(who, a, float(min(w, 1.0)))
            for (who, _), a, w in zip(votes, agreement, weight, strict=True)
        ]
        return tuple(sorted(parts, key=lambda part: (-part.weight, part.labeler)))

    # --- labelers

    def _detectors(self, labelers: Sequence[str]) -> detection.Detectors:
        rates = self._fitted.get("rates")
        if rates is None:
            real, distractor = (1.0 - detection.ALARM) / detection.RECALL, 1.0
            recall, alarm, accuracy = detection.RECALL, detection.ALARM, detection.ACCURACY
        else:
            real, distractor, recall, alarm, accuracy = (float(r) for r in rates[:5])
        return detection.Detectors(
            real,
            distractor,
            np.array([self._of(who, "recall", recall) for who in labelers]),
            np.array([self._of(who, "alarm", alarm) for who in labelers]),
            np.array([self._of(who, "accuracy", accuracy) for who in labelers]),
        )

    def _spread(self, labelers: Sequence[str]) -> Floats:
        rates = self._fitted.get("rates")
        crowd = self.first_spread if rates is None else float(rates[5])
        return np.array([self._of(who, "spread", crowd) for who in labelers])

    def _sightings(
        self, found: Sequence[_Found[O]], who: Sequence[Ints], labelers: int
    ) -> detection.Sightings:
        """Return the items' marks as columns; an owner after the last of an item's labelers ``who`` is its truth."""
        named = sorted({one.class_id for each in found for one in each.objects})
        number = {name: k for k, name in enumerate(named)}
        first = np.cumsum([0, *(each.clusters for each in found)])
        candidate = _joined_columns([each.cluster + f for each, f in zip(found, first[:-1], strict=True)])
        kind = np.array([number[one.class_id] for each in found for one in each.objects], dtype=np.int64)
        labeler = _joined_columns(
            [np.append(rows, -1)[each.owner] for each, rows in zip(found, who, strict=True)]
        )
        marks = labeler >= 0
        clamped = np.repeat([each.clamped for each in found], np.diff(first))
        known = np.where(clamped, 0.0, np.nan)
        known_kind = np.full(known.size, -1, dtype=np.int64)
        known[candidate[~marks]] = 1.0
        known_kind[candidate[~marks]] = kind[~marks]
        kinds = 0.0 if "rates" not in self._fitted else self._fitted["rates"][6]
        return detection.Sightings(
            items=len(found),
            labelers=labelers,
            kinds=max(self._classes, len(named), int(kinds), 1),
            answer_item=np.repeat(np.arange(len(found)), [rows.size for rows in who]),
            answer_labeler=_joined_columns(who),
            item=np.repeat(np.arange(len(found)), np.diff(first)),
            candidate=candidate[marks],
            labeler=labeler[marks],
            kind=kind[marks],
            known=known,
            known_kind=known_kind,
        )

    # --- learning

    def _learn(
        self, answered: Sequence[Answered[tuple[O, ...]]], labelers: tuple[str, ...]
    ) -> Mapping[str, Floats]:
        rows = {who: row for row, who in enumerate(labelers)}
        found, who = [], []
        self._fitted = {}  # what is learnt depends on the answers alone
        for item in answered:
            truth = [] if item.truth is None else [("", item.truth)]
            found.append(self._matched([*item.votes, *truth], clamped=item.truth is not None))
            who.append(np.array([rows[name] for name, _ in item.votes], dtype=np.int64))
        seen = self._sightings(found, who, len(labelers))
        crowd, average = detection.fit(seen)
        exists = detection.existence(seen, crowd)
        places = _matched_places(found, who, exists)
        corpus = dict(self._learn_places([place.objects for place in places if len(place.objects) > 1]))
        spread, usual = self._learn_spread(places, len(labelers), corpus)
        rates = [crowd.real_rate, crowd.distractor_rate]
        rates += [average["recall"], average["alarm"], average["accuracy"], usual, float(seen.kinds)]
        return {
            **corpus,
            "rates": np.array(rates),
            "recall": crowd.recall,
            "alarm": crowd.alarm,
            "accuracy": crowd.accuracy,
            "spread": spread,
        }

    def _learn_spread(
        self, places: Sequence[_Matched[O]], labelers: int, corpus: Mapping[str, Floats]
    ) -> tuple[Floats, float]:
        """Return each labeler's spread and the crowd's.

        An object's distance from a joined shape that it has a share in falls short of its distance from the truth:
        its expected square is the labeler's spread squared times one less the share.
        """
        spread, usual = np.full(labelers, self.first_spread), self.first_spread
        if not places:
            return spread, usual
        row = np.concatenate([place.rows for place in places])
        exists = np.repeat([place.exists for place in places], [place.rows.size for place in places])
        objects = [one for place in places for one, _ in zip(place.objects, place.rows, strict=False)]
        for _ in range(_ROUNDS):
            joined, shares = [], []
            for place in places:
                shape, share = place.truth, np.zeros(place.rows.size)
                if shape is None:
                    shape, share = self._place(place.objects, 1.0 / spread[place.rows] ** 2, corpus)
                joined += [shape] * place.rows.size
                shares.append(share)
            square = exists * self._deviation(objects, joined)
            free = exists * (1.0 - np.concatenate(shares))
            first = _SPREAD_STRENGTH * self.first_spread**2
            usual = float(np.sqrt((square.sum() + first) / (free.sum() + _SPREAD_STRENGTH)))
            own = np.bincount(row, weights=square, minlength=labelers) + _SPREAD_STRENGTH * usual**2
            seen = np.bincount(row, weights=free, minlength=labelers) + _SPREAD_STRENGTH
            spread = np.maximum(np.sqrt(own / seen), _LEAST_SPREAD)
        return spread, max(usual, _LEAST_SPREAD)


@dataclass(frozen=True)
class _Found(Generic[O]):
    """One item's objects, whose each is (by place in the list of answers), and the cluster of each."""

    objects: Sequence[O]
    owner: Ints
    cluster: Ints
    clusters: int
    clamped: bool


@dataclass(frozen=True)
class _Candidate(Generic[O]):
    """A joined object with whose marks it was made of, their shares, and how like it they are."""

    joined: JoinedObject[O]
    owners: Ints
    share: Floats
    alike: Floats


@dataclass(frozen=True)
class _Matched(Generic[O]):
    """Objects that are one, their labelers' rows, the chance that it exists, and its true shape if that is known."""

    objects: Sequence[O]
    rows: Ints
    exists: float
    truth: O | None


def _matched_places(found: Sequence[_Found[O]], who: Sequence[Ints], exists: Floats) -> Sequence[_Matched[O]]:
    """Return the clusters that teach something of places: two marks or more, or one and the truth."""
    places, first = [], 0
    for each, rows in zip(found, who, strict=True):
        order = np.argsort(each.cluster, kind="stable")
        members = np.split(order, np.cumsum(np.bincount(each.cluster, minlength=each.clusters))[:-1])
        for cluster, marks in enumerate(members[: each.clusters]):
            people = marks[each.owner[marks] < rows.size]
            true = marks[each.owner[marks] == rows.size]
            if people.size and marks.size > 1:
                truth = each.objects[int(true[0])] if true.size else None
                objects = [each.objects[int(k)] for k in people]
                places.append(
                    _Matched(objects, rows[each.owner[people]], float(exists[first + cluster]), truth)
                )
        first += each.clusters
    return places


def _joined_columns(columns: Sequence[Ints]) -> Ints:
    return np.concatenate([np.zeros(0, dtype=np.int64), *columns])


def _with(shape: O, **fields: object) -> O:
    """Return the shape with other fields; all shapes are frozen dataclasses, which a protocol cannot say."""
    return cast(O, replace(cast(Any, shape), **fields))


def _soft_f1(alike: Floats, given: Sequence[int], joined: int) -> list[float]:
    """Return each answer's likeness summed over its objects as an F1 against so many; 1 where both have none."""
    return [
        float(min(2.0 * a / (n + joined), 1.0)) if n + joined else 1.0
        for a, n in zip(alike, given, strict=True)
    ]


def _expected_f1(taken: Sequence[JoinedObject[O]], exists: Floats, hidden: float) -> float:
    """Return the expected F1: twice the expected hits over what is given and what is expected to be there.

    ``exists`` of all candidates, ``hidden`` how many objects nobody marked; where nothing is given, F1 is one if
    nothing is there and zero else.
    """
    if not taken:
        return float(np.prod(1.0 - exists) * np.exp(-hidden))
    hits = sum(one.confidence for one in taken)
    return float(min(2.0 * hits / (len(taken) + float(exists.sum()) + hidden), 1.0))
