"""What kind of answers a folder holds, told from the answers, and why: classes, numbers, text, spans, boxes, polygons,
preferences, rankings or choices; ratings are classes unless somebody says that they are steps.

A few cells that do not fit do not change the kind: they are errors, told when they are read. Nor do more of them where
most are numbers that are not whole, for what else might those be? Where so many do not fit that the kind is another, but
most do, the first of them is named: it may be a slip.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..quality.agreement import krippendorff_alpha
from . import score_boxes, score_masks, score_numbers, score_pairs, score_spans, score_texts
from .tables import Cell, from_json

CLASSES, RATINGS, CHOICES, RANKINGS = "classes", "ratings", "choices", "rankings"

KINDS = (
    CLASSES, score_numbers.KIND, RATINGS, CHOICES, score_texts.KIND, score_pairs.KIND, RANKINGS, score_spans.KIND,
    score_boxes.KIND, score_masks.KIND,
)  # fmt: skip
"""Every kind that a folder may hold."""

_NEARLY_ALL = 0.95
_FEW = 20
"""So many distinct values can be classes; of more, how labelers differ must tell."""

_OFTEN = 5
"""A class is given so many times and more, on average; a number of a continuous scale seldom is."""

_NEARER = 0.1
"""By so much labelers agree better on how large a number is than on which: alpha interval over nominal."""

_PAIRS = re.compile(r"\s*(-?[\d.]+,-?[\d.]+\s+){2,}-?[\d.]+,-?[\d.]+\s*")


_FORMS = {
    score_spans.KIND: "lists of [start, end] or [start, end, class]",
    score_boxes.KIND: "lists of [x1, y1, x2, y2] or [x1, y1, x2, y2, class]",
    score_masks.KIND: "lists of points [x, y]",
    CHOICES: "lists of names",
}


class UnknownKindError(ValueError):
    """A folder of answers that nothing here scores; the message says what they seem to be."""


@dataclass(frozen=True, slots=True)
class Told:
    """The kind of answers, ``why`` it is taken to be that, and what it would be but for some cells, "" for nothing."""

    kind: str
    why: str
    doubt: str = ""


def kind_of(answers: Sequence[Cell], truths: Sequence[Cell] = ()) -> str:
    """Return the kind of the answers, as the modules that score it name it. Raises UnknownKindError."""
    return told_kind(answers, truths).kind


def told_kind(answers: Sequence[Cell], truths: Sequence[Cell] = ()) -> Told:
    """Return the kind of the answers and why. Raises UnknownKindError."""
    if _share(answers, _is_preference) >= _NEARLY_ALL:
        return Told(
            score_pairs.KIND,
            "items are named left|right, and labels are one of these, a, b, or a word for a tie",
        )
    said = [cell for cell in (*answers, *truths) if cell.label.strip() not in {"", "[]"}]
    if not said:
        if any(cell.label.strip() for cell in answers):
            return Told(score_spans.KIND, "every label is an empty list")
        raise UnknownKindError("every label is empty; expected some that are not")
    doubts = []
    for what, holds, told in (
        ("lists in JSON", _is_json, _told_json),
        (
            "points x,y x,y ...",
            _is_outline,
            lambda _: Told(score_masks.KIND, "labels are points x,y x,y ..."),
        ),
        ("outlines", lambda cell: _is_outline(cell) or _is_json(cell), _told_json),
        ("numbers", _is_number, lambda _: _told_numbers(answers, truths)),
        ("rankings a>b>c", _is_ranking, lambda _: Told(RANKINGS, "labels are ids in order: a>b>c, ties a=b")),
    ):
        share = _share(said, holds)
        if share >= _NEARLY_ALL:
            return told([cell for cell in said if _is_json(cell)])
        if share >= 0.5:
            odd = next(cell for cell in said if not holds(cell))
            doubts.append(
                f"{share:.0%} of the labels are {what}, but {odd.file} line {odd.line} is {odd.label[:40]!r}"
            )
    if _share(said, _is_quantity) > 0.5 and _are_numbers(answers, truths):
        return Told(score_numbers.KIND, "most labels are numbers that are not whole, and so no names")
    doubt = doubts[0] if doubts else ""
    if _are_texts(answers):
        return Told(score_texts.KIND, "most labels are of words, and given to one item only", doubt)
    return Told(CLASSES, "labels are words that recur from item to item", doubt)


def _told_json(cells: Sequence[Cell]) -> Told:
    kind = _kind_of_json(cell.label for cell in cells)
    return Told(kind, f"labels are {_FORMS[kind]}, in JSON")


def _told_numbers(answers: Sequence[Cell], truths: Sequence[Cell]) -> Told:
    if _are_numbers(answers, truths):
        return Told(
            score_numbers.KIND, "labels are numbers, too many or too far apart to be names of classes"
        )
    return Told(CLASSES, "labels are numbers, few and often given: names (for steps say --kind ratings)")


def _is_preference(cell: Cell) -> bool:
    return "|" in cell.item and _is_outcome(cell)


def _is_json(cell: Cell) -> bool:
    return cell.label.lstrip()[:1] in {"[", "{"}


def _is_outline(cell: Cell) -> bool:
    return _PAIRS.fullmatch(cell.label) is not None


def _is_number(cell: Cell) -> bool:
    return number(cell.label) is not None


def _is_quantity(cell: Cell) -> bool:
    value = number(cell.label)
    return value is not None and value != int(value)


def _is_ranking(cell: Cell) -> bool:
    try:
        return len(_tiers(cell.label)) > 1
    except ValueError:
        return False


def ranking(label: str) -> tuple[tuple[str, ...], ...]:
    """Return the tiers of ``a > b = c``, best first. Raises ValueError for a place without an id, and an id placed twice."""
    tiers = _tiers(label)
    name, times = Counter(name for tier in tiers for name in tier).most_common(1)[0]
    if times > 1:
        raise ValueError(f"label is {label!r}, which places {name!r} {times} times; expected each id once")
    return tiers


def _tiers(label: str) -> tuple[tuple[str, ...], ...]:
    tiers = tuple(tuple(name.strip() for name in tier.split("=")) for tier in label.split(">"))
    if not all(name for tier in tiers for name in tier):
        raise ValueError(f"label is {label!r}; expected ids in order, a > b = c")
    return tiers


def number(label: str) -> float | None:
    """Return the finite number that a label is, or None."""
    try:
        value = float(label)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _share(cells: Sequence[Cell], holds: Callable[[Cell], bool]) -> float:
    return sum(map(holds, cells)) / len(cells) if cells else 0.0


def _is_outcome(cell: Cell) -> bool:
    try:
        score_pairs.outcome_of(cell.item, score_pairs.read(cell.label))
    except ValueError:
        return False
    return True


def _are_numbers(answers: Sequence[Cell], truths: Sequence[Cell]) -> bool:
    """Return whether numbers are quantities, not names of classes.

    Names are few and often given, or whole and without wide gaps. Where there are many whole ones, they are quantities
    if labelers who differ are near each other.
    """
    given = [value for value in (number(cell.label) for cell in answers) if value is not None]
    true = {value for value in (number(cell.label) for cell in truths) if value is not None}
    values = set(given)
    known = values | true
    whole = all(value == int(value) for value in known)
    dense = whole and max(known) - min(known) + 1 <= 2 * len(known)
    if len(values) <= _FEW:
        often = len(given) >= _OFTEN * len(values) and true <= values
        return not (often or dense)
    return not whole or _are_near(answers, otherwise=not dense)


def _are_near(answers: Sequence[Cell], *, otherwise: bool) -> bool:
    given = [cell for cell in answers if number(cell.label) is not None]
    item, labeler, value = zip(*((c.item, c.labeler, float(c.label)) for c in given), strict=True)
    try:
        size, name = (krippendorff_alpha(item, labeler, value, level) for level in ("interval", "nominal"))
    except ValueError:
        return otherwise
    return size.value > name.value + _NEARER


def _are_texts(answers: Sequence[Cell]) -> bool:
    """Return whether answers are free text: most are given to one item only, where classes recur."""
    items = defaultdict[str, set[str]](set)
    for cell in answers:
        items[cell.label].add(cell.item)
    alone = _share(answers, lambda cell: len(items[cell.label]) == 1) > 0.5
    if len(items) > _FEW:
        return alone
    return alone and float(np.mean([len(label.split()) for label in items])) >= 3.0


def _kind_of_json(labels: Iterable[str]) -> str:
    cells = []
    for label in labels:
        try:
            cells.append(from_json(label))
        except ValueError:
            continue
    forms = Counter(_form(cell) for cell in cells)
    form = min(forms, key=lambda form: (-forms[form], form), default="")
    if form == CHOICES:
        return CHOICES
    if form == "pairs":
        return _kind_of_pairs([cell for cell in cells if _form(cell) == form])
    if form not in {score_spans.KIND, score_boxes.KIND, score_masks.KIND}:
        raise UnknownKindError(
            "labels are JSON of another form; expected spans [[start, end], ...], boxes [[x1, y1, x2, y2], ...], "
            'polygons [[x, y], ...] or choices ["a", "b"]'
        )
    return form


def _form(cell: Any) -> str:
    if not isinstance(cell, list) or not cell:
        return ""
    if all(isinstance(name, str) for name in cell):
        return CHOICES
    if _numbers(cell[:4]) and len(cell) in {4, 5}:
        return score_boxes.KIND
    if not all(isinstance(row, list) and row for row in cell):
        return ""
    if all(isinstance(row[0], list) for row in cell):
        return score_masks.KIND
    lengths = {len(row) for row in cell}
    if lengths == {2}:
        return "pairs" if all(map(_numbers, cell)) else ""
    if lengths <= {2, 3} and all(_numbers(row[:2]) for row in cell):
        return score_spans.KIND
    return score_boxes.KIND if lengths <= {4, 5} and all(_numbers(row[:4]) for row in cell) else ""


def _numbers(row: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in row)


def _kind_of_pairs(cells: Sequence[Sequence[Sequence[float]]]) -> str:
    """Tell spans from outlines: a start is before its end, and one labeler's spans seldom overlap as points would."""
    pairs = [pair for cell in cells for pair in cell]
    ordered = np.mean([start < end for start, end in pairs]) >= _NEARLY_ALL
    steps = [(one, other) for cell in cells for one, other in pairwise(cell)]
    overlap = np.mean([a < d and c < b for (a, b), (c, d) in steps]) if steps else 0.0
    outlined = np.mean([len(cell) >= 3 for cell in cells]) >= _NEARLY_ALL
    if outlined and (not ordered or overlap > 0.5):
        return score_masks.KIND
    if ordered and any(value != int(value) for pair in pairs for value in pair):
        raise UnknownKindError(
            "labels are segments with ends between whole numbers; expected spans of characters"
        )
    return score_spans.KIND
