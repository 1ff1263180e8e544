"""A folder's answers joined: one label an item, and what is known of each labeler, by the default of its kind.

Labels are written as cells of ``answers.csv`` are, so that what is joined can be scored, and joined again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from ..classes.choices import LiveChoices
from ..classes.live_classes import LiveClasses
from ..columns import whole_number
from ..live_answers import LiveAnswers
from ..quality.findings import Finding, Misconduct
from ..quality.forensics import investigate
from ..shapes.boxes import Box, LiveBoxes
from ..shapes.polygons import LivePolygons, Polygon
from ..stretches.spans import LiveSpans, Span
from ..values.numbers import LiveNumbers
from ..values.ordinals import LiveRatings
from ..values.preferences import LivePreferences
from ..values.rankings import LiveRankings
from ..values.transcripts import LiveTranscripts
from . import score_boxes, score_masks, score_numbers, score_pairs, score_spans, score_texts
from .kinds import CHOICES, CLASSES, RANKINGS, RATINGS, ranking
from .recorded import Table, check_outcomes, named_classes
from .tables import Cell, from_json, parsed

_LARGEST_STEP = 2**53
"""Of larger numbers not every whole one is a float."""

Given = Mapping[str, Mapping[str, Any]]
"""Item to labeler to answer, as the kind's reader gives it."""


@dataclass(frozen=True, slots=True)
class Label:
    """What the answers to an item say: ``label`` as a cell holds it, its ``confidence``, and how many answers there are."""

    item: str
    label: str
    confidence: float
    answers: int


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a labeler: by name of each number, in the order of a table."""

    labeler: str
    answers: int
    measures: Mapping[str, float]
    found: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class JoinedTable:
    """Labels of all items with an answer, and all labelers, by name; ``method`` is the class that joined them, and
    ``known`` how many items are held to a label that was known.
    """

    method: str
    known: int
    labels: Sequence[Label]
    labelers: Sequence[Known]


@dataclass(frozen=True, slots=True)
class _Way:
    """How a kind is joined: a live state, ``answer`` from what was read to what it takes, ``cell`` back from its value."""

    live: LiveAnswers[Any, Any, Any]
    answer: Callable[[str, Any], Any]
    cell: Callable[[str, Any], str]


def joined(table: Table, gold: Sequence[Cell] = ()) -> JoinedTable:
    """Join all answers, items of ``gold`` held to its labels. Raises ValueError with the place of what cannot be."""
    return _classes(table.answers, gold) if table.kind == CLASSES else _answers(table, gold)


def _classes(answers: Sequence[Cell], gold: Sequence[Cell]) -> JoinedTable:
    known = [cell for cell in gold if cell.label.strip()]
    named = named_classes(answers, known)
    votes = named.votes
    live = LiveClasses(votes.classes)
    for item, labeler, choice in zip(
        votes.item.tolist(), votes.labeler.tolist(), votes.choice.tolist(), strict=True
    ):
        live.add(named.items[item], named.labelers[labeler], choice)
    truth = named.gold({cell.item: cell.label for cell in known})
    for item, label in zip(named.items, truth.tolist(), strict=True):
        if label >= 0:
            live.know(item, label)
    live.refit()
    posterior = live.posteriors(named.items)
    labels = [
        Label(item, named.classes[int(chance.argmax())], min(float(chance.max()), 1.0), int(n))
        for item, chance, n in zip(named.items, posterior, votes.per_item(), strict=True)
    ]
    found = _found(investigate(votes, gold=truth), named.labelers)
    labelers = []
    for who in named.labelers:
        told = live.reliability(who)
        measures = {"accuracy": told.accuracy, "low": told.low, "high": told.high}
        labelers.append(Known(who, told.votes, measures, found.get(who, ())))
    return JoinedTable(type(live.model).__name__, int((truth >= 0).sum()), labels, labelers)


def _found(findings: Sequence[Finding], names: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Return in words what each labeler is found to do."""
    told: dict[str, list[str]] = {}
    for finding in findings:
        group = [names[who] for who in finding.labelers]
        for who in group:
            also = f" with {', '.join(other for other in group if other != who)}" if len(group) > 1 else ""
            verb = "copies" if finding.kind is Misconduct.COLLUSION else finding.kind.value.lower()
            told.setdefault(who, []).append(f"{verb}{also} ({min(finding.probability, 0.999):.1%} sure)")
    return told


def _answers(table: Table, gold: Sequence[Cell]) -> JoinedTable:
    read = READERS[table.kind]
    if table.kind == score_pairs.KIND:
        check_outcomes((*table.answers, *gold))
    given = parsed(table.answers, read)
    known = {item: next(iter(said.values())) for item, said in parsed(gold, read).items() if item in given}
    way = _WAYS[table.kind](given, table.answers)
    for item, said in given.items():
        for who, answer in said.items():
            way.live.add(item, who, way.answer(item, answer))
    for item, truth in known.items():
        way.live.know(item, way.answer(item, truth))
    way.live.refit()
    labels = []
    for item, said in given.items():
        found = way.live.posterior(item)
        labels.append(Label(item, way.cell(item, found.value), float(found.confidence), len(said)))
    return JoinedTable(
        type(way.live).__name__,
        len(known),
        labels,
        [_known(way.live.reliability(who)) for who in way.live.labelers()],
    )


def _known(told: Any) -> Known:
    measures = {
        field.name: float(getattr(told, field.name))
        for field in fields(told)
        if field.name not in {"labeler", "votes"} and isinstance(getattr(told, field.name), float | int)
    }
    return Known(told.labeler, told.votes, measures)


