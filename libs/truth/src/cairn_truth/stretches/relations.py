"""Relations: links between the spans of an annotation.

Labelers' spans have names of their own and differ at their boundaries, so a relation is told by the spans it joins, not
by their names: it is the links of different labelers whose ends lie on the same text. Links are matched one to one
between labelers, the most alike first. Each group of matched links is a place that labelers mark, as this class, as
another, or not at all, and `marking` says which are true: links nobody else drew need a labeler who invents little.

What is not linked has to be met somewhere, and may be a link that everybody overlooked: the other ordered pairs of the
spans that anybody linked are one place as wide as they are many, which nobody marks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..columns import Floats
from ..live_answers import Answered, Evidence, heaviest_first
from .checks import bounds, class_number, elements, shown
from .joining import best_expected, chosen, most_named
from .live_marks import LiveMarks, voters_of
from .marks import NONE, OTHER, OWN, Ints, Marks, Voters
from .spans import Span

ALGORITHM = "LiveRelations"
VERSION = "2"
"""Changes whenever the same answers may give another value; it is written into every label's provenance."""

_TRUTH = -1
"""The truth's number among labelers."""

SAME = 0.5
"""Two spans may be the same thing when they share at least half of the shorter one."""

_MOST_PAIRS = 10
"""Pairs met for each link drawn, at most: a long text has very many that nobody thinks of linking."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A link of a class from one span to another; the spans' attributes are not read."""

    source: Span
    target: Span
    class_id: int = 0


