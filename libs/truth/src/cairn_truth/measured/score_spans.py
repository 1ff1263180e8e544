"""Every way to join spans on a recorded crowd: characters shared with the truth, and whole spans found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ..classes.dawid_skene import DawidSkene
from ..classes.votes import Votes
from ..columns import Floats
from ..stretches.joining import shared_f
from ..stretches.marks import FURTHEST, OWN, Ints, Marks, Stretches, Voters, mark_lines
from ..stretches.spans import LiveSpans, Span
from .tables import from_json

Value = tuple[tuple[int, int, str], ...]
"""Spans as a cell holds them: ``(start, end, class)`` each; the class is "" where the cell names none."""

Answers = Mapping[str, Mapping[str, Value]]

KIND = "spans"
DEFAULT = LiveSpans.__name__

_ROUNDS = 30
_NESTED = 0.01
"""A crowd of whose marked characters so many bear two classes of one labeler means them to overlap."""


def read(label: str) -> Value:
    """Return the spans of a cell such as ``[[66, 131], [536, 659, "drug"]]``.

    Raises ValueError naming the span that is none.
    """
    try:
        spans = from_json(label or "[]")
    except ValueError as wrong:
        raise ValueError(f"the cell is no list of spans: {wrong}") from None
    if not isinstance(spans, list):
        raise ValueError(f"the cell is {spans!r:.100}; expected a list of spans")
    for i, span in enumerate(spans):
        whole = isinstance(span, list) and len(span) in (2, 3) and all(type(at) is int for at in span[:2])
        if not whole or not 0 <= span[0] < span[1] <= FURTHEST:
            raise ValueError(
                f"span {i} is {span!r:.100}; expected [start, end] or [start, end, class], start < end"
            )
    return tuple(sorted((start, end, str(*named)) for start, end, *named in spans))


def live_spans(answers: Answers) -> Mapping[str, Value]:
    """Return what `LiveSpans` makes of the answers; whether classes overlap is seen from them."""
    names = _class_names(answers)
    live = LiveSpans(len(names), overlap=overlapping(answers))
    rank = {name: i for i, name in enumerate(names)}
    joined = live.fit({
        item: {who: tuple(Span(a, b, rank[name]) for a, b, name in said) for who, said in votes.items()}
        for item, votes in answers.items()
    })  # fmt: skip
    return {
        item: tuple((span.start, span.end, names[span.class_id]) for span in one.value)
        for item, one in joined.items()
    }


def exact_vote(answers: Answers) -> Mapping[str, Value]:
    """Return the spans that at least half of an item's labelers gave to the letter."""
    values = {}
    for item, votes in answers.items():
        tally = Counter(span for said in votes.values() for span in set(said))
        values[item] = tuple(sorted(span for span, count in tally.items() if 2 * count >= len(votes)))
    return values


def share_of_votes(threshold: float) -> Callable[[Answers], Mapping[str, Value]]:
    """Return the method that takes the characters which more than this share of the labelers marked."""
    return lambda answers: _by_slot(answers, lambda marks: marks.own() / marks.voters, threshold)


def dawid_skene(answers: Answers) -> Mapping[str, Value]:
    """Return what Dawid & Skene (1979) make of the cells, each a vote on in or out."""
    return _by_slot(answers, _dawid_skene, 0.5)


def hmm_crowd(answers: Answers) -> Mapping[str, Value]:
    """Return what HMM-crowd (Nguyen et al. 2017) makes of them: Dawid & Skene on cells that are chained."""
    return _by_slot(answers, _hmm_crowd, 0.5)


METHODS: Mapping[str, Callable[[Answers], Mapping[str, Value]]] = {
    DEFAULT: live_spans,
    "MajorityVote": share_of_votes(0.5),
    "TwoInFive": share_of_votes(0.4 - 1e-9),
    "ExactVote": exact_vote,
    "DawidSkene": dawid_skene,
    "HMMCrowd": hmm_crowd,
}
"""Every way by name, ours first."""


def judge(values: Mapping[str, Value], truths: Mapping[str, Value]) -> dict[str, float]:
    """Return how near values are to the truth, over the items that have both.

    ``f1`` of all characters of all items by class, ``f1_mean`` of each item's, and of whole spans ``span_exact`` (same
    bounds and class) and ``span_overlap`` (share a character and the class).
    """
    items = [item for item in truths if item in values]
    each = [shared_f(_lines([(item, values[item])]), _lines([(item, truths[item])])) for item in items]
    exact = [len(set(values[item]) & set(truths[item])) for item in items]
    given, true = (sum(len(side[item]) for item in items) for side in (values, truths))
    found = sum(_met(values[item], truths[item]) for item in items)
    recalled = sum(_met(truths[item], values[item]) for item in items)
    precision, recall = found / given if given else 1.0, recalled / true if true else 1.0
    return {
        "f1": shared_f(*(_lines([(item, side[item]) for item in items]) for side in (values, truths))),
        "f1_mean": float(np.mean(each)) if each else 0.0,
        "span_exact": 2.0 * sum(exact) / (given + true) if given + true else 1.0,
        "span_overlap": 2.0 * precision * recall / (precision + recall) if precision + recall else 0.0,
    }


def _met(spans: Value, others: Value) -> int:
    return sum(any(a < d and c < b and name == of for c, d, of in others) for a, b, name in spans)


def _lines(values: Iterable[tuple[str, Value]]) -> Mapping[tuple[str, str], list[tuple[float, float]]]:
    lines: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for item, value in values:
        for start, end, name in value:
            lines.setdefault((item, name), []).append((float(start), float(end)))
    return lines