# --- the kinds


def _as_it_is(_: str, value: Any) -> Any:
    return value


def _written(_: str, value: Any) -> str:
    return str(value)


def _numbers(given: Given, _: Sequence[Cell]) -> _Way:
    return _Way(LiveNumbers(), _as_it_is, lambda _, value: f"{value:.10g}")


def _ratings(given: Given, _: Sequence[Cell]) -> _Way:
    steps = [step for said in given.values() for step in said.values()]
    return _Way(LiveRatings(min(steps), max(*steps, min(steps) + 1)), _as_it_is, _written)


def _choices(given: Given, _: Sequence[Cell]) -> _Way:
    return _Way(LiveChoices(), _as_it_is, lambda _, value: json.dumps(sorted(value), ensure_ascii=False))


def _rankings(given: Given, _: Sequence[Cell]) -> _Way:
    return _Way(LiveRankings(), _as_it_is, lambda _, tiers: ">".join("=".join(tier) for tier in tiers))


def _texts(given: Given, _: Sequence[Cell]) -> _Way:
    return _Way(LiveTranscripts(), _as_it_is, _written)


def _preferences(given: Given, answers: Sequence[Cell]) -> _Way:
    live = LivePreferences(
        ties=any(score_pairs.outcome_of(item, one) == 2 for item in given for one in given[item].values())
    )
    named = {item: score_pairs.candidates_of(item) for item in given}
    for item, (group, left, right) in named.items():
        live.present(item, left, right, group)
    by_id = any(one in named[item][1:] for item in given for one in given[item].values())

    def answer(item: str, said: str) -> str:
        return (*named[item][1:], "")[score_pairs.outcome_of(item, said)]

    def cell(item: str, better: str) -> str:
        side = (*named[item][1:], "").index(better)
        return better if by_id and better else ("a", "b", "s")[side]

    return _Way(live, answer, cell)


def _spans(given: Given, _: Sequence[Cell]) -> _Way:
    names = sorted({name for said in given.values() for spans in said.values() for *_, name in spans} or {""})
    rank = {name: place for place, name in enumerate(names)}

    def answer(item: str, spans: score_spans.Value) -> tuple[Span, ...]:
        for *_, name in spans:
            if name not in rank:
                raise ValueError(f"gold of {item!r} has class {name!r}; expected one that is in an answer")
        return tuple(Span(start, end, rank[name]) for start, end, name in spans)

    def cell(_: str, spans: Iterable[Span]) -> str:
        return json.dumps([[s.start, s.end, *_if_any(names[s.class_id])] for s in spans], ensure_ascii=False)

    return _Way(LiveSpans(len(names), overlap=score_spans.overlapping(given)), answer, cell)


def _boxes(given: Given, _: Sequence[Cell]) -> _Way:
    def cell(_: str, boxes: Iterable[Box]) -> str:
        rows = [[b.x, b.y, b.x + b.width, b.y + b.height] for b in boxes]
        return json.dumps(
            [[*_rounded(row), *_if_any(b.class_id)] for row, b in zip(rows, boxes, strict=True)],
            ensure_ascii=False,
        )

    return _Way(LiveBoxes(), _as_it_is, cell)


def _polygons(given: Given, answers: Sequence[Cell]) -> _Way:
    in_json = any(one.label.lstrip().startswith("[") for one in answers)

    def cell(_: str, polygons: Sequence[Polygon]) -> str:
        rings = [_pairs(_rounded(polygon.outline)) for polygon in polygons]
        if len(rings) == 1 and not in_json:
            return " ".join(f"{x:.10g},{y:.10g}" for x, y in rings[0])
        return json.dumps(rings) if rings or in_json else ""

    return _Way(LivePolygons(), _as_it_is, cell)


def _pairs(flat: Sequence[float]) -> list[list[float]]:
    return [[flat[i], flat[i + 1]] for i in range(0, len(flat), 2)]


def _rounded(values: Iterable[float]) -> list[float]:
    """Return coordinates to a thousandth: nobody draws finer."""
    return [round(float(value), 3) for value in values]


def _if_any(name: str) -> Iterator[str]:
    if name:
        yield name


def _step(label: str) -> int:
    try:
        return whole_number("label", int(label), -_LARGEST_STEP, _LARGEST_STEP)
    except ValueError:
        raise ValueError(f"label is {label!r:.100}; expected a step, a whole number") from None


def _set(label: str) -> tuple[str, ...]:
    try:
        names = from_json(label or "[]")
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f'label is {label!r:.100}; expected a list of classes, ["a", "b"]')
    return tuple(names)


READERS: Mapping[str, Callable[[str], Any]] = MappingProxyType(
    {
        score_numbers.KIND: score_numbers.read,
        RATINGS: _step,
        CHOICES: _set,
        score_texts.KIND: score_texts.read,
        score_pairs.KIND: score_pairs.read,
        RANKINGS: ranking,
        score_spans.KIND: score_spans.read,
        score_boxes.KIND: score_boxes.read,
        score_masks.KIND: score_masks.read,
    }
)
"""What reads a cell, by kind."""

_WAYS: Mapping[str, Callable[[Given, Sequence[Cell]], _Way]] = MappingProxyType(
    {
        score_numbers.KIND: _numbers,
        RATINGS: _ratings,
        CHOICES: _choices,
        score_texts.KIND: _texts,
        score_pairs.KIND: _preferences,
        RANKINGS: _rankings,
        score_spans.KIND: _spans,
        score_boxes.KIND: _boxes,
        score_masks.KIND: _polygons,
    }
)