@dataclass(frozen=True, slots=True)
class JoinedRelations:
    """The ``value`` in order of its ends; ``chances``: of each relation, to be true.

    ``confidence`` is the expected F of the value: twice the relations it shares with the truth over those of both; of an
    empty one the chance that there is none.
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

    ``several``: may two spans be linked in several ways at once? Where not, an answer that does so all the same counts
    for each of its classes, and the value has one.
    """

    def __init__(self, classes: int, *, several: bool = False) -> None:
        super().__init__(classes, overlap=several)

    def _checked(self, answer: tuple[Relation, ...]) -> tuple[Relation, ...]:
        found = set()
        for what, relation in elements(answer, Relation):
            class_id = class_number(what, relation.class_id, self.classes)
            source = _checked_span(f"{what}, source", relation.source)
            target = _checked_span(f"{what}, target", relation.target)
            found.add(Relation(source, target, class_id))
        return tuple(sorted(found, key=_in_order))

    def _known(
        self, truth: tuple[Relation, ...], votes: Sequence[tuple[str, tuple[Relation, ...]]]
    ) -> JoinedRelations:
        evidence = heaviest_first([Evidence(who, relation_f(answer, truth), 0.0) for who, answer in votes])
        return JoinedRelations(truth, (1.0,) * len(truth), 1.0, evidence)

    def _join(self, votes: Sequence[tuple[str, tuple[Relation, ...]]]) -> JoinedRelations:
        if not votes:
            return JoinedRelations((), (), 0.0, ())
        groups = _groups(_links(votes))
        rows = {who: row for row, (who, _) in enumerate(votes)}
        alone = [Answered("", votes, None)]
        weighed = self._weighed(votes, self._marks_in(alone, [groups], voters_of(alone, rows), rows))
        marks, posterior = weighed.marks, weighed.posterior
        inside = chosen(marks, posterior, self._marking.threshold, overlap=self.overlap)
        inside, confidence = best_expected(marks, posterior, inside, weighed.overlooked)
        found = [
            (
                _joined(groups[marks.cell[slot]], int(marks.class_id[slot]), weighed.weights),
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
        return JoinedRelations(value, tuple(chance for _, chance in found), confidence, heaviest_first(parts))

    def _marks(
        self, answered: Sequence[Answered[tuple[Relation, ...]]], voters: Voters, rows: Mapping[str, int]
    ) -> Marks:
        groups = [_groups(_links(one.votes, one.truth or ())) for one in answered]
        return self._marks_in(answered, groups, voters, rows)

    def _marks_in(
        self,
        answered: Sequence[Answered[tuple[Relation, ...]]],
        matched: Sequence[Sequence[Sequence[_Link]]],
        voters: Voters,
        rows: Mapping[str, int],
    ) -> Marks:
        """Return who marked what in the ``matched`` links of each item."""
        slots: list[tuple[int, int, int, float]] = []
        entries: list[tuple[int, int, int]] = []
        cells: list[tuple[int, float]] = []
        for number, (one, groups) in enumerate(zip(answered, matched, strict=True)):
            for group, width in _places(groups):
                drawn = {link.labeler: link.classes for link in group}
                # What nobody marked may be of any class that is in use here.
                about = group or [link for links in groups for link in links]
                for class_id in sorted({class_id for link in about for class_id in link.classes}):
                    known = float("nan") if one.truth is None else float(class_id in drawn.get(_TRUTH, ()))
                    for row, (who, _) in enumerate(one.votes):
                        mark = _mark(drawn.get(row, ()), class_id, self.overlap)
                        entries.append((len(slots), rows[who], mark))
                    slots.append((len(cells), class_id, len(one.votes), known))
                cells.append((number, width))
        slot, labeler, mark_ = np.array(entries, dtype=np.int64).reshape(-1, 3).T
        columns = np.array(slots, dtype=np.float64).reshape(-1, 4).T
        cell, class_id_, asked = columns[:3].astype(np.int64)
        item, width_ = np.array(cells, dtype=np.float64).reshape(-1, 2).T
        start = np.cumsum(width_ + 1.0) - width_  # no two places touch
        known_ = np.array([one.truth is not None for one in answered], dtype=bool)
        return Marks(
            slot=slot,
            labeler=labeler,
            mark=mark_,
            cell=cell,
            class_id=class_id_,
            voters=asked,
            known=columns[3],
            item=item.astype(np.int64),
            start=start,
            end=start + width_,
            weight=width_,
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


def _places(groups: Sequence[Sequence[_Link]]) -> Iterator[tuple[Sequence[_Link], float]]:
    """Yield each group of links as a place of width 1, and the pairs of spans that nobody linked as one wide place."""
    if not groups:
        return
    for group in groups:
        yield group, 1.0
    spans = _distinct(span for group in groups for link in group for span in (link.source, link.target))
    pairs = min(spans * (spans - 1), _MOST_PAIRS * len(groups)) - len(groups)
    # At the least, each link has a way back.
    yield (), float(max(pairs, len(groups)))


def _distinct(spans: Iterable[Span]) -> int:
    """Return how many things these are, those that are the same counted once."""
    count, start, end = 0, 0, 0
    for a, b in sorted({(span.start, span.end) for span in spans}):
        if count == 0 or min(b, end) - a < SAME * min(b - a, end - start):
            count, start, end = count + 1, a, b
    return count


def _groups(links: Sequence[_Link]) -> list[list[_Link]]:
    """Match links of different labelers: the most alike first, each with every other of its group alike."""
    first, second, alike = _alike(links)
    paired = set(zip(first.tolist(), second.tolist(), strict=True))
    group = {i: [i] for i in range(len(links))}
    of = list(range(len(links)))
    for at in np.lexsort((second, first, -alike)).tolist():
        a, b = sorted((of[first[at]], of[second[at]]))
        if a == b or any((min(i, j), max(i, j)) not in paired for i in group[a] for j in group[b]):
            continue
        for i in group[b]:
            of[i] = a
        group[a] += group.pop(b)
    return [[links[i] for i in sorted(members)] for _, members in sorted(group.items())]


def _alike(links: Sequence[_Link]) -> tuple[Ints, Ints, Floats]:
    """Return the pairs of links, the lower number first, of different labelers between the same spans, and how alike
    they are: the worse of their ends.

    Links whose sources share no text are never looked at together.
    """
    labeler = np.array([link.labeler for link in links], dtype=np.int64)
    sources, targets = (
        np.array([(end.start, end.end) for end in ends], dtype=np.float64).reshape(-1, 2)
        for ends in ([link.source for link in links], [link.target for link in links])
    )
    order = np.argsort(sources[:, 0], kind="stable")
    begins = sources[order, 0]
    upto = np.searchsorted(begins, sources[order, 1], side="left")  # those that begin within this one
    place = np.arange(order.size)
    met = upto - place - 1
    one = np.repeat(place, met)
    other = one + 1 + np.arange(one.size) - np.repeat(np.cumsum(met) - met, met)
    a, b = order[one], order[other]
    first, second = np.minimum(a, b), np.maximum(a, b)
    alike = np.minimum(_overlap(sources[first], sources[second]), _overlap(targets[first], targets[second]))
    kept = (alike > 0.0) & (labeler[first] != labeler[second])
    return first[kept], second[kept], alike[kept]


def _overlap(one: Floats, other: Floats) -> Floats:
    """Return the intersection over union of spans ``(n, 2)``, row by row; 0 where they are not the same thing."""
    shared = np.minimum(one[:, 1], other[:, 1]) - np.maximum(one[:, 0], other[:, 0])
    length, of_other = one[:, 1] - one[:, 0], other[:, 1] - other[:, 0]
    same = shared >= SAME * np.minimum(length, of_other)
    return np.where(same, shared / (length + of_other - shared), 0.0)


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


def _checked_span(what: str, span: object) -> Span:
    if not isinstance(span, Span):
        raise ValueError(f"{what} is {shown(span)}; expected a Span")
    start, end = bounds(what, span.start, span.end, whole=True)
    return Span(int(start), int(end), class_number(what, span.class_id))


def _in_order(relation: Relation) -> tuple[int, ...]:
    source, target = relation.source, relation.target
    ends = (source.start, source.end, source.class_id, target.start, target.end, target.class_id)
    return (*ends, relation.class_id)