def _class_names(answers: Answers) -> Sequence[str]:
    return sorted(
        {name for votes in answers.values() for said in votes.values() for _, _, name in said} or {""}
    )


def overlapping(answers: Answers) -> bool:
    """Return whether labelers themselves give two classes to one place."""
    shared = marked = 0
    for votes in answers.values():
        for said in votes.values():
            marked += sum(end - start for start, end, _ in said)
            for (a, b, name), (c, d, other) in combinations(said, 2):
                shared += max(0, min(b, d) - max(a, c)) if name != other else 0
    return shared > _NESTED * marked


def _by_slot(
    answers: Answers, posterior_of: Callable[[Marks], Floats], threshold: float
) -> Mapping[str, Value]:
    names, items = _class_names(answers), sorted(answers)
    labelers = sorted({who for votes in answers.values() for who in votes})
    place = {name: i for i, name in enumerate(names)}
    row = {who: i for i, who in enumerate(labelers)}
    pairs = [(i, row[who]) for i, item in enumerate(items) for who in sorted(answers[item])]
    columns = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    given = Stretches.of([
        (i, row[who], place[name], start, end)
        for i, item in enumerate(items)
        for who, said in sorted(answers[item].items())
        for start, end, name in said
    ])  # fmt: skip
    nothing = Stretches.of([])
    voters = Voters(columns[:, 0], columns[:, 1], len(items), max(len(labelers), 1))
    marks = mark_lines(given, voters, nothing, np.zeros(len(items), dtype=bool), overlap=True)
    if not marks.slots:
        return dict.fromkeys(items, ())
    values: dict[str, list[tuple[int, int, str]]] = {item: [] for item in items}
    inside = np.flatnonzero((posterior_of(marks) > threshold) & (marks.own() > 0))
    for slot in inside:
        cell, name = marks.cell[slot], names[marks.class_id[slot]]
        spans, start, end = values[items[marks.item[cell]]], int(marks.start[cell]), int(marks.end[cell])
        if spans and spans[-1][1] == start and spans[-1][2] == name:
            spans[-1] = (spans[-1][0], end, name)
        else:
            spans.append((start, end, name))
    return {item: tuple(sorted(spans)) for item, spans in values.items()}


def _dawid_skene(marks: Marks) -> Floats:
    marked = (marks.mark == OWN).astype(np.int64)
    votes = Votes.of(marks.slot, marks.labeler, marked, classes=2, items=marks.slots)
    return np.asarray(DawidSkene().fit(votes).posterior[:, 1])


def _hmm_crowd(marks: Marks) -> Floats:
    """Return the posterior of chained slots: forward and backward over each line, from Dawid & Skene's posterior."""
    posterior, marked = _dawid_skene(marks), marks.mark == OWN
    lines = _line_bounds(marks)
    steps = np.array([[0.9, 0.1], [0.2, 0.8]])
    begin = np.array([0.9, 0.1])
    for _ in range(_ROUNDS):
        state = np.stack([1.0 - posterior, posterior])[:, marks.slot]
        marking = np.stack([_rate(marks.labeler, weight, marked)[marks.labeler] for weight in state])
        said = np.where(marked, np.log(marking), np.log1p(-marking))
        evidence = np.stack([_sums(marks.slot, one, marks.slots) for one in said], axis=1)
        counts, started = np.ones((2, 2)), np.ones(2)
        for first, stop in lines:
            inside, pairs = _chain(evidence[first:stop], begin, steps)
            posterior[first:stop] = inside[:, 1]
            counts += pairs
            started += inside[0]
        steps, begin = counts / counts.sum(axis=1, keepdims=True), started / started.sum()
    return posterior


def _rate(labeler: Ints, weight: Floats, marked: NDArray[np.bool_]) -> Floats:
    """Return each labeler's share of marks ``(labelers,)``, with one mark of each sort added."""
    return np.asarray((np.bincount(labeler, weight * marked) + 1.0) / (np.bincount(labeler, weight) + 2.0))


def _sums(slot: Ints, values: Floats, slots: int) -> Floats:
    return np.bincount(slot, values, minlength=slots).astype(np.float64)


def _line_bounds(marks: Marks) -> Sequence[tuple[int, int]]:
    key = marks.item[marks.cell] * (int(marks.class_id.max(initial=0)) + 1) + marks.class_id
    firsts = np.flatnonzero(np.diff(key, prepend=-1))
    return list(zip(firsts.tolist(), [*firsts[1:].tolist(), marks.slots], strict=True))


def _chain(evidence: Floats, begin: Floats, steps: Floats) -> tuple[Floats, Floats]:
    """Return the marginals ``(cells, 2)`` of a chain with this log-likelihood, and its expected steps ``(2, 2)``."""
    emission = np.exp(evidence - evidence.max(axis=1, keepdims=True))
    ahead, back = emission.copy(), np.ones_like(emission)
    for t in range(emission.shape[0]):
        ahead[t] *= begin if t == 0 else ahead[t - 1] @ steps
        ahead[t] /= ahead[t].sum()
    for t in range(emission.shape[0] - 2, -1, -1):
        back[t] = steps @ (emission[t + 1] * back[t + 1])
        back[t] /= back[t].sum()
    inside = ahead * back
    pairs = ahead[:-1, :, None] * steps * (emission * back)[1:, None, :]
    return inside / inside.sum(axis=1, keepdims=True), (pairs / pairs.sum(axis=(1, 2), keepdims=True)).sum(
        axis=0
    )
