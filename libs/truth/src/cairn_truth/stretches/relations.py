"""Relations: links between the spans of an annotation.

Labelers' spans have names of their own and differ at their boundaries, so a relation is told by the spans it joins, not
by their names: it is the links of different labelers whose ends lie on the same text. Links are matched one to one
between labelers, the most alike first. Each group of matched links is a place that labelers mark, as this class, as
another, or not at all, and `marking` says which are true: links nobody else drew need a labeler who invents little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..columns import Floats
from ..live_answers import Answered, Evidence, heaviest_first
from .joining import Chosen, chosen, most_named
from .live_marks import LiveMarks
from .marks import NONE, OTHER, OWN, Marks, Voters
from .spans import Span

ALGORITHM = "LiveRelations"
VERSION = "1"
"""Changes whenever the same answers may give another value; it is written into every label's provenance."""

_TRUTH = -1
"""The truth's number among labelers."""

_FURTHEST = 2**53
"""Further on, a double cannot tell neighbours apart."""

_SAME = 0.5
"""Two spans may be the same thing when they share at least half of the shorter one."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A link of a class from one span to another; the spans' attributes are not read."""

    source: Span
    target: Span
    class_id: int = 0


@dataclass(frozen=True, slots=True)
class JoinedRelations:
    """The ``value`` in order of its ends; ``chances``: of each relation, to be true.

    ``confidence`` is the expected F of the value: twice the relations it shares with the truth over those of both.
    """

    value: tuple[Relation, ...]
    chances: tuple[float, ...]
    confidence: float
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class _Link:
    """A labeler's relations between the same two spans; the truth is one, too."""

    labeler: int
    source: Span
    target: Span
    classes: tuple[int, ...]


class LiveRelations(LiveMarks[tuple[Relation, ...], JoinedRelations]):
    """Live state of a question answered with relations of ``classes`` classes. An answer is a tuple of `Relation`.

    ``several``: may two spans be linked in several ways at once?
    """

    def __init__(self, classes: int, *, several: bool = False) -> None:
        super().__init__(classes, overlap=several)

    def _checked(self, answer: tuple[Relation, ...]) -> tuple[Relation, ...]:
        for i, relation in enumerate(answer):
            if relation.class_id % 1 or not 0 <= relation.class_id < self.classes:
                raise ValueError(
                    f"relation {i} is of class {relation.class_id}; expected one in 0..{self.classes - 1}"
                )
            for name, span in (("source", relation.source), ("target", relation.target)):
                whole = not (span.start % 1 or span.end % 1 or span.class_id % 1)
                if not whole or not 0 <= span.start < span.end <= _FURTHEST or span.class_id < 0:
                    raise ValueError(
                        f"relation {i}, {name} is [{span.start}, {span.end}) of class {span.class_id}; "
                        "expected whole 0 <= start < end <= 2^53 and a class of at least 0"
                    )
        bare = {Relation(_bare(r.source), _bare(r.target), r.class_id) for r in answer}
        return tuple(sorted(bare, key=_in_order))

    def _known(
        self, truth: tuple[Relation, ...], votes: Sequence[tuple[str, tuple[Relation, ...]]]
    ) -> JoinedRelations:
        evidence = heaviest_first([Evidence(who, relation_f(answer, truth), 0.0) for who, answer in votes])
        return JoinedRelations(truth, (1.0,) * len(truth), 1.0, evidence)

    def _join(self, votes: Sequence[tuple[str, tuple[Relation, ...]]]) -> JoinedRelations:
        if not votes:
            return JoinedRelations((), (), 0.0, ())
        weighed = self._weighed(votes)
        marks, posterior = weighed.marks, weighed.posterior
        inside = chosen(marks, posterior, self._marking.threshold, overlap=self.overlap)
        groups = _groups(_links(votes))
        found = [
            (
                _joined(groups[marks.cell[slot] // 2], int(marks.class_id[slot]), weighed.weights),
                float(posterior[slot]),
            )
            for slot in np.flatnonzero(inside)
        ]
        found.sort(key=lambda one: _in_order(one[0]))
        value = tuple(relation for relation, _ in found)
        parts = [
            Evidence(who, relation_f(answer, value), float(weight))
            for (who, answer), weight in zip(votes, weighed.weights, strict=True)
        ]
        confidence = _expected_f(posterior, inside, weighed.overlooked)
        return JoinedRelations(value, tuple(chance for _, chance in found), confidence, heaviest_first(parts))

    def _marks(
        self, answered: Sequence[Answered[tuple[Relation, ...]]], voters: Voters, rows: Mapping[str, int]
    ) -> Marks:
        slots: list[tuple[int, int, int, float]] = []
        entries: list[tuple[int, int, int]] = []
        item: list[int] = []
        for number, one in enumerate(answered):
            for group in _groups(_links(one.votes, one.truth or ())):
                drawn = {link.labeler: link.classes for link in group}
                for class_id in sorted({class_id for link in group for class_id in link.classes}):
                    known = float("nan") if one.truth is None else float(class_id in drawn.get(_TRUTH, ()))
                    for row, (who, _) in enumerate(one.votes):
                        mark = _mark(drawn.get(row, ()), class_id, self.overlap)
                        entries.append((len(slots), rows[who], mark))
                    slots.append((len(item), class_id, len(one.votes), known))
                # The way back is a place, too, that nobody marks: what is not linked has to be met somewhere.
                item += [number, number]
        slot, labeler, mark_ = np.array(entries, dtype=np.int64).reshape(-1, 3).T
        columns = np.array(slots, dtype=np.float64).reshape(-1, 4).T
        cell, class_id_, asked = columns[:3].astype(np.int64)
        place = np.arange(len(item), dtype=np.float64)
        known_ = np.array([one.truth is not None for one in answered], dtype=bool)
        return Marks(
            slot=slot,
            labeler=labeler,
            mark=mark_,
            cell=cell,
            class_id=class_id_,
            voters=asked,
            known=columns[3],
            item=np.array(item, dtype=np.int64),
            start=place,
            end=place + 1.0,
            weight=np.ones(len(item)),
            voter_item=voters.item,
            voter=voters.labeler,
            teaches=(np.bincount(voters.item, minlength=voters.items) > 1) | known_,
        )


def relation_f(answer: Sequence[Relation], value: Sequence[Relation]) -> float:
    """Return the F of two sets of relations: those of one class matched one to one by their ends; 1 if both are empty."""
    if not answer and not value:
        return 1.0
    groups = _groups([*_linked(answer, 0), *_linked(value, 1)])
    shared = sum(len(set(group[0].classes) & set(group[1].classes)) for group in groups if len(group) == 2)
    return 2.0 * shared / (len(answer) + len(value))


def _links(votes: Sequence[tuple[str, tuple[Relation, ...]]], truth: Sequence[Relation] = ()) -> list[_Link]:
    """Return everybody's links; labelers are counted within the item."""
    links = [link for row, (_, answer) in enumerate(votes) for link in _linked(answer, row)]
    return links + _linked(truth, _TRUTH)


def _linked(answer: Sequence[Relation], labeler: int) -> list[_Link]:
    classes: dict[tuple[Span, Span], list[int]] = {}
    for relation in answer:
        classes.setdefault((relation.source, relation.target), []).append(relation.class_id)
    return [_Link(labeler, *ends, tuple(sorted(of_ends))) for ends, of_ends in classes.items()]


def _groups(links: Sequence[_Link]) -> list[list[_Link]]:
    """Match links of different labelers: the most alike first, each with every other of its group alike."""
    alike = _alike(links)
    group = {i: [i] for i in range(len(links))}
    of = list(range(len(links)))
    first, second = np.nonzero(np.triu(alike, 1))
    for at in np.lexsort((second, first, -alike[first, second])):
        a, b = sorted((of[first[at]], of[second[at]]))
        if a == b or not alike[np.ix_(group[a], group[b])].all():
            continue
        for i in group[b]:
            of[i] = a
        group[a] += group.pop(b)
    return [[links[i] for i in sorted(members)] for _, members in sorted(group.items())]


def _alike(links: Sequence[_Link]) -> Floats:
    """Return how alike each two links are, the worse of their ends; 0 for those of one labeler, or of other spans."""
    labeler = np.array([link.labeler for link in links], dtype=np.int64)
    sources = _overlaps([link.source for link in links])
    alike = np.minimum(sources, _overlaps([link.target for link in links]))
    return np.where(labeler[:, None] == labeler, 0.0, alike)


def _overlaps(spans: Sequence[Span]) -> Floats:
    """Return the intersection over union of each two spans; 0 where they are not the same thing."""
    start = np.array([span.start for span in spans], dtype=np.float64)
    end = np.array([span.end for span in spans], dtype=np.float64)
    shared = np.minimum(end[:, None], end) - np.maximum(start[:, None], start)
    length = end - start
    same = shared >= _SAME * np.minimum(length[:, None], length)
    return np.where(same, shared / (length[:, None] + length - shared), 0.0)


def _mark(drawn: Sequence[int], class_id: int, several: bool) -> int:
    if class_id in drawn:
        return OWN
    return OTHER if drawn and not several else NONE


def _joined(group: Sequence[_Link], class_id: int, weights: Floats) -> Relation:
    said = [(link, float(weights[link.labeler])) for link in group if class_id in link.classes]
    source = _span([(link.source, weight) for link, weight in said])
    return Relation(source, _span([(link.target, weight) for link, weight in said]), class_id)


def _span(votes: Sequence[tuple[Span, float]]) -> Span:
    """Return the span that the votes on start, on end and on class make; all of its votes share text."""
    weights = [weight for _, weight in votes]
    start = most_named([span.start for span, _ in votes], weights)
    end = most_named([span.end for span, _ in votes], weights)
    class_id = most_named([span.class_id for span, _ in votes], weights)
    if start >= end:  # Each won without the other.
        return max(votes, key=lambda vote: vote[1])[0]
    return Span(int(start), int(end), int(class_id))


def _expected_f(posterior: Floats, inside: Chosen, overlooked: float) -> float:
    """Return the expected F of the relations chosen; of none, the chance that there is none."""
    if inside.any():
        return float(2.0 * posterior[inside].sum() / (inside.sum() + posterior.sum()))
    return float(np.exp(-overlooked) * np.prod(1.0 - posterior))


def _bare(span: Span) -> Span:
    return Span(int(span.start), int(span.end), int(span.class_id))


def _in_order(relation: Relation) -> tuple[int, ...]:
    source, target = relation.source, relation.target
    ends = (source.start, source.end, source.class_id, target.start, target.end, target.class_id)
    return (*ends, relation.class_id)
